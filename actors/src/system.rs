//! Starts the actors in the order they need each other, and stops them in the order their callers are done.
//!
//! The shards are not started here: each HTTP worker starts its own by [`ShardLauncher::start_here`], because a
//! shard on the thread that serves the socket answers without waking another one.

mod stored;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join;
use tokio::sync::watch;

use crate::base::clock::SharedClock;
use crate::base::grant_issuer::GrantIssuer;
use crate::base::keyring::Keyring;
use crate::base::store::StoreError;
use crate::device_flow::consent::ConsentWorkflow;
use crate::device_flow::registry::{CodeRegistry, CodeRegistryHandle, ShardPorts, Table};
use crate::device_flow::session::Lifetimes;
use crate::device_flow::store::SessionStore;
use crate::device_flow::throttler::PollThrottler;
use crate::device_flow::writer::{StoreWriter, WriterHandle};
use crate::enedis::exchanger::{ExchangerSettings, TokenExchanger, TokenExchangerHandle};
use crate::enedis::port::{AuthorizationServer, ConfiguredClient};
use crate::metering::cache::MeterCache;
use crate::metering::consent::MeterGrantIssuer;
use crate::metering::relay::{MeterRelay, MeterRelayHandle, RelayPorts, RelaySettings};
use crate::metering::resource_server::ResourceServer;
use crate::metering::tokens::TokenStore;
use crate::metering::tokens::service::TokenService;

/// How often instances tell each other what they did.
const FOLLOW_EVERY: Duration = Duration::from_millis(400);

/// How often tokens that have expired are deleted.
const PURGE_EVERY: Duration = Duration::from_secs(60);
/// Steps of one round of deletions, each of some hundred tokens.
const PURGE_STEPS: usize = 100;

/// What the outside world provides.
pub struct Ports {
    /// Durable storage.
    pub store: Arc<dyn SessionStore>,
    /// Makes the client of Enedis' authorization server, on the exchanger's thread.
    pub authorization_server: Box<dyn FnOnce() -> Rc<dyn AuthorizationServer> + Send>,
    /// With `FLOW=CLIENT_CREDENTIALS`: what tokens of our own and metering data need besides.
    pub metering: Option<MeteringPorts>,
    /// Wall time.
    pub clock: SharedClock,
    /// Hashes and seals.
    pub keys: Arc<Keyring>,
    /// Seeds for the actors' generators, from the operating system.
    pub entropy: Arc<dyn Fn() -> [u8; 32] + Send + Sync>,
}

/// What tokens of our own and metering data need.
pub struct MeteringPorts {
    /// Storage of our own tokens.
    pub tokens: Arc<dyn TokenStore>,
    /// Storage of what is remembered of meters.
    pub cache: Arc<dyn MeterCache>,
    /// Makes the client of Enedis' data APIs, on the relay's thread.
    pub resource_server: Box<dyn FnOnce() -> Rc<dyn ResourceServer> + Send>,
    /// The relay.
    pub relay: RelaySettings,
    /// Life of a consent (`DURATION`), which bounds every token.
    pub consent_life: Duration,
    /// Whether people are sent to the v2 consent page.
    pub asks_v2: bool,
}

/// How the actors behave.
#[derive(Clone)]
pub struct Settings {
    /// Deadlines of a flow.
    pub life: Lifetimes,
    /// The advertised poll interval.
    pub interval: Duration,
    /// Threads that will call [`ShardLauncher::start_here`].
    pub workers: usize,
    /// Registry shards, at most [`crate::base::keyring::SLOTS`].
    pub shards: usize,
    /// Sessions held at most, over all shards (`MAX_PENDING_SESSIONS`).
    pub sessions_max: usize,
    /// Writes in one group (`WRITE_BATCH_MAX`).
    pub write_batch_max: usize,
    /// The door to Enedis.
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
    /// Consents on their way.
    pub consent: ConsentWorkflow,
    /// Tokens of our own and metering data, with `FLOW=CLIENT_CREDENTIALS`.
    pub metering: Option<MeteringHandles>,
    /// Starts shards on the threads that will serve.
    pub launcher: ShardLauncher,
    enedis_arbiter: Arbiter,
}

/// The way to tokens of our own and to metering data.
#[derive(Clone)]
pub struct MeteringHandles {
    /// Checks and renews tokens.
    pub tokens: TokenService,
    /// Answers questions for data.
    pub relay: MeterRelayHandle,
}

impl System {
    /// Reads the stored sessions and starts everything but the shards. Must run on the main actix thread.
    pub async fn start(ports: Ports, settings: Settings) -> Result<Self, StoreError> {
        let shards = settings.shards.clamp(1, crate::base::keyring::SLOTS);
        let registry = CodeRegistryHandle::new(shards);
        let stored = stored::read_all(ports.store.as_ref(), &registry, ports.clock.now()).await?;
        let writer =
            StoreWriter::launch(Arc::clone(&ports.store), Arc::clone(&ports.clock), settings.write_batch_max);
        let enedis_arbiter = Arbiter::new();
        let own = ports.metering.is_some().then(|| settings.client.clone());
        let exchanger = TokenExchanger::launch(
            &enedis_arbiter.handle(),
            ports.authorization_server,
            Arc::clone(&ports.clock),
            settings.exchanger,
            own.and_then(|own| Some((own.client_id?, own.client_secret))),
            (ports.entropy)(),
        );
        let door = Door {
            arbiter: enedis_arbiter.handle(),
            exchanger: exchanger.clone(),
            clock: Arc::clone(&ports.clock),
            keys: Arc::clone(&ports.keys),
            entropy: Arc::clone(&ports.entropy),
        };
        let (issuer, metering) = ports.metering.map(|ports| door.start_metering(ports)).unzip();
        let consent = ConsentWorkflow::new(
            registry.clone(),
            exchanger.clone(),
            Arc::clone(&ports.keys),
            Arc::clone(&ports.clock),
            settings.client.clone(),
            issuer,
            settings.exchanger.deadline,
        );
        if ports.store.is_shared() {
            actix_rt::spawn(follow(Arc::clone(&ports.store), registry.clone()));
        }
        let launcher = ShardLauncher {
            inner: Arc::new(Launch {
                id: LAUNCHES.fetch_add(1, Ordering::Relaxed) + 1,
                registry: registry.clone(),
                ports: ShardPorts {
                    writer: writer.clone(),
                    store: ports.store,
                    clock: ports.clock,
                    keys: ports.keys,
                    life: settings.life,
                    sessions_max: settings.sessions_max,
                },
                interval: settings.interval,
                entropy: ports.entropy,
                workers: settings.workers.max(1),
                next_worker: AtomicUsize::new(0),
                stored: Mutex::new(stored),
                ready: watch::Sender::new(false),
            }),
        };
        Ok(Self { registry, exchanger, writer, consent, metering, launcher, enedis_arbiter })
    }

    /// Waits until no consent is on its way and no write waits, of sessions or of metering data.
    pub async fn idle(&self) {
        self.consent.idle().await;
        while self.writer.pending() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if let Some(metering) = &self.metering {
            metering.relay.idle().await;
        }
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.enedis_arbiter.stop();
    }
}

/// What the relay shares with the exchanger.
struct Door {
    arbiter: ArbiterHandle,
    exchanger: TokenExchangerHandle,
    clock: SharedClock,
    keys: Arc<Keyring>,
    entropy: Arc<dyn Fn() -> [u8; 32] + Send + Sync>,
}

impl Door {
    fn start_metering(self, ports: MeteringPorts) -> (Arc<dyn GrantIssuer>, MeteringHandles) {
        let MeteringPorts { tokens, cache, resource_server, relay, consent_life, asks_v2 } = ports;
        let tokens = TokenService::new(
            tokens,
            Arc::clone(&self.keys),
            Arc::clone(&self.clock),
            consent_life,
            (self.entropy)(),
        );
        actix_rt::spawn(purge(tokens.clone()));
        let seed = (self.entropy)();
        let Self { arbiter, exchanger, clock, keys, .. } = self;
        let ports = RelayPorts {
            server: resource_server,
            cache,
            exchanger: exchanger.clone(),
            clock: Arc::clone(&clock),
            keys,
        };
        let relay = MeterRelay::launch(&arbiter, ports, relay, seed);
        let handles = MeteringHandles { tokens: tokens.clone(), relay: relay.clone() };
        (Arc::new(MeterGrantIssuer { tokens, relay, exchanger, clock, asks_v2 }), handles)
    }
}

/// Deletes tokens that have expired, until the system stops.
async fn purge(tokens: TokenService) {
    let mut tick = tokio::time::interval(PURGE_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for _ in 0..PURGE_STEPS {
            match tokens.purge().await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "expired tokens could not be deleted; trying again later");
                    break;
                }
            }
        }
    }
}

/// Starts the shards, a share of them on each thread that asks.
#[derive(Clone)]
pub struct ShardLauncher {
    inner: Arc<Launch>,
}

struct Launch {
    id: usize,
    registry: CodeRegistryHandle,
    ports: ShardPorts,
    interval: Duration,
    entropy: Arc<dyn Fn() -> [u8; 32] + Send + Sync>,
    workers: usize,
    next_worker: AtomicUsize,
    stored: Mutex<Vec<Table>>,
    ready: watch::Sender<bool>,
}

/// Launchers made by this process; each has its number, from 1.
static LAUNCHES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    // The HTTP server asks once for each socket; a thread takes its share of one launcher once.
    static SERVED: Cell<(usize, Home)> = const { Cell::new((0, Home { slots: 0 })) };
}

/// The slots whose sessions live on one thread.
#[derive(Clone, Copy, Debug)]
pub struct Home {
    slots: u64,
}

// A bit for each slot.
const _: () = assert!(crate::base::keyring::SLOTS == u64::BITS as usize);

impl Home {
    /// Whether `slot` is one of them.
    pub fn has(self, slot: usize) -> bool {
        self.slots >> slot & 1 == 1
    }

    /// Whether no session lives here, as where there are fewer shards than threads.
    pub fn is_empty(self) -> bool {
        self.slots == 0
    }
}

impl ShardLauncher {
    /// Starts this thread's share of the shards, each with its throttler beside it, and says which sessions that are.
    /// Needs a local task set.
    pub fn start_here(&self) -> Home {
        let launch = &self.inner;
        let (served, home) = SERVED.get();
        if served == launch.id {
            return home;
        }
        let mut home = Home { slots: 0 };
        let worker = launch.next_worker.fetch_add(1, Ordering::Relaxed);
        for shard in (worker..launch.registry.shards()).step_by(launch.workers) {
            let table = launch
                .stored
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .get_mut(shard)
                .map(std::mem::take)
                .unwrap_or_default();
            let (clock, shared) = (Arc::clone(&launch.ports.clock), launch.ports.store.is_shared());
            let throttler = PollThrottler::new(clock, launch.interval, shared).start();
            let registry =
                CodeRegistry::new(launch.ports.clone(), throttler.clone(), (launch.entropy)(), table).start();
            launch.registry.attach(shard, registry, throttler);
            for slot in
                (0..crate::base::keyring::SLOTS).filter(|slot| launch.registry.shard_of(*slot) == shard)
            {
                home.slots |= 1 << slot;
            }
        }
        if launch.registry.is_complete() {
            launch.ready.send_replace(true);
        }
        SERVED.set((launch.id, home));
        home
    }

    /// Waits until every shard was started.
    pub async fn ready(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.inner.ready.subscribe().wait_for(|ready| *ready).await;
    }
}

/// Brings what other instances did to the shards, until the system stops: their decisions, and the polls they answered.
async fn follow(store: Arc<dyn SessionStore>, registry: CodeRegistryHandle) {
    let mut cursor = None;
    let mut tick = tokio::time::interval(FOLLOW_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tick.tick().await;
        // Pacing may be lost; whether the store answers is told by the question for decisions.
        let polled = registry.take_polls().await;
        let (polled, changed) = join(store.share_polls(polled), store.changes(cursor)).await;
        registry.note_polls(polled.unwrap_or_default());
        match changed {
            Ok((changed, next)) => {
                failing = false;
                cursor = Some(next);
                for session in changed {
                    registry.learn(session);
                }
            }
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(%error, "decisions of other instances cannot be read");
            }
            Err(_) => {}
        }
    }
}
