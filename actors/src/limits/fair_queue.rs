//! The queue in front of a quota: whose call is next, who hears at once that it came in vain, who has waited too long.
//!
//! Calls have a key: equal calls are one call, and all who wait for it share its answer. Owners take turns: who asks for
//! much waits behind itself. Calls of low [`Priority`] give way to the others, and may leave a part of each hour's quota
//! alone. A call that was sent may be put back, after a rest if need be: then it is ahead of all others of its priority.
//!
//! Who cannot be served within [`QueueSettings::admit`] hears it at once, with the time at which it may come back; who
//! was too hopeful hears it at its deadline, after [`QueueSettings::wait`]. Neither costs a call. Neither the next call
//! nor those who are late are looked for among all that waits.

mod ring;

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;

use self::ring::{Place, Ring};
use crate::base::clock::Timestamp;

const HOUR_MS: u64 = 3_600_000;

/// How much may wait, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct QueueSettings {
    /// Longest wait of a caller.
    pub wait: Duration,
    /// Longest estimated wait with which a caller is taken in: at least `wait`. Estimates err, and a caller that is
    /// held for `wait` before it hears "later" has more tries in it than one that hears it at once.
    pub admit: Duration,
    /// Calls under way at a time, at least 1.
    pub in_flight: usize,
    /// Calls waiting at a time. More than the quota allows within `wait` is of no use.
    pub calls_max: usize,
    /// Calls of one owner waiting at a time.
    pub calls_per_owner_max: usize,
    /// Callers waiting for one call at a time.
    pub waiters_max: usize,
    /// Calls of high priority before one of low priority gets its turn.
    pub high_turns: u32,
    /// An hour's quota of which calls of low priority get half, and another 40 % as the hour passes.
    pub low_share_of: u32,
}

impl QueueSettings {
    /// No bound; low priority waits for as long as there is a call of high priority.
    pub const UNBOUNDED: Self = Self {
        wait: Duration::MAX,
        admit: Duration::MAX,
        in_flight: usize::MAX,
        calls_max: usize::MAX,
        calls_per_owner_max: usize::MAX,
        waiters_max: usize::MAX,
        high_turns: u32::MAX,
        low_share_of: u32::MAX,
    };
}

/// Which calls give way to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Served first.
    High = 0,
    /// Gives way.
    Low = 1,
}

/// How a caller was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// The call waits for its turn.
    Queued,
    /// An equal call waits or is under way; its answer will be shared.
    Joined,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<K> {
    /// Send this call. Then [`FairQueue::finish`] it or [`FairQueue::put_back`] it, whatever comes.
    Call(K),
    /// The quota: nothing of this priority or a lower one before so long has passed. [`FairQueue::shed`] those that
    /// cannot wait so long.
    Wait(Priority, Duration),
    /// Nothing to do, or enough under way.
    Idle,
}

/// The queue. `O` owns calls, `K` is a call, `W` a caller's way back.
#[derive(Debug)]
pub struct FairQueue<O, K, W> {
    settings: QueueSettings,
    calls: HashMap<K, Queued<O, W>>,
    /// What waits for its turn, by priority.
    rings: [Ring<O, K>; 2],
    /// Calls that were put back, by the end of their rest.
    resting: BTreeMap<Ticket, K>,
    /// Who waits for which call, by deadline.
    deadlines: BTreeMap<Ticket, K>,
    serial: u64,
    running: usize,
    high_turns: u32,
    low_share: Share,
    call_ms: u64,
}

/// An instant, and a number that tells apart what falls on the same.
type Ticket = (Timestamp, u64);

#[derive(Debug)]
struct Queued<O, W> {
    owner: O,
    priority: Priority,
    waiters: BTreeMap<Ticket, W>,
    stage: Stage,
    attempts: u32,
}

impl<O, W> Queued<O, W> {
    const fn is_sent(&self) -> bool {
        matches!(self.stage, Stage::Sent(_))
    }
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// At this place of its ring.
    Waiting(Place),
    Resting(Ticket),
    Sent(Timestamp),
}

impl<O: Eq + Hash + Clone, K: Eq + Hash + Clone, W> FairQueue<O, K, W> {
    /// An empty queue.
    pub fn new(settings: QueueSettings) -> Self {
        Self {
            settings,
            calls: HashMap::new(),
            rings: Default::default(),
            resting: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            serial: 0,
            running: 0,
            high_turns: 0,
            low_share: Share { of: settings.low_share_of.into(), hour: 0, used: 0 },
            call_ms: 500,
        }
    }

    /// From now on calls of low priority get their part of an hour's quota of so much.
    pub const fn set_low_share_of(&mut self, quota: u32) {
        self.low_share.of = quota as u64;
    }

    /// Takes a caller in, or says when to come back, if it could not be served in time or there is no room.
    /// `look_ahead` says how long it takes until so many calls and one more have been made, or that it is longer than
    /// the limit it is given.
    pub fn offer(
        &mut self,
        now: Timestamp,
        owner: &O,
        key: &K,
        priority: Priority,
        waiter: W,
        look_ahead: impl FnOnce(usize, Duration) -> Duration,
    ) -> Result<Offered, Duration> {
        if let Some(call) = self.calls.get_mut(key) {
            if call.waiters.len() >= self.settings.waiters_max {
                return Err(Duration::from_secs(1));
            }
            // Who has more haste does not wait behind who has less.
            if let (Priority::High, Priority::Low, Stage::Waiting(place)) =
                (priority, call.priority, call.stage)
                && let Some(key) = self.rings[Priority::Low as usize].remove(place)
            {
                call.stage = Stage::Waiting(self.rings[priority as usize].push(owner, key));
                call.priority = priority;
            }
            self.add_waiter(now, key, waiter);
            return Ok(Offered::Joined);
        }
        let wait = self.estimate(now, owner, priority, look_ahead);
        let full = self.waiting() >= self.settings.calls_max
            || self.rings[priority as usize].of(owner) >= self.settings.calls_per_owner_max;
        if full || wait >= self.settings.admit {
            return Err(wait.max(Duration::from_secs(1)));
        }
        self.push(now, owner, key, priority, waiter);
        Ok(Offered::Queued)
    }

    /// Takes a caller in, come what may. Its call must be one that nobody waits for yet.
    pub fn push(&mut self, now: Timestamp, owner: &O, key: &K, priority: Priority, waiter: W) {
        let stage = Stage::Waiting(self.rings[priority as usize].push(owner, key.clone()));
        let call = Queued { owner: owner.clone(), priority, waiters: BTreeMap::new(), stage, attempts: 0 };
        self.calls.insert(key.clone(), call);
        self.add_waiter(now, key, waiter);
    }

    /// The next call to send, in turn, if `take` gets it from the quota.
    pub fn next(&mut self, now: Timestamp, take: impl FnOnce(Priority) -> Result<(), Duration>) -> Next<K> {
        if self.running >= self.settings.in_flight.max(1) {
            return Next::Idle;
        }
        self.end_rests(now);
        let [high, low] = [&self.rings[0], &self.rings[1]].map(Ring::len);
        let low_wait = Some(self.low_share.wait(now)).filter(|_| low > 0);
        let priority = match low_wait {
            Some(Duration::ZERO) if high == 0 || self.high_turns >= self.settings.high_turns => Priority::Low,
            _ if high > 0 => Priority::High,
            Some(wait) => return Next::Wait(Priority::Low, wait),
            None => return Next::Idle,
        };
        if let Err(wait) = take(priority) {
            return Next::Wait(priority, wait);
        }
        let Some(key) = self.rings[priority as usize].pop() else { return Next::Idle };
        match priority {
            Priority::High => self.high_turns = self.high_turns.saturating_add(1),
            Priority::Low => {
                self.high_turns = 0;
                self.low_share.count(now);
            }
        }
        if let Some(call) = self.calls.get_mut(&key) {
            call.stage = Stage::Sent(now);
            call.attempts += 1;
        }
        self.running += 1;
        Next::Call(key)
    }

    /// How often a call was sent.
    pub fn attempts(&self, key: &K) -> u32 {
        self.calls.get(key).map_or(0, |call| call.attempts)
    }

    /// A call that was sent has to be sent anew, not before `at`: it is left out if nobody waits for it any more.
    pub fn put_back(&mut self, key: &K, at: Timestamp) {
        let Some(call) = self.calls.get_mut(key).filter(|call| call.is_sent()) else { return };
        self.running = self.running.saturating_sub(1);
        if call.waiters.is_empty() {
            self.calls.remove(key);
            return;
        }
        self.serial += 1;
        call.stage = Stage::Resting((at, self.serial));
        self.resting.insert((at, self.serial), key.clone());
    }

    /// Leaves out the calls of an owner that `these` names and that have not been sent: the callers that waited for them,
    /// one for each call.
    pub fn cancel(&mut self, owner: &O, these: impl Fn(&K) -> bool) -> Vec<W> {
        let unsent =
            |(key, call): &(&K, &Queued<O, W>)| call.owner == *owner && !call.is_sent() && these(key);
        let keys = self.calls.iter().filter(unsent).map(|(key, _)| key.clone());
        let keys: Vec<K> = keys.collect();
        keys.iter().flat_map(|key| self.leave_out(key)).collect()
    }

    /// A call has ended: the callers that wait for it. Empty if their time had come.
    pub fn finish(&mut self, now: Timestamp, key: &K) -> Vec<W> {
        let Some(Stage::Sent(at)) = self.calls.get(key).map(|call| call.stage) else { return Vec::new() };
        self.running = self.running.saturating_sub(1);
        let took = u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX).min(60_000);
        self.call_ms = (self.call_ms * 7 + took) / 8;
        self.leave_out(key)
    }

    /// The callers whose time has come at `now`. A call for which nobody waits any more is not sent; one that is
    /// under way goes on, for whatever remembers its answer.
    pub fn expire(&mut self, now: Timestamp) -> Vec<W> {
        self.give_up(now, |_| true)
    }

    /// The callers whose call is of this priority or a lower one, has not been sent and cannot be before `until`, to be
    /// answered now rather than later.
    pub fn shed(&mut self, until: Timestamp, priority: Priority) -> Vec<W> {
        self.give_up(until, |call| {
            let too_high = priority == Priority::Low && call.priority == Priority::High;
            !too_high && !call.is_sent()
        })
    }

    /// Leaves out the callers that `stays` does not say so of, and the calls not yet sent that nobody else waits for.
    pub fn retain_waiters(&mut self, stays: impl Fn(&W) -> bool) {
        let gone = self.calls.iter().flat_map(|(key, call)| {
            let gone = call.waiters.iter().filter(|(_, waiter)| !stays(waiter));
            gone.map(|(ticket, _)| (*ticket, key.clone()))
        });
        let gone = gone.collect();
        self.remove_waiters(gone);
    }

    /// When there is something to do next, unless a call ends first: [`Self::expire`], or [`Self::next`] for a call
    /// that has rested.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let free = self.running < self.settings.in_flight.max(1);
        let rested = self.resting.keys().next().filter(|_| free);
        self.deadlines.keys().next().into_iter().chain(rested).map(|(at, _)| *at).min()
    }

    /// Calls waiting for their turn.
    pub fn waiting(&self) -> usize {
        self.rings.iter().map(Ring::len).sum::<usize>() + self.resting.len()
    }

    /// Calls under way.
    pub const fn running(&self) -> usize {
        self.running
    }

    /// How long a call that came now would wait, for `Retry-After`.
    fn estimate(
        &self,
        now: Timestamp,
        owner: &O,
        priority: Priority,
        look_ahead: impl FnOnce(usize, Duration) -> Duration,
    ) -> Duration {
        let mine = self.rings[priority as usize].ahead_of(owner);
        let turns = self.settings.high_turns as usize;
        let [high, low] = [&self.rings[0], &self.rings[1]].map(Ring::len);
        let (others, held) = match priority {
            Priority::High => (low.min(mine / turns + 1), Duration::ZERO),
            Priority::Low => (high.min((mine + 1).saturating_mul(turns)), self.low_share.wait(now)),
        };
        let ahead = mine + others;
        let rounds = (ahead + self.running) / self.settings.in_flight.max(1);
        let rounds = u64::try_from(rounds).unwrap_or(u64::MAX).saturating_mul(self.call_ms);
        held.max(Duration::from_millis(rounds)).max(look_ahead(ahead, self.settings.admit))
    }

    fn add_waiter(&mut self, now: Timestamp, key: &K, waiter: W) {
        let Some(call) = self.calls.get_mut(key) else { return };
        self.serial += 1;
        let ticket = (now + self.settings.wait, self.serial);
        call.waiters.insert(ticket, waiter);
        self.deadlines.insert(ticket, key.clone());
    }

    /// Calls that have rested are next, the one that was ready first in front.
    fn end_rests(&mut self, now: Timestamp) {
        let later = self.resting.split_off(&(now + Duration::from_millis(1), 0));
        for key in std::mem::replace(&mut self.resting, later).into_values().rev() {
            let Some(call) = self.calls.get_mut(&key) else { continue };
            let ring = &mut self.rings[call.priority as usize];
            call.stage = Stage::Waiting(ring.push_front(&call.owner, key));
        }
    }

    /// Takes a call out: those who waited for it.
    fn leave_out(&mut self, key: &K) -> Vec<W> {
        let Some(call) = self.calls.remove(key) else { return Vec::new() };
        match call.stage {
            Stage::Waiting(place) => drop(self.rings[call.priority as usize].remove(place)),
            Stage::Resting(ticket) => drop(self.resting.remove(&ticket)),
            Stage::Sent(_) => {}
        }
        for ticket in call.waiters.keys() {
            self.deadlines.remove(ticket);
        }
        call.waiters.into_values().collect()
    }

    fn give_up(&mut self, until: Timestamp, concerns: impl Fn(&Queued<O, W>) -> bool) -> Vec<W> {
        let due = self.deadlines.range(..=(until, u64::MAX));
        let due = due.filter(|(_, key)| self.calls.get(key).is_some_and(&concerns));
        let due = due.map(|(ticket, key)| (*ticket, key.clone())).collect();
        self.remove_waiters(due)
    }

    /// Takes callers out, and the calls not yet sent for which nobody waits any more.
    fn remove_waiters(&mut self, tickets: Vec<(Ticket, K)>) -> Vec<W> {
        let mut waiters = Vec::new();
        for (ticket, key) in tickets {
            let Some(call) = self.calls.get_mut(&key) else { continue };
            self.deadlines.remove(&ticket);
            waiters.extend(call.waiters.remove(&ticket));
            if call.waiters.is_empty() && !call.is_sent() {
                self.leave_out(&key);
            }
        }
        waiters
    }
}

/// The part of each clock hour's quota that calls of low priority may take, because the whole of it would be gone in
/// minutes.
#[derive(Debug)]
struct Share {
    of: u64,
    hour: u64,
    used: u64,
}

impl Share {
    fn count(&mut self, now: Timestamp) {
        self.used = self.used_at(now) + 1;
        self.hour = now.hour();
    }

    /// How long calls of low priority have to wait for their part at `now`.
    fn wait(&self, now: Timestamp) -> Duration {
        let (used, into) = (self.used_at(now), now.as_millis() % HOUR_MS);
        // used < of × (50 % + 40 % × part of the hour), solved for the part of the hour.
        let share = self.of * 5 / 10 + self.of * 4 * into / (10 * HOUR_MS);
        if used < share.max(1) {
            return Duration::ZERO;
        }
        let needed = (used + 1).saturating_sub(self.of * 5 / 10) * 10 * HOUR_MS / (self.of * 4).max(1) + 1;
        Duration::from_millis(needed.min(HOUR_MS).saturating_sub(into).max(1))
    }

    const fn used_at(&self, now: Timestamp) -> u64 {
        if self.hour == now.hour() { self.used } else { 0 }
    }
}

#[cfg(test)]
mod tests;
