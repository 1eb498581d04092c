//! Tokens that the server of before gave, the PHP server: taken over as they are, all at once by a command or each when a
//! box first brings it, so that nobody consents again and no box is refused while the servers change.

use std::time::Duration;

use async_trait::async_trait;
use rand::Rng;

use super::{ACCESS_LIFE, Access, MeterGrant, Origin, Terms};
use crate::base::clock::Timestamp;
use crate::base::code::{BearerToken, DeviceCode};
use crate::base::keyring::{Keyring, TokenHash};
use crate::base::meter::Meter;
use crate::base::store::StoreError;
use crate::base::token_set::TokenSet;

/// What the PHP server gives a refresh token to live: four years of 365 days.
const REFRESH_LIFE: Duration = Duration::from_secs(4 * 365 * 86_400);

/// Which kind of token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lives as long as the consent.
    Refresh,
    /// Lives for 12 600 s.
    Access,
}

impl Kind {
    /// What a grant made of such a token is stored under. An access token's is one in which it stands alone, as the PHP
    /// server does not say which refresh token it came with.
    pub fn hash(self, keys: &Keyring, token: &BearerToken) -> TokenHash {
        match self {
            Self::Refresh => keys.refresh(token),
            Self::Access => keys.stand_in(token),
        }
    }
}

/// A live token of the PHP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlierToken {
    /// Which kind.
    pub kind: Kind,
    /// The token itself.
    pub bearer: BearerToken,
    /// What it covers; not empty.
    pub meters: Vec<Meter>,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl EarlierToken {
    /// The grant it becomes, with what is left of its life; of an access token with the token.
    pub fn grant(&self, keys: &Keyring, rng: &mut impl Rng) -> (MeterGrant, Option<Access>) {
        let Self { kind, bearer, meters, expires_at } = self;
        let before = |life: Duration| {
            let life = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
            Timestamp::from_millis(expires_at.as_millis().saturating_sub(life))
        };
        let refresh = kind.hash(keys, bearer);
        let terms = Terms {
            refresh,
            client_id: None,
            // Of an access token the consent is not known: no longer ago than this, or it would have ended.
            consented_at: before(REFRESH_LIFE),
            ends_at: *expires_at,
            origin: Origin::Import,
        };
        let grant = terms.grant(keys, rng, meters);
        let access = (*kind == Kind::Access)
            .then(|| Access::new(keys, keys.access(bearer), refresh, before(ACCESS_LIFE), *expires_at));
        (grant, access)
    }
}

/// How far a login is that was begun at the PHP server.
#[derive(Clone, Debug, PartialEq)]
pub enum EarlierLogin {
    /// Its owner has not decided.
    Pending,
    /// Its tokens, which the PHP server would answer.
    Done(TokenSet),
}

/// The PHP server's database. It is only read, and may be away: then the answer is an error, never "nothing".
#[async_trait]
pub trait EarlierTokens: Send + Sync + 'static {
    /// The token, if it is there and live at `now`.
    async fn find(
        &self,
        kind: Kind,
        token: &BearerToken,
        now: Timestamp,
    ) -> Result<Option<EarlierToken>, StoreError>;

    /// The login of a device, if there is one at `now`.
    async fn login(&self, code: &DeviceCode, now: Timestamp) -> Result<Option<EarlierLogin>, StoreError>;
}
