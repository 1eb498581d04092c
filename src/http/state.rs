//! What the handlers work with: the actors, the configuration, the counts and the limits.

use std::cell::{RefCell, RefMut};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::HttpRequest;
use actix_web::http::header::{ACCEPT_LANGUAGE, HeaderValue};
use actix_web::web::Payload;
use actors::base::admission::AskError;
use actors::base::audit::{Act, Note};
use actors::base::clock::Clock;
use actors::base::clock::machine::MachineClock;
use actors::base::code::{BearerToken, DeviceCode};
use actors::base::keyring::{DeviceHash, Keyring, TokenHash};
use actors::base::network::Network;
use actors::device_flow::registry::{DenyAnswer, Refusal};
use actors::limits::shared_quota::SharedQuota;
use actors::metering::tokens::service::{Revoked, TokenService};
use actors::system::{System, ThreadShare};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::connections::Connections;
use super::counts::{Counts, WorkerCounts, route_of};
use super::error::ApiError;
use super::form::Body;
use super::large::LargeAnswers;
use super::limits::Limits;
use super::peer;
use super::query::Query;
use super::questions::Questions;
use super::readiness::StoreProbe;
use super::refreshes::Refreshes;
use super::version;
use crate::config::{AdminPassword, Config, Flow};
use crate::descriptors;
use crate::enedis::timed::CallTimes;
use crate::metrics::{self, Format, Metrics, Observed, Route};
use crate::pages::{Lang, Pages};
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
    pub(super) allowed_clients: Vec<Arc<str>>,
    pub(super) site: SiteText,
    share: ThreadShare,
    rng: RefCell<StdRng>,
}

/// What all workers share.
pub struct Shared {
    /// The actors.
    pub system: System,
    /// Hashes and seals.
    pub keys: Arc<Keyring>,
    /// The server's clock.
    pub clock: Arc<MachineClock>,
    /// The store, for readiness and metrics.
    pub store: Arc<Counted>,
    /// Connections of devices and people.
    pub connections: Arc<Connections>,
    /// Counters.
    pub metrics: Metrics,
    /// What opens the operator's listener, if anything has to.
    pub(super) admin_password: Option<AdminPassword>,
    quota: SharedQuota,
    /// How long calls to Enedis took.
    calls: Arc<CallTimes>,
    calls_per_hour: u32,
    pub(super) limits: Limits,
    pub(super) large: LargeAnswers,
    pub(super) refreshes: Refreshes,
    pub(super) questions: Questions,
    pub(super) store_probe: StoreProbe,
    leaving: AtomicBool,
    drained: AtomicBool,
    draining: AtomicBool,
    warned_of_proxy: AtomicBool,
    counts: Counts,
}

/// Texts derived from the configuration once.
pub struct SiteText {
    pub(super) https: bool,
    pub(super) path: String,
    enedis_host: String,
    enedis_account: String,
    pub(super) verification_uri: String,
    pub(super) via: HeaderValue,
}

impl SiteText {
    /// The cookie of a language that was chosen.
    pub(super) fn lang_cookie(&self) -> &'static str {
        if self.https { "__Host-dfp-lang" } else { "dfp-lang" }
    }
}

impl Shared {
    /// Shared state around the running actors.
    pub fn new(
        config: &Config,
        system: System,
        keys: Arc<Keyring>,
        clock: Arc<MachineClock>,
        store: Arc<Counted>,
        (quota, calls): (SharedQuota, Arc<CallTimes>),
    ) -> Self {
        Self {
            admin_password: config.server.admin_password.clone(),
            quota,
            calls,
            calls_per_hour: config.enedis.exchanger.quota.per_hour,
            system,
            keys,
            clock,
            store,
            connections: Connections::new(
                descriptors::for_connections(config),
                config.server.connections_per_ip,
                config.server.trusted_proxies.clone(),
            ),
            metrics: Metrics::default(),
            limits: Limits::new(
                config.devices.codes_per_minute,
                config.enedis.exchanger.quota.per_hour,
                config.enedis.flow != Flow::Device,
            ),
            large: LargeAnswers::default(),
            refreshes: Refreshes::new(config.devices.life.redelivery),
            questions: Questions::default(),
            store_probe: StoreProbe::default(),
            leaving: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            warned_of_proxy: AtomicBool::new(false),
            counts: Counts::default(),
        }
    }

    /// From now on readiness fails; all else goes on.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Whether this process is about to go, or takes no work.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) || self.drained.load(Ordering::Relaxed)
    }

    /// The operator says whether this process takes work: readiness fails meanwhile, all else goes on.
    pub fn set_drained(&self, drained: bool) {
        self.drained.store(drained, Ordering::Relaxed);
    }

    /// From now on every answer closes its connection.
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

    /// Everything that is counted, as text.
    pub async fn metrics_text(&self, format: Format) -> String {
        let observed = Observed {
            in_flight: self.in_flight(),
            draining: self.is_leaving(),
            instances: self.quota.instances(),
            connections: self.connections.counts(),
            polls: self.counts.polls(),
            requests: self.counts.requests(),
            calls: self.calls.read(),
            calls_per_hour: self.calls_per_hour,
            interval: self.system.interval.told(),
            store: self.store.counts(),
            clock: self.clock.snapshot(),
            registry: self.system.registry.snapshot().await.ok(),
            writer: self.system.writer.snapshot().await.ok(),
            exchanger: self.system.exchanger.snapshot().await.ok(),
            doubled_grants: self.system.metering.as_ref().map(|metering| metering.tokens.doubled()),
            audit_unwritten: self.system.audit.unwritten(),
            second_claims: self.system.metering.as_ref().map(|metering| metering.tokens.second_claims()),
            relay: match &self.system.metering {
                Some(metering) => metering.relay.snapshot().await.ok(),
                None => None,
            },
        };
        metrics::render(&self.metrics, &observed, format)
    }
}

impl App {
    /// A worker's state. The sessions of `share` live on its thread; `seed` comes from the operating system.
    pub fn new(shared: Arc<Shared>, settings: Arc<Config>, share: ThreadShare, seed: [u8; 32]) -> Self {
        let site = SiteText {
            https: settings.server.base_url.starts_with("https:"),
            path: base_path(&settings.server.base_url),
            enedis_host: settings.enedis.upstream.authorize.host_str().unwrap_or_default().to_owned(),
            enedis_account: settings.enedis.upstream.authorize.origin().ascii_serialization(),
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
            share,
            rng: RefCell::new(StdRng::from_seed(seed)),
        }
    }

    /// The route of a path.
    pub fn route(&self, path: &str) -> Route {
        route_of(path, &self.site.path)
    }

    /// What this worker counts of every request.
    pub fn counts(&self) -> &Arc<WorkerCounts> {
        &self.counts
    }

    /// Reads the form of a device that may be served.
    pub(super) async fn read_body(
        &self,
        request: &HttpRequest,
        payload: &mut Payload,
    ) -> Result<Body, ApiError> {
        version::check(request, self.settings.devices.version_min.as_ref())?;
        Body::read(request, payload).await
    }

    pub(super) fn system(&self) -> &System {
        &self.shared.system
    }

    pub(super) fn keys(&self) -> &Keyring {
        &self.shared.keys
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        self.shared.clock.as_ref()
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    // Never held across an await: handlers of one worker take turns.
    pub(super) fn rng(&self) -> RefMut<'_, StdRng> {
        self.rng.borrow_mut()
    }

    /// Draws a device code whose session will live on this thread: the device that asked will poll over the same
    /// connection, and no other thread need be woken then.
    pub(super) fn draw_code(&self) -> (DeviceCode, DeviceHash) {
        let mut left = if self.share.is_empty() { 1 } else { DRAWS_MAX };
        loop {
            let code = DeviceCode::generate(&mut *self.rng());
            let device = self.keys().device(&code);
            left -= 1;
            if left == 0 || self.share.has(device.slot()) {
                return (code, device);
            }
        }
    }

    /// The pages for whoever sent `request`.
    pub(super) fn pages(&self, request: &HttpRequest) -> Pages<'_> {
        let named = Query::parse(request).get("lang").and_then(Lang::named);
        let accepted = || request.headers().get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        let kept = || Lang::named(request.cookie(self.site.lang_cookie())?.value());
        let lang = named.or_else(kept).unwrap_or_else(|| Lang::accepted(accepted()));
        Pages {
            lang,
            keeps_lang: named.is_some(),
            base: &self.site.path,
            enedis_host: &self.site.enedis_host,
            enedis_account: &self.site.enedis_account,
            site: &self.settings.site,
        }
    }

    /// The client's network, as limits count it. A peer without an address is a socket of our own making.
    pub(super) fn network(&self, request: &HttpRequest) -> Network {
        let trusted = &self.settings.server.trusted_proxies;
        if let Some(peer) = peer::unknown_proxy(request, trusted)
            && !self.shared.warned_of_proxy.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                %peer,
                "X-Forwarded-For comes from a peer that is not in TRUSTED_PROXIES: all who come through it count as one \
                 address"
            );
        }
        let address = peer::client_address(request, trusted);
        Network::of(address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
    }
}

/// What is finished and recorded even if its caller hangs up.
impl App {
    /// A person refuses.
    pub(super) async fn deny(&self, request: &HttpRequest, refusal: Refusal) -> Result<DenyAnswer, AskError> {
        let (shared, network) = (Arc::clone(&self.shared), self.network(request));
        let denied = actix_rt::spawn(async move {
            let answer = shared.system.registry.deny(refusal).await;
            if let Ok(DenyAnswer::Denied(Some((device, client_id)))) = &answer {
                let note = Note::of(Act::RefusedByOwner).about(device).client(Some(client_id));
                shared.system.audit.note(note.from(network)).await;
            }
            answer
        });
        denied.await.unwrap_or(Err(AskError::Stopped))
    }

    /// The owner of a meter ends a box that reads it, by the consent that gave `own`.
    pub(super) async fn end_other(
        &self,
        request: &HttpRequest,
        tokens: &Arc<TokenService>,
        own: TokenHash,
        other: TokenHash,
    ) -> Revoked {
        let (tokens, network) = (Arc::clone(tokens), self.network(request));
        let ended = actix_rt::spawn(async move { tokens.end_other(own, other, network).await });
        ended.await.unwrap_or(Revoked::Unavailable)
    }

    /// A box gives a token of ours up.
    pub(super) async fn revoke(
        &self,
        request: &HttpRequest,
        tokens: &Arc<TokenService>,
        token: BearerToken,
        client_id: Arc<str>,
    ) -> Revoked {
        let (tokens, network) = (Arc::clone(tokens), self.network(request));
        let revoked = actix_rt::spawn(async move { tokens.revoke(&token, &client_id, network).await });
        revoked.await.unwrap_or(Revoked::Unavailable)
    }
}

/// Codes and tokens that nobody knows: each is looked up in the store, and what is looked up in vain is charged.
impl App {
    /// Whether one more may be looked up for whoever sent `request`.
    pub(super) fn may_look_up(&self, request: &HttpRequest) -> Result<(), ApiError> {
        let unknown = &self.shared.limits.unknown;
        if unknown.is_unspent(self.clock()) {
            return Ok(());
        }
        let room = unknown.has_room(self.network(request), self.clock().now());
        room.map_err(|retry_after| ApiError::Unavailable { retry_after })
    }

    /// It led nowhere.
    pub(super) fn found_nothing(&self, request: &HttpRequest) {
        self.shared.limits.unknown.charge(self.network(request), self.clock().now());
    }
}

/// The path prefix of `BASE_URL`, without a trailing slash.
pub(crate) fn base_path(base_url: &str) -> String {
    url::Url::parse(base_url).map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default()
}

/// What relayed data carries as `Via` (RFC 9110 section 7.6.3), as the PHP server's did.
fn via(base_url: &str) -> HeaderValue {
    let text = url::Url::parse(base_url).ok().map(|url| format!("1.1 {}", url.authority()));
    let value = text.and_then(|text| HeaderValue::from_str(&text).ok());
    value.unwrap_or(HeaderValue::from_static("1.1 device-flow-proxy"))
}
