//! Owns what a box remembers of the days it has data of, and which meters have none for good.

use std::collections::{HashMap, HashSet};

use crate::calendar::Day;

/// Hours that make a day complete.
const COMPLETE_HOURS: u32 = 23;

/// Everything a box keeps about its meters.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    meters: HashMap<String, Known>,
}

/// What is known of one meter.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Hours with a value, a bit each, by day; consumption and production.
    hours: [HashMap<Day, u32>; 2],
    /// Days whose largest power is known.
    peaks: HashSet<Day>,
    /// Consumption, production: there is none, do not ask again.
    none: [bool; 2],
}

impl Memory {
    /// Tells whether anything was ever stored or noted about `point`.
    pub(super) fn knows(&self, point: &str) -> bool {
        self.meters.contains_key(point)
    }

    pub(super) fn store_hour(&mut self, point: &str, production: bool, day: Day, hour: i64) {
        let known = self.meters.entry(point.to_owned()).or_default();
        *known.hours[usize::from(production)].entry(day).or_default() |= 1 << hour;
    }

    pub(super) fn store_peak(&mut self, point: &str, day: Day, value: f64) {
        let known = self.meters.entry(point.to_owned()).or_default();
        if value == 0.0 {
            known.peaks.remove(&day);
        } else {
            known.peaks.insert(day);
        }
    }

    pub(super) fn note_none(&mut self, point: &str, production: bool, none: bool) {
        self.meters.entry(point.to_owned()).or_default().none[usize::from(production)] = none;
    }

    pub(super) fn has_none(&self, point: &str, production: bool) -> bool {
        self.meters.get(point).is_some_and(|known| known.none[usize::from(production)])
    }

    /// The first day from `start` before `end` whose hours are not complete; `None`: nothing to ask.
    pub(super) fn first_without_hours(
        &self,
        point: &str,
        production: bool,
        start: Day,
        end: Day,
    ) -> Option<Day> {
        // As in the plugin, production hours count twice.
        let weight = if production { 2 } else { 1 };
        let hours = self.meters.get(point).map(|known| &known.hours[usize::from(production)]);
        let held =
            |day: &Day| hours.and_then(|hours| hours.get(day)).map_or(0, |bits| bits.count_ones() * weight);
        start.until(end).find(|day| held(day) < COMPLETE_HOURS)
    }

    /// The first day from `start` before `end` without a largest power; `None`: nothing to ask.
    pub(super) fn first_without_peak(&self, point: &str, start: Day, end: Day) -> Option<Day> {
        if self.has_none(point, false) {
            return None;
        }
        let known = self.meters.get(point);
        start.until(end).find(|day| known.is_none_or(|known| !known.peaks.contains(day)))
    }

    pub(super) fn hours_held(&self, point: &str, production: bool) -> u32 {
        let hours = self.meters.get(point).map(|known| &known.hours[usize::from(production)]);
        hours.map_or(0, |hours| hours.values().map(|bits| bits.count_ones()).sum())
    }
}
