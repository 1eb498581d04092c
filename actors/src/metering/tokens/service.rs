//! What is done with our own tokens: given for a consent, renewed by a refresh, checked at the data endpoint.
//!
//! No actor: it owns no state but a generator of randomness. The store decides every race, nothing is
//! remembered between two questions, and so a revocation counts at once, whoever made it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::{ACCESS_LIFE, Access, MeterGrant, Origin, TokenStore, sealed_meters};
use crate::base::clock::{SharedClock, Timestamp};
use crate::base::code::BearerToken;
use crate::base::keyring::{GrantHash, Keyring, StateHash, TokenHash};
use crate::base::meter::{Meter, meters_text, parse_meters};
use crate::base::store::{StoreError, Written};
use crate::base::token_set::TokenSet;

/// Gives, renews and checks.
pub struct TokenService {
    store: Arc<dyn TokenStore>,
    keys: Arc<Keyring>,
    clock: SharedClock,
    life: Duration,
    rng: Mutex<StdRng>,
}

/// A box asks for a new access token (RFC 6749 section 6).
pub struct Refresh {
    /// `refresh_token`, if it can be one of ours.
    pub token: Option<BearerToken>,
    /// The client, accepted here.
    pub client_id: Arc<str>,
    /// `usage_points_id`, as sent; `None` if it was not. Compared with the grant's as a set.
    pub meters: Option<String>,
}

/// A consent, and what tells it from others.
#[derive(Clone)]
pub struct Consented {
    /// The `state` it was asked under.
    pub state: StateHash,
    /// What Enedis returned, by its hash.
    pub grant: GrantHash,
    /// The client whose device asked.
    pub client_id: Arc<str>,
    /// Between one and [`METERS_MAX`](crate::base::meter::METERS_MAX).
    pub meters: Vec<Meter>,
    /// How Enedis named them.
    pub origin: Origin,
}

/// What comes of a [`Refresh`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// The token answer's JSON body; the access token in it is durable.
    Token(String),
    /// `invalid_grant`: unknown, revoked, ended with its consent, or given to another client or for other meters.
    Invalid,
    /// The store did not answer: come back.
    Unavailable,
}

/// What an access token opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The meter, by a consent of that time.
    Meter {
        /// When its owner consented.
        consented_at: Timestamp,
    },
    /// Not this meter.
    OtherMeters,
    /// Nothing: unknown, revoked or ended.
    Nothing,
    /// The store did not answer: come back.
    Unavailable,
}

impl TokenService {
    /// A service whose grants live as long as a consent of the length `life`.
    pub fn new(
        store: Arc<dyn TokenStore>,
        keys: Arc<Keyring>,
        clock: SharedClock,
        life: Duration,
        seed: [u8; 32],
    ) -> Arc<Self> {
        Arc::new(Self { store, keys, clock, life, rng: Mutex::new(StdRng::from_seed(seed)) })
    }

    /// Gives the first tokens of a consent. Durable before the answer; the answer holds `usage_points_id`. Given again for
    /// the same consent, they are the same.
    pub async fn give(&self, consented: &Consented) -> Result<TokenSet, StoreError> {
        let now = self.clock.now();
        let Consented { state, grant, client_id, meters, origin } = consented;
        let text = meters_text(meters);
        let (refresh, access) = self.keys.consent_tokens(state, grant);
        let hash = self.keys.refresh(&refresh);
        let (sealed, owners) = sealed_meters(&self.keys, &mut *self.rng(), &hash, meters);
        let grant = MeterGrant {
            refresh: hash,
            client_id: Some(Arc::clone(client_id)),
            meters: sealed,
            owners,
            consented_at: now,
            expires_at: now + self.life,
            origin: *origin,
        };
        let record = self.access(&access, &grant, now);
        match self.store.add(grant, Some(record)).await? {
            Written::Applied => Ok(answer(&access, &refresh, &text, record.expires_at.since(now))),
            Written::Conflict => {
                // Stored before, by a process that did not come to record the consent.
                let stored = self.store.find_refresh(hash, now).await?;
                let stored = stored.ok_or_else(|| StoreError::Aborted("tokens were taken away".into()))?;
                let ends = self.access(&access, &stored, stored.consented_at).expires_at;
                Ok(answer(&access, &refresh, &text, ends.since(now)))
            }
        }
    }

    /// Takes the tokens of a consent back: nobody will ever receive them.
    pub async fn withdraw(&self, state: &StateHash, grant: &GrantHash) -> Result<(), StoreError> {
        let (refresh, _) = self.keys.consent_tokens(state, grant);
        self.store.revoke(self.keys.refresh(&refresh)).await.map(drop)
    }

    /// Answers a refresh. The refresh token stays the same: a box whose answer was lost asks again with it.
    pub async fn refresh(&self, refresh: Refresh) -> Refreshed {
        match self.renew(refresh).await {
            Ok(Some(body)) => Refreshed::Token(body),
            Ok(None) => Refreshed::Invalid,
            Err(error) => {
                tracing::warn!(%error, "a refresh could not be done");
                Refreshed::Unavailable
            }
        }
    }

    /// What an access token says about a meter.
    pub async fn open(&self, token: &BearerToken, meter: Meter) -> Opened {
        match self.store.find_access(self.keys.access(token), self.clock.now()).await {
            Ok(Some(grant)) if grant.owners.contains(&self.keys.meter(meter)) => {
                Opened::Meter { consented_at: grant.consented_at }
            }
            Ok(Some(_)) => Opened::OtherMeters,
            Ok(None) => Opened::Nothing,
            Err(error) => {
                tracing::warn!(%error, "an access token could not be looked up");
                Opened::Unavailable
            }
        }
    }

    /// Whether a box holds a live grant for a meter of this consent, other than the one it was given itself.
    pub async fn is_held(&self, consented: &Consented) -> Result<bool, StoreError> {
        let (own, _) = self.keys.consent_tokens(&consented.state, &consented.grant);
        let own = self.keys.refresh(&own);
        for meter in &consented.meters {
            let grants = self.store.of_meter(self.keys.meter(*meter), self.clock.now()).await?;
            if grants.iter().any(|grant| grant.refresh != own) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Deletes some of what has expired.
    pub async fn purge(&self) -> Result<u64, StoreError> {
        self.store.purge(self.clock.now()).await
    }

    async fn renew(&self, refresh: Refresh) -> Result<Option<String>, StoreError> {
        let Some(token) = refresh.token else { return Ok(None) };
        let now = self.clock.now();
        let Some(grant) = self.store.find_refresh(self.keys.refresh(&token), now).await? else {
            return Ok(None);
        };
        if grant.client_id.as_ref().is_some_and(|client| *client != refresh.client_id) {
            return Ok(None);
        }
        let damaged = || StoreError::Aborted("a grant cannot be opened; was SECRET_KEY changed?".into());
        let text = self.keys.open(&grant.refresh, &grant.meters).ok_or_else(damaged)?;
        let text = String::from_utf8(text).map_err(|_| damaged())?;
        let set = |text: &str| parse_meters(text).map(BTreeSet::from_iter);
        if refresh.meters.is_some_and(|sent| set(&sent) != set(&text)) {
            return Ok(None);
        }
        let access = BearerToken::generate(&mut *self.rng());
        let record = self.access(&access, &grant, now);
        Ok(match self.store.issue(record).await? {
            Written::Applied => {
                let answer = answer(&access, &token, &text, record.expires_at.since(now));
                Some(answer.body_after(Duration::ZERO))
            }
            // Revoked, or ended, in between.
            Written::Conflict => None,
        })
    }

    fn rng(&self) -> MutexGuard<'_, StdRng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn access(&self, token: &BearerToken, grant: &MeterGrant, now: Timestamp) -> Access {
        let token: TokenHash = self.keys.access(token);
        let expires_at = (now + ACCESS_LIFE).min(grant.expires_at);
        Access { token, refresh: grant.refresh, issued_at: now, expires_at }
    }
}

/// The token answer in the shape the plugin knows: `scope` is there and empty.
fn answer(access: &BearerToken, refresh: &BearerToken, meters: &str, life: Duration) -> TokenSet {
    TokenSet::own([
        ("access_token", access.expose().into()),
        ("refresh_token", refresh.expose().into()),
        ("token_type", "Bearer".into()),
        ("expires_in", life.as_secs().into()),
        ("usage_points_id", meters.into()),
        ("scope", "".into()),
    ])
}
