//! The three listeners: devices and people, the operator, and port 80.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Server, Service, ServiceRequest, ServiceResponse, Url};
use actix_web::http::Uri;
use actix_web::http::header::LOCATION;
use actix_web::http::uri::PathAndQuery;
use actix_web::web::{self, Data};
use actix_web::{App as WebApp, HttpRequest, HttpResponse, HttpServer, ResponseError};
use actors::system::ShardLauncher;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::Instant;

use super::{StartError, entropy};
use crate::config::Config;
use crate::descriptors::{ADMIN_CONNECTIONS, REDIRECT_CONNECTIONS};
use crate::http::connections::{Connection, Terms};
use crate::http::error::ApiError;
use crate::http::{App, Shared, admin, routes};

/// Idle connections are kept this long: the plugin polls every ten seconds over one, and gives the flow up if it
/// is closed in between.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// What a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 4_096;

pub(super) fn serve(
    config: &Arc<Config>,
    shared: &Arc<Shared>,
    launcher: &Arc<ShardLauncher>,
    listener: TcpListener,
    tls: Option<rustls::ServerConfig>,
) -> Result<Server, StartError> {
    let (settings, workers, address) = (Arc::clone(config), config.server.workers, config.server.listen);
    let (shared, launcher) = (Arc::clone(shared), Arc::clone(launcher));
    let connections = Arc::clone(&shared.connections);
    let max = connections.max() / workers;
    let factory = move || {
        // This runs on each worker's thread: its share of the shards lives there.
        let share = launcher.start_here();
        let app = Data::new(App::new(Arc::clone(&shared), Arc::clone(&settings), share, entropy()));
        let (worker, base_url) = (Data::clone(&app), settings.server.base_url.clone());
        WebApp::new()
            .app_data(app)
            .wrap_fn(move |request, service| {
                let (worker, in_flight) = (Data::clone(&worker), worker.counts().request());
                let (route, began) = (worker.route(request.path()), Instant::now());
                let terms =
                    request.conn_data().map_or(Terms::Kept, |connection: &Connection| connection.terms);
                let answer = match terms {
                    Terms::Refused => Err(request.into_response(ApiError::unavailable().error_response())),
                    Terms::Kept | Terms::Once => Ok(service.call(request)),
                };
                async move {
                    let mut answer = match answer {
                        Ok(answer) => answer.await?,
                        Err(refusal) => refusal,
                    };
                    if terms != Terms::Kept || worker.shared.is_draining() {
                        answer
                            .response_mut()
                            .head_mut()
                            .set_connection_type(actix_web::http::ConnectionType::Close);
                    }
                    worker.counts().answered(route, answer.status(), began.elapsed());
                    drop(in_flight);
                    Ok(forget_request(answer))
                }
            })
            .configure(|services| routes(services, &base_url))
    };
    let server = HttpServer::new(factory)
        .workers(workers)
        .keep_alive(KEEP_ALIVE)
        // Who says that nothing more will come has gone: what was not begun for it is not begun.
        .h1_allow_half_closed(false)
        .max_connections(max)
        .on_connect(move |io, beside| connections.accept(io, beside))
        .disable_signals();
    let server = match tls {
        None => server.listen(listener),
        // As many as there are places may be shaking hands, each for as long as one may wait with its first request.
        Some(tls) => {
            server.max_connection_rate(max).tls_handshake_timeout(HANDSHAKE).listen_rustls_0_23(listener, tls)
        }
    };
    Ok(server.map_err(|source| StartError::Listen { address, source })?.run())
}

/// Lets go of what came with a request: the framework keeps the rest of it until another is put there, which may be never,
/// and with it the buffer in which codes and tokens were received.
fn forget_request(answer: ServiceResponse<impl MessageBody>) -> ServiceResponse<impl MessageBody> {
    let (request, response) = answer.into_parts();
    let mut request = ServiceRequest::from_request(request);
    if request.uri().query().is_some() {
        request.head_mut().uri = Uri::default();
        request.match_info_mut().set(Url::default());
    }
    request.head_mut().headers.clear();
    request.into_response(response)
}

/// The operator's listener: metrics and the console.
pub(super) fn serve_admin(
    listener: TcpListener,
    shared: &Arc<Shared>,
    has_password: bool,
) -> Result<Server, StartError> {
    let address = local_addr(&listener, SocketAddr::from(([0, 0, 0, 0], 0)))?;
    // One that was handed over is not in the settings, which are checked before.
    if !has_password && !address.ip().is_loopback() {
        return Err(StartError::AdminOpen(address));
    }
    let shared = Arc::clone(shared);
    let factory = move || WebApp::new().app_data(Data::from(Arc::clone(&shared))).configure(admin::routes);
    let server = HttpServer::new(factory)
        .workers(1)
        .max_connections(ADMIN_CONNECTIONS)
        .disable_signals()
        .listen(listener)
        .map_err(|source| StartError::Listen { address, source })?;
    Ok(server.run())
}

/// Port 80: whatever is asked for is to be found at the host of `BASE_URL`.
pub(super) fn serve_redirect(listener: TcpListener, config: &Config) -> Result<Server, StartError> {
    let address = local_addr(&listener, SocketAddr::from(([0, 0, 0, 0], 0)))?;
    let origin = base_url(config).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
    let factory = move || {
        let origin = origin.clone();
        let redirect = move |request: HttpRequest| {
            let asked = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
            // `OPTIONS *` names no path.
            let path = if asked.starts_with('/') { asked } else { "/" };
            let answer = HttpResponse::PermanentRedirect()
                .insert_header((LOCATION, format!("{origin}{path}")))
                .force_close()
                .finish();
            async move { answer }
        };
        WebApp::new().default_service(web::to(redirect))
    };
    let server = HttpServer::new(factory)
        .workers(1)
        .max_connections(REDIRECT_CONNECTIONS)
        .disable_signals()
        .listen(listener)
        .map_err(|source| StartError::Listen { address, source })?;
    Ok(server.run())
}

pub(super) fn base_url(config: &Config) -> Option<url::Url> {
    url::Url::parse(&config.server.base_url).ok()
}

pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let bind = || {
        let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for the kernel to forget the connections of before.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    bind().map_err(|source| StartError::Listen { address, source })
}

pub(super) fn local_addr(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen { address, source })
}
