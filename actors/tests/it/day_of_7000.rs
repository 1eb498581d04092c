//! A day of 7000 boxes under 1000 calls an hour: through the relay, and the same day passed straight through, as the PHP
//! server did. `docs/metering.md` prints the table that comes of it.
//!
//! The boxes ask as the plugin does, each from its own second after eight on: what is missing of yesterday, four times at
//! the most, and again an hour later, until it has everything or it is 22:00. One in seven produces. Enedis answers
//! within 0.4 s, has yesterday's values at 8:00, and does not count what it throttles.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actors::base::clock::{SharedClock, Timestamp};
use actors::limits::quota::{Quota, QuotaSettings};
use actors::metering::civil::{paris, plus, today};
use actors::metering::relay::{MeterRelayHandle, RelaySettings, Relayed};
use actors::metering::request::{DayRange, MeterRequest, Resource};
use actors::testing::{MeterModel, meter};
use futures_util::future::join_all;

use crate::fake_enedis::{FakeEnedis, secs};
use crate::relay;
use crate::universe::{START, Universe, universe};

/// Where operators read the table.
const PRINTED: &str = include_str!("../../../docs/metering.md");

const BOXES: u64 = 7_000;
const PRODUCER_EVERY: u64 = 7;
const QUOTA: QuotaSettings = relay::SETTINGS.quota;
const CALL: Duration = Duration::from_millis(400);
const HOUR: Duration = Duration::from_secs(3_600);
/// How often the plugin sends a request, and how long after an answer that is none.
const ATTEMPTS: usize = 4;
const PAUSE: Duration = Duration::from_secs(10);

/// One line of the table.
#[derive(Clone, Copy, Default)]
struct Line {
    served: u32,
    calls: u32,
    throttled: u32,
}

type Lines = [Line; 24];

fn total(lines: &Lines, of: impl Fn(&Line) -> u32) -> u32 {
    lines.iter().map(of).sum()
}

/// The first midnight in France.
fn midnight() -> Timestamp {
    let midnight = START + secs(2_800);
    assert_eq!(paris(midnight).time(), jiff::civil::Time::midnight());
    midnight
}

/// The boxes, and what is between them and Enedis: a relay, or nothing.
struct World {
    clock: SharedClock,
    enedis: FakeEnedis,
    relay: Option<MeterRelayHandle>,
    /// What Enedis counts, where there is no relay.
    quota: RefCell<Quota>,
    lines: RefCell<Lines>,
}

impl World {
    fn new(universe: &Universe, with_relay: bool) -> Rc<Self> {
        let enedis = FakeEnedis::new(universe);
        enedis.set_latency(CALL);
        let settings =
            RelaySettings { memory_max_bytes: 64 << 20, cache_max_bytes: 1 << 30, ..relay::SETTINGS };
        let relay = with_relay.then(|| relay::start(universe, &enedis, &MeterModel::default(), settings));
        let quota = RefCell::new(Quota::new(QUOTA, START));
        Rc::new(Self { clock: Arc::clone(&universe.clock), enedis, relay, quota, lines: RefCell::default() })
    }

    fn count(&self, count: impl FnOnce(&mut Line)) {
        let hour = usize::try_from(paris(self.clock.now()).hour()).unwrap();
        count(&mut self.lines.borrow_mut()[hour]);
    }

    async fn until(&self, at: Timestamp) {
        tokio::time::sleep(at.since(self.clock.now())).await;
    }

    async fn ask(&self, request: MeterRequest) -> bool {
        if let Some(relay) = &self.relay {
            return matches!(relay.read(request, Timestamp::EPOCH).await, Relayed::Answer(_));
        }
        let is_admitted = self.quota.borrow_mut().take(self.clock.now(), 0).is_ok();
        self.count(|line| *if is_admitted { &mut line.calls } else { &mut line.throttled } += 1);
        tokio::time::sleep(CALL).await;
        is_admitted
    }

    async fn ask_again_and_again(&self, request: MeterRequest) -> bool {
        for _ in 0..ATTEMPTS {
            if self.ask(request).await {
                return true;
            }
            tokio::time::sleep(PAUSE).await;
        }
        false
    }

    /// One day of a box that has not had the values of so many days; answers how many it has not had then.
    async fn day_of(self: Rc<Self>, n: u64, midnight: Timestamp, behind: i64) -> i64 {
        let day = today(midnight);
        let range = DayRange::new(plus(day, -1 - behind), day).unwrap();
        let mut missing = questions(n, range);
        // In another order each day.
        let step = 7_919 + 12 * midnight.hour();
        let mut at = midnight + HOUR * 8 + secs(n * step % 3_600);
        while at < midnight + HOUR * 22 {
            self.until(at).await;
            while let Some(request) = missing.last()
                && self.ask_again_and_again(*request).await
            {
                missing.pop();
            }
            if missing.is_empty() {
                self.count(|line| line.served += 1);
                return 0;
            }
            at = at + HOUR;
        }
        behind + 1
    }

    /// One day of all boxes. Answers the table, and the days each box is behind.
    async fn day(self: &Rc<Self>, midnight: Timestamp, behind: &[i64]) -> (Lines, Vec<i64>) {
        let asked = self.enedis.asked().len();
        let boxes = (0..).zip(behind).map(|(n, behind)| Rc::clone(self).day_of(n, midnight, *behind));
        let behind = join_all(boxes.map(actix_rt::spawn)).await;
        let calls = self.enedis.asked_at().split_off(asked);
        assert!(calls.windows(6).all(|at| at[5].saturating_sub(at[0]) >= secs(1)), "five a second");
        let mut lines = self.lines.take();
        for at in calls {
            lines[usize::try_from(paris(START + at).hour()).unwrap()].calls += 1;
        }
        (lines, behind.into_iter().map(Result::unwrap).collect())
    }
}

/// What box `n` asks for.
fn questions(n: u64, range: DayRange) -> Vec<MeterRequest> {
    let all = [Resource::ProductionCurve, Resource::DailyMaxPower, Resource::ConsumptionCurve];
    let asked = &all[usize::from(!n.is_multiple_of(PRODUCER_EVERY))..];
    asked.iter().map(|resource| MeterRequest { resource: *resource, meter: meter(n), range }).collect()
}

/// The lines of the table as they are printed.
fn table(with: &Lines, without: &Lines) -> Vec<String> {
    let (mut sum, mut sum_without) = (0, 0);
    let mut lines = Vec::new();
    for hour in 8..23 {
        let (a, b) = (with[hour], without[hour]);
        sum += a.served;
        sum_without += b.served;
        let with = format!("{} | {sum} | {}", a.served, a.calls);
        lines.push(format!(
            "| {hour:02} | {with} | | {} | {sum_without} | {} | {} |",
            b.served, b.calls, b.throttled
        ));
    }
    let calls = [with, without].map(|lines| total(lines, |line| line.calls));
    let throttled = total(without, |line| line.throttled);
    lines.push(format!("| all | {sum} | | {} | | {sum_without} | | {} | {throttled} |", calls[0], calls[1]));
    lines
}

#[test]
fn day_of_7000() {
    let nothing_missed = vec![0; usize::try_from(BOXES).unwrap()];
    let passed_through = std::thread::spawn({
        let nothing_missed = nothing_missed.clone();
        move || {
            let lines = RefCell::default();
            universe(async |universe| {
                lines.replace(World::new(universe, false).day(midnight(), &nothing_missed).await.0);
            });
            lines.into_inner()
        }
    });
    universe(async |universe| {
        let world = World::new(universe, true);
        let (with, behind) = world.day(midnight(), &nothing_missed).await;
        let without = passed_through.join().unwrap();
        let mut printed = table(&with, &without);
        // 14 hours of 1000 calls, 2 or 3 calls a box: nearly all of what is possible at all, and none in vain.
        let served = total(&with, |line| line.served);
        assert!(served > 6_300 && served >= total(&without, |line| line.served), "{printed:#?}");
        assert!(with.iter().all(|line| line.calls <= QUOTA.per_hour), "{printed:#?}");
        assert!(total(&without, |line| line.throttled) > 100_000, "{printed:#?}");

        // No box was served at more cost than it must, and the same day asked again costs nothing.
        let day = today(midnight());
        let range = DayRange::new(plus(day, -1), day).unwrap();
        let of_served = (0..).zip(&behind).filter(|(_, behind)| **behind == 0);
        let needed: Vec<_> = of_served.flat_map(|(n, _)| questions(n, range)).collect();
        let calls = world.enedis.asked().len();
        assert!(calls <= needed.len() + 1_500, "{calls}: half done days carry on from the cache");
        for request in needed {
            assert!(world.ask(request).await);
        }
        assert_eq!(world.enedis.asked().len(), calls);

        // Who was left behind asks for two days on the next one, at the price of one: nobody loses a value of a curve.
        let (next, behind) = world.day(midnight() + HOUR * 24, &behind).await;
        let [one, two] = [1, 2].map(|days| behind.iter().filter(|behind| **behind == days).count());
        printed.push(format!("On the next day {one} boxes are a day behind and {two} two days;"));
        assert!(total(&next, |line| line.served) > 6_300 && two < 70, "{printed:#?}");
        let differs = printed.iter().any(|line| !PRINTED.contains(line));
        assert!(!differs, "docs/metering.md is of another day; this one is\n{}", printed.join("\n"));
    });
}
