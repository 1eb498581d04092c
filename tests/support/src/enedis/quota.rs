//! Owns the quota of the gateway: so many calls a second and so many a clock hour, for the whole application, per
//! API. Windows are those of the clock, as Enedis' answers name the full hour (UTC) at which calls are taken again;
//! refused calls count for nothing.

use std::time::Duration;

use super::Fault;
use super::fault::next_access_time;

/// How many calls an API takes. The lengths of a "second" and an "hour" can be scaled down for a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Calls per `second`; `None`: no limit.
    pub per_second: Option<u32>,
    /// Length of the short window.
    pub second: Duration,
    /// Calls per `hour`; `None`: no limit.
    pub per_hour: Option<u32>,
    /// Length of the long window.
    pub hour: Duration,
    /// What is answered when it is spent.
    pub body: QuotaBody,
}

/// The two bodies seen with 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaBody {
    /// `900804` with `nextAccessTime`.
    NextAccessTime,
    /// `{"fault":{"code":900807,…}}`, which names no time.
    Fault,
}

impl Quota {
    /// What Enedis states: 5 a second, 1000 a clock hour.
    pub const ENEDIS: Self = Self {
        per_second: Some(5),
        second: Duration::from_secs(1),
        per_hour: Some(1_000),
        hour: Duration::from_secs(3_600),
        body: QuotaBody::NextAccessTime,
    };

    /// No limit at all.
    pub const UNLIMITED: Self = Self { per_second: None, per_hour: None, ..Self::ENEDIS };

    /// [`Quota::ENEDIS`] with hours of this length.
    pub const fn with_hour(hour: Duration) -> Self {
        Self { hour, ..Self::ENEDIS }
    }

    /// The answer to a call that comes too early; `until` is since 1970 (UTC), told in whole seconds, rounded up.
    pub(super) fn refusal(&self, until: Duration) -> Fault {
        match self.body {
            QuotaBody::NextAccessTime => Fault::quota(&next_access_time(until + Duration::from_millis(999))),
            QuotaBody::Fault => Fault::throttled(),
        }
    }
}

/// What one API has taken in its current windows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    second: Window,
    hour: Window,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    number: u128,
    used: u32,
}

impl Meter {
    /// Takes one call at `now` (since 1970, UTC). `Err`: refused; when the window that is full ends.
    pub(super) fn take(&mut self, quota: &Quota, now: Duration) -> Result<(), Duration> {
        self.hour.turn(quota.hour, now);
        self.second.turn(quota.second, now);
        self.hour.room(quota.per_hour, quota.hour)?;
        self.second.room(quota.per_second, quota.second)?;
        self.hour.used += 1;
        self.second.used += 1;
        Ok(())
    }
}

/// What one API was asked in its current windows, refused calls included.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Busy(Meter);

impl Busy {
    /// Counts one call at `now` (since 1970, UTC): how many that makes in its second and in its hour.
    pub(super) fn count(&mut self, quota: &Quota, now: Duration) -> (u32, u32) {
        // Without limits nothing is refused.
        let _ = self.0.take(&Quota { per_second: None, per_hour: None, ..*quota }, now);
        (self.0.second.used, self.0.hour.used)
    }
}

impl Window {
    fn turn(&mut self, length: Duration, now: Duration) {
        let number = now.as_nanos() / length.as_nanos().max(1);
        if number != self.number {
            *self = Self { number, used: 0 };
        }
    }

    fn room(self, limit: Option<u32>, length: Duration) -> Result<(), Duration> {
        if limit.is_none_or(|limit| self.used < limit) {
            return Ok(());
        }
        let end = (self.number + 1) * length.as_nanos();
        Err(Duration::from_nanos(u64::try_from(end).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    #[test]
    fn five_a_second_and_the_sixth_waits_for_the_next() {
        let mut meter = Meter::default();
        for call in 0..5 {
            assert_eq!(meter.take(&Quota::ENEDIS, at(7.1 + 0.1 * f64::from(call))), Ok(()));
        }
        assert_eq!(meter.take(&Quota::ENEDIS, at(7.9)), Err(at(8.0)));
        assert_eq!(meter.take(&Quota::ENEDIS, at(8.0)), Ok(()));
    }

    #[test]
    fn the_hour_is_that_of_the_clock_and_can_be_scaled() {
        let quota = Quota { per_second: None, per_hour: Some(3), ..Quota::ENEDIS };
        let mut meter = Meter::default();
        assert!((0..3).all(|_| meter.take(&quota, at(7_000.0)).is_ok()));
        assert_eq!(meter.take(&quota, at(7_100.0)), Err(at(7_200.0)));
        assert_eq!(meter.take(&quota, at(7_200.5)), Ok(()));
        let scaled = Quota { hour: Duration::from_millis(500), ..quota };
        assert_eq!(scaled.per_hour, Some(3));
        assert!((0..3).all(|_| meter.take(&scaled, at(9.6)).is_ok()));
        assert_eq!(meter.take(&scaled, at(9.7)), Err(at(10.0)));
        assert_eq!(meter.take(&scaled, at(10.0)), Ok(()));
        assert!((0..9_999).all(|_| meter.take(&Quota::UNLIMITED, at(11.0)).is_ok()));
    }

    #[test]
    fn refused_calls_are_counted_as_well() {
        let mut busy = Busy::default();
        let counted = [7.1, 7.2, 7.3, 7.4, 7.5, 7.6, 8.0].map(|secs| busy.count(&Quota::ENEDIS, at(secs)));
        assert_eq!((counted[5], counted[6]), ((6, 6), (1, 7)));
    }

    #[test]
    fn the_refusal_names_the_time_or_does_not() {
        let Fault::Status { code, body, .. } = Quota::ENEDIS.refusal(at(1_784_264_399.2)) else {
            panic!("a refusal is a status")
        };
        assert_eq!(code, 429);
        assert!(body.contains("\"nextAccessTime\":\"2026-Jul-17 05:00:00+0000 UTC\""), "{body}");
        let quota = Quota { body: QuotaBody::Fault, ..Quota::ENEDIS };
        assert!(matches!(quota.refusal(at(1.0)), Fault::Status { body, .. } if body.contains("900807")));
    }
}
