//! The writer thread: the only one that changes the file.

use std::sync::mpsc::{Receiver, RecvError, TryRecvError};

use actors::clock::Timestamp;
use actors::store::record::millis;
use actors::store::{StoreError, Write, Written};
use rusqlite::{Connection, ErrorCode, params};
use tokio::sync::oneshot;

use super::{Outcome, aborted, rows};

/// Sessions deleted in one transaction, so that a group of writes never waits long behind a purge.
const PURGE_CHUNK: u32 = 500;
/// Transactions of one purge. With a purge every ten seconds, 2,000 sessions a second can go.
const PURGE_CHUNKS: u32 = 40;
/// Free pages (of 4 KiB) kept for the next sessions; what is beyond is handed back to the file system.
const SPARE_PAGES: u32 = 1024;

/// What the thread is asked to do, with the way back.
pub(super) enum Change {
    /// Commit a group.
    Commit { writes: Vec<Write>, reply: oneshot::Sender<Vec<Outcome>> },
    /// Delete what is purgeable.
    Purge { now: Timestamp, reply: oneshot::Sender<Result<u64, StoreError>> },
    /// Lets a test reach the connection.
    #[cfg(test)]
    Probe(Box<dyn FnOnce(&Connection) + Send>),
}

/// A purge under way.
struct Purge {
    now: Timestamp,
    reply: oneshot::Sender<Result<u64, StoreError>>,
    gone: u64,
    chunks_left: u32,
}

/// Works until nobody can ask any more, then folds the write-ahead log into the file.
pub(super) fn run(db: Connection, queue: &Receiver<Change>) {
    let mut purge: Option<Purge> = None;
    loop {
        let next = match purge {
            None => queue.recv().map_err(|RecvError| TryRecvError::Disconnected),
            Some(_) => queue.try_recv(),
        };
        match next {
            Ok(Change::Commit { writes, reply }) => drop(reply.send(commit(&db, &writes))),
            Ok(Change::Purge { now, reply }) => {
                if let Some(running) = purge.replace(Purge { now, reply, gone: 0, chunks_left: PURGE_CHUNKS })
                {
                    drop(running.reply.send(Ok(running.gone)));
                }
            }
            #[cfg(test)]
            Ok(Change::Probe(probe)) => probe(&db),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => break,
        }
        // A purge takes turns with the groups: neither waits for the other's end.
        purge = purge.and_then(|purge| purge.go_on(&db));
    }
    if let Some(purge) = purge {
        drop(purge.reply.send(Ok(purge.gone)));
    }
    let folded = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    if let Err(error) = folded.and_then(|()| db.close().map_err(|(_, error)| error)) {
        // Nothing is lost: the next start reads the log.
        tracing::warn!(%error, "the write-ahead log could not be folded into the database");
    }
}

impl Purge {
    /// Deletes one chunk; `None` once the purge has answered.
    fn go_on(mut self, db: &Connection) -> Option<Self> {
        match delete_chunk(db, self.now) {
            Ok(gone) => {
                self.gone += u64::from(gone);
                self.chunks_left -= 1;
                if gone == PURGE_CHUNK && self.chunks_left > 0 {
                    return Some(self);
                }
                let outcome = if self.gone > 0 { give_back(db) } else { Ok(()) };
                drop(self.reply.send(outcome.map(|()| self.gone).map_err(|error| aborted(&error))));
            }
            Err(error) => drop(self.reply.send(Err(aborted(&error)))),
        }
        None
    }
}

fn delete_chunk(db: &Connection, now: Timestamp) -> rusqlite::Result<u32> {
    let mut statement = db.prepare_cached(
        "DELETE FROM session WHERE device IN \
         (SELECT device FROM session WHERE purge_ms <= ?1 ORDER BY purge_ms LIMIT ?2)",
    )?;
    let gone = statement.execute(params![millis(now), PURGE_CHUNK])?;
    Ok(u32::try_from(gone).unwrap_or(PURGE_CHUNK))
}

/// Hands some free pages back, so that the file does not stay as large as it ever was.
fn give_back(db: &Connection) -> rusqlite::Result<()> {
    let free: u32 = db.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    let surplus = free.saturating_sub(SPARE_PAGES).min(SPARE_PAGES);
    if surplus > 0 { db.execute_batch(&format!("PRAGMA incremental_vacuum({surplus})")) } else { Ok(()) }
}

/// Commits a group as one transaction; its failure is the failure of every write in it.
fn commit(db: &Connection, writes: &[Write]) -> Vec<Outcome> {
    if writes.is_empty() {
        return Vec::new();
    }
    match transact(db, writes) {
        Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error); writes.len()],
    }
}

fn transact(db: &Connection, writes: &[Write]) -> Result<Vec<Written>, StoreError> {
    if !db.is_autocommit() {
        // Left by a group whose rollback failed.
        run_cached(db, "ROLLBACK").map_err(|error| aborted(&error))?;
    }
    run_cached(db, "BEGIN IMMEDIATE").map_err(|error| aborted(&error))?;
    let outcomes = match apply(db, writes) {
        Ok(outcomes) => outcomes,
        Err(error) => {
            roll_back(db);
            return Err(aborted(&error));
        }
    };
    match run_cached(db, "COMMIT") {
        Ok(()) => Ok(outcomes),
        Err(error) => {
            roll_back(db);
            Err(if may_be_on_disk(&error) { StoreError::Unknown(error.to_string()) } else { aborted(&error) })
        }
    }
}

fn apply(db: &Connection, writes: &[Write]) -> rusqlite::Result<Vec<Written>> {
    let mut insert = db.prepare_cached(rows::INSERT)?;
    let mut update = db.prepare_cached(rows::UPDATE)?;
    let apply_one = |write: &Write| {
        let applied = match write {
            Write::Insert(session) => rows::insert(&mut insert, session)?,
            Write::Update { to } => rows::update(&mut update, to)?,
        };
        Ok(if applied { Written::Applied } else { Written::Conflict })
    };
    writes.iter().map(apply_one).collect()
}

/// Whether a commit that failed with `error` may come back after a crash: the log may end with it although it was
/// rolled back here.
fn may_be_on_disk(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::SystemIoFailure | ErrorCode::DiskFull) | None)
}

fn roll_back(db: &Connection) {
    // SQLite may have rolled back by itself.
    if !db.is_autocommit()
        && let Err(error) = run_cached(db, "ROLLBACK")
    {
        tracing::warn!(%error, "a failed group of writes could not be rolled back yet");
    }
}

fn run_cached(db: &Connection, sql: &str) -> rusqlite::Result<()> {
    db.prepare_cached(sql)?.execute([]).map(drop)
}
