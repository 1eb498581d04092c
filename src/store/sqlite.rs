//! The embedded stores: `SQLite` files in `DATA_DIR`.
//!
//! ```text
//!   commit, purge ──▶ bounded queue ──▶ writer thread ──▶ connection 1 ──▶ sessions.sqlite (WAL, synchronous=FULL)
//!   find, page    ──▶ bounded queue ──▶ reader thread ──▶ connection 2 ──▶      "  (a snapshot, never blocked)
//!
//!   the same two threads for the tokens ─────────────────────────────────▶ tokens.sqlite   (WAL, synchronous=FULL)
//!                        and for the cache of metering data ─────────────▶ meters.sqlite   (WAL, synchronous=NORMAL)
//! ```
//!
//! [`SqliteStore`] owns the file of sessions, a lock on the directory and two threads. Promises: a group is one
//! transaction with one fsync, in which each write ends on its own terms; a read waits for no fsync; no method blocks
//! its caller; what was acknowledged survives `kill -9` and a power cut, as far as the disk keeps its word. Refuses a
//! directory that another process uses ([`OpenError::InUse`]; the kernel releases the lock of a killed process) and
//! work beyond its queues ([`StoreError::Aborted`]). Dropping it finishes what is queued and folds the write-ahead log
//! into the file, which may take some milliseconds.
//!
//! [`SqliteTokens`] takes no lock: an operator's command opens it beside the server. [`SqliteMeters`] comes from the
//! [`SqliteStore`] and holds the same lock.

mod files;
mod meters;
mod reads;
mod rows;
mod schema;
mod tokens;
mod transaction;
mod worker;
mod writes;

use std::path::{Path, PathBuf};

use actors::base::clock::Timestamp;
use actors::base::keyring::DeviceHash;
use actors::base::store::{StoreError, Written};
use actors::device_flow::session::Session;
use actors::device_flow::store::{Cursor, Page, Polled, SessionKey, SessionStore, Write};
use async_trait::async_trait;
use tokio::sync::oneshot;

use self::files::Lock;
pub use self::meters::SqliteMeters;
pub use self::tokens::SqliteTokens;
use self::worker::{Job, READS_QUEUED, Worker, stopped};
use self::writes::Change;
use crate::store::OpenError;

/// The database.
const FILE: &str = "sessions.sqlite";
/// Groups and purges that may wait for the writer thread.
const WRITES_QUEUED: usize = 64;

type Outcome = Result<Written, StoreError>;

/// The store. See the module.
#[derive(Debug)]
pub struct SqliteStore {
    // The reader is dropped first: the last connection to close removes the write-ahead log.
    reader: Worker<Job>,
    writer: Worker<Change>,
    dir: PathBuf,
    // Held until both threads have ended.
    lock: Lock,
}

impl SqliteStore {
    /// Opens the store in `dir`, which is created if it is missing (mode 0700), as is the file (mode 0600).
    /// Blocks while it recovers what a crash left in the write-ahead log.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        files::make_directory(dir)?;
        let lock = Lock::take(dir)?;
        let path = dir.join(FILE);
        files::make_database(&path)?;
        let writing = rows::SCHEMA.open_writer(&path)?;
        let reading = rows::SCHEMA.open_reader(&path)?;
        files::make_durable(dir)?;

        let write = move |changes| writes::run(writing, &changes);
        Ok(Self {
            reader: Worker::jobs("sqlite-reader", READS_QUEUED, reading, drop)?,
            writer: Worker::start("sqlite-writer", WRITES_QUEUED, write)?,
            dir: dir.into(),
            lock,
        })
    }

    /// Opens the cache of metering data in the same directory, which stays locked until both are dropped. To be
    /// opened once at a time. Blocks as [`SqliteStore::open`] does.
    pub fn meters(&self) -> Result<SqliteMeters, OpenError> {
        SqliteMeters::open(&self.dir, self.lock.clone())
    }
}

#[async_trait]
impl SessionStore for SqliteStore {
    async fn commit(&self, writes: Vec<Write>) -> Vec<Outcome> {
        let count = writes.len();
        let (reply, answer) = oneshot::channel();
        if let Err(refused) = self.writer.offer(Change::Commit { writes, reply }) {
            return vec![Err(refused); count];
        }
        // The thread ended with the group in its hands.
        let lost = || StoreError::Unknown("the store has stopped".into());
        answer.await.unwrap_or_else(|_| vec![Err(lost()); count])
    }

    async fn find(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>, StoreError> {
        self.reader.run(stopped, move |db| reads::find(db, key, now)).await
    }

    async fn page(&self, after: Option<DeviceHash>, now: Timestamp) -> Result<Page, StoreError> {
        self.reader.run(stopped, move |db| reads::page(db, after, now)).await
    }

    async fn purge(&self, now: Timestamp) -> Result<u64, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.writer.offer(Change::Purge { now, reply })?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Nobody else writes here: never anything to report.
    async fn changes(&self, cursor: Option<Cursor>) -> Result<(Vec<Session>, Cursor), StoreError> {
        Ok((Vec::new(), cursor.unwrap_or_default()))
    }

    async fn share_polls(&self, _: Vec<Polled>) -> Result<Vec<Polled>, StoreError> {
        Ok(Vec::new())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.reader.run(stopped, reads::ping).await
    }

    fn is_shared(&self) -> bool {
        false
    }
}

/// A failure that left nothing behind.
fn aborted(error: &rusqlite::Error) -> StoreError {
    StoreError::Aborted(error.to_string())
}

#[cfg(test)]
mod tests;
