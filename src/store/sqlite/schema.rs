//! What is in the file, and how an older file becomes a current one.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::failed;
use crate::store::OpenError;

/// "DfPx": marks the file as ours.
const APPLICATION_ID: i32 = 0x4466_5078;
/// Wait for a lock that a tool like the `sqlite3` shell may hold.
const BUSY: Duration = Duration::from_secs(2);

/// Each step takes the layout from its index to the next; `user_version` counts the steps taken. Steps are on disk
/// in the field: append, never alter.
const STEPS: [&str; 1] = [
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
];

/// Settings of the writing connection.
fn prepare(db: &Connection) -> rusqlite::Result<()> {
    // Takes effect only in a file without tables: free pages can be handed back later.
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    // Where the log's shared memory does not work, SQLite keeps another mode and says so.
    let mode: String = db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(rusqlite::Error::InvalidParameterName(format!("journal_mode stays {mode}")));
    }
    db.pragma_update(None, "synchronous", "FULL")?;
    // After a burst the log is cut back to this many bytes.
    db.pragma_update(None, "journal_size_limit", 16 << 20)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "trusted_schema", "OFF")
}

/// Opens the file for writing and brings it to the current layout, one step a transaction. Refuses a file that is
/// not ours, or from the future, before it changes anything in it.
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    let broken = |error| failed(path, error);
    let mut db = Connection::open(path).map_err(broken)?;
    db.busy_timeout(BUSY).map_err(broken)?;
    let id: i32 = db.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(broken)?;
    let found: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(broken)?;
    let tables: u32 =
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(broken)?;
    let empty = id == 0 && found == 0 && tables == 0;
    if id != APPLICATION_ID && !empty {
        return Err(OpenError::Damaged { path: path.into(), source: None });
    }
    let known = u32::try_from(STEPS.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(OpenError::Newer { path: path.into(), found, known });
    }
    prepare(&db).map_err(broken)?;
    for (step, number) in STEPS.iter().zip(1..=known).skip(found as usize) {
        take(&mut db, step, number).map_err(broken)?;
    }
    Ok(db)
}

/// Opens the file for reading.
pub(super) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let open = || {
        let db = Connection::open(path)?;
        db.busy_timeout(BUSY)?;
        db.pragma_update(None, "temp_store", "MEMORY")?;
        db.pragma_update(None, "trusted_schema", "OFF")?;
        db.pragma_update(None, "query_only", "ON")?;
        Ok(db)
    };
    open().map_err(|error| failed(path, error))
}

fn take(db: &mut Connection, step: &str, number: u32) -> rusqlite::Result<()> {
    let step_taken = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    step_taken.execute_batch(step)?;
    step_taken.pragma_update(None, "application_id", APPLICATION_ID)?;
    step_taken.pragma_update(None, "user_version", number)?;
    step_taken.commit()
}
