//! The shared stores: collections in MongoDB, for several instances.
//!
//! ```text
//!   any thread ── commit, find, … ──▶ worker threads of this store ──▶ driver's pool ──▶ mongod
//!                      ◀──────────── answer ────────────┘
//! ```
//!
//! [`MongoStore`] keeps the sessions; it hands out [`MongoTokens`], [`MongoMeters`] and [`MongoAudit`], which share what it
//! owns: connections (of reads, of writes, and of the follower, apart) and two threads for them, so that BSON and the driver's own tasks stay off the threads that
//! serve HTTP (`mongo/link.rs`). Promises: an applied write is journaled on a majority; reads come from the primary and
//! return nothing that could be rolled back; an update is one conditional write that never creates a document nor
//! replaces one; every operation ends within [`DEADLINE`], dead server or not. A failure is
//! `Aborted` only where nothing can have been written (`mongo/errors.rs`). Refuses nothing by itself: the driver's pools
//! make what is too much wait. The cache promises less, and says so (`mongo/meters.rs`).
//!
//! What was changed by any instance is found by the time the *server* noted when it applied the change
//! (`mongo/changes.rs`); no clock of an instance is compared with another's. Outdated documents are deleted by the server's
//! TTL monitor, late and unhurriedly, but for grants, which a server whose clock is wrong must not delete; every question
//! tests the purge time itself.

mod audit;
mod changes;
mod commits;
mod documents;
pub(crate) mod errors;
mod indexes;
mod instances;
mod layout;
mod ledger;
mod link;
mod meters;
pub(crate) mod php;
mod sessions;
mod shared_polls;
mod tokens;

use std::time::Duration;

pub use self::audit::MongoAudit;
pub use self::instances::{BEAT_EVERY, Instances};
pub use self::ledger::MongoLedger;
pub use self::meters::MongoMeters;
pub use self::sessions::MongoStore;
pub use self::tokens::MongoTokens;

/// Longest wait for one operation of the driver, whatever happens to the server; below the writer's own deadline,
/// so that the caller hears the reason.
pub const DEADLINE: Duration = Duration::from_secs(8);
/// Connections, half for reads and half for writes, unless the settings or the address say otherwise.
pub const POOL_SIZE: u32 = 16;
/// The database, unless the address or the settings name one.
pub const DATABASE: &str = "device_flow";

/// How to reach MongoDB.
#[derive(Clone, derive_more::Debug)]
pub struct MongoSettings {
    /// `mongodb://…` or `mongodb+srv://…`. May hold a password: never shown.
    #[debug(skip)]
    pub uri: String,
    /// Overrides the database that the address names; [`DATABASE`] if neither does.
    pub database: Option<String>,
    /// Overrides the `maxPoolSize` of the address; [`POOL_SIZE`] if neither is given.
    pub pool_size: Option<u32>,
}

impl MongoSettings {
    /// The defaults for the server at `uri`.
    pub fn new(uri: impl Into<String>) -> Self {
        Self { uri: uri.into(), database: None, pool_size: None }
    }
}

#[cfg(test)]
mod tests;
