//! One change of a file: all of it or nothing, and what a failure means.

use std::path::Path;
use std::time::Duration;

use actors::base::store::StoreError;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, ffi};

use super::files;
use super::schema::BUSY;

/// Free pages (of 4 KiB) that are kept at least, for what comes next; as many as are in use are kept in any case.
const SPARE_PAGES: u32 = 64;
/// Pages handed back at a time: what waits behind it waits some milliseconds.
const PAGES_AT_ONCE: u32 = 1024;
/// Bytes of the write-ahead log that may stay.
const LOG_KEPT: u64 = 256 << 10;

/// Why a piece of work failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: rusqlite::Error,
    /// Whether it may be found written after a crash.
    unknown: bool,
}

impl From<rusqlite::Error> for Failed {
    /// A failure that left nothing behind.
    fn from(error: rusqlite::Error) -> Self {
        Self { error, unknown: false }
    }
}

impl Failed {
    /// What the caller of the store is told.
    pub(super) fn told(self, db: &Connection) -> StoreError {
        let Self { error, unknown } = self;
        end_if_not_synced(db, &error);
        let text = format!("{}: {error}", name_of(db));
        if unknown { StoreError::Unknown(text) } else { StoreError::Aborted(text) }
    }
}

/// Ends the process if the disk did not take what it was handed: the kernel may have dropped it, and the next call to
/// sync would succeed and claim what is lost. A restart reads what is on the disk.
fn end_if_not_synced(db: &Connection, error: &rusqlite::Error) {
    let code = error.sqlite_error().map(|error| error.extended_code);
    if matches!(code, Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)) {
        tracing::error!(file = name_of(db), %error, "the disk may have lost what was written: the process ends");
        std::process::abort();
    }
}

fn name_of(db: &Connection) -> &str {
    db.path().and_then(|path| path.rsplit('/').next()).unwrap_or_default()
}

/// Does `work` in one transaction, which no other writer can come between.
pub(super) fn transact<T>(
    db: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, Failed> {
    if !db.is_autocommit() {
        // Left by work whose rollback failed.
        db.execute_batch("ROLLBACK")?;
    }
    // Rolled back where it is dropped before its end.
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    let done = work(&transaction)?;
    transaction.commit().map_err(|error| Failed { unknown: may_be_on_disk(&error), error })?;
    Ok(done)
}

/// Whether a commit that failed with `error` may come back after a crash: the log may end with it although it was
/// rolled back here.
fn may_be_on_disk(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::SystemIoFailure | ErrorCode::DiskFull) | None)
}

/// Deletes in one transaction what `work` says, and hands the room back; answers how much went.
pub(super) fn delete_some(
    db: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<u64>,
) -> Result<u64, Failed> {
    let gone = transact(db, work)?;
    give_back(db);
    Ok(gone)
}

/// Hands some free pages and the log back to the file system after deletions, so that the files do not stay as large as
/// they ever were. What was deleted is so whether this succeeds or not; it goes on with the next call.
pub(super) fn give_back(db: &Connection) {
    let hand_back = || {
        let count = |name| db.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
        let (free, all) = (count("freelist_count")?, count("page_count")?);
        let surplus = free.saturating_sub(SPARE_PAGES.max(all.saturating_sub(free))).min(PAGES_AT_ONCE);
        if surplus > 0 {
            // Each row is a page handed back: it goes on as long as it is asked for more.
            db.pragma(None, "incremental_vacuum", surplus, |_| Ok(()))?;
        }
        let log = db.path().map(|path| files::log_of(Path::new(path)).metadata());
        if log.is_some_and(|log| log.is_ok_and(|log| log.len() > LOG_KEPT)) {
            // Not in anybody's way: whoever still reads the log is not waited for.
            db.busy_timeout(Duration::ZERO)?;
            let cut = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            db.busy_timeout(BUSY)?;
            cut?;
        }
        Ok::<_, rusqlite::Error>(())
    };
    if let Err(error) = hand_back() {
        end_if_not_synced(db, &error);
        tracing::warn!(%error, "room of the database could not be handed back yet");
    }
}

/// Ends a writing connection: folds the write-ahead log into the file.
pub(super) fn fold(db: Connection) {
    let folded = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    if let Err(error) = folded.and_then(|()| db.close().map_err(|(_, error)| error)) {
        // Nothing is lost: the next start reads the log.
        tracing::warn!(%error, "the write-ahead log could not be folded into the database");
    }
}
