use jiff::civil::date;
use proptest::prelude::*;

use super::*;
use crate::testing::question as request;

fn point(value: &str, date: &str, step: Option<&str>) -> Point {
    let nature = step.map(|_| "B".to_owned());
    let (value, date) = (value.to_owned(), date.to_owned());
    Point { value, date, interval_length: step.map(str::to_owned), measure_type: nature }
}

/// A curve of half hours over whole days.
fn curve(range: DayRange) -> Reading {
    let mut points = Vec::new();
    for day in range.days() {
        for (n, end) in step_ends(day, 30).enumerate() {
            points.push(point(&(n + 100).to_string(), &end, Some("PT30M")));
        }
    }
    Reading { quality: "BRUT".into(), points }
}

#[test]
fn midnight_belongs_to_the_day_before() {
    let ask = request(Resource::ConsumptionCurve, date(2026, 11, 1), date(2026, 11, 3));
    let mut reading = curve(ask.range);
    // What Enedis sent before and after the range is left out.
    reading.points.insert(0, point("1", "2026-11-01 00:00:00", Some("PT30M")));
    reading.points.push(point("2", "2026-11-03 00:30:00", Some("PT30M")));
    let days = days_of(ask.resource, ask.range, &reading);
    assert_eq!(days.len(), 2);
    for (date, day) in &days {
        assert_eq!(day.points.len(), 48);
        assert_eq!(day.points[47].date, format!("{} 00:00:00", plus(*date, 1)));
        assert_eq!(day.fullness(ask.resource, *date), Fullness::Complete);
    }
    assert_eq!(reading_of(ask, &days).unwrap(), curve(ask.range));
}

#[test]
fn max_power_at_midnight_belongs_to_its_own_day() {
    let ask = request(Resource::DailyMaxPower, date(2026, 11, 1), date(2026, 11, 3));
    let reading = Reading {
        points: vec![
            point("2", "2026-11-02 18:00:00", None),
            point("1", "2026-11-01 00:00:00", None),
            point("3", "2026-11-02 19:00:00", None),
        ],
        ..curve(ask.range)
    };
    let days = days_of(ask.resource, ask.range, &reading);
    assert_eq!(days[&date(2026, 11, 1)].points[0].value, "1");
    assert_eq!(days[&date(2026, 11, 2)].points.len(), 1, "one value a day");
    assert_eq!(days[&date(2026, 11, 2)].fullness(ask.resource, date(2026, 11, 2)), Fullness::Complete);
}

#[test]
fn holes_and_empty_days_are_told_apart() {
    let ask = request(Resource::ConsumptionCurve, date(2026, 11, 1), date(2026, 11, 4));
    let mut reading = curve(DayRange::new(date(2026, 11, 1), date(2026, 11, 3)).unwrap());
    reading.points.remove(60);
    let days = days_of(ask.resource, ask.range, &reading);
    let fullness: Vec<Fullness> = days.iter().map(|(date, day)| day.fullness(ask.resource, *date)).collect();
    assert_eq!(fullness, [Fullness::Complete, Fullness::Partial, Fullness::Empty]);
    let other = request(Resource::ConsumptionCurve, date(2026, 11, 3), date(2026, 11, 4));
    assert_eq!(reading_of(other, &days), None, "no value, no answer");
}

#[test]
fn the_hour_that_comes_twice_is_kept() {
    let day = date(2026, 10, 25);
    let ask = request(Resource::ConsumptionCurve, day, date(2026, 10, 26));
    let mut reading = curve(ask.range);
    let again =
        [point("7", "2026-10-25 02:30:00", Some("PT30M")), point("8", "2026-10-25 03:00:00", Some("PT30M"))];
    reading.points.splice(6..6, again);
    let days = days_of(ask.resource, ask.range, &reading);
    assert_eq!(days[&day].points, reading.points, "50 half hours, order kept");
    assert_eq!(Day::unpack(&days[&day].pack(day), day).unwrap(), days[&day]);
    // Side by side, or in two lists of which the second has the second hour alone: the same.
    let in_order = reading.points.clone();
    let mut beside = reading.clone();
    beside.points.sort_by_key(|point| point.date.clone());
    let mut apart = reading.clone();
    let second: Vec<Point> = apart.points.drain(6..8).collect();
    apart.points.extend(second);
    for mixed in [beside, apart] {
        assert_eq!(days_of(ask.resource, ask.range, &mixed)[&day].points, in_order);
    }
    // The end of the first hour may be called two o'clock.
    let mut reading = curve(ask.range);
    let again =
        [point("7", "2026-10-25 02:00:00", Some("PT30M")), point("8", "2026-10-25 02:30:00", Some("PT30M"))];
    reading.points.splice(5..5, again);
    let mut beside = reading.clone();
    beside.points.sort_by_key(|point| point.date.clone());
    for mixed in [&reading, &beside] {
        assert_eq!(days_of(ask.resource, ask.range, mixed)[&day].points, reading.points);
    }
    // What is sent twice is one day.
    let mut twice = curve(ask.range);
    twice.points.extend(curve(ask.range).points);
    assert_eq!(days_of(ask.resource, ask.range, &twice)[&day].points.len(), 48);
    // On any other day a repeated date is a mistake.
    let ask = request(Resource::ConsumptionCurve, date(2026, 10, 26), date(2026, 10, 27));
    let mut reading = curve(ask.range);
    reading.points.insert(6, point("7", "2026-10-26 02:30:00", Some("PT30M")));
    assert_eq!(days_of(ask.resource, ask.range, &reading)[&date(2026, 10, 26)].points.len(), 48);
}

#[test]
fn short_days_need_no_more_than_they_have() {
    let day = date(2026, 3, 29);
    let mut reading = curve(DayRange::new(day, plus(day, 1)).unwrap());
    reading.points.drain(4..6);
    let days = days_of(Resource::ConsumptionCurve, DayRange::new(day, plus(day, 1)).unwrap(), &reading);
    assert_eq!(days[&day].fullness(Resource::ConsumptionCurve, day), Fullness::Complete);
}

#[test]
fn the_fuller_and_then_the_later_is_better() {
    let date = date(2026, 11, 1);
    let day = |quality: &str, value: &str, steps: usize| {
        let points = step_ends(date, 30).take(steps).map(|end| point(value, &end, Some("PT30M")));
        Day { quality: quality.to_owned(), points: points.collect(), came: None }
    };
    let (none, part, whole) = (Day::default(), day("BRUT", "1", 9), day("BRUT", "1", 48));
    for (before, later, is_later) in [
        (&none, &part, true),
        (&part, &whole, true),
        (&whole, &part, false),
        (&whole, &none, false),
        (&whole, &day("BRUT", "2", 48), true),
        (&whole, &day("BEST", "2", 48), true),
        (&day("BEST", "2", 48), &whole, false),
        (&day("BEST", "2", 48), &day("CORRIGE", "3", 48), true),
        (&part, &day("BRUT", "2", 9), true),
    ] {
        let better = before.clone().or_better(later.clone());
        assert_eq!(better, if is_later { later.clone() } else { before.clone() }, "{before:?} {later:?}");
    }
}

#[test]
fn packed_days_are_small() {
    let day = date(2026, 11, 1);
    let range = DayRange::new(day, plus(day, 1)).unwrap();
    let days = days_of(Resource::ConsumptionCurve, range, &curve(range));
    let bytes = days[&day].pack(day);
    assert!(bytes.len() < 400, "{}", bytes.len());
    assert_eq!(Day::unpack(&bytes, day).as_ref(), Some(&days[&day]));
    assert_eq!(Day::unpack(b"{", day), None);
    assert_eq!(Day::unpack(&Day::default().pack(day), day), Some(Day::default()));
}

proptest! {
    /// Any order in, any holes: taken apart, packed and put together it is the same, in order.
    #[test]
    fn nothing_is_lost(
        days in 1_i64..9,
        holes in proptest::collection::vec(0_usize..400, 0..40),
        order in any::<u64>(),
    ) {
        let start = date(2026, 11, 1);
        let ask = request(Resource::ConsumptionCurve, start, plus(start, days));
        let mut whole = curve(ask.range);
        let mut n = 0;
        whole.points.retain(|_| { n += 1; !holes.contains(&(n - 1)) });
        prop_assume!(!whole.points.is_empty());
        let mut mixed = whole.clone();
        let len = mixed.points.len();
        let turn = usize::try_from(order % u64::try_from(len).unwrap()).unwrap();
        mixed.points.rotate_left(turn);
        if order % 2 == 0 {
            mixed.points.reverse();
        } else if len > 1 {
            mixed.points.swap(turn % (len - 1), turn % (len - 1) + 1);
        }
        let taken = days_of(ask.resource, ask.range, &mixed);
        let back: BTreeMap<Date, Day> =
            taken.iter().map(|(d, day)| (*d, Day::unpack(&day.pack(*d), *d).unwrap())).collect();
        prop_assert_eq!(reading_of(ask, &back).unwrap(), whole);
    }
}
