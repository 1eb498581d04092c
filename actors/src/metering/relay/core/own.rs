//! What the server asks by itself, as the core carries it out: what [`Prefetch`](super::Prefetch) wants goes the way of a
//! box's question, with low priority, and what comes of it is told there.

use std::collections::{BTreeSet, HashMap};

use jiff::civil::Date;

use super::{Core, Effect, Question, Relayed, Remembered, Waiting};
use crate::base::clock::Timestamp;
use crate::limits::fair_queue::Priority;
use crate::metering::cache::{BATCH_MAX, CacheEntry};
use crate::metering::civil::{plus, today};
use crate::metering::day::Fullness;
use crate::metering::queue;
use crate::metering::refusals::is_young;
use crate::metering::relay::held::Held;
use crate::metering::relay::prefetch::{End, Next, Want};
use crate::metering::request::{DayRange, MeterRequest, Resource};
use crate::metering::resource_server::Cause;

/// The first number of a question of the server's own; callers have lower ones.
pub const FIRST: u64 = 1 << 63;

pub const fn is_own(id: u64) -> bool {
    id >= FIRST
}

/// Questions of the server's own.
#[derive(Default)]
pub struct Own {
    serial: u64,
    asked: HashMap<u64, Want>,
    /// Meters whose last questions are being looked up.
    pub reading: HashMap<u64, Vec<Held>>,
}

impl Own {
    fn number(&mut self) -> u64 {
        self.serial += 1;
        FIRST + self.serial
    }
}

impl Core {
    /// Asks what is to be asked now; when to look again.
    pub(super) fn ask_own(&mut self, now: Timestamp) -> Option<Timestamp> {
        loop {
            match self.prefetch.next(now, self.wall) {
                Next::Ask(want) => {
                    let id = self.own.number();
                    self.own.asked.insert(id, want);
                    self.look(now, id, want.question);
                }
                Next::Restore => self.effects.push(Effect::ReadHeld),
                Next::Claim(turn) => self.effects.push(Effect::Claim(turn)),
                Next::Wait(at) => return at,
            }
        }
    }

    /// The meters with a consent are known: when were they last asked for?
    pub(super) fn held(&mut self, now: Timestamp, held: Option<Vec<Held>>) {
        let Some(held) = held else { return self.prefetch.not_restored(now) };
        for held in held.chunks(BATCH_MAX) {
            let keys = held.iter().map(|held| self.cache.last_asked_key(held.meter)).collect();
            let id = self.own.number();
            self.own.reading.insert(id, held.to_vec());
            self.effects.push(Effect::Look { id, keys });
        }
    }

    /// They are.
    pub(super) fn restore(&mut self, now: Timestamp, held: Vec<Held>, entries: Option<Vec<CacheEntry>>) {
        let Some(entries) = entries else { return self.prefetch.not_restored(now) };
        let entries: HashMap<_, _> = entries.iter().map(|entry| (entry.key, entry)).collect();
        let day = today(self.wall);
        for Held { meter, consented, ends, is_proven } in held {
            let entry = entries.get(&self.cache.last_asked_key(meter));
            let last = entry.and_then(|entry| self.cache.open_last_asked(entry, consented));
            let range = DayRange::new(plus(day, -1), day);
            if let (Some(last), Some(range)) = (last, range) {
                let request = MeterRequest { resource: Resource::ConsumptionCurve, meter, range };
                let question = Question { request, consented, ends, is_proven, changed_since: None };
                self.prefetch.restore(question, &last, self.wall);
            }
        }
    }

    /// A box asks about yesterday: a restart is to know that.
    pub(super) fn note_asked(&mut self, question: Question) {
        let today = today(self.wall);
        if !self.prefetch.is_on() || question.request.range.end() < today {
            return;
        }
        let mut last = self.cache.last_asked(question, self.wall);
        if last.note(question.request.resource, today) {
            self.cache.set_last_asked(question, &last, self.wall);
            self.write();
        }
    }

    /// Whether a question of the server's own may be asked: a box asks about the meter, and there is a consent.
    pub(super) fn may_ask(&mut self, question: Question, remembered: &Remembered) -> bool {
        let is_asked = remembered.is_asked || self.cache.is_just_asked(question, self.wall);
        self.wall < question.ends && (is_asked || !self.prefetch.is_on())
    }

    /// The days that a question of the server's own is for; `None`: it is a box's.
    pub(super) fn own_days(
        &self,
        id: u64,
        question: Question,
        remembered: &Remembered,
    ) -> Option<BTreeSet<Date>> {
        let want = self.own.asked.get(&id)?;
        let (resource, wanted) = (question.request.resource, want.day());
        let Remembered { days, due, since, .. } = remembered;
        // Where there were never values only if Enedis has confirmed the consent.
        let first = since.or_else(|| question.is_proven.then_some(question.request.range.start()));
        let is_missing = |day: &Date| match days.get(day) {
            Some(known) if want.is_week => known.is_raw(),
            None if want.is_week => false,
            None => first.is_some_and(|first| *day >= first),
            Some(known) => match known.fullness(resource, *day) {
                Fullness::Complete => false,
                Fullness::Partial => due.contains(day),
                Fullness::Empty => *day == wanted || due.contains(day),
            },
        };
        Some(question.request.range.days().filter(is_missing).collect())
    }

    /// Which calls of a question give way to which: those of recent days go before older ones, and boxes that went without a
    /// day, whether they ask or the server does in their place, before others.
    pub(super) fn priority(&self, now: Timestamp, id: u64, call: MeterRequest) -> Priority {
        match self.own.asked.get(&id) {
            Some(want) if want.is_overdue => Priority::High,
            Some(_) => Priority::Low,
            None if self.prefetch.gives_way(now, call) => Priority::Low,
            None => queue::priority(call, today(self.wall)),
        }
    }

    /// The last day with values of those that a question is answered with: the cache has it.
    pub(super) fn note_days(&mut self, waiting: &Waiting) -> Option<Date> {
        let request = waiting.question.request;
        let days = waiting.days.range(request.range.start()..request.range.end());
        let last = days.filter(|(_, day)| !day.points.is_empty()).map(|(date, _)| *date).next_back()?;
        self.prefetch.has(request, last);
        Some(last)
    }

    /// Counts how a box was told about yesterday for the first time.
    pub(super) fn count(&mut self, waiting: &Waiting, last: Option<Date>, relayed: &Relayed) {
        let request = waiting.question.request;
        match (relayed, last) {
            (Relayed::Answer(_), Some(last)) if self.prefetch.given(request, last) => {
                self.stats.days[usize::from(waiting.is_asked)] += 1;
            }
            (Relayed::Busy { .. }, _) if self.prefetch.refused(request) => self.stats.days[2] += 1,
            _ => {}
        }
    }

    /// A question of the server's own has its answer.
    pub(super) fn settle_own(
        &mut self,
        now: Timestamp,
        id: u64,
        waiting: &Waiting,
        last: Option<Date>,
        relayed: &Relayed,
    ) {
        let Some(want) = self.own.asked.get(&id) else { return };
        let request = waiting.question.request;
        let end = match *relayed {
            _ if last.is_some_and(|last| last >= want.day()) => End::Came,
            Relayed::Busy { retry_after } | Relayed::Unavailable { retry_after } => {
                let is_own = self.troubles.pause(request, now).is_some()
                    || self.shares.wait(request.meter, now).is_some()
                    || is_young(self.wall, waiting.question.consented)
                        && self.shares.strangers_wait(now).is_some();
                End::Later { until: now + retry_after, is_own }
            }
            // What would be said again says nothing of this day, nor that there was never a value.
            _ if !waiting.is_asked => End::Known,
            _ if self.cache.since(waiting.question, self.wall).is_none() => End::Nothing,
            _ if waiting.errors.iter().all(|error| error.cause == Cause::NoData) => End::NotYet,
            _ => End::Nothing,
        };
        self.stats.prefetches += u64::from(waiting.is_asked);
        self.end_own(now, id, end);
    }

    pub(super) fn end_own(&mut self, now: Timestamp, id: u64, end: End) {
        if let Some(want) = self.own.asked.remove(&id) {
            self.prefetch.ended(now, &want, end);
        }
    }
}
