//! **`PollInterval`**: the interval that devices are told, which grows with the load and shrinks after it.
//!
//! A poll that is refused costs as much as one that is answered, so that polls cannot be shed; they can be asked for less
//! often. The load is the part of its time for which the busiest thread that serves was at work. Where that stays high the
//! interval is doubled, and doubled again; where it stays low, halved. Between the two marks nothing changes: what is
//! doubled at the one halves the load to well above the other.
//!
//! Nobody is refused for it: polls are judged by the interval of the settings (`throttler/interval.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::device_flow::session::Lifetimes;

/// How often the load is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The part of its time, above which a thread is busy.
const BUSY: f64 = 0.8;
/// Looks in a row at a busy thread after which the interval is doubled.
const BUSY_LOOKS: u32 = 5;
/// The part of its time, below which a thread has time.
const CALM: f64 = 0.3;
/// Looks in a row at threads that have time after which the interval is halved: longer than a long interval, so that what
/// the last step did is seen before the next.
const CALM_LOOKS: u32 = 60;
/// Doublings at most.
const DOUBLINGS_MAX: u32 = 2;
/// Load makes the interval no longer than this: below the minute for which a pace is remembered, and in which a device has
/// to poll first if it is to keep its code when there is no room.
const LONGEST: Duration = Duration::from_secs(30);
/// Polls that a device has at least, in the life of its code.
const POLLS_MIN: u32 = 10;

/// What the looks at the load have come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    doublings: u32,
    busy: u32,
    calm: u32,
}

impl Load {
    /// A look at the load: the busiest thread was at work for this part of the time since the last.
    #[must_use]
    pub fn look(self, part: f64) -> Self {
        let Self { doublings, busy, calm } = self;
        let busy = if part >= BUSY { busy + 1 } else { 0 };
        let calm = if part <= CALM { calm + 1 } else { 0 };
        if busy >= BUSY_LOOKS && doublings < DOUBLINGS_MAX {
            Self { doublings: doublings + 1, ..Self::default() }
        } else if calm >= CALM_LOOKS && doublings > 0 {
            Self { doublings: doublings - 1, ..Self::default() }
        } else {
            Self { doublings, busy, calm }
        }
    }
}

/// The interval, for all threads. Cheap to read.
#[derive(Debug)]
pub struct PollInterval {
    base: Duration,
    longest: Duration,
    doublings: AtomicU32,
}

impl PollInterval {
    /// The interval of the settings, in whole seconds, for sessions of these lives.
    pub fn new(base: Duration, life: &Lifetimes) -> Arc<Self> {
        let longest = Duration::from_secs((life.code / POLLS_MIN).min(LONGEST).as_secs()).max(base);
        Arc::new(Self { base, longest, doublings: AtomicU32::new(0) })
    }

    /// The interval of the settings.
    pub fn base(&self) -> Duration {
        self.base
    }

    /// What devices are told now: the interval of the settings or longer, in whole seconds.
    pub fn told(&self) -> Duration {
        (self.base * 2_u32.pow(self.doublings.load(Ordering::Relaxed))).min(self.longest)
    }

    /// From now on devices are told what goes with this load.
    pub fn follow(&self, load: Load) {
        if self.doublings.swap(load.doublings, Ordering::Relaxed) != load.doublings {
            tracing::info!(
                interval_secs = self.told().as_secs(),
                "devices are told another interval, by the load"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(mut load: Load, part: f64, count: u32) -> Load {
        for _ in 0..count {
            load = load.look(part);
        }
        load
    }

    #[test]
    fn load_that_stays_moves_the_interval_and_a_moment_does_not() {
        let interval = PollInterval::new(Duration::from_secs(5), &Lifetimes::default());
        let mut load = Load::default();
        let mut after = |part, count| {
            load = looks(load, part, count);
            interval.follow(load);
            interval.told().as_secs()
        };
        // In turn: how busy, for how many looks, and what devices are told then.
        for (part, count, secs) in [
            (1.0, 4, 5),
            (0.79, 1, 5),
            (1.0, 4, 5),
            (1.0, 1, 10),
            // As much work, at half the rate.
            (0.5, 1_000, 10),
            (1.0, 5, 20),
            (1.0, 1_000, 20),
            (0.3, 59, 20),
            (0.31, 1, 20),
            (0.0, 59, 20),
            (0.0, 1, 10),
            (0.0, 59, 10),
            (0.0, 1, 5),
            (0.0, 1_000, 5),
        ] {
            assert_eq!(after(part, count), secs, "{count} looks at {part}");
        }
    }

    #[test]
    fn the_interval_has_bounds() {
        // Of the settings, life of a code, and the longest.
        for (base, code, longest) in
            [(1, 300, 4), (5, 300, 20), (9, 300, 30), (60, 300, 60), (5, 60, 6), (5, 30, 5)]
        {
            let life = Lifetimes { code: Duration::from_secs(code), ..Lifetimes::default() };
            let interval = PollInterval::new(Duration::from_secs(base), &life);
            interval.follow(looks(Load::default(), 1.0, 1_000));
            assert_eq!(interval.told().as_secs(), longest, "{base} {code}");
        }
    }
}
