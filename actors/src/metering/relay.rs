//! **`MeterRelay`**: answers boxes' questions for metering data, from memory where it can, from Enedis where it must.
//!
//! ```text
//!   ReadMeter ─▶ known days? ─▶ calls for the rest ─▶ fair queue ─▶ quota, breaker ─▶ Enedis (2026, else v5)
//!       ▲        memory, store                                                              │
//!       └── answer, once every call has ended ◀── waiters of the call ◀── days remembered ◀─┘
//! ```
//!
//! Owns the requests that wait, the queue of calls, one quota and one circuit breaker for each of Enedis' two data
//! APIs, the choice between them, and the part of the cache that is in memory; what is decided is decided by the pure
//! core in [`crate::metering`]. Promises: a request has an answer within [`WAIT`] and a little; equal calls are one
//! call; one box cannot keep the others waiting; Enedis' quota is kept; what Enedis' gateway says of itself is never
//! an answer about a meter. Refuses with [`Relayed::Busy`] when a call could not be sent in time, at no cost at
//! Enedis, and with [`Relayed::Unavailable`] when Enedis does not answer; what other calls of the request brought is
//! kept, so that the next try costs less.

mod calls;
mod caps;
mod counters;
mod memory;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use jiff::civil::Date;

use self::caps::Caps;
pub use self::counters::{ApiSnapshot, RelaySnapshot};
use self::memory::{Known, Memory};
use crate::base::admission::{Admission, AskError, Reply};
use crate::base::clock::{SharedClock, Timestamp};
use crate::base::keyring::Keyring;
use crate::base::meter::Meter;
use crate::enedis::exchanger::TokenExchangerHandle;
use crate::enedis::port::Bearer;
use crate::limits::allowance::Allowance;
use crate::limits::fair_queue::{FairQueue, Offered};
use crate::limits::quota::QuotaSettings;
use crate::metering::api_choice::{Api, ApiChooser, ApiMode};
use crate::metering::cache::MeterCache;
use crate::metering::civil::today;
use crate::metering::day::Day;
use crate::metering::queue::{self, WAIT};
use crate::metering::refusals::{Belief, Census, is_young};
use crate::metering::request::MeterRequest;
use crate::metering::resource_server::{DataError, ResourceServer};
use crate::metering::split::{self, Merged, Trouble};

/// What a box is told to wait where nothing better is known: the plugin asks again by itself some seconds later.
pub const COME_BACK: Duration = Duration::from_secs(10);
/// How long trouble is taken for short. The plugin asks again three times, within some two minutes, if it is told 429;
/// told 503, it gives up for an hour.
const SHORT: Duration = Duration::from_secs(120);
/// Shortest wait a box is told.
const BUSY_MIN: Duration = Duration::from_secs(1);
/// What a box is told to wait while Enedis does not answer. The plugin comes back after an hour anyway.
const DOWN_RETRY: Duration = Duration::from_secs(60);
/// Requests that may wait at a time.
const REQUESTS_MAX: usize = 20_000;
/// What the handle waits beyond [`WAIT`]: the look into the store.
const MARGIN: Duration = Duration::from_secs(4);
/// What a box is told to wait whose consent is believed gone while Enedis refuses everybody.
const MASS_PAUSE: Duration = Duration::from_secs(3_600);
/// Longest wait for the stored cache.
const CACHE_PATIENCE: Duration = Duration::from_secs(2);
/// How often the stored cache is brought back to its bound.
const EVICT_EVERY: Duration = Duration::from_secs(60);
/// Steps of one eviction.
const EVICT_STEPS: usize = 200;

/// How the relay behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelaySettings {
    /// `ENEDIS_API_MODE`.
    pub mode: ApiMode,
    /// Enedis' quota, of each API.
    pub quota: QuotaSettings,
    /// Longest wait for one attempt (`ENEDIS_TIMEOUT_SECS`).
    pub attempt: Duration,
    /// Bound of the stored cache, in bytes of sealed values (`METER_CACHE_MAX_MB`).
    pub cache_max_bytes: u64,
    /// Bound of the part in memory, in bytes.
    pub memory_max_bytes: usize,
}

/// What a box is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relayed {
    /// 200, a v5 answer as JSON.
    Answer(String),
    /// Enedis' own error about this meter's data, with its status.
    Error(DataError),
    /// 429: the quota, too much waiting, or trouble that has just begun.
    Busy {
        /// When to come back.
        retry_after: Duration,
    },
    /// 503: Enedis does not answer.
    Unavailable {
        /// When to come back.
        retry_after: Duration,
    },
}

/// A request that waits for its calls.
struct Asked {
    request: MeterRequest,
    consented: Timestamp,
    days: BTreeMap<Date, Day>,
    errors: Vec<DataError>,
    troubles: Vec<Trouble>,
    outstanding: usize,
    reply: Reply<Relayed>,
}

/// The actor. Reach it through [`MeterRelayHandle`].
pub struct MeterRelay {
    server: Rc<dyn ResourceServer>,
    exchanger: TokenExchangerHandle,
    clock: SharedClock,
    settings: RelaySettings,
    chooser: ApiChooser,
    allowances: [Allowance; 2],
    queue: FairQueue<Meter, MeterRequest, u64>,
    asked: HashMap<u64, Asked>,
    serial: u64,
    memory: Memory,
    census: Census,
    caps: Caps,
    /// The application's token, and when it was acquired.
    bearer: Option<(Bearer, Timestamp)>,
    /// One that Enedis has just not accepted.
    rejected: Option<Bearer>,
    acquiring: bool,
    /// Until then there is none, and it is not asked for.
    no_token_until: Timestamp,
    looked_for_gone: Timestamp,
    evicting: bool,
    wake: Option<SpawnHandle>,
    stats: RelaySnapshot,
}

/// What the relay is made of.
pub struct RelayPorts {
    /// Makes the client of Enedis' data APIs, on the relay's thread.
    pub server: Box<dyn FnOnce() -> Rc<dyn ResourceServer> + Send>,
    /// The stored cache.
    pub cache: Arc<dyn MeterCache>,
    /// Gives the application's token.
    pub exchanger: TokenExchangerHandle,
    /// Wall time.
    pub clock: SharedClock,
    /// Hashes and seals.
    pub keys: Arc<Keyring>,
}

impl MeterRelay {
    /// Starts the relay on `arbiter`.
    pub fn launch(
        arbiter: &ArbiterHandle,
        ports: RelayPorts,
        settings: RelaySettings,
        seed: [u8; 32],
    ) -> MeterRelayHandle {
        let addr = Self::start_in_arbiter(arbiter, move |_| {
            let now = ports.clock.now();
            Self {
                server: (ports.server)(),
                exchanger: ports.exchanger,
                clock: ports.clock,
                settings,
                chooser: ApiChooser::new(settings.mode),
                allowances: [Api::New, Api::Legacy].map(|_| Allowance::new(settings.quota, now)),
                queue: FairQueue::new(queue::settings(settings.quota)),
                asked: HashMap::new(),
                serial: 0,
                memory: Memory::new(ports.cache, ports.keys, settings.memory_max_bytes, seed),
                census: Census::default(),
                caps: Caps::new(settings.quota.per_hour),
                bearer: None,
                rejected: None,
                acquiring: false,
                no_token_until: Timestamp::EPOCH,
                looked_for_gone: now,
                evicting: false,
                wake: None,
                stats: RelaySnapshot::default(),
            }
        });
        MeterRelayHandle { addr, admission: Admission::new(REQUESTS_MAX, WAIT + MARGIN) }
    }

    /// Decides what a request needs, now that what is known of its days is at hand.
    fn proceed(&mut self, msg: ReadMeter, known: Known, ctx: &mut Context<Self>) {
        let ReadMeter { request, consented, reply } = msg;
        if reply.is_abandoned() {
            return;
        }
        let now = self.clock.now();
        let today = today(now);
        let Known { days, refusal, doubt, since } = known;
        let mut calls = split::calls(request, today, |day| days.contains_key(&day));
        if let (Some(call), Some(since), None) = (calls.first_mut(), since, &refusal) {
            *call = split::widened(*call, since, today);
        }
        let mut asked = Asked {
            request,
            consented,
            days,
            errors: Vec::new(),
            troubles: Vec::new(),
            outstanding: 0,
            reply,
        };
        match doubt.judge(now, consented) {
            Belief::Gone if !self.census.is_mass(now) => {
                asked.errors.push(DataError::no_consent());
                return self.settle(asked, false);
            }
            Belief::Doubtful(retry_after) if !calls.is_empty() => {
                return asked.reply.send(Relayed::Unavailable { retry_after });
            }
            Belief::Gone if !calls.is_empty() => {
                return asked.reply.send(Relayed::Unavailable { retry_after: MASS_PAUSE });
            }
            Belief::Ask | Belief::Doubtful(_) | Belief::Gone => {}
        }
        // Nothing shows that Enedis opens this meter, and most of what was tried of that kind today was in vain.
        let is_stranger =
            asked.days.is_empty() && refusal.is_none() && !self.census.has_answered(request.meter, now);
        let wait = if is_stranger { self.caps.strangers_wait(now) } else { None };
        if let Some(wait) = wait.filter(|_| is_young(now, consented)) {
            asked.troubles.push(Trouble::Busy { until: now + wait });
            return self.settle(asked, false);
        }
        self.serial += 1;
        let id = self.serial;
        for call in &calls {
            if let Some(error) = refusal.as_ref().and_then(|refusal| refusal.answers(*call)) {
                asked.errors.push(error.clone());
                continue;
            }
            if let Some(wait) = self.caps.wait(call.meter, now) {
                asked.troubles.push(Trouble::Busy { until: now + wait });
                break;
            }
            let priority = queue::priority(*call, today);
            let allowance = &self.allowances[self.chooser.preferred(now) as usize];
            match self.queue.offer(now, &call.meter, call, priority, id, |ahead, limit| {
                allowance.look_ahead(now, ahead, limit)
            }) {
                Ok(offered) => {
                    asked.outstanding += 1;
                    self.stats.shared += u64::from(offered == Offered::Joined);
                }
                Err(_) if allowance.is_open(now) => asked.troubles.push(Trouble::Down),
                Err(retry_after) => {
                    asked.troubles.push(Trouble::Busy { until: now + retry_after });
                    // The rest would wait behind it.
                    break;
                }
            }
        }
        if asked.outstanding == 0 {
            let from_memory = asked.troubles.is_empty();
            return self.settle(asked, from_memory);
        }
        self.asked.insert(id, asked);
        self.pump(ctx);
    }

    /// Answers a request whose calls have all ended.
    fn settle(&mut self, asked: Asked, from_memory: bool) {
        let relayed = match split::merge(asked.request, &asked.days, &asked.errors, &asked.troubles) {
            Merged::Answer(answer) => Relayed::Answer(answer.to_body()),
            Merged::Error(error) => Relayed::Error(error),
            Merged::Trouble(trouble) => self.trouble(trouble),
        };
        self.stats.from_memory += u64::from(from_memory);
        asked.reply.send(relayed);
    }

    /// What a box is told of trouble: while it is young, to ask again at once.
    fn trouble(&self, trouble: Trouble) -> Relayed {
        let now = self.clock.now();
        let allowance = &self.allowances[self.chooser.preferred(now) as usize];
        match trouble {
            Trouble::Busy { until } => Relayed::Busy { retry_after: until.since(now).max(BUSY_MIN) },
            Trouble::Down if allowance.in_trouble_for(now) < SHORT => {
                Relayed::Busy { retry_after: COME_BACK }
            }
            Trouble::Down | Trouble::Closed => Relayed::Unavailable { retry_after: DOWN_RETRY },
        }
    }

    fn evict(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.evicting, true) {
            return;
        }
        let (cache, clock, bound) =
            (self.memory.cache(), SharedClock::clone(&self.clock), self.settings.cache_max_bytes);
        let evict = async move {
            for _ in 0..EVICT_STEPS {
                match cache.evict(clock.now(), bound).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(%error, "the meter cache could not be brought back to its bound");
                        break;
                    }
                }
            }
        };
        ctx.spawn(evict.into_actor(self).map(|(), act, _| act.evicting = false));
    }
}

impl Actor for MeterRelay {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(EVICT_EVERY, Self::evict);
        // Before the first question: the hour may have been begun by a process before this one.
        let keys = [Api::New, Api::Legacy].map(|api| self.memory.usage_key(api));
        let (cache, now) = (self.memory.cache(), self.clock.now());
        let found = async move { tokio::time::timeout(CACHE_PATIENCE, cache.get(keys.to_vec(), now)).await };
        ctx.wait(found.into_actor(self).map(move |found, act, _| {
            let Ok(Ok(entries)) = found else {
                return tracing::warn!("the quota used before the start is not known");
            };
            for entry in entries {
                let at = keys.iter().position(|key| *key == entry.key);
                if let (Some(at), Some(usage)) = (at, act.memory.usage(entry)) {
                    act.allowances[at].resume(usage);
                }
            }
        }));
    }
}

/// Answer a question for metering data. Sent by `GET /data/proxy/…`; what is remembered of it is written to the store
/// in its own time.
struct ReadMeter {
    request: MeterRequest,
    /// When the owner consented, as the box's token says.
    consented: Timestamp,
    reply: Reply<Relayed>,
}

impl Message for ReadMeter {
    type Result = ();
}

impl Handler<ReadMeter> for MeterRelay {
    type Result = ();

    // Synchronous: answers from memory, or spawns futures that interleave with later messages.
    fn handle(&mut self, msg: ReadMeter, ctx: &mut Self::Context) {
        let now = self.clock.now();
        let mut look = self.memory.look(msg.request, msg.consented, now);
        if look.missing.is_empty() {
            return self.proceed(msg, look.known, ctx);
        }
        let (cache, missing) = (self.memory.cache(), std::mem::take(&mut look.missing));
        let found = async move { tokio::time::timeout(CACHE_PATIENCE, cache.get(missing, now)).await };
        ctx.spawn(found.into_actor(self).map(move |found, act, ctx| {
            // A miss costs a call, no more.
            match found {
                Ok(Ok(entries)) => {
                    let now = act.clock.now();
                    act.memory.take_in(entries, &mut look.known, msg.request, msg.consented, now);
                }
                Ok(Err(error)) => tracing::warn!(%error, "the meter cache cannot be read"),
                Err(_) => tracing::warn!("the meter cache does not answer in time"),
            }
            act.proceed(msg, look.known, ctx);
        }));
    }
}

/// Forget what is remembered of a meter. Sent by the consent workflow when its owner consents anew; gone from the
/// store before the answer, if the store answers.
struct ForgetMeter {
    meter: Meter,
    reply: Reply<()>,
}

impl Message for ForgetMeter {
    type Result = ();
}

impl Handler<ForgetMeter> for MeterRelay {
    type Result = ();

    // Memory at once; the store's future answers.
    fn handle(&mut self, msg: ForgetMeter, ctx: &mut Self::Context) {
        let forgotten = self.memory.forget(msg.meter);
        let forget = async move {
            if let Err(error) = forgotten.await {
                tracing::warn!(%error, "what is remembered of a meter could not be deleted");
            }
            msg.reply.send(());
        };
        ctx.spawn(forget.into_actor(self));
    }
}

/// Read the counters. Sent by the metrics; answered at once.
struct Observe {
    reply: Reply<RelaySnapshot>,
}

impl Message for Observe {
    type Result = ();
}

impl Handler<Observe> for MeterRelay {
    type Result = ();

    fn handle(&mut self, msg: Observe, _: &mut Self::Context) {
        msg.reply.send(self.snapshot());
    }
}

/// The way to the relay.
#[derive(Clone)]
pub struct MeterRelayHandle {
    addr: Addr<MeterRelay>,
    admission: Admission,
}

impl MeterRelayHandle {
    /// Answers `request`, of a box whose owner consented at `consented`.
    pub async fn read(&self, request: MeterRequest, consented: Timestamp) -> Relayed {
        let asked =
            self.admission.ask(|reply| self.addr.do_send(ReadMeter { request, consented, reply })).await;
        asked.unwrap_or_else(|error| match error {
            AskError::Overloaded | AskError::Timeout => Relayed::Busy { retry_after: WAIT },
            AskError::Stopped => Relayed::Unavailable { retry_after: WAIT },
        })
    }

    /// Forgets what is remembered of `meter`. Best effort: a store that does not answer only delays it.
    pub async fn forget(&self, meter: Meter) {
        if self.admission.ask(|reply| self.addr.do_send(ForgetMeter { meter, reply })).await.is_err() {
            tracing::warn!("what is remembered of a meter could not be forgotten in time");
        }
    }

    /// Waits until what was remembered has been written, or could not be.
    pub async fn idle(&self) {
        while self.snapshot().await.is_ok_and(|snapshot| snapshot.writing > 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The relay's counters.
    pub async fn snapshot(&self) -> Result<RelaySnapshot, AskError> {
        self.admission.ask(|reply| self.addr.do_send(Observe { reply })).await
    }
}
