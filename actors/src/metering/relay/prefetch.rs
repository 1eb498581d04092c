//! What the server asks Enedis by itself: each day of the meters that boxes ask for, as soon as Enedis has it; and, at night,
//! weeks of a month ago whose values were raw, once more.
//!
//! A meter is *active* for some days after a box asked for its yesterday. From 06:00 in France on the new day is wanted. A
//! few meters are tried as scouts until two in a row have it; then all others are asked, those first whose boxes have
//! gone without the longest, then those that were refused for want of quota. What Enedis does not have yet is asked for
//! again hours later. A meter is asked about only while its consent stands and its box asks: both are looked up in the
//! store before each question. Of several instances one asks ([`turns`]).

mod lines;
mod turns;

use std::collections::VecDeque;
use std::time::Duration;

use jiff::civil::Date;

use self::lines::{Active, Key, Lines, Place};
use self::turns::Turns;
use super::last_asked::{ACTIVE_DAYS, LastAsked};
use super::sealed_cache::Question;
use crate::base::clock::Timestamp;
use crate::base::meter::Meter;
use crate::metering::civil::{days_between, paris, plus, today};
use crate::metering::policy::LATE;
use crate::metering::request::{DayRange, MeterRequest, Resource};
use crate::metering::split::CURVE_CALL_DAYS;

/// From this hour on, by the clocks of France, Enedis may have yesterday.
const EARLIEST: i8 = 6;
/// Resources of meters that are known at a time.
const ACTIVE_MAX: usize = 200_000;
/// Questions under way at a time. They share the turns of low priority with the histories that people wait for.
const AT_A_TIME: usize = 4;
/// Time between two scouts, unless the first has the day.
const SCOUT_EVERY: Duration = Duration::from_secs(300);
/// Scouts in a row that have the day before it is believed to be there; and answers without it in a row before that is not
/// believed any more.
const BELIEVED: u32 = 2;
const DOUBTED: u32 = 8;
/// How long a meter is left alone whose day is not there, while nobody's is.
const EARLY: Duration = Duration::from_secs(3_600);
/// While others have theirs, [`LATE`] and then twice as long each time, up to this.
const LATE_MAX: Duration = Duration::from_secs(8 * 3_600);
/// Shortest and longest pause after a question that could not be asked.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// How old the days of a week are that is asked for once more.
const RAW_AGE_DAYS: i64 = 30;
/// Nobody asks then, by the clocks of France.
const NIGHT_BEGINS: i8 = 22;
const NIGHT_ENDS: i8 = 6;
/// Weeks that may wait; what is more stays as it is.
const WEEKS_MAX: usize = 20_000;
const A_MONDAY: Date = jiff::civil::date(2001, 1, 1);

/// What is to be asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    /// Of a day: from the first that is not there up to the one that is wanted.
    pub question: Question,
    pub is_week: bool,
    /// Its box went without an earlier day: this goes before what other boxes ask.
    pub is_overdue: bool,
}

impl Want {
    /// The day that is wanted.
    pub fn day(&self) -> Date {
        plus(self.question.request.range.end(), -1)
    }

    fn key(&self) -> Key {
        (self.question.request.meter, self.question.request.resource)
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The day is there.
    Came,
    /// Enedis does not have it yet.
    NotYet,
    /// Nothing was asked: what would be said is known.
    Known,
    /// There is nothing to ask for, as far as is known.
    Nothing,
    /// No box asks, or there is no consent any more.
    Gone,
    /// It could not be asked. If it is this meter's own trouble, others can be.
    Later { until: Timestamp, is_own: bool },
}

/// What is next.
#[derive(Debug)]
pub(super) enum Next {
    Ask(Want),
    /// Read which meters have a consent, and when they were last asked for.
    Restore,
    /// Take this turn, of all instances; what comes of it is told to [`Prefetch::claimed`].
    Claim(u64),
    /// Nothing before then, unless something happens.
    Wait(Option<Timestamp>),
}

pub(super) struct Prefetch {
    is_on: bool,
    lines: Lines,
    under_way: usize,
    in_a_row: u32,
    scout_at: Timestamp,
    not_before: Timestamp,
    turns: Turns,
    weeks: VecDeque<Question>,
    is_week_asked: bool,
}

impl Prefetch {
    pub fn new(is_on: bool) -> Self {
        Self {
            is_on,
            lines: Lines::default(),
            under_way: 0,
            in_a_row: 0,
            scout_at: Timestamp::EPOCH,
            not_before: Timestamp::EPOCH,
            turns: Turns::default(),
            weeks: VecDeque::new(),
            is_week_asked: false,
        }
    }

    pub const fn is_on(&self) -> bool {
        self.is_on
    }

    /// So many instances run.
    pub const fn share(&mut self, instances: u32) {
        self.turns.share(instances);
    }

    /// What came of [`Next::Claim`]; `None`: the store is away.
    pub fn claimed(&mut self, now: Timestamp, turn: u64, is_ours: Option<bool>) {
        self.turns.claimed(now, turn, is_ours);
    }

    /// Whether a day that a meter does not have is late, as others have theirs.
    pub fn is_late(&self, day: Date) -> bool {
        self.is_on && day <= self.lines.published
    }

    /// The meters with a consent could not be read.
    pub fn not_restored(&mut self, now: Timestamp) {
        self.turns.not_restored(now);
    }

    /// Resources of meters that are active, and those of them that lack a day.
    pub fn counts(&self) -> (usize, usize) {
        self.lines.counts()
    }

    /// A box asks about yesterday: its meter is active, and every seventh day a week of a month ago is to be looked at, on
    /// different days for different meters. Whether there is something new to ask.
    pub fn asked(&mut self, question: Question, today: Date) -> bool {
        if question.request.range.end() < today {
            return false;
        }
        let question = Question { changed_since: None, ..question };
        let is_new = self.is_on && self.note(question, question.request.range.start(), today);
        self.note_week(question, today) || is_new
    }

    /// What the store knows of a meter with a consent.
    pub fn restore(&mut self, question: Question, asked: &LastAsked, now: Timestamp) {
        for resource in Resource::ALL {
            if let Some(asked) = asked.of(resource).filter(|asked| *asked <= today(now)) {
                let request = MeterRequest { resource, ..question.request };
                self.note(Question { request, ..question }, plus(asked, -1), asked);
            }
        }
    }

    /// The meter is active, and its box has no day from `lacks` on. Whether that is news.
    fn note(&mut self, question: Question, lacks: Date, asked: Date) -> bool {
        let key = (question.request.meter, question.request.resource);
        let before = self.lines.take_out(key);
        let is_new = before.is_none_or(|before| before.question.consented < question.consented);
        if is_new && self.lines.len() >= ACTIVE_MAX {
            return false;
        }
        let lacks = lacks.max(plus(asked, -CURVE_CALL_DAYS));
        let new = Active {
            question,
            asked,
            lacks,
            given: plus(lacks, -1),
            all_given: plus(lacks, -1),
            is_refused: false,
            misses: 0,
            place: before.map_or(Place::Free, |before| before.place),
        };
        let active = match before.filter(|_| !is_new) {
            Some(before) if before.asked > asked => before,
            Some(before) => Active { question, asked, given: before.given.max(new.given), ..before },
            None => new,
        };
        self.lines.put_in(key, active);
        self.lines.weigh(key.0);
        is_new
    }

    fn note_week(&mut self, asked: Question, today: Date) -> bool {
        let turn = days_between(A_MONDAY, today).cast_unsigned() + asked.request.meter.modulo(7);
        if !turn.is_multiple_of(7) || self.weeks.len() >= WEEKS_MAX {
            return false;
        }
        let end = plus(today, -RAW_AGE_DAYS);
        let Some(week) = DayRange::new(plus(end, -CURVE_CALL_DAYS), end) else { return false };
        let question = Question { request: asked.request.with_range(week), ..asked };
        let is_new = self.weeks.iter().all(|other| other.request != question.request);
        if is_new {
            self.weeks.push_back(question);
        }
        is_new
    }

    /// The cache has everything up to `day`.
    pub fn has(&mut self, request: MeterRequest, day: Date) {
        self.lines.change((request.meter, request.resource), |active| {
            active.lacks = active.lacks.max(plus(day, 1));
            active.misses = 0;
            if active.place != Place::Asked {
                active.place = Place::Free;
            }
        });
    }

    /// A box was given everything up to `day`. Whether that is the first time.
    pub fn given(&mut self, request: MeterRequest, day: Date) -> bool {
        let mut is_first = false;
        self.lines.change((request.meter, request.resource), |active| {
            is_first = active.given < day;
            (active.given, active.is_refused) = (active.given.max(day), false);
        });
        if is_first {
            self.lines.weigh(request.meter);
        }
        is_first
    }

    /// A box was refused for want of quota: its meter goes ahead of others. Whether that is the first time today.
    pub fn refused(&mut self, request: MeterRequest) -> bool {
        let mut is_first = false;
        self.lines.change((request.meter, request.resource), |active| {
            is_first = !active.is_refused;
            active.is_refused = true;
        });
        is_first
    }

    /// Whether a box's question is to wait for what others went without on an earlier day, which this one did not. Only where
    /// that is being fetched: an instance that does not ask would wait for it in vain.
    pub fn gives_way(&self, now: Timestamp, request: MeterRequest) -> bool {
        let active = self.lines.get((request.meter, request.resource));
        let is_behind = active.is_none_or(|active| self.lines.is_behind(active.all_given));
        self.is_on && self.turns.is_ours(now) && self.lines.is_overdue() && !is_behind
    }

    /// Nothing is asked about a meter any more, until a box does.
    pub fn forget(&mut self, meter: Meter) {
        for resource in Resource::ALL {
            self.lines.take_out((meter, resource));
        }
        self.weeks.retain(|question| question.request.meter != meter);
    }

    /// What is next.
    pub fn next(&mut self, now: Timestamp, wall: Timestamp) -> Next {
        if self.is_on
            && let Some(next) = self.next_day(now, wall)
        {
            return next;
        }
        let is_night = !(NIGHT_ENDS..NIGHT_BEGINS).contains(&paris(wall).hour());
        self.weeks.retain(|week| wall < week.ends);
        let is_time = is_night && now >= self.not_before && self.under_way < AT_A_TIME;
        if is_time
            && !self.is_week_asked
            && let Some(question) = self.weeks.pop_front()
        {
            (self.is_week_asked, self.under_way) = (true, self.under_way + 1);
            return Next::Ask(Want { question, is_week: true, is_overdue: false });
        }
        Next::Wait(self.next_wake(now))
    }

    fn next_day(&mut self, now: Timestamp, wall: Timestamp) -> Option<Next> {
        self.turn_day(now, wall);
        if self.turns.restore(now) {
            return Some(Next::Restore);
        }
        self.lines.end_rests(now);
        if !self.lines.is_lacking() {
            return None;
        }
        if let Some(turn) = self.turns.claim(now) {
            return Some(Next::Claim(turn));
        }
        if !self.turns.is_ours(now) || now < self.not_before || self.under_way >= AT_A_TIME {
            return None;
        }
        while let Some(key) = self.pick(now) {
            let Some(active) = self.lines.take_out(key) else { continue };
            if active.question.ends <= wall || plus(active.asked, ACTIVE_DAYS) < today(wall) {
                continue;
            }
            // Of those that lack an older day as well, only what is known to be there.
            let day =
                if active.lacks > self.lines.published { self.lines.wanted } else { self.lines.published };
            let Some(range) = DayRange::new(active.lacks.max(plus(day, 1 - CURVE_CALL_DAYS)), plus(day, 1))
            else {
                continue;
            };
            self.lines.put_in(key, Active { place: Place::Asked, ..active });
            self.under_way += 1;
            let request = active.question.request.with_range(range);
            return Some(Next::Ask(Want {
                question: Question { request, ..active.question },
                is_week: false,
                is_overdue: self.lines.is_behind(active.all_given),
            }));
        }
        None
    }

    /// Whose turn it is.
    fn pick(&mut self, now: Timestamp) -> Option<Key> {
        let scout = self.lines.scout().filter(|_| now >= self.scout_at);
        if scout.is_some() {
            self.scout_at = now + SCOUT_EVERY;
        }
        scout.or_else(|| self.lines.first())
    }

    fn next_wake(&self, now: Timestamp) -> Option<Timestamp> {
        if self.under_way >= AT_A_TIME {
            return None;
        }
        let pause = Some(self.not_before).filter(|at| *at > now);
        let hour = Some(now.next_hour()).filter(|_| self.is_on || !self.weeks.is_empty());
        let days = self.is_on.then(|| {
            let scout = Some(self.scout_at).filter(|_| self.lines.scout().is_some());
            let turn = self.turns.next_wake(now, self.lines.is_lacking());
            [self.lines.rested_at(), scout, turn].into_iter().flatten().filter(|at| *at > now).min()
        });
        pause.into_iter().chain(hour).chain(days.flatten()).min()
    }

    /// What came of what was asked.
    pub fn ended(&mut self, now: Timestamp, want: &Want, end: End) {
        self.under_way = self.under_way.saturating_sub(1);
        if want.is_week {
            self.is_week_asked = false;
            if let End::Later { until, .. } = end {
                self.weeks.push_back(want.question);
                self.pause(now, until);
            }
            return;
        }
        let (key, day) = (want.key(), want.day());
        let Some(active) = self.lines.take_out(key) else { return };
        self.lines.put_in(key, Active { place: Place::Free, ..active });
        match end {
            End::Came => self.has(want.question.request, day),
            End::Known | End::Nothing => {
                self.lines.change(key, |active| active.lacks = active.lacks.max(plus(day, 1)));
                self.given(want.question.request, day);
            }
            End::Gone => self.forget(key.0),
            End::NotYet => {
                let misses = active.misses + 1;
                let late = (LATE * (1 << (misses - 1).min(4))).min(LATE_MAX);
                self.lines.rest(key.0, now + if self.is_late(day) { late } else { EARLY }, misses);
            }
            End::Later { until, is_own: true } => {
                self.lines.rest(key.0, until.max(now + PAUSE_MAX).min(now + LATE_MAX), active.misses);
            }
            End::Later { until, is_own: false } => self.pause(now, until),
        }
        // It cost no call: another one is a scout in its place.
        if matches!(end, End::Known | End::Gone) {
            self.scout_at = now;
        }
        // One that is late says nothing of the others.
        if day == self.lines.wanted && (active.misses == 0 || end == End::Came) {
            self.learn(now, end);
        }
    }

    /// What an answer says of whether Enedis has the wanted day.
    fn learn(&mut self, now: Timestamp, end: End) {
        let has_it = match end {
            End::Came => true,
            End::NotYet => false,
            End::Known | End::Nothing | End::Gone | End::Later { .. } => return,
        };
        let is_believed = self.lines.published >= self.lines.wanted;
        self.in_a_row = if has_it == is_believed { 0 } else { self.in_a_row + 1 };
        if has_it && !is_believed {
            // The next one at once.
            self.scout_at = now;
        }
        if self.in_a_row >= if is_believed { DOUBTED } else { BELIEVED } {
            self.in_a_row = 0;
            if is_believed {
                self.lines.published = plus(self.lines.wanted, -1);
            } else {
                self.lines.publish();
            }
            self.scout_at = now + SCOUT_EVERY;
            tracing::info!(day = %self.lines.wanted, is_there = !is_believed, "what Enedis has");
            self.lines.sort(|_| true);
        }
    }

    fn pause(&mut self, now: Timestamp, until: Timestamp) {
        self.not_before = until.clamp(now + PAUSE_MIN, now + PAUSE_MAX);
    }

    /// Another day may be wanted than before.
    fn turn_day(&mut self, now: Timestamp, wall: Timestamp) {
        let local = paris(wall);
        let wanted = plus(local.date(), if local.hour() < EARLIEST { -2 } else { -1 });
        if wanted != self.lines.wanted {
            // At a start in the night, Enedis has had all day for it.
            let is_old = self.lines.wanted == Date::MIN && local.hour() < EARLIEST;
            self.lines.published = plus(wanted, if is_old { 0 } else { -1 });
            (self.lines.wanted, self.in_a_row, self.scout_at) = (wanted, 0, now);
            self.lines.sort(|active| plus(active.asked, ACTIVE_DAYS) >= local.date());
        }
    }
}

#[cfg(test)]
mod tests;
