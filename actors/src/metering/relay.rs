//! **`MeterRelay`**: answers boxes' questions for metering data, from memory where it can, from Enedis where it must.
//!
//! The actor does what its core (`relay/core.rs`) decides: it looks into the store and writes to it, sends calls, asks for
//! the application's token, and answers. It owns the callers' replies, and an alarm. Promises: a request has an answer
//! within [`WAIT`] and a little; equal calls are one call; one box cannot keep the others waiting; Enedis' quota is kept;
//! what Enedis' gateway says of itself is never an answer about a meter. Refuses with [`Relayed::Busy`] when a call could not be sent in time, at no cost at
//! Enedis, and with [`Relayed::Unavailable`] when Enedis does not answer; what other calls of the request brought is
//! kept, so that the next try costs less.

mod core;
mod counters;
mod held;
mod last_asked;
mod prefetch;
mod sealed_cache;
mod shares;
mod troubles;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::task::JoinHandle;

use self::core::{Core, Effect, Event, Question};
pub use self::counters::{ApiSnapshot, RelaySnapshot};
use crate::base::admission::{Admission, AskError, Observe, Reply};
use crate::base::aside::{Resume, aside};
use crate::base::clock::{SharedClock, Timestamp};
use crate::base::keyring::{CacheKey, Keyring};
use crate::base::meter::Meter;
use crate::base::timer::every;
use crate::enedis::exchanger::TokenExchangerHandle;
use crate::limits::quota::QuotaSettings;
use crate::limits::shared_quota::SharedQuota;
use crate::metering::api_choice::ApiMode;
use crate::metering::cache::{CacheEntry, MeterCache};
use crate::metering::queue::WAIT;
use crate::metering::request::MeterRequest;
use crate::metering::resource_server::{DataError, ResourceServer};
use crate::metering::tokens::TokenStore;

/// What a box is told to wait where nothing better is known: the plugin asks again by itself some seconds later.
pub const COME_BACK: Duration = Duration::from_secs(10);
/// Requests that may wait at a time.
const REQUESTS_MAX: usize = 20_000;
/// What the handle waits beyond [`WAIT`]: the look into the store.
const MARGIN: Duration = Duration::from_secs(4);
/// Longest wait for the stored cache.
const CACHE_PATIENCE: Duration = Duration::from_secs(2);
/// How often callers that have hung up are looked for: they say nothing.
const LOOK_FOR_HANG_UPS: Duration = Duration::from_millis(500);
/// How often the stored cache is brought back to its bound.
const EVICT_EVERY: Duration = Duration::from_secs(60);
/// Under which name instances take turns to ask by themselves.
const TURNS: &str = "prefetch";
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
    /// `PREFETCH`.
    pub prefetch: bool,
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

/// The actor. Reach it through [`MeterRelayHandle`].
pub struct MeterRelay {
    core: Core,
    server: Rc<dyn ResourceServer>,
    store: Arc<dyn MeterCache>,
    exchanger: TokenExchangerHandle,
    clock: SharedClock,
    /// Where instances count their calls together.
    shared: Option<SharedQuota>,
    grants: Option<Arc<dyn TokenStore>>,
    keys: Arc<Keyring>,
    settings: RelaySettings,
    callers: HashMap<u64, Reply<Relayed>>,
    serial: u64,
    looked_for_hang_ups: Timestamp,
    /// Writes the store has not answered.
    writing: usize,
    evicting: bool,
    alarm: Option<JoinHandle<()>>,
}

/// What the relay is made of.
pub struct RelayPorts {
    /// Makes the client of Enedis' data APIs, on the relay's thread.
    pub server: Box<dyn FnOnce() -> Rc<dyn ResourceServer> + Send>,
    /// The stored cache.
    pub cache: Arc<dyn MeterCache>,
    /// Gives the application's token.
    pub exchanger: TokenExchangerHandle,
    /// Where instances count their calls together.
    pub quota: Option<SharedQuota>,
    /// Which meters have a consent; `None`: that is not known, and after a restart nothing is asked before a box does.
    pub grants: Option<Arc<dyn TokenStore>>,
    /// The clock.
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
                core: Core::new(settings, Arc::clone(&ports.keys), seed, now),
                server: (ports.server)(),
                store: ports.cache,
                exchanger: ports.exchanger,
                clock: ports.clock,
                shared: ports.quota,
                grants: ports.grants,
                keys: ports.keys,
                settings,
                callers: HashMap::new(),
                serial: 0,
                looked_for_hang_ups: now,
                writing: 0,
                evicting: false,
                alarm: None,
            }
        });
        MeterRelayHandle { addr, admission: Admission::new(REQUESTS_MAX, WAIT + MARGIN) }
    }

    /// Tells the core what happened, and does what it decides.
    fn tell(&mut self, event: Event, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        if let Some(shared) = &self.shared {
            self.core.share(shared.instances());
        }
        let gone = self.hung_up(now, &event);
        if !gone.is_empty() {
            for id in &gone {
                self.callers.remove(id);
            }
            for effect in self.core.handle(now, self.clock.wall(), Event::HungUp(gone)) {
                self.perform(now, effect, ctx);
            }
        }
        for effect in self.core.handle(now, self.clock.wall(), event) {
            self.perform(now, effect, ctx);
        }
    }

    /// Callers that were found to have hung up. All are looked at now and then, the one an event is about at once.
    fn hung_up(&mut self, now: Timestamp, event: &Event) -> Vec<u64> {
        if now.since(self.looked_for_hang_ups) >= LOOK_FOR_HANG_UPS {
            self.looked_for_hang_ups = now;
            let gone = self.callers.iter().filter(|(_, reply)| reply.is_abandoned());
            return gone.map(|(id, _)| *id).collect();
        }
        let found = if let Event::Found { id, .. } = event { Some(*id) } else { None };
        found.filter(|id| self.callers.get(id).is_some_and(Reply::is_abandoned)).into_iter().collect()
    }

    fn perform(&mut self, now: Timestamp, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::Answer { id, relayed } => {
                if let Some(reply) = self.callers.remove(&id) {
                    reply.send(relayed);
                }
            }
            Effect::Look { id, keys } => {
                let look = look(Arc::clone(&self.store), keys, self.clock.wall());
                let found = async move { Event::Found { id, entries: look.await } };
                Self::follow(ctx, found);
            }
            Effect::Send(call) => {
                let (server, limit) = (Rc::clone(&self.server), self.settings.attempt);
                Self::follow(ctx, async move {
                    let verdict = server.read(call.question(), limit).await;
                    Event::Ended { call, verdict }
                });
            }
            Effect::AcquireToken { rejected } => {
                let exchanger = self.exchanger.clone();
                Self::follow(ctx, async move { Event::Token(exchanger.acquire(rejected).await) });
            }
            Effect::Write(entries) => self.write(None, entries, ctx),
            Effect::Forget { owner, then } => self.write(Some(owner), then, ctx),
            Effect::Lease { api, wish } => {
                let shared = self.shared.clone();
                Self::follow(ctx, async move {
                    let lease = match shared {
                        Some(shared) => shared.lease(api.name(), wish).await,
                        None => None,
                    };
                    Event::Leased { api, wish, lease }
                });
            }
            Effect::Claim(turn) => {
                let shared = self.shared.clone();
                Self::follow(ctx, async move {
                    let is_ours = match shared {
                        Some(shared) => shared.take_turn(TURNS, turn).await,
                        None => Some(true),
                    };
                    Event::Claimed { turn, is_ours }
                });
            }
            Effect::ReadHeld => {
                let (grants, keys, now) = (self.grants.clone(), Arc::clone(&self.keys), self.clock.wall());
                Self::follow(ctx, async move { Event::Held(held::read(grants, &keys, now).await) });
            }
            Effect::WakeAt(at) => {
                if let Some(alarm) = self.alarm.take() {
                    alarm.abort();
                }
                self.alarm = at.map(|at| {
                    // A task of its own: a timer inside an actor would keep it alive when nobody can ask any more.
                    let (wait, actor) =
                        (at.since(now).max(Duration::from_millis(1)), ctx.address().downgrade());
                    actix_rt::spawn(async move {
                        tokio::time::sleep(wait).await;
                        if let Some(actor) = actor.upgrade() {
                            actor.do_send(Wake);
                        }
                    })
                });
            }
        }
    }

    /// Tells the core what a future comes to.
    fn follow(ctx: &Context<Self>, event: impl Future<Output = Event> + 'static) {
        aside(ctx, event, |event, relay: &mut Self, ctx| relay.tell(event, ctx));
    }

    /// Writes, after what is stored of an owner was deleted, if one is named.
    fn write(&mut self, forget: Option<CacheKey>, entries: Vec<CacheEntry>, ctx: &Context<Self>) {
        let store = Arc::clone(&self.store);
        let put = async move {
            if let Some(owner) = forget {
                store.forget(owner).await?;
            }
            store.put(entries).await
        };
        self.writing += 1;
        aside(ctx, put, |put, relay: &mut Self, _| {
            relay.writing -= 1;
            if let Err(error) = put {
                tracing::warn!(%error, "the meter cache could not be written; values will be asked for again");
            }
        });
    }
}

/// What the store has of `keys`; `None` if it does not answer. A miss costs a call, no more.
async fn look(store: Arc<dyn MeterCache>, keys: Vec<CacheKey>, now: Timestamp) -> Option<Vec<CacheEntry>> {
    match tokio::time::timeout(CACHE_PATIENCE, store.get(keys, now)).await {
        Ok(Ok(entries)) => return Some(entries),
        Ok(Err(error)) => tracing::warn!(%error, "the meter cache cannot be read"),
        Err(_) => tracing::warn!("the meter cache does not answer in time"),
    }
    None
}

impl Actor for MeterRelay {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        every(EVICT_EVERY, ctx.address().downgrade(), || Evict);
        self.tell(Event::Woken, ctx);
    }
}

/// Answer a question for metering data. Sent by `GET /data/proxy/…`; what is remembered of it is written to the store
/// in its own time.
#[derive(Message)]
#[rtype(result = "()")]
struct ReadMeter {
    question: Question,
    reply: Reply<Relayed>,
}

impl Handler<ReadMeter> for MeterRelay {
    type Result = ();

    // Synchronous: answers from memory, or goes on aside; later messages interleave.
    fn handle(&mut self, msg: ReadMeter, ctx: &mut Self::Context) {
        if !msg.reply.is_abandoned() {
            self.serial += 1;
            self.callers.insert(self.serial, msg.reply);
            self.tell(Event::Asked { id: self.serial, question: msg.question }, ctx);
        }
    }
}

/// Forget what is remembered of a meter. Sent when its owner consents anew; gone from the store before the answer, if
/// the store answers.
#[derive(Message)]
#[rtype(result = "()")]
struct ForgetMeter {
    meter: Meter,
    reply: Reply<()>,
}

impl Handler<ForgetMeter> for MeterRelay {
    type Result = ();

    // Memory at once; the store's future answers.
    fn handle(&mut self, msg: ForgetMeter, ctx: &mut Self::Context) {
        let (store, owner) = (Arc::clone(&self.store), self.core.forget(msg.meter));
        let forget = async move {
            if let Err(error) = store.forget(owner).await {
                tracing::warn!(%error, "what is remembered of a meter could not be deleted");
            }
            msg.reply.send(());
        };
        aside(ctx, forget, |(), _: &mut Self, _| {});
    }
}

impl Handler<Resume<Self>> for MeterRelay {
    type Result = ();

    fn handle(&mut self, msg: Resume<Self>, ctx: &mut Self::Context) {
        msg.run(self, ctx);
    }
}

/// Has Enedis refused what a request asks for since it last answered it? Sent for whoever is told how the request ended,
/// right after it did, so that it is in memory; changes nothing.
#[derive(Message)]
#[rtype(result = "()")]
struct TellRefusal {
    question: Question,
    reply: Reply<bool>,
}

impl Handler<TellRefusal> for MeterRelay {
    type Result = ();

    // Synchronous, from memory alone.
    fn handle(&mut self, TellRefusal { question, reply }: TellRefusal, _: &mut Self::Context) {
        reply.send(self.core.is_refused(question, self.clock.wall()));
    }
}

/// Look whether something is due. Sent by the relay's alarm; not waited for.
#[derive(Message)]
#[rtype(result = "()")]
struct Wake;

impl Handler<Wake> for MeterRelay {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Self::Context) {
        self.tell(Event::Woken, ctx);
    }
}

/// Bring the stored cache back to its bound. Sent by the relay's timer; not waited for.
#[derive(Message)]
#[rtype(result = "()")]
struct Evict;

impl Handler<Evict> for MeterRelay {
    type Result = ();

    fn handle(&mut self, _: Evict, ctx: &mut Self::Context) {
        if std::mem::replace(&mut self.evicting, true) {
            return;
        }
        let (store, clock) = (Arc::clone(&self.store), SharedClock::clone(&self.clock));
        let bound = self.settings.cache_max_bytes;
        let evict = async move {
            for _ in 0..EVICT_STEPS {
                // While the wall clock is in doubt, only what is beyond the bound goes.
                let now = if clock.is_reliable() { clock.wall() } else { Timestamp::EPOCH };
                match store.evict(now, bound).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(%error, "the meter cache could not be brought back to its bound");
                        break;
                    }
                }
            }
        };
        aside(ctx, evict, |(), relay: &mut Self, _| relay.evicting = false);
    }
}

impl Handler<Observe<RelaySnapshot>> for MeterRelay {
    type Result = ();

    fn handle(&mut self, msg: Observe<RelaySnapshot>, _: &mut Self::Context) {
        let counters = self.core.snapshot(self.clock.now());
        msg.reply.send(RelaySnapshot { writing: self.writing, ..counters });
    }
}

/// The way to the relay.
#[derive(Clone)]
pub struct MeterRelayHandle {
    addr: Addr<MeterRelay>,
    admission: Admission,
}

/// From when until when an owner's consent is good. By the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consent {
    /// When it was given.
    pub given: Timestamp,
    /// When it ends, and what is remembered with it.
    pub ends: Timestamp,
    /// Unless only the browser says that it is for this meter.
    pub is_proven: bool,
}

/// One whose end is not known.
impl From<Timestamp> for Consent {
    fn from(given: Timestamp) -> Self {
        Self { given, ends: Timestamp::from_millis(u64::MAX), is_proven: true }
    }
}

impl MeterRelayHandle {
    /// Answers `request`, of a box with this consent of its owner.
    pub async fn read(&self, request: MeterRequest, consent: impl Into<Consent>) -> Relayed {
        self.read_changed(request, consent, None).await
    }

    /// The same; of what there is, only the days whose values came after `changed_since`, if it is given. Perhaps none.
    pub async fn read_changed(
        &self,
        request: MeterRequest,
        consent: impl Into<Consent>,
        changed_since: Option<Timestamp>,
    ) -> Relayed {
        let Consent { given: consented, ends, is_proven } = consent.into();
        let question = Question { request, consented, ends, is_proven, changed_since };
        let asked = self.admission.ask(|reply| self.addr.do_send(ReadMeter { question, reply })).await;
        asked.unwrap_or_else(|error| match error {
            AskError::Overloaded | AskError::Timeout => Relayed::Busy { retry_after: WAIT },
            AskError::Stopped => Relayed::Unavailable { retry_after: WAIT },
        })
    }

    /// Whether Enedis has refused the direction of `request` since it last answered about it, as far as that is in memory.
    pub async fn is_refused(&self, request: MeterRequest, consent: Consent) -> bool {
        let Consent { given: consented, ends, is_proven } = consent;
        let question = Question { request, consented, ends, is_proven, changed_since: None };
        let asked = self.admission.ask(|reply| self.addr.do_send(TellRefusal { question, reply })).await;
        asked.unwrap_or(false)
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
