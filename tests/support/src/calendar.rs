//! Owns days: the simulated Enedis and the simulated boxes count in them, and neither needs a calendar library.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds in a day; the kit knows no days of 23 or 25 hours.
pub const DAY_SECS: u64 = 86_400;

/// A day of the Gregorian calendar, as days since 1 January 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i64);

impl Day {
    /// The day `year`-`month`-`day`; `None` if the calendar has none such.
    pub fn new(year: i64, month: i64, day: i64) -> Option<Self> {
        let candidate = Self::unchecked(year, month, day);
        ((1..=12).contains(&month) && candidate.ymd() == (year, month, day)).then_some(candidate)
    }

    /// Reads exactly `YYYY-MM-DD`.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let shaped = bytes.len() == 10
            && bytes.iter().enumerate().all(|(at, byte)| match at {
                4 | 7 => *byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        if !shaped {
            return None;
        }
        Self::new(text[..4].parse().ok()?, text[5..7].parse().ok()?, text[8..].parse().ok()?)
    }

    /// The day that many days after 1 January 1970.
    pub fn from_epoch(days: i64) -> Self {
        Self(days)
    }

    /// Days since 1 January 1970.
    pub fn since_epoch(self) -> i64 {
        self.0
    }

    /// Today where the meters are: metropolitan France.
    pub fn today() -> Self {
        Self::in_france(wall_clock())
    }

    /// The day in metropolitan France at this moment since 1970 (UTC): one hour ahead, two in summer, which lasts
    /// from the last Sunday of March, 01:00 UTC, to the last Sunday of October, 01:00 UTC.
    pub fn in_france(since_epoch: Duration) -> Self {
        let utc = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX / 4);
        Self((utc + ahead_in_france(utc)).div_euclid(86_400))
    }

    /// The moment since 1970 (UTC) at which clocks in metropolitan France show `second` seconds into this day; of two
    /// such moments the second, of none one close by.
    pub fn at_in_france(self, second: i64) -> Duration {
        let local = self.0 * 86_400 + second;
        let candidates = [3_600, 7_200].map(|ahead| local - ahead);
        let utc = candidates.into_iter().find(|utc| utc + ahead_in_france(*utc) == local);
        Duration::from_secs(u64::try_from(utc.unwrap_or(candidates[0])).unwrap_or(0))
    }

    /// This day and `days` more, or less if negative.
    #[must_use]
    pub fn plus(self, days: i64) -> Self {
        Self(self.0 + days)
    }

    /// The same day `months` months ago, or the last day of that month if it is shorter.
    #[must_use]
    pub fn months_ago(self, months: i64) -> Self {
        let (year, month, day) = self.ymd();
        let months = year * 12 + month - 1 - months;
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
        (0..4).find_map(|less| Self::new(year, month, day - less)).unwrap_or(self)
    }

    /// Days from `earlier` to this day.
    pub fn since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }

    /// 0 on Monday to 6 on Sunday.
    pub fn weekday(self) -> i64 {
        (self.0 + 3).rem_euclid(7)
    }

    /// Every day from this one to `end`, which is excluded.
    pub fn until(self, end: Self) -> impl Iterator<Item = Self> {
        (self.0..end.0).map(Self)
    }

    /// Year, month 1 to 12, day 1 to 31.
    pub fn ymd(self) -> (i64, i64, i64) {
        // Years counted from March, in eras of 400 years of 146 097 days.
        let shifted = self.0 + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        (year_of_era + era * 400 + i64::from(month <= 2), month, day)
    }

    fn unchecked(year: i64, month: i64, day: i64) -> Self {
        let year = if month <= 2 { year - 1 } else { year };
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
        Self(era * 146_097 + of_era - 719_468)
    }
}

/// The wall clock, since 1970 (UTC).
#[expect(clippy::disallowed_methods, reason = "the simulated server is a source of time of its own")]
pub(crate) fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Seconds that clocks in metropolitan France are ahead at `utc`, in seconds since 1970.
fn ahead_in_france(utc: i64) -> i64 {
    let (year, ..) = Day(utc.div_euclid(86_400)).ymd();
    let last_sunday = |month| {
        let last = Day::unchecked(year, month, 31);
        (last.0 - (last.weekday() + 1) % 7) * 86_400 + 3_600
    };
    if (last_sunday(3)..last_sunday(10)).contains(&utc) { 7_200 } else { 3_600 }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.ymd();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        Day::parse(text).expect("a day")
    }

    #[test]
    fn days_are_read_and_written() {
        assert_eq!(day("1970-01-01").since_epoch(), 0);
        assert_eq!(day("2026-11-23").since_epoch(), 20_780);
        for text in ["1969-12-31", "2000-02-29", "2024-02-29", "2026-12-31"] {
            assert_eq!(day(text).to_string(), text);
        }
        for wrong in
            ["2026-02-29", "2026-13-01", "2026-00-10", "2026-1-01", "20260101", "2026-01-32", "+026-01-01"]
        {
            assert_eq!(Day::parse(wrong), None, "{wrong}");
        }
        let all = day("1999-12-01").until(day("2004-04-01"));
        assert!(all.into_iter().all(|each| Day::parse(&each.to_string()) == Some(each)));
    }

    #[test]
    fn days_are_counted() {
        assert_eq!(day("2026-03-01").since(day("2026-02-01")), 28);
        assert_eq!(day("2026-11-23").weekday(), 0);
        assert_eq!(day("2026-11-24").months_ago(24), day("2024-11-24"));
        assert_eq!(day("2026-03-31").months_ago(1), day("2026-02-28"));
        assert_eq!(day("2026-01-15").months_ago(36), day("2023-01-15"));
    }

    #[test]
    fn france_is_ahead_by_one_hour_and_by_two_in_summer() {
        let at = |text: &str, hour: i64| {
            let secs = day(text).since_epoch() * 86_400 + hour * 3_600;
            Day::in_france(Duration::from_secs(u64::try_from(secs).expect("after 1970")))
        };
        assert_eq!(at("2026-11-23", 22), day("2026-11-23"));
        assert_eq!(at("2026-11-23", 23), day("2026-11-24"));
        assert_eq!(at("2026-07-01", 22), day("2026-07-02"));
        assert_eq!(at("2026-03-28", 22), day("2026-03-28"));
        assert_eq!(at("2026-03-29", 22), day("2026-03-30"));
        assert_eq!(at("2026-10-25", 22), day("2026-10-25"));
        for text in ["2026-03-28", "2026-03-29", "2026-07-01", "2026-10-24", "2026-10-25", "2026-11-23"] {
            let midnight = day(text).at_in_france(0);
            assert_eq!(Day::in_france(midnight), day(text));
            assert_eq!(Day::in_france(midnight.saturating_sub(Duration::from_secs(1))), day(text).plus(-1));
        }
        let eight = |text: &str| day(text).at_in_france(8 * 3_600).saturating_sub(day(text).at_in_france(0));
        let hours = |text: &str| eight(text).as_secs() / 3_600;
        assert_eq!(["2026-03-29", "2026-07-01", "2026-10-25"].map(hours), [7, 8, 9]);
    }
}
