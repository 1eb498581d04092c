//! From a returned consent to tokens of our own: which meters, how long it waits for Enedis, and whom it believes.

use std::sync::Arc;
use std::time::Duration;

use actors::base::grant_issuer::{ConsentSubject, GrantIssuer, NotIssued, ReturnedConsent};
use actors::base::keyring::{BrowserHash, StateHash};
use actors::base::network::Network;
use actors::enedis::port::{Answer, Attempt, NoMeters, NoToken, Subscription};
use actors::metering::civil::{plus, today};
use actors::metering::consent::MeterGrantIssuer;
use actors::metering::tokens::service::Opened;
use actors::testing::{MeterModel, TokenModel, meter};
use futures_util::future::join;

use crate::fake_enedis::{FakeEnedis, secs};
use crate::relay;
use crate::tokens::{Tokens, service};
use crate::universe::{START, Universe, pass, universe};

struct Flow<'a> {
    universe: &'a Universe,
    enedis: FakeEnedis,
    store: TokenModel,
    issuer: MeterGrantIssuer,
}

impl<'a> Flow<'a> {
    /// A box asks for a day; how often Enedis was asked for data by then.
    async fn asked(&self) -> usize {
        self.issuer.relay.read(relay::days(1, 1), START).await;
        self.enedis.asked().len()
    }

    fn start(universe: &'a Universe) -> Self {
        let (enedis, store) = (FakeEnedis::new(universe), TokenModel::default());
        let issuer = MeterGrantIssuer {
            tokens: service(universe, &store, 1),
            relay: relay::start(universe, &enedis, &MeterModel::default(), relay::SETTINGS),
            exchanger: enedis.exchanger(),
            clock: Arc::clone(&universe.clock),
        };
        Self { universe, enedis, store, issuer }
    }

    /// Consent `n` comes back.
    fn consent(&self, n: u8, subject: ConsentSubject) -> ReturnedConsent {
        let state = StateHash::from([n; 16]);
        ReturnedConsent {
            state,
            asked_at: START,
            grant: self.universe.grant(),
            client_id: "c".into(),
            subject,
            browser: BrowserHash::from([n; 16]),
            network: Network::LOCALHOST,
        }
    }

    /// Consent `n` comes back; the meters that its tokens name.
    async fn issue(&self, n: u8, subject: ConsentSubject) -> Result<String, NotIssued> {
        let issued = self.issuer.issue(self.consent(n, subject)).await?;
        Ok(Tokens::of(&issued).json["usage_points_id"].as_str().unwrap().to_owned())
    }

    fn will_tell(&self, told: impl IntoIterator<Item = Result<Subscription, NoMeters>>) {
        let answers = told.into_iter().map(|told| Attempt::Answered(Answer::Meters(told)));
        self.enedis.will(Duration::ZERO, answers);
    }
}

/// Meter 1, consented to so many days ago.
fn listed(days_ago: i64) -> Subscription {
    Subscription { meters: vec![meter(1)], since: Some(plus(today(START), -days_ago)) }
}

const METER: &str = "00000000000001";
const AUTHORISATION: ConsentSubject = ConsentSubject::Authorisation(7);

fn named() -> ConsentSubject {
    ConsentSubject::Meters(vec![meter(1)])
}

/// The application's token is there, so that what is scripted next is about meters.
async fn with_token(flow: &Flow<'_>) {
    flow.issuer.exchanger.acquire(None).await;
}

#[test]
fn a_consent_that_names_its_meters_asks_enedis_nothing() {
    universe(async |universe| {
        let flow = Flow::start(universe);
        let consent = flow.consent(1, named());
        let issued = flow.issuer.issue(consent.clone()).await.unwrap();
        assert_eq!(flow.issuer.issue(consent.clone()).await.as_ref(), Ok(&issued), "the same each time");
        assert!(flow.enedis.sent().is_empty());
        let access = Tokens::of(&issued).access;
        let open = || flow.issuer.tokens.open(&access, meter(1));
        assert!(matches!(open().await, Opened::Meter { consented_at: START, unproven: Some(_), .. }));
        flow.issuer.withdraw(consent.state, consent.grant, START).await;
        assert_eq!(open().await, Opened::Nothing);
    });
}

#[test]
fn an_authorisation_is_asked_for_until_it_is_listed() {
    universe(async |universe| {
        let flow = Flow::start(universe);
        with_token(&flow).await;
        let asked = || flow.asked();
        assert_eq!((asked().await, asked().await), (1, 1));
        flow.will_tell([Err(NoMeters::NotYet), Err(NoMeters::Refused), Ok(listed(0))]);
        assert_eq!(flow.issue(1, AUTHORISATION).await.as_deref(), Ok(METER));
        assert_eq!(flow.enedis.names(), ["own", "own", "meters", "meters", "meters"]);
        assert_eq!(universe.elapsed(), secs(1 + 3));
        assert_eq!(asked().await, 2, "what was remembered of the meter is forgotten");
    });
}

#[test]
fn a_consent_of_the_v1_page_forgets_what_no_other_box_holds() {
    universe(async |universe| {
        let flow = Flow::start(universe);
        with_token(&flow).await;
        let asked = || flow.asked();
        assert_eq!((asked().await, asked().await), (1, 1));
        assert!(flow.issue(1, named()).await.is_ok());
        assert_eq!((asked().await, asked().await), (2, 2), "it is forgotten");
        // A second claim: the values are those of the box that holds it.
        assert!(flow.issue(2, named()).await.is_ok());
        assert_eq!(asked().await, 2);
    });
}

#[test]
fn what_is_not_told_is_told_apart() {
    let not_yet = || Err(NoMeters::NotYet);
    let rejected = || Err(NoMeters::TokenRejected);
    let down = NotIssued::Down { retry_after: secs(60) };
    for (told, not_issued, took) in [
        (vec![not_yet(), not_yet(), not_yet()], NotIssued::NotListed, 4),
        (vec![not_yet(), not_yet(), Err(NoMeters::Refused)], NotIssued::Foreign, 4),
        (vec![Err(NoMeters::NotSubscribed)], NotIssued::NotAccepted, 0),
        (vec![not_yet(), Err(NoMeters::Trouble)], down, 1),
    ] {
        universe(async |universe| {
            let flow = Flow::start(universe);
            with_token(&flow).await;
            flow.will_tell(told);
            assert_eq!(flow.issue(1, AUTHORISATION).await, Err(not_issued.clone()));
            assert_eq!(universe.elapsed(), secs(took), "{not_issued:?}");
            // A reload of the page takes it up.
            flow.will_tell([Ok(listed(0))]);
            assert_eq!(flow.issue(1, AUTHORISATION).await.as_deref(), Ok(METER));
        });
    }
    // A token that is not accepted is renewed, once.
    universe(async |universe| {
        let flow = Flow::start(universe);
        with_token(&flow).await;
        pass(60).await;
        flow.will_tell([rejected()]);
        flow.enedis.will(Duration::ZERO, [Attempt::Answered(crate::fake_enedis::token("new"))]);
        flow.will_tell([rejected()]);
        let told = flow.issue(1, AUTHORISATION).await;
        assert!(matches!(told, Err(NotIssued::Down { .. })), "{told:?}");
        assert_eq!(flow.enedis.names(), ["own", "meters", "own", "meters"]);
    });
}

#[test]
fn while_enedis_is_down_nothing_is_decided() {
    let refused = NoToken::Refused { status: 401, error: "invalid_client".into() };
    for attempts in [
        vec![Attempt::Answered(Answer::Token(Err(refused)))],
        vec![Attempt::Down(None); 20],
        vec![Attempt::Busy(Some(START + secs(600)))],
    ] {
        universe(async |universe| {
            let flow = Flow::start(universe);
            flow.enedis.will(Duration::ZERO, attempts.clone());
            let told = flow.issue(1, AUTHORISATION).await;
            assert!(
                matches!(
                    told,
                    Err(NotIssued::Down { .. }
                        | NotIssued::Busy { .. }
                        | NotIssued::NotListed
                        | NotIssued::NotAccepted)
                ),
                "{attempts:?}: {told:?}"
            );
            flow.enedis.recover();
            pass(700).await;
            with_token(&flow).await;
            flow.will_tell([Ok(listed(0))]);
            assert_eq!(flow.issue(1, AUTHORISATION).await.as_deref(), Ok(METER));
        });
    }
    // A page waits so long, and no longer.
    universe(async |universe| {
        let flow = Flow::start(universe);
        with_token(&flow).await;
        flow.enedis.will(secs(9), vec![Attempt::Answered(Answer::Meters(Err(NoMeters::NotYet))); 4]);
        let told = flow.issue(1, AUTHORISATION).await;
        assert_eq!((told, universe.elapsed()), (Err(NotIssued::NotListed), secs(20)));
    });
}

#[test]
fn a_meter_that_a_box_holds_is_given_for_a_fresh_consent_only() {
    for (told, is_given) in [
        (Some(listed(0)), true),
        (Some(listed(1)), true),
        (Some(listed(2)), false),
        (Some(Subscription { meters: vec![meter(1)], since: None }), false),
        (None, true),
    ] {
        universe(async |universe| {
            let flow = Flow::start(universe);
            with_token(&flow).await;
            let issue = async |n, id| {
                flow.will_tell(told.clone().map(Ok));
                let subject = if told.is_some() { ConsentSubject::Authorisation(id) } else { named() };
                flow.issue(n, subject).await
            };
            // The first is believed: nobody holds the meter. Its own tokens do not stand in its way.
            for _ in 0..2 {
                assert_eq!(issue(1, 7).await.as_deref(), Ok(METER), "{told:?}");
            }
            let wanted = if is_given { Ok(METER.to_owned()) } else { Err(NotIssued::AlreadyLinked) };
            assert_eq!(issue(2, 8).await, wanted, "{told:?}");
            // The same authorisation from another browser is not believed, however fresh.
            if told.is_some() {
                assert_eq!(issue(3, 7).await, Err(NotIssued::AlreadyLinked), "{told:?}");
            }
            let words = universe.lines.words();
            let count = |wanted: &str| words.iter().filter(|words| *words == wanted).count();
            let refused = usize::from(told.is_some()) + usize::from(!is_given);
            assert_eq!(count("refusal: it is another's"), refused, "{words:?}");
            assert_eq!(count("claim: again"), usize::from(told.is_none()), "{words:?}");
        });
    }
}

#[test]
fn tokens_are_offered_to_a_store_that_is_away_for_a_while() {
    for (away, is_given) in [(3, true), (9, false)] {
        universe(async |universe| {
            let flow = Flow::start(universe);
            flow.store.set_away(true);
            let comes_back = async {
                pass(away).await;
                flow.store.set_away(false);
            };
            let (told, ()) = join(flow.issue(1, named()), comes_back).await;
            let wanted = if is_given { Ok(METER.to_owned()) } else { Err(NotIssued::Unavailable) };
            assert_eq!(told, wanted);
        });
    }
    universe(async |universe| {
        // Whether a box holds the meter cannot be said.
        let flow = Flow::start(universe);
        flow.store.set_away(true);
        assert_eq!(flow.issue(1, named()).await, Err(NotIssued::Unavailable));
    });
}
