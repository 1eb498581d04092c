//! Owns what the meters measured: the same value for the same meter, direction, day and half hour, for ever and on
//! every interface.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::calendar::Day;

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A parameter is missing or wrong; why.
    BadRequest(&'static str),
    /// A parameter that the API does not know, or no JSON where it wants some.
    Technical,
    /// No such meter among those of the people who consent here.
    NotHolder,
    /// The holder has not consented, or no longer does.
    NoConsent,
    /// ADAM-ERR0069.
    NoSuchDirection,
    /// ADAM-ERR0126.
    TooLong,
    /// ADAM-ERR0125.
    TooOld,
    /// ADAM-ERR0123.
    BeforeActivation,
    /// Nothing was measured.
    NoData,
}

/// One measured value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// `YYYY-MM-DD` for energy, `YYYY-MM-DD HH:MM:SS` for curves (end of the half hour) and the largest power.
    pub(super) date: String,
    /// W, Wh or VA; `None`: lost on its way.
    pub(super) value: Option<u32>,
}

pub(super) const SLOTS: u32 = 48;
/// Of so many points, about one is missing with [`super::Options::quirks`].
const ONE_NULL_IN: u64 = 11;

/// What a value is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    /// Energy taken from the grid.
    Consumption,
    /// Energy given to the grid.
    Production,
}

/// Mean power in W of usage point `point` over half hour `slot` (0 to 47) of `day`. A day's sum is even, so that
/// its energy is a whole number of Wh.
pub(super) fn half_hour(point: &str, direction: Direction, day: Day, slot: u32) -> u32 {
    let noise = u32::try_from(hash(point, direction, day, slot) % 400).unwrap_or(0);
    match direction {
        Direction::Consumption => {
            // A quiet night, breakfast, dinner.
            let base = match slot {
                0..=12 => 140,
                13..=17 => 900,
                18..=34 => 380,
                35..=43 => 1_500,
                _ => 420,
            };
            base + 2 * noise
        }
        Direction::Production => {
            // A parabola from 7 to 19 hours.
            let sun = (slot.saturating_sub(14) * 38_u32.saturating_sub(slot)).min(144);
            if sun == 0 { 0 } else { 2 * (sun * (8 + noise / 40) / 2) }
        }
    }
}

/// Energy in Wh over `day`.
pub(super) fn daily(point: &str, direction: Direction, day: Day) -> u32 {
    (0..SLOTS).map(|slot| half_hour(point, direction, day, slot)).sum::<u32>() / 2
}

/// The largest power drawn on `day` in VA, and the second of the day it was reached.
pub(super) fn max_power(point: &str, day: Day) -> (u32, u32) {
    let of_slot = |slot| (slot, half_hour(point, Direction::Consumption, day, slot));
    let (slot, power) = (0..SLOTS).map(of_slot).max_by_key(|(_, power)| *power).unwrap_or_default();
    let more = u32::try_from(hash(point, Direction::Consumption, day, SLOTS) % 1_800).unwrap_or(0);
    (power + 300 + more / 2, slot * 1_800 + more)
}

/// Tells whether the point has no value, under the quirks. `slot` is [`SLOTS`] for a value of a day.
pub(super) fn is_lost(point: &str, direction: Direction, day: Day, slot: u32) -> bool {
    (hash(point, direction, day, slot) >> 32).is_multiple_of(ONE_NULL_IN)
}

fn hash(point: &str, direction: Direction, day: Day, slot: u32) -> u64 {
    let mut hasher = DefaultHasher::new();
    (point, direction, day, slot).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINT: &str = "22516914714270";

    #[test]
    fn values_are_plausible_and_stay_the_same() {
        let day = Day::parse("2026-11-22").expect("a day");
        let of_day = |direction| (0..SLOTS).map(move |slot| half_hour(POINT, direction, day, slot));
        assert!(of_day(Direction::Consumption).all(|power| (100..3_000).contains(&power)));
        assert_eq!(half_hour(POINT, Direction::Production, day, 4), 0);
        assert!(half_hour(POINT, Direction::Production, day, 26) > 500);
        for direction in [Direction::Consumption, Direction::Production] {
            assert_eq!(of_day(direction).sum::<u32>(), 2 * daily(POINT, direction, day));
        }
        let (power, second) = max_power(POINT, day);
        assert!(of_day(Direction::Consumption).all(|mean| mean < power) && second < 86_400);
        assert_ne!(daily(POINT, Direction::Consumption, day), daily("1", Direction::Consumption, day));
        let other = half_hour(POINT, Direction::Consumption, day, 5);
        assert_eq!(other, half_hour(POINT, Direction::Consumption, day, 5));
        let days = Day::from_epoch(20_000).until(Day::from_epoch(20_100));
        let lost = days.filter(|day| is_lost(POINT, Direction::Consumption, *day, SLOTS)).count();
        assert!((3..25).contains(&lost), "{lost}");
    }
}
