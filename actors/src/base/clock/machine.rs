//! The clock of a server: the machine's monotonic clock, laid on its wall clock at the start.
//!
//! A jump of the wall clock is noticed by the monotonic one, and across a restart by what was [`Seen`] last. It changes
//! nothing but that the wall clock is not relied on until it has kept pace for two days. Where several
//! instances share a store, their sessions go by the store's own clock, which each follows.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Clock, Timestamp};

/// How long a wall clock has kept pace before it is relied on.
const RELIED_ON_AFTER: Duration = Duration::from_secs(2 * 86_400);
/// Less is no jump, in milliseconds.
const TOLERANCE_MS: i64 = 5_000;
/// A server that was away for so long was just that; if for longer, its clock may have jumped. In milliseconds.
const AWAY_MS: i64 = 86_400_000;
/// The store's clock is followed at once if it is so far ahead, in milliseconds: this machine was asleep. Else by no more
/// than [`STEP_MS`] each time, which no wait notices.
const ASLEEP_MS: i64 = 1_000;
const STEP_MS: i64 = 100;

/// What was seen of the clocks last, for the next look and for the next process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The wall clock.
    pub wall: Timestamp,
    /// The time of the process, by which pending sessions are dated.
    pub now: Timestamp,
    /// Since when the wall clock has kept pace.
    pub since: Timestamp,
}

/// What is noticed at a start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// How far the wall clock jumped since the process before, in milliseconds.
    pub jumped_ms: Option<i64>,
    /// By how much pending sessions are to be moved, in milliseconds, so that they keep the life they had left.
    pub move_sessions_ms: Option<i64>,
}

impl Seen {
    /// The first look of a process, after another has `seen` what it tells.
    fn begin(seen: Option<Self>, wall: Timestamp, now: Timestamp) -> (Self, Start) {
        let fresh = Self { wall, now, since: wall };
        let Some(seen) = seen else { return (fresh, Start::default()) };
        let (wall_ms, now_ms) = (wall.ahead_of(seen.wall), now.ahead_of(seen.now));
        // The two differ if the wall clock jumped under the process before: it was away for the shorter time.
        let away = [wall_ms, now_ms].into_iter().filter(|ms| (0..=AWAY_MS).contains(ms)).min().unwrap_or(0);
        let start = Start {
            jumped_ms: jump(wall_ms, AWAY_MS),
            move_sessions_ms: jump(now_ms.saturating_sub(away), 0),
        };
        let since = if start.jumped_ms.is_some() { wall } else { seen.since };
        (Self { since, ..fresh }, start)
    }

    /// Compares both clocks: how far the wall clock jumped since the last look, in milliseconds.
    fn look(&mut self, wall: Timestamp, now: Timestamp) -> Option<i64> {
        let jumped = jump(wall.ahead_of(self.wall).saturating_sub(now.ahead_of(self.now)), 0);
        let since = if jumped.is_some() { wall } else { self.since };
        *self = Self { wall, now, since };
        jumped
    }

    /// Whether what the wall clock says has ended has ended.
    fn is_reliable(mut self, wall: Timestamp, now: Timestamp) -> bool {
        self.look(wall, now).is_none() && wall.since(self.since) >= RELIED_ON_AFTER
    }
}

/// A difference that is a jump: back, or forward by more than `away_ms`, for which a process may have been away.
const fn jump(ms: i64, away_ms: i64) -> Option<i64> {
    if -TOLERANCE_MS <= ms && ms <= TOLERANCE_MS + away_ms { None } else { Some(ms) }
}

/// By how much to follow a clock that is so far ahead.
fn step(ahead_ms: i64) -> i64 {
    if ahead_ms >= ASLEEP_MS { ahead_ms } else { ahead_ms.clamp(-STEP_MS, STEP_MS) }
}

/// What the clock says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockSnapshot {
    /// Jumps of the wall clock that were noticed.
    pub jumps: u64,
    /// Whether the wall clock is relied on.
    pub is_reliable: bool,
    /// How far the wall clock is ahead of the store's, in milliseconds; `None` if the store has none.
    pub skew_ms: Option<i64>,
}

/// The clock of a server.
#[derive(Debug)]
pub struct MachineClock {
    /// How far the wall clock is put forward, for rehearsals of another day.
    offset: Duration,
    began: (Timestamp, Instant),
    /// What following the store's clock adds to the time of the process, in milliseconds.
    followed_ms: AtomicI64,
    /// With how far the wall clock was ahead of the store's.
    seen: Mutex<(Seen, Option<i64>)>,
    jumps: AtomicU64,
}

impl MachineClock {
    /// A clock whose wall clock is `offset` ahead of the machine's, and not relied on.
    pub fn new(offset: Duration) -> Self {
        let wall = wall(offset);
        let (seen, _) = Seen::begin(None, wall, wall);
        Self {
            offset,
            began: (wall, Instant::now()),
            followed_ms: AtomicI64::new(0),
            seen: Mutex::new((seen, None)),
            jumps: AtomicU64::new(0),
        }
    }

    /// Begins where a process before left off, at the time of the store's own clock, if it has one.
    pub fn begin(&self, before: Option<Seen>, store: Option<Timestamp>) -> Start {
        if let Some(store) = store {
            self.followed_ms.fetch_add(store.ahead_of(self.now()), Ordering::Relaxed);
        }
        let wall = self.wall();
        let (seen, start) = Seen::begin(before, wall, self.now());
        *self.seen() = (seen, store.map(|store| wall.ahead_of(store)));
        self.jumps.fetch_add(start.jumped_ms.is_some().into(), Ordering::Relaxed);
        start
    }

    /// Compares the wall clock with the monotonic one, and follows the store's, if it has told its time. To be called every
    /// few seconds. How far the wall clock jumped since the last time, in milliseconds.
    pub fn look(&self, store: Option<Timestamp>) -> Option<i64> {
        let (wall, now) = (self.wall(), self.now());
        let mut guard = self.seen();
        let (seen, skew_ms) = &mut *guard;
        let jumped = seen.look(wall, now);
        self.jumps.fetch_add(jumped.is_some().into(), Ordering::Relaxed);
        if let Some(store) = store {
            *skew_ms = Some(wall.ahead_of(store));
            let step = step(store.ahead_of(now));
            self.followed_ms.fetch_add(step, Ordering::Relaxed);
            seen.now = seen.now.moved(step);
        }
        jumped
    }

    /// What the last look saw, to be told to the next process.
    pub fn last_seen(&self) -> Seen {
        self.seen().0
    }

    /// How it stands.
    pub fn snapshot(&self) -> ClockSnapshot {
        let (jumps, skew_ms) = (self.jumps.load(Ordering::Relaxed), self.seen().1);
        ClockSnapshot { jumps, is_reliable: self.is_reliable(), skew_ms }
    }

    fn seen(&self) -> MutexGuard<'_, (Seen, Option<i64>)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for MachineClock {
    fn now(&self) -> Timestamp {
        let (wall, began) = self.began;
        (wall + began.elapsed()).moved(self.followed_ms.load(Ordering::Relaxed))
    }

    fn wall(&self) -> Timestamp {
        wall(self.offset)
    }

    fn is_reliable(&self) -> bool {
        self.seen().0.is_reliable(self.wall(), self.now())
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
fn wall(offset: Duration) -> Timestamp {
    // A machine set before 1970 reads as the epoch.
    Timestamp::EPOCH + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + offset
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;
    const YEARS: u64 = 4 * 365 * DAY;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(1_790_000_000_000 + ms)
    }

    #[test]
    fn a_wall_clock_is_relied_on_once_it_has_kept_pace_for_days() {
        let (mut seen, start) = Seen::begin(None, at(0), at(0));
        assert_eq!(start, Start::default());
        for minute in 1..=2 * 1_440 {
            let now = at(minute * 60_000);
            assert!(!seen.is_reliable(now - Duration::from_secs(1), now - Duration::from_secs(1)));
            // The clocks may be some seconds apart.
            assert_eq!(seen.look(now + Duration::from_millis(minute % 2 * 4_000), now), None);
        }
        let now = at(2 * DAY);
        assert!(seen.is_reliable(now, now));
        // Not between a jump and the look that notices it either.
        assert!(!seen.is_reliable(now + Duration::from_millis(YEARS), now));
        let hours = Duration::from_secs(2 * 3_600);
        assert_eq!(seen.look(now - hours, now), Some(-7_200_000));
        assert!(!seen.is_reliable(now - hours + Duration::from_secs(1), now + Duration::from_secs(1)));
        // What it jumped to is where it begins.
        assert_eq!(seen.look(now, now + hours), None);
        assert!(seen.is_reliable(now - hours + RELIED_ON_AFTER, now + RELIED_ON_AFTER));
    }

    #[test]
    fn a_restart_is_no_jump_and_a_jump_across_it_is_noticed() {
        let seen = Seen { wall: at(9 * DAY), now: at(9 * DAY), since: at(0) };
        for away in [0, 60_000, DAY] {
            let (begun, start) = Seen::begin(Some(seen), at(9 * DAY + away), at(9 * DAY + away));
            assert_eq!((start, begun.since), (Start::default(), at(0)));
        }
        let (begun, start) = Seen::begin(Some(seen), at(9 * DAY + YEARS), at(9 * DAY + YEARS));
        let years = Some(YEARS.cast_signed());
        assert_eq!(start, Start { jumped_ms: years, move_sessions_ms: years });
        assert!(!begun.is_reliable(begun.wall, begun.now));
    }

    #[test]
    fn sessions_keep_their_life_over_a_restart_after_a_jump() {
        let hours = 7_200_000;
        for (seen_wall, seen_now, restarted, moved) in [
            // Dated by a process that did not follow its wall clock two hours back, or two hours ahead.
            (0, hours, 1_000, Some(-7_200_000)),
            (hours, 0, hours + 1_000, Some(7_200_000)),
            // The wall clock went away and came back, and only the former was seen.
            (0, hours, hours + 1_000, None),
            (hours, hours, 0, Some(-7_200_000)),
        ] {
            let seen = Seen { wall: at(seen_wall), now: at(seen_now), since: at(0) };
            let (_, start) = Seen::begin(Some(seen), at(restarted), at(restarted));
            assert_eq!(start.move_sessions_ms, moved, "{seen:?}");
        }
    }

    #[test]
    fn the_stores_clock_is_followed_at_once_only_forward() {
        assert_eq!(
            [-7_200_000, -40, 0, 60, 999, 1_000, 86_400_000].map(step),
            [-100, -40, 0, 60, 100, 1_000, 86_400_000]
        );
        let clock = MachineClock::new(Duration::ZERO);
        let store = clock.wall() + Duration::from_secs(3_600);
        assert_eq!(clock.begin(None, Some(store)), Start::default());
        assert!(clock.now() >= store && clock.now().since(store) < Duration::from_secs(600));
        assert_eq!(clock.look(Some(store)), None);
        let skew = clock.snapshot().skew_ms.unwrap();
        assert!((-3_600_000..-3_000_000).contains(&skew), "{skew}");
    }
}
