//! The consent workflow on a registry of its own: what the person is told, what the device finds, and what becomes of a
//! token in hand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actors::base::clock::Timestamp;
use actors::base::code::{BrowserToken, StateToken};
use actors::base::grant_issuer::{ConsentSubject, GrantIssuer, NotIssued, ReturnedConsent};
use actors::base::keyring::{DeviceHash, GrantHash, StateHash};
use actors::base::network::Network;
use actors::base::token_set::TokenSet;
use actors::device_flow::consent::{self, AuthorizationReturn, ConsentOutcome, ConsentWorkflow, Returned};
use actors::device_flow::poll::PollAnswer;
use actors::device_flow::registry::{CodeRegistryHandle, ConfirmAnswer, Confirmed};
use actors::device_flow::session::{Lifetimes, Session};
use actors::device_flow::store::{SessionKey, SessionStore};
use actors::enedis::port::{Answer, Attempt, ConfiguredClient, NoToken};
use async_trait::async_trait;
use futures_util::future::{join, join_all};

use crate::fake_enedis::{EXCHANGER, FakeEnedis};
use crate::fake_store::Fault;
use crate::universe::{START, Universe, pass, poll, shared_universe, universe};

fn token() -> TokenSet {
    TokenSet::own([("access_token", "granted".into())])
}

/// Gives tokens of our own, or what it was told to; remembers what was taken back.
#[derive(Default)]
struct Issuer {
    script: Mutex<VecDeque<NotIssued>>,
    delay: Mutex<Duration>,
    withdrawn: Mutex<Vec<(StateHash, GrantHash)>>,
}

#[async_trait]
impl GrantIssuer for Issuer {
    async fn issue(&self, consent: ReturnedConsent) -> Result<TokenSet, NotIssued> {
        assert!(matches!(consent.subject, ConsentSubject::Authorisation(7)));
        let delay = *self.delay.lock().unwrap();
        tokio::time::sleep(delay).await;
        self.script.lock().unwrap().pop_front().map_or_else(|| Ok(token()), Err)
    }

    async fn withdraw(&self, state: StateHash, grant: GrantHash, _: Timestamp) {
        self.withdrawn.lock().unwrap().push((state, grant));
    }
}

/// One device whose code was confirmed in one browser.
struct Flow<'a> {
    universe: &'a Universe,
    enedis: FakeEnedis,
    issuer: Option<Arc<Issuer>>,
    registry: CodeRegistryHandle,
    consent: Arc<ConsentWorkflow>,
    device: DeviceHash,
    browser: BrowserToken,
    state: StateToken,
}

impl<'a> Flow<'a> {
    /// With Enedis' own tokens.
    async fn start(universe: &'a Universe) -> Self {
        Self::launch(universe, None).await
    }

    /// With tokens of our own.
    async fn start_issuing(universe: &'a Universe) -> Self {
        Self::launch(universe, Some(Arc::default())).await
    }

    async fn launch(universe: &'a Universe, issuer: Option<Arc<Issuer>>) -> Self {
        let (enedis, registry) = (FakeEnedis::new(universe), universe.registry());
        let consent = ConsentWorkflow::new(
            registry.clone(),
            enedis.exchanger_with(EXCHANGER, None),
            universe.audit(),
            Arc::clone(&universe.keys),
            Arc::clone(&universe.clock),
            match &issuer {
                None => consent::Issuer::Enedis(ConfiguredClient::default()),
                Some(issuer) => consent::Issuer::Ours(Arc::clone(issuer) as Arc<dyn GrantIssuer>),
            },
            EXCHANGER.deadline,
        );
        let (device, user) = universe.issue(&registry).await;
        let browser = universe.browser();
        let confirmed = universe.confirm(&registry, &user, universe.keys.browser(&browser)).await;
        let ConfirmAnswer::Confirmed(Confirmed { state, .. }) = confirmed else { panic!("{confirmed:?}") };
        Self { universe, enedis, issuer, registry, consent, device, browser, state }
    }

    /// The browser comes back from Enedis.
    async fn come_back(&self) -> ConsentOutcome {
        let returned = match self.issuer {
            None => Returned::Code { code: "code".into(), usage_point_id: None },
            Some(_) => Returned::Authorisation(7),
        };
        self.come_back_with(returned).await
    }

    async fn come_back_with(&self, returned: Returned) -> ConsentOutcome {
        let (state, browser) = (self.state.clone(), self.browser.clone());
        self.consent
            .complete(AuthorizationReturn { state, browser, network: Network::LOCALHOST, returned })
            .await
    }

    async fn poll(&self) -> PollAnswer {
        pass(10).await;
        poll(&self.registry, self.device).await
    }

    async fn stored(&self) -> Session {
        let model = &self.universe.store.model;
        model.find(SessionKey::Device(self.device), START).await.unwrap().unwrap()
    }
}

#[test]
fn what_an_exchange_brings_is_told_to_the_person_and_to_the_device() {
    let refused = NoToken::Refused { status: 400, error: "invalid_grant".into() };
    let garbled = NoToken::Garbled { status: 200 };
    for (attempt, told, may_return) in [
        (
            Attempt::Answered(Answer::Token(Err(refused))),
            ConsentOutcome::Rejected { error: "invalid_grant".into() },
            false,
        ),
        (Attempt::Answered(Answer::Token(Err(garbled.clone()))), ConsentOutcome::Garbled, false),
        (Attempt::Failed(Answer::Token(Err(garbled))), ConsentOutcome::Garbled, false),
        (Attempt::Lost, ConsentOutcome::Lost, false),
        (Attempt::Answered(Answer::Token(Ok(token()))), ConsentOutcome::Approved, true),
    ] {
        universe(async |universe| {
            let flow = Flow::start(universe).await;
            flow.enedis.will(Duration::ZERO, [attempt]);
            assert_eq!(flow.come_back().await, told);
            // A reload shows the same decision, or that the code is spent; it is never presented again.
            let reloaded = flow.come_back().await;
            assert_eq!(reloaded == ConsentOutcome::Approved, may_return, "{reloaded:?}");
            assert_eq!(reloaded == ConsentOutcome::Presented, !may_return, "{reloaded:?}");
            assert_eq!(flow.enedis.names(), ["code"]);
            let line = match told {
                ConsentOutcome::Approved => Some("grant: tokens given"),
                ConsentOutcome::Rejected { .. } => Some("refusal: by Enedis"),
                _ => None,
            };
            assert!(universe.lines.words().iter().map(String::as_str).eq(line));
            let polled = flow.poll().await;
            assert_eq!(matches!(polled, PollAnswer::Token(_)), may_return, "{polled:?}");
            assert_eq!(matches!(polled, PollAnswer::Pending { .. }), !may_return, "{polled:?}");
        });
    }
}

#[test]
fn while_enedis_is_down_the_same_return_may_be_tried_again() {
    universe(async |universe| {
        let flow = Flow::start(universe).await;
        flow.enedis.will(Duration::ZERO, vec![Attempt::Down(None); 20]);
        let told = flow.come_back().await;
        let later = |why: &_| matches!(why, NotIssued::Down { .. } | NotIssued::Busy { .. });
        assert!(matches!(&told, ConsentOutcome::NotIssued(why) if later(why)), "{told:?}");
        assert!(matches!(flow.poll().await, PollAnswer::Pending { .. }));
        flow.enedis.recover();
        pass(60).await;
        assert_eq!(flow.come_back().await, ConsentOutcome::Approved);
        assert!(matches!(flow.poll().await, PollAnswer::Token(_)));
    });
}

#[test]
fn returns_at_once_are_one_exchange() {
    universe(async |universe| {
        let flow = Flow::start(universe).await;
        flow.enedis.will(Duration::from_secs(1), [Attempt::Answered(crate::fake_enedis::token("granted"))]);
        let told = join_all((0..8).map(|_| flow.come_back())).await;
        assert!(told.iter().all(|told| *told == ConsentOutcome::Approved), "{told:?}");
        assert_eq!(flow.enedis.names(), ["code"]);
    });
}

#[test]
fn a_token_in_hand_is_offered_for_a_minute() {
    for (away, told) in
        [(45, ConsentOutcome::Approved), (90, ConsentOutcome::NotIssued(NotIssued::Unavailable))]
    {
        universe(async |universe| {
            let flow = Flow::start(universe).await;
            flow.enedis
                .will(Duration::from_secs(1), [Attempt::Answered(crate::fake_enedis::token("granted"))]);
            // The code is marked as presented; then the store goes away while the token is on its way.
            let store_goes_away = async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                universe.store.fail(Fault::Aborts);
                pass(away).await;
                universe.store.heal();
            };
            let (outcome, ()) = join(flow.come_back(), store_goes_away).await;
            assert_eq!(outcome, told);
            let polled = flow.poll().await;
            assert_eq!(matches!(polled, PollAnswer::Token(_)), told == ConsentOutcome::Approved);
        });
    }
}

#[test]
fn a_code_that_was_marked_but_handed_to_nobody_is_exchanged_later() {
    universe(async |universe| {
        let flow = Flow::start(universe).await;
        // The mark is written, but neither the write nor a look-up says so.
        universe.store.fail(Fault::LosesTheAnswer);
        universe.store.go_blind();
        assert_eq!(flow.come_back().await, ConsentOutcome::NotIssued(NotIssued::Unavailable));
        assert!(flow.enedis.sent().is_empty());
        universe.store.heal();
        // The page said: try again. So it must work.
        assert_eq!(flow.come_back().await, ConsentOutcome::Approved);
        assert!(matches!(flow.poll().await, PollAnswer::Token(_)));
    });
}

#[test]
fn a_browser_that_hangs_up_is_served_all_the_same() {
    universe(async |universe| {
        let flow = Flow::start(universe).await;
        flow.enedis.will(Duration::from_secs(2), [Attempt::Answered(crate::fake_enedis::token("granted"))]);
        assert!(tokio::time::timeout(Duration::from_secs(1), flow.come_back()).await.is_err());
        flow.consent.idle().await;
        assert_eq!(universe.elapsed(), Duration::from_secs(2));
        assert!(matches!(flow.poll().await, PollAnswer::Token(_)));
    });
}

#[test]
fn what_the_issuer_says_is_told_to_the_person_and_the_same_return_may_be_tried_again() {
    let retry_after = Duration::from_secs(7);
    for not_issued in [
        NotIssued::Busy { retry_after },
        NotIssued::Down { retry_after },
        NotIssued::NotListed,
        NotIssued::Foreign,
        NotIssued::Unavailable,
        NotIssued::AlreadyLinked,
    ] {
        let told = ConsentOutcome::NotIssued(not_issued.clone());
        universe(async |universe| {
            let flow = Flow::start_issuing(universe).await;
            let issuer = flow.issuer.as_ref().unwrap();
            issuer.script.lock().unwrap().push_back(not_issued);
            assert_eq!(flow.come_back().await, told);
            assert!(matches!(flow.poll().await, PollAnswer::Pending { .. }));
            assert_eq!(flow.come_back().await, ConsentOutcome::Approved, "{told:?}");
            assert!(matches!(flow.poll().await, PollAnswer::Token(_)));
            assert!(issuer.withdrawn.lock().unwrap().is_empty());
        });
    }
}

#[test]
fn tokens_that_nobody_will_receive_are_taken_back() {
    shared_universe(async |universe| {
        let flow = Flow::start_issuing(universe).await;
        let issuer = flow.issuer.as_ref().unwrap();
        *issuer.delay.lock().unwrap() = Duration::from_secs(2);
        let refused_elsewhere = async {
            pass(1).await;
            // The lease of this instance is over, says another one's clock, and the person refused there.
            let session = flow.stored().await;
            let consent = session.consent.as_ref().unwrap();
            let late = universe.clock.now() + Duration::from_secs(120);
            let refused =
                session.deny(&consent.browser, &consent.state, late, &Lifetimes::default()).unwrap();
            flow.registry.learn(refused);
        };
        let (told, ()) = join(flow.come_back(), refused_elsewhere).await;
        assert_eq!(told, ConsentOutcome::Unknown);
        let withdrawn = issuer.withdrawn.lock().unwrap().clone();
        assert_eq!(withdrawn.len(), 1);
        assert_eq!(withdrawn[0].0, universe.keys.state(&flow.state));
    });
}

#[test]
fn what_does_not_belong_to_the_flow_is_garbled() {
    universe(async |universe| {
        let flow = Flow::start(universe).await;
        assert_eq!(flow.come_back_with(Returned::Authorisation(7)).await, ConsentOutcome::Garbled);
        assert!(flow.enedis.sent().is_empty());
    });
}
