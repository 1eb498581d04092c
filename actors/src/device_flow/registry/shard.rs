//! One shard: the actor around the [`Table`] and the state machine of [`crate::device_flow::session`].
//!
//! Here is how a request finds its session, or waits for it, and what all requests have in common: exactly one answer
//! is given, at once or when the session is free. What each request does stands with its message;
//! `durable.rs` is how a change reaches the store and what happens when it does not.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::RegistrySnapshot;
use super::table::{Row, Table};
use crate::base::admission::{Observe, Reply};
use crate::base::aside::Resume;
use crate::base::clock::{SharedClock, Timestamp};
use crate::base::identity_hash::BuildIdentity;
use crate::base::keyring::{DeviceHash, Keyring};
use crate::base::timer::every;
use crate::device_flow::session::{Lifetimes, Session};
use crate::device_flow::store::{SessionKey, SessionStore};
use crate::device_flow::throttler::PollThrottler;
use crate::device_flow::writer::WriterHandle;

/// How often deadlines are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Sessions looked at in one go, to stay well under half a millisecond.
const SWEEP_LIMIT: usize = 2_000;

/// What a shard is made of.
#[derive(Clone)]
pub struct ShardPorts {
    /// Writes go through here.
    pub writer: WriterHandle,
    /// Reads of sessions that are not in memory.
    pub store: Arc<dyn SessionStore>,
    /// The clock.
    pub clock: SharedClock,
    /// Hashes and seals.
    pub keys: Arc<Keyring>,
    /// Deadlines.
    pub life: Lifetimes,
    /// Sessions that all shards hold at most.
    pub sessions_max: usize,
}

/// The actor. Reach it through [`super::CodeRegistryHandle`].
pub struct CodeRegistry {
    pub(super) ports: ShardPorts,
    // On the same thread, and alive as long as this actor.
    pub(super) throttler: Addr<PollThrottler>,
    pub(super) table: Table,
    // A session with a write under way, and the requests that wait for it.
    pub(super) busy: HashMap<DeviceHash, Vec<Box<dyn Waiting>>, BuildIdentity>,
    // Sessions whose stored state is in doubt: read again before anything is said.
    pub(super) suspects: HashSet<DeviceHash, BuildIdentity>,
    // Reads under way, and the requests that wait for them.
    pub(super) reading: HashMap<SessionKey, Vec<Box<dyn Waiting>>>,
    // Exchanges this process runs, and the reloads that wait for their end.
    pub(super) exchanging: HashMap<DeviceHash, Vec<Box<dyn Waiting>>, BuildIdentity>,
    // Codes marked as presented that were handed to nobody, because the store was too slow to say that they were
    // marked: given back before anything else is done with their sessions.
    pub(super) unpresented: HashMap<DeviceHash, Session, BuildIdentity>,
    // Device codes of which the store had nothing, or nothing newer than this shard, since the last sweep.
    pub(super) no_news: HashSet<DeviceHash, BuildIdentity>,
    pub(super) rng: StdRng,
    pub(super) stats: RegistrySnapshot,
}

impl CodeRegistry {
    /// A shard that starts out with the sessions of `table`, as the store had them.
    pub fn new(ports: ShardPorts, throttler: Addr<PollThrottler>, seed: [u8; 32], table: Table) -> Self {
        Self {
            ports,
            throttler,
            table,
            busy: HashMap::default(),
            suspects: HashSet::default(),
            reading: HashMap::default(),
            exchanging: HashMap::default(),
            unpresented: HashMap::default(),
            no_news: HashSet::default(),
            rng: StdRng::from_seed(seed),
            stats: RegistrySnapshot::default(),
        }
    }

    /// Runs a request now, or puts it where it waits for its session.
    pub(super) fn serve<R: SessionRequest>(&mut self, attempt: Attempt<R>, ctx: &mut Context<Self>) {
        let key = attempt.key;
        let Some(row) = self.table.row(&key) else {
            let is_missing = matches!(&key, SessionKey::Device(device) if self.no_news.contains(device));
            if self.ports.store.is_shared() && !attempt.looked_up && !is_missing {
                return self.look_up(key, attempt, ctx);
            }
            return attempt.answer(R::UNKNOWN);
        };
        let session = &self.table[row];
        let device = session.device;
        // Its end is final for the device: another instance may know of a decision that was not heard of here.
        let may_have_news =
            self.ports.store.is_shared() && !attempt.looked_up && !self.no_news.contains(&device);
        if self.suspects.contains(&device) || (may_have_news && session.is_expired(self.ports.clock.now())) {
            return self.look_up(SessionKey::Device(device), attempt, ctx);
        }
        if let Some(marked) = self.unpresented.remove(&device) {
            return self.give_back(&marked, attempt, ctx);
        }
        if let Some(waiting) = self.busy.get_mut(&device)
            && !R::overtakes_writes(session, self.ports.clock.now())
        {
            return waiting.push(Box::new(attempt));
        }
        R::run(attempt, row, self, ctx);
    }
}

/// A message about a session that exists, answered by [`CodeRegistry::serve`].
pub(super) trait SessionRequest: Sized + Send + 'static {
    /// What comes back.
    type Answer;
    /// The answer if no session has the key.
    const UNKNOWN: Self::Answer;
    /// The answer if the store is in trouble.
    const UNAVAILABLE: Self::Answer;

    /// The way back.
    fn into_reply(self) -> Reply<Self::Answer>;

    /// Deals with the request: the session lies in `row`, and nothing else is being done with it.
    fn run(attempt: Attempt<Self>, row: Row, shard: &mut CodeRegistry, ctx: &mut Context<CodeRegistry>);

    /// Whether a write of `session` that is under way makes no difference to the answer.
    fn overtakes_writes(_session: &Session, _now: Timestamp) -> bool {
        false
    }

    /// The request was answered as unavailable, and `next` may have become durable or not.
    fn left_in_doubt(_shard: &mut CodeRegistry, _next: Session) {}
}

/// A request, and what was tried for it.
pub(super) struct Attempt<R> {
    pub request: R,
    /// Leads to its session.
    pub key: SessionKey,
    /// Times that its change met another revision in the store.
    pub conflicts: u8,
    /// Whether the store was asked for its session.
    pub looked_up: bool,
}

impl<R: SessionRequest> Attempt<R> {
    pub fn first(key: SessionKey, request: R) -> Self {
        Self { request, key, conflicts: 0, looked_up: false }
    }

    pub fn answer(self, answer: R::Answer) {
        self.request.into_reply().send(answer);
    }
}

/// A request of any kind that waits for its session.
pub(super) trait Waiting {
    /// Goes on.
    fn resume(self: Box<Self>, shard: &mut CodeRegistry, ctx: &mut Context<CodeRegistry>);
    /// Gives up: the store is in trouble.
    fn give_up(self: Box<Self>);
}

impl<R: SessionRequest> Waiting for Attempt<R> {
    fn resume(self: Box<Self>, shard: &mut CodeRegistry, ctx: &mut Context<CodeRegistry>) {
        shard.serve(*self, ctx);
    }

    fn give_up(self: Box<Self>) {
        self.answer(R::UNAVAILABLE);
    }
}

impl Actor for CodeRegistry {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        every(SWEEP_EVERY, ctx.address().downgrade(), || Sweep);
    }
}

/// Forget what is past its deadline. Sent by the shard's own timer; nothing is written.
#[derive(Message)]
#[rtype(result = "()")]
struct Sweep;

impl Handler<Sweep> for CodeRegistry {
    type Result = ();

    // Synchronous, in steps.
    fn handle(&mut self, _: Sweep, ctx: &mut Self::Context) {
        self.no_news.clear();
        if self.table.sweep(self.ports.clock.now(), SWEEP_LIMIT) {
            ctx.notify_later(Sweep, Duration::from_millis(1));
        }
    }
}

impl Handler<Resume<Self>> for CodeRegistry {
    type Result = ();

    fn handle(&mut self, msg: Resume<Self>, ctx: &mut Self::Context) {
        msg.run(self, ctx);
    }
}

/// Take over what another instance made of a session. Sent by the task that follows other instances; nothing is written.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Learn {
    /// The session as stored.
    pub session: Session,
}

impl Handler<Learn> for CodeRegistry {
    type Result = ();

    // Synchronous.
    fn handle(&mut self, msg: Learn, _: &mut Self::Context) {
        let device = msg.session.device;
        let known = self.table.find(&SessionKey::Device(device)).map(|session| session.rev);
        if known.is_some_and(|rev| rev >= msg.session.rev) {
            return;
        }
        if self.busy.contains_key(&device) {
            // Our own write will find out, unless it comes to nothing.
            self.suspects.insert(device);
        } else if known.is_some() || !self.reading.is_empty() {
            if known.is_some() {
                let (phase, rev) = (msg.session.phase.word(), msg.session.rev);
                tracing::info!(target: "session", session = ?device, phase, rev, "done elsewhere");
            }
            // What is being looked up may be older than this. Else, what is unknown is looked up when somebody asks for it.
            self.table.put(msg.session);
        }
    }
}

impl Handler<Observe<RegistrySnapshot>> for CodeRegistry {
    type Result = ();

    // Synchronous.
    fn handle(&mut self, msg: Observe<RegistrySnapshot>, _: &mut Self::Context) {
        msg.reply.send(RegistrySnapshot { sessions: self.table.len(), ..self.stats });
    }
}
