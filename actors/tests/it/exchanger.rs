//! The exchanger: what is sent and when, what is sent again, and who hears that it was not.

use std::iter::repeat_n;
use std::time::Duration;

use actors::base::network::Network;
use actors::enedis::exchanger::{Acquired, Exchanged, ExchangerSettings, NotDone, TokenExchangerHandle};
use actors::enedis::port::{Answer, Attempt, Bearer, Grant, MetersCall, NoMeters, NoToken, TokenCall};
use actors::limits::quota::QuotaSettings;
use futures_util::future::join_all;
use futures_util::join;

use crate::fake_enedis::{EXCHANGER, FakeEnedis, secs, token};
use crate::universe::{START, Universe, pass, universe};

/// An exchanger in front of an Enedis of its own.
fn start(universe: &Universe, settings: ExchangerSettings) -> (FakeEnedis, TokenExchangerHandle) {
    let enedis = FakeEnedis::new(universe);
    let own = Some(("app".to_owned(), Some("secret".to_owned().into())));
    let exchanger = enedis.exchanger_with(settings, own);
    (enedis, exchanger)
}

const AT_ONCE: Duration = Duration::ZERO;

fn code(name: &str) -> TokenCall {
    let grant = Grant::AuthorizationCode { code: name.to_owned(), verifier: None };
    TokenCall { client_id: "c".into(), client_secret: None, is_devices_own: false, grant }
}

fn refresh(name: &str) -> TokenCall {
    let grant = Grant::RefreshToken { refresh_token: name.to_owned().into(), scope: None };
    TokenCall { client_id: "c".into(), client_secret: None, is_devices_own: false, grant }
}

/// What is told of a call that was not done.
fn not_done<T>(exchanged: &Exchanged<T>) -> Option<(NotDone, Duration)> {
    match exchanged {
        Exchanged::NotDone { why, retry_after } => Some((*why, *retry_after)),
        Exchanged::Answered(_) | Exchanged::Lost => None,
    }
}

#[test]
fn what_was_not_acted_on_is_sent_again_after_what_enedis_asks() {
    universe(async |universe| {
        let (enedis, exchanger) = start(universe, EXCHANGER);
        enedis
            .will(AT_ONCE, [Attempt::Busy(Some(START + secs(3))), Attempt::Down(None), Attempt::Down(None)]);
        assert!(matches!(exchanger.token(Network::LOCALHOST, code("a")).await, Exchanged::Answered(Ok(_))));
        let at: Vec<Duration> = enedis.sent().into_iter().map(|(at, _)| at).collect();
        let pauses: Vec<Duration> = at.windows(2).map(|at| at[1].saturating_sub(at[0])).collect();
        assert_eq!(pauses[0], secs(3));
        // Backoff: half to the whole of 0.5 s and of 1 s.
        assert!((250..=501).contains(&pauses[1].as_millis()), "{pauses:?}");
        assert!((500..=1_001).contains(&pauses[2].as_millis()), "{pauses:?}");
        let token = exchanger.snapshot().await.unwrap().token;
        assert_eq!((token.attempts, token.retries), (4, 3));
    });
}

#[test]
fn what_may_have_been_acted_on_is_not_sent_again() {
    universe(async |universe| {
        let (enedis, exchanger) = start(universe, EXCHANGER);
        let garbled = Err(NoToken::Garbled { status: 500 });
        enedis.will(AT_ONCE, [Attempt::Lost, Attempt::Failed(Answer::Token(garbled.clone()))]);
        assert_eq!(exchanger.token(Network::LOCALHOST, code("a")).await, Exchanged::Lost);
        assert_eq!(exchanger.token(Network::LOCALHOST, code("b")).await, Exchanged::Answered(garbled));
        // An answer to another question tells nothing of this one.
        enedis.will(AT_ONCE, [Attempt::Answered(Answer::Meters(Err(NoMeters::NotYet)))]);
        assert_eq!(exchanger.token(Network::LOCALHOST, code("c")).await, Exchanged::Lost);
        assert_eq!(enedis.names(), ["a", "b", "c"]);
        assert_eq!(exchanger.snapshot().await.unwrap().token.lost, 1);
    });
}

#[test]
fn no_attempt_is_begun_that_could_not_be_waited_for() {
    universe(async |universe| {
        let (enedis, exchanger) = start(universe, EXCHANGER);
        enedis.will(secs(9), repeat_n(Attempt::Down(None), 9));
        let told = exchanger.token(Network::LOCALHOST, code("a")).await;
        // From 0 and some 9 s on; another one could end after the deadline.
        assert_eq!((enedis.sent().len(), not_done(&told).unwrap().0), (2, NotDone::Down));
        assert!((18..20).contains(&universe.elapsed().as_secs()), "told at once: {:?}", universe.elapsed());
    });
    universe(async |universe| {
        let (enedis, exchanger) = start(universe, EXCHANGER);
        enedis.will(secs(8), repeat_n(Attempt::Answered(token("t")), 2));
        let (a, b, c) = join!(
            exchanger.token(Network::LOCALHOST, code("a")),
            exchanger.token(Network::LOCALHOST, code("b")),
            exchanger.token(Network::LOCALHOST, code("c")),
        );
        assert!(matches!((a, b), (Exchanged::Answered(_), Exchanged::Answered(_))));
        assert_eq!((not_done(&c), universe.elapsed()), (Some((NotDone::Busy, secs(1))), secs(16)));
        assert_eq!(enedis.names(), ["a", "b"]);
    });
}

#[test]
fn what_does_not_answer_is_left_alone_and_probed() {
    universe(async |universe| {
        let (enedis, exchanger) = start(universe, EXCHANGER);
        enedis.will(AT_ONCE, repeat_n(Attempt::Lost, 5));
        for _ in 0..5 {
            assert_eq!(exchanger.token(Network::LOCALHOST, code("a")).await, Exchanged::Lost);
        }
        let since = universe.elapsed();
        assert!(exchanger.snapshot().await.unwrap().token.allowance.breaker_open);
        let told = not_done(&exchanger.token(Network::LOCALHOST, code("b")).await);
        assert!(told.is_some_and(|(why, wait)| why == NotDone::Down && wait <= secs(5)), "{told:?}");
        // The other endpoint has a breaker of its own.
        let meters = exchanger
            .meters(Network::LOCALHOST, MetersCall { authorisation: 1, bearer: Bearer::from("t") })
            .await;
        assert_eq!((meters, universe.elapsed()), (Exchanged::Answered(Err(NoMeters::NotYet)), since));
        pass(5).await;
        enedis.will(secs(2), [Attempt::Lost]);
        let (probe, other) = join!(
            exchanger.token(Network::LOCALHOST, code("c")),
            exchanger.token(Network::LOCALHOST, code("d"))
        );
        assert_eq!((probe, not_done(&other)), (Exchanged::Lost, Some((NotDone::Down, secs(10)))));
        pass(10).await;
        assert!(matches!(exchanger.token(Network::LOCALHOST, code("e")).await, Exchanged::Answered(_)));
        assert!(matches!(exchanger.token(Network::LOCALHOST, code("f")).await, Exchanged::Answered(_)));
        assert_eq!(enedis.names()[5..], ["meters", "c", "e", "f"]);
    });
}

#[test]
fn codes_go_before_refreshes_and_have_a_part_of_the_hour() {
    universe(async |universe| {
        let quota = QuotaSettings { per_second: 100, per_hour: 20 };
        let (enedis, exchanger) = start(universe, ExchangerSettings { quota, ..EXCHANGER });
        enedis.will(secs(1), [Attempt::Answered(token("t"))]);
        let waiting = async {
            let (_, _, c) = join!(
                exchanger.refresh(Network::LOCALHOST, refresh("b"), || true),
                exchanger.refresh(Network::LOCALHOST, refresh("c"), || true),
                exchanger.token(Network::LOCALHOST, code("d")),
            );
            assert!(matches!(c, Exchanged::Answered(_)));
        };
        join!(exchanger.token(Network::LOCALHOST, code("a")), waiting);
        assert_eq!(enedis.names(), ["a", "d", "b", "c"]);
        for _ in 4..18 {
            assert!(matches!(
                exchanger.refresh(Network::LOCALHOST, refresh("e"), || true).await,
                Exchanged::Answered(_)
            ));
        }
        // Two of twenty are kept: whoever cannot wait for the next hour hears it at once.
        let before = universe.elapsed();
        let (why, retry_after) =
            not_done(&exchanger.refresh(Network::LOCALHOST, refresh("f"), || true).await).unwrap();
        assert_eq!((why, universe.clock.now() + retry_after), (NotDone::Busy, START.next_hour()));
        for _ in 18..20 {
            assert!(matches!(exchanger.token(Network::LOCALHOST, code("g")).await, Exchanged::Answered(_)));
        }
        assert_eq!(not_done(&exchanger.token(Network::LOCALHOST, code("h")).await).unwrap().0, NotDone::Busy);
        assert_eq!((universe.elapsed(), enedis.sent().len()), (before, 20));
    });
}

#[test]
fn the_quota_is_kept_and_whoever_finds_no_place_hears_it() {
    universe(async |universe| {
        let (enedis, exchanger) = start(universe, ExchangerSettings { in_flight: 3, ..EXCHANGER });
        enedis.will(secs(1), repeat_n(Attempt::Down(None), 4_100));
        let refreshes = (0..4_100).map(|_| exchanger.refresh(Network::LOCALHOST, refresh("a"), || true));
        let told = join_all(refreshes).await;
        let full = told.iter().filter(|told| not_done(told) == Some((NotDone::Busy, secs(5)))).count();
        assert_eq!((told.len(), full), (4_100, 4));
        let at: Vec<Duration> = enedis.sent().into_iter().map(|(at, _)| at).collect();
        assert!(at.windows(4).all(|at| at[3].saturating_sub(at[0]) >= secs(1)), "three at a time");
        assert!(at.windows(6).all(|at| at[5].saturating_sub(at[0]) >= secs(1)), "five a second");
        assert_eq!(exchanger.snapshot().await.unwrap().token.queued, 0);
    });
}

#[test]
fn one_renewal_serves_all_who_want_the_applications_token() {
    universe(async |universe| {
        let (enedis, exchanger) = start(universe, EXCHANGER);
        enedis.will(secs(2), [Attempt::Answered(token("first"))]);
        let all = join_all((0..50).map(|_| exchanger.acquire(None))).await;
        assert!(all.iter().all(|told| *told == Acquired::Bearer(Bearer::from("first"))));
        assert_eq!(enedis.names(), ["own"]);
        // Shortly before its end it serves on while the next one is fetched.
        pass(12_100).await;
        enedis.will(secs(2), [Attempt::Answered(token("second"))]);
        let before = universe.elapsed();
        assert_eq!(exchanger.acquire(None).await, Acquired::Bearer(Bearer::from("first")));
        assert_eq!((universe.elapsed(), enedis.sent().len()), (before, 2));
        pass(40).await;
        // A rejected one is replaced once, for those too whose call was under way with it; its successor, if that is rejected
        // as well, not while it is young: the fault is not the token's.
        for (wait, rejected, told) in
            [(0, "second", "own 2"), (0, "second", "own 2"), (1, "own 2", "own 2"), (100, "own 2", "own 3")]
        {
            pass(wait).await;
            let acquired = exchanger.acquire(Some(Bearer::from(rejected))).await;
            assert_eq!(acquired, Acquired::Bearer(Bearer::from(told)), "{rejected} after {wait} s");
        }
        assert_eq!(enedis.sent().len(), 4);
    });
}

#[test]
fn whoever_wants_a_token_that_there_is_not_hears_why() {
    universe(async |universe| {
        let (enedis, exchanger) = start(universe, EXCHANGER);
        let none = |why, wait| Acquired::NotDone { why, retry_after: secs(wait) };
        let error = NoToken::Refused { status: 401, error: "invalid_client".into() };
        enedis.will(AT_ONCE, [Attempt::Answered(Answer::Token(Err(error)))]);
        assert_eq!(exchanger.acquire(None).await, none(NotDone::NotAccepted, 30));
        pass(10).await;
        assert_eq!((exchanger.acquire(None).await, enedis.sent().len()), (none(NotDone::NotAccepted, 20), 1));
        pass(20).await;
        assert_eq!(exchanger.acquire(None).await, Acquired::Bearer(Bearer::from("own 1")));
        // Where the application has no credentials there is none at all.
        let without = enedis.exchanger_with(EXCHANGER, None);
        assert_eq!((without.acquire(None).await, enedis.sent().len()), (none(NotDone::Down, 25), 2));
    });
}
