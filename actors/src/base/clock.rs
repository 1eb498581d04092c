//! Wall time as the stores and the pure cores see it.
//!
//! Whatever is persisted (expiry, leases, redelivery windows) is a [`Timestamp`] taken from an injected
//! [`Clock`], because an `Instant` means nothing after a restart. Waits inside the process use tokio's timers.

use std::ops::Add;
use std::sync::Arc;
#[cfg(feature = "testing")]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        let ms = u64::try_from(rhs.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(ms))
    }
}

/// Source of wall time. Cheap to call: a poll reads it once.
pub trait Clock: Send + Sync + 'static {
    /// The current wall time.
    fn now(&self) -> Timestamp;
}

/// A clock shared by the actors.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's wall clock, put forward for rehearsals of another day.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShiftedClock(pub Duration);

impl Clock for ShiftedClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        // A machine set before 1970 reads as the epoch: codes then never expire, which beats a panic.
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::EPOCH + elapsed + self.0
    }
}

/// A clock that moves only when a test says so.
#[cfg(feature = "testing")]
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

#[cfg(feature = "testing")]
impl ManualClock {
    /// A clock that stands at `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(AtomicU64::new(start.as_millis()))
    }

    /// Moves the clock forward by `by`.
    pub fn advance(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

#[cfg(feature = "testing")]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
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
        assert_eq!((Timestamp::from_millis(1_500) + Duration::from_millis(500)).as_secs(), 2);
    }
}
