//! French civil time: Enedis' days and the boxes' days are those of Europe/Paris.
//!
//! The rule of the European Union (directive 2000/84/EC) is small enough to be written down, which spares the
//! binary a time zone database: summer time from the last Sunday of March to the last Sunday of October, both at
//! 01:00 UTC.

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, Time, Weekday, date};
use jiff::tz::Offset;

use crate::base::clock::Timestamp;

/// The earliest date handled: no Linky meter is older.
pub const FIRST: Date = date(2010, 1, 1);

/// Local date and time in mainland France at `now`.
pub fn paris(now: Timestamp) -> DateTime {
    let utc = utc(now);
    utc.saturating_add(SignedDuration::from_hours(if is_summer(utc) { 2 } else { 1 }))
}

/// The day it is in mainland France at `now`.
pub fn today(now: Timestamp) -> Date {
    paris(now).date()
}

/// Hours in a local day: 23 on the last Sunday of March, 25 on the last Sunday of October, else 24.
pub fn hours_in(day: Date) -> u32 {
    if day == last_sunday(day.year(), 3) {
        23
    } else if day == last_sunday(day.year(), 10) {
        25
    } else {
        24
    }
}

/// `day` moved by `days`, which may be negative. Saturates at the ends of the calendar.
pub fn plus(day: Date, days: i64) -> Date {
    day.saturating_add(SignedDuration::from_hours(days.saturating_mul(24)))
}

/// Days from `from` to `to`; negative if `to` is earlier.
pub fn days_between(from: Date, to: Date) -> i64 {
    from.duration_until(to).as_hours() / 24
}

/// Reads exactly `YYYY-MM-DD`, a date of the calendar.
pub fn parse_date(text: &str) -> Option<Date> {
    let shape = |(i, b): (usize, &u8)| if i == 4 || i == 7 { *b == b'-' } else { b.is_ascii_digit() };
    if text.len() != 10 || !text.as_bytes().iter().enumerate().all(shape) {
        return None;
    }
    Date::new(text[..4].parse().ok()?, text[5..7].parse().ok()?, text[8..].parse().ok()?).ok()
}

/// Reads `YYYY-MM-DD HH:MM:SS`, with `T` for the blank and with or without an offset or fraction behind it (which are
/// ignored: Enedis dates its points in local time), or a bare date, which is its midnight.
pub fn parse_moment(text: &str) -> Option<DateTime> {
    let date = parse_date(text.get(..10)?)?;
    if text.len() == 10 {
        return Some(date.at(0, 0, 0, 0));
    }
    let time = text.get(10..19)?.as_bytes();
    let number = |at: usize| {
        let (tens, ones) = (char::from(time[at]).to_digit(10)?, char::from(time[at + 1]).to_digit(10)?);
        i8::try_from(tens * 10 + ones).ok()
    };
    if !matches!(time[0], b' ' | b'T') || time[3] != b':' || time[6] != b':' {
        return None;
    }
    let time = Time::new(number(1)?, number(4)?, number(7)?, 0).ok()?;
    Some(date.to_datetime(time))
}

/// Writes `YYYY-MM-DD HH:MM:SS`, as Enedis and the plugin do.
pub fn moment_text(at: DateTime) -> String {
    format!("{} {:02}:{:02}:{:02}", at.date(), at.hour(), at.minute(), at.second())
}

fn utc(now: Timestamp) -> DateTime {
    let ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX);
    Offset::UTC.to_datetime(at)
}

fn is_summer(utc: DateTime) -> bool {
    let begin = last_sunday(utc.year(), 3).at(1, 0, 0, 0);
    let end = last_sunday(utc.year(), 10).at(1, 0, 0, 0);
    (begin..end).contains(&utc)
}

fn last_sunday(year: i16, month: i8) -> Date {
    // March and October have 31 days in every year, and `year` comes from a date.
    let last = Date::new(year, month, 31).unwrap_or(FIRST);
    plus(last, -i64::from(last.weekday().since(Weekday::Sunday)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        let at: jiff::Timestamp = text.parse().unwrap();
        Timestamp::from_millis(u64::try_from(at.as_millisecond()).unwrap())
    }

    #[test]
    fn the_hour_changes_where_the_law_says() {
        for (utc, local) in [
            ("2026-03-29T00:59:59Z", "2026-03-29T01:59:59"),
            ("2026-03-29T01:00:00Z", "2026-03-29T03:00:00"),
            ("2026-10-25T00:59:59Z", "2026-10-25T02:59:59"),
            ("2026-10-25T01:00:00Z", "2026-10-25T02:00:00"),
            ("2026-11-23T23:16:13Z", "2026-11-24T00:16:13"),
            ("2026-07-14T22:30:00Z", "2026-07-15T00:30:00"),
            ("2027-03-28T01:00:00Z", "2027-03-28T03:00:00"),
        ] {
            assert_eq!(paris(at(utc)).to_string(), local, "{utc}");
        }
        assert_eq!(today(at("2026-12-31T23:00:00Z")), date(2027, 1, 1));
        assert_eq!(today(Timestamp::from_millis(u64::MAX)).year(), 9999, "no panic at the end of time");
    }

    #[test]
    fn long_and_short_days() {
        assert_eq!(hours_in(date(2026, 3, 29)), 23);
        assert_eq!(hours_in(date(2026, 10, 25)), 25);
        assert_eq!(hours_in(date(2026, 10, 26)), 24);
    }

    #[test]
    fn only_real_dates_in_one_form() {
        assert_eq!(parse_date("2024-02-29"), Some(date(2024, 2, 29)));
        for odd in [
            "2026-02-29",
            "2026-13-01",
            "2026-1-01",
            "20XX-XX-XX",
            "+026-01-01",
            "-026-01-01",
            "2026/01/01",
            "2026-01-01 ",
            "2026-01-0a",
            "２０２６-01",
            "",
        ] {
            assert_eq!(parse_date(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn moments_are_read_and_written() {
        for text in ["2026-09-29 13:03:35", "2026-09-29T13:03:35", "2026-09-29T13:03:35+02:00"] {
            assert_eq!(moment_text(parse_moment(text).unwrap()), "2026-09-29 13:03:35");
        }
        assert_eq!(moment_text(parse_moment("2026-09-29").unwrap()), "2026-09-29 00:00:00");
        for odd in ["20XX-XX-XX 00:30:00", "2026-09-29 24:00:00", "2026-09-29 1:00:00", "2026-09-29 éé:00:0"]
        {
            assert_eq!(parse_moment(odd), None, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn days_add_up(start in 0_i64..20_000, n in -4_000_i64..4_000) {
            let day = plus(FIRST, start);
            prop_assert_eq!(days_between(day, plus(day, n)), n);
            prop_assert_eq!(parse_date(&day.to_string()), Some(day));
        }

        #[test]
        fn a_local_day_has_the_hours_it_says(n in 0_i64..20_000) {
            let day = plus(FIRST, n);
            let noon_before = u64::try_from(days_between(date(1970, 1, 1), day)).unwrap() * 86_400_000 - 43_200_000;
            let half_hours = (0..96)
                .filter(|i| today(Timestamp::from_millis(noon_before + i * 1_800_000)) == day)
                .count();
            prop_assert_eq!(half_hours, usize::try_from(hours_in(day)).unwrap() * 2);
        }

        #[test]
        fn no_text_panics(text in ".{0,12}") {
            parse_date(&text);
            parse_moment(&format!("2026-01-01{text}"));
        }
    }
}
