//! Days of thousands of boxes under 1000 calls an hour: one through the relay, and the same passed straight through, as the
//! PHP server did; and days in a row, with what the server fetches by itself and without. `docs/metering.md` prints the
//! tables that come of it. Meters and quota are divided by the same number, so that a run takes seconds.
//!
//! The boxes ask as the plugin does, each from its own second after eight on: what they have not got until yesterday, four
//! times at the most, and again an hour later, until they have everything or it is 22:00. One in seven produces. Enedis
//! answers within 0.4 s, and does not count what it throttles.

mod in_a_row;

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

/// What meters and quota are divided by.
const SCALE: u32 = 10;
const BOXES: u64 = 700;
const PRODUCER_EVERY: u64 = 7;
const QUOTA: QuotaSettings = quota(SCALE);
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

const fn quota(scale: u32) -> QuotaSettings {
    QuotaSettings { per_second: 5, per_hour: 1_000 / scale }
}

/// How a question went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Values,
    NoData,
    Later,
}

/// What has become of a box on a day.
#[derive(Clone, Copy)]
struct Ended {
    /// Days it has not had.
    behind: i64,
    /// It had all it asked for at its first question.
    at_once: bool,
}

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
    /// In front of Enedis with this quota; without a relay for `None`, else with one that fetches by itself or does not.
    fn new(universe: &Universe, quota: QuotaSettings, prefetch: Option<bool>) -> Rc<Self> {
        let enedis = FakeEnedis::new(universe);
        enedis.set_latency(CALL);
        let settings = |prefetch| RelaySettings {
            memory_max_bytes: 64 << 20,
            cache_max_bytes: 1 << 30,
            quota,
            prefetch,
            ..relay::SETTINGS
        };
        let relay = prefetch.map(settings);
        let relay = relay.map(|settings| relay::start(universe, &enedis, &MeterModel::default(), settings));
        let quota = RefCell::new(Quota::new(quota, START));
        Rc::new(Self { clock: Arc::clone(&universe.clock), enedis, relay, quota, lines: RefCell::default() })
    }

    fn count(&self, count: impl FnOnce(&mut Line)) {
        let hour = usize::try_from(paris(self.clock.now()).hour()).unwrap();
        count(&mut self.lines.borrow_mut()[hour]);
    }

    async fn until(&self, at: Timestamp) {
        tokio::time::sleep(at.since(self.clock.now())).await;
    }

    async fn ask(&self, request: MeterRequest) -> Told {
        if let Some(relay) = &self.relay {
            return match relay.read(request, Timestamp::EPOCH).await {
                Relayed::Answer(_) => Told::Values,
                Relayed::Error(_) => Told::NoData,
                Relayed::Busy { .. } | Relayed::Unavailable { .. } => Told::Later,
            };
        }
        let now = self.clock.now();
        let is_admitted = self.quota.borrow_mut().take(now, 0).is_ok();
        // It counts when it takes the call.
        self.quota.borrow_mut().ended(now);
        self.count(|line| *if is_admitted { &mut line.calls } else { &mut line.throttled } += 1);
        tokio::time::sleep(CALL).await;
        if is_admitted { Told::Values } else { Told::Later }
    }

    /// Asks until there is an answer, at the most four times; what it was, and how often it took.
    async fn ask_again_and_again(&self, request: MeterRequest) -> (Told, usize) {
        for attempt in 1..ATTEMPTS {
            match self.ask(request).await {
                Told::Later => tokio::time::sleep(PAUSE).await,
                told => return (told, attempt),
            }
        }
        (self.ask(request).await, ATTEMPTS)
    }

    /// One day of a box that has not had the values of so many days.
    async fn day_of(self: Rc<Self>, n: u64, midnight: Timestamp, behind: i64) -> Ended {
        let day = today(midnight);
        let range = DayRange::new(plus(day, -1 - behind), day).unwrap();
        let mut missing = questions(n, range);
        // In another order each day.
        let step = 7_919 + 12 * midnight.hour();
        let mut at = midnight + HOUR * 8 + secs(n * step % 3_600);
        let mut at_once = true;
        while at < midnight + HOUR * 22 {
            self.until(at).await;
            while let Some(request) = missing.last() {
                let (told, attempts) = self.ask_again_and_again(*request).await;
                at_once &= told == Told::Values && attempts == 1;
                if told != Told::Values {
                    break;
                }
                missing.pop();
            }
            if missing.is_empty() {
                self.count(|line| line.served += 1);
                return Ended { behind: 0, at_once };
            }
            at = at + HOUR;
        }
        Ended { behind: behind + 1, at_once }
    }

    /// One day of all boxes, which have not had so many days. Answers the table, and what has become of each box.
    async fn day(self: &Rc<Self>, midnight: Timestamp, behind: &[i64]) -> (Lines, Vec<Ended>) {
        let asked = self.enedis.asked().len();
        let boxes = (0..).zip(behind).map(|(n, behind)| Rc::clone(self).day_of(n, midnight, *behind));
        let ended = join_all(boxes.map(actix_rt::spawn)).await;
        let calls = self.enedis.asked_at().split_off(asked);
        assert!(calls.windows(6).all(|at| at[5].saturating_sub(at[0]) >= secs(1)), "five a second");
        let mut lines = self.lines.take();
        for at in calls {
            lines[usize::try_from(paris(START + at).hour()).unwrap()].calls += 1;
        }
        (lines, ended.into_iter().map(Result::unwrap).collect())
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

fn behind(ended: &[Ended]) -> Vec<i64> {
    ended.iter().map(|ended| ended.behind).collect()
}

#[test]
fn a_day_of_7000() {
    let nothing_missed = vec![0; usize::try_from(BOXES).unwrap()];
    let passed_through = std::thread::spawn({
        let nothing_missed = nothing_missed.clone();
        move || {
            let lines = RefCell::default();
            universe(async |universe| {
                lines.replace(World::new(universe, QUOTA, None).day(midnight(), &nothing_missed).await.0);
            });
            lines.into_inner()
        }
    });
    universe(async |universe| {
        let world = World::new(universe, QUOTA, Some(false));
        let (with, ended) = world.day(midnight(), &nothing_missed).await;
        let behind = behind(&ended);
        let without = passed_through.join().unwrap();
        let mut printed = table(&with, &without);
        // 14 hours of 1000 calls, 2 or 3 calls a box: nearly all of what is possible at all, and none in vain.
        let served = total(&with, |line| line.served);
        assert!(served > 630 && served >= total(&without, |line| line.served), "{printed:#?}");
        assert!(with.iter().all(|line| line.calls <= QUOTA.per_hour), "{printed:#?}");
        assert!(total(&without, |line| line.throttled) > 10_000, "{printed:#?}");

        // No box was served at more cost than it must, and the same day asked again costs nothing.
        let day = today(midnight());
        let range = DayRange::new(plus(day, -1), day).unwrap();
        let of_served = (0..).zip(&behind).filter(|(_, behind)| **behind == 0);
        let needed: Vec<_> = of_served.flat_map(|(n, _)| questions(n, range)).collect();
        let calls = world.enedis.asked().len();
        assert!(calls <= needed.len() + 150, "{calls}: half done days carry on from the cache");
        for request in needed {
            assert!(world.ask(request).await == Told::Values);
        }
        assert_eq!(world.enedis.asked().len(), calls);

        // Who was left behind asks for two days on the next one, at the price of one: nobody loses a value of a curve.
        let (next, ended) = world.day(midnight() + HOUR * 24, &behind).await;
        let [one, two] = [1, 2].map(|days| ended.iter().filter(|ended| ended.behind == days).count());
        printed.push(format!("On the next day {one} boxes are a day behind and {two} two days;"));
        assert!(total(&next, |line| line.served) > 630 && two < 7, "{printed:#?}");
        let differs = printed.iter().any(|line| !PRINTED.contains(line));
        assert!(!differs, "docs/metering.md is of another day; this one is\n{}", printed.join("\n"));
    });
}
