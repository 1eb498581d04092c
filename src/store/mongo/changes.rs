//! What any instance changed lately.
//!
//! The server stamps each update with its own time. A follower asks for all that was stamped since its cursor, which
//! is the server's time of the question before, and a while further back: a stamp is set when an update is applied,
//! but it can be read only once a majority has it, and the clocks of two servers of a set may differ. However late that is,
//! now and then the question reaches back to the beginning. An index holds all that a question needs; only documents
//! whose revision was not reported before are fetched. So a question costs what was decided of late, not what is stored.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use actors::base::keyring::DeviceHash;
use actors::device_flow::store::Cursor;
use futures_util::TryStreamExt;
use mongodb::bson::{Bson, DateTime, RawDocumentBuf, doc};
use mongodb::error::Result;
use mongodb::options::Hint;
use mongodb::{Collection, Database};

use super::documents::{binary, device};
use super::indexes::BY_CHANGED;
use super::ledger::server_time;

/// How far behind its cursor a question reaches; more than an update takes to reach a majority, as a rule.
const OVERLAP: Duration = Duration::from_secs(10);
/// How often all sessions that were ever updated are asked for: what was stamped long before it could be read is reported
/// so late at most.
const ALL_EVERY: Duration = Duration::from_secs(10);
/// Documents fetched at a time.
const FETCH: usize = 500;

/// What the answers reported. Holds for the cursor that came with it and for no other: a follower that lost the
/// answer, or a second follower, is told everything again.
#[derive(Debug, Default)]
pub(super) struct Memory {
    cursor: Option<Cursor>,
    /// When all was asked for.
    all_at: Option<Instant>,
    reported: HashMap<DeviceHash, i64>,
}

/// Documents changed since `cursor`, and the next cursor; none at all if there is no cursor yet.
pub(super) async fn changes(
    database: &Database,
    sessions: &Collection<RawDocumentBuf>,
    memory: &Mutex<Memory>,
    cursor: Option<Cursor>,
) -> Result<(Vec<RawDocumentBuf>, Cursor)> {
    // Asked before the question itself, so that nothing falls between two questions.
    let next = Cursor(server_time(database).await?);
    let Some(cursor) = cursor else { return Ok((Vec::new(), next)) };
    let Memory { all_at, reported: mut known, .. } = take_memory(memory, cursor);
    let recent = all_at.filter(|at| at.elapsed() < ALL_EVERY);
    // A server that took over may be behind the one before it.
    let lately = || cursor.min(next).0.saturating_sub(i64::try_from(OVERLAP.as_millis()).unwrap_or(i64::MAX));
    let asked_at = Instant::now();
    let stamped = stamped_since(sessions, recent.map_or(0, |_| lately())).await?;
    let fresh: Vec<_> =
        stamped.iter().filter(|(id, rev)| known.get(id) != Some(rev)).map(|(id, _)| *id).collect();
    let mut changed = Vec::with_capacity(fresh.len());
    for ids in fresh.chunks(FETCH) {
        let ids: Vec<Bson> = ids.iter().map(|id| Bson::Binary(binary(id))).collect();
        let found = sessions.find(doc! { "_id": { "$in": ids } }).await?;
        changed.extend(found.try_collect::<Vec<_>>().await?);
    }
    let reported = if recent.is_some() {
        known.extend(stamped);
        known
    } else {
        // What is not among all of them is gone.
        stamped
    };
    let (cursor, all_at) = (Some(next), recent.or(Some(asked_at)));
    *memory.lock().unwrap_or_else(PoisonError::into_inner) = Memory { cursor, all_at, reported };
    Ok((changed, next))
}

/// Keys and revisions of what was stamped at or after `since`, out of the index alone.
async fn stamped_since(
    sessions: &Collection<RawDocumentBuf>,
    since: i64,
) -> Result<HashMap<DeviceHash, i64>> {
    let filter = doc! { "changed": { "$gte": DateTime::from_millis(since) } };
    let found =
        sessions.find(filter).projection(doc! { "_id": 1, "rev": 1 }).hint(Hint::Name(BY_CHANGED.into()));
    let found: Vec<RawDocumentBuf> = found.await?.try_collect().await?;
    // A document without key and revision is none of ours.
    Ok(found.iter().filter_map(|found| Some((device(found)?, found.get_i64("rev").ok()?))).collect())
}

fn take_memory(memory: &Mutex<Memory>, cursor: Cursor) -> Memory {
    let taken = std::mem::take(&mut *memory.lock().unwrap_or_else(PoisonError::into_inner));
    if taken.cursor == Some(cursor) { taken } else { Memory::default() }
}
