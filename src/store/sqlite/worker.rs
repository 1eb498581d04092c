//! A thread that owns a connection and does what it is handed, in order, out of a bounded queue.

use std::path::Path;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};

use actors::base::store::StoreError;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::files;
use super::schema::Schema;
use super::transaction::{Failed, fold};
use crate::store::OpenError;

/// Questions that may wait for the thread that reads.
const READS_QUEUED: usize = 4096;

/// What a thread is handed.
type Job = Box<dyn FnOnce(&Connection) + Send>;

/// The two threads of a file: a question waits for no fsync.
#[derive(Debug)]
pub(super) struct Workers {
    // The reader is dropped first: the last connection to close removes the write-ahead log.
    reader: Worker,
    writer: Worker,
}

impl Workers {
    /// Opens the file at `path`, which is made if it is missing, and starts the threads; `writes_queued` changes may
    /// wait. Blocks while it recovers what a crash left in the write-ahead log.
    pub(super) fn open(
        path: &Path,
        schema: &Schema,
        names: [&str; 2],
        writes_queued: usize,
    ) -> Result<Self, OpenError> {
        files::make_database(path)?;
        let writing = schema.open_writer(path)?;
        let reading = schema.open_reader(path)?;
        let [reader, writer] = names;
        Ok(Self {
            reader: Worker::start(reader, READS_QUEUED, reading, drop)?,
            writer: Worker::start(writer, writes_queued, writing, fold)?,
        })
    }

    /// Asks a question; any failure is certain.
    pub(super) async fn read<T: Send + 'static, E: Into<Failed>>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.reader.run(StoreError::Aborted, move |db| question(db).map_err(E::into)).await
    }

    /// Makes a change.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.run(StoreError::Unknown, change).await
    }
}

/// A thread and the queue it works off, until both are dropped.
#[derive(Debug)]
struct Worker {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread that does jobs with `db` until nothing more can come, then `end`s with it; `room` may wait.
    fn start(name: &str, room: usize, db: Connection, end: fn(Connection)) -> Result<Self, OpenError> {
        let (queue, jobs) = mpsc::sync_channel::<Job>(room);
        let work = move || {
            for job in jobs {
                job(&db);
            }
            end(db);
        };
        let thread = thread::Builder::new().name(name.into()).spawn(work).map_err(OpenError::Threads)?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Hands `work` over; it is `lost` if the thread ends with it in its hands.
    async fn run<T: Send + 'static>(
        &self,
        lost: fn(String) -> StoreError,
        work: impl FnOnce(&Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, StoreError> {
        const STOPPED: &str = "the store has stopped";
        let (reply, answer) = oneshot::channel();
        // A caller that has gone is no error.
        let job: Job = Box::new(move |db| drop(reply.send(work(db).map_err(|failed| failed.told(db)))));
        // `None` only while the store is being dropped, when nobody can call it.
        let Some(queue) = &self.queue else { return Err(StoreError::Aborted(STOPPED.into())) };
        queue.try_send(job).map_err(|refused| {
            StoreError::Aborted(match refused {
                TrySendError::Full(_) => "too much waits for the disk".into(),
                TrySendError::Disconnected(_) => STOPPED.into(),
            })
        })?;
        answer.await.unwrap_or_else(|_| Err(lost(STOPPED.into())))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.queue = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a thread of the store has panicked");
        }
    }
}
