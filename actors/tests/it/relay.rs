//! The relay: what is asked of Enedis and what is known, who waits for whom, and what trouble is told as. What it decides
//! is `relay/core.rs`, with its own tests.

mod meters;
mod prefetch;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Arbiter;
use actors::base::clock::Timestamp;
use actors::enedis::port::{Answer, Attempt, NoToken};
use actors::limits::quota::QuotaSettings;
use actors::limits::shared_quota::SharedQuota;
use actors::metering::api_choice::{Api, ApiMode};
use actors::metering::cache::MeterCache;
use actors::metering::civil::{paris, plus, today};
use actors::metering::relay::{COME_BACK, MeterRelay, MeterRelayHandle, RelayPorts, RelaySettings, Relayed};
use actors::metering::request::{DayRange, MeterRequest, Resource};
use actors::metering::resource_server::{Cause, DataError, Reading, Verdict};
use actors::metering::tokens::TokenStore;
use actors::testing::{MeterModel, hourly_reading, meter};
use futures_util::future::{join, join_all};
use tokio::time::timeout;

use crate::fake_enedis::{FakeEnedis, Kind, secs};
use crate::universe::{START, Universe, pass, universe};

pub const SETTINGS: RelaySettings = RelaySettings {
    mode: ApiMode::New,
    quota: QuotaSettings { per_second: 5, per_hour: 1_000 },
    attempt: Duration::from_secs(10),
    cache_max_bytes: 1 << 20,
    memory_max_bytes: 1 << 20,
    prefetch: false,
};
/// A consent that is not fresh.
const LONG_AGO: Timestamp = Timestamp::from_millis(1_690_000_000_000);
const AT_ONCE: Duration = Duration::ZERO;

/// A relay in front of `enedis`.
pub fn start(
    universe: &Universe,
    enedis: &FakeEnedis,
    cache: &MeterModel,
    settings: RelaySettings,
) -> MeterRelayHandle {
    start_with(universe, enedis, cache, settings, None, universe.quota())
}

/// The same with the consents of a store of tokens, counting its calls in `quota`.
fn start_with(
    universe: &Universe,
    enedis: &FakeEnedis,
    cache: &MeterModel,
    settings: RelaySettings,
    grants: Option<Arc<dyn TokenStore>>,
    quota: SharedQuota,
) -> MeterRelayHandle {
    let server = enedis.clone();
    let ports = RelayPorts {
        server: Box::new(|| Rc::new(server)),
        cache: Arc::new(cache.clone()),
        exchanger: enedis.exchanger(),
        quota: Some(quota),
        grants,
        clock: Arc::clone(&universe.clock),
        keys: Arc::clone(&universe.keys),
    };
    MeterRelay::launch(&Arbiter::current(), ports, settings, [1; 32])
}

/// One relay, and what is around it.
struct Flow<'a> {
    universe: &'a Universe,
    enedis: FakeEnedis,
    cache: MeterModel,
    relay: MeterRelayHandle,
}

impl<'a> Flow<'a> {
    fn start(universe: &'a Universe) -> Self {
        Self::with(universe, SETTINGS)
    }

    fn with(universe: &'a Universe, settings: RelaySettings) -> Self {
        let (enedis, cache) = (FakeEnedis::new(universe), MeterModel::default());
        let relay = start(universe, &enedis, &cache, settings);
        Self { universe, enedis, cache, relay }
    }

    /// The same after a restart, once all was written.
    async fn restarted(self, settings: RelaySettings) -> Self {
        self.relay.idle().await;
        let relay = start(self.universe, &self.enedis, &self.cache, settings);
        Self { relay, ..self }
    }

    async fn read(&self, request: MeterRequest) -> Relayed {
        self.relay.read(request, LONG_AGO).await
    }

    fn calls(&self) -> usize {
        self.enedis.asked().len()
    }
}

/// The load curve of `days` days until yesterday.
pub fn days(n: u64, days: i64) -> MeterRequest {
    let today = today(START);
    let range = DayRange::new(plus(today, -days), today).unwrap();
    MeterRequest { resource: Resource::ConsumptionCurve, meter: meter(n), range }
}

fn values(request: MeterRequest) -> Verdict {
    Verdict::Values(hourly_reading(request.range))
}

fn is_answer(relayed: &Relayed, days: usize) -> bool {
    matches!(relayed, Relayed::Answer(body) if body.matches("540").count() == 24 * days)
}

#[test]
fn what_is_known_is_asked_once_and_a_restart_forgets_nothing() {
    universe(async |universe| {
        let flow = Flow::start(universe);
        let week = days(1, 7);
        let first = flow.read(week).await;
        assert!(is_answer(&first, 7), "{first:?}");
        assert_eq!(flow.enedis.asked(), [week]);
        assert_eq!((flow.read(week).await, flow.calls()), (first.clone(), 1));
        assert!(is_answer(&flow.read(days(1, 2)).await, 2));
        let flow = flow.restarted(SETTINGS).await;
        assert_eq!((flow.read(week).await, flow.calls()), (first, 1));
        // What was remembered before a consent is not for those who hold its tokens.
        pass(1).await;
        assert!(is_answer(&flow.relay.read(week, universe.clock.now()).await, 7));
        assert_eq!(flow.calls(), 2);
        assert_eq!(flow.enedis.names(), ["own", "own"], "one token for each process");
    });
}

#[test]
fn equal_questions_at_once_are_one_call() {
    universe(async |universe| {
        let flow = Flow::start(universe);
        flow.enedis.will_say(secs(2), [values(days(1, 7))]);
        let told = join_all((0..10).map(|_| flow.read(days(1, 7)))).await;
        assert!(told.iter().all(|told| is_answer(told, 7)), "{told:?}");
        assert_eq!((flow.calls(), universe.elapsed()), (1, secs(2)));
        assert_eq!(flow.relay.snapshot().await.unwrap().shared, 9);
    });
}

#[test]
fn a_caller_that_hangs_up_costs_no_call_unless_it_is_under_way() {
    universe(async |universe| {
        let flow = Flow::start(universe);
        flow.enedis.will_say(secs(2), (1..=5).map(|n| values(days(n, 1))));
        let (early, late) = join(
            join_all((1..=5).map(|n| timeout(secs(1), flow.read(days(n, 1))))),
            // No place is free for this one before it goes.
            timeout(Duration::from_millis(900), flow.relay.read(days(6, 1), LONG_AGO)),
        )
        .await;
        assert!(early.iter().all(Result::is_err) && late.is_err());
        pass(5).await;
        assert_eq!(flow.calls(), 5);
        assert!(is_answer(&flow.read(days(1, 1)).await, 1));
        assert_eq!(flow.calls(), 5, "what came too late is remembered");
        let snapshot = flow.relay.snapshot().await.unwrap();
        assert_eq!((snapshot.waiting, snapshot.queued), (0, 0));
    });
}

#[test]
fn nobody_waits_longer_than_twenty_seconds() {
    universe(async |universe| {
        let flow = Flow::start(universe);
        flow.enedis.will_say(secs(60), [Verdict::Closed]);
        assert_eq!(flow.read(days(1, 1)).await, Relayed::Busy { retry_after: COME_BACK });
        assert!((20..21).contains(&universe.elapsed().as_secs()), "{:?}", universe.elapsed());
    });
}

#[test]
fn trouble_is_never_told_as_a_refusal() {
    let busy = |secs: u64| Relayed::Busy { retry_after: Duration::from_secs(secs) };
    let unavailable = Relayed::Unavailable { retry_after: secs(60) };
    let error = DataError { cause: Cause::NoDirection, ..DataError::no_data() };
    let down = Verdict::Down { retry_at: None };
    for (verdicts, told) in [
        (vec![down.clone()], busy(10)),
        (vec![Verdict::Busy { until: START + secs(300) }], busy(300)),
        (vec![Verdict::TokenRejected, Verdict::TokenRejected], busy(10)),
        (vec![Verdict::Closed], unavailable.clone()),
        (vec![Verdict::DataError(error)], Relayed::Error(DataError::no_data())),
    ] {
        universe(async |universe| {
            let flow = Flow::start(universe);
            flow.enedis.will_say(AT_ONCE, verdicts.clone());
            assert_eq!(flow.read(days(1, 1)).await, told, "{verdicts:?}");
            assert_eq!(flow.calls(), verdicts.len());
        });
    }
    universe(async |universe| {
        let flow = Flow::start(universe);
        flow.enedis.will_say(AT_ONCE, [Verdict::ConsentRefused { code: "ADAM-DC-0008".into() }]);
        for _ in 0..2 {
            let told = flow.read(days(1, 1)).await;
            assert!(matches!(told, Relayed::Busy { .. } | Relayed::Unavailable { .. }), "{told:?}");
        }
        assert_eq!(flow.calls(), 1, "not asked again at once");
        // What lasts is no longer told as short.
        flow.enedis.will_say(AT_ONCE, [down.clone()]);
        assert_eq!(flow.read(days(2, 1)).await, busy(10));
        pass(180).await;
        flow.enedis.will_say(AT_ONCE, [down]);
        assert_eq!(flow.read(days(3, 1)).await, unavailable);
        // It is left alone as long as it asks.
        pass(600).await;
        let calls = flow.calls();
        let retry_at = Some(universe.clock.now() + secs(600));
        flow.enedis.will_say(AT_ONCE, [Verdict::Down { retry_at }]);
        for n in 4..6 {
            assert!(!matches!(flow.read(days(n, 1)).await, Relayed::Answer(_)));
        }
        assert_eq!(flow.calls(), calls + 1);
    });
    universe(async |universe| {
        let flow = Flow::start(universe);
        let refused = NoToken::Refused { status: 401, error: "invalid_client".into() };
        flow.enedis.will(AT_ONCE, [Attempt::Answered(Answer::Token(Err(refused)))]);
        let told = flow.read(days(1, 1)).await;
        assert!(matches!(told, Relayed::Busy { .. }), "no token: {told:?}");
        assert_eq!(flow.calls(), 0);
        pass(31).await;
        assert!(is_answer(&flow.read(days(1, 1)).await, 1));
    });
}

#[test]
fn no_outage_costs_a_call_for_each_question_and_each_ends_by_itself() {
    let down = Verdict::Down { retry_at: None };
    for verdict in [Verdict::TokenRejected, Verdict::Closed, down] {
        for mode in [ApiMode::New, ApiMode::Auto] {
            universe(async |universe| {
                let flow = Flow::with(universe, RelaySettings { mode, ..SETTINGS });
                flow.enedis.always(&Api::ALL, &verdict);
                let told = join_all((0..60).map(|n| flow.read(days(n, 1)))).await;
                let is_trouble =
                    |told: &Relayed| matches!(told, Relayed::Busy { .. } | Relayed::Unavailable { .. });
                assert!(told.iter().all(is_trouble), "{mode:?} {verdict:?} {told:?}");
                assert!(flow.calls() <= 24, "{mode:?} {verdict:?}: {}", flow.calls());
                assert!(flow.enedis.sent().len() <= 2, "a new token would fare no better");
                flow.enedis.recover();
                pass(3_600).await;
                assert!(is_answer(&flow.read(days(1, 1)).await, 1), "{mode:?} {verdict:?}");
            });
        }
    }
}

#[test]
fn the_other_api_serves_while_one_does_not_but_not_for_an_error_about_data() {
    for (verdict, calls) in [(Verdict::TokenRejected, 12), (Verdict::Closed, 8)] {
        universe(async |universe| {
            let flow = Flow::with(universe, RelaySettings { mode: ApiMode::Auto, ..SETTINGS });
            flow.enedis.always(&[Api::New], &verdict);
            for n in 1..=6 {
                assert!(is_answer(&flow.read(days(n, 1)).await, 1), "{verdict:?}");
            }
            assert_eq!(flow.calls(), calls, "that it is closed is remembered: {verdict:?}");
            assert_eq!(flow.enedis.names(), ["own"], "a new one would fare no better");
        });
    }
    let error = Relayed::Error(DataError::no_data());
    for (verdict, told) in [
        (Verdict::Down { retry_at: None }, None),
        (Verdict::Busy { until: START + secs(300) }, Some(Relayed::Busy { retry_after: secs(300) })),
        (Verdict::DataError(DataError::no_data()), Some(error)),
    ] {
        universe(async |universe| {
            let flow = Flow::with(universe, RelaySettings { mode: ApiMode::Auto, ..SETTINGS });
            flow.enedis.will_say(AT_ONCE, [verdict.clone()]);
            let answer = flow.read(days(1, 1)).await;
            let is_told = told.as_ref().map_or(is_answer(&answer, 1), |told| *told == answer);
            assert!(is_told, "{verdict:?} {answer:?}");
            assert_eq!(flow.calls(), if told.is_some() { 1 } else { 2 }, "{verdict:?}");
        });
    }
}

#[test]
fn a_token_is_replaced_however_much_waits() {
    universe(async |universe| {
        let flow = Flow::start(universe);
        assert!(is_answer(&flow.read(days(0, 1)).await, 1));
        flow.enedis.always(&[Api::New], &Verdict::TokenRejected);
        // A crowd every second, so that there is never a free place in the quota.
        let mut crowds = Vec::new();
        while flow.enedis.names().len() < 2 {
            for n in 0..8 {
                let (relay, n) = (flow.relay.clone(), 8 * universe.elapsed().as_secs() + n + 1);
                crowds.push(actix_rt::spawn(async move { relay.read(days(n, 1), LONG_AGO).await }));
            }
            pass(1).await;
        }
        assert!(universe.elapsed() <= secs(60), "{:?}", universe.elapsed());
        join_all(crowds).await;
    });
}

#[test]
fn a_history_is_cut_into_calls_and_does_not_keep_others_waiting() {
    universe(async |universe| {
        let flow = Flow::start(universe);
        assert!(is_answer(&flow.read(days(1, 30)).await, 30));
        assert_eq!(flow.calls(), 5);
        let history = flow.read(days(1, 720));
        let other = async {
            pass(2).await;
            let before = universe.elapsed();
            assert!(is_answer(&flow.read(days(2, 1)).await, 1));
            universe.elapsed().saturating_sub(before)
        };
        let (_, waited) = join(history, other).await;
        assert!(waited <= secs(2), "{waited:?}");
    });
}

#[test]
fn that_there_is_no_production_is_learnt_across_restarts() {
    universe(async |universe| {
        let mut flow = Flow::start(universe);
        let mut calls = Vec::new();
        for day in 0..24_u32 {
            flow.enedis.always(&[Api::New], &Verdict::DataError(DataError::no_data()));
            let (today, before) = (today(universe.clock.now()), flow.calls());
            let range = DayRange::new(plus(today, if day == 0 { -7 } else { -1 }), today).unwrap();
            let request = MeterRequest { resource: Resource::ProductionCurve, meter: meter(1), range };
            assert_eq!(flow.read(request).await, Relayed::Error(DataError::no_data()));
            calls.push(flow.calls() - before);
            flow = flow.restarted(SETTINGS).await;
            pass(86_400).await;
        }
        // Once a week: a box that asks for the last seven days loses none when panels are installed.
        assert_eq!(calls[0], 1);
        assert!(calls[1..].iter().sum::<usize>() <= 4, "{calls:?}");
        assert!(calls.windows(7).all(|week| week.iter().sum::<usize>() >= 1), "{calls:?}");
    });
}

#[test]
fn the_hours_calls_are_counted_across_a_restart_and_with_others() {
    universe(async |universe| {
        let settings = RelaySettings { quota: QuotaSettings { per_second: 5, per_hour: 2 }, ..SETTINGS };
        let flow = Flow::with(universe, settings);
        assert!(is_answer(&flow.read(days(1, 1)).await, 1));
        let flow = flow.restarted(settings).await;
        assert!(is_answer(&flow.read(days(2, 1)).await, 1));
        let hour_ends = START.next_hour().since(START);
        assert_eq!(flow.read(days(3, 1)).await, Relayed::Busy { retry_after: hour_ends });
        assert!(is_answer(&flow.read(days(1, 1)).await, 1), "what is known costs nothing");
        let other = Flow::with(universe, settings);
        assert_eq!(other.read(days(4, 1)).await, Relayed::Busy { retry_after: hour_ends });
        assert_eq!((flow.calls() + other.calls(), universe.elapsed()), (2, AT_ONCE));
    });
}

#[test]
fn a_cache_that_is_away_costs_calls_and_no_more() {
    universe(async |universe| {
        let flow = Flow::start(universe);
        flow.cache.set_away(true);
        assert!(is_answer(&flow.read(days(1, 1)).await, 1));
        assert!(is_answer(&flow.read(days(1, 1)).await, 1));
        flow.relay.forget(meter(2)).await;
        assert_eq!(flow.calls(), 1);
        let flow = flow.restarted(SETTINGS).await;
        flow.cache.set_away(false);
        assert!(is_answer(&flow.read(days(1, 1)).await, 1));
        assert_eq!(flow.calls(), 2);
    });
}

#[test]
fn what_is_forgotten_is_asked_again_and_the_store_is_kept_within_its_bound() {
    universe(async |universe| {
        let flow = Flow::with(universe, RelaySettings { cache_max_bytes: 0, ..SETTINGS });
        flow.read(days(1, 1)).await;
        flow.read(days(2, 1)).await;
        flow.relay.forget(meter(1)).await;
        flow.read(days(2, 1)).await;
        assert_eq!(flow.calls(), 2);
        flow.read(days(1, 1)).await;
        assert_eq!(flow.calls(), 3);
        // Once a minute all that is too much goes.
        flow.relay.idle().await;
        pass(61).await;
        assert_eq!(flow.cache.evict(universe.clock.now(), 0).await.unwrap(), 0);
        let flow = flow.restarted(SETTINGS).await;
        flow.read(days(2, 1)).await;
        assert_eq!(flow.calls(), 4);
    });
}
