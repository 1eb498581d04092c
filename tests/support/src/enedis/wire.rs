//! Owns the sockets of the simulator: reads requests, records them, applies the scripted fault, routes. Refuses bodies
//! over 64 KiB by cutting the connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response as Answer};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{
    AUTHORIZE_PATH, AUTHORIZE_V2_PATH, CONSENT_PATH, Endpoint, Fault, Request, Resource, Response,
    SERVICES_PATH, Shared, TOKEN_PATH, authorize, data, token,
};

const BODY_MAX: usize = 64 * 1024;

/// The connection is to be closed without an answer: hyper does so when a service returns an error.
#[derive(Debug, thiserror::Error)]
#[error("connection cut on purpose")]
struct Cut;

/// Accepts connections until the task is aborted, which also closes them.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                // A cut is only a cut if the answer before it has left: no delay for small packets.
                let _ = stream.set_nodelay(true);
                let shared = Arc::clone(&shared);
                let service = service_fn(move |request| answer(Arc::clone(&shared), request));
                connections.spawn(async move {
                    // An error here is a cut that was asked for, or a client that left.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(shared: Arc<Shared>, request: hyper::Request<Incoming>) -> Result<Answer<Full<Bytes>>, Cut> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY_MAX).collect().await.map_err(|_| Cut)?.to_bytes();
    let path = head.uri.path();
    let (method, endpoint) = match path {
        AUTHORIZE_PATH => (Method::GET, Some(Endpoint::Authorize)),
        AUTHORIZE_V2_PATH => (Method::GET, Some(Endpoint::AuthorizeV2)),
        CONSENT_PATH => (Method::POST, None),
        TOKEN_PATH => (Method::POST, Some(Endpoint::Token)),
        path if path.trim_end_matches('/') == SERVICES_PATH.trim_end_matches('/') => {
            (Method::POST, Some(Endpoint::SubscribedServices))
        }
        path => (Method::GET, Resource::at(path).map(|(api, _)| api)),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let page = shared.book().pages.get(path).cloned();
    let response = match endpoint {
        None if page.is_some() => canned(&shared, &head, page.unwrap_or_default()),
        None if path != CONSENT_PATH => {
            shared.book().seen.unknown_paths.push(path.to_owned());
            Response::html(404, "Page introuvable", "")
        }
        _ if head.method != method => Response::html(405, "Méthode non autorisée", ""),
        None => {
            let (Ok(response) | Err(response)) =
                authorize::consent(&shared.options, &mut shared.book(), &pairs(&body));
            response
        }
        Some(endpoint) => {
            let headers = head.headers.iter();
            let request = Request {
                endpoint,
                path: path.to_owned(),
                query: pairs(head.uri.query().unwrap_or_default().as_bytes()),
                fields: pairs(&body),
                headers: headers.map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect(),
                body: text(&body),
                after_success: false,
                status: None,
            };
            respond(&shared, request).await?
        }
    };
    let mut answer = Answer::builder().status(response.status).header("date", date(shared.book().now()));
    for (name, value) in response.headers {
        answer = answer.header(name, value);
    }
    Ok(answer.body(Full::from(response.body)).expect("a status and header fields that HTTP can carry"))
}

/// `Date` (RFC 9110 section 6.6.1), by the simulator's clock.
fn date(now: Duration) -> String {
    let now = Timestamp::from_second(i64::try_from(now.as_secs()).unwrap_or(0)).unwrap_or_default();
    now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// What was put at a path, for whoever has an application token.
fn canned(shared: &Shared, head: &Parts, (status, body): (u16, String)) -> Response {
    let mut book = shared.book();
    book.seen.pages.push(head.uri.path_and_query().map(ToString::to_string).unwrap_or_default());
    let token =
        head.headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if token.is_some_and(|token| book.application_tokens.contains_key(token)) {
        Response::new(status, &[("content-type", "application/json")], body)
    } else {
        Response::json(401, &json!({"code": "900901", "message": "Invalid Credentials"}))
    }
}

/// Records `request` and answers it, but for the next scripted fault of its endpoint, or the standing one.
async fn respond(shared: &Shared, mut request: Request) -> Result<Response, Cut> {
    let _in_flight = InFlight::enter(shared, request.endpoint);
    let (fault, index) = {
        let mut book = shared.book();
        let presented = request.field("code").or_else(|| request.field("refresh_token"));
        request.after_success = presented.is_some_and(|presented| book.is_consumed(presented));
        let recorded = book.seen.requests_mut(request.endpoint);
        recorded.push(request.clone());
        let index = recorded.len() - 1;
        (book.next_fault(request.endpoint), index)
    };
    let effect = || {
        let (options, mut book) = (&shared.options, shared.book());
        let response = match request.endpoint {
            Endpoint::Authorize | Endpoint::AuthorizeV2 => {
                authorize::page(options, &mut book, &request).map_err(Fault::Answer)
            }
            Endpoint::Token => token::answer(options, &mut book, &request),
            Endpoint::SubscribedServices | Endpoint::DataV5 | Endpoint::Data2026 => {
                data::answer(options, &mut book, &request)
            }
        };
        let (Ok(response) | Err(Fault::Answer(response))) = response else {
            unreachable!("a service refuses with an answer")
        };
        book.seen.requests_mut(request.endpoint)[index].status = Some(response.status);
        response
    };
    match fault {
        Fault::Pass => Ok(effect()),
        Fault::SlowAnswer(wait) => {
            let response = effect();
            tokio::time::sleep(wait).await;
            Ok(response)
        }
        Fault::Answer(response) => Ok(response),
        Fault::CutBefore => Err(Cut),
        Fault::CutAfter => {
            effect();
            Err(Cut)
        }
        Fault::NotJson => {
            effect();
            Ok(Response::maintenance())
        }
        Fault::Html => Ok(Response::maintenance()),
        Fault::Hang => std::future::pending().await,
    }
}

/// Counts a token request as in flight until it is answered, cut or abandoned.
struct InFlight<'a>(Option<&'a Shared>);

impl<'a> InFlight<'a> {
    fn enter(shared: &'a Shared, endpoint: Endpoint) -> Self {
        if endpoint != Endpoint::Token {
            return Self(None);
        }
        let mut book = shared.book();
        book.in_flight += 1;
        book.seen.max_concurrent_token_requests = book.seen.max_concurrent_token_requests.max(book.in_flight);
        Self(Some(shared))
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            shared.book().in_flight -= 1;
        }
    }
}

fn pairs(encoded: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(encoded).into_owned().collect()
}
