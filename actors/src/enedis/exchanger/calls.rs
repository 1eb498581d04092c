//! The calls to one endpoint on their way: a queue, a quota, a circuit breaker. Decides what is sent when, what is sent
//! again, and who hears that it was not; sends nothing itself.

use std::collections::HashMap;
use std::time::Duration;

use rand::Rng;

use super::{Exchanged, ExchangerSettings, NotDone};
use crate::base::admission::Reply;
use crate::base::clock::Timestamp;
use crate::base::network::Network;
use crate::enedis::port::{Attempt, Call};
use crate::limits::allowance::{Allowance, AllowanceSnapshot};
use crate::limits::backoff;
use crate::limits::fair_queue::{FairQueue, Next, Priority, QueueSettings};
use crate::limits::quota::{CLOSED_MAX, Quota};

/// The share of each hour's quota that is kept for authorization codes: one in so many calls.
const RESERVE: u32 = 10;

/// When to come back, where our client is not accepted: an operator has to act.
const REJECTED_PAUSE: Duration = Duration::from_secs(60);

/// Counters of one endpoint since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndpointSnapshot {
    /// Calls waiting.
    pub queued: usize,
    /// Calls under way.
    pub in_flight: usize,
    /// Attempts sent to Enedis.
    pub attempts: u64,
    /// Attempts that were sent again.
    pub retries: u64,
    /// Calls whose fate at Enedis is unknown.
    pub lost: u64,
    /// Calls given up, or refused at once.
    pub not_done: u64,
    /// Calls that were not sent because nobody waited any more.
    pub unwanted: u64,
    /// Calls in which Enedis did not accept our client.
    pub client_rejected: u64,
    /// Its quota and its circuit breaker.
    pub allowance: AllowanceSnapshot,
}

/// Whether somebody wants a call to be sent that was not sent yet.
pub(super) type Wanted = Box<dyn Fn() -> bool + Send>;

/// Who made a call.
pub(super) enum Caller {
    Outside(Reply<Exchanged>, Wanted),
    /// The application's own token is renewed.
    Renewal,
}

impl Caller {
    fn has_gone(&self) -> bool {
        matches!(self, Self::Outside(reply, is_wanted) if reply.is_abandoned() || !is_wanted())
    }
}

/// What comes of an event. Calls are told apart by number.
pub(super) enum Step {
    /// Send this; its end is told to [`Calls::ended`].
    Send(u64, Call),
    /// Tell this caller.
    Answer(Caller, Exchanged),
}

/// The calls to one endpoint.
pub(super) struct Calls {
    settings: ExchangerSettings,
    allowance: Allowance,
    queue: FairQueue<Option<Network>, u64, u64>,
    pending: HashMap<u64, Pending>,
    serial: u64,
    /// When there is quota again.
    quota_at: Option<Timestamp>,
    stats: EndpointSnapshot,
}

struct Pending {
    call: Call,
    caller: Caller,
    /// The last instant at which a whole attempt fits before the deadline.
    start_by: Timestamp,
    not_before: Timestamp,
    sent: bool,
    /// What it is told if there is no time left.
    why: NotDone,
}

impl Calls {
    pub fn new(settings: ExchangerSettings, now: Timestamp) -> Self {
        let queue = QueueSettings {
            wait: last_start(settings) + Duration::from_millis(1),
            in_flight: settings.in_flight,
            ..QueueSettings::UNBOUNDED
        };
        Self {
            settings,
            allowance: Allowance::new(settings.quota, now),
            queue: FairQueue::new(queue),
            pending: HashMap::new(),
            serial: 0,
            quota_at: None,
            stats: EndpointSnapshot::default(),
        }
    }

    /// A call has arrived, for a stranger of this network or for the application itself. Networks take turns.
    pub fn push(&mut self, now: Timestamp, from: Option<Network>, call: Call, caller: Caller) {
        self.serial += 1;
        let priority = if matches!(call, Call::Refresh(_)) { Priority::Low } else { Priority::High };
        self.queue.push(now, &from, &self.serial, priority, self.serial);
        let start_by = now + last_start(self.settings);
        let pending = Pending { call, caller, start_by, not_before: now, sent: false, why: NotDone::Busy };
        self.pending.insert(self.serial, pending);
    }

    /// What is to be sent now, and who is told that it is not.
    pub fn steps(&mut self, now: Timestamp) -> Vec<Step> {
        let mut steps = Vec::new();
        self.drop_unwanted(&mut steps);
        for id in self.queue.expire(now) {
            // One that is under way is waited for.
            if let Some(Pending { sent: false, why, not_before, .. }) = self.pending.get(&id) {
                let (why, wait) = (*why, not_before.since(now));
                steps.extend(self.give_up(id, why, wait));
            }
        }
        self.quota_at = None;
        loop {
            let open = self.allowance.check(now);
            let reserved = self.settings.quota.per_hour / RESERVE;
            let next = self.queue.next(now, |priority| match open {
                Ok(()) => self.allowance.take(now, if priority == Priority::Low { reserved } else { 0 }),
                Err(_) => Ok(()),
            });
            match (next, open) {
                (Next::Call(id), Ok(())) => {
                    self.allowance.begin(now);
                    self.stats.attempts += 1;
                    self.stats.retries += u64::from(self.queue.attempts(&id) > 1);
                    let Some(pending) = self.pending.get_mut(&id) else { continue };
                    pending.sent = true;
                    steps.push(Step::Send(id, pending.call.clone()));
                }
                (Next::Call(id), Err(wait)) => {
                    self.queue.finish(now, &id);
                    steps.extend(self.give_up(id, NotDone::Down, wait));
                }
                (Next::Wait(priority, wait), _) => {
                    for id in self.queue.shed(now + wait, priority) {
                        let not_before = self.pending.get(&id).map_or(now, |pending| pending.not_before);
                        steps.extend(self.give_up(id, NotDone::Busy, wait.max(not_before.since(now))));
                    }
                    self.quota_at = Some(now + wait).filter(|_| self.queue.waiting() > 0);
                    return steps;
                }
                (Next::Idle, _) => return steps,
            }
        }
    }

    /// Gives up what nobody waits for any more and was not sent, before it takes a part of the quota.
    fn drop_unwanted(&mut self, steps: &mut Vec<Step>) {
        let unwanted = |(id, call): (&u64, &Pending)| (!call.sent && call.caller.has_gone()).then_some(*id);
        let gone: Vec<u64> = self.pending.iter().filter_map(unwanted).collect();
        for id in &gone {
            steps.extend(self.give_up(*id, NotDone::Busy, Duration::ZERO));
        }
        if !gone.is_empty() {
            self.stats.unwanted += gone.len() as u64;
            let pending = &self.pending;
            self.queue.retain_waiters(|id| pending.contains_key(id));
        }
    }

    /// An attempt has ended: the caller is answered, or the call put back.
    pub fn ended(&mut self, now: Timestamp, id: u64, attempt: Attempt, rng: &mut impl Rng) -> Option<Step> {
        match attempt {
            Attempt::Answered(_) | Attempt::Busy(_) | Attempt::ClientRejected => self.allowance.answered(now),
            Attempt::Failed(_) | Attempt::Down(_) | Attempt::Lost => self.allowance.failed(now, true),
        }
        let (why, retry_at) = match attempt {
            Attempt::Answered(answer) | Attempt::Failed(answer) => {
                return self.finish(now, id, Exchanged::Answered(answer));
            }
            Attempt::ClientRejected => {
                self.stats.client_rejected += 1;
                tracing::error!("Enedis does not accept our client; check CLIENT_ID and CLIENT_SECRET");
                self.queue.finish(now, &id);
                return self.give_up(id, NotDone::NotAccepted, REJECTED_PAUSE);
            }
            Attempt::Lost => {
                self.stats.lost += 1;
                return self.finish(now, id, Exchanged::Lost);
            }
            Attempt::Busy(retry_at) => (NotDone::Busy, retry_at),
            Attempt::Down(retry_at) => (NotDone::Down, retry_at),
        };
        let backoff = now + backoff::delay(self.queue.attempts(&id), rng);
        let retry_at = retry_at.map(|at| at.min(now + CLOSED_MAX));
        if let Some(at) = retry_at {
            self.allowance.close_until(at);
        }
        let not_before = retry_at.unwrap_or(backoff).max(backoff);
        let pending = self.pending.get_mut(&id)?;
        if not_before > pending.start_by {
            self.queue.finish(now, &id);
            return self.give_up(id, why, not_before.since(now));
        }
        (pending.sent, pending.why, pending.not_before) = (false, why, not_before);
        self.queue.put_back(&id, not_before);
        None
    }

    /// The quota, to be shared with other instances.
    pub const fn quota(&mut self) -> &mut Quota {
        self.allowance.quota()
    }

    /// When [`Self::steps`] has something to do next, unless an attempt ends first.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.queue.next_wake().into_iter().chain(self.quota_at).min()
    }

    pub fn snapshot(&self, now: Timestamp) -> EndpointSnapshot {
        EndpointSnapshot {
            queued: self.queue.waiting(),
            in_flight: self.queue.running(),
            allowance: self.allowance.snapshot(now),
            ..self.stats
        }
    }

    fn finish(&mut self, now: Timestamp, id: u64, exchanged: Exchanged) -> Option<Step> {
        self.queue.finish(now, &id);
        Some(Step::Answer(self.pending.remove(&id)?.caller, exchanged))
    }

    fn give_up(&mut self, id: u64, why: NotDone, wait: Duration) -> Option<Step> {
        self.stats.not_done += 1;
        let exchanged = Exchanged::NotDone { why, retry_after: wait.max(Duration::from_secs(1)) };
        Some(Step::Answer(self.pending.remove(&id)?.caller, exchanged))
    }
}

/// How long after its arrival a call may start an attempt.
const fn last_start(settings: ExchangerSettings) -> Duration {
    settings.deadline.saturating_sub(settings.attempt)
}
