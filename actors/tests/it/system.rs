//! The whole system: what it starts with, when it is ready, what it hears of other instances, and how it ends.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actors::base::admission::AskError;
use actors::base::keyring::SLOTS;
use actors::device_flow::poll::{AuthStyle, PollAnswer};
use actors::device_flow::registry::{BeginAnswer, ConfirmAnswer, IssueAnswer, Refusal};
use actors::device_flow::session::{Consent, Lifetimes, ReturnError, Session};
use actors::device_flow::store::{Polled, SessionStore, Write};
use actors::enedis::port::ConfiguredClient;
use actors::system::{Ports, Settings, System, ThreadShare};
use actors::testing::{AuditModel, Samples};

use crate::fake_enedis::{EXCHANGER, FakeEnedis};
use crate::universe::{INTERVAL, START, Universe, pass, poll, request, shared_universe, universe};

async fn start(universe: &Universe, workers: usize, shards: usize) -> System {
    try_start(universe, workers, shards).await.unwrap()
}

async fn try_start(
    universe: &Universe,
    workers: usize,
    shards: usize,
) -> Result<System, actors::base::store::StoreError> {
    let enedis = FakeEnedis::new(universe);
    let ports = Ports {
        store: universe.port(),
        audit: Arc::new(AuditModel::default()),
        authorization_server: Box::new(|| Rc::new(enedis)),
        metering: None,
        quota: None,
        clock: Arc::clone(&universe.clock),
        keys: Arc::clone(&universe.keys),
        entropy: Arc::new(|| [5; 32]),
    };
    let settings = Settings {
        life: Lifetimes::default(),
        interval: INTERVAL,
        workers,
        shards,
        sessions_max: 1_000,
        write_batch_max: 64,
        exchanger: EXCHANGER,
        client: ConfiguredClient::default(),
    };
    System::start(ports, settings).await
}

/// Sessions of devices that wait, in the store.
async fn stored(universe: &Universe, count: usize) -> Vec<Session> {
    let mut samples = Samples::new(3);
    let fresh = |session: Session| {
        Session::open(session.device, session.user, request(), START, &Lifetimes::default())
    };
    let sessions: Vec<_> = samples.pendings(count).into_iter().map(fresh).collect();
    universe.store.model.commit(sessions.iter().cloned().map(Write::Insert).collect()).await;
    sessions
}

#[test]
fn every_stored_session_is_known_once_all_shards_are_ready() {
    universe(async |universe| {
        let sessions = stored(universe, 300).await;
        let system = start(universe, 1, 3).await;
        let early = system.registry.poll(sessions[0].device, "c".into(), None, AuthStyle::Body).await;
        assert_eq!(early, Err(AskError::Stopped), "no shard was started yet");
        let soon = Duration::from_secs(1);
        assert!(tokio::time::timeout(soon, system.launcher.ready()).await.is_err());
        let share = system.launcher.start_here();
        assert!((0..SLOTS).all(|slot| share.has(slot)), "this is the only thread");
        system.launcher.ready().await;
        for session in &sessions {
            assert_eq!(
                poll(&system.registry, session.device).await,
                PollAnswer::Pending { interval_secs: 5 }
            );
        }
        let snapshot = system.registry.snapshot().await.unwrap();
        assert_eq!((snapshot.sessions, snapshot.throttler.on_time), (300, 300));
        assert_eq!(universe.store.finds(), 0);
    });
}

#[test]
fn each_thread_starts_its_share_once() {
    universe(async |universe| {
        let system = start(universe, 2, 4).await;
        let slots = |share: ThreadShare| (0..SLOTS).filter(|slot| share.has(*slot)).collect::<BTreeSet<_>>();
        let here = slots(system.launcher.start_here());
        assert_eq!(slots(system.launcher.start_here()), here, "the thread has its share already");
        assert!(!system.registry.is_complete());
        let launcher = system.launcher.clone();
        let there =
            std::thread::spawn(move || actix_rt::System::new().block_on(async { launcher.start_here() }));
        let there = slots(there.join().unwrap());
        assert!(here.is_disjoint(&there));
        assert_eq!(here.len() + there.len(), SLOTS);
        system.launcher.ready().await;
        // A thread more than there are to be has none.
        let launcher = system.launcher.clone();
        let third =
            std::thread::spawn(move || actix_rt::System::new().block_on(async { launcher.start_here() }));
        let third = third.join().unwrap();
        assert!(third.is_empty() && slots(third).is_empty());
    });
}

#[test]
fn a_store_that_cannot_be_read_stops_the_start() {
    universe(async |universe| {
        universe.store.go_blind();
        assert!(try_start(universe, 1, 1).await.is_err());
    });
}

#[test]
fn an_exchange_of_the_process_before_is_over() {
    for is_shared in [false, true] {
        let test = async |universe: &Universe| {
            let pending = stored(universe, 1).await.remove(0);
            let (browser, state) = (universe.browser_hash(), state_in_slot_of(&pending));
            let consent = Consent { browser, state, verifier: None, confirmed_at: START };
            let life = Lifetimes::default();
            let confirmed = pending.confirm(consent, START, &life).unwrap();
            let begun = confirmed.begin(&browser, &state, universe.presentation(), START, &life).unwrap();
            for to in [confirmed, begun] {
                universe.store.model.commit(vec![Write::Update { to }]).await;
            }
            let system = start(universe, 1, 1).await;
            system.launcher.start_here();
            let back = system.registry.begin(state, browser, universe.presentation()).await.unwrap();
            // Where the store is shared, another instance may be exchanging it right now.
            let expected = if is_shared { ReturnError::InProgress } else { ReturnError::Presented };
            assert!(matches!(&back, BeginAnswer::No(failure) if *failure == expected), "{back:?}");
        };
        if is_shared { shared_universe(test) } else { universe(test) }
    }
}

fn state_in_slot_of(session: &Session) -> actors::base::keyring::StateHash {
    let mut samples = Samples::new(4);
    std::iter::repeat_with(|| samples.state()).find(|state| state.slot() == session.device.slot()).unwrap()
}

#[test]
fn instances_follow_each_others_decisions_and_polls() {
    shared_universe(async |universe| {
        let system = start(universe, 1, 2).await;
        system.launcher.start_here();
        let (device, user) = universe.issue(&system.registry).await;
        let (polled, _) = universe.issue(&system.registry).await;
        assert!(matches!(poll(&system.registry, device).await, PollAnswer::Pending { .. }));
        pass(1).await;
        assert_eq!(universe.store.told(), [Polled { device, at: START }]);
        // Another instance answered this one a moment ago.
        universe.store.tell(Polled { device: polled, at: universe.clock.now() });
        pass(1).await;
        assert_eq!(poll(&system.registry, polled).await, PollAnswer::SlowDown { interval_secs: 10 });
        // And there the person refused: it is heard of within a second, with no look-up.
        let other = universe.registry();
        let browser = universe.browser_hash();
        let state = universe.confirmed(&other, &user, browser).await;
        other.deny(Refusal::AtEnedis { state, browser }).await.unwrap();
        let finds = universe.store.finds();
        pass(1).await;
        assert_eq!(poll(&system.registry, device).await, PollAnswer::Denied);
        assert_eq!(universe.store.finds(), finds);
        // A store that is away for a while costs what was decided meanwhile only a delay.
        let (device, user) = universe.issue(&system.registry).await;
        let state = universe.confirmed(&other, &user, browser).await;
        universe.store.go_blind();
        other.deny(Refusal::AtEnedis { state, browser }).await.unwrap();
        pass(5).await;
        assert!(matches!(poll(&system.registry, device).await, PollAnswer::Pending { .. }));
        universe.store.heal();
        pass(1).await;
        assert_eq!(poll(&system.registry, device).await, PollAnswer::Denied);
    });
}

#[test]
fn a_system_is_idle_when_its_writes_have_ended() {
    universe(async |universe| {
        let system = start(universe, 1, 1).await;
        system.launcher.start_here();
        system.idle().await;
        assert_eq!(universe.elapsed(), Duration::ZERO);
        universe.store.slow_down(Duration::from_secs(2));
        let (registry, device) = (system.registry.clone(), universe.device());
        let issued = actix_rt::spawn(async move { registry.issue(device, request()).await });
        tokio::time::sleep(Duration::from_millis(1)).await;
        system.idle().await;
        assert!(universe.elapsed() >= Duration::from_secs(2));
        assert!(matches!(issued.await.unwrap(), Ok(IssueAnswer::Issued(_))));
        let (_, user) = universe.issue(&system.registry).await;
        let answer = universe.confirm(&system.registry, &user, universe.browser_hash()).await;
        assert!(matches!(answer, ConfirmAnswer::Confirmed(_)));
    });
}
