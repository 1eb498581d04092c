//! Where pending sessions are kept: the backends of [`actors::store::SessionStore`].
//!
//! - [`sqlite`] is the default: one file in `DATA_DIR`, for one process at a time;
//! - [`mongo`] is for several instances that share their sessions.
//!
//! Every backend passes the suite in `actors::testing::contract`. Both store the columns of
//! [`actors::store::record::Record`], in which no code, token or secret stands in clear. [`Counted`] wraps either
//! and counts what is asked of it.

mod counted;
pub mod mongo;
pub mod sqlite;

use std::io;
use std::path::PathBuf;

use actors::store::record::Damaged;

pub use self::counted::{Counted, StoreCounts};

/// Why a store cannot be opened, by what the operator must do. No variant holds an address with a password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Stop the other process, or give this one a directory of its own.
    #[error("another process uses {}: stop it, or choose another DATA_DIR", .0.display())]
    InUse(PathBuf),
    /// Make the directory writable, or make room on its disk.
    #[error("cannot use {}: it must be writable and have room", path.display())]
    Directory {
        /// The directory, or the file in it.
        path: PathBuf,
        /// What the system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Upgrade the program, or start with an empty directory.
    #[error("{} has layout {found}, written by a newer version; this one knows {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u32,
        /// The newest layout this version knows.
        known: u32,
    },
    /// Restore the file, or move it away. Pending sessions are lost with theirs, and boxes ask for new codes; grants are
    /// lost with theirs, and owners have to consent again.
    #[error("{} is damaged, or not of this program: restore it, or move it away", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found, unless it is the file of another program.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Correct the address of MongoDB. Says what is wrong without repeating it.
    #[error("the address of MongoDB is not valid: {0}")]
    Address(&'static str),
    /// Start MongoDB, or correct host and port.
    #[error("MongoDB does not answer: {0}")]
    Unreachable(String),
    /// Correct the user, the password or the rights of the user.
    #[error("MongoDB refuses this user: {0}")]
    Refused(String),
    /// MongoDB is too old, or the collection or its indexes are not as this program makes them.
    #[error("MongoDB cannot hold the sessions: {0}")]
    Layout(String),
    /// The system gives no thread.
    #[error("the store's threads do not start")]
    Threads(#[source] io::Error),
}

/// What is whole among the records read; one that no version of this program wrote is left out and reported, so that
/// it cannot keep the server from starting.
fn undamaged<T>(read: impl IntoIterator<Item = Result<T, Damaged>>) -> Vec<T> {
    let report = |error: &Damaged| tracing::warn!(%error, "a stored record is left out");
    read.into_iter().filter_map(|record| record.inspect_err(report).ok()).collect()
}
