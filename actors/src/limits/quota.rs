//! Enedis' quota for one API: so many calls a second, so many in each clock hour, and nothing before the
//! `nextAccessTime` its gateway names.
//!
//! The gateway counts clock hours in UTC and refuses the whole application once they are used up, so we count
//! the same way and refuse first, at no cost upstream.
//!
//! Instances that share a store count together: calls of the hour are taken from one record, in small [`Lease`]s, and the
//! second is divided among the instances that run. While the store is away, each goes on with its share of the hour.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::clock::Timestamp;

/// Enedis' windows are clock hours: a longer `Retry-After` or `nextAccessTime` is not believed.
pub const CLOSED_MAX: Duration = Duration::from_secs(3_600);

/// Enedis' window, and a little more, as clocks are read in milliseconds. It runs from a call's end: Enedis counted the
/// call at some moment before, and a busy machine or network may have kept it on its way.
const SECOND: Duration = Duration::from_millis(1_010);
/// A call that has not ended by then is taken for counted when it was sent: it is Enedis that is slow.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// Calls of the hour are leased so many at a time, of so many; few, as what a killed process had is lost for the hour.
const LEASES: u32 = 50;
const LEASE_MAX: u32 = 20;
/// How long to wait for a lease, before another look.
const LEASING: Duration = Duration::from_millis(100);

/// The allowed rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaSettings {
    /// `ENEDIS_CALLS_PER_SECOND`, at least 1.
    pub per_second: u32,
    /// `ENEDIS_CALLS_PER_HOUR`, at least 1.
    pub per_hour: u32,
}

/// Some calls of one clock hour, to be taken from the record that all instances share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The clock hour, in hours since the epoch.
    pub hour: u64,
    /// How many calls, at least 1.
    pub calls: u32,
    /// How many all instances may take of the hour.
    pub most: u32,
}

/// What came of a [`Wish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// How many calls were taken for it: 0 if there are none left.
    pub granted: u32,
    /// How many all instances have taken of the hour.
    pub used: u32,
}

/// The calls made so far.
#[derive(Clone, Debug)]
pub struct Quota {
    settings: QuotaSettings,
    /// When calls were sent that have not ended, oldest first.
    under_way: VecDeque<Timestamp>,
    /// When others were counted at the latest, oldest first. Both together are never more than `per_second`.
    recent: VecDeque<Timestamp>,
    hour: u64,
    /// Calls of the hour: made here, or leased by any instance as far as is known.
    used: u32,
    /// Where instances count together.
    leased: Option<Leased>,
    /// Instances that run, this one included.
    instances: u32,
    closed_until: Timestamp,
}

/// What this instance has of the hour that all share.
#[derive(Clone, Copy, Debug, Default)]
struct Leased {
    /// Calls that were not made yet.
    left: u32,
    /// Calls that were made before they were leased.
    owed: u32,
    /// All that it has had.
    had: u32,
    is_wanted: bool,
    is_asked: bool,
}

impl Quota {
    /// A fresh quota.
    pub fn new(settings: QuotaSettings, now: Timestamp) -> Self {
        Self {
            settings,
            under_way: VecDeque::new(),
            recent: VecDeque::new(),
            hour: now.hour(),
            used: 0,
            leased: None,
            instances: 1,
            closed_until: Timestamp::EPOCH,
        }
    }

    /// From now on calls are taken from the record that `instances` share.
    pub fn share(&mut self, instances: u32) {
        self.leased.get_or_insert_default();
        self.instances = instances.max(1);
    }

    /// Takes one call, or says how long to wait for it. `reserve` calls of the hour are left to others.
    pub fn take(&mut self, now: Timestamp, reserve: u32) -> Result<(), Duration> {
        self.draw(now, reserve, false)
    }

    /// Takes one call that cannot wait for a lease: it is leased afterwards.
    pub fn take_on_credit(&mut self, now: Timestamp) -> Result<(), Duration> {
        self.draw(now, 0, true)
    }

    fn draw(&mut self, now: Timestamp, reserve: u32, on_credit: bool) -> Result<(), Duration> {
        if now < self.closed_until {
            return Err(self.closed_until.since(now));
        }
        if now.hour() != self.hour {
            (self.hour, self.used) = (now.hour(), 0);
            self.leased = self.leased.map(|_| Leased::default());
        }
        // A reserve never takes the whole hour.
        let allowed = self.settings.per_hour.saturating_sub(reserve).max(1);
        if self.made() >= allowed {
            return Err(now.next_hour().since(now));
        }
        // The instances' parts of a second; where there are more of them than calls in a second, of a longer time.
        let (calls, window) = match self.settings.per_second / self.instances {
            0 => (1, SECOND * self.instances / self.settings.per_second.max(1)),
            calls => (calls, SECOND),
        };
        while self.under_way.front().is_some_and(|sent| now.since(*sent) >= ON_ITS_WAY) {
            let counted = self.under_way.pop_front().map(|sent| sent + ON_ITS_WAY);
            self.recent.extend(counted);
        }
        while self.recent.front().is_some_and(|counted| now.since(*counted) >= window) {
            self.recent.pop_front();
        }
        if self.under_way.len() + self.recent.len() >= calls as usize {
            let counted = self.recent.front().copied();
            let counted = counted.or_else(|| self.under_way.front().map(|sent| *sent + ON_ITS_WAY));
            return Err((counted.unwrap_or(now) + window).since(now).max(Duration::from_millis(1)));
        }
        match &mut self.leased {
            None => self.used += 1,
            Some(Leased { left: left @ 1.., .. }) => *left -= 1,
            Some(leased) => {
                leased.is_wanted = true;
                if !on_credit {
                    return Err(LEASING);
                }
                leased.owed += 1;
            }
        }
        self.under_way.push_back(now);
        Ok(())
    }

    /// A call that was taken has ended, whatever came of it. Which one does not matter: the others are taken for younger.
    pub fn ended(&mut self, now: Timestamp) {
        if self.under_way.pop_front().is_some() {
            self.recent.push_back(now);
        }
    }

    /// Calls of the hour that were made, here or by others.
    fn made(&self) -> u32 {
        self.leased.map_or(self.used, |Leased { left, owed, .. }| (self.used + owed).saturating_sub(left))
    }

    /// What is to be taken from the shared record now. What comes of it is told to [`Self::lease`].
    pub fn wish(&mut self) -> Option<Wish> {
        let leased = self.leased.as_mut().filter(|leased| leased.is_wanted && !leased.is_asked)?;
        (leased.is_wanted, leased.is_asked) = (false, true);
        let (hour, most) = (self.hour, self.settings.per_hour);
        Some(Wish { hour, calls: (most / LEASES).clamp(1, LEASE_MAX) + leased.owed, most })
    }

    /// What came of a wish; `None`: the store is away.
    pub fn lease(&mut self, wish: Wish, lease: Option<Lease>) {
        let Some(leased) = &mut self.leased else { return };
        leased.is_asked = false;
        if wish.hour != self.hour {
            return;
        }
        let share = (wish.most / self.instances).saturating_sub(leased.had);
        let Lease { granted, used } = lease.unwrap_or_else(|| {
            let granted = wish.calls.min(share);
            Lease { granted, used: self.used + granted }
        });
        let paid = leased.owed.min(granted);
        leased.owed -= paid;
        leased.left += granted - paid;
        leased.had += granted;
        self.used = self.used.max(used);
    }

    /// How long until `ahead` calls and one more have been made. At most a little more than `limit`, unless one step
    /// alone is longer.
    pub fn look_ahead(&self, now: Timestamp, ahead: usize, limit: Duration) -> Duration {
        let (mut quota, mut at) = (Self { used: self.made(), leased: None, ..self.clone() }, now);
        quota.recent.extend(quota.under_way.drain(..).map(|_| now));
        for _ in 0..=ahead {
            while let Err(wait) = quota.take(at, 0) {
                at = at + wait.max(Duration::from_millis(1));
                if at.since(now) >= limit {
                    return at.since(now);
                }
            }
            quota.ended(at);
        }
        at.since(now)
    }

    /// Enedis said: nothing before `until`.
    pub fn close_until(&mut self, until: Timestamp) {
        self.closed_until = self.closed_until.max(until);
    }

    /// Calls made in the current clock hour, by all instances as far as is known.
    pub fn used_this_hour(&self) -> u32 {
        self.made()
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn never_above_either_rate() {
        let settings = QuotaSettings { per_second: 5, per_hour: 100 };
        let start = Timestamp::from_millis(3_600_000 * 10 + 3_000_000);
        let mut quota = Quota::new(settings, start);
        let (mut calls, mut under_way): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        // Two hours of a caller that always wants more, every 10 ms. Each call is counted on its way.
        for tick in 0..720_000_u64 {
            let now = start + Duration::from_millis(tick * 10);
            under_way.retain(|ends| {
                let is_over = *ends <= now.as_millis();
                if is_over {
                    quota.ended(now);
                }
                !is_over
            });
            if quota.take(now, 0).is_ok() {
                let ends = now.as_millis() + rng.random_range(0..1_000);
                under_way.push(ends);
                calls.push(rng.random_range(now.as_millis()..=ends));
            }
        }
        calls.sort_unstable();
        for window in calls.windows(6) {
            assert!(window[5] - window[0] >= 1_000, "{window:?}");
        }
        for hour in 10..13 {
            assert!(calls.iter().filter(|ms| **ms / 3_600_000 == hour).count() <= 100);
        }
        assert!(calls.len() >= 300, "{}", calls.len());
    }

    #[test]
    fn calls_without_an_end_do_not_stop_others() {
        let settings = QuotaSettings { per_second: 5, per_hour: 1_000 };
        let start = Timestamp::from_millis(3_600_000 * 10);
        let mut quota = Quota::new(settings, start);
        let made = (0..20_100).filter(|ms| quota.take(start + Duration::from_millis(*ms), 0).is_ok()).count();
        assert_eq!(made, 50, "five each 2.01 s");
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

    /// Calls that `instances` make when all want more at once, every 10 ms for `secs`; `record` answers their wishes.
    fn made(
        instances: &mut [Quota],
        start: Timestamp,
        secs: u64,
        mut record: impl FnMut(Wish) -> Option<Lease>,
    ) -> usize {
        let mut made = 0;
        for tick in 0..secs * 100 {
            let now = start + Duration::from_millis(tick * 10);
            for quota in &mut *instances {
                made += usize::from(quota.take(now, 0).is_ok());
                if let Some(wish) = quota.wish() {
                    quota.lease(wish, record(wish));
                }
            }
        }
        made
    }

    fn shared(settings: QuotaSettings, instances: u32, now: Timestamp) -> Vec<Quota> {
        let mut quota = Quota::new(settings, now);
        quota.share(instances);
        vec![quota; instances as usize]
    }

    #[test]
    fn instances_and_processes_after_them_share_one_hour() {
        let settings = QuotaSettings { per_second: 5, per_hour: 60 };
        let start = Timestamp::from_millis(3_600_000 * 10);
        let mut used = 0;
        let mut record = |wish: Wish| {
            let granted = wish.calls.min(wish.most - used);
            used += granted;
            Some(Lease { granted, used })
        };
        let mut two = shared(settings, 2, start);
        let first = made(&mut two, start, 10, &mut record);
        // Killed, and started anew.
        let rest = made(&mut shared(settings, 2, start), start + Duration::from_secs(10), 600, &mut record);
        // What had been leased by then and not made is lost.
        let lost: u32 = two.iter().filter_map(|quota| Some(quota.leased?.left)).sum();
        assert_eq!(first + rest + lost as usize, 60);
        assert!(first <= 4 * 10, "each has two of the five calls a second: {first}");
        used = 0;
        let next = start + Duration::from_secs(3_600);
        let record = |wish: Wish| {
            used += wish.calls;
            Some(Lease { granted: wish.calls, used })
        };
        assert_eq!(made(&mut two, next, 60, record), 60, "the next hour is another");
    }

    #[test]
    fn while_the_store_is_away_each_has_its_share() {
        let settings = QuotaSettings { per_second: 5, per_hour: 60 };
        let start = Timestamp::from_millis(3_600_000 * 10);
        for (instances, calls) in [(1, 60), (2, 60), (7, 56)] {
            assert_eq!(made(&mut shared(settings, instances, start), start, 600, |_| None), calls);
        }
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
