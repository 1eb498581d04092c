//! The routes, and what every handler shares. One endpoint a file; each decodes, asks an actor through its handle,
//! and renders. `http/error.rs` is the only place that knows what an error looks like to a device.

mod browser;
mod callback;
mod client;
mod counts;
mod data;
mod device;
pub mod error;
mod form;
mod grant;
mod large;
mod limits;
mod meta;
mod peer;
mod proxy;
mod query;
mod token;
mod verify;
mod version;

use std::cell::{RefCell, RefMut};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::http::Method;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::web::{Data, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, guard, web};
use actors::base::clock::Clock;
use actors::base::code::DeviceCode;
use actors::base::keyring::{BrowserHash, DeviceHash, Keyring};
use actors::system::{Home, System};
use rand::SeedableRng;
use rand::rngs::StdRng;

use self::counts::{Counts, WorkerCounts};
use self::error::ApiError;
use self::form::Body;
use self::large::LargeAnswers;
use self::limits::Limits;
use self::peer::{client_address, network};
use crate::config::Config;
use crate::metrics::{self, Metrics, Observed};
use crate::pages::{Pages, Problem, STYLE_PATH};
use crate::store::Counted;

/// Draws of a device code before one is taken that lives on another thread; as many as there are threads are needed.
const DRAWS_MAX: u32 = 256;

/// What one HTTP worker's handlers work with. Made on the worker's thread.
pub struct App {
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// The configuration.
    pub settings: Arc<Config>,
    counts: Arc<WorkerCounts>,
    allowed_clients: Vec<Arc<str>>,
    site: SiteText,
    home: Home,
    rng: RefCell<StdRng>,
}

/// What all workers share.
pub struct Shared {
    /// The actors.
    pub system: System,
    /// Hashes and seals.
    pub keys: Arc<Keyring>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// The store, for readiness and metrics.
    pub store: Arc<Counted>,
    /// Counters.
    pub metrics: Metrics,
    limits: Limits,
    large: LargeAnswers,
    draining: AtomicBool,
    counts: Counts,
}

/// Texts derived from the configuration once.
pub struct SiteText {
    https: bool,
    path: String,
    enedis_host: String,
    verification_uri: String,
    via: HeaderValue,
}

impl Shared {
    /// Shared state around the running actors.
    pub fn new(
        config: &Config,
        system: System,
        keys: Arc<Keyring>,
        clock: Arc<dyn Clock>,
        store: Arc<Counted>,
    ) -> Self {
        Self {
            system,
            keys,
            clock,
            store,
            metrics: Metrics::default(),
            limits: Limits::new(config.devices.codes_per_minute),
            large: LargeAnswers::default(),
            draining: AtomicBool::new(false),
            counts: Counts::default(),
        }
    }

    /// From now on every answer closes its connection, and readiness fails.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Whether the server is shutting down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Requests being handled.
    pub fn in_flight(&self) -> usize {
        self.counts.in_flight()
    }

    /// Counters and gauges as text.
    pub async fn metrics_text(&self) -> String {
        let observed = Observed {
            in_flight: self.in_flight(),
            polls: self.counts.polls(),
            store: self.store.counts(),
            registry: self.system.registry.snapshot().await.ok(),
            writer: self.system.writer.snapshot().await.ok(),
            exchanger: self.system.exchanger.snapshot().await.ok(),
            relay: match &self.system.metering {
                Some(metering) => metering.relay.snapshot().await.ok(),
                None => None,
            },
        };
        metrics::render(&self.metrics, &observed)
    }
}

impl App {
    /// A worker's state. The sessions of `home` live on its thread; `seed` comes from the operating system.
    pub fn new(shared: Arc<Shared>, settings: Arc<Config>, home: Home, seed: [u8; 32]) -> Self {
        let site = SiteText {
            https: settings.server.base_url.starts_with("https:"),
            path: base_path(&settings.server.base_url),
            enedis_host: settings.enedis.upstream.authorize.host_str().unwrap_or_default().to_owned(),
            verification_uri: format!("{}/device", settings.server.base_url),
            via: via(&settings.server.base_url),
        };
        let counts = shared.counts.worker();
        // Copies of its own: every poll takes a share of its client's name, and gives it back.
        let allowed_clients = settings.enedis.allowed_clients.iter().map(|id| Arc::from(&**id)).collect();
        Self {
            shared,
            settings,
            counts,
            allowed_clients,
            site,
            home,
            rng: RefCell::new(StdRng::from_seed(seed)),
        }
    }

    /// What this worker counts of every request.
    pub fn counts(&self) -> &Arc<WorkerCounts> {
        &self.counts
    }

    /// Reads the form of a device that may be served.
    async fn read_body(&self, request: &HttpRequest, payload: &mut Payload) -> Result<Body, ApiError> {
        version::check(request, self.settings.devices.version_min.as_ref())?;
        Body::read(request, payload).await
    }

    fn system(&self) -> &System {
        &self.shared.system
    }

    fn keys(&self) -> &Keyring {
        &self.shared.keys
    }

    fn clock(&self) -> &dyn Clock {
        self.shared.clock.as_ref()
    }

    fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    // Never held across an await: handlers of one worker take turns.
    fn rng(&self) -> RefMut<'_, StdRng> {
        self.rng.borrow_mut()
    }

    /// Draws a device code whose session will live on this thread: the device that asked will poll over the same
    /// connection, and no other thread need be woken then.
    fn draw_code(&self) -> (DeviceCode, DeviceHash) {
        let mut left = if self.home.is_empty() { 1 } else { DRAWS_MAX };
        loop {
            let code = DeviceCode::generate(&mut *self.rng());
            let device = self.keys().device(&code);
            left -= 1;
            if left == 0 || self.home.has(device.slot()) {
                return (code, device);
            }
        }
    }

    /// The pages for whoever sent `request`.
    fn pages(&self, request: &HttpRequest) -> Pages<'_> {
        let lang = browser::language(request);
        Pages { lang, base: &self.site.path, enedis_host: &self.site.enedis_host }
    }

    /// The client's address as limits count it. A peer without one is a socket of our own making.
    fn address(&self, request: &HttpRequest) -> IpAddr {
        let address = client_address(request, &self.settings.server.trusted_proxies);
        network(address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)))
    }

    /// The browser, as limits count it.
    fn browser(&self, request: &HttpRequest) -> Option<BrowserHash> {
        browser::browser(self, request).map(|token| self.keys().browser(&token))
    }
}

/// The path prefix of `BASE_URL`, without a trailing slash.
fn base_path(base_url: &str) -> String {
    url::Url::parse(base_url).map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default()
}

/// What relayed data carries as `Via` (RFC 9110 section 7.6.3), as the PHP server's did.
fn via(base_url: &str) -> HeaderValue {
    let text = url::Url::parse(base_url).ok().map(|url| format!("1.1 {}", url.authority()));
    let value = text.and_then(|text| HeaderValue::from_str(&text).ok());
    value.unwrap_or(HeaderValue::from_static("1.1 device-flow-proxy"))
}

/// Methods of addresses that only answer.
const READ: &str = "GET, HEAD";

/// Where the metadata stands (RFC 8414 section 3).
const METADATA: &str = "/.well-known/oauth-authorization-server";

/// All routes: at the root, and below the path of `BASE_URL` for a reverse proxy that keeps it.
pub fn routes(config: &mut ServiceConfig, base_url: &str) {
    let prefix = base_path(base_url);
    // The root first: a path of BASE_URL may begin as one of ours does.
    config.configure(endpoints);
    if !prefix.is_empty() {
        config.service(web::scope(&prefix).configure(endpoints));
        // RFC 8414 section 3.1 puts the path of the issuer behind the well-known one.
        config.service(metadata(&format!("{METADATA}{prefix}")));
    }
    config.default_service(web::route().to(meta::not_found));
}

fn endpoints(config: &mut ServiceConfig) {
    config
        .service(api("/device/token", "POST").route(web::post().to(token::token)))
        .service(api("/device/code", "POST").route(web::post().to(device::authorize)))
        .service(api("/device/proxy", "POST").route(web::post().to(proxy::refresh)))
        .service(api("/data/proxy/{path:.*}", "GET").route(web::get().to(data::read)))
        .service(page("/device", READ).route(get().to(device::page)))
        // These act, so that a scanner's HEAD must not reach them.
        .service(page("/auth/verify_code", "GET").route(web::get().to(verify::verify)))
        .service(page("/auth/redirect", "GET").route(web::get().to(callback::redirect)))
        .service(page("/auth/redirect/{rest:.*}", "GET").route(web::get().to(callback::malformed)))
        .service(page("/", READ).route(get().to(meta::home)))
        .service(page(STYLE_PATH, READ).route(get().to(meta::style)))
        .service(page("/favicon.ico", READ).route(get().to(meta::no_icon)))
        .service(api("/health/live", READ).route(get().to(meta::live)))
        .service(api("/health/ready", READ).route(get().to(meta::ready)))
        .service(metadata(METADATA))
        .service(metadata("/.well-known/openid-configuration"));
}

fn metadata(path: &str) -> Resource {
    api(path, READ).route(get().to(meta::metadata))
}

fn get() -> actix_web::Route {
    web::route().guard(guard::Any(guard::Method(Method::GET)).or(guard::Method(Method::HEAD)))
}

/// An endpoint of devices: another method gets a JSON error.
fn api(path: &str, allow: &'static str) -> Resource {
    web::resource(path).default_service(
        web::route().to(move || async move { Err::<HttpResponse, _>(ApiError::MethodNotAllowed { allow }) }),
    )
}

/// A page of people: another method gets a page.
fn page(path: &'static str, allow: &'static str) -> Resource {
    web::resource(path).default_service(web::route().to(
        move |app: Data<App>, request: HttpRequest| async move {
            let page = app.pages(&request).problem(Problem::MethodNotAllowed);
            let mut response = browser::respond(&app, page);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
            response
        },
    ))
}
