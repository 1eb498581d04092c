//! Who gets past the door of the operator's listener: whoever knows the password, so often and no oftener; and what a page
//! of another site makes the operator's browser send, never.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    AUTHORIZATION, CACHE_CONTROL, HOST, HeaderName, HeaderValue, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE,
};
use actix_web::http::uri::Authority;
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpRequest, HttpResponse};
use actors::base::clock::Clock;
use actors::base::network::Network;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::config::{AdminPassword, is_this_machine};
use crate::http::state::Shared;

/// Who logs in.
const USER: &str = "admin";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Lets a request through, or answers it.
pub async fn admit(
    shared: Data<Shared>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    match refusal(&shared, request.request()) {
        Some(refusal) => Ok(request.into_response(refusal)),
        None => Ok(next.call(request).await?.map_into_boxed_body()),
    }
}

fn refusal(shared: &Shared, request: &HttpRequest) -> Option<HttpResponse> {
    if is_forged(request) {
        return Some(refused(StatusCode::FORBIDDEN, "asked for by a page of another site\n"));
    }
    let Some(password) = &shared.admin_password else {
        // Without a password the address is all that keeps strangers out, and a name may be made to lead here.
        let here = request
            .headers()
            .get(HOST)
            .and_then(|host| host.to_str().ok())
            .and_then(|host| host.parse().ok());
        let is_here = here.is_some_and(|host: Authority| is_this_machine(host.host()));
        let is_page = request.path() != super::METRICS;
        return (is_page && !is_here)
            .then(|| refused(StatusCode::FORBIDDEN, "ask by the address of this machine\n"));
    };
    let unauthorized = || {
        let mut answer =
            refused(StatusCode::UNAUTHORIZED, "the user is admin, the password ADMIN_PASSWORD\n");
        let challenge = HeaderValue::from_static("Basic realm=\"device-flow-proxy\", charset=\"UTF-8\"");
        answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        answer
    };
    let Some(given) = request.headers().get(AUTHORIZATION) else { return Some(unauthorized()) };
    let network = request.peer_addr().map_or(Network::LOCALHOST, |peer| Network::of(peer.ip()));
    // Charged beforehand, so that many at once are no way around the limit.
    match shared.limits.logins.take(network, shared.clock.now()) {
        Err(wait) => {
            let mut answer = refused(StatusCode::TOO_MANY_REQUESTS, "too many wrong passwords\n");
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
            Some(answer)
        }
        Ok(charge) if knows(given, password) => {
            charge.give_back();
            None
        }
        Ok(_) => {
            tracing::warn!(%network, "a wrong password at ADMIN_LISTEN");
            Some(unauthorized())
        }
    }
}

/// Whether the credentials of HTTP Basic (RFC 7617) are right. Takes as long whatever is wrong with the password.
fn knows(given: &HeaderValue, password: &AdminPassword) -> bool {
    let Some((scheme, encoded)) = given.to_str().ok().and_then(|given| given.split_once(' ')) else {
        return false;
    };
    let Ok(decoded) = STANDARD.decode(encoded.trim()) else { return false };
    let decoded = Zeroizing::new(decoded);
    let Some(colon) = decoded.iter().position(|byte| *byte == b':') else { return false };
    let is_right = password.is(&decoded[colon + 1..]);
    scheme.eq_ignore_ascii_case("basic") && decoded[..colon] == *USER.as_bytes() && is_right
}

/// Whether a page of another site may have sent this: browsers say from where a request comes that changes something.
fn is_forged(request: &HttpRequest) -> bool {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return false;
    }
    let header =
        |name| request.headers().get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
    let from_elsewhere = header(SEC_FETCH_SITE).is_some_and(|site| site != "same-origin");
    let host = header(HOST).unwrap_or_default();
    let other_origin = header(ORIGIN).is_some_and(|origin| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        authority != Some(host)
    });
    // No form of a page can be sent so.
    let is_json =
        request.headers().get("content-type").is_some_and(|kind| kind.as_bytes() == b"application/json");
    from_elsewhere || other_origin || !is_json
}

fn refused(status: StatusCode, why: &'static str) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CACHE_CONTROL, "no-store"))
        .content_type("text/plain; charset=utf-8")
        .body(why)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn only_the_right_password_is_known() {
        let password = AdminPassword::from("pass:word of the operator");
        let cases = [
            ("admin:pass:word of the operator", true),
            ("admin:pass:word of the operato", false),
            ("admin:", false),
            ("root:pass:word of the operator", false),
            ("admin", false),
        ];
        for (credentials, is_right) in cases {
            for (scheme, is_scheme) in [("Basic", true), ("basic", true), ("Bearer", false)] {
                let given = format!("{scheme} {}", STANDARD.encode(credentials));
                let given = HeaderValue::try_from(given).unwrap();
                assert_eq!(knows(&given, &password), is_right && is_scheme, "{credentials}");
            }
        }
        assert!(!knows(&HeaderValue::from_static("Basic %"), &password));
    }

    #[test]
    fn what_another_site_sends_is_forged() {
        let json = ("content-type", "application/json");
        let cases: [(&[(&str, &str)], bool); 7] = [
            (&[json], false),
            (&[json, ("origin", "http://127.0.0.1:9464"), ("sec-fetch-site", "same-origin")], false),
            (&[json, ("origin", "http://127.0.0.1:9465")], true),
            (&[json, ("origin", "null")], true),
            (&[json, ("sec-fetch-site", "same-site")], true),
            (&[("content-type", "text/plain")], true),
            (&[], true),
        ];
        for (headers, is) in cases {
            let request =
                headers.iter().fold(TestRequest::post(), |request, header| request.insert_header(*header));
            let request = request.insert_header(("host", "127.0.0.1:9464")).to_http_request();
            assert_eq!(is_forged(&request), is, "{headers:?}");
        }
        assert!(!is_forged(
            &TestRequest::get().insert_header(("origin", "http://elsewhere")).to_http_request()
        ));
    }
}
