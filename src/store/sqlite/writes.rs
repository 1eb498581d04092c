//! The writer thread: the only one that changes the file.

use std::sync::mpsc::{Receiver, RecvError, TryRecvError};

use actors::base::clock::Timestamp;
use actors::base::store::millis;
use actors::base::store::{StoreError, Written};
use actors::device_flow::store::Write;
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::transaction::{fold, give_back, transact};
use super::{Outcome, aborted, rows};

/// Sessions deleted in one transaction, so that a group of writes never waits long behind a purge.
const PURGE_CHUNK: u32 = 500;
/// Transactions of one purge. With a purge every ten seconds, 2,000 sessions a second can go.
const PURGE_CHUNKS: u32 = 40;

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
    fold(db);
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
                if self.gone > 0 {
                    give_back(db);
                }
                drop(self.reply.send(Ok(self.gone)));
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

/// Commits a group as one transaction; its failure is the failure of every write in it.
fn commit(db: &Connection, writes: &[Write]) -> Vec<Outcome> {
    if writes.is_empty() {
        return Vec::new();
    }
    match transact(db, |db| apply(db, writes)) {
        Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
        Err(failed) => vec![Err(failed.into()); writes.len()],
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
