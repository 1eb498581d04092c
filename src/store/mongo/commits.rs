//! A group of writes: one `insert_many` beside one conditional `update_one` for each update. The server journals
//! what arrives together with one flush.

use actors::base::store::{StoreError, Written};
use actors::device_flow::session::Session;
use actors::device_flow::store::Write;
use actors::device_flow::store::record::{FIXED, Record};
use futures_util::future::{join, join_all};
use mongodb::Collection;
use mongodb::bson::{DateTime, Document, RawDocumentBuf, doc};
use mongodb::error::{Error, ErrorKind, InsertManyError};

use super::DEADLINE;
use super::documents::{binary, fields};
use super::errors::{DUPLICATE_KEY, describe_concern, failed_document, failed_write};
use super::link::late;

type Outcome = Result<Written, StoreError>;

/// Commits a group; the order of its writes does not matter, as they are about different sessions.
pub(super) async fn commit(sessions: &Collection<RawDocumentBuf>, writes: Vec<Write>) -> Vec<Outcome> {
    let documents: Vec<_> = writes
        .iter()
        .filter_map(|write| match write {
            Write::Insert(session) => Some(insertion(session)),
            Write::Update { .. } => None,
        })
        .collect();
    let updating = writes.iter().filter_map(|write| match write {
        Write::Insert(_) => None,
        Write::Update { to } => {
            let before = i64::from(to.rev.wrapping_sub(1));
            let filter = doc! { "_id": binary(to.device), "rev": before };
            Some(update_one(sessions, filter, update(to)))
        }
    });
    let (inserted, updated) = join(insert_many(sessions, documents), join_all(updating)).await;
    let (mut inserted, mut updated) = (inserted.into_iter(), updated.into_iter());
    let outcome = |write: &Write| match write {
        Write::Insert(_) => inserted.next(),
        Write::Update { .. } => updated.next(),
    };
    // Both lists have one outcome for each write that went into them.
    writes.iter().map(outcome).map(|outcome| outcome.unwrap_or_else(|| Err(late()))).collect()
}

async fn update_one(sessions: &Collection<RawDocumentBuf>, filter: Document, update: Document) -> Outcome {
    match tokio::time::timeout(DEADLINE, sessions.update_one(filter, update)).await {
        Ok(Ok(updated)) if updated.matched_count == 1 => Ok(Written::Applied),
        Ok(Ok(_)) => Ok(Written::Conflict),
        Ok(Err(error)) => Err(failed_write(&error)),
        Err(_) => Err(late()),
    }
}

/// Inserts documents, each on its own; one outcome for each.
pub(super) async fn insert_many(
    collection: &Collection<RawDocumentBuf>,
    documents: Vec<Document>,
) -> Vec<Outcome> {
    let count = documents.len();
    if count == 0 {
        return Vec::new();
    }
    // Every document goes on its own: one that is refused does not stop those behind it.
    let collection = collection.clone_with_type::<Document>();
    let inserting = async { collection.insert_many(documents).ordered(false).await };
    match tokio::time::timeout(DEADLINE, inserting).await {
        Ok(Ok(_)) => vec![Ok(Written::Applied); count],
        Ok(Err(error)) => insert_outcomes(&error, count),
        Err(_) => vec![Err(late()); count],
    }
}

/// One outcome for each document of an insert that did not go through as a whole.
fn insert_outcomes(error: &Error, count: usize) -> Vec<Outcome> {
    let ErrorKind::InsertMany(InsertManyError { write_errors, write_concern_error, .. }) = &*error.kind
    else {
        return vec![Err(failed_write(error)); count];
    };
    // What was not refused was written; but if the majority did not confirm it, it may yet be lost.
    let rest = match write_concern_error {
        None => Ok(Written::Applied),
        Some(concern) => Err(StoreError::Unknown(describe_concern(concern))),
    };
    let mut outcomes = vec![rest; count];
    for refused in write_errors.iter().flatten() {
        if let Some(outcome) = outcomes.get_mut(refused.index) {
            *outcome = match refused.code {
                DUPLICATE_KEY => Ok(Written::Conflict),
                code => Err(failed_document(code, refused.code_name.as_deref())),
            };
        }
    }
    outcomes
}

pub(super) fn insertion(session: &Session) -> Document {
    fields(&Record::of(session, DateTime::from_millis)).0
}

/// The change that takes a stored session to `to`. What `to` leaves out is removed.
pub(super) fn update(to: &Session) -> Document {
    let (set, unset) = fields(&Record::of(to, DateTime::from_millis));
    let changing = |fields: Document| -> Document {
        fields.into_iter().filter(|(name, _)| !FIXED.contains(&name.as_str())).collect()
    };
    let (set, unset) = (changing(set), changing(unset));
    let mut update = doc! { "$set": set, "$currentDate": { "changed": true } };
    if !unset.is_empty() {
        update.insert("$unset", unset);
    }
    update
}
