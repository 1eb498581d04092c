//! The record of an installation, in its token store: which keys belong to it.
//!
//! It holds the root of all keyed hashes, sealed under `SECRET_KEY`. So another key opens nothing and is found out before
//! anything is done, and the key can be changed while every hash stays what it is.

use rand::{Rng, RngExt};
use zeroize::Zeroizing;

use super::TokenStore;
use crate::base::clock::Timestamp;
use crate::base::keyring::Keyring;
use crate::base::sealed::{Purpose, Sealed};
use crate::base::store::{StoreError, Written, millis};

/// Tries to write the record, where other processes write it at the same time.
const TRIES: usize = 8;

/// The record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Random.
    pub id: [u8; 16],
    /// When it was made.
    pub made_at: Timestamp,
    /// When its operator last said that this store is the right one: a token of before that it does not know is none.
    pub accepted_at: Option<Timestamp>,
    /// The root of all keyed hashes, sealed, bound to all of the above.
    pub root: Sealed,
}

/// Why the installation's keys are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum InstallationError {
    /// Give the key it was made with.
    #[error(
        "what is stored was made with another SECRET_KEY: restore it, or DATA_DIR/secret.key, or name it in \
         SECRET_KEYS_OLD; if it is lost, every owner has to consent again, with a new DATA_DIR, or another database of \
         MongoDB"
    )]
    OtherKey,
    /// The store does not answer.
    #[error("the installation's record cannot be read or written")]
    Store(#[from] StoreError),
}

/// A 256-bit secret.
pub type Secret = Zeroizing<[u8; 32]>;

impl Installation {
    /// Opens the installation in `store` under the first of `secrets`; the others are of before. Makes its record if there
    /// is none, and seals it anew if it is sealed under an older secret.
    pub async fn open(
        store: &dyn TokenStore,
        secrets: &[Secret],
        now: Timestamp,
        rng: &mut (impl Rng + Send),
    ) -> Result<Keyring, InstallationError> {
        let [today, old @ ..] = secrets else { return Err(InstallationError::OtherKey) };
        for _ in 0..TRIES {
            let found = store.installation().await?;
            let root = match &found {
                Some(record) => secrets.iter().find_map(|secret| record.root(&Keyring::new(secret))),
                None => first_root(store, secrets, now).await?,
            };
            let root = root.ok_or(InstallationError::OtherKey)?;
            let keys = Keyring::with(&root, today, old.iter().map(|secret| &**secret));
            let before = found.as_ref().map(|record| record.root.clone());
            if before.as_ref().and_then(Sealed::key) == Some(keys.key()) {
                return Ok(keys);
            }
            let record = found.unwrap_or_else(|| Self::fresh(now, rng)).seal(&keys, rng, &root);
            if store.put_installation(before, record).await? == Written::Applied {
                return Ok(keys);
            }
        }
        Err(StoreError::Aborted("other processes change it all the time".into()).into())
    }

    /// Notes that the operator says so at `now`; `false` if another process changed the record in between.
    pub async fn accept(
        self,
        store: &dyn TokenStore,
        keys: &Keyring,
        now: Timestamp,
        rng: &mut (impl Rng + Send),
    ) -> Result<bool, InstallationError> {
        let root = self.root(keys).ok_or(InstallationError::OtherKey)?;
        let (before, accepted) = (self.root.clone(), Self { accepted_at: Some(now), ..self });
        let written = store.put_installation(Some(before), accepted.seal(keys, rng, &root)).await?;
        Ok(written == Written::Applied)
    }

    /// Whether one of these secrets opens it.
    pub fn opens_with(&self, secrets: &[Secret]) -> bool {
        secrets.iter().any(|secret| self.root(&Keyring::new(secret)).is_some())
    }

    fn fresh(now: Timestamp, rng: &mut impl Rng) -> Self {
        Self { id: rng.random(), made_at: now, accepted_at: None, root: Sealed::from_bytes(Vec::new()) }
    }

    fn seal(self, keys: &Keyring, rng: &mut impl Rng, root: &Secret) -> Self {
        let root = keys.seal(rng, Purpose::Root(&self.bound()), &self.id, &**root);
        Self { root, ..self }
    }

    fn root(&self, keys: &Keyring) -> Option<Secret> {
        let root = Zeroizing::new(keys.open(Purpose::Root(&self.bound()), &self.id, &self.root)?);
        Some(Zeroizing::new(root.as_slice().try_into().ok()?))
    }

    fn bound(&self) -> Vec<u8> {
        let times = [Some(self.made_at), self.accepted_at].map(|time| time.map_or(-1, millis).to_be_bytes());
        times.concat()
    }
}

/// The root of an installation without a record: the secret that its hashes were made with. That is today's, also where
/// there is nothing yet, so that instances that start together agree; unless what is stored is of an older one.
async fn first_root(
    store: &dyn TokenStore,
    secrets: &[Secret],
    now: Timestamp,
) -> Result<Option<Secret>, StoreError> {
    let grants = store.grants(None, now).await?.grants;
    let made = |secret: &&Secret| {
        let keys = Keyring::new(secret);
        grants.is_empty() || grants.iter().any(|grant| grant.covered(&keys).is_some())
    };
    Ok(secrets.iter().find(made).cloned())
}
