//! Counts what is asked of a store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actors::base::clock::Timestamp;
use actors::base::keyring::DeviceHash;
use actors::base::store::{StoreError, Written};
use actors::device_flow::session::Session;
use actors::device_flow::store::{Cursor, Page, Polled, SessionKey, SessionStore, Write};
use async_trait::async_trait;

/// How often a store was asked since it was wrapped. An operation counts when it is asked for, an error when it
/// is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Groups of writes.
    pub commits: u64,
    /// Writes in those groups.
    pub writes: u64,
    /// Sessions looked up.
    pub finds: u64,
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

    async fn watch<T>(&self, answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
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
        self.lock().errors += outcomes.iter().filter(|outcome| outcome.is_err()).count() as u64;
        outcomes
    }

    async fn find(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>, StoreError> {
        self.lock().finds += 1;
        self.watch(self.store.find(key, now)).await
    }

    async fn page(&self, after: Option<DeviceHash>, now: Timestamp) -> Result<Page, StoreError> {
        self.watch(self.store.page(after, now)).await
    }

    async fn purge(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.watch(self.store.purge(now)).await
    }

    async fn move_times(&self, by_ms: i64) -> Result<(), StoreError> {
        self.watch(self.store.move_times(by_ms)).await
    }

    async fn changes(&self, cursor: Option<Cursor>) -> Result<(Vec<Session>, Cursor), StoreError> {
        self.watch(self.store.changes(cursor)).await
    }

    async fn share_polls(&self, polled: Vec<Polled>) -> Result<Vec<Polled>, StoreError> {
        self.watch(self.store.share_polls(polled)).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.watch(self.store.ping()).await
    }

    fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    fn commits_at_once(&self) -> usize {
        self.store.commits_at_once()
    }
}
