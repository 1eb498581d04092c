//! Why a command did not do all that was asked. No message holds a token, a password, an address or an entry.

use std::io;
use std::path::PathBuf;

use actors::base::store::StoreError;
use actors::metering::tokens::installation::InstallationError;
use rand::rngs::SysError;

use crate::secret::SecretError;
use crate::store::OpenError;
use crate::store::mongo::php::PhpError;

/// Why a command did not do all that was asked, by what the operator must do.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Call it as its `--help` says.
    #[error("{0}; see --help")]
    Usage(&'static str),
    /// Name the `DATA_DIR` that the server uses.
    #[error("no server has run with DATA_DIR {}: it holds no secret key, and SECRET_KEY is not set", .0.display())]
    NoInstallation(PathBuf),
    /// Restore the secret key.
    #[error("the secret key is not available")]
    Secret(#[from] SecretError),
    /// Repair the store, or correct its address.
    #[error("the token store cannot be opened")]
    Open(#[from] OpenError),
    /// Use the `SECRET_KEY` or the `DATA_DIR` of the server.
    #[error(transparent)]
    Installation(#[from] InstallationError),
    /// Try again; what was done before stays.
    #[error("the token store failed; what was done before stays, and the command can be repeated")]
    Store(#[from] StoreError),
    /// Repair what is imported, or correct its address.
    #[error("the PHP server's tokens cannot be read")]
    Source(#[from] SourceError),
    /// Use MongoDB's tools.
    #[error(
        "nothing was done: MongoDB is backed up by its own tools, as `mongodump --uri=MONGODB_URI --out=DIR`, and restored by \
         `mongorestore`; keep a copy of SECRET_KEY, or of DATA_DIR/secret.key, apart from it"
    )]
    NothingToCopy,
    /// Restore a backup.
    #[error("what is stored is not sound: restore a backup, or the key")]
    Unsound,
    /// Do what was said of each.
    #[error("not everything is as it should be")]
    Unhealthy,
    /// Look it up again.
    #[error("no session has this code or an id that begins so")]
    NoSession,
    /// Give more digits.
    #[error("more than one session has an id that begins so: give more of its 32 digits, or its user code")]
    AmbiguousSession,
    /// Nothing is left to be done.
    #[error("the session has ended already")]
    SessionEnded,
    /// Revoke the grant.
    #[error(
        "its box has its token already: `tokens list` and `tokens revoke`, or the account at Enedis, end that"
    )]
    SessionDelivered,
    /// Try again.
    #[error("what came back from Enedis is being acted on: try again in a minute")]
    SessionInUse,
    /// Look the id up again.
    #[error("no live grant has an id that begins so")]
    NoGrant,
    /// Give more digits.
    #[error("more than one grant has an id that begins so: give more of its 32 digits")]
    Ambiguous,
    /// The terminal or pipe was closed.
    #[error("the output cannot be written")]
    Output(#[from] io::Error),
    /// Nothing to be done about it.
    #[error("the operating system gives no random numbers")]
    Entropy(#[from] SysError),
}

impl CommandError {
    /// Whether there was nothing to do.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::NothingToCopy)
    }

    /// Whether the command was called or configured wrongly, as opposed to having failed.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Usage(_)
                | Self::Source(SourceError::Mongo(PhpError::NoDatabase))
                | Self::Installation(InstallationError::OtherKey)
        )
    }
}

/// An error and what is behind it, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let reason = error.to_string();
        // Some messages quote their source already.
        if !text.contains(&reason) {
            text = format!("{text}: {reason}");
        }
        source = error.source();
    }
    text
}

/// Why the PHP server's entries cannot be read. Never holds an address or an entry.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Name a file that can be read.
    #[error("{}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Make it anew. Names the line at most.
    #[error("reading failed, or it is not whole")]
    Read(#[source] csv::Error),
    /// Look for the entries elsewhere.
    #[error("there is nothing in it")]
    Empty,
    /// Make it with `psql`; a dump is not read.
    #[error(
        "it is no CSV file with the columns key, meters and expires_at; `import-php --help` says how psql makes it"
    )]
    Columns,
    /// Its MongoDB cannot be read.
    #[error(transparent)]
    Mongo(#[from] PhpError),
}
