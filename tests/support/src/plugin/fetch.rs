//! Owns a cycle: meter by meter, the load curve of consumption, the largest powers, the load curve of
//! production, and the reactions to what the data endpoint answers. Days held already are not asked again.

use std::time::Duration;

use serde_json::Value;

use super::message::{Crash, Kind, Next, Reply, Request, text};
use super::{AWAKE, Plugin, Step};
use crate::calendar::Day;

/// Most days of a load curve in one request; a longer history is asked for batch by batch, back in time.
const BATCH_DAYS: i64 = 7;
/// Days of largest powers wanted by a fresh installation.
const PEAK_DAYS: i64 = 1;

/// Errors after which a direction is never asked again.
const NONE_FOR_GOOD: [&str; 2] = ["adam-err0069", "adam-err0123"];

/// What a cycle knows of itself.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are the plugin's own")]
pub(super) struct Cycle {
    point: usize,
    production: bool,
    /// The days of the batch at hand, the end excluded; the first one of its direction; days still to be asked for.
    batch: Option<[Day; 2]>,
    is_first_batch: bool,
    days_left: i64,
    /// There is no consumption, no production.
    none: [bool; 2],
    /// The meter at hand, or a step before the first one, failed.
    pub(super) failed: bool,
    /// A meter before failed.
    failed_before: bool,
    /// The access token was renewed in this cycle.
    pub(super) refreshed: bool,
    today: Option<Day>,
}

impl Plugin {
    /// Tokens are there: fetch.
    pub(super) fn start(&mut self) -> Option<Request> {
        if self.saved.usage_points.is_empty() {
            return self.fail();
        }
        self.cycle.today = Some(self.now.day());
        self.next_point()
    }

    fn next_point(&mut self) -> Option<Request> {
        self.cycle.failed_before |= std::mem::take(&mut self.cycle.failed);
        (self.cycle.production, self.cycle.none) = (false, [false; 2]);
        self.first_batch()
    }

    /// Done with consumption: production comes next, then another meter.
    fn next_direction(&mut self) -> Option<Request> {
        if !self.cycle.production {
            self.cycle.production = true;
            return self.first_batch();
        }
        if !self.memory.knows(&self.usage_point()) {
            self.cycle.failed = true;
        }
        self.cycle.point += 1;
        if self.cycle.point < self.saved.usage_points.len() { self.next_point() } else { self.done() }
    }

    /// Ends the cycle and plans the next one: tomorrow, as planned already, or in an hour after a failure.
    pub(super) fn done(&mut self) -> Option<Request> {
        let failed = self.cycle.failed || self.cycle.failed_before;
        if failed {
            self.outcomes.gave_up += 1;
            self.next = self.now.plus(Duration::from_secs(3_600));
            if self.next.hour() >= AWAKE.end {
                self.next = self.morning(1);
            }
        } else {
            self.outcomes.served += 1;
        }
        self.cycle = Cycle::default();
        self.step = Step::Idle;
        None
    }

    /// The meter at hand failed; its other direction is asked all the same.
    fn fail_direction(&mut self) -> Option<Request> {
        self.cycle.failed = true;
        self.next_direction()
    }

    pub(super) fn on_hours(&mut self, reply: Option<&Reply>) -> Next {
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
            // A later batch may be of a time before the meter was there.
            if self.cycle.is_first_batch {
                self.no_hours(&error);
            }
            return Ok(self.next_direction());
        }
        match status {
            200 => {
                let readings = readings(&point, reply)?;
                for (date, _) in &readings {
                    let (day, hour, minute) = moment(date)?;
                    if minute == 0 {
                        self.memory.store_hour(&point, production, day, hour);
                    }
                }
                self.cycle.failed |= readings.is_empty();
                Ok(self.after_hours())
            }
            429 | 500 => Ok(self.retry()),
            _ => Ok(self.fail_direction()),
        }
    }

    pub(super) fn on_peaks(&mut self, reply: Option<&Reply>) -> Next {
        let (status, error) = read(reply)?;
        let point = self.usage_point();
        if error == "invalid_token" && !self.cycle.refreshed {
            return Ok(self.refresh());
        }
        match status {
            403 => Ok(self.disable()),
            404 => Ok(self.next_direction()),
            _ if self.memory.has_none(&point, false) => Ok(self.next_direction()),
            429 | 500 => Ok(self.retry()),
            200 => {
                let readings = readings(&point, reply)?;
                for (date, value) in &readings {
                    self.memory.store_peak(&point, moment(date)?.0, *value);
                }
                self.cycle.failed |= readings.is_empty();
                Ok(self.next_direction())
            }
            _ => Ok(self.fail_direction()),
        }
    }

    /// No data in this direction; in neither: the cycle has failed and both are asked again next time.
    fn no_hours(&mut self, error: &str) {
        let (point, production) = (self.usage_point(), self.cycle.production);
        self.cycle.none[usize::from(production)] = true;
        if self.cycle.none == [true; 2] {
            self.memory.note_none(&point, false, false);
            self.memory.note_none(&point, true, false);
            self.cycle.failed = true;
        } else if NONE_FOR_GOOD.contains(&error) {
            self.memory.note_none(&point, production, true);
        }
    }

    fn ask_hours(&mut self) -> Option<Request> {
        let (point, production) = (self.usage_point(), self.cycle.production);
        if self.memory.has_none(&point, production) {
            self.no_hours("");
            return self.next_direction();
        }
        let kind = if production { Kind::Production } else { Kind::Consumption };
        let [start, end] = self.cycle.batch.unwrap_or_else(|| self.last_days(BATCH_DAYS));
        match self.memory.first_without_hours(&point, production, start, end) {
            Some(start) => self.send(Request::data(self, kind, &point, start, end)),
            None => self.after_hours(),
        }
    }

    /// The first batch of a direction: the latest days.
    fn first_batch(&mut self) -> Option<Request> {
        let [_, end] = self.last_days(0);
        self.cycle.days_left = self.settings.history_days;
        self.next_batch(end);
        self.cycle.is_first_batch = true;
        self.ask_hours()
    }

    fn next_batch(&mut self, end: Day) {
        let days = self.cycle.days_left.min(BATCH_DAYS);
        self.cycle.days_left -= days;
        self.cycle.is_first_batch = false;
        self.cycle.batch = Some([end.plus(-days), end]);
    }

    /// The days of this batch are in memory.
    fn after_hours(&mut self) -> Option<Request> {
        if let Some([start, _]) = self.cycle.batch.filter(|_| self.cycle.days_left > 0) {
            self.next_batch(start);
            return self.ask_hours();
        }
        if self.cycle.production { self.next_direction() } else { self.ask_peaks() }
    }

    fn ask_peaks(&mut self) -> Option<Request> {
        let (point, [start, end]) = (self.usage_point(), self.last_days(PEAK_DAYS));
        match self.memory.first_without_peak(&point, start, end) {
            Some(start) => self.send(Request::data(self, Kind::MaxPower, &point, start, end)),
            None => self.next_direction(),
        }
    }

    /// The first of so many days until yesterday, and today.
    fn last_days(&self, days: i64) -> [Day; 2] {
        let today = self.cycle.today.unwrap_or(self.now.day());
        [today.plus(-days), today]
    }

    fn usage_point(&self) -> String {
        let point = self.saved.usage_points.get(self.cycle.point).map_or("", String::as_str);
        point.trim().to_uppercase()
    }
}

/// Status and error code; without an answer, as after a throw, neither means anything.
fn read(reply: Option<&Reply>) -> Result<(u16, String), Crash> {
    reply.map_or(Ok((999, String::new())), |reply| Ok((reply.status, reply.error()?)))
}

/// The dates and values of the usable readings; none if it is no answer about `point`. Throws without a list.
fn readings(point: &str, reply: Option<&Reply>) -> Result<Vec<(Value, f64)>, Crash> {
    let members = reply.map(Reply::members).transpose()?.flatten().unwrap_or_default();
    let Some(reading) = members.get("meter_reading") else { return Ok(Vec::new()) };
    if reading.get("usage_point_id").map(text).as_deref() != Some(point) {
        return Ok(Vec::new());
    }
    let intervals = reading.get("interval_reading").and_then(Value::as_array).ok_or(Crash)?;
    let usable = intervals.iter().filter_map(|interval| {
        let value = interval.get("value")?;
        let value = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
        let date = interval.get("date")?.clone();
        (value >= 0.0).then_some((date, value))
    });
    Ok(usable.collect())
}

/// Day, hour and minute of `YYYY-MM-DD HH:MM:SS`; throws on anything else.
fn moment(date: &Value) -> Result<(Day, i64, i64), Crash> {
    let text = date.as_str().ok_or(Crash)?;
    let part = |range: std::ops::Range<usize>| text.get(range).and_then(|digits| digits.parse::<i64>().ok());
    let day = text.get(..10).and_then(Day::parse).ok_or(Crash)?;
    match [part(11..13), part(14..16), part(17..19)] {
        [Some(hour @ 0..24), Some(minute @ 0..60), Some(0..60)] => Ok((day, hour, minute)),
        _ => Err(Crash),
    }
}
