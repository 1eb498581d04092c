//! How long things took, counted by length, for the metrics.
//!
//! A [`Distribution`] is a value that one owner changes; a [`Histogram`] is the same for many threads. Both know only which
//! bucket a length falls into: the bounds are told by whoever owns them.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets of every histogram, the unbounded one included.
pub const BUCKETS: usize = 16;

/// The upper bounds of all buckets but the last, in microseconds, ascending. A length that equals a bound is within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds(pub [u64; BUCKETS - 1]);

impl Bounds {
    /// What machines do: from 0.1 ms to 25 s.
    pub const OF_MACHINES: Self = Self([
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
        5_000_000, 25_000_000,
    ]);
    /// What people do: from a quarter of a minute to an hour.
    pub const OF_PEOPLE: Self =
        Self(seconds([15, 30, 45, 60, 90, 120, 180, 240, 300, 450, 600, 900, 1_200, 1_800, 3_600]));

    /// In seconds, and the unbounded one.
    pub fn seconds(&self) -> impl Iterator<Item = f64> {
        self.0.into_iter().map(|micros| Duration::from_micros(micros).as_secs_f64()).chain([f64::INFINITY])
    }

    fn bucket(&self, micros: u64) -> usize {
        self.0.iter().position(|bound| micros <= *bound).unwrap_or(BUCKETS - 1)
    }
}

const fn seconds(mut bounds: [u64; BUCKETS - 1]) -> [u64; BUCKETS - 1] {
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] *= 1_000_000;
        at += 1;
    }
    bounds
}

/// How many lengths fell into each bucket, and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// Of each bucket alone.
    pub counts: [u64; BUCKETS],
    /// Microseconds in all.
    pub sum_micros: u64,
}

impl Distribution {
    /// Counts one length.
    pub fn observe(&mut self, bounds: &Bounds, length: Duration) {
        let micros = micros(length);
        self.counts[bounds.bucket(micros)] += 1;
        self.sum_micros += micros;
    }

    /// How many lengths there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl AddAssign for Distribution {
    fn add_assign(&mut self, other: Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum_micros += other.sum_micros;
    }
}

/// A distribution that any thread adds to: two atomic steps for each length.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Counts one length.
    pub fn observe(&self, bounds: &Bounds, length: Duration) {
        let micros = micros(length);
        self.counts[bounds.bucket(micros)].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn read(&self) -> Distribution {
        Distribution {
            counts: std::array::from_fn(|at| self.counts[at].load(Ordering::Relaxed)),
            sum_micros: self.sum_micros.load(Ordering::Relaxed),
        }
    }
}

fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_counted_once_where_it_belongs() {
        let (histogram, mut value) = (Histogram::default(), Distribution::default());
        for bounds in [Bounds::OF_MACHINES, Bounds::OF_PEOPLE] {
            assert!(bounds.0.is_sorted());
            assert_eq!(bounds.seconds().count(), BUCKETS);
        }
        for micros in [0, 100, 101, 25_000_000, 25_000_001] {
            histogram.observe(&Bounds::OF_MACHINES, Duration::from_micros(micros));
            value.observe(&Bounds::OF_MACHINES, Duration::from_micros(micros));
        }
        assert_eq!(histogram.read(), value);
        assert_eq!((value.counts[0], value.counts[1], value.counts[14], value.counts[15]), (2, 1, 1, 1));
        assert_eq!((value.count(), value.sum_micros), (5, 50_000_202));
        value += value;
        assert_eq!(value.count(), 10);
    }
}
