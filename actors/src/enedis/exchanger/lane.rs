//! The calls to one API of Enedis on their way: a queue, a quota, a circuit breaker. Decides what is sent when, what is
//! sent again, and who hears that it was not; sends nothing itself.

use std::collections::VecDeque;
use std::time::Duration;

use rand::Rng;

use super::{Exchanged, ExchangerSettings, NotDone};
use crate::base::admission::Reply;
use crate::base::clock::Timestamp;
use crate::enedis::port::{Attempt, Call};
use crate::limits::allowance::Allowance;
use crate::limits::backoff;
use crate::limits::quota::CLOSED_MAX;

/// The share of each hour's quota that is kept for authorization codes: one in so many calls.
const RESERVE: u32 = 10;

/// Counters of one API since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct LaneSnapshot {
    /// Calls waiting.
    pub queued: usize,
    /// Calls under way.
    pub in_flight: usize,
    /// Attempts sent to Enedis.
    pub attempts: u64,
    /// Attempts that were sent again.
    pub retries: u64,
    /// Calls that brought an answer.
    pub answered: u64,
    /// Calls whose fate at Enedis is unknown.
    pub lost: u64,
    /// Calls given up, or refused at once.
    pub not_done: u64,
    /// Attempts in the current clock hour.
    pub used_this_hour: u32,
    /// Whether the circuit breaker holds calls back.
    pub breaker_open: bool,
}

pub(super) struct Job {
    pub call: Call,
    reply: Reply<Exchanged>,
    arrived: Timestamp,
    not_before: Timestamp,
    attempts: u32,
    last: NotDone,
}

impl Job {
    pub fn new(call: Call, reply: Reply<Exchanged>, now: Timestamp) -> Self {
        Self { call, reply, arrived: now, not_before: now, attempts: 0, last: NotDone::Busy }
    }

    fn is_refresh(&self) -> bool {
        matches!(self.call, Call::Refresh(_))
    }
}

pub(super) struct Lane {
    settings: ExchangerSettings,
    allowance: Allowance,
    queue: VecDeque<Job>,
    in_flight: usize,
    stats: LaneSnapshot,
}

impl Lane {
    pub fn new(settings: ExchangerSettings, now: Timestamp) -> Self {
        Self {
            settings,
            allowance: Allowance::new(settings.quota, now),
            queue: VecDeque::new(),
            in_flight: 0,
            stats: LaneSnapshot::default(),
        }
    }

    pub fn push(&mut self, job: Job) {
        self.queue.push_back(job);
    }

    /// The next job to send; the quota is charged. Answers on the way whatever cannot be sent in time.
    pub fn next(&mut self, now: Timestamp) -> Option<Job> {
        self.give_up_late(now);
        while self.in_flight < self.settings.in_flight.max(1) {
            let due = self.next_due(now)?;
            let refresh = self.queue.get(due).is_some_and(Job::is_refresh);
            if let Err(wait) = self.allowance.check(now) {
                if let Some(job) = self.queue.remove(due) {
                    self.not_done(job, NotDone::Down, wait);
                }
                continue;
            }
            let reserve = if refresh { self.settings.quota.per_hour / RESERVE } else { 0 };
            if let Err(wait) = self.allowance.take(now, reserve) {
                // All that is of this kind waits for the quota; who cannot wait that long hears it now. Refreshes are
                // only looked at when no code is due, so nothing else is held up.
                let until = now + wait;
                for job in self.queue.iter_mut().filter(|job| !refresh || job.is_refresh()) {
                    job.not_before = job.not_before.max(until);
                    job.last = NotDone::Busy;
                }
                self.give_up_late(now);
                return None;
            }
            let mut job = self.queue.remove(due)?;
            self.allowance.begin(now);
            self.in_flight += 1;
            self.stats.attempts += 1;
            self.stats.retries += u64::from(job.attempts > 0);
            job.attempts += 1;
            return Some(job);
        }
        None
    }

    /// An attempt has ended: answers the caller, or puts the job back.
    pub fn ended(&mut self, now: Timestamp, mut job: Job, attempt: Attempt, rng: &mut impl Rng) {
        self.in_flight -= 1;
        match attempt {
            Attempt::Answered(_) | Attempt::Busy(_) => self.allowance.answered(),
            Attempt::Failed(_) | Attempt::Down(_) | Attempt::Lost => self.allowance.failed(now),
        }
        let (why, retry_at) = match attempt {
            Attempt::Answered(answer) | Attempt::Failed(answer) => {
                self.stats.answered += 1;
                return job.reply.send(Exchanged::Answered(answer));
            }
            Attempt::Lost => {
                self.stats.lost += 1;
                return job.reply.send(Exchanged::Lost);
            }
            Attempt::Busy(retry_at) => (NotDone::Busy, retry_at),
            Attempt::Down(retry_at) => (NotDone::Down, retry_at),
        };
        let retry_at = retry_at.map(|at| at.min(now + CLOSED_MAX));
        if let Some(at) = retry_at {
            self.allowance.close_until(at);
        }
        job.last = why;
        let backoff = now + backoff::delay(job.attempts, rng);
        job.not_before = retry_at.unwrap_or(backoff).max(backoff);
        // Ahead of later arrivals: it has waited longest.
        self.queue.push_front(job);
    }

    /// When something is to be done next, unless an answer comes first.
    pub fn next_wake(&self) -> Option<Timestamp> {
        // While every place is taken, only a deadline can call for action before the next answer does.
        let free = self.in_flight < self.settings.in_flight.max(1);
        let next = |job: &Job| {
            let end = job.arrived + self.last_start() + Duration::from_millis(1);
            if free { job.not_before.min(end) } else { end }
        };
        self.queue.iter().map(next).min()
    }

    pub fn snapshot(&self, now: Timestamp) -> LaneSnapshot {
        LaneSnapshot {
            queued: self.queue.len(),
            in_flight: self.in_flight,
            used_this_hour: self.allowance.used_this_hour(),
            breaker_open: self.allowance.is_open(now),
            ..self.stats
        }
    }

    /// The job to start next: codes before refreshes, older before newer.
    fn next_due(&self, now: Timestamp) -> Option<usize> {
        let due = |job: &Job| job.not_before <= now;
        let code = self.queue.iter().position(|job| due(job) && !job.is_refresh());
        code.or_else(|| self.queue.iter().position(due))
    }

    /// Answers every job that cannot start while a whole attempt fits before its deadline.
    fn give_up_late(&mut self, now: Timestamp) {
        let limit = self.last_start();
        let (late, rest) = std::mem::take(&mut self.queue)
            .into_iter()
            .partition(|job: &Job| job.not_before.max(now) > job.arrived + limit);
        self.queue = rest;
        for job in Vec::from(late) {
            let (why, wait) = (job.last, job.not_before.since(now));
            self.not_done(job, why, wait);
        }
    }

    fn not_done(&mut self, job: Job, why: NotDone, wait: Duration) {
        self.stats.not_done += 1;
        job.reply.send(Exchanged::NotDone { why, retry_after: wait.max(Duration::from_secs(1)) });
    }

    /// How long after its arrival a job may start an attempt.
    fn last_start(&self) -> Duration {
        self.settings.deadline.saturating_sub(self.settings.attempt)
    }
}
