//! What is in the file, and every statement on it.

use actors::base::clock::Timestamp;
use actors::base::keyring::CacheKey;
use actors::base::store::{millis, timestamp};
use actors::metering::cache::CacheEntry;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::store::sqlite::schema::Schema;

/// Entries evicted by one call: what waits behind it waits a tenth of a second when there are millions.
const CHUNK: u32 = 1_000;
/// Entries of one page.
const PAGE_ROWS: u32 = 500;

pub(in crate::store::sqlite) const SCHEMA: Schema = Schema {
    // "DfPm"
    application_id: 0x4466_506D,
    steps: &[
        // Times are milliseconds since the epoch, keys have 32 bytes, values are sealed. Rows lie in the order they
        // were stored in, so that what was stored together is read together, and only the index of keys is random.
        // `total` is the sum of the values, kept by the triggers: no start and no eviction has to add them up.
        "CREATE TABLE entry (
            id         INTEGER PRIMARY KEY,
            key        BLOB    NOT NULL UNIQUE,
            owner      BLOB    NOT NULL,
            sealed     BLOB    NOT NULL,
            fetched_ms INTEGER NOT NULL,
            expires_ms INTEGER NOT NULL
         ) STRICT;
         CREATE INDEX entry_owner ON entry (owner);
         CREATE INDEX entry_fetched ON entry (fetched_ms);
         CREATE INDEX entry_expires ON entry (expires_ms);
         CREATE TABLE total (bytes INTEGER NOT NULL) STRICT;
         INSERT INTO total (bytes) VALUES (0);
         CREATE TRIGGER entry_stored AFTER INSERT ON entry BEGIN
            UPDATE total SET bytes = bytes + length(NEW.sealed);
         END;
         CREATE TRIGGER entry_replaced AFTER UPDATE OF sealed ON entry BEGIN
            UPDATE total SET bytes = bytes + length(NEW.sealed) - length(OLD.sealed);
         END;
         CREATE TRIGGER entry_deleted AFTER DELETE ON entry BEGIN
            UPDATE total SET bytes = bytes - length(OLD.sealed);
         END;",
    ],
    synchronous: "NORMAL",
    cache_kib: 16_384,
};

// A sign before a column keeps its index out of the plan.
pub(super) const GET: &str =
    "SELECT owner, sealed, fetched_ms, expires_ms FROM entry WHERE key = ?1 AND +expires_ms > ?2";
const PAGE: &str = "SELECT owner, sealed, fetched_ms, expires_ms, key FROM entry \
    WHERE key > ?1 AND +expires_ms > ?2 ORDER BY key LIMIT ?3";
const RESEAL: &str = "UPDATE entry SET sealed = ?3 WHERE key = ?1 AND sealed = ?2";
const PUT: &str = "INSERT INTO entry (key, owner, sealed, fetched_ms, expires_ms) VALUES (?1, ?2, ?3, ?4, ?5) \
    ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, sealed = excluded.sealed, \
    fetched_ms = excluded.fetched_ms, expires_ms = excluded.expires_ms \
    WHERE excluded.fetched_ms >= entry.fetched_ms";
pub(super) const EVICT_EXPIRED: &str = "DELETE FROM entry WHERE id IN \
    (SELECT id FROM entry WHERE expires_ms <= ?1 ORDER BY expires_ms LIMIT ?2)";
pub(super) const OLDEST: &str = "SELECT id, length(sealed) FROM entry ORDER BY fetched_ms LIMIT ?1";
pub(super) const DELETE: &str = "DELETE FROM entry WHERE id = ?1";
pub(super) const FORGET: &str = "DELETE FROM entry WHERE owner = ?1";
pub(super) const TOTAL: &str = "SELECT bytes FROM total";

/// The live entries of some keys. One look-up a key on one prepared statement, in one view of the file.
pub(super) fn get(
    db: &Connection,
    mut keys: Vec<CacheKey>,
    now: Timestamp,
) -> rusqlite::Result<Vec<CacheEntry>> {
    // In the order of the index, and each once.
    keys.sort_unstable();
    keys.dedup();
    let view = db.unchecked_transaction()?;
    let mut statement = view.prepare_cached(GET)?;
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let entry = statement.query_row(params![key.0, millis(now)], |row| read(key, row));
        found.extend(entry.optional()?);
    }
    Ok(found)
}

fn read(key: CacheKey, row: &Row<'_>) -> rusqlite::Result<CacheEntry> {
    let (owner, sealed) = (CacheKey(row.get(0)?), row.get(1)?);
    Ok(CacheEntry { key, owner, sealed, fetched: timestamp(row.get(2)?), expires: timestamp(row.get(3)?) })
}

/// Some live entries behind a key.
pub(super) fn page(
    db: &Connection,
    after: Option<CacheKey>,
    now: Timestamp,
) -> rusqlite::Result<Vec<CacheEntry>> {
    // An empty key is below every other.
    let after = after.as_ref().map_or(&[][..], AsRef::as_ref);
    let mut page = db.prepare_cached(PAGE)?;
    page.query_map(params![after, millis(now), PAGE_ROWS], |row| read(CacheKey(row.get(4)?), row))?.collect()
}

/// Seals values anew that are still sealed as before.
pub(super) fn reseal(db: &Connection, entries: &[(CacheEntry, CacheEntry)]) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached(RESEAL)?;
    for (before, after) in entries {
        statement.execute(params![before.key.0, before.sealed, after.sealed])?;
    }
    Ok(())
}

/// Stores entries, unless what is stored was fetched later.
pub(super) fn put(db: &Connection, entries: &[CacheEntry]) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached(PUT)?;
    for entry in entries {
        let CacheEntry { key, owner, sealed, fetched, expires } = entry;
        statement.execute(params![key.0, owner.0, sealed, millis(*fetched), millis(*expires)])?;
    }
    Ok(())
}

/// Deletes a bounded number of entries: what has expired, then what was fetched first while there is too much.
pub(super) fn evict(db: &Connection, now: Timestamp, max_bytes: u64) -> rusqlite::Result<u64> {
    let expired = db.prepare_cached(EVICT_EXPIRED)?.execute(params![millis(now), CHUNK])?;
    let expired = u32::try_from(expired).unwrap_or(CHUNK);
    let mut gone = u64::from(expired);
    let mut left = total(db)?;
    let max_bytes = i64::try_from(max_bytes).unwrap_or(i64::MAX);
    if expired >= CHUNK || left <= max_bytes {
        return Ok(gone);
    }
    let oldest = db
        .prepare_cached(OLDEST)?
        .query_map([CHUNK - expired], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(i64, i64)>>>()?;
    let mut delete = db.prepare_cached(DELETE)?;
    for (id, bytes) in oldest {
        if left <= max_bytes {
            break;
        }
        delete.execute([id])?;
        left -= bytes;
        gone += 1;
    }
    Ok(gone)
}

pub(super) fn total(db: &Connection) -> rusqlite::Result<i64> {
    db.prepare_cached(TOTAL)?.query_row([], |row| row.get(0))
}

pub(super) fn forget(db: &Connection, owner: CacheKey) -> rusqlite::Result<u64> {
    db.prepare_cached(FORGET)?.execute([owner.0]).map(|gone| gone as u64)
}
