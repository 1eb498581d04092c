//! What the relay counts, for the metrics.

use jiff::civil::Date;

use crate::base::clock::Timestamp;
use crate::limits::allowance::AllowanceSnapshot;

/// Days of which it is kept when their values came.
const ARRIVALS: usize = 7;

/// Counters of one of Enedis' data APIs since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApiSnapshot {
    /// Calls sent.
    pub calls: u64,
    /// Of them, those that its gateway did not deal with.
    pub failed: u64,
    /// Its quota and its circuit breaker.
    pub allowance: AllowanceSnapshot,
}

/// Counters of the relay since its start.
#[derive(Clone, Copy, Debug, Default)]
pub struct RelaySnapshot {
    /// Resources of meters that boxes ask for.
    pub active: usize,
    /// Of them, those that lack the day that is wanted.
    pub lacking: usize,
    /// Questions that the server asked by itself.
    pub prefetches: u64,
    /// Days of active meters: given out of memory, for a call, and refused for want of quota first.
    pub days: [u64; 3],
    /// Requests that wait for calls.
    pub waiting: usize,
    /// Calls that wait for their turn.
    pub queued: usize,
    /// Calls under way.
    pub in_flight: usize,
    /// Requests that took no call.
    pub from_memory: u64,
    /// Calls shared with an earlier request.
    pub shared: u64,
    /// Values in memory.
    pub remembered: usize,
    /// Bytes they take.
    pub memory_bytes: usize,
    /// Writes to the store that it has not answered.
    pub writing: usize,
    /// The newest days of which values came, and when (wall time) they first did; the newest first.
    pub arrivals: [Option<(Date, Timestamp)>; ARRIVALS],
    /// Of each [`Api`](crate::metering::api_choice::Api), in the order of its number.
    pub apis: [ApiSnapshot; 2],
}

impl RelaySnapshot {
    /// Values of `day` came at `at`. Of a day that is older than the newest nothing is noted: it did not come of late.
    pub(super) fn came(&mut self, day: Date, at: Timestamp) {
        if self.arrivals[0].is_none_or(|(newest, _)| newest < day) {
            self.arrivals.rotate_right(1);
            self.arrivals[0] = Some((day, at));
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn only_newer_days_arrive() {
        let mut seen = RelaySnapshot::default();
        let at = Timestamp::from_millis;
        for (day, ms) in [(3, 1), (1, 2), (3, 3), (4, 4)] {
            seen.came(date(2026, 11, day), at(ms));
        }
        let wanted = [Some((date(2026, 11, 4), at(4))), Some((date(2026, 11, 3), at(1))), None];
        assert_eq!(seen.arrivals[..3], wanted);
        (5..30).for_each(|day| seen.came(date(2026, 11, day), at(9)));
        assert_eq!(seen.arrivals[6], Some((date(2026, 11, 23), at(9))));
    }
}
