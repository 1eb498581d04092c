//! The embedded stores: `SQLite` files in `DATA_DIR`.
//!
//! ```text
//!   commit, purge ──▶ bounded queue ──▶ writer thread ──▶ connection 1 ──▶ sessions.sqlite (WAL, synchronous=FULL)
//!   find, page    ──▶ bounded queue ──▶ reader thread ──▶ connection 2 ──▶      "  (a snapshot, never blocked)
//!
//!   the same two threads for the tokens ─────────────────────────────────▶ tokens.sqlite   (WAL, synchronous=FULL)
//!                        for the audit record ─────────────────────▶ audit.sqlite    (WAL, synchronous=FULL)
//!                        and for the cache of metering data ─────────────▶ meters.sqlite   (WAL, synchronous=NORMAL)
//! ```
//!
//! [`SqliteStore`] keeps the sessions and locks the directory. [`SqliteTokens`] and [`SqliteAudit`] take no lock: an
//! operator's command opens them beside the server. [`SqliteMeters`] comes from the [`SqliteStore`] and holds the same lock.

mod audit;
mod backup;
mod check;
mod columns;
mod files;
#[cfg(test)]
mod inspect;
mod ledger;
mod meters;
mod schema;
mod sessions;
mod tokens;
mod transaction;
mod worker;

use std::path::Path;

pub use self::audit::SqliteAudit;
pub use self::backup::Backup;
pub use self::check::{FileReport, belongs_to, check, probe};
pub use self::meters::SqliteMeters;
pub use self::sessions::SqliteStore;
pub use self::tokens::SqliteTokens;

use crate::store::OpenError;

/// Makes `dir` (mode 0700) if it is missing; refuses a backup that is not whole, and files that do not belong together. To
/// be called before anything in it is opened, by servers and by commands that write.
pub(super) fn prepare(dir: &Path) -> Result<(), OpenError> {
    files::make_directory(dir)?;
    Backup::put_to_use(dir)?;
    check::belong_together(dir)
}
