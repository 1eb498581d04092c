//! Owns the time of a box: its local time, in milliseconds, and a clock that runs faster than the wall's.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::calendar::Day;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// A moment of local time. There is no summer time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(i64);

impl Moment {
    /// `hour` and `minute` of `day`.
    pub fn at(day: Day, hour: i64, minute: i64) -> Self {
        Self(day.since_epoch() * DAY_MS + hour * HOUR_MS + minute * 60_000)
    }

    /// Its day.
    pub fn day(self) -> Day {
        Day::from_epoch(self.0.div_euclid(DAY_MS))
    }

    /// Its hour, 0 to 23.
    pub fn hour(self) -> i64 {
        self.0.rem_euclid(DAY_MS) / HOUR_MS
    }

    /// This moment and `wait` more.
    #[must_use]
    pub fn plus(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(millis(wait)))
    }

    /// This moment and `seconds` more, or less if negative.
    #[must_use]
    pub fn plus_secs(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000)))
    }

    /// Time from `earlier` to this moment; nothing if it is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }
}

/// The clock of a fleet: it starts at a moment, runs at a multiple of the wall's speed, and can be put forward.
/// Clones are the same clock.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Moment,
    started: Instant,
    speed: f64,
    skipped: Arc<AtomicI64>,
}

impl Clock {
    /// A clock that shows `origin` now; `speed` 60 lets an hour pass in a minute.
    pub fn new(origin: Moment, speed: f64) -> Self {
        Self { origin, started: Instant::now(), speed, skipped: Arc::default() }
    }

    /// What it shows.
    pub fn now(&self) -> Moment {
        let passed = millis(self.started.elapsed().mul_f64(self.speed));
        Moment(self.origin.0 + passed + self.skipped.load(Ordering::Relaxed))
    }

    /// Puts it forward to `moment`, unless that has passed.
    pub fn skip_to(&self, moment: Moment) {
        let ahead = moment.0 - self.now().0;
        self.skipped.fetch_add(ahead.max(0), Ordering::Relaxed);
    }

    /// Puts it forward by `ahead`.
    pub fn skip(&self, ahead: Duration) {
        self.skipped.fetch_add(millis(ahead), Ordering::Relaxed);
    }

    /// How long `duration` of this clock takes on the wall.
    pub fn on_the_wall(&self, duration: Duration) -> Duration {
        duration.div_f64(self.speed).max(Duration::from_millis(1))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}
