//! The embedded store: one `SQLite` file in `DATA_DIR`.
//!
//! ```text
//!   commit, purge ──▶ bounded queue ──▶ writer thread ──▶ connection 1 ──▶ sessions.sqlite (WAL, synchronous=FULL)
//!   find, page    ──▶ bounded queue ──▶ reader thread ──▶ connection 2 ──▶      "  (a snapshot, never blocked)
//! ```
//!
//! Owns the file, a lock beside it and two threads. Promises: a group is one transaction with one fsync, in which
//! each write ends on its own terms; a read waits for no fsync; no method blocks its caller; what was acknowledged
//! survives `kill -9` and a power cut, as far as the disk keeps its word. Refuses a directory that another process
//! uses ([`OpenError::InUse`]; the kernel releases the lock of a killed process) and work beyond its queues
//! ([`StoreError::Aborted`]). Dropping it finishes what is queued and folds the write-ahead log into the file, which
//! may take some milliseconds.

mod reads;
mod rows;
mod schema;
mod writes;

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};

use actors::clock::Timestamp;
use actors::keys::DeviceHash;
use actors::session::Session;
use actors::store::{Cursor, Page, Polled, SessionKey, SessionStore, StoreError, Write, Written};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use rusqlite::ErrorCode;
use tokio::sync::oneshot;

use self::reads::Read;
use self::writes::Change;
use crate::store::OpenError;

/// The database.
const FILE: &str = "sessions.sqlite";
/// Locked while a process uses the directory.
const LOCK_FILE: &str = "sessions.lock";
/// Groups and purges that may wait for the writer thread.
const WRITES_QUEUED: usize = 64;
/// Questions that may wait for the reader thread.
const READS_QUEUED: usize = 4096;

type Outcome = Result<Written, StoreError>;

/// The store. See the module.
#[derive(Debug)]
pub struct SqliteStore {
    changes: Option<SyncSender<Change>>,
    reads: Option<SyncSender<Read>>,
    writer: Option<JoinHandle<()>>,
    reader: Option<JoinHandle<()>>,
    /// Held until both threads have ended: fields are dropped after [`Drop::drop`].
    _lock: File,
}

impl SqliteStore {
    /// Opens the store in `dir`, which is created if it is missing (mode 0700), as is the file (mode 0600).
    /// Blocks while it recovers what a crash left in the write-ahead log.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let unusable =
            |source: std::io::Error| OpenError::Directory { path: dir.into(), source: source.into() };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unusable)?;
        let lock = create(&dir.join(LOCK_FILE)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(dir.into())),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let path = dir.join(FILE);
        // The write-ahead log takes its mode from this file.
        create(&path).map_err(unusable)?;
        let writing = schema::open_writer(&path)?;
        let reading = schema::open_reader(&path)?;
        // The directory's entries for the files above are as durable as what is written into them.
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(unusable)?;

        let (changes, queue) = mpsc::sync_channel(WRITES_QUEUED);
        let mut store = Self { changes: Some(changes), reads: None, writer: None, reader: None, _lock: lock };
        store.writer = Some(spawn("sqlite-writer", move || writes::run(writing, &queue))?);
        let (reads, queue) = mpsc::sync_channel(READS_QUEUED);
        store.reads = Some(reads);
        store.reader = Some(spawn("sqlite-reader", move || reads::run(&reading, &queue))?);
        Ok(store)
    }

    fn change(&self, change: Change) -> Result<(), StoreError> {
        offer(self.changes.as_ref(), change)
    }

    fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Read,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (reply, answer) = oneshot::channel();
        match offer(self.reads.as_ref(), ask(reply)) {
            Ok(()) => answer.map(|answer| answer.unwrap_or_else(|_| Err(stopped()))).boxed(),
            Err(refused) => ready(Err(refused)).boxed(),
        }
    }
}

impl SessionStore for SqliteStore {
    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'static, Vec<Outcome>> {
        let count = writes.len();
        let (reply, answer) = oneshot::channel();
        match self.change(Change::Commit { writes, reply }) {
            Ok(()) => answer
                .map(move |answer| {
                    // The thread ended with the group in its hands.
                    let lost = || StoreError::Unknown("the store has stopped".into());
                    answer.unwrap_or_else(|_| (0..count).map(|_| Err(lost())).collect())
                })
                .boxed(),
            Err(refused) => ready(vec![Err(refused); count]).boxed(),
        }
    }

    fn find(
        &self,
        key: SessionKey,
        now: Timestamp,
    ) -> BoxFuture<'static, Result<Option<Session>, StoreError>> {
        self.read(|reply| Read::Find { key, now, reply })
    }

    fn page(
        &self,
        after: Option<DeviceHash>,
        now: Timestamp,
    ) -> BoxFuture<'static, Result<Page, StoreError>> {
        self.read(|reply| Read::Page { after, now, reply })
    }

    fn purge(&self, now: Timestamp) -> BoxFuture<'static, Result<u64, StoreError>> {
        let (reply, answer) = oneshot::channel();
        match self.change(Change::Purge { now, reply }) {
            Ok(()) => answer.map(|answer| answer.unwrap_or_else(|_| Err(stopped()))).boxed(),
            Err(refused) => ready(Err(refused)).boxed(),
        }
    }

    /// Nobody else writes here: never anything to report.
    fn changes(
        &self,
        cursor: Option<Cursor>,
    ) -> BoxFuture<'static, Result<(Vec<Session>, Cursor), StoreError>> {
        ready(Ok((Vec::new(), cursor.unwrap_or_default()))).boxed()
    }

    fn share_polls(&self, _: Vec<Polled>) -> BoxFuture<'static, Result<Vec<Polled>, StoreError>> {
        ready(Ok(Vec::new())).boxed()
    }

    fn ping(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.read(|reply| Read::Ping { reply })
    }

    fn is_shared(&self) -> bool {
        false
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // The reader first: the last connection to close removes the write-ahead log.
        self.reads = None;
        join(self.reader.take());
        self.changes = None;
        join(self.writer.take());
    }
}

fn join(thread: Option<JoinHandle<()>>) {
    if thread.is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("a thread of the store has panicked");
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    thread::Builder::new().name(name.into()).spawn(work).map_err(OpenError::Threads)
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn offer<T>(queue: Option<&SyncSender<T>>, work: T) -> Result<(), StoreError> {
    // `None` only while the store is being dropped, when nobody can call it.
    let sent = queue.map_or(Err(TrySendError::Disconnected(())), |queue| {
        queue.try_send(work).map_err(|refused| match refused {
            TrySendError::Full(_) => TrySendError::Full(()),
            TrySendError::Disconnected(_) => TrySendError::Disconnected(()),
        })
    });
    sent.map_err(|refused| match refused {
        TrySendError::Full(()) => StoreError::Aborted("too much waits for the disk".into()),
        TrySendError::Disconnected(()) => stopped(),
    })
}

/// A failure that left nothing behind.
fn aborted(error: &rusqlite::Error) -> StoreError {
    StoreError::Aborted(error.to_string())
}

fn stopped() -> StoreError {
    StoreError::Aborted("the store has stopped".into())
}

/// A failure to open `path`, by what the operator must do.
fn failed(path: &Path, error: rusqlite::Error) -> OpenError {
    let path = PathBuf::from(path);
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            OpenError::Damaged { path, source: Some(error.into()) }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse(path),
        _ => OpenError::Directory { path, source: error.into() },
    }
}

#[cfg(test)]
mod tests;
