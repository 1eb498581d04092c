//! Counts what is asked of a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actors::base::clock::Timestamp;
use actors::base::keyring::DeviceHash;
use actors::base::store::{StoreError, Written};
use actors::device_flow::session::Session;
use actors::device_flow::store::{Cursor, Page, Polled, SessionKey, SessionStore, Write};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
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

impl StoreCounts {
    /// Everything that a device or a person caused: all but the purges, the followed changes and the pings, which
    /// happen at their own pace.
    pub const fn caused(&self) -> u64 {
        self.commits + self.finds + self.pages
    }
}

#[derive(Debug, Default)]
struct Counters {
    commits: AtomicU64,
    writes: AtomicU64,
    conflicts: AtomicU64,
    finds: AtomicU64,
    pages: AtomicU64,
    purges: AtomicU64,
    changes: AtomicU64,
    shares: AtomicU64,
    pings: AtomicU64,
    errors: AtomicU64,
}

/// A store that counts and otherwise behaves as the one it wraps.
pub struct Counted {
    store: Arc<dyn SessionStore>,
    counters: Arc<Counters>,
}

impl Counted {
    /// Counts what is asked of `store` from now on.
    pub fn new(store: Arc<dyn SessionStore>) -> Self {
        Self { store, counters: Arc::default() }
    }

    /// The counts so far.
    pub fn counts(&self) -> StoreCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let c = &*self.counters;
        StoreCounts {
            commits: read(&c.commits),
            writes: read(&c.writes),
            conflicts: read(&c.conflicts),
            finds: read(&c.finds),
            pages: read(&c.pages),
            purges: read(&c.purges),
            changes: read(&c.changes),
            shares: read(&c.shares),
            pings: read(&c.pings),
            errors: read(&c.errors),
        }
    }

    fn watch<T: 'static>(
        &self,
        counter: impl Fn(&Counters) -> &AtomicU64,
        answer: BoxFuture<'static, Result<T, StoreError>>,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        add(counter(&self.counters), 1);
        let counters = Arc::clone(&self.counters);
        answer.inspect(move |outcome| add(&counters.errors, u64::from(outcome.is_err()))).boxed()
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Counted").field(&self.counts()).finish()
    }
}

impl SessionStore for Counted {
    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'static, Vec<Result<Written, StoreError>>> {
        add(&self.counters.commits, 1);
        add(&self.counters.writes, writes.len() as u64);
        let counters = Arc::clone(&self.counters);
        let count = move |outcomes: &Vec<Result<Written, StoreError>>| {
            for outcome in outcomes {
                match outcome {
                    Ok(Written::Applied) => {}
                    Ok(Written::Conflict) => add(&counters.conflicts, 1),
                    Err(_) => add(&counters.errors, 1),
                }
            }
        };
        self.store.commit(writes).inspect(count).boxed()
    }

    fn find(
        &self,
        key: SessionKey,
        now: Timestamp,
    ) -> BoxFuture<'static, Result<Option<Session>, StoreError>> {
        self.watch(|c| &c.finds, self.store.find(key, now))
    }

    fn page(
        &self,
        after: Option<DeviceHash>,
        now: Timestamp,
    ) -> BoxFuture<'static, Result<Page, StoreError>> {
        self.watch(|c| &c.pages, self.store.page(after, now))
    }

    fn purge(&self, now: Timestamp) -> BoxFuture<'static, Result<u64, StoreError>> {
        self.watch(|c| &c.purges, self.store.purge(now))
    }

    fn changes(
        &self,
        cursor: Option<Cursor>,
    ) -> BoxFuture<'static, Result<(Vec<Session>, Cursor), StoreError>> {
        self.watch(|c| &c.changes, self.store.changes(cursor))
    }

    fn share_polls(&self, polled: Vec<Polled>) -> BoxFuture<'static, Result<Vec<Polled>, StoreError>> {
        self.watch(|c| &c.shares, self.store.share_polls(polled))
    }

    fn ping(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.watch(|c| &c.pings, self.store.ping())
    }

    fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    fn commit_lanes(&self) -> usize {
        self.store.commit_lanes()
    }
}
