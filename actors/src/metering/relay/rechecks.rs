//! Days whose values were raw when they were fetched are asked for once more when they are a month old, in case they were
//! corrected: at night, when no box asks, one call at a time.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::civil::Date;

use super::sealed_cache::Question;
use crate::base::clock::Timestamp;
use crate::metering::civil::{days_between, paris, plus};
use crate::metering::request::DayRange;
use crate::metering::split::CURVE_CALL_DAYS;

/// How old days are by then.
const AGE_DAYS: i64 = 30;
/// Nobody asks then, by the clocks of France.
const NIGHT_BEGINS: i8 = 22;
const NIGHT_ENDS: i8 = 6;
/// Weeks that may wait; what is more stays as it is.
const WAITING_MAX: usize = 20_000;
/// Longest pause after one that could not be asked.
const PAUSE_MAX: Duration = Duration::from_secs(600);
const A_MONDAY: Date = jiff::civil::date(2001, 1, 1);

/// The weeks that wait for the night. After a restart they are those of the meters that are asked for from then on.
#[derive(Default)]
pub(super) struct Rechecks {
    weeks: VecDeque<Question>,
    not_before: Timestamp,
}

impl Rechecks {
    /// A box asks about yesterday: every seventh day a week of a month ago is to be looked at, on different days for
    /// different meters. Answers whether there is a new one.
    pub fn note(&mut self, asked: Question, today: Date) -> bool {
        let Question { request, .. } = asked;
        let turn = days_between(A_MONDAY, today).cast_unsigned() + request.meter.modulo(7);
        if request.range.end() < today || !turn.is_multiple_of(7) || self.weeks.len() >= WAITING_MAX {
            return false;
        }
        let end = plus(today, -AGE_DAYS);
        let Some(week) = DayRange::new(plus(end, -CURVE_CALL_DAYS), end) else { return false };
        let question = Question { request: request.with_range(week), ..asked };
        let is_new = self.weeks.iter().all(|other| other.request != question.request);
        if is_new {
            self.weeks.push_back(question);
        }
        is_new
    }

    /// The next one, if it is night by the wall clock; else when to look again.
    pub fn next(&mut self, now: Timestamp, wall: Timestamp) -> Result<Question, Option<Timestamp>> {
        let is_night = !(NIGHT_ENDS..NIGHT_BEGINS).contains(&paris(wall).hour());
        match self.weeks.front() {
            None => Err(None),
            Some(_) if !is_night => Err(Some(now.next_hour())),
            Some(_) if now < self.not_before => Err(Some(self.not_before)),
            Some(_) => self.weeks.pop_front().ok_or(None),
        }
    }

    /// This one cannot be asked now; others perhaps can before `until`, as it may be the trouble of one meter.
    pub fn put_off(&mut self, question: Question, now: Timestamp, until: Timestamp) {
        self.weeks.push_back(question);
        self.not_before = until.min(now + PAUSE_MAX);
    }
}
