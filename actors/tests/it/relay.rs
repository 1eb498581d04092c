//! The relay: what is asked of Enedis and what is known, who waits for whom, and what trouble is told as. What it decides
//! is `relay/core.rs`, with its own tests.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Arbiter;
use actors::base::clock::Timestamp;
use actors::base::meter::Meter;
use actors::enedis::port::{Answer, Attempt, NoToken};
use actors::limits::quota::QuotaSettings;
use actors::metering::api_choice::ApiMode;
use actors::metering::cache::MeterCache;
use actors::metering::civil::{plus, today};
use actors::metering::relay::{COME_BACK, MeterRelay, MeterRelayHandle, RelayPorts, RelaySettings, Relayed};
use actors::metering::request::{DayRange, MeterRequest, Resource};
use actors::metering::resource_server::{Cause, DataError, Verdict};
use actors::testing::{MeterModel, hourly_reading};
use futures_util::future::{join, join_all};
use tokio::time::timeout;

use crate::fake_enedis::{FakeEnedis, secs};
use crate::universe::{START, Universe, pass, universe};

pub const SETTINGS: RelaySettings = RelaySettings {
    mode: ApiMode::New,
    quota: QuotaSettings { per_second: 5, per_hour: 1_000 },
    attempt: Duration::from_secs(10),
    cache_max_bytes: 1 << 20,
    memory_max_bytes: 1 << 20,
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
    let server = enedis.clone();
    let ports = RelayPorts {
        server: Box::new(|| Rc::new(server)),
        cache: Arc::new(cache.clone()),
        exchanger: enedis.exchanger(),
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
fn days(n: u64, days: i64) -> MeterRequest {
    let today = today(START);
    let range = DayRange::new(plus(today, -days), today).unwrap();
    MeterRequest { resource: Resource::ConsumptionCurve, meter: meter(n), range }
}

fn values(request: MeterRequest) -> Verdict {
    Verdict::Values(hourly_reading(request.range))
}

pub fn meter(n: u64) -> Meter {
    Meter::parse(&format!("{n:014}")).unwrap()
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
    let error = DataError {
        status: 400,
        code: "ADAM-ERR".into(),
        description: String::new(),
        cause: Cause::NoDirection,
    };
    let down = Verdict::Down { retry_at: None };
    for (verdicts, told) in [
        (vec![down.clone()], busy(10)),
        (vec![Verdict::Busy { until: START + secs(300) }], busy(300)),
        (vec![Verdict::TokenRejected, Verdict::TokenRejected], busy(10)),
        (vec![Verdict::Closed], unavailable.clone()),
        (vec![Verdict::DataError(error.clone())], Relayed::Error(error)),
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
fn the_hours_calls_are_counted_across_a_restart() {
    universe(async |universe| {
        let settings = RelaySettings { quota: QuotaSettings { per_second: 5, per_hour: 2 }, ..SETTINGS };
        let flow = Flow::with(universe, settings);
        assert!(is_answer(&flow.read(days(1, 1)).await, 1));
        let flow = flow.restarted(settings).await;
        assert!(is_answer(&flow.read(days(2, 1)).await, 1));
        let hour_ends = START.next_hour().since(START);
        assert_eq!(flow.read(days(3, 1)).await, Relayed::Busy { retry_after: hour_ends });
        assert!(is_answer(&flow.read(days(1, 1)).await, 1), "what is known costs nothing");
        assert_eq!((flow.calls(), universe.elapsed()), (2, AT_ONCE));
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
