//! What every request counts: the requests being handled, and how polls were answered.
//!
//! Each worker counts on cache lines of its own, which no other thread writes, and a scrape adds them up: one counter
//! for all would move from core to core with every poll.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::metrics::{PollCounts, PollEnd};

/// The counts of one worker. Aligned so that no two share a cache line, nor a pair that is fetched together.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerCounts {
    in_flight: AtomicUsize,
    polls: [AtomicU64; PollEnd::ALL.len()],
}

impl WorkerCounts {
    /// Counts a request until the guard is dropped.
    pub fn request(self: &Arc<Self>) -> InFlight {
        // Draining looks for requests that began before it: it must not overlook one.
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        InFlight(Arc::clone(self))
    }

    /// Counts the answer to a poll.
    pub fn poll(&self, end: PollEnd) {
        self.polls[end as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// One request being handled.
#[derive(Debug)]
pub struct InFlight(Arc<WorkerCounts>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The counts of all workers.
#[derive(Debug, Default)]
pub struct Counts(Mutex<Vec<Arc<WorkerCounts>>>);

impl Counts {
    /// Counts for one worker more.
    pub fn worker(&self) -> Arc<WorkerCounts> {
        let counts = Arc::<WorkerCounts>::default();
        self.workers(|workers| workers.push(Arc::clone(&counts)));
        counts
    }

    /// Requests being handled.
    pub fn in_flight(&self) -> usize {
        self.workers(|workers| workers.iter().map(|counts| counts.in_flight.load(Ordering::SeqCst)).sum())
    }

    /// Polls since the start, by answer.
    pub fn polls(&self) -> PollCounts {
        self.workers(|workers| {
            PollEnd::ALL.map(|end| {
                let count = workers.iter().map(|counts| counts.polls[end as usize].load(Ordering::Relaxed));
                (end, count.sum())
            })
        })
    }

    fn workers<R>(&self, with: impl FnOnce(&mut Vec<Arc<WorkerCounts>>) -> R) -> R {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_added_up() {
        let counts = Counts::default();
        let (one, two) = (counts.worker(), counts.worker());
        let requests = (one.request(), two.request());
        one.poll(PollEnd::Pending);
        two.poll(PollEnd::Pending);
        two.poll(PollEnd::Unavailable);
        assert_eq!(counts.in_flight(), 2);
        drop(requests);
        assert_eq!(counts.in_flight(), 0);
        let counted: Vec<_> = counts.polls().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(PollEnd::Pending, 2), (PollEnd::Unavailable, 1)]);
    }
}
