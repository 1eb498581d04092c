//! Pending sessions in `sessions.sqlite`.
//!
//! Owns the file and a lock on the directory. Promises: a group is one transaction
//! with one fsync, in which each write ends on its own terms; a read waits for no fsync; no method blocks its caller; what
//! was acknowledged survives `kill -9` and a power cut, as far as the disk keeps its word. Refuses a directory that
//! another process uses ([`OpenError::InUse`]; the kernel releases the lock of a killed process) and work beyond its
//! queues ([`StoreError::Aborted`]). Dropping it finishes what is queued and folds the write-ahead log into the file, which
//! may take some milliseconds.

mod sql;

use std::path::{Path, PathBuf};

use actors::base::clock::Timestamp;
use actors::base::keyring::DeviceHash;
use actors::base::store::{StoreError, Written};
use actors::device_flow::session::Session;
use actors::device_flow::store::record::Record;
use actors::device_flow::store::{Cursor, Page, SessionKey, SessionStore, Write};
use async_trait::async_trait;
use rusqlite::Connection;

use super::SqliteMeters;
use super::columns::Columns;
use super::files::{self, Lock};
use super::transaction::{Failed, give_back, transact};
use super::worker::Workers;
use crate::store::{OpenError, undamaged};

pub(super) use self::sql::SCHEMA;

pub(super) const FILE: &str = "sessions.sqlite";
/// Names of the threads that read and write.
const THREADS: [&str; 2] = ["sqlite-reader", "sqlite-writer"];
/// Groups and purges that may wait for the thread that writes.
const WRITES_QUEUED: usize = 64;
/// Transactions of one purge. With a purge every ten seconds, 2,000 sessions a second can go.
const PURGE_CHUNKS: u32 = 40;

/// The store. See the module.
#[derive(Debug)]
pub struct SqliteStore {
    // Dropped before the lock.
    pub(super) workers: Workers,
    dir: PathBuf,
    lock: Option<Lock>,
}

impl SqliteStore {
    /// Opens the store in `dir`, which is created if it is missing (mode 0700), as is the file (mode 0600).
    /// Blocks while it recovers what a crash left in the write-ahead log.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        files::make_directory(dir)?;
        Self::with(dir, Some(Lock::take(dir)?))
    }

    /// The same beside the process that holds the lock, for an operator's command.
    pub fn beside(dir: &Path) -> Result<Self, OpenError> {
        files::make_directory(dir)?;
        Self::with(dir, None)
    }

    fn with(dir: &Path, lock: Option<Lock>) -> Result<Self, OpenError> {
        let workers = Workers::open(&dir.join(FILE), &sql::SCHEMA, THREADS, WRITES_QUEUED)?;
        files::make_durable(dir)?;
        Ok(Self { workers, dir: dir.into(), lock })
    }

    /// Opens the cache of metering data in the same directory, which stays locked until both are dropped. To be
    /// opened once at a time. Blocks as [`SqliteStore::open`] does.
    pub fn meters(&self) -> Result<SqliteMeters, OpenError> {
        SqliteMeters::open(&self.dir, self.lock.clone())
    }
}

#[async_trait]
impl SessionStore for SqliteStore {
    async fn commit(&self, writes: Vec<Write>) -> Vec<Result<Written, StoreError>> {
        let count = writes.len();
        if count == 0 {
            return Vec::new();
        }
        // The failure of a group is the failure of every write in it.
        match self.workers.write(move |db| transact(db, |db| sql::apply(db, &writes))).await {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); count],
        }
    }

    async fn find(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>, StoreError> {
        let found = self.workers.read(move |db| sql::find(db, key, now)).await?;
        Ok(found.map(sql::session).transpose()?)
    }

    async fn page(&self, after: Option<DeviceHash>, now: Timestamp) -> Result<Page, StoreError> {
        // Understood on the thread that reads: at the start there may be a million.
        let page = move |db: &_| {
            let (records, next) = Record::page(db, &sql::PAGE_AFTER, after, now)?;
            let next = next.as_deref().and_then(DeviceHash::from_slice);
            Ok::<_, Failed>(Page { sessions: undamaged(records.into_iter().map(sql::session)), next })
        };
        self.workers.read(page).await
    }

    /// In small transactions, between which groups of writes take their turn.
    async fn purge(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut gone = 0;
        for _ in 0..PURGE_CHUNKS {
            let some = self.workers.write(move |db| transact(db, |db| sql::purge(db, now))).await?;
            gone += some;
            if some < u64::from(sql::PURGE_CHUNK) {
                break;
            }
        }
        let tidy = move |db: &_| {
            give_back(db);
            Ok(gone)
        };
        self.workers.write(tidy).await
    }

    async fn move_times(&self, by_ms: i64) -> Result<(), StoreError> {
        self.workers.write(move |db| transact(db, |db| db.execute(sql::MOVE_TIMES, [by_ms]).map(drop))).await
    }

    /// Refusals, if another process has written to the file: an operator's command ends sessions.
    async fn changes(&self, cursor: Option<Cursor>) -> Result<(Vec<Session>, Cursor), StoreError> {
        // Changes with what other connections commit, of which that of this thread is none.
        let version = |db: &Connection| {
            db.pragma_query_value(None, "data_version", |row| row.get(0)).map(Cursor).map_err(Failed::from)
        };
        let now = self.workers.write(version).await?;
        if cursor.is_none_or(|before| before == now) {
            return Ok((Vec::new(), now));
        }
        let ended = self.workers.read(sql::denied).await?;
        Ok((undamaged(ended.into_iter().map(sql::session)), now))
    }

    fn is_followed(&self) -> bool {
        true
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let probe = |db: &Connection| {
            let layout: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
            db.pragma_update(None, "user_version", layout)
        };
        self.workers.write(move |db| transact(db, probe)).await
    }
}

#[cfg(test)]
mod tests;
