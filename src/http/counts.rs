//! What every request counts: the requests being handled, how long they took, and how polls were answered.
//!
//! Each worker counts on cache lines of its own, which no other thread writes, and a scrape adds them up: one counter
//! for all would move from core to core with every poll.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::http::StatusCode;
use actors::base::histogram::{Bounds, Distribution, Histogram};

use crate::metrics::{PollCounts, PollEnd, RequestTimes, Route, StatusClass};

/// The route of a path, below that of `BASE_URL` or at the root. Every poll asks it: it compares and does nothing else.
pub fn route_of(path: &str, base_path: &str) -> Route {
    let path = path.strip_prefix(base_path).unwrap_or(path);
    match path {
        "/device/token" => Route::Token,
        _ => Route::ALL
            .into_iter()
            .find(|route| {
                let below = path.strip_prefix(route.value());
                let has_below = matches!(route, Route::Data | Route::Redirect);
                below.is_some_and(|rest| rest.is_empty() || (has_below && rest.starts_with('/')))
            })
            .unwrap_or(Route::Other),
    }
}

/// The counts of one worker. Aligned so that no two share a cache line, nor a pair that is fetched together.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerCounts {
    in_flight: AtomicUsize,
    polls: [AtomicU64; PollEnd::ALL.len()],
    requests: [[Histogram; StatusClass::ALL.len()]; Route::ALL.len()],
}

impl WorkerCounts {
    /// Counts a request until the guard is dropped.
    pub fn request(self: &Arc<Self>) -> InFlight {
        // Draining looks for requests that began before it: it must not overlook one.
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        InFlight(Arc::clone(self))
    }

    /// Counts how long it took to answer a request.
    pub fn answered(&self, route: Route, status: StatusCode, length: Duration) {
        let class = match status.as_u16() {
            ..300 => StatusClass::Success,
            300..400 => StatusClass::Redirection,
            400..500 => StatusClass::ClientError,
            500.. => StatusClass::ServerError,
        };
        self.requests[route as usize][class as usize].observe(&Bounds::OF_MACHINES, length);
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

    /// How long requests took since the start.
    pub fn requests(&self) -> RequestTimes {
        let mut sum = [[Distribution::default(); StatusClass::ALL.len()]; Route::ALL.len()];
        self.workers(|workers| {
            for counts in workers {
                for (sum, times) in sum.iter_mut().flatten().zip(counts.requests.iter().flatten()) {
                    *sum += times.read();
                }
            }
        });
        sum
    }

    fn workers<R>(&self, with: impl FnOnce(&mut Vec<Arc<WorkerCounts>>) -> R) -> R {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_route() {
        let routes = [
            ("/device/token", "", Route::Token),
            ("/linky/device/token", "/linky", Route::Token),
            ("/device", "/linky", Route::Device),
            ("/data/proxy/a/v5/b", "", Route::Data),
            ("/auth/redirect", "", Route::Redirect),
            ("/auth/redirect/else", "", Route::Redirect),
            ("/status.json", "", Route::StatusJson),
            ("/device/else", "", Route::Other),
            ("/", "", Route::Other),
        ];
        for (path, base, route) in routes {
            assert_eq!(route_of(path, base), route, "{path}");
        }
    }

    #[test]
    fn workers_are_added_up() {
        let counts = Counts::default();
        let (one, two) = (counts.worker(), counts.worker());
        let requests = (one.request(), two.request());
        one.poll(PollEnd::Pending);
        two.poll(PollEnd::Pending);
        two.poll(PollEnd::Unavailable);
        assert_eq!(counts.in_flight(), 2);
        one.answered(Route::Token, StatusCode::BAD_REQUEST, Duration::from_millis(3));
        two.answered(Route::Token, StatusCode::NOT_FOUND, Duration::from_millis(4));
        let times = counts.requests()[Route::Token as usize][StatusClass::ClientError as usize];
        assert_eq!((times.count(), times.sum_micros), (2, 7_000));
        drop(requests);
        assert_eq!(counts.in_flight(), 0);
        let counted: Vec<_> = counts.polls().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(PollEnd::Pending, 2), (PollEnd::Unavailable, 1)]);
    }
}
