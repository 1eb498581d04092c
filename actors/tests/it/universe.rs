//! Where one test lives: an actix system on one thread whose time is virtual. When everybody waits, time goes on to the
//! next timer at once, so that a minute costs nothing and every order of events is the same each time.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use actix::Actor;
use actors::base::audit::Audit;
use actors::base::clock::{Clock, SharedClock, Timestamp};
use actors::base::code::{BrowserToken, DeviceCode, StateSuffix, UserCode};
use actors::base::keyring::{BrowserHash, DeviceHash, GrantHash, Keyring, StateHash};
use actors::device_flow::poll::{AuthStyle, PollAnswer};
use actors::device_flow::poll_interval::PollInterval;
use actors::device_flow::registry::{
    BeginAnswer, CodeRegistry, CodeRegistryHandle, ConfirmAnswer, IssueAnswer, ShardPorts, Table,
};
use actors::device_flow::session::{Lifetimes, Presentation, Request};
use actors::device_flow::store::SessionStore;
use actors::device_flow::throttler::PollThrottler;
use actors::device_flow::writer::{StoreWriter, WriterHandle};
use actors::limits::shared_quota::SharedQuota;
use actors::testing::{AuditModel, LedgerModel};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use crate::fake_store::FakeStore;

/// The interval that devices are told.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// Wall time when every test begins.
pub const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// No test needs more virtual time: one that waits for something that never comes ends here.
const LONGEST: Duration = Duration::from_secs(40 * 86_400);
/// Longer than any timer of an actor that was let go.
const LAST_TIMERS: Duration = Duration::from_secs(600);

/// Wall time that goes along with tokio's.
struct TokioClock {
    start: Instant,
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        START + self.start.elapsed()
    }
}

/// What a test is given.
pub struct Universe {
    pub clock: SharedClock,
    pub store: Arc<FakeStore>,
    /// What [`Self::audit`] writes to.
    pub lines: AuditModel,
    pub keys: Arc<Keyring>,
    rng: RefCell<StdRng>,
    /// What is counted with other instances, and by processes one after the other.
    pub ledger: LedgerModel,
}

/// Runs one test. Fails if anything that it started still holds a port after everything was dropped.
pub fn universe(test: impl AsyncFnOnce(&Universe)) {
    universe_of(FakeStore::default(), test);
}

/// The same with a store that other instances share.
pub fn shared_universe(test: impl AsyncFnOnce(&Universe)) {
    universe_of(FakeStore::shared(), test);
}

/// The same with a store of one's own.
pub fn universe_of(store: FakeStore, test: impl AsyncFnOnce(&Universe)) {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    };
    actix_rt::System::with_tokio_rt(runtime).block_on(async {
        let universe = Universe {
            clock: Arc::new(TokioClock { start: Instant::now() }),
            store: Arc::new(store),
            lines: AuditModel::default(),
            ledger: LedgerModel::default(),
            keys: Arc::new(Keyring::new(&[3; 32])),
            rng: RefCell::new(StdRng::seed_from_u64(11)),
        };
        tokio::time::timeout(LONGEST, test(&universe)).await.expect("the test comes to its end");
        tokio::time::sleep(LAST_TIMERS).await;
        // The actors that live on threads of their own need a moment of real time to end.
        let mut patience = 400;
        while universe.holders() > 0 && patience > 0 {
            std::thread::sleep(Duration::from_millis(5));
            patience -= 1;
        }
        assert_eq!(universe.holders(), 0, "an actor or a task still runs");
    });
}

impl Universe {
    /// Who holds the clock or the store besides the universe.
    fn holders(&self) -> usize {
        Arc::strong_count(&self.clock) + Arc::strong_count(&self.store) - 2
    }

    /// Where calls are counted together.
    pub fn quota(&self) -> SharedQuota {
        SharedQuota::new(Arc::new(self.ledger.clone()))
    }

    /// Virtual time since the start.
    pub fn elapsed(&self) -> Duration {
        self.clock.now().since(START)
    }

    /// Draws from the generator.
    pub fn draw<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.rng.borrow_mut())
    }

    /// A device that has not asked for a code yet.
    pub fn device(&self) -> DeviceHash {
        self.keys.device(&self.draw(DeviceCode::generate))
    }

    /// A browser.
    pub fn browser(&self) -> BrowserToken {
        self.draw(BrowserToken::generate)
    }

    /// The browser by its cookie.
    pub fn browser_hash(&self) -> BrowserHash {
        self.keys.browser(&self.browser())
    }

    /// The store as the actors take it.
    pub fn port(&self) -> Arc<dyn SessionStore> {
        Arc::clone(&self.store) as Arc<dyn SessionStore>
    }

    /// An audit record.
    pub fn audit(&self) -> Arc<Audit> {
        Audit::start(Arc::new(self.lines.clone()), Arc::clone(&self.clock), [9; 32])
    }

    /// A writer that commits up to 64 writes at a time.
    pub fn writer(&self) -> WriterHandle {
        StoreWriter::launch(self.port(), Arc::clone(&self.clock), 64)
    }

    /// The interval that devices are told, with little to do.
    pub fn interval() -> Arc<PollInterval> {
        PollInterval::new(INTERVAL, &Lifetimes::default())
    }

    /// A registry of one shard that holds up to 1000 sessions.
    pub fn registry(&self) -> CodeRegistryHandle {
        self.registry_of(1_000)
    }

    /// A registry of one shard that holds up to `sessions_max` sessions.
    pub fn registry_of(&self, sessions_max: usize) -> CodeRegistryHandle {
        let ports = ShardPorts {
            writer: self.writer(),
            store: self.port(),
            clock: Arc::clone(&self.clock),
            keys: Arc::clone(&self.keys),
            life: Lifetimes::default(),
            sessions_max,
        };
        let is_shared = self.store.is_shared();
        let throttler = PollThrottler::new(Arc::clone(&self.clock), Self::interval(), is_shared).start();
        let shard = CodeRegistry::new(ports, throttler.clone(), [5; 32], Table::default()).start();
        let registry = CodeRegistryHandle::new(1);
        registry.attach(0, shard, throttler);
        registry
    }

    /// A device asks for a code.
    pub async fn issue(&self, registry: &CodeRegistryHandle) -> (DeviceHash, UserCode) {
        let device = self.device();
        match registry.issue(device, request()).await {
            Ok(IssueAnswer::Issued(user)) => (device, user),
            other => panic!("no code: {other:?}"),
        }
    }

    /// A browser confirms a code.
    pub async fn confirm(
        &self,
        registry: &CodeRegistryHandle,
        user: &UserCode,
        browser: BrowserHash,
    ) -> ConfirmAnswer {
        registry.confirm(self.keys.user(user), browser, StateSuffix::default(), false).await.unwrap()
    }

    /// A browser confirms a code, and is sent off with a `state`.
    pub async fn confirmed(
        &self,
        registry: &CodeRegistryHandle,
        user: &UserCode,
        browser: BrowserHash,
    ) -> StateHash {
        match self.confirm(registry, user, browser).await {
            ConfirmAnswer::Confirmed(confirmed) => self.keys.state(&confirmed.state),
            other => panic!("not confirmed: {other:?}"),
        }
    }

    /// The authorization code that Enedis returns, to be acted on within the next minute.
    pub fn presentation(&self) -> Presentation {
        let until = self.clock.now() + Duration::from_secs(60);
        Presentation { grant: self.grant(), until, repeatable: false }
    }

    /// The authorization code's hash.
    pub fn grant(&self) -> GrantHash {
        self.keys.grant("granted")
    }

    /// The browser is back with the authorization code.
    pub async fn begin(
        &self,
        registry: &CodeRegistryHandle,
        state: StateHash,
        browser: BrowserHash,
    ) -> BeginAnswer {
        registry.begin(state, browser, self.presentation()).await.unwrap()
    }
}

/// What a device sends to ask for a code.
pub fn request() -> Request {
    Request { client_id: "c".into(), client_secret: None, scope: None, agent: None, network: None }
}

/// A device polls.
pub async fn poll(registry: &CodeRegistryHandle, device: DeviceHash) -> PollAnswer {
    registry.poll(device, "c".into(), None, AuthStyle::Body).await.unwrap()
}

/// Lets time pass.
pub async fn pass(secs: u64) {
    tokio::time::sleep(Duration::from_secs(secs)).await;
}
