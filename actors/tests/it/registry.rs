//! The registry's shard with its throttler: what is refused, what is in doubt, who waits, and what is said afterwards.

mod shared;

use std::time::Duration;

use actors::base::admission::AskError;
use actors::base::code::{StateSuffix, StateToken, UserCode};
use actors::base::keyring::{BrowserHash, DeviceHash, StateHash};
use actors::base::sealed::Purpose;
use actors::base::token_set::TokenSet;
use actors::device_flow::poll::{AuthStyle, PollAnswer};
use actors::device_flow::registry::{
    BeginAnswer, CodeRegistryHandle, ConfirmAnswer, DenyAnswer, FindAnswer, FinishAnswer, IssueAnswer,
    Outcome, Refusal,
};
use actors::device_flow::session::{Consent, Decision, Lifetimes, ReturnError, Session};
use actors::device_flow::store::{SessionKey, SessionStore, Write};
use futures_util::future::{join, join_all};

use crate::fake_store::{FAULTS, Fault};
use crate::universe::{START, Universe, pass, poll, request, shared_universe, universe};

/// What is asked of a session that changes it, in the order of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Confirm,
    Begin,
    Finish,
    Claim,
    Deny,
}

/// One flow, and how far it has come.
struct Flow<'a> {
    universe: &'a Universe,
    registry: CodeRegistryHandle,
    device: DeviceHash,
    user: UserCode,
    browser: BrowserHash,
    state: Option<StateHash>,
}

impl<'a> Flow<'a> {
    async fn start(universe: &'a Universe) -> Self {
        let registry = universe.registry();
        let (device, user) = universe.issue(&registry).await;
        Self { universe, registry, device, user, browser: universe.browser_hash(), state: None }
    }

    /// Takes a step; answers whether it was done (`false`: the store is in trouble). Panics on any other answer.
    async fn take(&mut self, step: Step) -> bool {
        let Self { universe, registry, device, user, browser, .. } = self;
        let state = || self.state.expect("a code that was confirmed");
        match step {
            Step::Confirm => match universe.confirm(registry, user, *browser).await {
                ConfirmAnswer::Confirmed(confirmed) => {
                    self.state = Some(universe.keys.state(&confirmed.state));
                    true
                }
                ConfirmAnswer::Unavailable => false,
                other => panic!("{other:?}"),
            },
            Step::Begin => match universe.begin(registry, state(), *browser).await {
                BeginAnswer::Go(lease) => lease.device == *device && lease.grant == universe.grant(),
                BeginAnswer::Unavailable => false,
                other @ BeginAnswer::No(_) => panic!("{other:?}"),
            },
            Step::Finish => match registry.finish(*device, universe.grant(), token()).await.unwrap() {
                // If the store took it and could not say so, the second offer finds it there.
                FinishAnswer::Recorded | FinishAnswer::Approved => true,
                FinishAnswer::Unavailable => false,
                FinishAnswer::Gone => panic!("gone"),
            },
            Step::Claim => match poll(registry, *device).await {
                PollAnswer::Token(body) => body.contains("granted"),
                PollAnswer::Unavailable => false,
                other => panic!("{other:?}"),
            },
            Step::Deny => {
                match registry.deny(Refusal::AtEnedis { state: state(), browser: *browser }).await.unwrap() {
                    DenyAnswer::Denied(_) => true,
                    DenyAnswer::Unavailable => false,
                    other @ DenyAnswer::No(_) => panic!("{other:?}"),
                }
            }
        }
    }

    /// The flow, as far as it has to be for `step`.
    async fn ready_for(universe: &'a Universe, step: Step) -> Self {
        let mut flow = Self::start(universe).await;
        let before: &[Step] = match step {
            Step::Confirm => &[],
            Step::Begin | Step::Deny => &[Step::Confirm],
            Step::Finish => &[Step::Confirm, Step::Begin],
            Step::Claim => &[Step::Confirm, Step::Begin, Step::Finish],
        };
        for step in before {
            assert!(flow.take(*step).await);
        }
        flow
    }
}

const STEPS: [Step; 5] = [Step::Confirm, Step::Begin, Step::Finish, Step::Claim, Step::Deny];

fn token() -> Outcome {
    Outcome::Token(TokenSet::own([("access_token", "granted".into())]))
}

/// Another instance's decision: `session` confirmed by a browser of its own.
fn confirmed_elsewhere(universe: &Universe, session: &Session) -> Session {
    let state = universe.draw(|rng| StateToken::generate(rng, &StateSuffix::default()));
    let state = universe.keys.state(&state);
    let consent = Consent {
        browser: universe.browser_hash(),
        state,
        verifier: None,
        confirmed_at: universe.clock.now(),
    };
    session.confirm(consent, universe.clock.now(), &Lifetimes::default()).unwrap()
}

async fn stored(universe: &Universe, device: DeviceHash) -> Session {
    universe.store.model.find(SessionKey::Device(device), START).await.unwrap().unwrap()
}

#[test]
fn nothing_is_said_that_the_store_does_not_hold() {
    for step in STEPS {
        for fault in FAULTS {
            for is_blind in [false, true] {
                universe(async |universe| {
                    let mut flow = Flow::ready_for(universe, step).await;
                    let before = stored(universe, flow.device).await;
                    universe.store.fail_once(fault);
                    if is_blind {
                        universe.store.go_blind();
                    }
                    // A write in doubt is looked up: done, or begun anew. If it cannot be looked up, nothing is said.
                    let is_done = flow.take(step).await;
                    let case = format!("{step:?}, {fault:?}, blind: {is_blind}");
                    assert_eq!(is_done, fault != Fault::Aborts && !is_blind, "{case}");
                    let is_written = stored(universe, flow.device).await != before;
                    assert_eq!(is_written, is_done || fault == Fault::LosesTheAnswer, "{case}");
                    // Whoever was told to come back comes back, and nothing is lost.
                    universe.store.heal();
                    if !is_done {
                        assert!(flow.take(step).await, "{case}");
                    }
                    let told = poll(&flow.registry, flow.device).await;
                    match step {
                        Step::Confirm | Step::Begin => {
                            assert!(matches!(told, PollAnswer::Pending { .. }), "{case}: {told:?}");
                        }
                        Step::Finish | Step::Claim => {
                            assert!(matches!(told, PollAnswer::Token(_)), "{case}: {told:?}");
                        }
                        Step::Deny => assert_eq!(told, PollAnswer::Denied, "{case}"),
                    }
                });
            }
        }
    }
}

#[test]
fn a_session_in_doubt_is_not_spoken_of_until_it_was_read() {
    universe(async |universe| {
        let mut flow = Flow::ready_for(universe, Step::Claim).await;
        universe.store.fail(Fault::LosesTheAnswer);
        universe.store.go_blind();
        for _ in 0..3 {
            assert_eq!(poll(&flow.registry, flow.device).await, PollAnswer::Unavailable);
        }
        universe.store.heal();
        // It had been redeemed: the device gets its token, and the same one again.
        let PollAnswer::Token(first) = poll(&flow.registry, flow.device).await else { panic!("no token") };
        assert_eq!(poll(&flow.registry, flow.device).await, PollAnswer::Token(first));
        assert!(flow.take(Step::Claim).await);
        let snapshot = flow.registry.snapshot().await.unwrap();
        assert_eq!((snapshot.sessions, snapshot.looked_up), (1, 1));
    });
}

#[test]
fn polls_are_answered_from_memory_while_the_store_is_away() {
    universe(async |universe| {
        let flow = Flow::start(universe).await;
        universe.store.fail(Fault::Aborts);
        universe.store.go_blind();
        assert!(matches!(
            flow.registry.issue(universe.device(), request()).await,
            Ok(IssueAnswer::Unavailable)
        ));
        assert_eq!(poll(&flow.registry, flow.device).await, PollAnswer::Pending { interval_secs: 5 });
        assert_eq!(poll(&flow.registry, universe.device()).await, PollAnswer::Invalid);
        assert_eq!(universe.store.finds(), 0);
    });
}

#[test]
fn what_waits_for_a_slow_store_is_not_looked_at_with_every_poll() {
    const WAITING: usize = 1_000;
    shared_universe(async |universe| {
        let registry = universe.registry();
        let (known, _) = universe.issue(&registry).await;
        universe.store.slow_down(Duration::from_secs(5));
        let unknown = (0..WAITING).map(|_| poll(&registry, universe.device()));
        let codes = (0..WAITING).map(|_| registry.issue(universe.device(), request()));
        let polls = async {
            while universe.store.finds() < WAITING || registry.waiting() < 2 * WAITING {
                tokio::task::yield_now().await;
            }
            let looks = universe.store.looks();
            for _ in 0..100 {
                assert!(matches!(
                    poll(&registry, known).await,
                    PollAnswer::Pending { .. } | PollAnswer::SlowDown { .. }
                ));
            }
            assert_eq!(universe.store.looks(), looks);
            assert_eq!(universe.elapsed(), Duration::ZERO);
        };
        join(join_all(unknown), join(join_all(codes), polls)).await;
    });
}

#[test]
fn requests_wait_for_a_write_of_their_session_and_pending_polls_do_not() {
    universe(async |universe| {
        let flow = Flow::start(universe).await;
        let (other_device, other) = universe.issue(&flow.registry).await;
        universe.store.slow_down(Duration::from_millis(100));
        let registry = &flow.registry;
        let first = universe.confirm(registry, &flow.user, flow.browser);
        let second = async {
            let answer = universe.confirm(registry, &flow.user, universe.browser_hash()).await;
            assert!(matches!(answer, ConfirmAnswer::InUse), "the first browser holds the code: {answer:?}");
        };
        let looks = async {
            let answer = registry.find_code(universe.keys.user(&flow.user)).await;
            assert!(matches!(answer, Ok(FindAnswer::Open(_))));
            assert_eq!(universe.elapsed(), Duration::from_millis(100));
        };
        let polls = async {
            assert!(matches!(poll(registry, flow.device).await, PollAnswer::Pending { .. }));
            // Another session is nobody's business.
            assert!(matches!(registry.find_code(universe.keys.user(&other)).await, Ok(FindAnswer::Open(_))));
            assert!(matches!(poll(registry, other_device).await, PollAnswer::Pending { .. }));
            assert_eq!(universe.elapsed(), Duration::ZERO);
        };
        let (first, ((), ((), ()))) = join(first, join(second, join(looks, polls))).await;
        assert!(matches!(first, ConfirmAnswer::Confirmed(_)));
    });
}

#[test]
fn a_code_does_not_end_while_it_is_being_confirmed() {
    universe(async |universe| {
        let flow = Flow::start(universe).await;
        pass(Lifetimes::default().code.as_secs() - 1).await;
        universe.store.slow_down(Duration::from_secs(2));
        let poll = async {
            pass(1).await;
            let told = poll(&flow.registry, flow.device).await;
            assert!(matches!(told, PollAnswer::Pending { .. }), "{told:?}");
        };
        let (confirmed, ()) = join(universe.confirm(&flow.registry, &flow.user, flow.browser), poll).await;
        assert!(matches!(confirmed, ConfirmAnswer::Confirmed(_)), "{confirmed:?}");
    });
}

#[test]
fn polls_at_once_redeem_once() {
    universe(async |universe| {
        let flow = Flow::ready_for(universe, Step::Claim).await;
        universe.store.slow_down(Duration::from_millis(100));
        let writes = universe.store.groups().len();
        let told = join_all((0..16).map(|_| poll(&flow.registry, flow.device))).await;
        let first = &told[0];
        assert!(told.iter().all(|told| matches!(told, PollAnswer::Token(_)) && *told == *first), "{told:?}");
        assert_eq!(universe.store.groups().len(), writes + 1);
    });
}

#[test]
fn a_caller_that_hangs_up_leaves_its_change_finished() {
    universe(async |universe| {
        let flow = Flow::start(universe).await;
        universe.store.slow_down(Duration::from_millis(100));
        let confirm = universe.confirm(&flow.registry, &flow.user, flow.browser);
        assert!(tokio::time::timeout(Duration::from_millis(10), confirm).await.is_err());
        let other = universe.confirm(&flow.registry, &flow.user, universe.browser_hash()).await;
        assert!(matches!(other, ConfirmAnswer::InUse), "{other:?}");
    });
}

#[test]
fn a_mark_whose_caller_has_gone_is_given_back() {
    universe(async |universe| {
        let mut flow = Flow::ready_for(universe, Step::Begin).await;
        universe.store.slow_down(Duration::from_millis(100));
        let begin = universe.begin(&flow.registry, flow.state.unwrap(), flow.browser);
        assert!(tokio::time::timeout(Duration::from_millis(10), begin).await.is_err());
        assert!(flow.take(Step::Begin).await, "nobody has presented the code");
        assert!(flow.take(Step::Finish).await);
        assert!(flow.take(Step::Claim).await);
    });
}

#[test]
fn a_reload_waits_for_the_exchange_and_hears_how_it_ended() {
    universe(async |universe| {
        let mut flow = Flow::ready_for(universe, Step::Finish).await;
        let registry = flow.registry.clone();
        let reload = universe.begin(&registry, flow.state.unwrap(), flow.browser);
        let (reload, finished) = join(reload, async {
            pass(2).await;
            flow.take(Step::Finish).await
        })
        .await;
        assert!(finished);
        assert!(matches!(reload, BeginAnswer::No(ReturnError::Decided(Decision::Approved))), "{reload:?}");
        assert_eq!(universe.elapsed(), Duration::from_secs(2));
        // Another browser does not wait: it has nothing to wait for.
        let stranger = universe.begin(&registry, flow.state.unwrap(), universe.browser_hash()).await;
        assert!(matches!(stranger, BeginAnswer::No(ReturnError::OtherBrowser)), "{stranger:?}");
    });
}

#[test]
fn an_exchange_that_failed_frees_its_code_unless_it_was_consumed() {
    for (outcome, may_return) in [
        (Outcome::Failed { consumed: false }, true),
        (Outcome::Failed { consumed: true }, false),
        (Outcome::Postponed, false),
    ] {
        universe(async |universe| {
            let flow = Flow::ready_for(universe, Step::Finish).await;
            let finished = flow.registry.finish(flow.device, universe.grant(), outcome.clone()).await;
            assert_eq!(finished, Ok(FinishAnswer::Recorded));
            let again = universe.begin(&flow.registry, flow.state.unwrap(), flow.browser).await;
            assert_eq!(matches!(again, BeginAnswer::Go(_)), may_return, "{outcome:?}: {again:?}");
            // Who finishes what was not begun is told so.
            let other = flow.registry.finish(flow.device, universe.keys.grant("another"), token()).await;
            assert_eq!(other, Ok(FinishAnswer::Gone));
        });
    }
}

#[test]
fn a_user_code_that_is_taken_is_drawn_again() {
    shared_universe(async |universe| {
        // The same seed draws the same codes: each is taken by what the other registry has issued.
        let (registry, other) = (universe.registry(), universe.registry());
        let (device, user) = universe.issue(&registry).await;
        let same_slot =
            std::iter::repeat_with(|| universe.device()).find(|other| other.slot() == device.slot()).unwrap();
        let Ok(IssueAnswer::Issued(another)) = other.issue(same_slot, request()).await else {
            panic!("no code")
        };
        assert_ne!(another, user);
        assert_eq!(universe.store.groups().len(), 3);
    });
}

#[test]
fn only_the_right_client_learns_anything() {
    universe(async |universe| {
        let registry = universe.registry();
        let device = universe.device();
        let secret = universe.draw(|rng| universe.keys.seal(rng, Purpose::ClientSecret, &device, b"secret"));
        let asked = actors::device_flow::session::Request { client_secret: Some(secret), ..request() };
        assert!(matches!(registry.issue(device, asked).await, Ok(IssueAnswer::Issued(_))));
        let poll = |client: &str, secret: Option<&str>| {
            registry.poll(device, client.into(), secret.map(|text| text.to_owned().into()), AuthStyle::Body)
        };
        assert_eq!(poll("another", Some("secret")).await, Ok(PollAnswer::Invalid));
        for secret in [Some("wrong"), None] {
            assert_eq!(poll("c", secret).await, Ok(PollAnswer::BadSecret));
        }
        // What was refused has not touched the pace.
        assert_eq!(poll("c", Some("secret")).await, Ok(PollAnswer::Pending { interval_secs: 5 }));
    });
}

#[test]
fn sessions_leave_memory_and_store_after_their_tombstone() {
    universe(async |universe| {
        let flow = Flow::start(universe).await;
        let find = || flow.registry.find_code(universe.keys.user(&flow.user));
        assert!(matches!(find().await, Ok(FindAnswer::Open(_))));
        pass(300).await;
        assert!(matches!(find().await, Ok(FindAnswer::Unknown)));
        assert_eq!(poll(&flow.registry, flow.device).await, PollAnswer::Expired);
        pass(302).await;
        assert_eq!(flow.registry.snapshot().await.unwrap().sessions, 0);
        assert_eq!(poll(&flow.registry, flow.device).await, PollAnswer::Invalid);
        pass(10).await;
        assert!(universe.store.model.page(None, START).await.unwrap().sessions.is_empty());
    });
}

#[test]
fn nobody_waits_longer_than_twenty_seconds() {
    universe(async |universe| {
        let flow = Flow::start(universe).await;
        universe.store.slow_down(Duration::from_secs(60));
        let user = universe.keys.user(&flow.user);
        let answer = flow.registry.confirm(user, flow.browser, StateSuffix::default(), false).await;
        assert!(matches!(answer, Err(AskError::Timeout)), "{answer:?}");
        assert_eq!(universe.elapsed(), Duration::from_secs(20));
        assert_eq!(flow.registry.waiting(), 1, "the work goes on");
        pass(120).await;
        assert_eq!(flow.registry.waiting(), 0);
    });
}

#[test]
fn a_shard_that_was_not_started_is_no_error_of_the_caller() {
    universe(async |universe| {
        let registry = CodeRegistryHandle::new(4);
        assert!(!registry.is_complete());
        let answer = registry.poll(universe.device(), "c".into(), None, AuthStyle::Body).await;
        assert_eq!(answer, Err(AskError::Stopped));
    });
}
