//! Owns the sockets of the simulator: reads requests, applies the scripted fault, routes. Refuses bodies over
//! 64 KiB by cutting the connection.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::gateway::{self, Target};
use super::seen::{AuthorizeRequest, Outcome, TokenRequest};
use super::{
    AUTHORIZE_PATH, AUTHORIZE_V2_PATH, CONSENT_PATH, Endpoint, Fault, Shared, TOKEN_PATH, authorize, token,
};

/// Longest request body that is read, in bytes.
const BODY_MAX: usize = 64 * 1024;

pub(super) type Page = Response<Full<Bytes>>;

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

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Page, Cut> {
    let at = Instant::now();
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY_MAX).collect().await.map_err(|_| Cut)?.to_bytes();
    let query = pairs(head.uri.query().unwrap_or_default().as_bytes());
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    match (&head.method, head.uri.path()) {
        (&Method::GET, path @ (AUTHORIZE_PATH | AUTHORIZE_V2_PATH)) => {
            let (version, endpoint) =
                if path == AUTHORIZE_PATH { (1, Endpoint::Authorize) } else { (2, Endpoint::AuthorizeV2) };
            let seen = AuthorizeRequest { version, at, query: query.clone(), headers };
            shared.book().seen.authorize_requests.push(seen);
            with_fault(&shared, endpoint, || authorize::page(&shared, version, &query)).await
        }
        (&Method::POST, CONSENT_PATH) => Ok(authorize::consent(&shared, &pairs(&body))),
        (&Method::POST, TOKEN_PATH) => {
            let request = TokenRequest {
                at,
                query,
                fields: pairs(&body),
                headers,
                after_success: false,
                outcome: Outcome::None,
            };
            let (index, _in_flight) = InFlight::enter(&shared, request);
            with_fault(&shared, Endpoint::Token, || token::answer(&shared, index)).await
        }
        (_, AUTHORIZE_PATH | AUTHORIZE_V2_PATH | CONSENT_PATH | TOKEN_PATH) => {
            Ok(html(405, "Méthode non autorisée", ""))
        }
        (method, path) => {
            let Some(target) = Target::at(method.as_str(), path) else {
                shared.book().seen.unknown_paths.push(path.to_owned());
                return Ok(html(404, "Page introuvable", ""));
            };
            let request = gateway::request(at, target, path, query, headers, &body);
            let index = gateway::arrive(&shared, target, request);
            with_fault(&shared, target.endpoint(), || gateway::answer(&shared, target, index)).await
        }
    }
}

/// Applies the next scripted fault of `endpoint`, or its standing one, around `effect`.
async fn with_fault(
    shared: &Shared,
    endpoint: Endpoint,
    effect: impl FnOnce() -> Page + Send,
) -> Result<Page, Cut> {
    let fault = shared.book().next_fault(endpoint);
    match fault {
        Fault::Pass => Ok(effect()),
        Fault::Delay(wait) => {
            tokio::time::sleep(wait).await;
            Ok(effect())
        }
        Fault::SlowAnswer(wait) => {
            let page = effect();
            tokio::time::sleep(wait).await;
            Ok(page)
        }
        Fault::Status { code, headers, body } => Ok(scripted(code, &headers, body)),
        Fault::CutBefore => Err(Cut),
        Fault::CutAfter => {
            effect();
            Err(Cut)
        }
        Fault::NotJson => {
            effect();
            Ok(html(200, "Maintenance", "<p>Le service est momentanément indisponible.</p>"))
        }
        Fault::Html => Ok(html(200, "Maintenance", "<p>Le service est momentanément indisponible.</p>")),
        Fault::Hang => std::future::pending().await,
    }
}

/// Records a token request and counts it as in flight until it is answered, cut or abandoned.
struct InFlight(Arc<Shared>);

impl InFlight {
    fn enter(shared: &Arc<Shared>, mut request: TokenRequest) -> (usize, Self) {
        let mut book = shared.book();
        let presented = request.field("code").or_else(|| request.field("refresh_token"));
        request.after_success = presented.is_some_and(|presented| book.is_consumed(presented));
        book.seen.token_requests.push(request);
        book.in_flight += 1;
        book.seen.max_concurrent_token_requests = book.seen.max_concurrent_token_requests.max(book.in_flight);
        (book.seen.token_requests.len() - 1, Self(Arc::clone(shared)))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.book().in_flight -= 1;
    }
}

/// A French page; `title` and `body` are trusted HTML.
pub(super) fn html(status: u16, title: &str, body: &str) -> Page {
    let text = format!(
        "<!DOCTYPE html>\n<html lang=\"fr\">\n<head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    );
    respond(status, &[("content-type", "text/html; charset=utf-8")], text)
}

/// An answer made of parts known to be valid.
pub(super) fn respond(status: u16, headers: &[(&'static str, &str)], body: String) -> Page {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Full::from(body)).expect("valid status and header fields")
}

/// An answer that a test wrote; a part that HTTP cannot carry becomes a 500 which says so.
pub(super) fn scripted(code: u16, headers: &[(String, String)], body: String) -> Page {
    let mut response = Response::builder().status(code);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(Full::from(body)).unwrap_or_else(|error| {
        let mut page = html(500, "Scripted answer is not HTTP", &error.to_string());
        *page.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        page
    })
}

fn pairs(encoded: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(encoded).into_owned().collect()
}

/// The only value of `name`: `Ok(None)` without one or with an empty one, `Err` with two (RFC 6749 section 3.1).
pub(super) fn only<'a>(pairs: &'a [(String, String)], name: &str) -> Result<Option<&'a str>, ()> {
    let mut values = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let value = values.next();
    if values.next().is_some() { Err(()) } else { Ok(value.filter(|value| !value.is_empty())) }
}
