//! What one of Enedis' data APIs takes at a moment: its quota, and the circuit breaker in front of it.

use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::limits::breaker::Breaker;
use crate::limits::quota::{Quota, QuotaSettings};
use crate::metering::queue::Budget;

/// How long trouble is taken for short. The plugin asks again three times, within some two minutes, if it is told 429;
/// told 503, it gives up for an hour.
const SHORT: Duration = Duration::from_secs(120);
/// Trouble after so long without any is another one.
const APART: Duration = Duration::from_secs(600);

#[derive(Clone, Debug)]
pub(super) struct Governor {
    quota: Quota,
    breaker: Breaker,
    /// When trouble began, and when it was last met.
    failing: Option<(Timestamp, Timestamp)>,
}

impl Governor {
    pub fn new(quota: QuotaSettings, now: Timestamp) -> Self {
        Self { quota: Quota::new(quota, now), breaker: Breaker::default(), failing: None }
    }

    /// A call goes out; it was [taken](Budget::take) before.
    pub fn begin(&mut self) {
        self.breaker.begin();
    }

    /// The API answered, whatever it said.
    pub fn answered(&mut self) {
        self.breaker.answered();
        self.failing = None;
    }

    /// It did not, or only to say that it cannot.
    pub fn failed(&mut self, now: Timestamp) {
        self.breaker.failed(now);
        self.trouble(now);
    }

    /// A call that was begun did not go out after all.
    pub fn withdrawn(&mut self) {
        self.breaker.withdrawn();
    }

    /// There is no token of the application, and may be one after `wait`: until then nothing can be sent, whatever the
    /// state of this API.
    pub fn no_token(&mut self, now: Timestamp, wait: Duration) {
        self.quota.close_until(now + wait);
        self.trouble(now);
    }

    fn trouble(&mut self, now: Timestamp) {
        let before = self.failing.filter(|(_, last)| now.since(*last) < APART);
        self.failing = Some((before.map_or(now, |(since, _)| since), now));
    }

    /// Whether it has been failing for so long that asking again soon is of no use.
    pub fn is_down_for_long(&self, now: Timestamp) -> bool {
        let now_failing = self.failing.filter(|(_, last)| now.since(*last) < APART);
        now_failing.is_some_and(|(since, _)| now.since(since) >= SHORT)
    }

    /// Enedis said: nothing before `until`.
    pub fn close_until(&mut self, until: Timestamp) {
        self.quota.close_until(until);
    }

    /// Takes over what a process before has used of a clock hour.
    pub fn resume(&mut self, (hour, used): (u64, u32)) {
        self.quota.resume(hour, used);
    }

    /// The clock hour and the calls made in it.
    pub const fn usage(&self) -> (u64, u32) {
        self.quota.usage()
    }

    pub fn is_open(&self, now: Timestamp) -> bool {
        self.breaker.is_open(now)
    }

    pub const fn used_this_hour(&self) -> u32 {
        self.quota.used_this_hour()
    }
}

impl Budget for Governor {
    fn take(&mut self, now: Timestamp) -> Result<(), Duration> {
        self.breaker.check(now)?;
        self.quota.take(now, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_of_another_day_is_not_this_one() {
        let at = |secs: u64| Timestamp::from_millis(1_000_000_000 + secs * 1_000);
        let mut governor = Governor::new(QuotaSettings { per_second: 5, per_hour: 1_000 }, at(0));
        governor.failed(at(0));
        assert!(!governor.is_down_for_long(at(60)));
        governor.failed(at(130));
        assert!(governor.is_down_for_long(at(130)));
        // Ten hours later, with nothing asked in between.
        governor.failed(at(36_000));
        assert!(!governor.is_down_for_long(at(36_000)));
        governor.failed(at(36_200));
        assert!(governor.is_down_for_long(at(36_200)));
        governor.answered();
        assert!(!governor.is_down_for_long(at(36_200)));
    }
}
