//! A day of 7000 boxes under 1000 calls an hour: with the relay's quota, queue and memory on a simulated clock, and the
//! same day passed straight through, as the PHP server did. `docs/metering.md` prints the table that comes of it.
//!
//! The boxes are those of [`testkit::plugin`], each with its own minute after eight and its own second. They have had
//! the days before, so that it is known which have no production; one in seven produces. Tokens cost nothing. Enedis
//! answers within 0.4 s, has yesterday's values at 8:00, and does not count what it throttles.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::time::Duration;

use actors::base::clock::Timestamp;
use actors::base::keyring::CacheKey;
use actors::base::meter::Meter;
use actors::limits::fair_queue::{FairQueue, Next, Priority};
use actors::limits::quota::{Quota, QuotaSettings};
use actors::metering::cache::{HotCache, Subject, key_text};
use actors::metering::civil::{parse_date, plus, today};
use actors::metering::day::Fullness;
use actors::metering::policy::day_life;
use actors::metering::queue;
use actors::metering::request::{DayRange, MeterRequest, Resource};
use actors::metering::split;
use jiff::civil::{Date, date};
use testkit::calendar::Day;
use testkit::enedis::{self, GeneratedMeters, Taken};
use testkit::plugin::{HEARTBEAT, Kind, Moment, Plugin, Reply, Request, Saved, Settings, Step};

/// Where operators read the table.
const PRINTED: &str = include_str!("../../../docs/metering.md");

const BOXES: usize = 7_000;
const PRODUCER_EVERY: usize = 7;
const PER_SECOND: u32 = 5;
const PER_HOUR: u32 = 1_000;
const CALL: Duration = Duration::from_millis(400);
/// What a token takes.
const TOKEN: Duration = Duration::from_millis(100);
const DAY: Date = date(2026, 11, 24);
/// Every box believes that it has this one.
const POINT: &str = "37000000000000";

/// What is between the boxes and Enedis.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Between {
    Nothing,
    Relay,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Beat(usize),
    /// The question of this box is answered; whether with what it asked for.
    Answer(usize, bool),
    /// By its place in the list of calls.
    CallEnds(usize),
    Pump,
}

/// A box, and what it has asked.
struct Asking {
    plugin: Plugin,
    asked: Option<Request>,
}

/// One line of the table.
#[derive(Clone, Copy, Default)]
struct HourLine {
    served: u32,
    calls: u32,
    throttled: u32,
}

struct World {
    between: Between,
    now: Timestamp,
    events: BinaryHeap<Reverse<(Timestamp, u64, Event)>>,
    serial: u64,
    boxes: Vec<Asking>,
    lines: [HourLine; 24],
    quota: Quota,
    queue: FairQueue<Meter, MeterRequest, usize>,
    calls: Vec<MeterRequest>,
    pump_at: Option<Timestamp>,
    cache: HotCache<()>,
    /// What Enedis has counted.
    taken: Taken,
}

impl World {
    fn new(between: Between) -> Self {
        let now = midnight(DAY);
        let quota = QuotaSettings { per_second: PER_SECOND, per_hour: PER_HOUR };
        let before = [false, true].map(day_before);
        let plugin = |n: usize| {
            let mut plugin = before[usize::from(produces(n))].clone().with_seed(n as u64);
            plugin.restart(moment(now));
            Asking { plugin, asked: None }
        };
        let mut world = Self {
            between,
            now,
            events: BinaryHeap::new(),
            serial: 0,
            boxes: (0..BOXES).map(plugin).collect(),
            lines: [HourLine::default(); 24],
            quota: Quota::new(quota, now),
            queue: FairQueue::new(queue::settings(quota)),
            calls: Vec::new(),
            pump_at: None,
            cache: HotCache::new(64 << 20),
            taken: Taken::default(),
        };
        for n in 0..BOXES {
            world.at(now + Duration::from_millis((n as u64 * 7_919) % 10_000), Event::Beat(n));
        }
        world
    }

    /// Lets `day` pass.
    fn run(&mut self, day: Date) {
        self.lines = [HourLine::default(); 24];
        while let Some(Reverse((now, _, event))) = self.events.peek().copied() {
            if now >= midnight(plus(day, 1)) {
                return;
            }
            self.events.pop();
            self.now = now;
            match event {
                Event::Beat(n) => self.beat(n),
                Event::Answer(n, ok) => self.answered(n, ok),
                Event::CallEnds(call) => self.call_ends(call),
                Event::Pump => self.pump(),
            }
        }
    }

    fn at(&mut self, when: Timestamp, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((when, self.serial, event)));
    }

    fn line(&mut self) -> &mut HourLine {
        &mut self.lines[usize::try_from(moment(self.now).hour()).unwrap()]
    }

    /// Calls Enedis, unless it has to throttle.
    fn is_admitted(&mut self) -> bool {
        self.taken.take(enedis::Quota::ENEDIS, self.now.since(Timestamp::EPOCH)).is_ok()
    }

    fn beat(&mut self, n: usize) {
        let request = self.boxes[n].plugin.heartbeat(moment(self.now), true);
        self.send(n, request);
        let plugin = &self.boxes[n].plugin;
        // Nothing happens at a heartbeat until the box connects again.
        let idle = plugin.next_connection().since(moment(self.now));
        let beats = if plugin.step() == Step::Sending { 0 } else { idle.as_millis() / HEARTBEAT.as_millis() };
        self.at(self.now + HEARTBEAT * u32::try_from(beats + 1).unwrap(), Event::Beat(n));
    }

    fn send(&mut self, n: usize, request: Option<Request>) {
        let Some(request) = request else { return };
        let kind = request.kind;
        self.boxes[n].asked = Some(request);
        match self.between {
            _ if kind == Kind::Refresh => self.at(self.now + TOKEN, Event::Answer(n, true)),
            Between::Relay => self.ask(n),
            Between::Nothing => {
                let ok = self.is_admitted();
                self.line().calls += u32::from(ok);
                self.line().throttled += u32::from(!ok);
                self.at(self.now + CALL, Event::Answer(n, ok));
            }
        }
    }

    /// The calls that `request` needs.
    fn needed(&mut self, request: MeterRequest) -> Vec<MeterRequest> {
        let (cache, now) = (&mut self.cache, self.now);
        let known: Vec<_> =
            request.range.days().filter(|day| cache.get(key(request, *day), now).is_some()).collect();
        split::calls(request, today(now), |day| known.contains(&day))
    }

    fn ask(&mut self, n: usize) {
        let request = question(n, self.boxes[n].asked.as_ref().unwrap());
        let calls = self.needed(request);
        let Some(needed) = calls.first() else { return self.at(self.now, Event::Answer(n, true)) };
        assert_eq!(calls.len(), 1, "a day or two");
        let (now, quota) = (self.now, &self.quota);
        let priority = queue::priority(*needed, today(now));
        let look_ahead = |ahead, limit| quota.look_ahead(now, ahead, limit);
        match self.queue.offer(now, &needed.meter, needed, priority, n, look_ahead) {
            Ok(_) => self.pump(),
            Err(_) => self.at(now, Event::Answer(n, false)),
        }
    }

    fn pump(&mut self) {
        self.pump_at = self.pump_at.filter(|at| *at > self.now);
        let mut wake = None;
        let mut late = self.queue.expire(self.now);
        loop {
            match self.queue.next(self.now, |_| self.quota.take(self.now, 0)) {
                Next::Call(call) => {
                    assert!(self.is_admitted(), "Enedis never has to throttle");
                    self.line().calls += 1;
                    self.calls.push(call);
                    self.at(self.now + CALL, Event::CallEnds(self.calls.len() - 1));
                }
                Next::Wait(_, wait) => {
                    late.extend(self.queue.shed(self.now + wait, Priority::High));
                    wake = (self.queue.waiting() > 0).then_some(self.now + wait);
                    break;
                }
                Next::Idle => break,
            }
        }
        for n in late {
            self.at(self.now, Event::Answer(n, false));
        }
        let wake = wake.into_iter().chain(self.queue.next_wake()).min();
        if let Some(wake) = wake.filter(|wake| self.pump_at.is_none_or(|at| *wake < at)) {
            self.pump_at = Some(wake);
            self.at(wake, Event::Pump);
        }
    }

    fn call_ends(&mut self, call: usize) {
        let call = self.calls[call];
        for day in call.range.days() {
            let life = day_life(day, Fullness::Complete, today(self.now)).unwrap();
            self.cache.put(key(call, day), (), 300, self.now + life);
        }
        for waiter in self.queue.finish(self.now, &call) {
            self.at(self.now, Event::Answer(waiter, true));
        }
        self.pump();
    }

    fn answered(&mut self, n: usize, ok: bool) {
        let Asking { plugin, asked } = &mut self.boxes[n];
        let reply =
            if ok { reply(n, &asked.take().unwrap()) } else { Reply { status: 429, ..Reply::default() } };
        let before = plugin.outcomes().served;
        let request = plugin.answer(moment(self.now), &reply);
        let served = plugin.outcomes().served > before;
        self.line().served += u32::from(served);
        self.send(n, request);
    }

    fn total(&self, of: impl Fn(&HourLine) -> u32) -> u32 {
        self.lines.iter().map(of).sum()
    }

    /// Boxes that have the load curves of so many days.
    fn holding(&self, days: u32) -> usize {
        self.boxes.iter().filter(|each| each.plugin.hours_held(POINT, false) == 24 * days).count()
    }
}

fn produces(n: usize) -> bool {
    n.is_multiple_of(PRODUCER_EVERY)
}

/// Midnight in France, in winter.
fn midnight(day: Date) -> Timestamp {
    let before = Day::parse(&plus(day, -1).to_string()).unwrap();
    Timestamp::EPOCH + Moment::at(before, 23, 0).since(epoch())
}

/// What clocks in France show, in winter.
fn moment(now: Timestamp) -> Moment {
    epoch().plus(now.since(Timestamp::EPOCH) + Duration::from_secs(3_600))
}

fn epoch() -> Moment {
    Moment::at(Day::from_epoch(0), 0, 0)
}

fn key(call: MeterRequest, day: Date) -> CacheKey {
    CacheKey(blake3::hash(key_text(call.meter, Subject::Day(call.resource, day)).as_bytes()).into())
}

/// What box `n` asks the relay.
fn question(n: usize, request: &Request) -> MeterRequest {
    let resource = match request.kind {
        Kind::Consumption => Resource::ConsumptionCurve,
        Kind::Production => Resource::ProductionCurve,
        Kind::MaxPower => Resource::DailyMaxPower,
        other => panic!("no question about a meter: {other:?}"),
    };
    MeterRequest { resource, meter: meter(n), range: range(request) }
}

fn meter(n: usize) -> Meter {
    Meter::parse(&GeneratedMeters::point(u32::try_from(n).unwrap())).unwrap()
}

fn range(request: &Request) -> DayRange {
    let date = |name| {
        let (_, rest) = request.target.split_once(name).unwrap();
        parse_date(&rest[..10]).unwrap()
    };
    DayRange::new(date("start="), date("end=")).unwrap()
}

/// What box `n` asked for.
fn reply(n: usize, request: &Request) -> Reply {
    let tokens = r#"{"access_token":"a","refresh_token":"r","token_type":"Bearer","expires_in":12600}"#;
    let (status, body) = match request.kind {
        Kind::Refresh => (200, tokens.to_owned()),
        Kind::Production if !produces(n) => (400, r#"{"error":"ADAM-ERR0069"}"#.to_owned()),
        kind => {
            let hours = if kind == Kind::MaxPower { 1 } else { 24 };
            let mut readings = String::new();
            for day in range(request).days() {
                for hour in 0..hours {
                    write!(readings, r#"{{"value":"500","date":"{day} {hour:02}:00:00"}},"#).unwrap();
                }
            }
            let readings = readings.trim_end_matches(',');
            let reading = format!(r#"{{"usage_point_id":"{POINT}","interval_reading":[{readings}]}}"#);
            (200, format!(r#"{{"meter_reading":{reading}}}"#))
        }
    };
    Reply { status, body, ..Reply::default() }
}

/// A box that has had everything by the evening before.
fn day_before(producer: bool) -> Plugin {
    let (n, mut now) = (usize::from(!producer), midnight(plus(DAY, -1)) + Duration::from_secs(9 * 3_600));
    let saved = Saved {
        usage_points: vec![POINT.into()],
        token_type: "Bearer".into(),
        access_token: "a".into(),
        refresh_token: "r".into(),
        expires_at: Some(epoch()),
    };
    let mut plugin = Plugin::new(Settings::new("proxy"), moment(now)).with_saved(saved);
    while plugin.outcomes().served == 0 {
        now = now + HEARTBEAT;
        let mut request = plugin.heartbeat(moment(now), true);
        while let Some(asked) = request {
            request = plugin.answer(moment(now), &reply(n, &asked));
        }
    }
    plugin
}

/// The lines of the table as they are printed.
fn table(with: &World, without: &World) -> Vec<String> {
    let (mut sum, mut sum_without) = (0, 0);
    let mut lines: Vec<String> = (8..23)
        .map(|hour| {
            let (a, b) = (with.lines[hour], without.lines[hour]);
            sum += a.served;
            sum_without += b.served;
            let with = format!("{} | {sum} | {}", a.served, a.calls);
            format!("| {hour:02} | {with} | | {} | {sum_without} | {} | {} |", b.served, b.calls, b.throttled)
        })
        .collect();
    let calls = [with, without].map(|world| world.total(|line| line.calls));
    let throttled = without.total(|line| line.throttled);
    lines.push(format!("| all | {sum} | | {} | | {sum_without} | | {} | {throttled} |", calls[0], calls[1]));
    lines
}

#[test]
fn day_of_7000() {
    let passed_through = std::thread::spawn(|| {
        let mut without = World::new(Between::Nothing);
        without.run(DAY);
        without
    });
    let mut with = World::new(Between::Relay);
    with.run(DAY);
    let without = passed_through.join().unwrap();
    let served = |world: &World| world.total(|line| line.served);
    let spared = |world: &World| world.lines.iter().all(|line| line.calls <= PER_HOUR && line.throttled == 0);

    let mut printed = table(&with, &without);
    // 14 hours of 1000 calls, 2 or 3 calls a box: nearly all of what is possible at all, and none in vain.
    assert!(served(&with) > 6_300 && served(&with) >= served(&without) && spared(&with), "{printed:#?}");
    assert!(without.total(|line| line.throttled) > 100_000, "{printed:#?}");
    assert!(with.boxes.iter().all(|each| each.plugin.outcomes().timeouts == 0), "429 comes in time");

    // No box was served at more cost than it must, and the same day asked again costs nothing.
    let mut needed = 0;
    let range = DayRange::new(plus(DAY, -1), DAY).unwrap();
    for n in 0..BOXES {
        // Once on the day before, and again.
        if with.boxes[n].plugin.outcomes().served == 2 {
            let all = [Resource::ConsumptionCurve, Resource::DailyMaxPower, Resource::ProductionCurve];
            for resource in &all[..if produces(n) { 3 } else { 2 }] {
                needed += 1;
                assert_eq!(with.needed(MeterRequest { resource: *resource, meter: meter(n), range }), []);
            }
        }
    }
    let calls = with.total(|line| line.calls);
    assert!(calls <= needed + 1_500, "{calls} of {needed}: half done cycles carry on from the cache");

    // Who was left behind asks for two days on the next one, at the price of one: nobody loses a value of a curve.
    with.run(plus(DAY, 1));
    let (behind, far_behind) = (with.holding(8), with.holding(7));
    printed.push(format!("On the next day {behind} boxes are a day behind and {far_behind} two days;"));
    assert!(served(&with) > 6_300 && far_behind < BOXES / 100 && spared(&with), "{printed:#?}");
    let differs = printed.iter().any(|line| !PRINTED.contains(line));
    assert!(!differs, "docs/metering.md is of another day; this one is\n{}", printed.join("\n"));
}
