//! What is remembered of an answer, and for how long.
//!
//! Days that are complete and no longer corrected are kept for good; recent ones until the next morning, when a
//! call is made anyway that brings them again at no extra cost; holes and empty days are asked again sooner the
//! younger they are. Errors about a meter are remembered with an end, because panels are installed, curves get
//! recorded, and Enedis errs.

use std::time::Duration;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::civil::{self, days_between, plus};
use super::day::Fullness;
use super::request::MeterRequest;
use super::resource_server::{Cause, DataError};

/// For good: longer than Enedis keeps daily values (36 months and 15 days).
pub const FOR_GOOD: Duration = days(1_130);
/// Age in days from which a complete day is final. Before, raw values may still be corrected.
const FINAL_AGE: i64 = 3;
/// Life of a complete recent day: past the evening, gone by the next morning's request.
const COMPLETE_RECENT: Duration = hours(20);
/// Yesterday arrives from about 8 o'clock, or in the course of the day; the plugin asks again each hour.
const EMPTY_YESTERDAY: Duration = Duration::from_secs(50 * 60);
/// How long a day is left alone that others have: the server looks for it by itself.
pub const LATE: Duration = hours(4);

/// Longest time for which a direction is taken to be none. Panels may be installed, and a box asks for a week: the days
/// since it was last asked for.
const A_WEEK: Duration = hours(6 * 24 + 20);

/// How long a day is remembered, by its age on `today`; `None`: not at all (it is not over yet).
pub fn day_life(day: Date, fullness: Fullness, today: Date) -> Option<Duration> {
    let life = match (days_between(day, today), fullness) {
        (..=0, _) => return None,
        (FINAL_AGE.., Fullness::Complete) => FOR_GOOD,
        (_, Fullness::Complete) => COMPLETE_RECENT,
        (1, Fullness::Empty) => EMPTY_YESTERDAY,
        (1, Fullness::Partial) => hours(3),
        (2 | 3, _) => hours(6),
        (4..=14, _) => hours(20),
        // Boxes ask for old days once; a hole that Enedis fills, or made by mistake, is worth a call a week.
        (15.., _) => days(7),
    };
    Some(life)
}

/// An error of Enedis about one resource of one meter that will come again: it is answered from memory, at no
/// cost. Kept in the cache under [`super::cache::Subject::Error`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastingError {
    /// What the box is told, as Enedis said it.
    pub error: DataError,
    /// How often in a row Enedis has said so, at most 10.
    pub strikes: u8,
    /// For an error about the beginning of the range, in days since 2010: calls that begin later may do.
    latest_start: Option<i64>,
}

impl LastingError {
    /// What to remember of `error`, which answered `call`, and for how long; `None`: nothing beyond the days.
    /// `before` is what was remembered until now, even if its end has come; `had_data` whether any value of this
    /// resource of this meter was ever seen.
    pub fn remember(
        before: Option<&Self>,
        error: &DataError,
        call: MeterRequest,
        had_data: bool,
        today: Date,
    ) -> Option<(Self, Duration)> {
        let same = before.filter(|before| before.error.cause == error.cause);
        let strikes = same.map_or(0, |before| before.strikes).saturating_add(1).min(10);
        let start = days_between(civil::FIRST, call.range.start());
        let latest_start = Some(same.and_then(|before| before.latest_start).map_or(start, |d| d.max(start)));
        let whole_week = call.range.day_count() >= 7;
        let recent = call.range.end() >= plus(today, -1);
        let (latest_start, life) = match error.cause {
            Cause::NoDirection => (None, A_WEEK),
            // Nothing for a week until yesterday, and nothing ever: there are no panels. Less than that may be a
            // day that is late.
            Cause::NoData if call.resource.is_production() && recent && !had_data => {
                (None, never_produced(strikes, whole_week))
            }
            Cause::NotRecorded => (None, hours(20)),
            // Where values begin does not change; but Enedis' own date may be wrong for a while.
            Cause::TooEarly if strikes > 1 => (latest_start, A_WEEK),
            Cause::TooEarly | Cause::TooOld => (latest_start, hours(24)),
            Cause::NoData | Cause::Other => return None,
        };
        Some((Self { error: error.clone(), strikes, latest_start }, life))
    }

    /// The answer to `call`, if Enedis would say the same again. Ask per call, not per request: other parts of a
    /// long request may bring data.
    pub fn answers(&self, call: MeterRequest) -> Option<&DataError> {
        let start = days_between(civil::FIRST, call.range.start());
        self.latest_start.is_none_or(|latest| start <= latest).then_some(&self.error)
    }

    /// The last day known to be too early for the beginning of a call.
    pub fn too_early(&self) -> Option<Date> {
        let days = self.latest_start.filter(|_| self.error.cause == Cause::TooEarly)?;
        Some(plus(civil::FIRST, days))
    }
}

const fn never_produced(strikes: u8, whole_week: bool) -> Duration {
    match (strikes, whole_week) {
        (0..=1, false) => hours(20),
        (2, false) => days(3),
        _ => A_WEEK,
    }
}

const fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3_600)
}

const fn days(n: u64) -> Duration {
    hours(n * 24)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;
    use crate::metering::request::Resource;
    use crate::testing::question;

    const TODAY: Date = date(2026, 11, 23);

    fn call(resource: Resource, back: i64, len: i64) -> MeterRequest {
        question(resource, plus(TODAY, -back), plus(TODAY, len - back))
    }

    fn error(cause: Cause) -> DataError {
        DataError { cause, ..DataError::no_data() }
    }

    /// What is remembered of `error` about a resource without values.
    fn remember(
        before: Option<&LastingError>,
        error: &DataError,
        call: MeterRequest,
    ) -> Option<(LastingError, Duration)> {
        LastingError::remember(before, error, call, false, TODAY)
    }

    #[test]
    fn the_same_day_asked_again_costs_nothing() {
        let life = |back: i64, fullness| day_life(plus(TODAY, -back), fullness, TODAY);
        let complete = life(1, Fullness::Complete).unwrap();
        assert!(complete >= hours(14), "from 8 to 22 o'clock");
        assert!(complete < hours(24), "and the next day brings corrections");
        assert!(life(1, Fullness::Empty).unwrap() < hours(1), "hourly retries get through");
        assert_eq!(life(3, Fullness::Complete), Some(FOR_GOOD));
        assert_eq!((life(0, Fullness::Complete), life(-1, Fullness::Empty)), (None, None));
    }

    #[test]
    fn no_panels_is_remembered_for_a_week() {
        let none = error(Cause::NoDirection);
        let (lasting, life) = remember(None, &none, call(Resource::ProductionCurve, 1, 1)).unwrap();
        assert_eq!(life, A_WEEK);
        assert_eq!(lasting.answers(call(Resource::ProductionCurve, 300, 7)), Some(&none));
    }

    #[test]
    fn no_production_data_is_believed_by_and_by() {
        let none = DataError::no_data();
        let (mut before, mut lives) = (None, Vec::new());
        for _ in 0..5 {
            let (lasting, life) =
                remember(before.as_ref(), &none, call(Resource::ProductionCurve, 1, 1)).unwrap();
            lives.push(life);
            before = Some(lasting);
        }
        assert_eq!(lives, [hours(20), days(3), A_WEEK, A_WEEK, A_WEEK]);
        let week = call(Resource::ProductionCurve, 7, 7);
        assert_eq!(remember(None, &none, week).unwrap().1, A_WEEK);
        // Panels that are known, an old week, and consumption: only the days are remembered.
        assert_eq!(LastingError::remember(None, &none, week, true, TODAY), None);
        for other in [call(Resource::ProductionCurve, 90, 7), call(Resource::ConsumptionCurve, 7, 7)] {
            assert_eq!(remember(None, &none, other), None, "{other:?}");
        }
    }

    #[test]
    fn before_activation_is_remembered_up_to_its_day() {
        let early = error(Cause::TooEarly);
        let call = |back, len| call(Resource::ConsumptionCurve, back, len);
        let (first, life) = remember(None, &early, call(60, 7)).unwrap();
        assert_eq!(life, hours(24));
        assert!(first.answers(call(60, 7)).is_some() && first.answers(call(61, 3)).is_some());
        assert_eq!(first.answers(call(59, 7)), None, "a later start may do");
        let (second, life) = remember(Some(&first), &early, call(53, 7)).unwrap();
        assert_eq!((second.too_early(), life), (Some(plus(TODAY, -53)), A_WEEK));
        let (third, _) = remember(Some(&second), &early, call(90, 7)).unwrap();
        assert!(third.answers(call(53, 7)).is_some(), "the latest start counts");
        assert_eq!(remember(None, &error(Cause::Other), call(7, 7)), None);
    }

    proptest! {
        #[test]
        fn older_and_fuller_is_remembered_longer(age in 1_i64..1_000) {
            let life = |age: i64, fullness: Fullness| day_life(plus(TODAY, -age), fullness, TODAY).unwrap();
            let all = [Fullness::Empty, Fullness::Partial, Fullness::Complete];
            for fullness in all {
                prop_assert!(life(age + 1, fullness) >= life(age, fullness));
                prop_assert!(life(age, fullness) <= FOR_GOOD);
            }
            prop_assert!(life(age, all[0]) <= life(age, all[1]) && life(age, all[1]) <= life(age, all[2]));
        }
    }
}
