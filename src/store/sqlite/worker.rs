//! A thread that owns a connection and does what it is handed, in order, out of a bounded queue.

use std::path::Path;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};

use actors::store::StoreError;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::files;
use super::schema::Schema;
use super::transaction::{Failed, fold};
use crate::store::OpenError;

/// Changes that may wait for the thread that writes.
const WRITES_QUEUED: usize = 256;
/// Questions that may wait for the thread that reads.
const READS_QUEUED: usize = 4096;

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// The two threads of a file: a question waits for no fsync.
#[derive(Debug)]
pub(super) struct Workers {
    // The reader is dropped first: the last connection to close removes the write-ahead log.
    reader: Worker,
    writer: Worker,
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
            reader: Worker::start(reader, READS_QUEUED, reading, drop)?,
            writer: Worker::start(writer, WRITES_QUEUED, writing, fold)?,
        })
    }

    /// Asks a question; any failure is certain.
    pub(super) fn read<T: Send + 'static, E: Into<Failed>>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        self.reader.run(stopped, move |db| question(db).map_err(E::into))
    }

    /// Makes a change.
    pub(super) fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T, Failed> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        // The thread ended with the change in its hands.
        self.writer.run(|| StoreError::Unknown("the store has stopped".into()), change)
    }
}

#[derive(Debug)]
struct Worker {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(name: &str, room: usize, db: Connection, end: fn(Connection)) -> Result<Self, OpenError> {
        let (queue, jobs) = mpsc::sync_channel::<Job>(room);
        let work = move || {
            for job in jobs {
                job(&db);
            }
            end(db);
        };
        Ok(Self { queue: Some(queue), thread: Some(spawn(name, work)?) })
    }

    /// Hands `work` over; `lost` is the answer if the thread ends without one.
    fn run<T: Send + 'static>(
        &self,
        lost: fn() -> StoreError,
        work: impl FnOnce(&Connection) -> Result<T, Failed> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (reply, answer) = oneshot::channel();
        // A caller that has gone is no error.
        let job: Job = Box::new(move |db| drop(reply.send(work(db).map_err(StoreError::from))));
        match offer(self.queue.as_ref(), job) {
            Ok(()) => answer.map(move |answer| answer.unwrap_or_else(|_| Err(lost()))).boxed(),
            Err(refused) => ready(Err(refused)).boxed(),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.queue = None;
        join(self.thread.take());
    }
}

/// Waits for a thread whose queue has been dropped.
pub(super) fn join(thread: Option<JoinHandle<()>>) {
    if thread.is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("a thread of the store has panicked");
    }
}

/// Starts a thread.
pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    thread::Builder::new().name(name.into()).spawn(work).map_err(OpenError::Threads)
}

/// Puts `work` into a queue, or says that it is full.
pub(super) fn offer<T>(queue: Option<&SyncSender<T>>, work: T) -> Result<(), StoreError> {
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

/// The answer of a store whose threads have ended.
pub(super) fn stopped() -> StoreError {
    StoreError::Aborted("the store has stopped".into())
}
