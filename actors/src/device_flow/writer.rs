//! **`StoreWriter`**: commits concurrent writes in groups.
//!
//! Owns the queue in front of [`SessionStore::commit`]. A write that finds the store idle goes at once; those
//! that arrive while a group is under way form the next one, up to `WRITE_BATCH_MAX`. Promises: a reply means
//! the store has answered; replies to writes of one session come in the order they were sent, because a session
//! has at most one write under way (see [`crate::device_flow::registry`]). Refuses when too many writes wait: certainly
//! nothing was written then. Says when it is behind, so that new codes are refused before they wait, and leaves out what
//! nobody waits for any more: else a store slower than its load would work for those who have gone, and for nobody else.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::prelude::*;

use crate::base::admission::{Admission, AskError, Observe, Reply};
use crate::base::clock::{SharedClock, Timestamp};
use crate::base::store::{StoreError, Written};
use crate::base::timer::every;
use crate::device_flow::store::{SessionStore, Write};

/// Writes that may wait at a time; beyond it a device is told to come back.
const QUEUE_MAX: usize = 20_000;
/// Longest wait for the store. Shorter than a device's patience (30 s), so that the device hears of it.
const DEADLINE: Duration = Duration::from_secs(10);
/// A write that has waited so long for its turn is a sign that what comes now would wait as long.
const BEHIND: Duration = Duration::from_secs(1);
/// How often purgeable sessions are deleted where the store does not do so itself.
const PURGE_EVERY: Duration = Duration::from_secs(10);

type Outcome = Result<Written, StoreError>;

/// Counters of the writer since its start.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriterSnapshot {
    /// Writes waiting for a group.
    pub queued: usize,
    /// Writes the store has answered.
    pub writes: u64,
    /// Groups committed.
    pub groups: u64,
    /// Writes answered with an error.
    pub failed: u64,
    /// Sessions deleted past their tombstone.
    pub purged: u64,
}

/// The actor. Reach it through [`WriterHandle`].
pub struct StoreWriter {
    store: Arc<dyn SessionStore>,
    clock: SharedClock,
    batch_max: usize,
    commits_free: usize,
    queue: VecDeque<Queued>,
    // When the first of the queue came, in milliseconds; `u64::MAX`: nothing waits.
    waits_since: Arc<AtomicU64>,
    stats: WriterSnapshot,
}

/// A write that waits for its turn.
struct Queued {
    write: Write,
    reply: Reply<Outcome>,
    since: Timestamp,
}

impl StoreWriter {
    /// Starts the writer on the current thread's arbiter; groups hold at most `batch_max` writes.
    pub fn launch(store: Arc<dyn SessionStore>, clock: SharedClock, batch_max: usize) -> WriterHandle {
        let commits_free = store.commits_at_once().max(1);
        let waits_since = Arc::new(AtomicU64::new(u64::MAX));
        let addr = Self {
            store,
            clock,
            batch_max: batch_max.max(1),
            commits_free,
            queue: VecDeque::new(),
            waits_since: Arc::clone(&waits_since),
            stats: WriterSnapshot::default(),
        }
        .start();
        WriterHandle { addr, waits_since, admission: Admission::new(QUEUE_MAX, DEADLINE) }
    }

    fn pump(&mut self, ctx: &mut Context<Self>) {
        while self.commits_free > 0 {
            let (writes, replies) = self.next_group();
            if writes.is_empty() {
                break;
            }
            self.commits_free -= 1;
            let store = Arc::clone(&self.store);
            let commit = async move { store.commit(writes).await };
            ctx.spawn(commit.into_actor(self).map(move |outcomes, act, ctx| {
                act.commits_free += 1;
                act.stats.groups += 1;
                act.stats.writes += outcomes.len() as u64;
                act.stats.failed += outcomes.iter().filter(|o| o.is_err()).count() as u64;
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    reply.send(outcome);
                }
                act.pump(ctx);
            }));
        }
        let first = self.queue.front().map_or(u64::MAX, |queued| queued.since.as_millis());
        self.waits_since.store(first, Ordering::Relaxed);
    }

    /// The writes that go next, and the way back to each.
    fn next_group(&mut self) -> (Vec<Write>, Vec<Reply<Outcome>>) {
        let next = std::iter::from_fn(|| self.queue.pop_front());
        let wanted = next.filter(|queued| !queued.reply.is_abandoned()).take(self.batch_max);
        wanted.map(|Queued { write, reply, .. }| (write, reply)).unzip()
    }
}

impl Actor for StoreWriter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        every(PURGE_EVERY, ctx.address().downgrade(), || Purge);
    }
}

/// Delete sessions that are past their tombstone. Sent by the writer's own timer.
#[derive(Message)]
#[rtype(result = "()")]
struct Purge;

impl Handler<Purge> for StoreWriter {
    type Result = ();

    // Interleaves: the store deletes beside its commits.
    fn handle(&mut self, _: Purge, ctx: &mut Self::Context) {
        let (store, now) = (Arc::clone(&self.store), self.clock.now());
        let purge = async move { store.purge(now).await };
        ctx.spawn(purge.into_actor(self).map(|outcome, writer, _| match outcome {
            Ok(deleted) => writer.stats.purged += deleted,
            Err(error) => tracing::warn!(%error, "expired sessions could not be deleted; trying again later"),
        }));
    }
}

/// Make one write durable. Sent by the registry's shards; the reply says how it ended.
#[derive(Message)]
#[rtype(result = "()")]
struct CommitWrite {
    write: Write,
    reply: Reply<Outcome>,
}

impl Handler<CommitWrite> for StoreWriter {
    type Result = ();

    // Synchronous: queues; the group's future answers.
    fn handle(&mut self, msg: CommitWrite, ctx: &mut Self::Context) {
        let CommitWrite { write, reply } = msg;
        self.queue.push_back(Queued { write, reply, since: self.clock.now() });
        self.pump(ctx);
    }
}

impl Handler<Observe<WriterSnapshot>> for StoreWriter {
    type Result = ();

    fn handle(&mut self, msg: Observe<WriterSnapshot>, _: &mut Self::Context) {
        msg.reply.send(WriterSnapshot { queued: self.queue.len(), ..self.stats });
    }
}

/// The way to the writer.
#[derive(Clone)]
pub struct WriterHandle {
    addr: Addr<StoreWriter>,
    waits_since: Arc<AtomicU64>,
    admission: Admission,
}

impl WriterHandle {
    /// Makes one write durable and says how it ended.
    pub async fn commit(&self, write: Write) -> Outcome {
        let asked = self.admission.ask(|reply| self.addr.do_send(CommitWrite { write, reply })).await;
        asked.unwrap_or_else(|error| match error {
            AskError::Overloaded => Err(StoreError::Aborted(error.to_string())),
            AskError::Timeout | AskError::Stopped => Err(StoreError::Unknown(error.to_string())),
        })
    }

    /// Whether writes wait so long for their turn that what need not be begun had better not be.
    pub fn is_behind(&self, now: Timestamp) -> bool {
        now.since(Timestamp::from_millis(self.waits_since.load(Ordering::Relaxed))) > BEHIND
    }

    /// The writer's counters.
    pub async fn snapshot(&self) -> Result<WriterSnapshot, AskError> {
        self.admission.ask(|reply| self.addr.do_send(Observe { reply })).await
    }

    /// Writes under way or waiting.
    pub fn pending(&self) -> usize {
        self.admission.waiting()
    }
}
