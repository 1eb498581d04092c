//! The port to durable storage. Backends live in the root crate; every one passes the contract suite in
//! `testing::sessions`.
//!
//! *Durable* means: acknowledged to us and surviving `kill -9` of this process and of the database. A backend
//! never replaces a whole record and never trusts its own expiry sweep: every question carries `now`.

pub mod record;

use async_trait::async_trait;

use crate::base::clock::Timestamp;
use crate::base::keyring::{DeviceHash, StateHash, UserHash};
use crate::base::store::{StoreError, Written};
use crate::device_flow::session::Session;

/// A change to be made durable.
#[derive(Clone, Debug)]
pub enum Write {
    /// A fresh session. Conflicts if its device code or a live user code is taken.
    Insert(Session),
    /// The next revision of a session. Applied only if the stored one is at `to.rev - 1`; only what an event
    /// can change is written (phase, consent, deadlines, revision).
    Update {
        /// The session as it shall be.
        to: Session,
    },
}

/// How a session is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionKey {
    /// By its device code.
    Device(DeviceHash),
    /// By the code a person types.
    User(UserHash),
    /// By the `state` that travels through Enedis.
    State(StateHash),
}

/// One page of stored sessions, in an order of the backend's own choosing.
#[derive(Debug, Default)]
pub struct Page {
    /// Sessions that were not purgeable when the page was read.
    pub sessions: Vec<Session>,
    /// Pass it on to get the next page; `None` at the end.
    pub next: Option<DeviceHash>,
}

/// Where a follower of [`SessionStore::changes`] stands. Opaque, of the backend's own clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub i64);

/// A poll that was on time, for the pacing of other instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polled {
    /// The session.
    pub device: DeviceHash,
    /// When, by the clock of the instance that was polled.
    pub at: Timestamp,
}

/// Durable storage of sessions. All methods may be called from any thread and run concurrently.
#[async_trait]
pub trait SessionStore: Send + Sync + 'static {
    /// Makes a group of writes durable, each on its own terms: one conflict does not undo the others.
    /// Answers one result per write, in order; applies them in any order, so that at most one write of a group
    /// should be about one session.
    async fn commit(&self, writes: Vec<Write>) -> Vec<Result<Written, StoreError>>;

    /// Finds one session that is not purgeable at `now`.
    async fn find(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>, StoreError>;

    /// Reads the sessions that are not purgeable at `now`, page by page.
    async fn page(&self, after: Option<DeviceHash>, now: Timestamp) -> Result<Page, StoreError>;

    /// Deletes sessions that are purgeable at `now`, a bounded number a call; answers how many went. Nothing to do for a
    /// store that deletes by itself.
    async fn purge(&self, _now: Timestamp) -> Result<u64, StoreError> {
        Ok(0)
    }

    /// Moves every time of every session by so many milliseconds: the clock by which they were dated has jumped since the
    /// process before. Nothing to do for a store with a clock of its own.
    async fn move_times(&self, _by_ms: i64) -> Result<(), StoreError> {
        Ok(())
    }

    /// Sessions updated since `cursor` by any instance, with the cursor to pass next time. An update is
    /// reported at least once; it may be reported again. Without a cursor nothing is reported: the answer marks
    /// where to begin. Fresh sessions are not reported; whoever misses one looks it up. A store that is not followed has
    /// nothing to report.
    async fn changes(&self, cursor: Option<Cursor>) -> Result<(Vec<Session>, Cursor), StoreError> {
        Ok((Vec::new(), cursor.unwrap_or_default()))
    }

    /// Tells the other instances which sessions were polled here since the last call, and answers which were polled
    /// there. Best effort: nothing is durable, and what is lost costs a little leniency. A store that is not shared
    /// answers nothing.
    async fn share_polls(&self, _polled: Vec<Polled>) -> Result<Vec<Polled>, StoreError> {
        Ok(Vec::new())
    }

    /// Whether others than this process may change what is stored, so that [`SessionStore::changes`] has to be asked: other
    /// instances, or an operator's command.
    fn is_followed(&self) -> bool {
        self.is_shared()
    }

    /// Whether the store answers, and takes writes: one is made that changes nothing.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Whether other instances write to the same store. If not, memory is complete and a miss is final.
    fn is_shared(&self) -> bool {
        false
    }

    /// How many groups the store takes at a time without making each slower.
    fn commits_at_once(&self) -> usize {
        1
    }
}
