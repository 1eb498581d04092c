//! Owns what is counted about a box, or about a fleet of them.

use std::collections::BTreeMap;

use super::message::Kind;

/// What became of the work of a box since it was switched on; sums are those of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Cycles that ended with everything fetched.
    pub served: u64,
    /// Cycles that ended with a failure: the box comes back in an hour, or in the morning.
    pub gave_up: u64,
    /// Of [`Outcomes::gave_up`]: after a request that was sent again three times.
    pub too_many_failures: u64,
    /// Of [`Outcomes::gave_up`]: the connection was closed while the owner's consent was awaited.
    pub lost_while_polling: u64,
    /// Times the box erased its tokens and stopped for good.
    pub disabled: u64,
    /// Times the plugin threw on an answer and did nothing until the next morning.
    pub stuck: u64,
    /// Requests that got no answer in four heartbeats.
    pub timeouts: u64,
    /// Requests sent again.
    pub resends: u64,
    /// Requests sent, those sent again included.
    pub requests: BTreeMap<Kind, u64>,
    /// Answers read, by status.
    pub statuses: BTreeMap<u16, u64>,
}

impl Outcomes {
    pub(super) fn sent(&mut self, kind: Kind) {
        *self.requests.entry(kind).or_default() += 1;
    }

    pub(super) fn saw(&mut self, status: u16) {
        *self.statuses.entry(status).or_default() += 1;
    }

    /// What came on top of `earlier`, a former state of the same box or fleet.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.with(earlier, u64::saturating_sub)
    }

    fn with(&self, other: &Self, of: fn(u64, u64) -> u64) -> Self {
        Self {
            served: of(self.served, other.served),
            gave_up: of(self.gave_up, other.gave_up),
            too_many_failures: of(self.too_many_failures, other.too_many_failures),
            lost_while_polling: of(self.lost_while_polling, other.lost_while_polling),
            disabled: of(self.disabled, other.disabled),
            stuck: of(self.stuck, other.stuck),
            timeouts: of(self.timeouts, other.timeouts),
            resends: of(self.resends, other.resends),
            requests: each(&self.requests, &other.requests, of),
            statuses: each(&self.statuses, &other.statuses, of),
        }
    }

    /// Requests of this kind, those sent again included.
    pub fn requests_of(&self, kind: Kind) -> u64 {
        self.requests.get(&kind).copied().unwrap_or(0)
    }
}

fn each<K: Ord + Copy>(
    one: &BTreeMap<K, u64>,
    other: &BTreeMap<K, u64>,
    of: fn(u64, u64) -> u64,
) -> BTreeMap<K, u64> {
    let count = |counts: &BTreeMap<K, u64>, key| counts.get(key).copied().unwrap_or(0);
    let keys = one.keys().chain(other.keys());
    keys.map(|key| (*key, of(count(one, key), count(other, key)))).filter(|(_, count)| *count > 0).collect()
}

impl<'a> std::iter::Sum<&'a Self> for Outcomes {
    fn sum<I: Iterator<Item = &'a Self>>(boxes: I) -> Self {
        boxes.fold(Self::default(), |sum, each| sum.with(each, u64::saturating_add))
    }
}
