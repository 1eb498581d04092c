//! The composition root: everything the server is made of is put together here, and taken apart in order.

mod serving;

use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actors::base::audit::AuditLog;
use actors::base::clock::SharedClock;
use actors::base::clock::machine::MachineClock;
use actors::base::keyring::Keyring;
use actors::base::store::StoreError;
use actors::device_flow::reseal::reseal;
use actors::device_flow::store::SessionStore;
use actors::enedis::port::AuthorizationServer;
use actors::limits::shared_quota::SharedQuota;
use actors::metering::cache::MeterCache;
use actors::metering::resource_server::ResourceServer;
use actors::metering::tokens::TokenStore;
use actors::metering::tokens::earlier::EarlierTokens;
use actors::metering::tokens::installation::{Installation, InstallationError};
use actors::system::{MeteringPorts, Ports, Settings, ShardLauncher, System};
use rand::SeedableRng;
use rand::rngs::StdRng;
use socket2::Socket;
use tokio::task::JoinHandle;

pub(crate) use self::serving::listen;
use self::serving::{base_url, local_addr, serve, serve_admin, serve_redirect};
use crate::clock;
use crate::config::{Config, Flow, StoreConfig};
use crate::enedis::authorization::EnedisAuthorization;
use crate::enedis::data::EnedisData;
use crate::enedis::timed::{CallTimes, Timed};
use crate::http::Shared;
use crate::secret::{self, SecretError};
use crate::store::mongo::php::PhpTokens;
use crate::store::mongo::{BEAT_EVERY, Instances};
use crate::store::sqlite;
use crate::store::{Counted, OpenError, Stores};
use crate::systemd::{self, Sockets};
use crate::tls::{Certificate, TlsFaults};

/// What a connection has to flush its last answer once no request is left.
const FLUSH: Duration = Duration::from_millis(100);

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The secret key.
    #[error("the secret key is not available: {0}")]
    Secret(#[from] SecretError),
    /// The store.
    #[error("the store cannot be opened: {0}")]
    Store(#[from] OpenError),
    /// The store's content.
    #[error("stored sessions cannot be read: {0}")]
    Sessions(#[from] StoreError),
    /// The installation's keys.
    #[error(transparent)]
    Installation(#[from] InstallationError),
    /// The operating system's random numbers.
    #[error("the operating system gives no random numbers: {0}")]
    Entropy(rand::rngs::SysError),
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] TlsFaults),
    /// TLS.
    #[error("TLS cannot be spoken: {0}")]
    Tls(#[from] rustls::Error),
    /// The operator's listener would be open to everybody.
    #[error("{0} is reached from other machines: the operator's listener needs ADMIN_PASSWORD there")]
    AdminOpen(SocketAddr),
    /// A socket.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

impl StartError {
    /// Whether the server is configured wrongly, as opposed to being kept from its work.
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Installation(InstallationError::OtherKey)
                | Self::Store(OpenError::Disagrees(_))
                | Self::AdminOpen(_)
        )
    }
}

/// A server whose sockets are bound. Nothing is answered before [`Application::run_until`].
pub struct Application {
    addr: SocketAddr,
    admin_addr: Option<SocketAddr>,
    // To close it to newcomers while the server still answers; not one that was handed over, which the next server serves.
    listening: Option<Socket>,
    server: Server,
    // The operator's, and the one that sends people on.
    beside: Vec<Server>,
    launcher: Arc<ShardLauncher>,
    shared: Arc<Shared>,
    shutdown_delay: Duration,
    instances: Option<Arc<Instances>>,
    quota: SharedQuota,
    shutdown: Duration,
    watches: Vec<JoinHandle<()>>,
}

impl Application {
    /// Opens the store, starts the actors and binds the sockets that were not handed over. Must run in an actix system.
    pub async fn bind(config: Config, sockets: Sockets) -> Result<Self, StartError> {
        check_entropy()?;
        // Sockets first: what can fail for want of a port fails before anything is opened or started.
        let address = config.server.listen;
        let (listener, listening) = if let Some(listener) = sockets.listen {
            (listener, None)
        } else {
            let listener = listen(address)?;
            let clone = listener.try_clone().map_err(|source| StartError::Listen { address, source })?;
            (listener, Some(Socket::from(clone)))
        };
        let admin_listener = match sockets.admin {
            Some(listener) => Some(listener),
            None => config.server.admin_listen.map(listen).transpose()?,
        };
        let redirect_listener = match sockets.redirect {
            Some(listener) => Some(listener),
            None => config.server.redirect_listen.map(listen).transpose()?,
        };
        let addr = local_addr(&listener, address)?;
        if config.storage.uses_data_dir() {
            secret::check_owner(&config.storage.data_dir)?;
        }
        let config = Arc::new(config);
        let machine_clock = Arc::new(MachineClock::new(config.clock_offset));
        let clock = Arc::clone(&machine_clock) as SharedClock;
        let secrets = config.storage.load_keys(entropy)?;
        let metering = matches!(config.enedis.flow, Flow::ClientCredentials(_));
        let stores = Stores::open(&config.storage.store, &config.storage.data_dir, metering).await?;
        let mut rng = StdRng::from_seed(entropy());
        let keys = Installation::open(stores.tokens.as_ref(), &secrets, clock.wall(), &mut rng).await?;
        let keys = Arc::new(keys);
        if config.storage.store == StoreConfig::Embedded
            && let Some(record) = stores.tokens.installation().await?
        {
            sqlite::belongs_to(&config.storage.data_dir, record.id)?;
        }
        let instances = stores.join(&config.shared()).await?;
        let quota = SharedQuota::new(Arc::clone(&stores.ledger));
        if let Some(instances) = &instances {
            quota.set_instances(instances.count().await?);
        }
        clock::begin(&machine_clock, stores.ledger.as_ref(), stores.sessions.as_ref()).await?;
        let ledger = Arc::clone(&stores.ledger);
        let mut watches = vec![actix_rt::spawn(clock::watch(Arc::clone(&machine_clock), ledger))];
        if secrets.len() > 1 {
            reseal(stores.sessions.as_ref(), &keys, clock.now(), &mut rng).await?;
        }
        let store = Arc::new(Counted::new(stores.sessions));
        let earlier = match &config.storage.php {
            Some(uri) if metering => Some(Arc::new(PhpTokens::open(uri).await?) as Arc<dyn EarlierTokens>),
            _ => None,
        };
        let metering = stores.meters.map(|meters| (stores.tokens, earlier, meters));
        let calls = Arc::default();
        let system =
            start_actors(&config, &clock, &keys, &store, stores.audit, metering, (quota.clone(), &calls))
                .await?;
        let launcher = Arc::clone(&system.launcher);
        let shared =
            Shared::new(&config, system, Arc::clone(&keys), machine_clock, store, (quota.clone(), calls));
        let shared = Arc::new(shared);
        let tls = match config.server.tls.clone() {
            None => None,
            Some(files) => {
                let certificate = Arc::new(Certificate::load(files)?);
                let tls = certificate.server()?;
                let host = base_url(&config).and_then(|url| url.host_str().map(str::to_owned));
                let follow = certificate.follow(host.unwrap_or_default(), SharedClock::clone(&clock));
                watches.push(actix_rt::spawn(follow));
                Some(tls)
            }
        };
        let server = serve(&config, &shared, &launcher, listener, tls)?;
        let admin_addr = admin_listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let mut beside = Vec::new();
        if let Some(listener) = admin_listener {
            beside.push(serve_admin(listener, &shared, config.server.admin_password.is_some())?);
        }
        if let Some(listener) = redirect_listener {
            beside.push(serve_redirect(listener, &config)?);
        }
        Ok(Self {
            addr,
            admin_addr,
            listening,
            server,
            beside,
            launcher,
            shared,
            instances: instances.map(Arc::new),
            quota,
            shutdown_delay: config.server.shutdown_delay,
            shutdown: config.server.shutdown,
            watches,
        })
    }

    /// Where the server listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where the operator's listener is, if there is one.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_addr
    }

    /// Serves until `stop` is ready, goes on for `SHUTDOWN_DELAY_SECS` as not ready, then drains: no new connections, the
    /// requests and consents under way are finished, writes are committed. Answers whether all that was done in time.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> bool {
        let Self {
            addr,
            admin_addr,
            listening,
            server,
            beside,
            launcher,
            shared,
            instances,
            quota,
            watches,
            ..
        } = self;
        let handles: Vec<ServerHandle> = beside.iter().chain([&server]).map(Server::handle).collect();
        for server in beside.into_iter().chain([server]) {
            actix_rt::spawn(server);
        }
        launcher.ready().await;
        let admin = admin_addr.map(|addr| addr.to_string()).unwrap_or_default();
        tracing::info!(listen = %addr, admin, "ready");
        let beating = instances.clone().map(|instances| actix_rt::spawn(beat(instances, quota)));
        systemd::ready(&format!("serving on {addr}"));
        let signs_of_life = actix_rt::spawn(systemd::signs_of_life(Arc::clone(&shared)));
        stop.await;
        systemd::stopping(self.shutdown_delay + self.shutdown);
        shared.leave();
        tokio::time::sleep(self.shutdown_delay).await;
        tracing::info!(in_flight = shared.in_flight(), "draining");
        shared.drain();
        if let Some(listening) = listening {
            // Newcomers are refused at once and go elsewhere, instead of waiting in a queue that nobody serves.
            crate::telemetry::listener_is_closed();
            if let Err(error) = listening.shutdown(Shutdown::Read) {
                tracing::warn!(%error, "the listening socket cannot be closed to newcomers");
            }
        }
        for handle in &handles {
            handle.pause().await;
        }
        let drained = tokio::time::timeout(self.shutdown, drain(&shared)).await.unwrap_or(false);
        for handle in handles {
            handle.stop(false).await;
        }
        if let (Some(beating), Some(instances)) = (beating, instances) {
            beating.abort();
            instances.leave().await;
        }
        // They hold the store.
        watches.iter().for_each(JoinHandle::abort);
        signs_of_life.abort();
        tracing::info!(drained, "stopped");
        drained
    }
}

/// Tells the other instances that this one is running, and counts them: they share Enedis' quota.
async fn beat(instances: Arc<Instances>, quota: SharedQuota) {
    let mut failing = false;
    loop {
        tokio::time::sleep(BEAT_EVERY).await;
        let beaten = instances.beat().await;
        if let (Err(error), false) = (&beaten, failing) {
            tracing::warn!(%error, "the other instances cannot be told that this one is running");
        }
        failing = beaten.is_err();
        if let Ok(count) = instances.count().await {
            quota.set_instances(count);
        }
    }
}

/// Waits until nobody is waiting for an answer and everything decided is durable.
async fn drain(shared: &Shared) -> bool {
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    loop {
        shared.system.idle().await;
        while shared.in_flight() > 0 {
            tick.tick().await;
        }
        tokio::time::sleep(FLUSH).await;
        if shared.in_flight() == 0 {
            return true;
        }
    }
}

/// Where tokens are, those of the server of before, and what is remembered of meters.
type Metering = (Arc<dyn TokenStore>, Option<Arc<dyn EarlierTokens>>, Arc<dyn MeterCache>);

async fn start_actors(
    config: &Config,
    clock: &SharedClock,
    keys: &Arc<Keyring>,
    sessions: &Arc<Counted>,
    audit: Arc<dyn AuditLog>,
    metering: Option<Metering>,
    (quota, calls): (SharedQuota, &Arc<CallTimes>),
) -> Result<System, StoreError> {
    let attempt = config.enedis.exchanger.attempt;
    let (upstream, flow, server_clock) =
        (config.enedis.upstream.clone(), config.enedis.flow.clone(), SharedClock::clone(clock));
    let metering = match (&config.enedis.flow, metering) {
        (Flow::Device, _) | (_, None) => None,
        (Flow::ClientCredentials(metering), Some((tokens, earlier, meters))) => {
            let (endpoint, data_clock) = (metering.data.clone(), SharedClock::clone(clock));
            let calls = Arc::clone(calls);
            Some(MeteringPorts {
                tokens,
                earlier,
                cache: meters,
                resource_server: Box::new(move || {
                    let data = EnedisData::new(endpoint, data_clock, attempt);
                    Timed::new(calls, data) as Rc<dyn ResourceServer>
                }),
                relay: metering.relay,
                consent_life: metering.consent_life,
            })
        }
    };
    let token_calls = Arc::clone(calls);
    let ports = Ports {
        store: Arc::clone(sessions) as Arc<dyn SessionStore>,
        audit,
        authorization_server: Box::new(move || {
            let enedis = EnedisAuthorization::new(upstream, &flow, server_clock, attempt);
            Timed::new(token_calls, enedis) as Rc<dyn AuthorizationServer>
        }),
        metering,
        quota: Some(quota),
        clock: SharedClock::clone(clock),
        keys: Arc::clone(keys),
        entropy: Arc::new(entropy),
    };
    let settings = Settings {
        life: config.devices.life,
        interval: config.devices.interval,
        workers: config.server.workers,
        shards: config.server.shards,
        sessions_max: config.devices.sessions_max,
        write_batch_max: config.storage.write_batch_max,
        exchanger: config.enedis.exchanger,
        client: config.enedis.client.clone(),
    };
    System::start(ports, settings).await
}

fn check_entropy() -> Result<(), StartError> {
    secret::random().map(drop).map_err(StartError::Entropy)
}

/// A seed from the operating system.
fn entropy() -> [u8; 32] {
    #[expect(
        clippy::expect_used,
        reason = "checked at start; a kernel that then fails leaves nothing safe to do"
    )]
    secret::random().expect("the operating system gives random numbers")
}
