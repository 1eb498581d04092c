//! A token bucket: pure, overflow-safe, monotone even when the wall clock is not.

use std::time::Duration;

use crate::base::clock::Timestamp;

/// Parts of a token the level is kept in, so that slow refills do not round to nothing.
const SCALE: u64 = 1_000_000;

/// How many tokens a bucket holds and how fast they come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Most tokens at a time, at least 1.
    pub burst: u32,
    /// Tokens that come back in each `per`.
    pub refill: u32,
    /// See `refill`; longer than zero.
    pub per: Duration,
}

/// The level of one bucket. Twenty-four bytes with its instant; the rate is passed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    level: u64,
    at: Timestamp,
}

impl TokenBucket {
    /// A full bucket.
    pub fn full(rate: Rate, now: Timestamp) -> Self {
        Self { level: u64::from(rate.burst) * SCALE, at: now }
    }

    /// Takes one token, or says how long to wait for it.
    pub fn take(&mut self, rate: Rate, now: Timestamp) -> Result<(), Duration> {
        self.refill(rate, now);
        match self.level.checked_sub(SCALE) {
            Some(rest) => {
                self.level = rest;
                Ok(())
            }
            None => Err(self.wait(rate)),
        }
    }

    /// Gives back a token that was taken.
    pub fn give_back(&mut self, rate: Rate) {
        self.level = self.level.saturating_add(SCALE).min(u64::from(rate.burst) * SCALE);
    }

    /// Whether the bucket is full: then nothing is lost by forgetting it.
    pub fn is_full(&mut self, rate: Rate, now: Timestamp) -> bool {
        self.refill(rate, now);
        self.level == u64::from(rate.burst) * SCALE
    }

    /// Whether at least half of the bucket is left: then little is lost by forgetting it.
    pub fn is_half_full(&mut self, rate: Rate, now: Timestamp) -> bool {
        self.refill(rate, now);
        self.level.saturating_mul(2) >= u64::from(rate.burst) * SCALE
    }

    fn refill(&mut self, rate: Rate, now: Timestamp) {
        let elapsed = now.since(self.at).as_millis();
        let per = rate.per.as_millis().max(1);
        let gained = elapsed.saturating_mul(u128::from(rate.refill) * u128::from(SCALE)) / per;
        let gained = u64::try_from(gained).unwrap_or(u64::MAX);
        if gained > 0 || now < self.at {
            self.level = self.level.saturating_add(gained).min(u64::from(rate.burst) * SCALE);
            self.at = now;
        }
    }

    fn wait(&self, rate: Rate) -> Duration {
        let missing = u128::from(SCALE.saturating_sub(self.level));
        let ms = missing * rate.per.as_millis() / (u128::from(rate.refill.max(1)) * u128::from(SCALE)) + 1;
        Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bucket_empties_and_refills() {
        let rate = Rate { burst: 5, refill: 5, per: Duration::from_secs(1) };
        let start = Timestamp::from_millis(10_000);
        let mut bucket = TokenBucket::full(rate, start);
        for _ in 0..5 {
            bucket.take(rate, start).unwrap();
        }
        let wait = bucket.take(rate, start).unwrap_err();
        assert!(wait <= Duration::from_millis(201), "{wait:?}");
        bucket.take(rate, start + wait).unwrap();
        assert!(!bucket.is_full(rate, start + wait));
        assert!(!bucket.is_half_full(rate, start + Duration::from_millis(400)));
        assert!(bucket.is_half_full(rate, start + Duration::from_secs(1)));
        assert!(bucket.is_full(rate, start + Duration::from_secs(2)));
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate(steps in proptest::collection::vec(0_u64..500, 1..400)) {
            let rate = Rate { burst: 5, refill: 5, per: Duration::from_secs(1) };
            let start = Timestamp::from_millis(50_000);
            let mut bucket = TokenBucket::full(rate, start);
            let (mut now, mut taken) = (start, 0_u64);
            for step in steps {
                now = now + Duration::from_millis(step);
                taken += u64::from(bucket.take(rate, now).is_ok());
                let bound = 5 + u64::try_from(now.since(start).as_millis()).unwrap() * 5 / 1000;
                prop_assert!(taken <= bound);
            }
        }
    }
}
