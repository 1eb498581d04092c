//! What the relay counts, for the metrics.

use crate::limits::allowance::AllowanceSnapshot;

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
    /// Of each [`Api`](crate::metering::api_choice::Api), in the order of its number.
    pub apis: [ApiSnapshot; 2],
}
