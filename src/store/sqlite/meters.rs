//! Metering data that was fetched before, in `meters.sqlite`.
//!
//! Promises: the file stays whole whatever happens; what was
//! stored last may be lost in a power cut (`synchronous=NORMAL`), as any of it can be fetched again. For the same
//! reason a file that is damaged keeps no server from starting: it is moved aside and a new one begins; one that is
//! found damaged later answers errors, which are misses, until the next start. Refuses work beyond its queues
//! ([`StoreError::Aborted`]). Only the process that holds the lock of the directory uses the file.

mod sql;

use std::path::{Path, PathBuf};

use actors::base::clock::Timestamp;
use actors::base::keyring::CacheKey;
use actors::base::store::StoreError;
use actors::metering::cache::{CacheEntry, MeterCache};
use async_trait::async_trait;
use rusqlite::Connection;

use super::files::{self, Lock};
use super::schema::is_damage;
use super::transaction::{Failed, delete_some, transact};
use super::worker::Workers;
use crate::store::OpenError;

pub(super) use self::sql::SCHEMA;

pub(super) const FILE: &str = "meters.sqlite";
/// Changes that may wait for the thread that writes.
const WRITES_QUEUED: usize = 256;
/// Names of the threads that read and write.
const THREADS: [&str; 2] = ["meters-reader", "meters-writer"];

/// The cache. See the module.
#[derive(Debug)]
pub struct SqliteMeters {
    // Dropped before the lock.
    workers: Workers,
    path: PathBuf,
    _lock: Option<Lock>,
}

impl SqliteMeters {
    /// Opens the cache in `dir`, which `lock` holds; without one, beside the process that has it.
    pub(super) fn open(dir: &Path, lock: Option<Lock>) -> Result<Self, OpenError> {
        let path = dir.join(FILE);
        let open = || Workers::open(&path, &sql::SCHEMA, THREADS, WRITES_QUEUED);
        let workers = match open() {
            refused @ Err(_) if lock.is_none() => refused?,
            Err(error @ (OpenError::Damaged { .. } | OpenError::Newer { .. })) => {
                let aside = files::set_aside(&path)
                    .map_err(|source| OpenError::Directory { path: path.clone(), source: source.into() })?;
                tracing::warn!(%error, moved_to = %aside.display(), "the cache of metering data begins anew");
                open()?
            }
            opened => opened?,
        };
        files::make_durable(dir)?;
        Ok(Self { workers, path, _lock: lock })
    }

    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let path = self.path.clone();
        self.workers.read(move |db| question(db).map_err(Failed::from).inspect_err(|f| watch(&path, f))).await
    }

    async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, StoreError> {
        let path = self.path.clone();
        self.workers.write(move |db| change(db).inspect_err(|failed| watch(&path, failed))).await
    }
}

/// Takes a file away that is found damaged, so that the next start begins a new one. The connections keep it open.
fn watch(path: &Path, failed: &Failed) {
    if is_damage(&failed.error)
        && let Ok(aside) = files::set_aside(path)
    {
        let error = &failed.error;
        tracing::warn!(%error, moved_to = %aside.display(), "the cache of metering data is damaged until the next start");
    }
}

#[async_trait]
impl MeterCache for SqliteMeters {
    async fn get(&self, keys: Vec<CacheKey>, now: Timestamp) -> Result<Vec<CacheEntry>, StoreError> {
        self.read(move |db| sql::get(db, keys, now)).await
    }

    async fn put(&self, entries: Vec<CacheEntry>) -> Result<(), StoreError> {
        self.write(move |db| transact(db, |db| sql::put(db, &entries))).await
    }

    async fn evict(&self, now: Timestamp, max_bytes: u64) -> Result<u64, StoreError> {
        self.write(move |db| delete_some(db, |db| sql::evict(db, now, max_bytes))).await
    }

    async fn page(&self, after: Option<CacheKey>, now: Timestamp) -> Result<Vec<CacheEntry>, StoreError> {
        self.read(move |db| sql::page(db, after, now)).await
    }

    async fn reseal(&self, entries: Vec<(CacheEntry, CacheEntry)>) -> Result<(), StoreError> {
        self.write(move |db| transact(db, |db| sql::reseal(db, &entries))).await
    }

    async fn forget(&self, owner: CacheKey) -> Result<u64, StoreError> {
        self.write(move |db| transact(db, |db| sql::forget(db, owner))).await
    }
}

#[cfg(test)]
mod tests;
