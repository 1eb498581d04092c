//! Owns what is counted about a box, or about a fleet of them.

use std::collections::BTreeMap;
use std::fmt;

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
        Self {
            served: self.served.saturating_sub(earlier.served),
            gave_up: self.gave_up.saturating_sub(earlier.gave_up),
            too_many_failures: self.too_many_failures.saturating_sub(earlier.too_many_failures),
            lost_while_polling: self.lost_while_polling.saturating_sub(earlier.lost_while_polling),
            disabled: self.disabled.saturating_sub(earlier.disabled),
            stuck: self.stuck.saturating_sub(earlier.stuck),
            timeouts: self.timeouts.saturating_sub(earlier.timeouts),
            resends: self.resends.saturating_sub(earlier.resends),
            requests: more(&self.requests, &earlier.requests),
            statuses: more(&self.statuses, &earlier.statuses),
        }
    }

    /// Requests of this kind, those sent again included.
    pub fn requests_of(&self, kind: Kind) -> u64 {
        self.requests.get(&kind).copied().unwrap_or(0)
    }
}

/// What each count of `now` has more than in `earlier`.
fn more<K: Ord + Copy>(now: &BTreeMap<K, u64>, earlier: &BTreeMap<K, u64>) -> BTreeMap<K, u64> {
    let before = |key| earlier.get(key).copied().unwrap_or(0);
    let more = now.iter().map(|(key, count)| (*key, count.saturating_sub(before(key))));
    more.filter(|(_, count)| *count > 0).collect()
}

impl<'a> std::iter::Sum<&'a Self> for Outcomes {
    fn sum<I: Iterator<Item = &'a Self>>(boxes: I) -> Self {
        boxes.fold(Self::default(), |mut sum, each| {
            sum.served += each.served;
            sum.gave_up += each.gave_up;
            sum.too_many_failures += each.too_many_failures;
            sum.lost_while_polling += each.lost_while_polling;
            sum.disabled += each.disabled;
            sum.stuck += each.stuck;
            sum.timeouts += each.timeouts;
            sum.resends += each.resends;
            for (kind, count) in &each.requests {
                *sum.requests.entry(*kind).or_default() += count;
            }
            for (status, count) in &each.statuses {
                *sum.statuses.entry(*status).or_default() += count;
            }
            sum
        })
    }
}

/// Two columns, one line per number.
impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = [
            ("cycles served", self.served),
            ("cycles given up for an hour", self.gave_up),
            ("boxes disabled", self.disabled),
            ("boxes stuck until morning", self.stuck),
            ("requests without an answer", self.timeouts),
            ("requests sent again", self.resends),
        ];
        for (what, count) in lines {
            writeln!(f, "{what:<28} {count:>8}")?;
        }
        for (kind, count) in &self.requests {
            writeln!(f, "requests: {:<18} {count:>8}", kind.name())?;
        }
        for (status, count) in &self.statuses {
            writeln!(f, "answers: {status:<19} {count:>8}")?;
        }
        Ok(())
    }
}
