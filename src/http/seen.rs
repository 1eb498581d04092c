//! What reaches this server of a request that `doctor` sends through the public address. Only whoever knows `SECRET_KEY` is
//! told: it names the proxies. Where no server runs, `doctor` serves the same in its place.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use actix_web::dev::Server;
use actix_web::http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName};
use actix_web::web::{self, Data};
use actix_web::{App as WebApp, HttpRequest, HttpResponse, HttpServer};
use actors::base::keyring::Keyring;
use actors::base::sealed::RowMark;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::error::{ApiError, json_answer};
use super::peer;
use super::state::{App, base_path};

/// Where it is asked for, below `BASE_URL`.
pub const PATH: &str = "/health/seen";

/// Bytes of a number used once.
const NONCE: usize = 16;

/// A request as it came here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Who connected: a proxy, or who sent it.
    pub peer: SocketAddr,
    /// Whether that is in `TRUSTED_PROXIES`.
    pub is_trusted: bool,
    /// The values of `X-Forwarded-For`, in order.
    pub forwarded_for: Vec<String>,
    /// The last of `X-Forwarded-Proto`.
    pub forwarded_proto: Option<String>,
    /// `Host`.
    pub host: Option<String>,
}

impl Seen {
    fn of(request: &HttpRequest, trusted: &[IpNet]) -> Option<Self> {
        let headers = request.headers();
        Some(Self {
            peer: request.peer_addr()?,
            is_trusted: peer::trusted_peer(request, trusted),
            forwarded_for: all(headers, HeaderName::from_static("x-forwarded-for")),
            forwarded_proto: all(headers, HeaderName::from_static("x-forwarded-proto")).pop(),
            host: all(headers, HOST).pop(),
        })
    }
}

/// The parts of a header that is a list.
fn all(headers: &HeaderMap, name: HeaderName) -> Vec<String> {
    let values = headers.get_all(name).filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|part| part.trim().to_owned()).collect()
}

/// `Authorization` of whoever knows the key: a number used once, and the key's mark of it.
pub fn authorization(keys: &Keyring, nonce: [u8; NONCE]) -> String {
    format!("Bearer {}{}", hex::encode(nonce), hex::encode(keys.mark(&visit(&nonce)).as_bytes()))
}

/// What is marked: no row of a store begins so.
fn visit(nonce: &[u8]) -> Vec<u8> {
    [b"operator's visit ", nonce].concat()
}

fn is_operator(request: &HttpRequest, keys: &Keyring) -> bool {
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|text| hex::decode(text.strip_prefix("Bearer ")?).ok()).unwrap_or_default();
    let Some((nonce, mark)) = shown.split_at_checked(NONCE) else { return false };
    RowMark::from_slice(mark).is_some_and(|mark| keys.has_marked(&visit(nonce), mark))
}

/// `GET /health/seen`.
pub async fn seen(app: Data<App>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    answer(&request, app.keys(), &app.settings.server.trusted_proxies)
}

fn answer(request: &HttpRequest, keys: &Keyring, trusted: &[IpNet]) -> Result<HttpResponse, ApiError> {
    let seen = Seen::of(request, trusted).filter(|_| is_operator(request, keys)).ok_or(ApiError::NotFound)?;
    Ok(json_answer(serde_json::to_string(&seen).unwrap_or_default()))
}

/// Serves [`PATH`] below `base_url` in place of a server that does not run, and refuses all else as a server refuses a poll
/// without a code.
pub fn stand_in(
    listener: TcpListener,
    tls: Option<rustls::ServerConfig>,
    base_url: &str,
    keys: Arc<Keyring>,
    trusted: Vec<IpNet>,
) -> std::io::Result<Server> {
    let (prefix, trusted) = (base_path(base_url), Arc::new(trusted));
    let factory = move || {
        let (keys, trusted) = (Arc::clone(&keys), Arc::clone(&trusted));
        let told = move |request: HttpRequest| {
            let told = answer(&request, &keys, &trusted);
            async move { told }
        };
        let refuse = async || Err::<HttpResponse, _>(ApiError::missing("device_code"));
        WebApp::new()
            .route(PATH, web::get().to(told.clone()))
            .route(&format!("{prefix}{PATH}"), web::get().to(told))
            .default_service(web::route().to(refuse))
    };
    let server = HttpServer::new(factory).workers(1).disable_signals();
    let server = match tls {
        None => server.listen(listener)?,
        Some(tls) => server.listen_rustls_0_23(listener, tls)?,
    };
    Ok(server.run())
}
