//! A thread that owns a connection and does what it is handed, in order, out of a bounded queue.

use std::fmt;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};

use actors::base::store::StoreError;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::files;
use super::schema::Schema;
use super::transaction::{Failed, fold};
use crate::store::OpenError;

/// Changes that may wait for the thread that writes.
const WRITES_QUEUED: usize = 256;
/// Questions that may wait for the thread that reads.
pub(super) const READS_QUEUED: usize = 4096;

/// What a thread is handed.
pub(super) type Job = Box<dyn FnOnce(&Connection) + Send>;

/// The two threads of a file: a question waits for no fsync.
#[derive(Debug)]
pub(super) struct Workers {
    // The reader is dropped first: the last connection to close removes the write-ahead log.
    reader: Worker<Job>,
    writer: Worker<Job>,
}

impl Workers {
    /// Opens the file at `path`, which is made if it is missing, and starts the threads. Blocks while it recovers
    /// what a crash left in the write-ahead log.
    pub(super) fn open(path: &Path, schema: &Schema, names: [&str; 2]) -> Result<Self, OpenError> {
        files::make_database(path)?;
        let writing = schema.open_writer(path)?;
        let reading = schema.open_reader(path)?;
        let [reader, writer] = names;
        Ok(Self {
            reader: Worker::jobs(reader, READS_QUEUED, reading, drop)?,
            writer: Worker::jobs(writer, WRITES_QUEUED, writing, fold)?,
        })
    }

    /// Asks a question; any failure is certain.
    pub(super) async fn read<T: Send + 'static, E: Into<Failed>>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.reader.run(stopped, move |db| question(db).map_err(E::into)).await
    }

    /// Makes a change.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, StoreError> {
        // The thread ended with the change in its hands.
        self.writer.run(|| StoreError::Unknown("the store has stopped".into()), change).await
    }
}

/// A thread and the queue it works off, until both are dropped.
pub(super) struct Worker<W> {
    queue: Option<SyncSender<W>>,
    thread: Option<JoinHandle<()>>,
}

impl<W: Send + 'static> Worker<W> {
    /// Starts a thread for `work`, which ends when nothing more can come; `room` may wait.
    pub(super) fn start(
        name: &str,
        room: usize,
        work: impl FnOnce(Receiver<W>) + Send + 'static,
    ) -> Result<Self, OpenError> {
        let (queue, waiting) = mpsc::sync_channel(room);
        let thread = thread::Builder::new().name(name.into()).spawn(move || work(waiting));
        Ok(Self { queue: Some(queue), thread: Some(thread.map_err(OpenError::Threads)?) })
    }

    /// Puts `work` into the queue, or says that it is full.
    pub(super) fn offer(&self, work: W) -> Result<(), StoreError> {
        // `None` only while the store is being dropped, when nobody can call it.
        let Some(queue) = &self.queue else { return Err(stopped()) };
        queue.try_send(work).map_err(|refused| match refused {
            TrySendError::Full(_) => StoreError::Aborted("too much waits for the disk".into()),
            TrySendError::Disconnected(_) => stopped(),
        })
    }
}

impl Worker<Job> {
    /// Starts a thread that does jobs with `db`, and `end`s with it.
    pub(super) fn jobs(
        name: &str,
        room: usize,
        db: Connection,
        end: fn(Connection),
    ) -> Result<Self, OpenError> {
        Self::start(name, room, move |jobs| {
            for job in jobs {
                job(&db);
            }
            end(db);
        })
    }

    /// Hands `work` over; `lost` is the answer if the thread ends without one.
    pub(super) async fn run<T: Send + 'static, E: Into<StoreError>>(
        &self,
        lost: fn() -> StoreError,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        // A caller that has gone is no error.
        self.offer(Box::new(move |db| drop(reply.send(work(db).map_err(E::into)))))?;
        answer.await.unwrap_or_else(|_| Err(lost()))
    }
}

impl<W> fmt::Debug for Worker<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("thread", &self.thread).finish_non_exhaustive()
    }
}

impl<W> Drop for Worker<W> {
    fn drop(&mut self) {
        self.queue = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a thread of the store has panicked");
        }
    }
}

/// The answer of a store whose threads have ended.
pub(super) fn stopped() -> StoreError {
    StoreError::Aborted("the store has stopped".into())
}
