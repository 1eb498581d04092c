//! Owns a cycle: meter by meter, the load curve of consumption week by week, the largest powers, the load curve of
//! production, and the reactions to what the data endpoint answers. Days held already are not asked again.

use std::time::Duration;

use serde_json::Value;

use super::message::{Crash, Kind, Reply, Request};
use super::{AWAKE, Flow, Moment, Plugin, Step};
use crate::calendar::Day;

/// Days asked at once, of a load curve and of largest powers.
const CURVE_DAYS: i64 = 7;
const PEAK_DAYS: i64 = 1095;
/// Days for which hours are shown; at least so many are fetched.
const HOUR_VIEW_DAYS: i64 = 7;
/// Days of history that are fetched when it is not time for all of it.
const SHORT_HISTORY_DAYS: i64 = 35;

/// Errors after which a direction is never asked again.
const NONE_FOR_GOOD: [&str; 2] = ["adam-err0069", "adam-err0123"];

/// What a cycle knows of itself.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are the plugin's own")]
pub(super) struct Cycle {
    point: usize,
    production: bool,
    no_consumption: bool,
    no_production: bool,
    /// The meter at hand, or a step before the first one, failed.
    pub(super) failed: bool,
    /// A meter before failed.
    failed_before: bool,
    /// The access token was renewed in this cycle.
    pub(super) refreshed: bool,
    /// The history is fetched as a whole.
    full: bool,
    history_days: i64,
    today: Day,
    batch: Batch,
}

impl Default for Cycle {
    fn default() -> Self {
        let today = Day::from_epoch(0);
        Self {
            point: 0,
            production: false,
            no_consumption: false,
            no_production: false,
            failed: false,
            failed_before: false,
            refreshed: false,
            full: false,
            history_days: HOUR_VIEW_DAYS,
            today,
            batch: Batch::first(today, HOUR_VIEW_DAYS, 1),
        }
    }
}

/// The days being asked; batches go back in time.
#[derive(Clone, Debug)]
struct Batch {
    first: bool,
    hours: (Day, Day),
    hours_left: i64,
    peaks: (Day, Day),
    peaks_left: i64,
}

impl Batch {
    fn first(today: Day, hours: i64, peaks: i64) -> Self {
        let batch = Self {
            first: true,
            hours: (today, today),
            hours_left: hours,
            peaks: (today, today),
            peaks_left: peaks,
        };
        Self { first: true, ..batch.next() }
    }

    /// The batch before this one, in both series at once.
    fn next(&self) -> Self {
        let step = |(end, _): (Day, Day), left: i64, most: i64| {
            let days = left.min(most);
            ((end.plus(-days), end), left - days)
        };
        let (hours, hours_left) = step(self.hours, self.hours_left, CURVE_DAYS);
        let (peaks, peaks_left) = step(self.peaks, self.peaks_left, PEAK_DAYS);
        Self { first: false, hours, hours_left, peaks, peaks_left }
    }
}

impl Plugin {
    /// Decides at the beginning of a cycle how much history it fetches.
    pub(super) fn plan_history(&mut self, now: Moment) {
        let wanted = self.settings.history_days;
        let full = wanted > SHORT_HISTORY_DAYS && self.next_full.is_none_or(|due| due <= now);
        let history_days = if full { wanted } else { wanted.min(SHORT_HISTORY_DAYS) };
        self.cycle = Cycle { full, history_days, ..Cycle::default() };
    }

    pub(super) fn start(&mut self, now: Moment) -> Flow {
        if self.saved.usage_points.is_empty() {
            return self.fail();
        }
        self.cycle.today = now.day();
        Flow::Point
    }

    pub(super) fn next_point(&mut self) -> Flow {
        self.cycle.failed_before |= std::mem::take(&mut self.cycle.failed);
        (self.cycle.production, self.cycle.no_consumption, self.cycle.no_production) = (false, false, false);
        Flow::Direction
    }

    pub(super) fn next_direction(&mut self) -> Flow {
        self.reset_batch();
        self.ask_hours()
    }

    pub(super) fn production(&mut self) -> Flow {
        if self.cycle.production {
            return Flow::Save;
        }
        self.cycle.production = true;
        Flow::Direction
    }

    pub(super) fn save(&mut self) -> Flow {
        if !self.memory.knows(&self.usage_point()) {
            self.cycle.failed = true;
        }
        self.cycle.point += 1;
        if self.cycle.point < self.saved.usage_points.len() { Flow::Point } else { Flow::Done }
    }

    /// Ends the cycle and plans the next one: tomorrow, as planned already, or in an hour after a failure.
    pub(super) fn done(&mut self, now: Moment) {
        let failed = self.cycle.failed || self.cycle.failed_before;
        if failed {
            self.outcomes.gave_up += 1;
            self.next = now.plus(Duration::from_secs(3_600));
            if self.next.hour() >= AWAKE.end {
                self.next = self.tomorrow(now);
            }
        } else {
            self.outcomes.served += 1;
        }
        if self.cycle.full {
            let more = if failed {
                i64::try_from(self.draw(7)).unwrap_or(0) + 1
            } else {
                self.settings.history_days / 2
            };
            self.next_full = Some(now.plus_secs(more * 86_400));
        }
        self.cycle = Cycle::default();
        self.step = Step::Idle;
    }

    pub(super) fn on_hours(&mut self, now: Moment, reply: Option<&Reply>) -> Result<Flow, Crash> {
        let (status, error) = read(reply)?;
        let (point, production) = (self.usage_point(), self.cycle.production);
        if error == "invalid_token" && !self.cycle.refreshed {
            return Ok(self.refresh());
        }
        if status == 403 {
            return Ok(self.disable());
        }
        let absent =
            status == 404 || (production && (matches!(status, 400 | 500) || error == "adam-err0123"));
        if absent || self.memory.has_none(&point, production) {
            self.no_hours(&error);
            return Ok(Flow::Production);
        }
        match status {
            200 => {
                if !self.store_hours(&point, production, reply)? {
                    self.cycle.failed = true;
                }
                Ok(self.after_hours())
            }
            429 | 500 => Ok(self.retry(now)),
            _ => {
                self.cycle.failed = true;
                Ok(Flow::Production)
            }
        }
    }

    pub(super) fn on_peaks(&mut self, now: Moment, reply: Option<&Reply>) -> Result<Flow, Crash> {
        let (status, error) = read(reply)?;
        let point = self.usage_point();
        if error == "invalid_token" && !self.cycle.refreshed {
            return Ok(self.refresh());
        }
        match status {
            403 => Ok(self.disable()),
            404 => Ok(Flow::Production),
            _ if self.memory.has_none(&point, false) => Ok(Flow::Production),
            429 | 500 => Ok(self.retry(now)),
            200 => {
                if !self.store_peaks(&point, reply)? {
                    self.cycle.failed = true;
                }
                Ok(self.after_peaks())
            }
            _ => {
                self.cycle.failed = true;
                Ok(Flow::Production)
            }
        }
    }

    /// The days of this batch are in memory, or known to have no data.
    pub(super) fn hours_known(&mut self) -> Flow {
        if self.memory.has_none(&self.usage_point(), self.cycle.production) {
            self.no_hours("");
            return Flow::Production;
        }
        self.after_hours()
    }

    /// The largest powers of this batch are in memory, or known not to exist.
    pub(super) fn peaks_known(&mut self) -> Flow {
        if self.memory.has_none(&self.usage_point(), false) { Flow::Production } else { self.after_peaks() }
    }

    /// No data in this direction; in neither: the cycle has failed and both are asked again next time.
    fn no_hours(&mut self, error: &str) {
        if !self.cycle.batch.first {
            return;
        }
        let (point, production) = (self.usage_point(), self.cycle.production);
        if production {
            self.cycle.no_production = true;
        } else {
            self.cycle.no_consumption = true;
        }
        if self.cycle.no_consumption && self.cycle.no_production {
            self.memory.note_none(&point, false, false);
            self.memory.note_none(&point, true, false);
            self.cycle.failed = true;
        } else if NONE_FOR_GOOD.contains(&error) {
            self.memory.note_none(&point, production, true);
        }
    }

    fn after_hours(&mut self) -> Flow {
        if self.cycle.batch.hours_left > 0 {
            self.cycle.batch = self.cycle.batch.next();
            self.ask_hours()
        } else if self.cycle.production {
            Flow::Production
        } else {
            self.reset_batch();
            self.ask_peaks()
        }
    }

    fn after_peaks(&mut self) -> Flow {
        if self.cycle.batch.peaks_left > 0 {
            self.cycle.batch = self.cycle.batch.next();
            self.ask_peaks()
        } else {
            Flow::Production
        }
    }

    fn ask_hours(&mut self) -> Flow {
        let (point, production, (start, end)) =
            (self.usage_point(), self.cycle.production, self.cycle.batch.hours);
        let kind = if production { Kind::Production } else { Kind::Consumption };
        match self.memory.first_without_hours(&point, production, start, end) {
            Some(start) => Flow::Send(Request::data(self, kind, &point, start, end), Step::Hours),
            None => Flow::HoursKnown,
        }
    }

    fn ask_peaks(&mut self) -> Flow {
        let (point, (start, end)) = (self.usage_point(), self.cycle.batch.peaks);
        match self.memory.first_without_peak(&point, start, end) {
            Some(start) => Flow::Send(Request::data(self, Kind::MaxPower, &point, start, end), Step::Peaks),
            None => Flow::PeaksKnown,
        }
    }

    fn reset_batch(&mut self) {
        let hours = self.cycle.history_days.max(HOUR_VIEW_DAYS);
        self.cycle.batch = Batch::first(self.cycle.today, hours, self.settings.peak_days);
    }

    /// The meter at hand.
    fn usage_point(&self) -> String {
        let point = self.saved.usage_points.get(self.cycle.point).map_or("", String::as_str);
        point.trim().to_uppercase()
    }

    /// Stores the hours in a load curve; false: there was nothing usable.
    fn store_hours(&mut self, point: &str, production: bool, reply: Option<&Reply>) -> Result<bool, Crash> {
        let Some(readings) = readings(point, reply)? else { return Ok(false) };
        for (date, _) in &readings {
            let (day, hour, minute) = moment(date)?;
            if minute == 0 {
                self.memory.store_hour(point, production, day, hour);
            }
        }
        Ok(!readings.is_empty())
    }

    fn store_peaks(&mut self, point: &str, reply: Option<&Reply>) -> Result<bool, Crash> {
        let Some(readings) = readings(point, reply)? else { return Ok(false) };
        for (date, value) in &readings {
            self.memory.store_peak(point, moment(date)?.0, *value);
        }
        Ok(!readings.is_empty())
    }
}

/// Status and error code; without an answer, as after a throw, neither means anything.
fn read(reply: Option<&Reply>) -> Result<(u16, String), Crash> {
    reply.map_or(Ok((999, String::new())), |reply| Ok((reply.status, reply.error()?)))
}

/// The dates and values of the usable readings; `None`: not an answer about `point`. Throws without a list.
fn readings(point: &str, reply: Option<&Reply>) -> Result<Option<Vec<(Value, f64)>>, Crash> {
    let Some(Value::Object(body)) = reply.and_then(Reply::truth) else { return Ok(None) };
    let Some(reading) = body.get("meter_reading") else { return Ok(None) };
    if reading.get("usage_point_id").map(super::message::text).as_deref() != Some(point) {
        return Ok(None);
    }
    let intervals = match reading.get("interval_reading") {
        Some(Value::Array(intervals)) => intervals.as_slice(),
        Some(Value::Object(_) | Value::String(_)) => &[],
        _ => return Err(Crash),
    };
    let usable = intervals.iter().filter_map(|interval| {
        let value = interval.get("value")?;
        let value = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
        let date = interval.get("date")?.clone();
        (value >= 0.0).then_some((date, value))
    });
    Ok(Some(usable.collect()))
}

/// Day, hour and minute of `YYYY-MM-DD HH:MM:SS`; throws on anything else.
fn moment(date: &Value) -> Result<(Day, i64, i64), Crash> {
    let text = date.as_str().ok_or(Crash)?;
    let part = |range: std::ops::Range<usize>| text.get(range).and_then(|digits| digits.parse::<i64>().ok());
    let day = text.get(..10).and_then(Day::parse).ok_or(Crash)?;
    let time = [part(11..13), part(14..16), part(17..19)];
    match time {
        [Some(hour @ 0..24), Some(minute @ 0..60), Some(0..60)] => Ok((day, hour, minute)),
        _ => Err(Crash),
    }
}
