//! Which calls a request needs, and one answer out of many.

use std::collections::BTreeMap;

use jiff::civil::{Date, date};

use super::civil::{days_between, plus};
use super::day::{Day, reading_of};
use super::request::{DayRange, MeterRequest, Resource};
use super::resource_server::{DataError, Reading};
use crate::base::clock::Timestamp;

/// Most days of a load curve in one call (Enedis: ADAM-DC-0015, ADAM-ERR0126 beyond).
pub const CURVE_CALL_DAYS: i64 = 7;
/// Most days of a daily resource in one call; what peers ask with success.
pub const DAILY_CALL_DAYS: i64 = 365;
/// Weeks are cut on Mondays.
const A_MONDAY: Date = date(2001, 1, 1);

/// The calls that bring the days of `request` that are not `known`: as few as possible, none longer than Enedis
/// allows, none about today or later, which Enedis refuses or has nothing about, and never a day outside the
/// request: one day before the meter's activation would spoil the whole call.
///
/// Where it costs no extra call, cuts fall on fixed dates, so that requests for about the same days make equal
/// calls, which can be shared. Known days between two unknown ones are asked again: a call costs the same.
pub fn calls(request: MeterRequest, today: Date, known: impl Fn(Date) -> bool) -> Vec<MeterRequest> {
    let unknown: Vec<Date> =
        request.range.days().take_while(|day| *day < today).filter(|day| !known(*day)).collect();
    let size = call_days(request.resource);
    let tight = cover(&unknown, |start| plus(start, size));
    let aligned = cover(&unknown, |start| {
        let block = days_between(A_MONDAY, start).div_euclid(size);
        plus(A_MONDAY, (block + 1) * size)
    });
    let ranges = if aligned.len() <= tight.len() { aligned } else { tight };
    ranges.into_iter().map(|range| request.with_range(range)).collect()
}

/// A call about yesterday, begun some days earlier at the same price: raw values of the days before may have been
/// corrected, holes been filled, and whoever asks for the whole week next finds it known. Not beyond `since`, the
/// earliest day that ever had values: one day before the meter's activation would spoil the whole call.
pub fn widened(call: MeterRequest, since: Date, today: Date) -> MeterRequest {
    let range = call.range;
    if range.end() < today {
        return call;
    }
    let start = plus(range.end(), -CURVE_CALL_DAYS).max(since).min(range.start());
    DayRange::new(start, range.end()).map_or(call, |range| call.with_range(range))
}

/// The part of a call to ask for, where it begins before the meter's activation: after `early`, the last day known to be too
/// early, from the first day that had values if that is `since`, else the later half of what is left.
pub fn later_half(call: MeterRequest, early: Date, since: Option<Date>) -> Option<MeterRequest> {
    let end = call.range.end();
    let half = plus(early, (days_between(early, end) + 1) / 2);
    let start = since.filter(|since| early < *since).unwrap_or(half);
    (start > early).then(|| DayRange::new(start, end)).flatten().map(|range| call.with_range(range))
}

/// Most days in one call.
pub const fn call_days(resource: Resource) -> i64 {
    if resource.is_curve() { CURVE_CALL_DAYS } else { DAILY_CALL_DAYS }
}

/// Covers `days` (in order) by ranges from left to right, each ending before `limit(its start)`.
fn cover(days: &[Date], limit: impl Fn(Date) -> Date) -> Vec<DayRange> {
    let mut ranges = Vec::new();
    let mut rest = days;
    while let Some(&start) = rest.first() {
        let limit = limit(start);
        let (within, after) = rest.split_at(rest.partition_point(|day| *day < limit).max(1));
        ranges.extend(within.last().and_then(|last| DayRange::new(start, plus(*last, 1))));
        rest = after;
    }
    ranges
}

/// Why a call brought nothing. Ordered by how long it keeps a box waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// No API serves it.
    Closed,
    /// The supplier does not answer, or says that it cannot.
    Down,
    /// The quota is used up, or too much waits: when to come back.
    Busy(Timestamp),
}

/// What a request comes to once its calls are done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merged {
    /// 200.
    Values(Reading),
    /// Enedis' own error, or 404 `no_data_found` if there is nothing to show.
    Error(DataError),
    /// A call is missing. What the others brought is kept, so that the next try costs less.
    Trouble(Trouble),
}

/// Makes one of the days known now and the errors of its calls. An error of status 403 is a withdrawn consent, and is
/// passed in only once it is believed ([`super::refusals`]); before that it is a trouble. A withdrawn consent comes before
/// everything, remembered days included; trouble before data, because half an answer would look like a whole one; data
/// before errors, because an error about some days says nothing of the others.
pub fn merge(
    request: MeterRequest,
    days: &BTreeMap<Date, Day>,
    errors: &[DataError],
    troubles: &[Trouble],
) -> Merged {
    if let Some(gone) = errors.iter().find(|error| error.status == 403) {
        return Merged::Error(gone.clone());
    }
    // Ordered by how long it keeps the box waiting.
    if let Some(worst) = troubles.iter().max() {
        return Merged::Trouble(*worst);
    }
    match reading_of(request, days) {
        Some(reading) => Merged::Values(reading),
        None => Merged::Error(errors.first().cloned().unwrap_or_else(DataError::no_data)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metering::resource_server::Cause;
    use crate::testing::{hourly_reading, question as request};

    const TODAY: Date = date(2026, 11, 23);

    #[test]
    fn a_week_is_one_call_whatever_its_first_day_and_three_years_are_three() {
        for n in 0..14 {
            let start = plus(date(2026, 9, 1), n);
            let ask = request(Resource::ConsumptionCurve, start, plus(start, 7));
            assert_eq!(calls(ask, TODAY, |_| false), [ask]);
        }
        let ask = request(Resource::DailyMaxPower, date(2023, 11, 24), TODAY);
        let lengths = calls(ask, TODAY, |_| false).into_iter().map(|call| call.range.day_count());
        assert_eq!(lengths.collect::<Vec<_>>(), [365, 365, 365]);
    }

    #[test]
    fn known_days_today_and_tomorrow_cost_nothing() {
        let ask = request(Resource::ConsumptionCurve, date(2026, 11, 17), date(2026, 11, 24));
        let calls = |known: &dyn Fn(Date) -> bool| super::calls(ask, TODAY, known);
        assert_eq!(calls(&|_| false)[0].range.end(), TODAY);
        let yesterday = ask.with_range(DayRange::new(date(2026, 11, 22), TODAY).unwrap());
        assert_eq!(calls(&|day| day != date(2026, 11, 22)), [yesterday]);
        assert!(calls(&|_| true).is_empty());
        assert!(super::calls(request(ask.resource, TODAY, plus(TODAY, 1)), TODAY, |_| false).is_empty());
    }

    #[test]
    fn long_requests_for_about_the_same_days_share_calls() {
        let one = calls(request(Resource::ConsumptionCurve, date(2026, 8, 10), TODAY), TODAY, |_| false);
        let two = calls(request(Resource::ConsumptionCurve, date(2026, 8, 12), TODAY), TODAY, |_| false);
        assert!(two.iter().filter(|call| one.contains(call)).count() >= two.len() - 1);
    }

    #[test]
    fn a_call_about_yesterday_brings_the_week() {
        let (curve, daily, always) =
            (Resource::ConsumptionCurve, Resource::DailyConsumption, date(2020, 1, 1));
        for (resource, start, end, since, expected) in [
            (curve, date(2026, 11, 22), TODAY, always, date(2026, 11, 16)),
            (curve, date(2026, 11, 22), TODAY, date(2026, 11, 20), date(2026, 11, 20)),
            // Never narrower.
            (curve, date(2026, 11, 22), TODAY, date(2026, 11, 23), date(2026, 11, 22)),
            (curve, date(2026, 11, 16), TODAY, always, date(2026, 11, 16)),
            (curve, date(2026, 11, 1), date(2026, 11, 3), always, date(2026, 11, 1)),
            (daily, date(2025, 12, 1), TODAY, always, date(2025, 12, 1)),
        ] {
            let widened = widened(request(resource, start, end), since, TODAY);
            assert_eq!(widened, request(resource, expected, end), "{start} to {end} since {since}");
        }
    }

    #[test]
    fn the_day_of_activation_is_found_by_halves() {
        for active in 0..9 {
            let (start, mut calls) = (date(2026, 11, 16), 0);
            let active = plus(start, active);
            let (mut early, mut end) = (start, TODAY);
            let whole = request(Resource::ConsumptionCurve, start, TODAY);
            while let Some(half) =
                later_half(whole.with_range(DayRange::new(early, end).unwrap()), early, None)
            {
                calls += 1;
                if half.range.start() < active {
                    early = half.range.start();
                } else {
                    end = half.range.start();
                }
            }
            let found = if active > start { active.min(TODAY) } else { plus(start, 1) };
            assert_eq!((plus(early, 1), end), (found, found));
            assert!(calls <= 3);
            let known = later_half(whole, start, Some(active).filter(|active| *active > start));
            assert_eq!(known.is_none(), active >= TODAY, "{active}");
        }
    }

    #[test]
    fn what_counts_when_parts_differ() {
        let ask = request(Resource::DailyMaxPower, date(2026, 11, 1), date(2026, 11, 3));
        let day = Day { quality: "BEST".into(), points: hourly_reading(ask.range).points, came: None };
        let (none, days) = (BTreeMap::new(), BTreeMap::from([(date(2026, 11, 1), day)]));
        let [early, gone] =
            [DataError { cause: Cause::TooEarly, ..DataError::no_data() }, DataError::no_consent()]
                .map(|error| [error]);
        let busy = Trouble::Busy(Timestamp::from_millis(5_000));
        let is_early = Merged::Error(early[0].clone());
        assert!(matches!(merge(ask, &days, &early, &[]), Merged::Values(_)));
        for (days, errors, troubles, expected) in [
            (&days, &early[..], &[Trouble::Down, busy][..], Merged::Trouble(busy)),
            (&days, &gone, &[busy], Merged::Error(DataError::no_consent())),
            (&none, &early, &[], is_early),
            (&none, &[], &[], Merged::Error(DataError::no_data())),
        ] {
            assert_eq!(merge(ask, days, errors, troubles), expected);
        }
    }

    proptest! {
        #[test]
        fn every_unknown_day_once_and_no_call_too_long(
            start in 0_i64..2_000, len in 1_i64..1_100, holes in any::<u64>(), daily in any::<bool>(),
        ) {
            let resource = if daily { Resource::DailyConsumption } else { Resource::ProductionCurve };
            let start = plus(date(2020, 1, 1), start);
            let ask = request(resource, start, plus(start, len));
            let known = |day: Date| holes >> (days_between(start, day) % 64) & 1 == 1;
            let calls = calls(ask, TODAY, known);
            for day in ask.range.days() {
                let asked = calls.iter().filter(|call| call.range.contains(day)).count();
                prop_assert!(asked <= 1);
                prop_assert_eq!(asked == 1 || known(day) || day >= TODAY, true);
            }
            for pair in calls.windows(2) {
                prop_assert!(pair[0].range.end() <= pair[1].range.start());
            }
            for call in &calls {
                prop_assert!(call.range.day_count() <= call_days(resource));
                prop_assert!(!known(call.range.start()), "no call begins with a known day");
                prop_assert!(call.range.start() >= ask.range.start() && call.range.end() <= ask.range.end());
            }
            prop_assert!(calls.len() <= usize::try_from(len / call_days(resource) + 1).unwrap());
        }
    }
}
