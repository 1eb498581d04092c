//! Who is asking: client authentication at the device endpoints (RFC 6749 section 2.3).

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use actors::device_flow::poll::AuthStyle;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::error::ApiError;
use super::form::Form;

/// Longest accepted `client_id` and `client_secret`. Enedis' have 36 characters.
const CREDENTIAL_MAX: usize = 256;

/// The client of one request.
pub struct Client {
    /// `client_id`, accepted here.
    pub id: Arc<str>,
    /// `client_secret`, if it sent one that is not empty.
    pub secret: Option<Zeroizing<String>>,
    /// How it said so.
    pub style: AuthStyle,
}

impl Client {
    /// Reads the client from the `Authorization` header or the form, and checks it against the `allowed` ones; an
    /// empty list allows any.
    pub fn identify(
        request: &HttpRequest,
        form: &mut Form<'_>,
        allowed: &[Arc<str>],
    ) -> Result<Self, ApiError> {
        let id = form.optional("client_id", CREDENTIAL_MAX)?;
        let secret = form.optional("client_secret", CREDENTIAL_MAX)?;
        let (id, secret, style) = match basic(request)? {
            None => {
                let id = id.ok_or_else(|| ApiError::missing("client_id"))?;
                (id, secret.map(|secret| secret.into_owned().into()), AuthStyle::Body)
            }
            Some((basic_id, basic_secret)) => {
                if secret.is_some() {
                    return Err(ApiError::invalid_request("use one way of client authentication, not two"));
                }
                if id.is_some_and(|id| id != basic_id) {
                    return Err(ApiError::invalid_request("client_id differs from the Authorization header"));
                }
                (basic_id.into(), basic_secret.map(Zeroizing::new), AuthStyle::Basic)
            }
        };
        let id = match allowed.iter().find(|known| ***known == *id) {
            Some(known) => Arc::clone(known),
            None if allowed.is_empty() => Arc::from(id),
            None => return Err(ApiError::InvalidClient { basic: style == AuthStyle::Basic }),
        };
        Ok(Self { id, secret, style })
    }
}

/// The credentials of an `Authorization: Basic` header; both halves are form-encoded (RFC 6749 section 2.3.1).
/// Another scheme is none of our business here.
fn basic(request: &HttpRequest) -> Result<Option<(String, Option<String>)>, ApiError> {
    let Some(header) = request.headers().get(AUTHORIZATION) else { return Ok(None) };
    let refused = || ApiError::invalid_request("the Authorization header is malformed");
    let (scheme, value) = header.to_str().map_err(|_| refused())?.split_once(' ').ok_or_else(refused)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Ok(None);
    }
    let decoded = STANDARD.decode(value.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = Zeroizing::new(decoded.ok_or_else(refused)?);
    let (id, secret) = decoded.split_once(':').ok_or_else(refused)?;
    // What holds of the two in a form holds of them here.
    let decode = |half: &str| {
        let pair = format!("half={}", half.replace('&', "%26"));
        let half = Form::parse(pair.as_bytes())?.optional("half", CREDENTIAL_MAX)?;
        Ok::<_, ApiError>(half.map(Cow::into_owned))
    };
    let id = decode(id).ok().flatten().ok_or_else(refused)?;
    Ok(Some((id, decode(secret).map_err(|_| refused())?)))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn identify(header: Option<&str>, body: &str, allowed: &[&str]) -> Result<Client, ApiError> {
        let mut request = TestRequest::post();
        if let Some(header) = header {
            request = request.insert_header((AUTHORIZATION, header));
        }
        let allowed: Vec<_> = allowed.iter().map(|id| Arc::from(*id)).collect();
        Client::identify(&request.to_http_request(), &mut Form::parse(body.as_bytes())?, &allowed)
    }

    fn header(credentials: &str) -> String {
        format!("Basic {}", STANDARD.encode(credentials))
    }

    fn secret(text: &str) -> Zeroizing<String> {
        text.to_owned().into()
    }

    #[test]
    fn a_client_says_who_it_is_in_one_way() {
        let client = identify(None, "client_id=a&client_secret=s", &["a"]).ok().unwrap();
        assert_eq!((&*client.id, client.secret, client.style), ("a", Some(secret("s")), AuthStyle::Body));
        let client = identify(Some(&header("a%2Bb:s+t")), "client_id=a%2Bb", &[]).ok().unwrap();
        assert_eq!((&*client.id, client.secret), ("a+b", Some(secret("s t"))));
        // What Go's client sends first: an empty secret is no secret.
        let client = identify(Some(&header("a:")), "", &["a"]).ok().unwrap();
        assert_eq!((client.secret, client.style), (None, AuthStyle::Basic));
    }

    #[test]
    fn strangers_and_contradictions_are_refused() {
        let error = |h: Option<&str>, b: &str| identify(h, b, &["a"]).err().unwrap().to_string();
        assert_eq!(error(None, ""), "invalid_request");
        assert_eq!(error(None, "client_id=b"), "invalid_client");
        assert_eq!(error(Some(&header("b:x")), ""), "invalid_client");
        assert_eq!(error(Some(&header("a:x")), "client_secret=y"), "invalid_request");
        assert_eq!(error(Some(&header("a:x")), "client_id=b"), "invalid_request");
        let unfit = ["a%0A:x", "a:\n", "%FF:x", "a:%FF"].map(header);
        for malformed in
            ["Basic !!", "Basic", "Basic YQ==", "Basic Og=="].into_iter().chain(unfit.iter().map(|it| &**it))
        {
            assert_eq!(error(Some(malformed), ""), "invalid_request", "{malformed}");
        }
        assert!(identify(Some("Bearer x"), "client_id=a", &["a"]).is_ok());
    }
}
