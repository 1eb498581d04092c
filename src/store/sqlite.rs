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

pub use self::audit::SqliteAudit;
pub use self::meters::SqliteMeters;
pub use self::sessions::SqliteStore;
pub use self::tokens::SqliteTokens;
