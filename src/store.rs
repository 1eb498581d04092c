//! Where everything that outlives a request is kept: the backends of [`SessionStore`], [`TokenStore`],
//! [`MeterCache`] and [`AuditLog`].
//!
//! - [`sqlite`] is the default: files in `DATA_DIR`, for one server at a time;
//! - [`mongo`] is for several instances that share them.
//!
//! Every backend passes the suites in `actors::testing`. Both store flat records in which no code, token, meter or
//! secret stands in clear. [`Counted`] wraps a store of sessions and counts what is asked of it.
//!
//! A server opens all of it ([`Stores::open`]); a command opens it beside a server that runs ([`Stores::beside`]), or the
//! record of what it does alone ([`open_audit`]).

mod counted;
pub mod mongo;
pub mod sqlite;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actors::base::audit::AuditLog;
use actors::base::ledger::Ledger;
use actors::base::store::{Damaged, StoreError};
use actors::device_flow::store::SessionStore;
use actors::metering::cache::MeterCache;
use actors::metering::tokens::TokenStore;

pub use self::counted::{Counted, StoreCounts};
use self::mongo::{Instances, MongoAudit, MongoSettings, MongoStore};
use self::sqlite::{SqliteAudit, SqliteStore, SqliteTokens};
use crate::config::StoreConfig;

/// All that a server keeps.
#[derive(Clone, derive_more::Debug)]
#[debug("Stores")]
pub struct Stores {
    /// Pending sessions.
    pub sessions: Arc<dyn SessionStore>,
    /// Who was given what.
    pub audit: Arc<dyn AuditLog>,
    /// Numbers that outlive a process.
    pub ledger: Arc<dyn Ledger>,
    /// Our own tokens, and the installation's record.
    pub tokens: Arc<dyn TokenStore>,
    /// Metering data that was fetched before, with `FLOW=CLIENT_CREDENTIALS`.
    pub meters: Option<Arc<dyn MeterCache>>,
    /// Through which the server joins the other instances, if there may be any.
    shared: Option<Arc<MongoStore>>,
}

impl Stores {
    /// Opens the stores of a server: those in `data_dir`, which it locks, or those in MongoDB, through one pool of
    /// connections. Blocks while files recover from a crash.
    pub async fn open(config: &StoreConfig, data_dir: &Path, metering: bool) -> Result<Self, OpenError> {
        Self::with(config, data_dir, metering, SqliteStore::open).await
    }

    /// The same without the lock, for an operator's command. A server may run meanwhile.
    pub async fn beside(config: &StoreConfig, data_dir: &Path) -> Result<Self, OpenError> {
        Self::with(config, data_dir, true, SqliteStore::beside).await
    }

    async fn with(
        config: &StoreConfig,
        data_dir: &Path,
        metering: bool,
        open: fn(&Path) -> Result<SqliteStore, OpenError>,
    ) -> Result<Self, OpenError> {
        Ok(match config {
            StoreConfig::Embedded => {
                sqlite::prepare(data_dir)?;
                // Sessions first: they take the lock.
                let sessions = open(data_dir)?;
                let audit = Arc::new(SqliteAudit::open(data_dir)?);
                let tokens = Arc::new(SqliteTokens::open(data_dir)?);
                let meters = if metering { Some(Arc::new(sessions.meters()?) as _) } else { None };
                let sessions = Arc::new(sessions);
                Self {
                    ledger: Arc::clone(&sessions) as Arc<dyn Ledger>,
                    sessions,
                    audit,
                    tokens,
                    meters,
                    shared: None,
                }
            }
            StoreConfig::Mongo { uri, pool_size } => {
                let sessions = Arc::new(MongoStore::connect(mongo_settings(uri, *pool_size)).await?);
                let audit = Arc::new(sessions.audit().await?);
                let tokens = Arc::new(sessions.tokens().await?);
                let meters = if metering { Some(Arc::new(sessions.meters().await?) as _) } else { None };
                let shared = Some(Arc::clone(&sessions));
                Self { ledger: Arc::new(sessions.ledger()), sessions, audit, tokens, meters, shared }
            }
        })
    }

    /// How many documents each collection has, about; nothing where files are used.
    pub async fn rows(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        match &self.shared {
            Some(sessions) => sessions.rows().await,
            None => Ok(BTreeMap::new()),
        }
    }

    /// Joins the other instances, whose `settings` have to be the same. `None`: there can be no other.
    pub async fn join(&self, settings: &[(&'static str, String)]) -> Result<Option<Instances>, OpenError> {
        match &self.shared {
            Some(sessions) => sessions.join(settings).await.map(Some),
            None => Ok(None),
        }
    }
}

/// Opens the audit record alone, for an operator's command. Takes no lock: a server may run meanwhile.
pub async fn open_audit(config: &StoreConfig, data_dir: &Path) -> Result<Arc<dyn AuditLog>, OpenError> {
    Ok(match config {
        StoreConfig::Embedded => {
            sqlite::prepare(data_dir)?;
            Arc::new(SqliteAudit::open(data_dir)?)
        }
        StoreConfig::Mongo { uri, pool_size } => {
            Arc::new(MongoAudit::connect(mongo_settings(uri, *pool_size)).await?)
        }
    })
}

fn mongo_settings(uri: &str, pool_size: u32) -> MongoSettings {
    MongoSettings { pool_size: Some(pool_size), ..MongoSettings::new(uri) }
}

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
        /// The file, or the database of MongoDB.
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
    /// Restore all files from one backup, or move the one away.
    #[error(
        "{} belongs to another installation than tokens.sqlite, or that is missing: restore all files from one backup",
        .0.display()
    )]
    OtherInstallation(PathBuf),
    /// Copy the backup anew.
    #[error("{} is not as backup.json has it: the backup is not whole, copy all of it to an empty directory", .0.display())]
    HalfRestored(PathBuf),
    /// Correct the address of MongoDB. Says what is wrong without repeating it.
    #[error("the address of MongoDB is not valid: {0}")]
    Address(&'static str),
    /// Start MongoDB, or correct host and port.
    #[error("MongoDB does not answer: {0}")]
    Unreachable(String),
    /// Correct the user, the password or the rights of the user.
    #[error("MongoDB refuses this user: {0}")]
    Refused(String),
    /// Give all instances the same.
    #[error(
        "another instance is running on this database with another {0}: it has to be the same for all (one that was \
         killed counts for half a minute)"
    )]
    Disagrees(&'static str),
    /// MongoDB is too old, or a collection or its indexes are not as this program makes them.
    #[error("MongoDB cannot hold what this program keeps: {0}")]
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
