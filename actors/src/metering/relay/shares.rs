//! What one meter may take of an hour's quota: a box in a loop, or the history of many years, must not use up what all
//! others need. And what all those may take together that Enedis refuses: with the v1 page anybody can name meters that
//! never consented, and each costs a call to find out.

use std::collections::HashMap;
use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::base::meter::Meter;

/// The share of an hour's quota that one meter may take: one in so many calls.
const SHARE: u32 = 4;
/// Where the quota is small: the calls of two years of load curve and a little.
const AT_LEAST: u32 = 120;

/// The calls of each meter in the current clock hour. No more meters than calls.
#[derive(Debug)]
pub(super) struct Shares {
    most: u32,
    most_refused: u32,
    hour: u64,
    calls: HashMap<Meter, u32>,
    refused: u32,
}

impl Shares {
    pub fn new(per_hour: u32) -> Self {
        Self {
            most: (per_hour / SHARE).max(AT_LEAST),
            most_refused: (per_hour / SHARE).max(1),
            hour: 0,
            calls: HashMap::new(),
            refused: 0,
        }
    }

    /// Enedis refused a call about a meter for which it answers nothing.
    pub fn refused(&mut self, now: Timestamp) {
        self.turn(now);
        self.refused += 1;
    }

    /// How long meters that Enedis has never answered for have to wait, because too many of them were refused.
    pub fn strangers_wait(&mut self, now: Timestamp) -> Option<Duration> {
        self.turn(now);
        (self.refused >= self.most_refused).then(|| now.next_hour().since(now))
    }

    /// A call for `meter` goes out.
    pub fn count(&mut self, meter: Meter, now: Timestamp) {
        self.turn(now);
        *self.calls.entry(meter).or_default() += 1;
    }

    /// How long `meter` has to wait because it has had its share.
    pub fn wait(&mut self, meter: Meter, now: Timestamp) -> Option<Duration> {
        self.turn(now);
        let spent = self.calls.get(&meter).is_some_and(|calls| *calls >= self.most);
        spent.then(|| now.next_hour().since(now))
    }

    fn turn(&mut self, now: Timestamp) {
        if now.hour() != self.hour {
            self.hour = now.hour();
            self.calls.clear();
            self.refused = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::meter;

    #[test]
    fn one_meter_and_what_is_refused_have_a_share_of_each_hour() {
        let now = Timestamp::from_millis(3_600_000 * 7 + 600_000);
        let left = Duration::from_secs(3_000);
        let mut shares = Shares::new(1_000);
        for _ in 0..250 {
            assert_eq!((shares.wait(meter(1), now), shares.strangers_wait(now)), (None, None));
            shares.count(meter(1), now);
            shares.refused(now);
        }
        assert_eq!((shares.wait(meter(1), now), shares.strangers_wait(now)), (Some(left), Some(left)));
        assert_eq!(shares.wait(meter(2), now), None);
        assert_eq!((shares.wait(meter(1), now + left), shares.strangers_wait(now + left)), (None, None));
        assert_eq!(Shares::new(10).most, 120, "a history of two years passes");
    }
}
