//! The fair queue in front of the quota.
//!
//! Each meter has a lane, and lanes take turns: a box that asks for two years of history waits behind itself. Calls
//! about old days only ([`Class::History`]) get one turn in four while others wait, and leave a part of each
//! hour's quota alone, because the whole of it would be gone in five minutes. Equal calls are one call.
//!
//! Who cannot be served within [`QueueSettings::admit`] hears it at once, with the time at which it may come back; who
//! was too hopeful hears it at its deadline, after [`QueueSettings::wait`]. Neither costs a call.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;

use jiff::civil::Date;

use self::ring::Ring;
use super::civil::plus;
use super::request::MeterRequest;
use crate::base::clock::Timestamp;
use crate::limits::allowance::Allowance;
use crate::limits::quota::{Quota, QuotaSettings};

mod ring;

/// A range that ends so many days ago or earlier is history.
const HISTORY_DAYS: i64 = 7;
/// Calls of recent days before one about history gets its turn.
const RECENT_TURNS: u32 = 3;
const HOUR_MS: u64 = 3_600_000;
/// Longest wait for a call's turn and answer; below the plugin's patience of 30 s.
pub const WAIT: Duration = Duration::from_secs(20);
/// Longest estimated wait with which a call is taken in although it may not be served within [`WAIT`]. The plugin sends
/// a request four times, each held for [`WAIT`], some ten seconds apart; told at once, it has used them up in 40 s.
pub const ADMIT: Duration = Duration::from_secs(100);
/// Calls that may wait at a time: more than Enedis takes within [`ADMIT`].
const CALLS_MAX: usize = 4_096;
/// Of them, of one meter: a history of two years has 105.
const CALLS_OF_A_METER_MAX: usize = 128;
/// Requests that may wait for one call.
const WAITERS_MAX: usize = 64;
/// Calls under way at a time at most; normally as many as may begin in a second.
const IN_FLIGHT_MAX: u32 = 64;

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub struct QueueSettings {
    /// Longest wait for an answer, call included; below the plugin's 30 s.
    pub wait: Duration,
    /// Longest estimated wait with which a caller is taken in: at least `wait`. Estimates err, and a caller that is
    /// held for `wait` before it hears "later" has more tries in it than one that hears it at once.
    pub admit: Duration,
    /// Calls under way at a time, at least 1.
    pub in_flight: usize,
    /// Calls waiting at a time. More than the quota allows within `wait` is of no use.
    pub calls_max: usize,
    /// Calls of one meter waiting at a time.
    pub calls_per_meter_max: usize,
    /// Callers waiting for one call at a time.
    pub waiters_max: usize,
    /// `ENEDIS_CALLS_PER_HOUR`: history gets half of it, and another 40 % as the hour passes.
    pub per_hour: u32,
}

impl QueueSettings {
    /// The settings for an API of this quota.
    pub fn of(quota: QuotaSettings) -> Self {
        Self {
            wait: WAIT,
            admit: ADMIT,
            in_flight: quota.per_second.min(IN_FLIGHT_MAX) as usize,
            calls_max: CALLS_MAX,
            calls_per_meter_max: CALLS_OF_A_METER_MAX,
            waiters_max: WAITERS_MAX,
            per_hour: quota.per_hour,
        }
    }
}

/// What a quota must offer. Cloned to look ahead.
pub trait Budget: Clone {
    /// Takes one call, or says how long to wait for it.
    fn take(&mut self, now: Timestamp) -> Result<(), Duration>;
}

impl Budget for Allowance {
    fn take(&mut self, now: Timestamp) -> Result<(), Duration> {
        Self::take(self, now, 0)
    }
}

impl Budget for Quota {
    fn take(&mut self, now: Timestamp) -> Result<(), Duration> {
        Self::take(self, now, 0)
    }
}

/// Which calls give way to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The days a box asks for each morning.
    Recent,
    /// Older days.
    History,
}

impl Class {
    /// The class of a call on the day `today`.
    pub fn of(call: MeterRequest, today: Date) -> Self {
        if call.range.end() <= plus(today, -HISTORY_DAYS) { Self::History } else { Self::Recent }
    }
}

/// How a caller was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The call waits for its turn.
    Queued,
    /// An equal call waits or is under way; its answer will be shared.
    Joined,
}

/// A caller that was not taken in, to be answered 429.
#[derive(Debug)]
pub struct Refused<W> {
    /// The caller.
    pub waiter: W,
    /// When it may be served.
    pub retry_after: Duration,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<K> {
    /// Send this call; the quota has been charged. Then [`FairQueue::finish`] it, whatever comes.
    Call(K),
    /// Nothing before this has passed: the quota. [`FairQueue::shed`] those that cannot wait so long.
    Wait(Duration),
    /// Nothing to do, or enough under way.
    Idle,
}

/// The queue. `M` is a meter, `K` a call, `W` a caller's way back.
#[derive(Debug)]
pub struct FairQueue<M, K, W> {
    settings: QueueSettings,
    jobs: HashMap<K, Job<M, W>>,
    recent: Ring<M, K>,
    history: Ring<M, K>,
    deadlines: BTreeMap<(Timestamp, u64), K>,
    serial: u64,
    running: usize,
    recent_turns: u32,
    history_hour: (u64, u32),
    call_ms: u64,
}

#[derive(Debug)]
struct Job<M, W> {
    meter: M,
    class: Class,
    waiters: Vec<(Timestamp, u64, W)>,
    started: Option<Timestamp>,
    put_back: bool,
}

impl<M: Eq + Hash + Clone, K: Eq + Hash + Clone, W> FairQueue<M, K, W> {
    /// An empty queue.
    pub fn new(settings: QueueSettings) -> Self {
        Self {
            settings,
            jobs: HashMap::new(),
            recent: Ring::default(),
            history: Ring::default(),
            deadlines: BTreeMap::new(),
            serial: 0,
            running: 0,
            recent_turns: 0,
            history_hour: (0, 0),
            call_ms: 500,
        }
    }

    /// Takes a caller in, or refuses it at once if it could not be served in time or there is no room.
    pub fn offer(
        &mut self,
        now: Timestamp,
        meter: &M,
        key: &K,
        class: Class,
        waiter: W,
        budget: &impl Budget,
    ) -> Result<Place, Refused<W>> {
        if let Some(job) = self.jobs.get(key) {
            if job.waiters.len() >= self.settings.waiters_max {
                return Err(Refused { waiter, retry_after: Duration::from_secs(1) });
            }
            self.add_waiter(now, key, waiter);
            return Ok(Place::Joined);
        }
        let wait = self.estimate(now, meter, class, budget);
        let full = self.waiting() >= self.settings.calls_max
            || self.ring(class).of(meter) >= self.settings.calls_per_meter_max;
        if full || wait >= self.settings.admit {
            return Err(Refused { waiter, retry_after: wait.max(Duration::from_secs(1)) });
        }
        self.jobs.insert(
            key.clone(),
            Job { meter: meter.clone(), class, waiters: Vec::new(), started: None, put_back: false },
        );
        self.ring_mut(class).push(meter, key.clone());
        self.add_waiter(now, key, waiter);
        Ok(Place::Queued)
    }

    /// The next call to send, in turn, if the budget has one.
    pub fn next(&mut self, now: Timestamp, budget: &mut impl Budget) -> Next<K> {
        if self.running >= self.settings.in_flight.max(1) {
            return Next::Idle;
        }
        let history_wait = self.history_wait(now);
        let history = !self.history.is_empty() && history_wait.is_zero();
        let class = match (self.recent.is_empty(), history) {
            (false, false) => Class::Recent,
            (false, true) if self.recent_turns < RECENT_TURNS => Class::Recent,
            (_, true) => Class::History,
            (true, false) if self.history.is_empty() => return Next::Idle,
            (true, false) => return Next::Wait(history_wait),
        };
        if let Err(wait) = budget.take(now) {
            return Next::Wait(wait);
        }
        let Some(key) = self.ring_mut(class).pop() else { return Next::Idle };
        self.recent_turns = if class == Class::Recent { self.recent_turns.saturating_add(1) } else { 0 };
        if class == Class::History {
            let hour = now.as_millis() / HOUR_MS;
            let used = if self.history_hour.0 == hour { self.history_hour.1 } else { 0 };
            self.history_hour = (hour, used + 1);
        }
        if let Some(job) = self.jobs.get_mut(&key) {
            job.started = Some(now);
        }
        self.running += 1;
        Next::Call(key)
    }

    /// A call that was sent has to be sent anew: it is the next one, unless nobody waits for it any more. Once; false: it
    /// was put back before, and has to be [finished](Self::finish).
    pub fn put_back(&mut self, key: &K) -> bool {
        let Some(job) = self.jobs.get_mut(key).filter(|job| job.started.is_some() && !job.put_back) else {
            return false;
        };
        job.started = None;
        job.put_back = true;
        self.running = self.running.saturating_sub(1);
        let (meter, class, wanted) = (job.meter.clone(), job.class, !job.waiters.is_empty());
        if wanted {
            self.ring_mut(class).push_front(&meter, key.clone());
        } else {
            self.jobs.remove(key);
        }
        true
    }

    /// Leaves out the calls of a meter that have not been sent: the callers that waited for them, one for each call.
    pub fn cancel(&mut self, meter: &M) -> Vec<W> {
        let unsent = |job: &Job<M, W>| job.meter == *meter && job.started.is_none();
        let keys: Vec<K> =
            self.jobs.iter().filter(|(_, job)| unsent(job)).map(|(key, _)| key.clone()).collect();
        let mut waiters = Vec::new();
        for key in keys {
            let Some(job) = self.leave_out(&key) else { continue };
            for (deadline, serial, waiter) in job.waiters {
                self.deadlines.remove(&(deadline, serial));
                waiters.push(waiter);
            }
        }
        waiters
    }

    /// A call has ended: the callers that wait for it. Empty if their time had come.
    pub fn finish(&mut self, now: Timestamp, key: &K) -> Vec<W> {
        let Some(started) = self.jobs.get(key).and_then(|job| job.started) else { return Vec::new() };
        self.running = self.running.saturating_sub(1);
        let took = u64::try_from(now.since(started).as_millis()).unwrap_or(u64::MAX).min(60_000);
        self.call_ms = (self.call_ms * 7 + took) / 8;
        let waiters = self.jobs.remove(key).map(|job| job.waiters).unwrap_or_default();
        for (deadline, serial, _) in &waiters {
            self.deadlines.remove(&(*deadline, *serial));
        }
        waiters.into_iter().map(|(_, _, waiter)| waiter).collect()
    }

    /// The callers whose time has come at `now`. A call for which nobody waits any more is not sent; one that is
    /// under way goes on, for the cache.
    pub fn expire(&mut self, now: Timestamp) -> Vec<W> {
        self.give_up(now, true)
    }

    /// The callers whose call has not been sent and cannot be before `until`, to be answered now rather than
    /// later.
    pub fn shed(&mut self, until: Timestamp) -> Vec<W> {
        self.give_up(until, false)
    }

    /// Leaves out the callers that `stays` does not say so of, and the calls not yet sent that nobody else waits for.
    pub fn retain_waiters(&mut self, stays: impl Fn(&W) -> bool) {
        let mut unwanted = Vec::new();
        for (key, job) in &mut self.jobs {
            job.waiters.retain(|(deadline, serial, waiter)| {
                let stays = stays(waiter);
                if !stays {
                    self.deadlines.remove(&(*deadline, *serial));
                }
                stays
            });
            if job.waiters.is_empty() && job.started.is_none() {
                unwanted.push(key.clone());
            }
        }
        for key in unwanted {
            self.leave_out(&key);
        }
    }

    /// When [`Self::expire`] has something to do next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.keys().next().map(|(at, _)| *at)
    }

    /// How long a call that came now would wait, for `Retry-After`.
    pub fn estimate(&self, now: Timestamp, meter: &M, class: Class, budget: &impl Budget) -> Duration {
        let mine = self.ring(class).ahead_of(meter);
        let turns = RECENT_TURNS as usize;
        let (ahead, held) = match class {
            Class::Recent => (mine + self.history.len().min(mine / turns + 1), Duration::ZERO),
            Class::History => (mine + self.recent.len().min((mine + 1) * turns), self.history_wait(now)),
        };
        let lanes = self.settings.in_flight.max(1);
        let calls = (ahead + self.running) / lanes;
        let by_lanes =
            Duration::from_millis(u64::try_from(calls).unwrap_or(u64::MAX).saturating_mul(self.call_ms));
        held.max(by_lanes).max(look_ahead(budget, now, ahead, self.settings.admit))
    }

    /// Calls waiting for their turn.
    pub fn waiting(&self) -> usize {
        self.recent.len() + self.history.len()
    }

    /// Calls under way.
    pub const fn running(&self) -> usize {
        self.running
    }

    fn ring(&self, class: Class) -> &Ring<M, K> {
        match class {
            Class::Recent => &self.recent,
            Class::History => &self.history,
        }
    }

    fn ring_mut(&mut self, class: Class) -> &mut Ring<M, K> {
        match class {
            Class::Recent => &mut self.recent,
            Class::History => &mut self.history,
        }
    }

    fn add_waiter(&mut self, now: Timestamp, key: &K, waiter: W) {
        let Some(job) = self.jobs.get_mut(key) else { return };
        self.serial += 1;
        let deadline = now + self.settings.wait;
        job.waiters.push((deadline, self.serial, waiter));
        self.deadlines.insert((deadline, self.serial), key.clone());
    }

    /// Takes a call that has not been sent out of its lane.
    fn leave_out(&mut self, key: &K) -> Option<Job<M, W>> {
        let job = self.jobs.remove(key)?;
        self.ring_mut(job.class).remove(&job.meter, key);
        Some(job)
    }

    fn give_up(&mut self, until: Timestamp, started_too: bool) -> Vec<W> {
        let due: Vec<(Timestamp, u64)> =
            self.deadlines.range(..=(until, u64::MAX)).map(|(at, _)| *at).collect();
        let mut waiters = Vec::new();
        for at in due {
            let Some(key) = self.deadlines.get(&at).cloned() else { continue };
            let Some(job) = self.jobs.get_mut(&key) else { continue };
            if job.started.is_some() && !started_too {
                continue;
            }
            self.deadlines.remove(&at);
            if let Some(n) = job.waiters.iter().position(|(_, serial, _)| *serial == at.1) {
                waiters.push(job.waiters.swap_remove(n).2);
            }
            if job.waiters.is_empty() && job.started.is_none() {
                self.leave_out(&key);
            }
        }
        waiters
    }

    /// How long history has to wait for its part of the quota at `now`.
    fn history_wait(&self, now: Timestamp) -> Duration {
        let (hour, into) = (now.as_millis() / HOUR_MS, now.as_millis() % HOUR_MS);
        let per_hour = u64::from(self.settings.per_hour);
        let used = if self.history_hour.0 == hour { u64::from(self.history_hour.1) } else { 0 };
        // used < per_hour × (50 % + 40 % × part of the hour), solved for the part of the hour.
        let share = |into: u64| per_hour * 5 / 10 + per_hour * 4 * into / (10 * HOUR_MS);
        if used < share(into).max(1) {
            return Duration::ZERO;
        }
        let needed = (used + 1).saturating_sub(per_hour * 5 / 10) * 10 * HOUR_MS / (per_hour * 4).max(1) + 1;
        Duration::from_millis(needed.min(HOUR_MS).saturating_sub(into).max(1))
    }
}

/// How long until `ahead` calls and one more have been made, at most a little more than `limit` unless one step alone
/// is longer.
fn look_ahead(budget: &impl Budget, now: Timestamp, ahead: usize, limit: Duration) -> Duration {
    let mut budget = budget.clone();
    let mut at = now;
    for _ in 0..=ahead {
        while let Err(wait) = budget.take(at) {
            at = at + wait.max(Duration::from_millis(1));
            if at.since(now) >= limit {
                return at.since(now);
            }
        }
    }
    at.since(now)
}

#[cfg(test)]
mod tests;
