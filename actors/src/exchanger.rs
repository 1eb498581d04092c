//! **`TokenExchanger`**: the one door to Enedis' token endpoint.
//!
//! Owns the queue of token calls, the quota, the backoff and the circuit breaker; `ENEDIS_IN_FLIGHT` calls (one
//! by default) are under way at a time. Promises: a call is sent again only if Enedis certainly did not act on
//! it; every caller has an answer within the deadline; no attempt is begun that could not be waited for, because
//! hanging up on a healthy Enedis would burn the code; Enedis' quota and its `Retry-After` are kept. A person's
//! authorization code goes before devices' refreshes, and a tenth of each hour's quota is kept for it. Refuses at
//! once when the queue is full or the breaker is open: nothing was sent then.

mod backoff;
mod breaker;
pub mod quota;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;

use self::breaker::Breaker;
use self::quota::{Quota, QuotaSettings};
use crate::clock::{SharedClock, Timestamp};
use crate::gate::{AskError, Gate, Reply};
use crate::upstream::{Answer, CallError, Grant, Meaning, TokenCall, TokenEndpoint, meaning};

/// Calls that may wait at a time.
const QUEUE_MAX: usize = 4_096;
/// The share of each hour's quota that is kept for authorization codes: one in so many calls.
const RESERVE: u32 = 10;
/// What the handle waits beyond the call's own deadline.
const MARGIN: Duration = Duration::from_secs(2);
/// Enedis' windows are clock hours: a longer `Retry-After` is not believed.
const CLOSED_MAX: Duration = Duration::from_secs(3600);

/// How calls are paced and bounded.
#[derive(Clone, Copy, Debug)]
pub struct ExchangerSettings {
    /// Calls under way at a time (`ENEDIS_IN_FLIGHT`), at least 1.
    pub in_flight: usize,
    /// Enedis' quota.
    pub quota: QuotaSettings,
    /// Longest wait for one attempt (`ENEDIS_TIMEOUT_SECS`).
    pub attempt: Duration,
    /// Longest time from a call's arrival to its answer, all attempts included (`ENEDIS_DEADLINE_SECS`).
    pub deadline: Duration,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchanged {
    /// Enedis answered.
    Answered(Answer),
    /// Enedis may have acted on it, but no answer came back.
    Lost,
    /// Enedis did not act on it.
    NotDone {
        /// Why.
        why: NotDone,
        /// When it is worth another try.
        retry_after: Duration,
    },
}

/// Why a call was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDone {
    /// The quota is used up, or too much is waiting.
    Busy,
    /// Enedis does not answer, or says that it cannot.
    Down,
}

/// Counters of the exchanger since its start.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ExchangerSnapshot {
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

struct Job {
    call: TokenCall,
    reply: Reply<Exchanged>,
    arrived: Timestamp,
    not_before: Timestamp,
    attempts: u32,
    last: NotDone,
}

impl Job {
    fn is_refresh(&self) -> bool {
        matches!(self.call.grant, Grant::RefreshToken { .. })
    }
}

/// The actor. Reach it through [`TokenExchangerHandle`].
pub struct TokenExchanger {
    endpoint: Rc<dyn TokenEndpoint>,
    clock: SharedClock,
    settings: ExchangerSettings,
    quota: Quota,
    breaker: Breaker,
    queue: VecDeque<Job>,
    in_flight: usize,
    wake: Option<SpawnHandle>,
    rng: StdRng,
    stats: ExchangerSnapshot,
}

impl TokenExchanger {
    /// Starts the exchanger on `arbiter`. `endpoint` is made there, because HTTP clients stay on their thread.
    pub fn launch(
        arbiter: &ArbiterHandle,
        endpoint: impl FnOnce() -> Rc<dyn TokenEndpoint> + Send + 'static,
        clock: SharedClock,
        settings: ExchangerSettings,
        seed: [u8; 32],
    ) -> TokenExchangerHandle {
        let gate = Gate::new(QUEUE_MAX, settings.deadline + MARGIN);
        let addr = Self::start_in_arbiter(arbiter, move |_| Self {
            endpoint: endpoint(),
            quota: Quota::new(settings.quota, clock.now()),
            clock,
            settings,
            breaker: Breaker::default(),
            queue: VecDeque::new(),
            in_flight: 0,
            wake: None,
            rng: StdRng::from_seed(seed),
            stats: ExchangerSnapshot::default(),
        });
        TokenExchangerHandle { addr, gate }
    }

    /// Starts what may start, answers what is too late, and sets the alarm for the rest.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        self.give_up_late(now);
        while self.in_flight < self.settings.in_flight.max(1) {
            let Some(due) = self.next_due(now) else { break };
            let refresh = self.queue.get(due).is_some_and(Job::is_refresh);
            if let Err(wait) = self.breaker.check(now) {
                if let Some(job) = self.queue.remove(due) {
                    self.not_done(job, NotDone::Down, wait);
                }
                continue;
            }
            let reserve = if refresh { self.settings.quota.per_hour / RESERVE } else { 0 };
            if let Err(wait) = self.quota.take(now, reserve) {
                // All that is of this kind waits for the quota; who cannot wait that long hears it now. Refreshes are
                // only looked at when no code is due, so nothing else is held up.
                let until = now + wait;
                for job in self.queue.iter_mut().filter(|job| !refresh || job.is_refresh()) {
                    job.not_before = job.not_before.max(until);
                    job.last = NotDone::Busy;
                }
                self.give_up_late(now);
                break;
            }
            if let Some(job) = self.queue.remove(due) {
                self.attempt(job, ctx);
            }
        }
        self.set_alarm(now, ctx);
    }

    fn attempt(&mut self, mut job: Job, ctx: &mut Context<Self>) {
        self.breaker.begin();
        self.in_flight += 1;
        self.stats.attempts += 1;
        self.stats.retries += u64::from(job.attempts > 0);
        job.attempts += 1;
        let call = self.endpoint.call(job.call.clone(), self.settings.attempt);
        ctx.spawn(call.into_actor(self).map(move |result, act, ctx| {
            act.in_flight -= 1;
            act.judge(job, result);
            act.pump(ctx);
        }));
    }

    fn judge(&mut self, mut job: Job, result: Result<Answer, CallError>) {
        let now = self.clock.now();
        let throttled = matches!(&result, Ok(answer) if answer.status == 429);
        match &result {
            Ok(answer) if answer.status < 500 => self.breaker.answered(),
            Ok(answer) => {
                tracing::warn!(status = answer.status, "Enedis' token endpoint is in trouble");
                self.breaker.failed(now);
            }
            Err(error) => {
                tracing::warn!(%error, "Enedis' token endpoint did not answer");
                self.breaker.failed(now);
            }
        }
        match meaning(result) {
            Meaning::Final(answer) => {
                self.stats.answered += 1;
                job.reply.send(Exchanged::Answered(answer));
            }
            Meaning::Lost => {
                self.stats.lost += 1;
                job.reply.send(Exchanged::Lost);
            }
            Meaning::Again(retry_at) => {
                let retry_at = retry_at.map(|at| at.min(now + CLOSED_MAX));
                if let Some(at) = retry_at {
                    self.quota.close_until(at);
                }
                job.last = if throttled { NotDone::Busy } else { NotDone::Down };
                let backoff = now + backoff::delay(job.attempts, &mut self.rng);
                job.not_before = retry_at.unwrap_or(backoff).max(backoff);
                // Ahead of later arrivals: it has waited longest.
                self.queue.push_front(job);
            }
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

    fn set_alarm(&mut self, now: Timestamp, ctx: &mut Context<Self>) {
        if let Some(alarm) = self.wake.take() {
            ctx.cancel_future(alarm);
        }
        // While every lane is taken, only a deadline can call for action before the next answer does.
        let lanes_free = self.in_flight < self.settings.in_flight.max(1);
        let next = |job: &Job| {
            let end = job.arrived + self.last_start() + Duration::from_millis(1);
            if lanes_free { job.not_before.min(end) } else { end }
        };
        if let Some(at) = self.queue.iter().map(next).min() {
            let wait = at.since(now).max(Duration::from_millis(1));
            self.wake = Some(ctx.run_later(wait, Self::pump));
        }
    }
}

impl Actor for TokenExchanger {
    type Context = Context<Self>;
}

/// Send one call to the token endpoint. Sent by the consent workflow and by `POST /device/proxy`; the answer
/// says whether Enedis may have acted on it.
struct CallEnedis {
    call: TokenCall,
    reply: Reply<Exchanged>,
}

impl Message for CallEnedis {
    type Result = ();
}

impl Handler<CallEnedis> for TokenExchanger {
    type Result = ();

    // Synchronous: queues; the attempt's future answers and interleaves with later messages.
    fn handle(&mut self, msg: CallEnedis, ctx: &mut Self::Context) {
        let now = self.clock.now();
        self.queue.push_back(Job {
            call: msg.call,
            reply: msg.reply,
            arrived: now,
            not_before: now,
            attempts: 0,
            last: NotDone::Busy,
        });
        self.pump(ctx);
    }
}

/// Read the counters. Sent by the metrics; answered at once.
struct Observe {
    reply: Reply<ExchangerSnapshot>,
}

impl Message for Observe {
    type Result = ();
}

impl Handler<Observe> for TokenExchanger {
    type Result = ();

    fn handle(&mut self, msg: Observe, _: &mut Self::Context) {
        msg.reply.send(ExchangerSnapshot {
            queued: self.queue.len(),
            in_flight: self.in_flight,
            used_this_hour: self.quota.used_this_hour(),
            breaker_open: self.breaker.is_open(self.clock.now()),
            ..self.stats
        });
    }
}

/// The way to the exchanger.
#[derive(Clone)]
pub struct TokenExchangerHandle {
    addr: Addr<TokenExchanger>,
    gate: Gate,
}

impl TokenExchangerHandle {
    /// Sends one call and says how it ended, within the deadline of the settings.
    pub async fn call(&self, call: TokenCall) -> Exchanged {
        match self.gate.ask(|reply| self.addr.do_send(CallEnedis { call, reply })).await {
            Ok(exchanged) => exchanged,
            Err(AskError::Overloaded) => {
                Exchanged::NotDone { why: NotDone::Busy, retry_after: Duration::from_secs(5) }
            }
            // It may be on its way: nobody may present it again.
            Err(AskError::Timeout | AskError::Stopped) => Exchanged::Lost,
        }
    }

    /// The exchanger's counters.
    pub async fn snapshot(&self) -> Result<ExchangerSnapshot, AskError> {
        self.gate.ask(|reply| self.addr.do_send(Observe { reply })).await
    }
}
