//! One change of a file: all of it or nothing, and what a failure means.

use actors::base::store::StoreError;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

/// Free pages (of 4 KiB) kept for what comes next; what is beyond is handed back to the file system.
const SPARE_PAGES: u32 = 1024;

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

impl From<Failed> for StoreError {
    fn from(Failed { error, unknown }: Failed) -> Self {
        if unknown { Self::Unknown(error.to_string()) } else { Self::Aborted(error.to_string()) }
    }
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
    if gone > 0 {
        give_back(db);
    }
    Ok(gone)
}

/// Hands some free pages back after a deletion, so that the file does not stay as large as it ever was. The deletion
/// is done whether this succeeds or not.
pub(super) fn give_back(db: &Connection) {
    let hand_back = || {
        let free: u32 = db.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        let surplus = free.saturating_sub(SPARE_PAGES).min(SPARE_PAGES);
        if surplus > 0 { db.execute_batch(&format!("PRAGMA incremental_vacuum({surplus})")) } else { Ok(()) }
    };
    if let Err(error) = hand_back() {
        tracing::warn!(%error, "free pages of the database could not be handed back yet");
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
