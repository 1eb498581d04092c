//! What is done with our own tokens: given for a consent, renewed by a refresh, checked at the data endpoint.
//!
//! No actor: it owns no state but a generator of randomness. The store decides every race, nothing is
//! remembered between two questions, and so a revocation counts at once, whoever made it.

mod giving;
mod operator;
pub mod others;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

pub use self::giving::{Authorised, Consented, Given};
use super::earlier::{EarlierLogin, EarlierTokens, Kind};
use super::unknown::Doubt;
use super::{ACCESS_LIFE, Access, Covered, MeterGrant, TokenStore};
use crate::base::audit::{Act, Audit, Note};
use crate::base::clock::{SharedClock, Timestamp};
use crate::base::code::{BearerToken, DeviceCode};
use crate::base::keyring::{Keyring, TokenHash};
use crate::base::meter::{Meter, meters_text, parse_meters};
use crate::base::network::Network;
use crate::base::provenance::Provenance;
use crate::base::store::{StoreError, Written};
use crate::base::token_set::TokenSet;

/// Gives, renews and checks.
pub struct TokenService {
    store: Arc<dyn TokenStore>,
    earlier: Option<Arc<dyn EarlierTokens>>,
    /// Where what comes of consents is recorded.
    pub(crate) audit: Arc<Audit>,
    keys: Arc<Keyring>,
    clock: SharedClock,
    life: Duration,
    rng: Mutex<StdRng>,
    second_claims: AtomicU64,
    doubt: Doubt,
    doubled: AtomicU64,
}

/// A box asks for a new access token (RFC 6749 section 6).
pub struct Refresh {
    /// `refresh_token`, if it can be one of ours.
    pub token: Option<BearerToken>,
    /// The client, accepted here.
    pub client_id: Arc<str>,
    /// `usage_points_id`, as sent; `None` if it was not. Compared with the grant's as a set.
    pub meters: Option<String>,
    /// Where it comes from.
    pub network: Network,
}

/// What comes of a [`Refresh`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// The token answer's JSON body; the access token in it is durable.
    Token(String),
    /// `invalid_grant`: unknown, revoked, ended with its consent, or given to another client or for other meters.
    Invalid,
    /// The store does not know the token, although it should: it may be the wrong one. Come back.
    Doubted,
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
        /// When its grant ends.
        expires_at: Timestamp,
        /// The grant, if Enedis has not answered for it yet.
        unproven: Option<Unproven>,
    },
    /// Not this meter.
    OtherMeters,
    /// Nothing: unknown, revoked or ended.
    Nothing,
    /// The store did not answer: come back.
    Unavailable,
}

/// A grant on probation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unproven {
    refresh: TokenHash,
    /// The end of the consent.
    ends_at: Timestamp,
}

/// What came of a wish to give a token up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// Its grant is gone, with all tokens.
    Grant {
        /// Its meters that no other grant covers.
        uncovered: Vec<Meter>,
    },
    /// There was none, or it is another client's.
    Nothing,
    /// The store did not answer: come back.
    Unavailable,
}

impl TokenService {
    /// A service whose grants live as long as a consent of the length `life`. Tokens of the server of before are looked for
    /// in `earlier`.
    pub fn new(
        store: Arc<dyn TokenStore>,
        earlier: Option<Arc<dyn EarlierTokens>>,
        audit: Arc<Audit>,
        keys: Arc<Keyring>,
        clock: SharedClock,
        life: Duration,
        seed: [u8; 32],
    ) -> Arc<Self> {
        let rng = Mutex::new(StdRng::from_seed(seed));
        let (second_claims, doubled) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self {
            store,
            earlier,
            audit,
            keys,
            clock,
            life,
            rng,
            second_claims,
            doubt: Doubt::default(),
            doubled,
        })
    }

    /// Ends a grant, and records it.
    async fn end(&self, refresh: TokenHash, note: Note) -> Result<bool, StoreError> {
        let ended = self.store.revoke(refresh).await?;
        if ended {
            self.audit.note(note.about(refresh)).await;
        }
        Ok(ended)
    }

    /// Ends the grant of a token, access or refresh, that was given to this client, which asks from `network`. Durable
    /// before the answer.
    pub async fn revoke(&self, token: &BearerToken, client_id: &Arc<str>, network: Network) -> Revoked {
        self.end_grant(token, client_id, network).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "a token could not be revoked");
            Revoked::Unavailable
        })
    }

    async fn end_grant(
        &self,
        token: &BearerToken,
        client_id: &Arc<str>,
        network: Network,
    ) -> Result<Revoked, StoreError> {
        let now = self.clock.wall();
        // What a clock calls ended goes as well: the clock may be wrong, and the box hears that it has gone.
        let any_time = Timestamp::EPOCH;
        let found = match self.store.find_refresh(self.keys.refresh(token), any_time).await? {
            None => self.find_access(token, any_time).await?,
            found => found,
        };
        let found = match found {
            None => self.take_over(Kind::Refresh, token, now).await?,
            found => found,
        };
        let Some(grant) = found.filter(|grant| grant.client_id.as_ref().is_none_or(|id| id == client_id))
        else {
            return Ok(Revoked::Nothing);
        };
        let note =
            Note::of(Act::RevokedByBox).client(Some(client_id)).from(network).count(grant.owners.len());
        self.end(grant.refresh, note).await?;
        let uncovered = uncovered(self.store.as_ref(), &self.keys, self.covered(&grant)?.meters, now).await?;
        Ok(Revoked::Grant { uncovered })
    }

    /// The live grant of an access token. A row that was not written here is as good as absent: one that was altered, or
    /// copied to another grant, opens nothing.
    async fn find_access(
        &self,
        token: &BearerToken,
        now: Timestamp,
    ) -> Result<Option<MeterGrant>, StoreError> {
        let Some((grant, access)) = self.store.find_access(self.keys.access(token), now).await? else {
            return self.take_over(Kind::Access, token, now).await;
        };
        let is_ours = access.is_ours(&self.keys);
        if !is_ours && access.mark.is_some() {
            tracing::warn!(token = ?access.token, "an access token's row was not written here; ignored");
        }
        Ok(is_ours.then_some(grant))
    }

    /// Takes a token of the server of before over, unless what it became has ended here: its grant. Durable before the
    /// answer. An error, and thus no final answer, if its database is away.
    async fn take_over(
        &self,
        kind: Kind,
        token: &BearerToken,
        now: Timestamp,
    ) -> Result<Option<MeterGrant>, StoreError> {
        let Some(earlier) = &self.earlier else { return Ok(None) };
        let is_ours = kind == Kind::Refresh && self.keys.provenance(token) != Provenance::Unmarked;
        if is_ours || self.store.has_ended(kind.hash(&self.keys, token)).await? {
            return Ok(None);
        }
        // What has ended by a clock that is in doubt is not said to have ended.
        let since = if self.clock.is_reliable() { now } else { Timestamp::EPOCH };
        let Some(found) = earlier.find(kind, token, since).await? else { return Ok(None) };
        if found.expires_at <= now {
            return Err(StoreError::Aborted("a token has ended by a clock that is in doubt".into()));
        }
        let (grant, access) = found.grant(&self.keys, &mut *self.rng());
        // If it was added meanwhile, it is the same.
        if self.store.add(grant.clone(), access).await? == Written::Applied {
            self.audit.note(Note::of(Act::TakenOver).about(grant.refresh).count(found.meters.len())).await;
        }
        Ok(Some(grant))
    }

    /// The login of a device whose code is not known here, if it was begun at the server of before.
    pub async fn earlier_login(&self, code: &DeviceCode) -> Result<Option<EarlierLogin>, StoreError> {
        match &self.earlier {
            Some(earlier) => earlier.login(code, self.clock.wall()).await,
            None => Ok(None),
        }
    }

    /// What a grant covers; an error, and thus no final answer, if it was altered.
    fn covered(&self, grant: &MeterGrant) -> Result<Covered, StoreError> {
        grant.covered(&self.keys).ok_or_else(|| {
            tracing::warn!(grant = ?grant.refresh, "a grant is not as it was made; was the store, or SECRET_KEY, changed?");
            StoreError::Aborted("a grant cannot be opened".into())
        })
    }

    /// Answers a refresh. The refresh token stays the same: a box whose answer was lost asks again with it.
    pub async fn refresh(&self, refresh: Refresh) -> Refreshed {
        self.renew(refresh).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "a refresh could not be done");
            Refreshed::Unavailable
        })
    }

    /// What an access token says about a meter.
    pub async fn open(&self, token: &BearerToken, meter: Meter) -> Opened {
        self.look_at(token, meter).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "an access token could not be looked up");
            Opened::Unavailable
        })
    }

    /// The meters that an access token opens, and when their owner consented; `None`: it opens nothing.
    pub async fn covers(&self, token: &BearerToken) -> Result<Option<(Vec<Meter>, Timestamp)>, StoreError> {
        let Some(grant) = self.find_access(token, self.clock.wall()).await? else { return Ok(None) };
        Ok(Some((self.covered(&grant)?.meters, grant.consented_at)))
    }

    async fn look_at(&self, token: &BearerToken, meter: Meter) -> Result<Opened, StoreError> {
        let Some(grant) = self.find_access(token, self.clock.wall()).await? else {
            return Ok(Opened::Nothing);
        };
        let Covered { meters, ends_at } = self.covered(&grant)?;
        if !meters.contains(&meter) {
            return Ok(Opened::OtherMeters);
        }
        let MeterGrant { refresh, consented_at, expires_at, .. } = grant;
        let ends_at = ends_at.unwrap_or(consented_at + self.life);
        let unproven = grant.unproven.then_some(Unproven { refresh, ends_at });
        Ok(Opened::Meter { consented_at, expires_at, unproven })
    }

    /// Enedis has answered for a meter of a grant on probation, which is good for its whole life from now on. Best effort:
    /// the next answer proves it as well.
    pub async fn prove(&self, grant: Unproven) {
        let Unproven { refresh, ends_at } = grant;
        if let Err(error) = self.store.prove(refresh, self.clock.wall(), ends_at).await {
            tracing::warn!(%error, "a grant could not be taken off probation");
        }
    }

    /// How often that has happened since the start.
    pub fn second_claims(&self) -> u64 {
        self.second_claims.load(Ordering::Relaxed)
    }

    /// How many grants were found to be used from two networks in turn, since the start.
    pub fn doubled(&self) -> u64 {
        self.doubled.load(Ordering::Relaxed)
    }

    /// Deletes some of what has expired long ago, by a clock that can be relied on.
    pub async fn purge(&self) -> Result<u64, StoreError> {
        match self.clock.forgotten_before() {
            Some(ended) => self.store.purge(ended).await,
            None => Ok(0),
        }
    }

    /// The live grant of a refresh token. `None` is final for its box, so that it is not said of one that is there, but has
    /// ended by a clock that is in doubt.
    async fn find_refresh(&self, token: TokenHash, now: Timestamp) -> Result<Option<MeterGrant>, StoreError> {
        let found = self.store.find_refresh(token, now).await?;
        let in_doubt = found.is_none() && !self.clock.is_reliable();
        if in_doubt && self.store.find_refresh(token, Timestamp::EPOCH).await?.is_some() {
            return Err(StoreError::Aborted("a token has ended by a clock that is in doubt".into()));
        }
        Ok(found)
    }

    /// Whether tokens that should be in this store are not, and the operator has not said that it is the right one.
    pub async fn is_store_doubted(&self) -> Result<bool, StoreError> {
        self.doubt.is_raised(self.store.as_ref()).await
    }

    async fn renew(&self, refresh: Refresh) -> Result<Refreshed, StoreError> {
        let Some(token) = refresh.token else { return Ok(Refreshed::Invalid) };
        let now = self.clock.wall();
        let found = match self.find_refresh(self.keys.refresh(&token), now).await? {
            None => self.take_over(Kind::Refresh, &token, now).await?,
            found => found,
        };
        let Some(grant) = found else {
            let ours = (self.store.as_ref(), self.keys.as_ref());
            let is_void = self.doubt.is_void(ours, &token, refresh.network, self.clock.as_ref()).await?;
            return Ok(if is_void { Refreshed::Invalid } else { Refreshed::Doubted });
        };
        self.doubt.found();
        // First, as what was altered must bring no final answer.
        let meters = self.covered(&grant)?.meters;
        let set = BTreeSet::from_iter;
        if grant.client_id.as_ref().is_some_and(|client| *client != refresh.client_id)
            || refresh.meters.is_some_and(|sent| parse_meters(&sent).map(set) != Some(set(meters.clone())))
        {
            return Ok(Refreshed::Invalid);
        }
        let access = BearerToken::generate(&mut *self.rng());
        let record = self.access(&access, &grant, now);
        let mut places = grant.places;
        let is_doubled = places.used_from(refresh.network, now);
        Ok(match self.store.issue(record, places).await? {
            Written::Applied => {
                if is_doubled {
                    self.doubled.fetch_add(1, Ordering::Relaxed);
                    let (grant, network) = (grant.refresh, refresh.network);
                    tracing::warn!(?grant, %network, "a grant is used from two networks in turn");
                }
                let answer = answer(&access, &token, &meters_text(&meters), record.expires_at.since(now));
                Refreshed::Token(answer.body_after(Duration::ZERO))
            }
            // Revoked, or ended, in between.
            Written::Conflict => Refreshed::Invalid,
        })
    }

    fn rng(&self) -> MutexGuard<'_, StdRng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn access(&self, token: &BearerToken, grant: &MeterGrant, now: Timestamp) -> Access {
        let expires_at = (now + ACCESS_LIFE).min(grant.expires_at);
        Access::new(&self.keys, self.keys.access(token), grant.refresh, now, expires_at)
    }
}

/// Those of the meters that no live grant covers.
pub async fn uncovered(
    store: &dyn TokenStore,
    keys: &Keyring,
    meters: Vec<Meter>,
    now: Timestamp,
) -> Result<Vec<Meter>, StoreError> {
    let mut uncovered = Vec::new();
    for meter in meters {
        if store.of_meter(keys.meter(meter), now).await?.is_empty() {
            uncovered.push(meter);
        }
    }
    Ok(uncovered)
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
