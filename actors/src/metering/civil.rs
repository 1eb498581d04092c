//! French civil time: Enedis' days and the boxes' days are those of Europe/Paris.

use std::sync::LazyLock;

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, date};
use jiff::tz::TimeZone;

use crate::base::clock::Timestamp;

/// The rule of the European Union (directive 2000/84/EC): summer time from the last Sunday of March to the last Sunday of
/// October, both at 01:00 UTC. It spares the binary a time zone database.
pub const PARIS_RULE: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

static PARIS: LazyLock<TimeZone> =
    LazyLock::new(|| TimeZone::posix(PARIS_RULE).expect("a POSIX rule; every test reads it"));

/// The earliest date handled: no Linky meter is older.
pub const FIRST: Date = date(2010, 1, 1);

/// Local date and time in mainland France at `now`.
pub fn paris(now: Timestamp) -> DateTime {
    let at = i64::try_from(now.as_millis()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    PARIS.to_datetime(at.unwrap_or(jiff::Timestamp::MAX))
}

/// The day it is in mainland France at `now`.
pub fn today(now: Timestamp) -> Date {
    paris(now).date()
}

/// Hours in a local day: 23 on the last Sunday of March, 25 on the last Sunday of October, else 24.
pub fn hours_in(day: Date) -> u32 {
    let begins = |day: Date| PARIS.to_timestamp(day.at(0, 0, 0, 0)).unwrap_or(jiff::Timestamp::MAX);
    u32::try_from(begins(plus(day, 1)).duration_since(begins(day)).as_hours()).unwrap_or(24)
}

/// `day` moved by `days`, which may be negative. Saturates at the ends of the calendar.
pub fn plus(day: Date, days: i64) -> Date {
    day.saturating_add(SignedDuration::from_hours(days.saturating_mul(24)))
}

/// The offset of mainland France at the midnight with which `day` begins: `+01:00`, or `+02:00` in summer.
pub fn paris_offset(day: Date) -> &'static str {
    let summer = jiff::tz::offset(2);
    let at = PARIS.to_timestamp(day.at(0, 0, 0, 0));
    if at.is_ok_and(|at| PARIS.to_offset(at) == summer) { "+02:00" } else { "+01:00" }
}

/// Days from `from` to `to`; negative if `to` is earlier.
pub fn days_between(from: Date, to: Date) -> i64 {
    from.duration_until(to).as_hours() / 24
}

/// Reads exactly `YYYY-MM-DD`, a date of the calendar.
pub fn parse_date(text: &str) -> Option<Date> {
    has_shape(text, "0000-00-00").then(|| text.parse().ok()).flatten()
}

/// Reads `YYYY-MM-DD HH:MM:SS`, with `T` for the blank and with or without an offset or fraction behind it (which are
/// ignored: Enedis dates its points in local time), or a bare date, which is its midnight.
pub fn parse_moment(text: &str) -> Option<DateTime> {
    if text.len() == 10 {
        return parse_date(text).map(|day| day.at(0, 0, 0, 0));
    }
    let text = text.get(..19)?;
    let is_moment = has_shape(text, "0000-00-00 00:00:00") || has_shape(text, "0000-00-00T00:00:00");
    // A leap second would be read as the one before.
    (is_moment && !text.ends_with("60")).then(|| text.parse().ok()).flatten()
}

/// Whether `text` is as long as `shape`, with digits where that has zeros and the same elsewhere.
fn has_shape(text: &str, shape: &str) -> bool {
    let fits = |(found, wanted): (u8, u8)| found == wanted || (wanted == b'0' && found.is_ascii_digit());
    text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(fits)
}

/// Writes `YYYY-MM-DD HH:MM:SS`, as Enedis and the plugin do.
pub fn moment_text(at: DateTime) -> String {
    format!("{} {:02}:{:02}:{:02}", at.date(), at.hour(), at.minute(), at.second())
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
        let days = [date(2026, 3, 29), date(2026, 10, 25), date(2026, 10, 26)];
        assert_eq!(days.map(hours_in), [23, 25, 24]);
    }

    #[test]
    fn only_real_dates_in_one_form() {
        assert_eq!(parse_date("2024-02-29"), Some(date(2024, 2, 29)));
        let odd = "2026-02-29|2026-13-01|2026-1-01|20XX-XX-XX|+026-01-01|-026-01-01|2026/01/01|2026-01-01 |2026-01-0a";
        for odd in odd.split('|').chain(["２０２６-01", ""]) {
            assert_eq!(parse_date(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn moments_are_read_and_written() {
        for text in ["2026-09-29 13:03:35", "2026-09-29T13:03:35", "2026-09-29T13:03:35+02:00"] {
            assert_eq!(moment_text(parse_moment(text).unwrap()), "2026-09-29 13:03:35");
        }
        assert_eq!(moment_text(parse_moment("2026-09-29").unwrap()), "2026-09-29 00:00:00");
        for odd in [
            "20XX-XX-XX 00:30:00",
            "2026-09-29 24:00:00",
            "2026-09-29 1:00:00",
            "2026-09-29 éé:00:0",
            "2026-09-29 23:59:60",
        ] {
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
