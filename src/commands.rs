//! The operator's commands that work on the tokens: `import-php` and `tokens`.
//!
//! Owns what such a command needs: the installation's key and its token store. Promises: the store is opened beside a
//! running server, without its lock; no message holds more of a meter's number than was asked for. Refuses to look for tokens where no server has ever run: a `DATA_DIR`
//! mistyped would otherwise read as an empty store.

mod error;
pub mod import_php;
pub mod tokens;

use std::sync::Arc;

use actors::base::clock::SharedClock;
use actors::base::keyring::Keyring;
use actors::metering::tokens::TokenStore;

pub use self::error::{CommandError, SourceError};
use crate::config::Config;
use crate::secret;
use crate::store::{open_tokens, opens_with};

/// What a command works with: the key and the token store of a server.
struct Installation {
    store: Arc<dyn TokenStore>,
    keys: Keyring,
    clock: SharedClock,
}

impl Installation {
    /// Opens the installation's token store under its key, `None` if there is no key and thus no installation.
    async fn find(config: &Config, clock: SharedClock) -> Result<Option<Self>, CommandError> {
        match secret::find(config.storage.secret_key.as_ref(), &config.storage.data_dir)? {
            Some(key) => Self::open(config, clock, &key).await.map(Some),
            None => Ok(None),
        }
    }

    /// The same, with a key that is made if there is none.
    async fn make(config: &Config, clock: SharedClock) -> Result<Self, CommandError> {
        let fresh = secret::random()?;
        let key = secret::load(config.storage.secret_key.as_ref(), &config.storage.data_dir, || fresh)?;
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
