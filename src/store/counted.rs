//! Counts what is asked of a store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actors::base::clock::Timestamp;
use actors::base::keyring::DeviceHash;
use actors::base::store::{StoreError, Written};
use actors::device_flow::session::Session;
use actors::device_flow::store::{Cursor, Page, Polled, SessionKey, SessionStore, Write};
use async_trait::async_trait;
use serde::Serialize;

/// How often a store was asked since it was wrapped. An operation counts when it is asked for, an error when it
/// is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StoreCounts {
    /// Groups of writes.
    pub commits: u64,
    /// Writes in those groups.
    pub writes: u64,
    /// Writes that were not applied because a code was taken or another revision was stored.
    pub conflicts: u64,
    /// Sessions looked up.
    pub finds: u64,
    /// Pages read.
    pub pages: u64,
    /// Purges.
    pub purges: u64,
    /// Questions for what other instances changed.
    pub changes: u64,
    /// Exchanges of polls with other instances.
    pub shares: u64,
    /// Pings.
    pub pings: u64,
    /// Operations that failed; a group counts once for each write that did.
    pub errors: u64,
}

/// A store that counts and otherwise behaves as the one it wraps.
#[derive(derive_more::Debug)]
pub struct Counted {
    #[debug(skip)]
    store: Arc<dyn SessionStore>,
    counts: Mutex<StoreCounts>,
}

impl Counted {
    /// Counts what is asked of `store` from now on.
    pub fn new(store: Arc<dyn SessionStore>) -> Self {
        Self { store, counts: Mutex::default() }
    }

    /// The counts so far.
    pub fn counts(&self) -> StoreCounts {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, StoreCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn watch<T>(
        &self,
        counter: impl FnOnce(&mut StoreCounts) -> &mut u64,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        *counter(&mut self.lock()) += 1;
        answer.await.inspect_err(|_| self.lock().errors += 1)
    }
}

#[async_trait]
impl SessionStore for Counted {
    async fn commit(&self, writes: Vec<Write>) -> Vec<Result<Written, StoreError>> {
        {
            let mut counts = self.lock();
            counts.commits += 1;
            counts.writes += writes.len() as u64;
        }
        let outcomes = self.store.commit(writes).await;
        let mut counts = self.lock();
        for outcome in &outcomes {
            counts.conflicts += u64::from(matches!(outcome, Ok(Written::Conflict)));
            counts.errors += u64::from(outcome.is_err());
        }
        outcomes
    }

    async fn find(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>, StoreError> {
        self.watch(|counts| &mut counts.finds, self.store.find(key, now)).await
    }

    async fn page(&self, after: Option<DeviceHash>, now: Timestamp) -> Result<Page, StoreError> {
        self.watch(|counts| &mut counts.pages, self.store.page(after, now)).await
    }

    async fn purge(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.watch(|counts| &mut counts.purges, self.store.purge(now)).await
    }

    async fn changes(&self, cursor: Option<Cursor>) -> Result<(Vec<Session>, Cursor), StoreError> {
        self.watch(|counts| &mut counts.changes, self.store.changes(cursor)).await
    }

    async fn share_polls(&self, polled: Vec<Polled>) -> Result<Vec<Polled>, StoreError> {
        self.watch(|counts| &mut counts.shares, self.store.share_polls(polled)).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.watch(|counts| &mut counts.pings, self.store.ping()).await
    }

    fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    fn commits_at_once(&self) -> usize {
        self.store.commits_at_once()
    }
}
