//! What is in the file, and every statement on it.

use std::convert::identity;

use actors::base::clock::Timestamp;
use actors::base::store::{Damaged, Written, millis};
use actors::device_flow::session::Session;
use actors::device_flow::store::record::{FIXED, PhaseTag, Record};
use actors::device_flow::store::{SessionKey, Write};
use rusqlite::{Connection, params};

use crate::store::sqlite::columns::{Columns, Sql, columns};
use crate::store::sqlite::schema::Schema;

/// Sessions deleted in one transaction, so that a group of writes never waits long behind a purge.
pub(super) const PURGE_CHUNK: u32 = 500;

pub(in crate::store::sqlite) const SCHEMA: Schema = Schema {
    // "DfPx"
    application_id: 0x4466_5078,
    steps: &[
        // Times are milliseconds since the epoch, hashes have 16 bytes, secrets are sealed.
        "CREATE TABLE session (
            device        BLOB    NOT NULL PRIMARY KEY,
            user          BLOB    NOT NULL,
            client_id     TEXT    NOT NULL,
            client_secret BLOB,
            scope         TEXT,
            agent         TEXT,
            requested_ms  INTEGER NOT NULL,
            rev           INTEGER NOT NULL,
            phase         INTEGER NOT NULL,
            expires_ms    INTEGER NOT NULL,
            purge_ms      INTEGER NOT NULL,
            browser       BLOB,
            state         BLOB,
            verifier      BLOB,
            confirmed_ms  INTEGER,
            grant_code    BLOB,
            mark_ms       INTEGER,
            sealed        BLOB
         ) STRICT, WITHOUT ROWID;
         CREATE UNIQUE INDEX session_user ON session (user);
         CREATE INDEX session_state ON session (state) WHERE state IS NOT NULL;
         CREATE INDEX session_purge ON session (purge_ms);",
        // Where the device is: an IPv4 address or an IPv6 /64, in 64 bits.
        "ALTER TABLE session ADD COLUMN network INTEGER;",
        "CREATE TABLE ledger (
            name   TEXT    NOT NULL PRIMARY KEY,
            number INTEGER NOT NULL
         ) STRICT, WITHOUT ROWID;",
        // Calls taken of an API's quota in a clock hour (hours since the epoch).
        "CREATE TABLE quota (
            api  TEXT    NOT NULL PRIMARY KEY,
            hour INTEGER NOT NULL,
            used INTEGER NOT NULL
         ) STRICT, WITHOUT ROWID;",
    ],
    synchronous: "FULL",
    cache_kib: 2_048,
};

columns!(Record as "session":
    device, user, client_id, client_secret, scope, agent, network, requested_ms, rev, phase, expires_ms,
    purge_at = "purge_ms", browser, state, verifier, confirmed_ms, grant = "grant_code", mark_ms, sealed,
);

static INSERT: Sql = Sql::new(|| Record::insert("ON CONFLICT DO NOTHING"));
/// Writes what an event can change, unless another revision is stored than the one before.
static UPDATE: Sql = Sql::new(|| {
    let numbered = Record::NAMES.iter().zip(1..).skip(1).filter(|(name, _)| !FIXED.contains(name));
    let set: Vec<_> = numbered.map(|(name, n)| format!("{name} = ?{n}")).collect();
    let rev = Record::NAMES.iter().position(|name| *name == "rev").map_or(0, |at| at + 1);
    format!("UPDATE session SET {} WHERE device = ?1 AND rev = ?{rev} - 1", set.join(", "))
});
pub(super) static BY_DEVICE: Sql =
    Sql::new(|| Record::select("session t WHERE t.device = ?1 AND t.purge_ms > ?2"));
pub(super) static BY_USER: Sql =
    Sql::new(|| Record::select("session t WHERE t.user = ?1 AND t.purge_ms > ?2"));
pub(super) static BY_STATE: Sql =
    Sql::new(|| Record::select("session t WHERE t.state = ?1 AND t.purge_ms > ?2"));
// The sign keeps the planner on the primary key, in whose order pages come.
pub(super) static PAGE_AFTER: Sql = Sql::new(|| {
    Record::select("session t WHERE t.device > ?1 AND +t.purge_ms > ?2 ORDER BY t.device LIMIT ?3")
});
static DENIED: Sql = Sql::new(|| Record::select("session t WHERE t.phase = ?1"));
pub(super) const PURGE: &str = "DELETE FROM session WHERE device IN \
    (SELECT device FROM session WHERE purge_ms <= ?1 ORDER BY purge_ms LIMIT ?2)";

pub(super) const MOVE_TIMES: &str = "UPDATE session SET requested_ms = requested_ms + ?1, \
    expires_ms = expires_ms + ?1, purge_ms = purge_ms + ?1, confirmed_ms = confirmed_ms + ?1, mark_ms = mark_ms + ?1";

/// Applies each write of a group on its own terms.
pub(super) fn apply(db: &Connection, writes: &[Write]) -> rusqlite::Result<Vec<Written>> {
    let mut insert = db.prepare_cached(&INSERT)?;
    let mut update = db.prepare_cached(&UPDATE)?;
    let apply_one = |write: &Write| {
        let rows = match write {
            Write::Insert(session) => Record::of(session, identity).execute(&mut insert)?,
            Write::Update { to } => Record::of(to, identity).execute(&mut update)?,
        };
        Ok(if rows == 1 { Written::Applied } else { Written::Conflict })
    };
    writes.iter().map(apply_one).collect()
}

/// One session by one of its keys.
pub(super) fn find(db: &Connection, key: SessionKey, now: Timestamp) -> rusqlite::Result<Option<Record>> {
    let (sql, key) = match &key {
        SessionKey::Device(device) => (&BY_DEVICE, device.as_bytes()),
        SessionKey::User(user) => (&BY_USER, user.as_bytes()),
        SessionKey::State(state) => (&BY_STATE, state.as_bytes()),
    };
    Record::find_one(db, sql, key, now)
}

/// All that were refused.
pub(super) fn denied(db: &Connection) -> rusqlite::Result<Vec<Record>> {
    Record::find(db, &DENIED, [PhaseTag::Denied as i32])
}

/// Deletes some of what is purgeable; answers how many went.
pub(super) fn purge(db: &Connection, now: Timestamp) -> rusqlite::Result<u64> {
    db.prepare_cached(PURGE)?.execute(params![millis(now), PURGE_CHUNK]).map(|gone| gone as u64)
}

pub(super) fn session(record: Record) -> Result<Session, Damaged> {
    record.session(identity)
}
