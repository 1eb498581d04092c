//! What the relay counts, for the metrics.

use super::MeterRelay;
use crate::metering::api_choice::Api;

/// Counters of one of Enedis' data APIs since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApiSnapshot {
    /// Calls sent.
    pub calls: u64,
    /// Of them, those that its gateway did not deal with.
    pub failed: u64,
    /// Calls in the current clock hour.
    pub used_this_hour: u32,
    /// Whether the circuit breaker holds calls back.
    pub breaker_open: bool,
}

/// Counters of the relay since its start.
#[derive(Clone, Copy, Debug, Default)]
pub struct RelaySnapshot {
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
    /// The API of 2026.
    pub new: ApiSnapshot,
    /// The v5 API.
    pub legacy: ApiSnapshot,
}

impl MeterRelay {
    pub(super) fn snapshot(&self) -> RelaySnapshot {
        let now = self.clock.now();
        let api = |api: Api, so_far: ApiSnapshot| {
            let allowance = &self.allowances[api as usize];
            ApiSnapshot {
                used_this_hour: allowance.used_this_hour(),
                breaker_open: allowance.is_open(now),
                ..so_far
            }
        };
        RelaySnapshot {
            waiting: self.asked.len(),
            queued: self.queue.waiting(),
            in_flight: self.queue.running(),
            remembered: self.memory.entries(),
            memory_bytes: self.memory.bytes(),
            writing: self.memory.writing(),
            new: api(Api::New, self.stats.new),
            legacy: api(Api::Legacy, self.stats.legacy),
            ..self.stats
        }
    }
}
