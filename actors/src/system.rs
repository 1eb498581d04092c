//! Starts the actors in the order they need each other, and stops them in the order their callers are done.
//!
//! The shards are not started here: each HTTP worker starts its own by [`ShardLauncher::start_here`], because a
//! shard on the thread that serves the socket answers without waking another one.

mod background;
mod launcher;
mod stored;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Arbiter;
use tokio::task::JoinHandle;

pub use self::launcher::{ShardLauncher, ThreadShare};
use crate::base::audit::{Audit, AuditLog};
use crate::base::clock::SharedClock;
use crate::base::keyring::{Keyring, SLOTS};
use crate::base::store::StoreError;
use crate::device_flow::consent::{ConsentWorkflow, Issuer};
use crate::device_flow::poll_interval::PollInterval;
use crate::device_flow::registry::{CodeRegistryHandle, ShardPorts};
use crate::device_flow::session::Lifetimes;
use crate::device_flow::store::SessionStore;
use crate::device_flow::writer::{StoreWriter, WriterHandle};
use crate::enedis::exchanger::{ExchangerSettings, TokenExchanger, TokenExchangerHandle};
use crate::enedis::port::{AuthorizationServer, ConfiguredClient};
use crate::limits::shared_quota::SharedQuota;
use crate::metering::cache::MeterCache;
use crate::metering::consent::MeterGrantIssuer;
use crate::metering::contracts::Contracts;
use crate::metering::relay::{MeterRelay, MeterRelayHandle, RelayPorts, RelaySettings};
use crate::metering::resource_server::ResourceServer;
use crate::metering::tokens::TokenStore;
use crate::metering::tokens::earlier::EarlierTokens;
use crate::metering::tokens::service::TokenService;

/// Draws seeds for the actors' generators, from the operating system.
pub type Entropy = Arc<dyn Fn() -> [u8; 32] + Send + Sync>;

/// What the outside world provides.
pub struct Ports {
    /// Durable storage.
    pub store: Arc<dyn SessionStore>,
    /// Durable storage of the audit record.
    pub audit: Arc<dyn AuditLog>,
    /// Makes the client of Enedis' authorization server, on the exchanger's thread.
    pub authorization_server: Box<dyn FnOnce() -> Rc<dyn AuthorizationServer> + Send>,
    /// With `FLOW=CLIENT_CREDENTIALS`: what tokens of our own and metering data need besides.
    pub metering: Option<MeteringPorts>,
    /// The clock.
    pub clock: SharedClock,
    /// Where instances count their calls at Enedis together, and processes after each other; `None`: nowhere.
    pub quota: Option<SharedQuota>,
    /// Hashes and seals.
    pub keys: Arc<Keyring>,
    /// Seeds for the actors' generators, from the operating system.
    pub entropy: Entropy,
}

/// What tokens of our own and metering data need.
pub struct MeteringPorts {
    /// Storage of our own tokens.
    pub tokens: Arc<dyn TokenStore>,
    /// Tokens of the server of before, which are taken over.
    pub earlier: Option<Arc<dyn EarlierTokens>>,
    /// Storage of what is remembered of meters.
    pub cache: Arc<dyn MeterCache>,
    /// Makes the client of Enedis' data APIs, on the relay's thread.
    pub resource_server: Box<dyn FnOnce() -> Rc<dyn ResourceServer> + Send>,
    /// The relay.
    pub relay: RelaySettings,
    /// Life of a consent (`DURATION`), which bounds every token.
    pub consent_life: Duration,
}

/// How the actors behave.
#[derive(Clone)]
pub struct Settings {
    /// Deadlines of a flow.
    pub life: Lifetimes,
    /// The poll interval, while there is little to do.
    pub interval: Duration,
    /// Threads that will call [`ShardLauncher::start_here`].
    pub workers: usize,
    /// Registry shards, at most [`SLOTS`].
    pub shards: usize,
    /// Sessions held at most, over all shards (`MAX_PENDING_SESSIONS`).
    pub sessions_max: usize,
    /// Writes in one group (`WRITE_BATCH_MAX`).
    pub write_batch_max: usize,
    /// How Enedis is called.
    pub exchanger: ExchangerSettings,
    /// The client at Enedis.
    pub client: ConfiguredClient,
}

/// The running actors.
pub struct System {
    /// Pending sessions.
    pub registry: CodeRegistryHandle,
    /// Enedis' token endpoint.
    pub exchanger: TokenExchangerHandle,
    /// The store, for writes.
    pub writer: WriterHandle,
    /// The audit record.
    pub audit: Arc<Audit>,
    /// Consents on their way.
    pub consent: Arc<ConsentWorkflow>,
    /// Tokens of our own and metering data, with `FLOW=CLIENT_CREDENTIALS`.
    pub metering: Option<MeteringHandles>,
    /// Starts shards on the threads that will serve.
    pub launcher: Arc<ShardLauncher>,
    /// The interval that devices are told.
    pub interval: Arc<PollInterval>,
    enedis_arbiter: Arbiter,
    background: Vec<JoinHandle<()>>,
}

/// The way to tokens of our own and to metering data.
#[derive(Clone)]
pub struct MeteringHandles {
    /// Checks and renews tokens.
    pub tokens: Arc<TokenService>,
    /// Answers questions for data.
    pub relay: MeterRelayHandle,
    /// Answers questions for contracts.
    pub contracts: Arc<Contracts>,
}

impl System {
    /// Reads the stored sessions and starts everything but the shards. Must run on the main actix thread.
    pub async fn start(ports: Ports, settings: Settings) -> Result<Self, StoreError> {
        let registry = CodeRegistryHandle::new(settings.shards.clamp(1, SLOTS));
        // Taken before the sessions are read: what is changed meanwhile is reported afterwards.
        let (_, cursor) = ports.store.changes(None).await?;
        let stored = stored::read_all(ports.store.as_ref(), &registry, ports.clock.now()).await?;
        let writer =
            StoreWriter::launch(Arc::clone(&ports.store), Arc::clone(&ports.clock), settings.write_batch_max);
        let enedis_arbiter = Arbiter::new();
        // Only metering needs a token of the application's own.
        let own = ports.metering.is_some().then(|| settings.client.clone());
        let exchanger = TokenExchanger::launch(
            &enedis_arbiter.handle(),
            ports.authorization_server,
            Arc::clone(&ports.clock),
            settings.exchanger,
            ports.quota.clone(),
            own.and_then(|own| Some((own.client_id?, own.client_secret))),
            (ports.entropy)(),
        );
        let audit = Audit::start(ports.audit, Arc::clone(&ports.clock), (ports.entropy)());
        let (mut background, mut metering) = (Vec::new(), None);
        let mut issuer = Issuer::Enedis(settings.client.clone());
        if let Some(ours) = ports.metering {
            let MeteringPorts { tokens, earlier, cache, resource_server, relay, consent_life } = ours;
            let (clock, keys) = (Arc::clone(&ports.clock), Arc::clone(&ports.keys));
            let grants = Some(Arc::clone(&tokens));
            let tokens = TokenService::new(
                tokens,
                earlier,
                Arc::clone(&audit),
                Arc::clone(&keys),
                Arc::clone(&clock),
                consent_life,
                (ports.entropy)(),
            );
            background.push(actix_rt::spawn(background::purge(Arc::clone(&tokens))));
            let contracts = Contracts::new(
                Arc::clone(&cache),
                exchanger.clone(),
                Arc::clone(&keys),
                Arc::clone(&clock),
                (ports.entropy)(),
            );
            let relay_ports = RelayPorts {
                server: resource_server,
                cache,
                exchanger: exchanger.clone(),
                quota: ports.quota.clone(),
                grants,
                clock: Arc::clone(&clock),
                keys,
            };
            // On the exchanger's thread: both wait for Enedis, and the one asks the other for its token.
            let relay = MeterRelay::launch(&enedis_arbiter.handle(), relay_ports, relay, (ports.entropy)());
            metering = Some(MeteringHandles { tokens: Arc::clone(&tokens), relay: relay.clone(), contracts });
            let grants = MeterGrantIssuer { tokens, relay, exchanger: exchanger.clone(), clock };
            issuer = Issuer::Ours(Arc::new(grants));
        }
        let consent = ConsentWorkflow::new(
            registry.clone(),
            exchanger.clone(),
            Arc::clone(&audit),
            Arc::clone(&ports.keys),
            Arc::clone(&ports.clock),
            issuer,
            settings.exchanger.deadline,
        );
        let followed = ports.store.is_followed().then(|| Arc::clone(&ports.store));
        let shard = ShardPorts {
            writer: writer.clone(),
            store: ports.store,
            clock: ports.clock,
            keys: ports.keys,
            life: settings.life,
            sessions_max: settings.sessions_max,
        };
        let interval = PollInterval::new(settings.interval, &settings.life);
        let launcher = ShardLauncher::new(
            registry.clone(),
            shard,
            Arc::clone(&interval),
            ports.entropy,
            settings.workers,
            stored,
        );
        background.push(actix_rt::spawn(background::follow_load(launcher.clone(), interval.clone())));
        if let Some(store) = followed {
            let following = background::follow(Arc::clone(&launcher), store, registry.clone(), cursor);
            background.push(actix_rt::spawn(following));
        }
        Ok(Self {
            registry,
            exchanger,
            writer,
            audit,
            consent,
            metering,
            launcher,
            interval,
            enedis_arbiter,
            background,
        })
    }

    /// Waits until no consent is on its way and no write waits, of sessions, of metering data or of the audit record.
    pub async fn idle(&self) {
        self.consent.idle().await;
        while self.writer.pending() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if let Some(metering) = &self.metering {
            metering.relay.idle().await;
        }
        self.audit.idle().await;
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.background.iter().for_each(JoinHandle::abort);
        self.enedis_arbiter.stop();
    }
}
