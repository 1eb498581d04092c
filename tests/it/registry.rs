//! The actors through their handles, on the real SQLite store, with faults at the store's door: what is refused,
//! what is in doubt, and what is answered afterwards.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use actors::base::clock::{Clock, ManualClock, Timestamp};
use actors::base::code::{BrowserToken, DeviceCode, StateSuffix, UserCode};
use actors::base::keyring::{DeviceHash, Keyring};
use actors::base::store::{StoreError, Written};
use actors::base::token_set::TokenSet;
use actors::device_flow::consent::{AuthorizationReturn, ConsentOutcome, Returned};
use actors::device_flow::poll::{AuthStyle, PollAnswer};
use actors::device_flow::registry::{ConfirmAnswer, Confirmed, FindAnswer, IssueAnswer};
use actors::device_flow::session::{Lifetimes, Request, Session};
use actors::device_flow::store::{Cursor, Page, Polled, SessionKey, SessionStore, Write};
use actors::enedis::exchanger::ExchangerSettings;
use actors::enedis::port::{Answer, Attempt, AuthorizationServer, Call, ConfiguredClient};
use actors::limits::quota::QuotaSettings;
use actors::system::{Ports, Settings, System};
use async_trait::async_trait;
use device_flow_proxy::store::sqlite::SqliteStore;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// The real store behind a door that fails on demand.
struct Faulty {
    inner: Arc<dyn SessionStore>,
    /// Commits fail, nothing is written.
    abort: AtomicBool,
    /// Commits are written, but their outcome is reported as unknown.
    doubt: AtomicBool,
    /// Reads fail.
    blind: AtomicBool,
    commits: AtomicUsize,
}

#[async_trait]
impl SessionStore for Faulty {
    async fn commit(&self, writes: Vec<Write>) -> Vec<Result<Written, StoreError>> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        let n = writes.len();
        if self.abort.load(Ordering::SeqCst) {
            return vec![Err(StoreError::Aborted("on purpose".into())); n];
        }
        let doubt = self.doubt.load(Ordering::SeqCst);
        let outcomes = self.inner.commit(writes).await;
        if doubt { vec![Err(StoreError::Unknown("on purpose".into())); n] } else { outcomes }
    }

    async fn find(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>, StoreError> {
        if self.blind.load(Ordering::SeqCst) {
            return Err(StoreError::Aborted("on purpose".into()));
        }
        self.inner.find(key, now).await
    }

    async fn page(&self, after: Option<DeviceHash>, now: Timestamp) -> Result<Page, StoreError> {
        self.inner.page(after, now).await
    }

    async fn purge(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.inner.purge(now).await
    }

    async fn changes(&self, cursor: Option<Cursor>) -> Result<(Vec<Session>, Cursor), StoreError> {
        self.inner.changes(cursor).await
    }

    async fn share_polls(&self, polled: Vec<Polled>) -> Result<Vec<Polled>, StoreError> {
        self.inner.share_polls(polled).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }
}

/// A token endpoint that always grants.
struct Granting;

#[async_trait(?Send)]
impl AuthorizationServer for Granting {
    async fn call(&self, _: Call, _: Duration) -> Attempt {
        let tokens =
            [("access_token", "a".into()), ("refresh_token", "r".into()), ("expires_in", 12_600.into())];
        Attempt::Answered(Answer::Token(Ok(TokenSet::own(tokens))))
    }
}

struct Bench {
    system: System,
    store: Arc<Faulty>,
    clock: Arc<ManualClock>,
    keys: Arc<Keyring>,
    rng: StdRng,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let inner: Arc<dyn SessionStore> = Arc::new(SqliteStore::open(dir.path()).unwrap());
        let off = || AtomicBool::new(false);
        let store = Arc::new(Faulty {
            inner,
            abort: off(),
            doubt: off(),
            blind: off(),
            commits: AtomicUsize::new(0),
        });
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
        let keys = Arc::new(Keyring::new(&[3; 32]));
        let ports = Ports {
            store: Arc::clone(&store) as Arc<dyn SessionStore>,
            metering: None,
            authorization_server: Box::new(|| Rc::new(Granting)),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            keys: Arc::clone(&keys),
            entropy: Arc::new(|| [5; 32]),
        };
        let settings = Settings {
            life: Lifetimes::default(),
            interval: Duration::from_secs(5),
            workers: 1,
            shards: 4,
            sessions_max: 1_000,
            write_batch_max: 64,
            exchanger: ExchangerSettings {
                in_flight: 1,
                quota: QuotaSettings { per_second: 1_000, per_hour: 100_000 },
                attempt: Duration::from_secs(5),
                deadline: Duration::from_secs(10),
            },
            client: ConfiguredClient::default(),
        };
        let system = System::start(ports, settings).await.unwrap();
        system.launcher.start_here();
        Self { system, store, clock, keys, rng: StdRng::seed_from_u64(11), _dir: dir }
    }

    async fn issue(&mut self) -> (DeviceCode, IssueAnswer) {
        let code = DeviceCode::generate(&mut self.rng);
        let device = self.keys.device(&code);
        let request = Request { client_id: "c".into(), client_secret: None, scope: None, agent: None };
        let answer = self.system.registry.issue(device, request).await.unwrap();
        (code, answer)
    }

    async fn issued(&mut self) -> (DeviceCode, UserCode) {
        match self.issue().await {
            (device, IssueAnswer::Issued(user)) => (device, user),
            (_, other) => panic!("{other:?}"),
        }
    }

    async fn poll(&self, code: &DeviceCode) -> PollAnswer {
        let device = self.keys.device(code);
        self.system.registry.poll(device, "c".into(), None, AuthStyle::Body).await.unwrap()
    }

    async fn confirm(&self, user: &UserCode, browser: &BrowserToken) -> ConfirmAnswer {
        let (user, browser) = (self.keys.user(user), self.keys.browser(browser));
        self.system.registry.confirm(user, browser, StateSuffix::default(), false).await.unwrap()
    }

    async fn confirmed(&self, user: &UserCode, browser: &BrowserToken) -> Confirmed {
        match self.confirm(user, browser).await {
            ConfirmAnswer::Confirmed(confirmed) => confirmed,
            other => panic!("{other:?}"),
        }
    }

    async fn complete(&self, confirmed: &Confirmed, browser: &BrowserToken) -> ConsentOutcome {
        let returned = AuthorizationReturn {
            state: confirmed.state.clone(),
            browser: browser.clone(),
            returned: Returned::Code { code: "granted".into(), usage_point_id: None },
        };
        self.system.consent.complete(returned).await
    }
}

#[actix_rt::test]
async fn what_the_store_refuses_did_not_happen() {
    let mut bench = Bench::start().await;
    let (device, user) = bench.issued().await;
    let browser = BrowserToken::generate(&mut bench.rng);
    bench.store.abort.store(true, Ordering::SeqCst);
    assert!(matches!(bench.issue().await.1, IssueAnswer::Unavailable));
    assert!(matches!(bench.confirm(&user, &browser).await, ConfirmAnswer::Unavailable));
    // Polls are answered from memory all the same.
    assert_eq!(bench.poll(&device).await, PollAnswer::Pending { interval_secs: 5 });
    bench.store.abort.store(false, Ordering::SeqCst);
    let confirmed = bench.confirmed(&user, &browser).await;
    assert_eq!(bench.complete(&confirmed, &browser).await, ConsentOutcome::Approved);
    bench.store.abort.store(true, Ordering::SeqCst);
    assert_eq!(bench.poll(&device).await, PollAnswer::Unavailable, "a token is not handed out undurably");
    bench.store.abort.store(false, Ordering::SeqCst);
    assert!(matches!(bench.poll(&device).await, PollAnswer::Token(_)));
}

#[actix_rt::test]
async fn a_write_in_doubt_is_looked_up_before_anything_is_said() {
    let mut bench = Bench::start().await;
    let (device, user) = bench.issued().await;
    let browser = BrowserToken::generate(&mut bench.rng);
    // Written, but the answer was lost: found to be ours.
    bench.store.doubt.store(true, Ordering::SeqCst);
    let confirmed = bench.confirmed(&user, &browser).await;
    assert_eq!(bench.complete(&confirmed, &browser).await, ConsentOutcome::Approved);
    // Written, the answer lost, and the store cannot be read either: nobody is told anything wrong.
    bench.store.blind.store(true, Ordering::SeqCst);
    assert_eq!(bench.poll(&device).await, PollAnswer::Unavailable);
    assert_eq!(bench.poll(&device).await, PollAnswer::Unavailable);
    bench.store.blind.store(false, Ordering::SeqCst);
    bench.store.doubt.store(false, Ordering::SeqCst);
    // It had been redeemed; the device gets its token, once.
    let PollAnswer::Token(first) = bench.poll(&device).await else { panic!("no token") };
    assert_eq!(bench.poll(&device).await, PollAnswer::Token(first));
    let snapshot = bench.system.registry.snapshot().await.unwrap();
    assert_eq!(snapshot.sessions, 1);
}

#[actix_rt::test]
async fn a_consent_survives_a_store_that_is_away_for_a_moment() {
    let mut bench = Bench::start().await;
    let (device, user) = bench.issued().await;
    let browser = BrowserToken::generate(&mut bench.rng);
    let confirmed = bench.confirmed(&user, &browser).await;
    let before = bench.store.commits.load(Ordering::SeqCst);
    let complete = bench.complete(&confirmed, &browser);
    let interrupt = async {
        // The code is marked as presented; then the store goes away while the token comes back.
        while bench.store.commits.load(Ordering::SeqCst) == before {
            tokio::task::yield_now().await;
        }
        bench.store.abort.store(true, Ordering::SeqCst);
        while bench.store.commits.load(Ordering::SeqCst) < before + 2 {
            tokio::task::yield_now().await;
        }
        bench.store.abort.store(false, Ordering::SeqCst);
    };
    let (outcome, ()) = futures_util::future::join(complete, interrupt).await;
    assert_eq!(outcome, ConsentOutcome::Approved);
    assert!(matches!(bench.poll(&device).await, PollAnswer::Token(_)));
}

#[actix_rt::test]
async fn two_returns_at_once_are_one_exchange() {
    let mut bench = Bench::start().await;
    let (_, user) = bench.issued().await;
    let browser = BrowserToken::generate(&mut bench.rng);
    let confirmed = bench.confirmed(&user, &browser).await;
    let both = futures_util::future::join_all((0..8).map(|_| bench.complete(&confirmed, &browser))).await;
    assert!(both.iter().all(|outcome| *outcome == ConsentOutcome::Approved), "{both:?}");
    assert_eq!(bench.system.exchanger.snapshot().await.unwrap().token.attempts, 1);
}

#[actix_rt::test]
async fn sessions_leave_memory_and_store_after_their_tombstone() {
    let mut bench = Bench::start().await;
    let (device, user) = bench.issued().await;
    let find = || bench.system.registry.find_code(bench.keys.user(&user));
    assert!(matches!(find().await.unwrap(), FindAnswer::Open(_)));
    bench.clock.advance(Duration::from_secs(300));
    assert!(matches!(find().await.unwrap(), FindAnswer::Unknown));
    assert_eq!(bench.poll(&device).await, PollAnswer::Expired);
    bench.clock.advance(Duration::from_secs(302));
    // The sweep looks once a second, in real time.
    let swept = crate::fixture::eventually("the sweep", || async {
        (bench.system.registry.snapshot().await.unwrap().sessions == 0).then_some(())
    });
    swept.await;
    assert_eq!(bench.poll(&device).await, PollAnswer::Invalid);
    assert_eq!(bench.store.purge(bench.clock.now()).await.unwrap(), 1);
}

#[actix_rt::test]
async fn writes_that_come_together_are_committed_together() {
    let mut bench = Bench::start().await;
    let before = bench.store.commits.load(Ordering::SeqCst);
    let codes: Vec<_> = (0..400).map(|_| DeviceCode::generate(&mut bench.rng)).collect();
    let issue = codes.iter().map(|code| {
        let request = Request { client_id: "c".into(), client_secret: None, scope: None, agent: None };
        bench.system.registry.issue(bench.keys.device(code), request)
    });
    let answers = futures_util::future::join_all(issue).await;
    assert!(answers.into_iter().all(|answer| matches!(answer, Ok(IssueAnswer::Issued(_)))));
    let groups = bench.store.commits.load(Ordering::SeqCst) - before;
    assert!(groups <= 400 / 64 + 4, "{groups} groups for 400 writes");
}

#[actix_rt::test]
async fn a_code_that_was_marked_but_handed_to_nobody_is_given_back() {
    let mut bench = Bench::start().await;
    let (device, user) = bench.issued().await;
    let browser = BrowserToken::generate(&mut bench.rng);
    let confirmed = bench.confirmed(&user, &browser).await;
    // The mark is written, but neither the write nor a look-up says so.
    bench.store.doubt.store(true, Ordering::SeqCst);
    bench.store.blind.store(true, Ordering::SeqCst);
    assert_eq!(bench.complete(&confirmed, &browser).await, ConsentOutcome::Unavailable);
    assert_eq!(bench.system.exchanger.snapshot().await.unwrap().token.attempts, 0);
    bench.store.doubt.store(false, Ordering::SeqCst);
    bench.store.blind.store(false, Ordering::SeqCst);
    // The page said: try again. So it must work.
    assert_eq!(bench.complete(&confirmed, &browser).await, ConsentOutcome::Approved);
    assert_eq!(bench.system.exchanger.snapshot().await.unwrap().token.attempts, 1);
    assert!(matches!(bench.poll(&device).await, PollAnswer::Token(_)));
}
