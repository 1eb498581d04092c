//! Where other instances work on the same store.

use super::*;

#[test]
fn a_faster_instance_is_believed_and_the_request_begun_anew() {
    shared_universe(async |universe| {
        let mut flow = Flow::start(universe).await;
        let elsewhere = confirmed_elsewhere(universe, &stored(universe, flow.device).await);
        universe.store.model.commit(vec![Write::Update { to: elsewhere }]).await;
        let answer = universe.confirm(&flow.registry, &flow.user, flow.browser).await;
        assert!(matches!(answer, ConfirmAnswer::InUse), "{answer:?}");
        assert_eq!(flow.registry.snapshot().await.unwrap().reloaded, 1);
        // What another instance has deleted is unknown here too.
        (flow.device, flow.user) = universe.issue(&flow.registry).await;
        universe.store.model.purge(universe.clock.now() + Duration::from_secs(100_000)).await.unwrap();
        let answer = universe.confirm(&flow.registry, &flow.user, flow.browser).await;
        assert!(matches!(answer, ConfirmAnswer::Unknown), "{answer:?}");
    });
}

#[test]
fn a_request_gives_up_after_three_conflicts() {
    universe(async |universe| {
        let mut flow = Flow::start(universe).await;
        let before = universe.store.groups().len();
        universe.store.fail(Fault::LosesTheWrite);
        assert!(!flow.take(Step::Confirm).await);
        assert_eq!(universe.store.groups().len() - before, 3);
    });
}

#[test]
fn sessions_of_other_instances_are_looked_up_once() {
    shared_universe(async |universe| {
        let (registry, other) = (universe.registry(), universe.registry());
        let (device, user) = universe.issue(&other).await;
        universe.store.slow_down(Duration::from_millis(100));
        // All that come while it is read wait for the one look-up.
        let polls = join_all((0..10).map(|_| poll(&registry, device))).await;
        assert_eq!(polls.iter().filter(|answer| matches!(answer, PollAnswer::Pending { .. })).count(), 1);
        assert!(
            polls
                .iter()
                .all(|answer| { matches!(answer, PollAnswer::Pending { .. } | PollAnswer::SlowDown { .. }) })
        );
        assert!(matches!(registry.find_code(universe.keys.user(&user)).await, Ok(FindAnswer::Open(_))));
        assert_eq!(universe.store.finds(), 1);
        assert_eq!(registry.snapshot().await.unwrap().looked_up, 1);
    });
}

#[test]
fn an_unknown_device_code_is_looked_up_once_a_second_at_most() {
    shared_universe(async |universe| {
        let (registry, unknown) = (universe.registry(), universe.device());
        for _ in 0..10 {
            assert_eq!(poll(&registry, unknown).await, PollAnswer::Invalid);
        }
        assert_eq!(universe.store.finds(), 1);
        pass(2).await;
        assert_eq!(poll(&registry, unknown).await, PollAnswer::Invalid);
        assert_eq!(universe.store.finds(), 2);
        // Whether it is unknown cannot be said while the store is away.
        universe.store.go_blind();
        assert_eq!(poll(&registry, universe.device()).await, PollAnswer::Unavailable);
    });
}

#[test]
fn an_end_is_looked_up_before_it_is_told() {
    shared_universe(async |universe| {
        let flow = Flow::start(universe).await;
        let confirmed = confirmed_elsewhere(universe, &stored(universe, flow.device).await);
        // Another instance has stored it, and nothing was heard of it here.
        let write = Write::Update { to: confirmed.clone() };
        assert!(universe.store.model.commit(vec![write]).await[0].is_ok());
        pass(Lifetimes::default().code.as_secs() + 1).await;
        universe.store.go_blind();
        assert_eq!(poll(&flow.registry, flow.device).await, PollAnswer::Unavailable, "nobody can tell");
        universe.store.heal();
        assert!(matches!(poll(&flow.registry, flow.device).await, PollAnswer::Pending { .. }));
        // Its own end comes, and is looked up once a second.
        pass(Lifetimes::default().consent.as_secs() - Lifetimes::default().code.as_secs()).await;
        let finds = universe.store.finds();
        for _ in 0..5 {
            assert_eq!(poll(&flow.registry, flow.device).await, PollAnswer::Expired);
        }
        assert_eq!(universe.store.finds(), finds + 1);
    });
}

#[test]
fn news_is_not_lost_while_the_store_is_asked_or_written() {
    shared_universe(async |universe| {
        let mut flow = Flow::start(universe).await;
        let confirmed = confirmed_elsewhere(universe, &stored(universe, flow.device).await);
        let denied = confirmed.decline(universe.clock.now(), &Lifetimes::default()).unwrap();
        // What a look-up finds may be older than the news that comes meanwhile.
        let other = universe.registry();
        universe.store.slow_down(Duration::from_millis(100));
        let (_, ()) = join(poll(&other, flow.device), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            other.learn(denied.clone());
        })
        .await;
        assert_eq!(poll(&other, flow.device).await, PollAnswer::Denied);
        // A write that came to nothing finds nothing out.
        for to in [confirmed, denied.clone()] {
            assert!(universe.store.model.commit(vec![Write::Update { to }]).await[0].is_ok());
        }
        universe.store.fail_once(Fault::Aborts);
        let registry = flow.registry.clone();
        let (done, ()) = join(flow.take(Step::Confirm), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            registry.learn(denied);
        })
        .await;
        assert!(!done);
        assert_eq!(poll(&registry, flow.device).await, PollAnswer::Denied);
    });
}

#[test]
fn what_other_instances_decide_is_learned_if_it_is_news() {
    shared_universe(async |universe| {
        let flow = Flow::start(universe).await;
        let first = stored(universe, flow.device).await;
        let second = confirmed_elsewhere(universe, &first);
        let denied = |session: &Session| {
            let consent = session.consent.as_ref().unwrap();
            session
                .deny(&consent.browser, &consent.state, universe.clock.now(), &Lifetimes::default())
                .unwrap()
        };
        let third = denied(&second);
        flow.registry.learn(third.clone());
        assert_eq!(poll(&flow.registry, flow.device).await, PollAnswer::Denied);
        // Old news, and news of sessions that nobody has asked for here.
        flow.registry.learn(second);
        assert_eq!(poll(&flow.registry, flow.device).await, PollAnswer::Denied);
        let stranger = Session { device: universe.device(), rev: 9, ..third };
        flow.registry.learn(stranger);
        assert_eq!(flow.registry.snapshot().await.unwrap().sessions, 1);
        // While a write of ours is under way, its end says more.
        let mut busy = Flow::start(universe).await;
        let elsewhere = denied(&confirmed_elsewhere(universe, &stored(universe, busy.device).await));
        universe.store.slow_down(Duration::from_millis(100));
        let registry = busy.registry.clone();
        let (done, ()) = join(busy.take(Step::Confirm), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            registry.learn(elsewhere);
        })
        .await;
        assert!(done);
        assert!(matches!(poll(&busy.registry, busy.device).await, PollAnswer::Pending { .. }));
    });
}
