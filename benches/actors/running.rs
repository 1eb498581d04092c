//! A system of actors on the embedded store, in a directory that goes with it.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::SystemRunner;
use actors::base::clock::{Clock, ManualClock, Timestamp};
use actors::base::code::{BrowserToken, DeviceCode, StateSuffix, UserCode};
use actors::base::keyring::{BrowserHash, DeviceHash, Keyring};
use actors::base::store::Written;
use actors::device_flow::poll::{AuthStyle, PollAnswer};
use actors::device_flow::registry::{ConfirmAnswer, Confirmed, IssueAnswer};
use actors::device_flow::session::{Lifetimes, Request, Session};
use actors::device_flow::store::{SessionStore, Write};
use actors::enedis::exchanger::ExchangerSettings;
use actors::enedis::port::ConfiguredClient;
use actors::limits::quota::QuotaSettings;
use actors::metering::api_choice::ApiMode;
use actors::metering::relay::RelaySettings;
use actors::system::{MeteringHandles, MeteringPorts, Ports, Settings, System};
use criterion::BenchmarkGroup;
use criterion::measurement::WallTime;
use device_flow_proxy::store::sqlite::{SqliteAudit, SqliteStore, SqliteTokens};
use futures_util::future::join_all;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::fakes::{Curves, Tokens};

/// The interval that devices are told.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// When every bench begins.
pub const START: Timestamp = Timestamp::from_millis(1_793_000_000_000);
/// Between two calls of Enedis: the clock moves on by it, so that the quota is never in the way.
pub const PAUSE: Duration = Duration::from_millis(250);
/// Nothing ends while it is measured.
const FOR_LONG: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Sessions written at once before the start.
const AT_ONCE: usize = 500;

/// The deadlines of every session.
pub const LIFE: Lifetimes = Lifetimes {
    code: FOR_LONG,
    consent: FOR_LONG,
    redelivery: FOR_LONG,
    redemption: FOR_LONG,
    tombstone: FOR_LONG,
    browser_lease: FOR_LONG,
    retry: FOR_LONG,
};

/// `count` if this run measures; a little of it if everything is only tried once.
pub fn sized(count: usize) -> usize {
    if std::env::args().any(|argument| argument == "--bench") { count } else { (count / 100).max(10) }
}

/// An actix system that is never taken down: as it goes, actix polls each actor once more, without a runtime.
pub fn runner() -> &'static SystemRunner {
    thread_local! {
        static RUNNER: &'static SystemRunner = Box::leak(Box::new(actix_rt::System::new()));
    }
    RUNNER.with(|runner| *runner)
}

/// Measures a question that `running`, which starts when it is first needed, is asked again and again.
#[expect(clippy::needless_pass_by_value, reason = "closures are handed over")]
pub fn ask(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    running: &impl Deref<Target = Running>,
    question: impl AsyncFn(&Running),
) {
    group.bench_function(name, |b| {
        let running: &Running = running;
        // What it needs is made now.
        runner().block_on(question(running));
        b.iter(|| runner().block_on(question(running)));
    });
}

/// What a device sends to ask for a code.
pub fn request() -> Request {
    Request {
        client_id: "ha4uh-4568_tr".into(),
        client_secret: None,
        scope: None,
        agent: Some("DomoticzLinky/2.6.1".into()),
        network: None,
    }
}

/// What runs.
pub struct Plan {
    /// Sessions pending from the start.
    pub pending: usize,
    /// Writes in one transaction, at most.
    pub write_batch_max: usize,
    /// Whether devices are given tokens of our own, and may ask for metering data.
    pub metering: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self { pending: 0, write_batch_max: 512, metering: false }
    }
}

/// A system of actors, one shard of which runs on this thread.
pub struct Running {
    pub system: System,
    pub keys: Arc<Keyring>,
    pub clock: Arc<ManualClock>,
    /// The sessions that are pending from the start.
    pub pending: Vec<(DeviceCode, UserCode)>,
    rng: RefCell<StdRng>,
    dir: tempfile::TempDir,
}

impl Running {
    /// Starts one; waits for it.
    pub fn start(plan: &Plan) -> Self {
        runner().block_on(Self::launch(plan))
    }

    async fn launch(plan: &Plan) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let keys = Arc::new(Keyring::new(&[3; 32]));
        let clock = Arc::new(ManualClock::new(START));
        let mut rng = StdRng::seed_from_u64(1);
        let store = SqliteStore::open(dir.path()).expect("a store");
        let pending = fill(&store, &keys, &mut rng, plan.pending).await;
        let quota = QuotaSettings { per_second: 5, per_hour: u32::MAX };
        let metering = plan.metering.then(|| MeteringPorts {
            earlier: None,
            tokens: Arc::new(SqliteTokens::open(dir.path()).expect("a store of tokens")),
            cache: Arc::new(store.meters().expect("a cache")),
            resource_server: Box::new(|| Rc::new(Curves::default())),
            relay: RelaySettings {
                prefetch: false,
                mode: ApiMode::Auto,
                quota,
                attempt: Duration::from_secs(5),
                cache_max_bytes: 1 << 30,
                memory_max_bytes: 64 << 20,
            },
            consent_life: FOR_LONG,
        });
        let ports = Ports {
            store: Arc::new(store),
            audit: Arc::new(SqliteAudit::open(dir.path()).expect("an audit record")),
            metering,
            quota: None,
            authorization_server: Box::new(|| Rc::new(Tokens)),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            keys: Arc::clone(&keys),
            entropy: Arc::new(|| [5; 32]),
        };
        let settings = Settings {
            life: LIFE,
            interval: INTERVAL,
            workers: 1,
            shards: 1,
            sessions_max: 10_000_000,
            write_batch_max: plan.write_batch_max,
            exchanger: ExchangerSettings {
                in_flight: 4,
                quota,
                attempt: Duration::from_secs(5),
                deadline: Duration::from_secs(10),
            },
            client: ConfiguredClient {
                client_id: Some("application".into()),
                client_secret: Some("s".to_owned().into()),
            },
        };
        let system = System::start(ports, settings).await.expect("the actors start");
        system.launcher.start_here();
        Self { system, keys, clock, pending, rng: RefCell::new(rng), dir }
    }

    /// What answers questions for data.
    pub fn metering(&self) -> &MeteringHandles {
        self.system.metering.as_ref().expect("started with metering")
    }

    /// Keeps the store from writing, until the connection is dropped.
    pub fn lock(&self) -> rusqlite::Connection {
        let lock = rusqlite::Connection::open(self.dir.path().join("sessions.sqlite")).expect("the file");
        lock.execute_batch("BEGIN IMMEDIATE").expect("the lock");
        lock
    }

    /// Draws from the generator.
    pub fn draw<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.rng.borrow_mut())
    }

    /// A session that nobody has asked for yet.
    pub fn unasked(&self) -> Session {
        let (device, user) = self.draw(|rng| (DeviceCode::generate(rng), UserCode::generate(rng)));
        Session::open(self.keys.device(&device), self.keys.user(&user), request(), START, &LIFE)
    }

    /// Asks for a device code.
    pub async fn issue(&self) -> (DeviceHash, UserCode) {
        let device = self.keys.device(&self.draw(DeviceCode::generate));
        match self.system.registry.issue(device, request()).await {
            Ok(IssueAnswer::Issued(user)) => (device, user),
            other => panic!("no code: {other:?}"),
        }
    }

    /// Asks for `count` device codes at once.
    pub async fn issue_together(&self, count: usize) {
        join_all((0..count).map(|_| self.issue())).await;
    }

    /// One browser confirms a code.
    pub async fn confirm(&self, user: &UserCode, browser: BrowserHash) -> Confirmed {
        let suffix = StateSuffix::default();
        match self.system.registry.confirm(self.keys.user(user), browser, suffix, true).await {
            Ok(ConfirmAnswer::Confirmed(confirmed)) => confirmed,
            other => panic!("not confirmed: {other:?}"),
        }
    }

    /// A code that a browser has confirmed.
    pub async fn confirmed(&self) -> (DeviceHash, BrowserToken, Confirmed) {
        let (device, user) = self.issue().await;
        let browser = self.draw(BrowserToken::generate);
        let confirmed = self.confirm(&user, self.keys.browser(&browser)).await;
        (device, browser, confirmed)
    }

    /// A device polls.
    pub async fn poll(&self, device: DeviceHash) -> PollAnswer {
        let client_id = Arc::clone(&request().client_id);
        self.system
            .registry
            .poll(device, client_id, None, AuthStyle::Body)
            .await
            .expect("the registry answers")
    }
}

/// Writes `count` pending sessions into a store.
async fn fill(
    store: &SqliteStore,
    keys: &Keyring,
    rng: &mut StdRng,
    count: usize,
) -> Vec<(DeviceCode, UserCode)> {
    let mut stored = Vec::with_capacity(count);
    while stored.len() < count {
        let drawn: Vec<_> = (0..AT_ONCE.min(count - stored.len()))
            .map(|_| (DeviceCode::generate(rng), UserCode::generate(rng)))
            .collect();
        let session = |(device, user): &(DeviceCode, UserCode)| {
            Session::open(keys.device(device), keys.user(user), request(), START, &LIFE)
        };
        let written = store.commit(drawn.iter().map(session).map(Write::Insert).collect()).await;
        // Of so many codes two may be the same; the second is not stored.
        let applied = |written| matches!(written, Ok(Written::Applied));
        stored
            .extend(drawn.into_iter().zip(written).filter_map(|(codes, how)| applied(how).then_some(codes)));
    }
    stored
}
