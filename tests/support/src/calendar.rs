//! Owns days as the simulated Enedis and the simulated boxes count them: [`jiff`]'s, by the clocks of France.

use std::fmt;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};

/// Seconds in a day; the kit knows no days of 23 or 25 hours.
pub const DAY_SECS: u64 = 86_400;

const EPOCH: Date = date(1970, 1, 1);
/// Metropolitan France, by the rule that holds since 1996.
static FRANCE: LazyLock<TimeZone> =
    LazyLock::new(|| TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule as POSIX writes it"));

/// A day of the Gregorian calendar, from the year -9999 to 9999; beyond, the first or the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

impl Day {
    /// Reads exactly `YYYY-MM-DD`.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self).filter(|day| day.to_string() == text)
    }

    /// The day that many days after 1 January 1970.
    pub fn from_epoch(days: i64) -> Self {
        Self(EPOCH).plus(days)
    }

    /// Days since 1 January 1970.
    pub fn since_epoch(self) -> i64 {
        self.since(Self(EPOCH))
    }

    /// Today where the meters are: metropolitan France.
    pub fn today() -> Self {
        Self::in_france(wall_clock())
    }

    /// The day in metropolitan France at this moment since 1970 (UTC).
    pub fn in_france(since_epoch: Duration) -> Self {
        let moment = Timestamp::UNIX_EPOCH.saturating_add(since_epoch).unwrap_or(Timestamp::MAX);
        Self(FRANCE.to_datetime(moment).date())
    }

    /// The moment since 1970 (UTC) at which clocks in metropolitan France show `second` seconds into this day; of two
    /// such moments the second, of none one close by.
    pub fn at_in_france(self, second: i64) -> Duration {
        let shown = self.0.at(0, 0, 0, 0).saturating_add(SignedDuration::from_secs(second));
        let moment = FRANCE.to_ambiguous_timestamp(shown).later().unwrap_or(Timestamp::UNIX_EPOCH);
        Duration::try_from(moment.as_duration()).unwrap_or_default()
    }

    /// This day and `days` more, or less if negative.
    #[must_use]
    pub fn plus(self, days: i64) -> Self {
        Self(self.0.saturating_add(SignedDuration::from_hours(24 * days)))
    }

    /// The same day `months` months ago, or the last day of that month if it is shorter.
    #[must_use]
    pub fn months_ago(self, months: i64) -> Self {
        Self(self.0.saturating_sub(Span::new().months(months)))
    }

    /// Days from `earlier` to this day.
    pub fn since(self, earlier: Self) -> i64 {
        self.0.duration_since(earlier.0).as_hours() / 24
    }

    /// 0 on Monday to 6 on Sunday.
    pub fn weekday(self) -> i64 {
        self.0.weekday().to_monday_zero_offset().into()
    }

    /// Every day from this one to `end`, which is excluded.
    pub fn until(self, end: Self) -> impl Iterator<Item = Self> {
        (0..end.since(self)).map(move |days| self.plus(days))
    }
}

/// The wall clock, since 1970 (UTC).
#[expect(clippy::disallowed_methods, reason = "the simulated server is a source of time of its own")]
pub(crate) fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        Day::parse(text).expect("a day")
    }

    #[test]
    fn days_are_read_and_counted() {
        assert_eq!((day("1970-01-01").since_epoch(), day("2026-11-23").since_epoch()), (0, 20_780));
        assert_eq!((day("2024-02-29").to_string().as_str(), day("2026-11-23").weekday()), ("2024-02-29", 0));
        for wrong in ["2026-02-29", "2026-13-01", "2026-1-01", "20260101", "+026-01-01"] {
            assert_eq!(Day::parse(wrong), None, "{wrong}");
        }
        assert_eq!(day("2026-02-27").until(day("2026-03-02")).count(), 3);
        assert_eq!(day("2026-03-31").months_ago(1), day("2026-02-28"));
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
