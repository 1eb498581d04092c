//! Time as the stores and the pure cores see it.
//!
//! A [`Clock`] tells two times, both as a [`Timestamp`]. Its [`now`](Clock::now) never jumps: pauses, quotas, deadlines
//! and the life of pending sessions go by it, so that a step of the machine's wall clock freezes no breaker and ends no
//! session. Its [`wall`](Clock::wall) is the calendar's: tokens, remembered values and days go by it, because they outlive
//! the process. [`machine`] has the clock of a server, and what it makes of a wall clock that jumps.

pub mod machine;

use std::ops::{Add, Sub};
use std::sync::Arc;
#[cfg(feature = "testing")]
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch. Arithmetic saturates; it never panics.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    derive_more::Display,
)]
#[display("{}.{:03}", _0 / 1000, _0 % 1000)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The earliest representable instant.
    pub const EPOCH: Self = Self(0);

    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// The clock hour (UTC), in hours since the Unix epoch.
    pub const fn hour(self) -> u64 {
        self.0 / 3_600_000
    }

    /// The beginning of the next clock hour.
    #[must_use]
    pub const fn next_hour(self) -> Self {
        Self((self.hour() + 1) * 3_600_000)
    }

    /// Time elapsed since `earlier`, zero if `earlier` lies in the future.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// How far this is ahead of `other`, in milliseconds; below zero if it is behind.
    pub const fn ahead_of(self, other: Self) -> i64 {
        self.0.cast_signed().saturating_sub(other.0.cast_signed())
    }

    /// Moved by so many milliseconds, either way.
    #[must_use]
    pub const fn moved(self, ms: i64) -> Self {
        Self(self.0.saturating_add_signed(ms))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        let ms = u64::try_from(rhs.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(ms))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, rhs: Duration) -> Self {
        let ms = u64::try_from(rhs.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(ms))
    }
}

/// How long what has ended is kept before it may be deleted: no error of a clock that goes unnoticed is as large.
const KEPT_AFTER_END: Duration = Duration::from_secs(30 * 86_400);

/// Source of time. Cheap to call: a poll reads it once.
pub trait Clock: Send + Sync + 'static {
    /// The time of this process. It does not jump, whatever becomes of the wall clock.
    fn now(&self) -> Timestamp;

    /// The wall clock, as it is: for what outlives the process, and for the calendar.
    fn wall(&self) -> Timestamp {
        self.now()
    }

    /// Whether the wall clock has been right for so long that what it calls ended has ended. Else nothing that outlives the
    /// process is deleted or called ended for good.
    fn is_reliable(&self) -> bool {
        true
    }

    /// What ended before this may be deleted for good; `None`: nothing, for now. The one place that decides it.
    fn forgotten_before(&self) -> Option<Timestamp> {
        self.is_reliable().then(|| self.wall() - KEPT_AFTER_END)
    }
}

/// A clock shared by the actors.
pub type SharedClock = Arc<dyn Clock>;

/// A clock that moves only when a test says so.
#[cfg(feature = "testing")]
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicU64,
    wall_ahead: AtomicI64,
    in_doubt: AtomicBool,
}

#[cfg(feature = "testing")]
impl ManualClock {
    /// A clock that stands at `start`.
    pub fn new(start: Timestamp) -> Self {
        Self {
            now: AtomicU64::new(start.as_millis()),
            wall_ahead: AtomicI64::new(0),
            in_doubt: AtomicBool::new(false),
        }
    }

    /// Moves the clock forward by `by`.
    pub fn advance(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.now.fetch_add(ms, Ordering::SeqCst);
    }

    /// The wall clock jumps by so many milliseconds, and cannot be relied on from then on.
    pub fn jump(&self, ms: i64) {
        self.wall_ahead.fetch_add(ms, Ordering::SeqCst);
        self.in_doubt.store(true, Ordering::SeqCst);
    }

    /// The wall clock has kept pace for long enough.
    pub fn settle(&self) {
        self.in_doubt.store(false, Ordering::SeqCst);
    }
}

#[cfg(feature = "testing")]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Timestamp {
        self.now().moved(self.wall_ahead.load(Ordering::SeqCst))
    }

    fn is_reliable(&self) -> bool {
        !self.in_doubt.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let late = Timestamp::from_millis(u64::MAX);
        assert_eq!(late + Duration::from_secs(1), late);
        assert_eq!(Timestamp::EPOCH.since(late), Duration::ZERO);
        assert_eq!(Timestamp::EPOCH - Duration::from_secs(1), Timestamp::EPOCH);
        assert_eq!(Timestamp::EPOCH.moved(-5), Timestamp::EPOCH);
        assert_eq!(Timestamp::from_millis(3).ahead_of(Timestamp::from_millis(5)), -2);
        assert_eq!((Timestamp::from_millis(1_500) + Duration::from_millis(500)).as_secs(), 2);
    }
}
