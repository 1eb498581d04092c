//! **`CodeRegistry`**: owns the pending device sessions, sharded, written through to the store.
//!
//! A shard answers from memory and makes every change durable before it replies: *store first, memory second,
//! reply last*. All keys of a session (device code, user code, `state`) share a slot and therefore a shard, so
//! one message finds it by any of them. Work on one session is done one piece at a time; sessions do not wait
//! for each other. A pending poll costs no store operation.
//!
//! If the store's answer to a write is lost, the shard forgets what it believed and reads the session again
//! before it says anything more about it. Where several instances share a store, a session unknown here is
//! looked up there, and decisions taken elsewhere arrive through [`CodeRegistryHandle::learn`]. What did not
//! arrive is found before it is too late: no session is called expired that was not read again.

mod check;
mod confirm;
mod durable;
mod exchange;
mod inspect;
mod issue;
mod poll;
mod shard;
mod table;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::prelude::*;
use derive_more::AddAssign;

pub use self::check::CheckAnswer;
pub use self::confirm::{ConfirmAnswer, Confirmed, FindAnswer, PendingCode};
pub use self::exchange::{BeginAnswer, DenyAnswer, FinishAnswer, Lease, Outcome, Refusal};
pub use self::inspect::{InspectAnswer, SessionView};
pub use self::issue::IssueAnswer;
use self::shard::Learn;
pub use self::shard::{CodeRegistry, ShardPorts};
pub(crate) use self::table::SessionCount;
pub use self::table::Table;
use crate::base::admission::{Admission, AskError, Observe, Reply};
use crate::base::histogram::Distribution;
use crate::base::keyring::SLOTS;
use crate::device_flow::session::Session;
use crate::device_flow::store::Polled;
use crate::device_flow::throttler::{NotePolls, PollThrottler, TakePolls, ThrottlerSnapshot};

/// Requests that may wait for one shard: a connection's sessions are all of the same one.
const WAITING_MAX: usize = 50_000;
/// Longest wait for a shard: a write in doubt and the look-up that settles it, below a device's patience (30 s).
const DEADLINE: Duration = Duration::from_secs(20);

/// Counters of the registry since its start; summed over the shards where there are several.
#[derive(Clone, Copy, Debug, Default, AddAssign)]
pub struct RegistrySnapshot {
    /// Sessions in memory, tombstones included.
    pub sessions: usize,
    /// Device codes issued.
    pub issued: u64,
    /// Device codes refused because `MAX_PENDING_SESSIONS` was reached.
    pub refused: u64,
    /// Pages shown on which a code may be confirmed.
    pub opened: u64,
    /// Codes confirmed in a browser.
    pub confirmed: u64,
    /// Consents that brought a token.
    pub approved: u64,
    /// Consents refused by the person.
    pub denied: u64,
    /// Tokens delivered for the first time.
    pub redeemed: u64,
    /// Token answers repeated.
    pub repeated: u64,
    /// Sessions read from the store after the start.
    pub looked_up: u64,
    /// Writes whose outcome was lost or that met another revision.
    pub reloaded: u64,
    /// From a device's question for a code to its owner's consent, by [`Bounds::OF_PEOPLE`](crate::base::histogram::Bounds::OF_PEOPLE).
    pub time_to_consent: Distribution,
    /// The throttlers beside the shards.
    pub throttler: ThrottlerSnapshot,
}

/// Where one shard can be reached, once it was started on its thread. Each has an admission of its own, which no other shard's
/// requests touch.
struct ShardAddress {
    registry: Addr<CodeRegistry>,
    throttler: Addr<PollThrottler>,
    admission: Admission,
}

/// The way to all shards. Cheap to clone.
#[derive(Clone)]
pub struct CodeRegistryHandle {
    shards: Arc<[OnceLock<ShardAddress>]>,
}

impl CodeRegistryHandle {
    /// A handle to `shards` shards, none of them started yet. Between 1 and [`SLOTS`].
    pub fn new(shards: usize) -> Self {
        let count = shards.clamp(1, SLOTS);
        Self { shards: (0..count).map(|_| OnceLock::new()).collect() }
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The shard a slot belongs to.
    pub fn shard_of(&self, slot: usize) -> usize {
        slot % self.shards.len()
    }

    /// Makes a started shard reachable. A second one for the same place is ignored.
    pub fn attach(&self, shard: usize, registry: Addr<CodeRegistry>, throttler: Addr<PollThrottler>) {
        if let Some(place) = self.shards.get(shard) {
            let admission = Admission::near(WAITING_MAX, DEADLINE);
            drop(place.set(ShardAddress { registry, throttler, admission }));
        }
    }

    /// Whether every shard was started.
    pub fn is_complete(&self) -> bool {
        self.shards.iter().all(|place| place.get().is_some())
    }

    /// Takes over what another instance decided.
    pub fn learn(&self, session: Session) {
        if let Some(shard) = self.shards[self.shard_of(session.device.slot())].get() {
            shard.registry.do_send(Learn { session });
        }
    }

    /// The polls that were on time since the last call, of all shards.
    pub async fn take_polls(&self) -> Vec<Polled> {
        let mut polled = Vec::new();
        for shard in self.shards.iter().filter_map(OnceLock::get) {
            let taken = shard.admission.ask(|reply| shard.throttler.do_send(TakePolls { reply })).await;
            polled.extend(taken.unwrap_or_default());
        }
        polled
    }

    /// Paces sessions as if they had been polled here.
    pub fn note_polls(&self, polled: Vec<Polled>) {
        let mut shares: Vec<Vec<Polled>> = vec![Vec::new(); self.shards.len()];
        for poll in polled {
            shares[self.shard_of(poll.device.slot())].push(poll);
        }
        for (place, polled) in self.shards.iter().zip(shares) {
            if let Some(shard) = place.get().filter(|_| !polled.is_empty()) {
                shard.throttler.do_send(NotePolls { polled });
            }
        }
    }

    /// The counters of all shards, summed.
    pub async fn snapshot(&self) -> Result<RegistrySnapshot, AskError> {
        let mut sum = RegistrySnapshot::default();
        for shard in self.shards.iter() {
            let shard = shard.get().ok_or(AskError::Stopped)?;
            sum += shard.admission.ask(|reply| shard.registry.do_send(Observe { reply })).await?;
            sum.throttler += shard.admission.ask(|reply| shard.throttler.do_send(Observe { reply })).await?;
        }
        Ok(sum)
    }

    /// Requests under way.
    pub fn waiting(&self) -> usize {
        self.shards.iter().filter_map(OnceLock::get).map(|shard| shard.admission.waiting()).sum()
    }

    /// Sends one message to the shard of `slot` and waits for its reply.
    async fn ask<M, A>(&self, slot: usize, message: impl FnOnce(Reply<A>) -> M) -> Result<A, AskError>
    where
        M: Message<Result = ()> + Send + 'static,
        CodeRegistry: Handler<M>,
    {
        let shard = self.shards[self.shard_of(slot)].get().ok_or(AskError::Stopped)?;
        // A stopped shard drops the message and with it the reply, which the admission reports.
        shard.admission.ask(|reply| shard.registry.do_send(message(reply))).await
    }
}
