//! One day of one resource of one meter: the unit of memory. An answer is taken apart into days, each kept on its
//! own; any range is put together from days again.
//!
//! A load curve dates its steps by their **end**: the step that ends at 00:00:00 is the last of the day before.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, DateTime};
use serde::{Deserialize, Serialize};

use super::civil::{hours_in, moment_text, parse_moment, plus};
use super::request::{DayRange, MeterRequest, Resource};
use super::resource_server::{Point, Reading};
use crate::base::clock::Timestamp;

/// The values of one day, in order of time. May be empty: Enedis was asked and had nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Day {
    /// `BRUT`, `CORRIGE` or `BEST`; empty if unknown.
    pub quality: String,
    /// The values.
    pub points: Vec<Point>,
    /// When they came, these values and no others; `None`: unknown.
    pub came: Option<Timestamp>,
}

/// How much of a day is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fullness {
    /// Nothing.
    Empty,
    /// A curve with holes.
    Partial,
    /// All of it.
    Complete,
}

impl Day {
    /// How much of `date` is there. Enedis gives the day of the change to winter time 48 or 50 half hours, and
    /// nobody says which: 24 hours are enough on any day but the short one.
    pub fn fullness(&self, resource: Resource, date: Date) -> Fullness {
        if self.points.is_empty() {
            Fullness::Empty
        } else if !resource.is_curve() || self.minutes() >= hours_in(date).min(24) * 60 {
            Fullness::Complete
        } else {
            Fullness::Partial
        }
    }

    /// The minutes of a curve for which there are values.
    fn minutes(&self) -> u32 {
        let step = |p: &Point| p.interval_length.as_deref().and_then(step_minutes).unwrap_or(0);
        self.points.iter().map(step).sum()
    }

    /// Whether its values may still be corrected.
    pub fn is_raw(&self) -> bool {
        !self.points.is_empty() && !matches!(self.quality.as_str(), "BEST" | "CORRIGE")
    }

    /// The better one of two answers about a day: the fuller; of two that are as full the `later`, which may be a
    /// correction, but not a raw one after a corrected one, nor one that says the same again.
    #[must_use]
    pub fn or_better(self, later: Self) -> Self {
        let fullness = |day: &Self| (day.minutes(), day.points.len());
        let is_same = self.quality == later.quality && self.points == later.points;
        match fullness(&later).cmp(&fullness(&self)) {
            Ordering::Less => self,
            Ordering::Equal if is_same || later.is_raw() && !self.is_raw() => self,
            Ordering::Equal | Ordering::Greater => later,
        }
    }

    /// A compact form for the store: a regular curve keeps its values only, about 300 bytes for 48 of them.
    pub fn pack(&self, date: Date) -> Vec<u8> {
        let first = self.points.first();
        let step = first.and_then(|p| p.interval_length.clone());
        let nature = first.and_then(|p| p.measure_type.clone());
        let times = step.as_deref().and_then(step_minutes).map(|minutes| step_ends(date, minutes));
        let regular = times.is_some_and(|mut times| {
            self.points.iter().all(|p| {
                p.interval_length == step
                    && p.measure_type == nature
                    && times.next().as_ref() == Some(&p.date)
            })
        });
        let packed = if regular {
            let values = self.points.iter().map(|p| p.value.clone()).collect();
            Packed {
                quality: self.quality.clone(),
                step,
                nature,
                values,
                points: Vec::new(),
                came: self.came,
            }
        } else {
            Packed {
                quality: self.quality.clone(),
                points: self.points.clone(),
                came: self.came,
                ..Packed::default()
            }
        };
        // Strings and lists only: writing them cannot fail.
        serde_json::to_vec(&packed).unwrap_or_default()
    }

    /// From the packed form; `None` if it is damaged.
    pub fn unpack(bytes: &[u8], date: Date) -> Option<Self> {
        let packed: Packed = serde_json::from_slice(bytes).ok()?;
        if packed.values.is_empty() {
            return Some(Self { quality: packed.quality, points: packed.points, came: packed.came });
        }
        let (step, measure_type) = (packed.step?, packed.nature);
        let times = step_ends(date, step_minutes(&step)?);
        let points = packed.values.into_iter().zip(times).map(|(value, date)| Point {
            value,
            date,
            interval_length: Some(step.clone()),
            measure_type: measure_type.clone(),
        });
        Some(Self { quality: packed.quality, points: points.collect(), came: packed.came })
    }
}

/// Takes an answer apart: every day of `range` is there, empty if the answer has nothing about it; what lies
/// outside, or has no readable date, is left out. Points are put in order; of two with one date the first counts.
pub fn days_of(resource: Resource, range: DayRange, reading: &Reading) -> BTreeMap<Date, Day> {
    let mut dated: BTreeMap<Date, Vec<(DateTime, &Point)>> = BTreeMap::new();
    for point in &reading.points {
        let Some(at) = parse_moment(&point.date) else { continue };
        let ends_the_day_before = resource.is_curve() && at.time() == jiff::civil::Time::midnight();
        let day = if ends_the_day_before { plus(at.date(), -1) } else { at.date() };
        if range.contains(day) {
            dated.entry(day).or_default().push((at, point));
        }
    }
    let day = |date: Date| {
        let mut points = dated.remove(&date).unwrap_or_default();
        if resource.is_curve() && hours_in(date) == 25 {
            part_hours(date, &mut points);
        }
        points.sort_by_key(|(at, _)| *at);
        points.dedup_by_key(|(at, _)| *at);
        if !resource.is_curve() {
            points.truncate(1);
        }
        let points: Vec<Point> = points.into_iter().map(|(_, point)| point.clone()).collect();
        (date, Day { quality: reading.quality.clone(), points, came: None })
    };
    range.days().map(day).collect()
}

/// Puts the days of `request` together. Days that are missing from `days` are left out; so is everything of days
/// outside the range. `None` if there is not one value: a box is then told 404 `no_data_found`.
pub fn reading_of(request: MeterRequest, days: &BTreeMap<Date, Day>) -> Option<Reading> {
    let range = request.range;
    let within =
        || days.range(range.start()..range.end()).map(|(_, day)| day).filter(|d| !d.points.is_empty());
    let mut qualities = within().map(|day| day.quality.as_str());
    let first = qualities.next()?;
    // Raw is the weaker claim: a mixture is raw.
    let quality = if qualities.all(|q| q == first) && !first.is_empty() { first } else { "BRUT" };
    let points = within().flat_map(|day| day.points.iter().cloned()).collect();
    Some(Reading { quality: quality.to_owned(), points })
}

/// The same of the days alone whose values came after `since`; empty if there are none.
pub fn reading_since(request: MeterRequest, days: &BTreeMap<Date, Day>, since: Timestamp) -> Reading {
    let days = days.iter().filter(|(_, day)| day.came.is_none_or(|came| came > since));
    let days = days.map(|(date, day)| (*date, day.clone())).collect();
    reading_of(request, &days).unwrap_or_else(|| Reading { quality: "BRUT".to_owned(), points: Vec::new() })
}

/// Minutes of `PT5M` … `PT60M`, and of `PT1H`; others are not steps of a curve.
pub fn step_minutes(step: &str) -> Option<u32> {
    if step == "PT1H" {
        return Some(60);
    }
    let minutes = step.strip_prefix("PT")?.strip_suffix('M')?.parse().ok()?;
    [5, 10, 15, 30, 60].contains(&minutes).then_some(minutes)
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Packed {
    #[serde(rename = "q")]
    quality: String,
    #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    #[serde(rename = "n", skip_serializing_if = "Option::is_none")]
    nature: Option<String>,
    #[serde(rename = "v", skip_serializing_if = "Vec::is_empty")]
    values: Vec<String>,
    #[serde(rename = "p", skip_serializing_if = "Vec::is_empty")]
    points: Vec<Point>,
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    came: Option<Timestamp>,
}

/// The ends of the steps of one day of 24 hours, as Enedis writes them.
fn step_ends(date: Date, minutes: u32) -> impl Iterator<Item = String> {
    let midnight = date.at(0, 0, 0, 0);
    let end = move |n: u32| midnight.saturating_add(jiff::SignedDuration::from_mins(i64::from(n * minutes)));
    (1..=24 * 60 / minutes).map(move |n| moment_text(end(n)))
}

/// Moves what comes after the change to winter time on by an hour, so that the two hours of one name stay apart whatever
/// order they came in. Of two points at one time the first is of the first hour; where other times are doubled as well,
/// it is a mistake.
fn part_hours(date: Date, points: &mut [(DateTime, &Point)]) {
    let [two, three] = [2, 3].map(|hour| date.at(hour, 0, 0, 0));
    let (mut seen, mut doubled) = (BTreeSet::new(), BTreeSet::new());
    let mut second = Vec::new();
    for (at, _) in &*points {
        let again = !seen.insert(*at);
        if again {
            doubled.insert(*at);
        }
        second.push(again);
    }
    if doubled.is_empty() || doubled.iter().any(|at| *at < two || *at > three) {
        return;
    }
    for ((at, _), second) in points.iter_mut().zip(second) {
        if second || *at > three || *at == three && !doubled.contains(at) {
            *at = at.saturating_add(jiff::SignedDuration::from_hours(1));
        }
    }
}

#[cfg(test)]
mod tests;
