//! Starts the actors in the order they need each other, and stops them in the order their callers are done.
//!
//! The shards are not started here: each HTTP worker starts its own by [`ShardLauncher::start_here`], because a
//! shard on the thread that serves the socket answers without waking another one.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join;
use tokio::sync::watch;

use crate::clock::SharedClock;
use crate::consent::{Application, ConsentDesk};
use crate::exchanger::{ExchangerSettings, TokenExchanger, TokenExchangerHandle};
use crate::keys::Keyring;
use crate::poll::Pacer;
use crate::registry::{CodeRegistry, CodeRegistryHandle, ShardPorts};
use crate::session::{Lifetimes, Phase, Session};
use crate::store::{SessionStore, StoreError};
use crate::throttler::PollThrottler;
use crate::upstream::TokenEndpoint;
use crate::writer::{StoreWriter, WriterHandle};

/// How often instances tell each other what they did.
const FOLLOW_EVERY: Duration = Duration::from_millis(400);

/// What the outside world provides.
pub struct Ports {
    /// Durable storage.
    pub store: Arc<dyn SessionStore>,
    /// Makes the client of Enedis' token endpoint, on the exchanger's thread.
    pub endpoint: Box<dyn FnOnce() -> Rc<dyn TokenEndpoint> + Send>,
    /// Wall time.
    pub clock: SharedClock,
    /// Hashes and seals.
    pub keys: Arc<Keyring>,
    /// Seeds for the actors' generators, from the operating system.
    pub entropy: Arc<dyn Fn() -> [u8; 32] + Send + Sync>,
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
    /// Registry shards, at most [`crate::keys::SLOTS`].
    pub shards: usize,
    /// Sessions held at most, over all shards (`MAX_PENDING_SESSIONS`).
    pub sessions_max: usize,
    /// Writes in one group (`WRITE_BATCH_MAX`).
    pub write_batch_max: usize,
    /// The door to Enedis.
    pub exchanger: ExchangerSettings,
    /// The application at Enedis.
    pub application: Application,
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
    pub consent: ConsentDesk,
    /// Starts shards on the threads that will serve.
    pub launcher: ShardLauncher,
    exchanger_arbiter: Arbiter,
}

impl System {
    /// Reads the stored sessions and starts everything but the shards. Must run on the main actix thread.
    pub async fn start(ports: Ports, settings: Settings) -> Result<Self, StoreError> {
        let shards = settings.shards.clamp(1, crate::keys::SLOTS);
        let registry = CodeRegistryHandle::new(shards);
        let stored = read_all(&ports, &registry).await?;
        let writer =
            StoreWriter::launch(Arc::clone(&ports.store), Arc::clone(&ports.clock), settings.write_batch_max);
        let exchanger_arbiter = Arbiter::new();
        let exchanger = TokenExchanger::launch(
            &exchanger_arbiter.handle(),
            ports.endpoint,
            Arc::clone(&ports.clock),
            settings.exchanger,
            (ports.entropy)(),
        );
        let consent = ConsentDesk::new(
            registry.clone(),
            exchanger.clone(),
            Arc::clone(&ports.keys),
            Arc::clone(&ports.clock),
            settings.application.clone(),
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
                    sessions_max: settings.sessions_max.div_ceil(shards),
                },
                interval: settings.interval,
                entropy: ports.entropy,
                workers: settings.workers.max(1),
                next_worker: AtomicUsize::new(0),
                stored: Mutex::new(stored),
                ready: watch::Sender::new(false),
            }),
        };
        Ok(Self { registry, exchanger, writer, consent, launcher, exchanger_arbiter })
    }

    /// Waits until no consent is on its way and no write waits.
    pub async fn idle(&self) {
        self.consent.idle().await;
        while self.writer.pending() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.exchanger_arbiter.stop();
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
    stored: Mutex<Vec<Vec<Session>>>,
    ready: watch::Sender<bool>,
}

/// Launchers made by this process; each has its number, from 1.
static LAUNCHES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    // The HTTP server asks once for each socket; a thread takes its share of one launcher once.
    static SERVED: Cell<usize> = const { Cell::new(0) };
}

impl ShardLauncher {
    /// Starts this thread's share of the shards, each with its throttler beside it. Needs a local task set.
    pub fn start_here(&self) {
        let launch = &self.inner;
        if SERVED.replace(launch.id) == launch.id {
            return;
        }
        let worker = launch.next_worker.fetch_add(1, Ordering::Relaxed);
        for shard in (worker..launch.registry.shards()).step_by(launch.workers) {
            let sessions = launch
                .stored
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .get_mut(shard)
                .map(std::mem::take)
                .unwrap_or_default();
            let (clock, shared) = (Arc::clone(&launch.ports.clock), launch.ports.store.is_shared());
            let throttler = PollThrottler::new(clock, launch.interval, shared).start();
            let pacer = throttler.clone().recipient();
            let registry =
                CodeRegistry::new(launch.ports.clone(), pacer, (launch.entropy)(), sessions).start();
            let throttler = Pacer {
                observe: throttler.clone().recipient(),
                take: throttler.clone().recipient(),
                note: throttler.recipient(),
            };
            launch.registry.attach(shard, registry, throttler);
        }
        if launch.registry.is_complete() {
            launch.ready.send_replace(true);
        }
    }

    /// Waits until every shard was started.
    pub async fn ready(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.inner.ready.subscribe().wait_for(|ready| *ready).await;
    }
}

async fn read_all(ports: &Ports, registry: &CodeRegistryHandle) -> Result<Vec<Vec<Session>>, StoreError> {
    let mut shards: Vec<Vec<Session>> = vec![Vec::new(); registry.shards()];
    let mut after = None;
    loop {
        let page = ports.store.page(after, ports.clock.now()).await?;
        for mut session in page.sessions {
            if !ports.store.is_shared()
                && let Phase::Exchanging { until, .. } = &mut session.phase
            {
                // Whoever was exchanging ended with the process before.
                *until = (*until).min(ports.clock.now());
            }
            shards[registry.shard_of(session.device.slot())].push(session);
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(shards),
        }
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
