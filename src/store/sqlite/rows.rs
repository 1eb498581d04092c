//! The file of sessions: its layout, a [`Record`] as a row, and a row as a [`Record`].

use actors::device_flow::session::Session;
use actors::device_flow::store::record::{Head, Record};
use rusqlite::{CachedStatement, Row, params};

use super::schema::Schema;

pub(super) const SCHEMA: Schema = Schema {
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
    ],
    synchronous: "FULL",
    cache_kib: 2_048,
};

pub(super) const INSERT: &str = "INSERT INTO session (device, user, client_id, client_secret, scope, agent, \
    requested_ms, rev, phase, expires_ms, purge_ms, browser, state, verifier, confirmed_ms, grant_code, mark_ms, \
    sealed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18) \
    ON CONFLICT DO NOTHING";

pub(super) const UPDATE: &str = "UPDATE session SET rev = ?3, phase = ?4, expires_ms = ?5, purge_ms = ?6, \
    browser = ?7, state = ?8, verifier = ?9, confirmed_ms = ?10, grant_code = ?11, mark_ms = ?12, sealed = ?13 \
    WHERE device = ?1 AND rev = ?2";

/// The columns in the order [`record`] reads them; completed by the caller.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT device, user, client_id, client_secret, scope, agent, requested_ms, rev, phase, expires_ms, ",
            "purge_ms, browser, state, verifier, confirmed_ms, grant_code, mark_ms, sealed FROM session ",
            $rest
        )
    };
}
pub(super) use select;

/// Inserts; `false` if a code is taken.
pub(super) fn insert(statement: &mut CachedStatement<'_>, session: &Session) -> rusqlite::Result<bool> {
    let Record { device, user, client_id, client_secret, scope, agent, requested_ms, head } =
        Record::from(session);
    let Head {
        rev,
        phase,
        expires_ms,
        purge_ms,
        browser,
        state,
        verifier,
        confirmed_ms,
        grant,
        mark_ms,
        sealed,
    } = head;
    let rows = statement.execute(params![
        device,
        user,
        client_id,
        client_secret,
        scope,
        agent,
        requested_ms,
        rev,
        phase,
        expires_ms,
        purge_ms,
        browser,
        state,
        verifier,
        confirmed_ms,
        grant,
        mark_ms,
        sealed,
    ])?;
    Ok(rows == 1)
}

/// Updates; `false` if the stored revision is not the one before.
pub(super) fn update(statement: &mut CachedStatement<'_>, to: &Session) -> rusqlite::Result<bool> {
    let Head {
        rev,
        phase,
        expires_ms,
        purge_ms,
        browser,
        state,
        verifier,
        confirmed_ms,
        grant,
        mark_ms,
        sealed,
    } = Head::from(to);
    let rows = statement.execute(params![
        to.device.as_bytes(),
        i64::from(to.rev.wrapping_sub(1)),
        rev,
        phase,
        expires_ms,
        purge_ms,
        browser,
        state,
        verifier,
        confirmed_ms,
        grant,
        mark_ms,
        sealed,
    ])?;
    Ok(rows == 1)
}

/// Reads a row of a [`select!`].
pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        device: row.get(0)?,
        user: row.get(1)?,
        client_id: row.get(2)?,
        client_secret: row.get(3)?,
        scope: row.get(4)?,
        agent: row.get(5)?,
        requested_ms: row.get(6)?,
        head: Head {
            rev: row.get(7)?,
            phase: row.get(8)?,
            expires_ms: row.get(9)?,
            purge_ms: row.get(10)?,
            browser: row.get(11)?,
            state: row.get(12)?,
            verifier: row.get(13)?,
            confirmed_ms: row.get(14)?,
            grant: row.get(15)?,
            mark_ms: row.get(16)?,
            sealed: row.get(17)?,
        },
    })
}
