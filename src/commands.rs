//! The operator's commands that work on the tokens: `import-php` and `tokens`.
//!
//! Owns what such a command needs, the installation's key and its token store, and the reasons for which one fails.
//! Promises: the store is opened beside a running server, without its lock; no message holds a token, a password or
//! more of a meter's number than was asked for. Refuses to look for tokens where no server has ever run: a `DATA_DIR`
//! mistyped would otherwise read as an empty store.

pub mod import_php;
pub mod tokens;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use actors::base::clock::SharedClock;
use actors::base::keyring::Keyring;
use actors::base::store::StoreError;
use actors::metering::tokens::TokenStore;
use rand::rngs::SysError;

use self::import_php::SourceError;
use crate::config::Config;
use crate::secret::{self, SecretError};
use crate::store::{OpenError, open_tokens, opens_with};

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
    #[error("the stored tokens were made with another SECRET_KEY than this one")]
    OtherKey,
    /// Try again; what was done before stays.
    #[error("the token store failed; what was done before stays, and the command can be repeated")]
    Store(#[from] StoreError),
    /// Repair what is imported, or correct its address.
    #[error("the PHP server's tokens cannot be read")]
    Source(#[from] SourceError),
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
    /// Whether the command was called or configured wrongly, as opposed to having failed.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Usage(_) | Self::Source(SourceError::NoDatabase))
    }
}

/// What a command works with: the key and the token store of a server.
struct Installation {
    store: Arc<dyn TokenStore>,
    keys: Keyring,
    clock: SharedClock,
}

impl Installation {
    /// Opens the installation's token store under its key, `None` if there is no key and thus no installation.
    async fn find(config: &Config, clock: SharedClock) -> Result<Option<Self>, CommandError> {
        match secret::find(config.storage.secret_key, &config.storage.data_dir)? {
            Some(key) => Self::open(config, clock, &key).await.map(Some),
            None => Ok(None),
        }
    }

    /// The same, with a key that is made if there is none.
    async fn make(config: &Config, clock: SharedClock) -> Result<Self, CommandError> {
        let fresh = secret::random()?;
        let key = secret::load(config.storage.secret_key, &config.storage.data_dir, || fresh)?;
        Self::open(config, clock, &key).await
    }

    async fn open(config: &Config, clock: SharedClock, key: &[u8; 32]) -> Result<Self, CommandError> {
        let store = open_tokens(&config.storage.store, &config.storage.data_dir).await?;
        let keys = Keyring::new(key);
        if !opens_with(store.as_ref(), &keys, clock.now()).await? {
            return Err(CommandError::OtherKey);
        }
        Ok(Self { store, keys, clock })
    }
}
