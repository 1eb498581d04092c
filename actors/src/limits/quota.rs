//! Enedis' quota for one API: so many calls a second, so many in each clock hour, and nothing before the
//! `nextAccessTime` its gateway names.
//!
//! The gateway counts clock hours in UTC and refuses the whole application once they are used up, so we count
//! the same way and refuse first, at no cost upstream.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::clock::Timestamp;

/// Enedis' windows are clock hours: a longer `Retry-After` or `nextAccessTime` is not believed.
pub const CLOSED_MAX: Duration = Duration::from_secs(3_600);

/// Enedis' window, and a little more: its seconds begin at another moment than ours, and calls are not equally long on
/// their way.
const SECOND: Duration = Duration::from_millis(1_100);

/// The allowed rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaSettings {
    /// `ENEDIS_CALLS_PER_SECOND`, at least 1.
    pub per_second: u32,
    /// `ENEDIS_CALLS_PER_HOUR`, at least 1.
    pub per_hour: u32,
}

/// The calls made so far.
#[derive(Clone, Debug)]
pub struct Quota {
    settings: QuotaSettings,
    /// Calls of the last second, oldest first; never more than `per_second`.
    recent: VecDeque<Timestamp>,
    hour: u64,
    used: u32,
    closed_until: Timestamp,
}

impl Quota {
    /// A fresh quota.
    pub fn new(settings: QuotaSettings, now: Timestamp) -> Self {
        Self { settings, recent: VecDeque::new(), hour: now.hour(), used: 0, closed_until: Timestamp::EPOCH }
    }

    /// Takes one call, or says how long to wait for it. `reserve` calls of the hour are left to others.
    pub fn take(&mut self, now: Timestamp, reserve: u32) -> Result<(), Duration> {
        if now < self.closed_until {
            return Err(self.closed_until.since(now));
        }
        if now.hour() != self.hour {
            (self.hour, self.used) = (now.hour(), 0);
        }
        // A reserve never takes the whole hour.
        let allowed = self.settings.per_hour.saturating_sub(reserve).max(1);
        if self.used >= allowed {
            return Err(now.next_hour().since(now));
        }
        while self.recent.front().is_some_and(|oldest| now.since(*oldest) >= SECOND || now < *oldest) {
            self.recent.pop_front();
        }
        if self.recent.len() >= self.settings.per_second as usize {
            let oldest = self.recent.front().copied().unwrap_or(now);
            return Err(SECOND.saturating_sub(now.since(oldest)).max(Duration::from_millis(1)));
        }
        self.recent.push_back(now);
        self.used += 1;
        Ok(())
    }

    /// How long until `ahead` calls and one more have been made. At most a little more than `limit`, unless one step
    /// alone is longer.
    pub fn look_ahead(&self, now: Timestamp, ahead: usize, limit: Duration) -> Duration {
        let (mut quota, mut at) = (self.clone(), now);
        for _ in 0..=ahead {
            while let Err(wait) = quota.take(at, 0) {
                at = at + wait.max(Duration::from_millis(1));
                if at.since(now) >= limit {
                    return at.since(now);
                }
            }
        }
        at.since(now)
    }

    /// Enedis said: nothing before `until`.
    pub fn close_until(&mut self, until: Timestamp) {
        self.closed_until = self.closed_until.max(until);
    }

    /// Takes over what a process before has used of a clock hour (hours since the epoch).
    pub fn resume(&mut self, hour: u64, used: u32) {
        if hour == self.hour {
            self.used = self.used.max(used);
        }
    }

    /// The clock hour (hours since the epoch) and the calls made in it, to be [resumed](Self::resume).
    pub const fn usage(&self) -> (u64, u32) {
        (self.hour, self.used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_above_either_rate() {
        let settings = QuotaSettings { per_second: 5, per_hour: 100 };
        let start = Timestamp::from_millis(3_600_000 * 10 + 3_000_000);
        let mut quota = Quota::new(settings, start);
        let mut calls: Vec<u64> = Vec::new();
        // Two hours of a caller that always wants more, every 10 ms.
        for tick in 0..720_000_u64 {
            let now = start + Duration::from_millis(tick * 10);
            if quota.take(now, 0).is_ok() {
                calls.push(now.as_millis());
            }
        }
        for window in calls.windows(6) {
            assert!(window[5] - window[0] >= 1_000, "{window:?}");
        }
        for hour in 10..13 {
            assert!(calls.iter().filter(|ms| **ms / 3_600_000 == hour).count() <= 100);
        }
        assert!(calls.len() >= 300, "{}", calls.len());
    }

    #[test]
    fn the_whole_rate_is_used_and_the_reserve_is_kept() {
        let settings = QuotaSettings { per_second: 5, per_hour: 20 };
        let start = Timestamp::from_millis(3_600_000 * 10);
        let mut quota = Quota::new(settings, start);
        let made = (0..1_000).filter(|ms| quota.take(start + Duration::from_millis(*ms), 2).is_ok()).count();
        assert_eq!(made, 5);
        let later = |n: u64| start + Duration::from_secs(n * 2);
        assert_eq!((1..60).filter(|n| quota.take(later(*n), 2).is_ok()).count(), 13);
        assert_eq!((60..70).filter(|n| quota.take(later(*n), 0).is_ok()).count(), 2);
    }

    #[test]
    fn a_restart_does_not_begin_the_hour_anew() {
        let settings = QuotaSettings { per_second: 5, per_hour: 10 };
        let now = Timestamp::from_millis(3_600_000 * 10 + 60_000);
        let mut before = Quota::new(settings, now);
        for n in 0..8 {
            before.take(now + Duration::from_secs(n), 0).unwrap();
        }
        let (hour, used) = before.usage();
        let mut after = Quota::new(settings, now + Duration::from_secs(60));
        after.resume(hour, used);
        let made = (0..9).filter(|n| after.take(now + Duration::from_secs(60 + n), 0).is_ok()).count();
        assert_eq!(made, 2);
        let mut late = Quota::new(settings, now + Duration::from_secs(3_600));
        late.resume(hour, used);
        assert_eq!(late.usage().1, 0);
    }

    #[test]
    fn a_closed_gateway_is_left_alone() {
        let now = Timestamp::from_millis(1_000);
        let mut quota = Quota::new(QuotaSettings { per_second: 5, per_hour: 1000 }, now);
        quota.close_until(now + Duration::from_secs(60));
        assert_eq!(quota.take(now, 0), Err(Duration::from_secs(60)));
        assert!(quota.take(now + Duration::from_secs(60), 0).is_ok());
    }
}
