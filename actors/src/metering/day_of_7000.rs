//! A day of 7000 boxes under 1000 calls an hour: with the real quota, queue and cache policy on a simulated clock, and
//! the same day passed straight through, as the PHP server did. `docs/metering.md` prints the
//! table that comes of it.
//!
//! The boxes are plugins as `reference/enedis.md` §3 describes them: first request between 8:00 and 8:59; load curve,
//! max power, production curve of yesterday, 10 s apart; 429 is sent again three times, then the whole cycle an
//! hour later, until 22:00. One in seven has panels; that the others have none is known from an earlier day.
//! Enedis answers within 0.4 s, has yesterday's values at 8:00, and does not count what it throttles.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use jiff::civil::{Date, date};

use super::cache::{HotCache, Subject, key_text};
use super::civil::{days_between, paris, plus, today};
use super::day::Fullness;
use super::policy::{Refusal, day_life};
use super::queue;
use super::request::{DayRange, MeterRequest, Resource};
use super::resource_server::{Cause, DataError};
use super::split;
use crate::base::clock::Timestamp;
use crate::base::keyring::CacheKey;
use crate::base::meter::Meter;
use crate::limits::fair_queue::{FairQueue, Next, Priority};
use crate::limits::quota::{Quota, QuotaSettings};

const BOXES: usize = 7_000;
const PER_SECOND: u32 = 5;
const PER_HOUR: u32 = 1_000;
const CALL: Duration = Duration::from_millis(400);
const HEARTBEAT: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3_600);
const RESENDS: u8 = 3;
const STEPS: [Resource; 3] = [Resource::ConsumptionCurve, Resource::DailyMaxPower, Resource::ProductionCurve];
const DAY: Date = date(2026, 11, 24);

/// What is between the boxes and Enedis.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Between {
    Nothing,
    Core,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ask(usize),
    Done(usize, bool),
    /// By its place in the list of calls.
    CallEnds(usize),
    Pump,
}

struct Plugin {
    step: usize,
    resends: u8,
    served: bool,
    /// The first day it has no values of.
    missing: Date,
}

/// One line of the table.
#[derive(Clone, Copy, Default)]
struct HourLine {
    served: usize,
    calls: u32,
    throttled: u32,
}

struct World {
    between: Between,
    day: Date,
    now: Timestamp,
    events: BinaryHeap<Reverse<(Timestamp, u64, Event)>>,
    serial: u64,
    boxes: Vec<Plugin>,
    lines: [HourLine; 24],
    quota: Quota,
    queue: FairQueue<usize, MeterRequest, usize>,
    calls: Vec<MeterRequest>,
    pump_at: Option<Timestamp>,
    cache: HotCache<()>,
    enedis: Enedis,
}

/// Enedis' own count: so many in each second and in each hour of the clock.
#[derive(Default)]
struct Enedis {
    second: (u64, u32),
    hour: (u64, u32),
}

impl Enedis {
    fn admits(&mut self, now: Timestamp) -> bool {
        let secs = now.as_secs();
        if self.second.0 != secs {
            self.second = (secs, 0);
        }
        if self.hour.0 != secs / 3_600 {
            self.hour = (secs / 3_600, 0);
        }
        let admitted = self.second.1 < PER_SECOND && self.hour.1 < PER_HOUR;
        self.second.1 += u32::from(admitted);
        self.hour.1 += u32::from(admitted);
        admitted
    }
}

impl World {
    fn new(between: Between) -> Self {
        let now = eight_o_clock(DAY);
        let quota = QuotaSettings { per_second: PER_SECOND, per_hour: PER_HOUR };
        let plugin = || Plugin { step: 0, resends: 0, served: false, missing: plus(DAY, -1) };
        let mut world = Self {
            between,
            day: DAY,
            now,
            events: BinaryHeap::new(),
            serial: 0,
            boxes: (0..BOXES).map(|_| plugin()).collect(),
            lines: [HourLine::default(); 24],
            quota: Quota::new(quota, now),
            queue: FairQueue::new(queue::settings(quota)),
            calls: Vec::new(),
            pump_at: None,
            cache: HotCache::new(64 << 20),
            enedis: Enedis::default(),
        };
        world.morning(DAY);
        world
    }

    /// Every box begins between 8:00 and 8:59, each day at another minute.
    fn morning(&mut self, day: Date) {
        (self.day, self.lines) = (day, [HourLine::default(); 24]);
        let turn = usize::try_from(days_between(DAY, day)).unwrap();
        for n in 0..BOXES {
            let after = u64::try_from((n * 7_919_317 + turn * (n % 1_009) * 104_729) % 3_600_000).unwrap();
            let plugin = &mut self.boxes[n];
            (plugin.step, plugin.resends, plugin.served) = (0, 0, false);
            self.at(eight_o_clock(day) + Duration::from_millis(after), Event::Ask(n));
        }
    }

    /// What box `n` asks at `step`: all the days it has not got.
    fn request(&self, n: usize, step: usize) -> MeterRequest {
        let meter = Meter::parse(&format!("{n:014}")).unwrap();
        let range = DayRange::new(self.boxes[n].missing.min(plus(self.day, -1)), self.day).unwrap();
        MeterRequest { resource: STEPS[step], meter, range }
    }

    fn at(&mut self, when: Timestamp, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((when, self.serial, event)));
    }

    fn line(&mut self) -> &mut HourLine {
        &mut self.lines[usize::try_from(paris(self.now).hour()).unwrap()]
    }

    fn run(&mut self) {
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            self.now = now;
            match event {
                Event::Ask(n) if self.between == Between::Nothing => self.pass_through(n),
                Event::Ask(n) => self.ask(n),
                Event::Done(n, ok) => self.answered(n, ok),
                Event::CallEnds(call) => self.call_ends(call),
                Event::Pump => self.pump(),
            }
        }
    }

    fn pass_through(&mut self, n: usize) {
        let ok = self.enedis.admits(self.now);
        self.line().calls += u32::from(ok);
        self.line().throttled += u32::from(!ok);
        self.at(self.now + CALL, Event::Done(n, ok));
    }

    fn ask(&mut self, n: usize) {
        let call = self.request(n, self.boxes[n].step);
        if call.resource == Resource::ProductionCurve && !has_panels(n) {
            let cause = Cause::NoDirection;
            let error = DataError { status: 400, code: String::new(), description: String::new(), cause };
            let (known, _) = Refusal::remember(None, &error, call, false, DAY).unwrap();
            assert!(known.answers(call).is_some(), "404 at no cost: the plugin goes on");
            self.answered(n, true);
            return;
        }
        let (cache, now) = (&mut self.cache, self.now);
        let known: BTreeSet<Date> =
            call.range.days().filter(|day| cache.get(key(call, *day), now).is_some()).collect();
        let calls = split::calls(call, today(now), |day| known.contains(&day));
        let Some(needed) = calls.first() else {
            self.answered(n, true);
            return;
        };
        let priority = queue::priority(*needed, today(now));
        let quota = &self.quota;
        let offered = self
            .queue
            .offer(now, &n, needed, priority, n, |ahead, limit| quota.look_ahead(now, ahead, limit));
        match offered {
            Ok(_) => self.pump(),
            Err(_) => self.answered(n, false),
        }
    }

    fn pump(&mut self) {
        self.pump_at = self.pump_at.filter(|at| *at > self.now);
        let mut wake = None;
        let mut late = self.queue.expire(self.now);
        loop {
            match self.queue.next(self.now, |_| self.quota.take(self.now, 0)) {
                Next::Call(call) => {
                    assert!(self.enedis.admits(self.now), "Enedis never has to throttle");
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
            self.answered(n, false);
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
            self.answered(waiter, true);
        }
        self.pump();
    }

    /// The plugin's reaction to an answer.
    fn answered(&mut self, n: usize, ok: bool) {
        let plugin = &mut self.boxes[n];
        let mut again = HEARTBEAT;
        if ok {
            plugin.step += 1;
            plugin.resends = 0;
            if plugin.step == STEPS.len() {
                (plugin.served, plugin.missing) = (true, self.day);
                self.line().served += 1;
                return;
            }
        } else if plugin.resends < RESENDS {
            plugin.resends += 1;
        } else {
            (plugin.step, plugin.resends) = (0, 0);
            again = HOUR;
        }
        if paris(self.now + again).hour() < 22 {
            self.at(self.now + again, Event::Ask(n));
        }
    }

    fn total(&self, of: impl Fn(&HourLine) -> u32) -> u32 {
        self.lines.iter().map(of).sum()
    }

    fn served(&self) -> usize {
        self.boxes.iter().filter(|plugin| plugin.served).count()
    }
}

fn has_panels(n: usize) -> bool {
    n.is_multiple_of(7)
}

/// 8 o'clock in winter is 7 o'clock UTC.
fn eight_o_clock(day: Date) -> Timestamp {
    let days = u64::try_from(days_between(date(1970, 1, 1), day)).unwrap();
    Timestamp::from_millis((days * 24 + 7) * 3_600_000)
}

fn key(call: MeterRequest, day: Date) -> CacheKey {
    CacheKey(blake3::hash(key_text(call.meter, Subject::Day(call.resource, day)).as_bytes()).into())
}

mod table;
