//! How a file is opened, and how an older file becomes a current one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use crate::store::OpenError;

/// Wait for a lock that another process may hold: an operator's command, or a tool like the `sqlite3` shell.
pub(super) const BUSY: Duration = Duration::from_secs(2);

/// What is in a file, and how it is kept.
#[derive(Debug)]
pub(super) struct Schema {
    /// Marks the file as ours, and as this one of ours.
    pub application_id: i32,
    /// Each step takes the layout from its index to the next; `user_version` counts the steps taken. Steps are on
    /// disk in the field: append, never alter.
    pub steps: &'static [&'static str],
    /// `FULL`: a commit is on disk. `NORMAL`: the file stays whole, but a power cut may take the last commits.
    pub synchronous: &'static str,
    /// Memory for pages, of each connection.
    pub cache_kib: u32,
}

impl Schema {
    /// Opens the file for writing and brings it to the current layout, one step a transaction. Refuses a file that
    /// is not ours, or from the future, before it changes anything in it.
    pub(super) fn open_writer(&self, path: &Path) -> Result<Connection, OpenError> {
        let broken = |error| failed(path, error);
        let mut db = Connection::open(path).map_err(broken)?;
        db.busy_timeout(BUSY).map_err(broken)?;
        let found = self.judge(&mut db, path)?;
        self.prepare(&db).map_err(broken)?;
        for (step, number) in self.steps.iter().zip(1..).skip(found as usize) {
            self.take(&mut db, step, number).map_err(broken)?;
        }
        Ok(db)
    }

    /// The layout of a file, unless it is not ours or from the future.
    pub(super) fn judge(&self, db: &mut Connection, path: &Path) -> Result<u32, OpenError> {
        let (id, found, tables) = look(db).map_err(|error| failed(path, error))?;
        let empty = id == 0 && found == 0 && tables == 0;
        if id != self.application_id && !empty {
            return Err(OpenError::Damaged { path: path.into(), source: None });
        }
        let known = u32::try_from(self.steps.len()).unwrap_or(u32::MAX);
        if found > known {
            return Err(OpenError::Newer { path: path.into(), found, known });
        }
        Ok(found)
    }

    /// Opens the file for reading.
    pub(super) fn open_reader(&self, path: &Path) -> Result<Connection, OpenError> {
        let open = || {
            let db = Connection::open(path)?;
            db.busy_timeout(BUSY)?;
            self.set_memory(&db)?;
            db.pragma_update(None, "query_only", "ON")?;
            Ok(db)
        };
        open().map_err(|error| failed(path, error))
    }

    /// Settings of the writing connection.
    fn prepare(&self, db: &Connection) -> rusqlite::Result<()> {
        // Takes effect only in a file without tables: free pages can be handed back later.
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        // Where the log's shared memory does not work, SQLite keeps another mode and says so.
        let mode: String = db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if mode != "wal" {
            return Err(rusqlite::Error::InvalidParameterName(format!("journal_mode stays {mode}")));
        }
        db.pragma_update(None, "synchronous", self.synchronous)?;
        // After a burst the log is cut back to this many bytes.
        db.pragma_update(None, "journal_size_limit", 16 << 20)?;
        self.set_memory(db)
    }

    fn set_memory(&self, db: &Connection) -> rusqlite::Result<()> {
        db.pragma_update(None, "cache_size", -i64::from(self.cache_kib))?;
        db.pragma_update(None, "temp_store", "MEMORY")?;
        db.pragma_update(None, "trusted_schema", "OFF")
    }

    fn take(&self, db: &mut Connection, step: &str, number: u32) -> rusqlite::Result<()> {
        let step_taken = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: u32 = step_taken.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version >= number {
            // Another process, which opened the file at the same time, was first.
            return Ok(());
        }
        step_taken.execute_batch(step)?;
        step_taken.pragma_update(None, "application_id", self.application_id)?;
        step_taken.pragma_update(None, "user_version", number)?;
        step_taken.commit()
    }
}

/// Whose file it is, its layout and its tables, in one view: another process that makes it meanwhile is seen wholly or
/// not at all.
fn look(db: &mut Connection) -> rusqlite::Result<(i32, u32, u32)> {
    let view = db.transaction()?;
    Ok((
        view.pragma_query_value(None, "application_id", |row| row.get(0))?,
        view.pragma_query_value(None, "user_version", |row| row.get(0))?,
        view.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?,
    ))
}

/// Whether the file itself is at fault.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

/// A failure to open `path`, by what the operator must do.
pub(super) fn failed(path: &Path, error: rusqlite::Error) -> OpenError {
    let path = PathBuf::from(path);
    if is_damage(&error) {
        return OpenError::Damaged { path, source: Some(error.into()) };
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse(path),
        _ => OpenError::Directory { path, source: error.into() },
    }
}
