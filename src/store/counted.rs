//! Counts what is asked of a store, and how long it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actors::base::clock::Timestamp;
use actors::base::histogram::{Bounds, Distribution, Histogram};
use actors::base::keyring::DeviceHash;
use actors::base::store::{StoreError, Written};
use actors::device_flow::session::Session;
use actors::device_flow::store::{Cursor, Page, Polled, SessionKey, SessionStore, Write};
use async_trait::async_trait;
use tokio::time::Instant;

/// What a store is asked to do: a group of writes committed, a session looked up, all sessions read at the start, and so on.
const OPERATIONS: [&str; 7] = ["commit", "find", "page", "purge", "changes", "share_polls", "ping"];

/// Numbers of [`OPERATIONS`].
#[derive(Clone, Copy)]
enum Operation {
    Commit,
    Find,
    Page,
    Purge,
    Changes,
    SharePolls,
    Ping,
}

/// What a store was asked since it was wrapped. An operation counts when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreCounts {
    /// Writes in all groups.
    pub writes: u64,
    /// Operations that failed; a group counts once for each write that did.
    pub errors: u64,
    /// How long operations took, by their names and [`Bounds::OF_MACHINES`].
    pub operations: [(&'static str, Distribution); OPERATIONS.len()],
}

/// A store that counts and otherwise behaves as the one it wraps.
#[derive(derive_more::Debug)]
pub struct Counted {
    #[debug(skip)]
    store: Arc<dyn SessionStore>,
    writes: AtomicU64,
    errors: AtomicU64,
    operations: [Histogram; OPERATIONS.len()],
}

impl Counted {
    /// Counts what is asked of `store` from now on.
    pub fn new(store: Arc<dyn SessionStore>) -> Self {
        Self {
            store,
            writes: AtomicU64::default(),
            errors: AtomicU64::default(),
            operations: Default::default(),
        }
    }

    /// The counts so far.
    pub fn counts(&self) -> StoreCounts {
        StoreCounts {
            writes: self.writes.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            operations: std::array::from_fn(|at| (OPERATIONS[at], self.operations[at].read())),
        }
    }

    async fn time<T>(&self, operation: Operation, answer: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let answer = answer.await;
        self.operations[operation as usize].observe(&Bounds::OF_MACHINES, began.elapsed());
        answer
    }

    async fn watch<T>(
        &self,
        operation: Operation,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.time(operation, answer).await.inspect_err(|_| self.failed(1))
    }

    fn failed(&self, count: usize) {
        self.errors.fetch_add(count as u64, Ordering::Relaxed);
    }
}

#[async_trait]
impl SessionStore for Counted {
    async fn commit(&self, writes: Vec<Write>) -> Vec<Result<Written, StoreError>> {
        self.writes.fetch_add(writes.len() as u64, Ordering::Relaxed);
        let outcomes = self.time(Operation::Commit, self.store.commit(writes)).await;
        self.failed(outcomes.iter().filter(|outcome| outcome.is_err()).count());
        outcomes
    }

    async fn find(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>, StoreError> {
        self.watch(Operation::Find, self.store.find(key, now)).await
    }

    async fn page(&self, after: Option<DeviceHash>, now: Timestamp) -> Result<Page, StoreError> {
        self.watch(Operation::Page, self.store.page(after, now)).await
    }

    async fn purge(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.watch(Operation::Purge, self.store.purge(now)).await
    }

    async fn move_times(&self, by_ms: i64) -> Result<(), StoreError> {
        self.store.move_times(by_ms).await.inspect_err(|_| self.failed(1))
    }

    async fn changes(&self, cursor: Option<Cursor>) -> Result<(Vec<Session>, Cursor), StoreError> {
        self.watch(Operation::Changes, self.store.changes(cursor)).await
    }

    async fn share_polls(&self, polled: Vec<Polled>) -> Result<Vec<Polled>, StoreError> {
        self.watch(Operation::SharePolls, self.store.share_polls(polled)).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.watch(Operation::Ping, self.store.ping()).await
    }

    fn is_followed(&self) -> bool {
        self.store.is_followed()
    }

    fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    fn commits_at_once(&self) -> usize {
        self.store.commits_at_once()
    }
}
