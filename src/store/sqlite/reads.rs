//! What the reader thread is asked.

use actors::base::clock::Timestamp;
use actors::base::keyring::DeviceHash;
use actors::base::store::StoreError;
use actors::base::store::millis;
use actors::device_flow::session::Session;
use actors::device_flow::store::{Page, SessionKey};
use rusqlite::{Connection, OptionalExtension, params};

use super::aborted;
use super::rows::{record, select};

/// Sessions of one page: some hundred kilobytes, some milliseconds.
const PAGE: u32 = 1000;

/// One session by one of its keys.
pub(super) fn find(db: &Connection, key: SessionKey, now: Timestamp) -> Result<Option<Session>, StoreError> {
    let (sql, key) = match &key {
        SessionKey::Device(device) => (select!("WHERE device = ?1 AND purge_ms > ?2"), device.as_bytes()),
        SessionKey::User(user) => (select!("WHERE user = ?1 AND purge_ms > ?2"), user.as_bytes()),
        SessionKey::State(state) => (select!("WHERE state = ?1 AND purge_ms > ?2"), state.as_bytes()),
    };
    let found = db
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_row(params![key, millis(now)], record).optional())
        .map_err(|error| aborted(&error))?;
    found.map(Session::try_from).transpose().map_err(StoreError::from)
}

/// The live sessions behind one.
pub(super) fn page(db: &Connection, after: Option<DeviceHash>, now: Timestamp) -> Result<Page, StoreError> {
    // An empty key is below every other. The sign keeps the planner on the primary key, in whose order pages come.
    let sql = select!("WHERE device > ?1 AND +purge_ms > ?2 ORDER BY device LIMIT ?3");
    let after = after.map(|device| device.as_bytes().to_vec()).unwrap_or_default();
    let records = db
        .prepare_cached(sql)
        .and_then(|mut statement| {
            statement.query_map(params![after, millis(now), PAGE], record)?.collect::<Result<Vec<_>, _>>()
        })
        .map_err(|error| aborted(&error))?;
    let last = records.last().filter(|_| records.len() == PAGE as usize);
    let next = last.and_then(|record| DeviceHash::from_slice(&record.device));
    Ok(Page { sessions: crate::store::undamaged(records.into_iter().map(Session::try_from)), next })
}

/// Does the file answer?
pub(super) fn ping(db: &Connection) -> Result<(), StoreError> {
    db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(|error| aborted(&error))
}
