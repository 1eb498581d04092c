//! What a token store means, as two maps behind a lock; and any sequence of operations, which ends as it does there.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Store, Trial, live};
use crate::base::clock::Timestamp;
use crate::base::keyring::{BrowserHash, GrantHash, MeterHash, TokenHash};
use crate::base::network::Network;
use crate::base::sealed::{RowMark, Sealed};
use crate::base::store::{StoreError, Written};
use crate::metering::tokens::installation::Installation;
use crate::metering::tokens::places::Places;
use crate::metering::tokens::{
    ACCESS_MAX, Access, CONSENT_MAX, Claim, GrantPage, MeterGrant, OF_METER_MAX, TokenStore,
};
use crate::testing::{Kept, NOW, Place, drain, same};

/// Grants of one page; few, so that a small test sees several.
const PAGE: usize = 100;
/// Refresh tokens in play: few, so that they clash and their access tokens reach the bound.
const REFRESH: u8 = 4;
/// Access tokens in play.
const ACCESS: u8 = 90;
/// Meters in play.
const METERS: u8 = 5;
/// Steps of the random walk.
const STEPS: usize = 900;

/// What a token store means; clones are handles of the same one.
#[derive(Clone, Debug, Default)]
pub struct Model(Arc<Kept<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    grants: BTreeMap<TokenHash, MeterGrant>,
    access: BTreeMap<TokenHash, Access>,
    claims: BTreeMap<GrantHash, Claim>,
    ended: BTreeMap<TokenHash, Timestamp>,
    installation: Option<Installation>,
}

impl Model {
    /// Whether every question is an error.
    pub fn set_away(&self, is_away: bool) {
        self.0.set_away(is_away);
    }
}

impl Inner {
    fn add(&mut self, grant: MeterGrant, access: Option<Access>) -> Written {
        let taken = access.is_some_and(|access| self.access.contains_key(&access.token));
        if taken || self.grants.contains_key(&grant.refresh) {
            return Written::Conflict;
        }
        self.grants.insert(grant.refresh, grant);
        self.access.extend(access.map(|access| (access.token, access)));
        Written::Applied
    }

    fn issue(&mut self, access: Access, places: Places) -> Written {
        let live = self.grant(access.refresh, access.issued_at).is_some();
        if !live || self.access.contains_key(&access.token) {
            return Written::Conflict;
        }
        let of_grant = self.access.values().filter(|other| other.refresh == access.refresh);
        let mut older: Vec<_> = of_grant.copied().collect();
        older.sort_by_key(|other| Reverse(other.issued_at));
        for ended in older.iter().skip(ACCESS_MAX as usize - 1) {
            self.access.remove(&ended.token);
        }
        self.access.insert(access.token, access);
        if let Some(grant) = self.grants.get_mut(&access.refresh) {
            (grant.used_at, grant.places) = (Some(access.issued_at), places);
        }
        Written::Applied
    }

    fn claim(&mut self, claim: Claim, instead_of: Option<TokenHash>) -> Claim {
        let stands = self.claims.entry(claim.authorisation).or_insert(claim);
        if Some(stands.refresh) == instead_of {
            *stands = claim;
        }
        *stands
    }

    fn prove(&mut self, refresh: TokenHash, now: Timestamp, expires_at: Timestamp) {
        if let Some(grant) = self.grants.get_mut(&refresh).filter(|grant| grant.expires_at > now) {
            (grant.unproven, grant.expires_at) = (false, expires_at);
        }
    }

    fn count_unproven(&self, network: Option<Network>, now: Timestamp) -> u64 {
        let counts = |grant: &&MeterGrant| {
            grant.unproven && grant.expires_at > now && (network.is_none() || grant.network == network)
        };
        self.grants.values().filter(counts).count() as u64
    }

    fn grant(&self, refresh: TokenHash, now: Timestamp) -> Option<&MeterGrant> {
        self.grants.get(&refresh).filter(|grant| grant.expires_at > now)
    }

    fn of_meter(&self, owner: MeterHash, now: Timestamp) -> Vec<MeterGrant> {
        let covers = |grant: &&MeterGrant| grant.expires_at > now && grant.owners.contains(&owner);
        let mut found: Vec<_> = self.grants.values().filter(covers).cloned().collect();
        found.sort_by_key(|grant| Reverse(grant.consented_at));
        found.truncate(OF_METER_MAX as usize);
        found
    }

    fn page(&self, after: Option<TokenHash>, now: Timestamp) -> GrantPage {
        let rest = self.grants.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        let live = rest.map(|(_, grant)| grant).filter(|grant| grant.expires_at > now);
        let grants: Vec<_> = live.take(PAGE).cloned().collect();
        let next = grants.last().filter(|_| grants.len() == PAGE).map(|grant| grant.refresh);
        GrantPage { grants, next }
    }

    fn purge(&mut self, now: Timestamp) -> u64 {
        let before = self.grants.len() + self.access.len();
        let ended = self.grants.values().filter(|grant| grant.expires_at <= now);
        self.ended.extend(ended.map(|grant| (grant.refresh, noted_until(grant))));
        self.grants.retain(|_, grant| grant.expires_at > now);
        self.ended.retain(|_, until| *until > now);
        self.access.retain(|_, access| self.grants.contains_key(&access.refresh));
        let claims = self.claims.len();
        self.claims.retain(|_, claim| claim.until > now);
        (before - self.grants.len() - self.access.len() + claims - self.claims.len()) as u64
    }
}

#[async_trait]
impl TokenStore for Model {
    async fn add(&self, grant: MeterGrant, access: Option<Access>) -> Result<Written, StoreError> {
        Ok(self.0.lock()?.add(grant, access))
    }

    async fn issue(&self, access: Access, places: Places) -> Result<Written, StoreError> {
        Ok(self.0.lock()?.issue(access, places))
    }

    async fn find_refresh(
        &self,
        refresh: TokenHash,
        now: Timestamp,
    ) -> Result<Option<MeterGrant>, StoreError> {
        Ok(self.0.lock()?.grant(refresh, now).cloned())
    }

    async fn find_access(
        &self,
        token: TokenHash,
        now: Timestamp,
    ) -> Result<Option<(MeterGrant, Access)>, StoreError> {
        let inner = self.0.lock()?;
        let live = inner.access.get(&token).filter(|access| access.expires_at > now);
        Ok(live.and_then(|access| Some((inner.grant(access.refresh, now)?.clone(), *access))))
    }

    async fn of_meter(&self, owner: MeterHash, now: Timestamp) -> Result<Vec<MeterGrant>, StoreError> {
        Ok(self.0.lock()?.of_meter(owner, now))
    }

    async fn grants(&self, after: Option<TokenHash>, now: Timestamp) -> Result<GrantPage, StoreError> {
        Ok(self.0.lock()?.page(after, now))
    }

    async fn revoke(&self, refresh: TokenHash) -> Result<bool, StoreError> {
        let mut inner = self.0.lock()?;
        inner.access.retain(|_, access| access.refresh != refresh);
        let gone = inner.grants.remove(&refresh);
        inner.ended.extend(gone.iter().map(|grant| (refresh, noted_until(grant))));
        Ok(gone.is_some())
    }

    async fn has_ended(&self, refresh: TokenHash) -> Result<bool, StoreError> {
        let inner = self.0.lock()?;
        Ok(inner.ended.contains_key(&refresh) || inner.grants.contains_key(&refresh))
    }

    async fn has_held_grants(&self) -> Result<bool, StoreError> {
        let inner = self.0.lock()?;
        Ok(!inner.ended.is_empty() || !inner.grants.is_empty())
    }

    async fn claim(&self, claim: Claim, instead_of: Option<TokenHash>) -> Result<Claim, StoreError> {
        Ok(self.0.lock()?.claim(claim, instead_of))
    }

    async fn prove(
        &self,
        refresh: TokenHash,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.0.lock()?.prove(refresh, now, expires_at);
        Ok(())
    }

    async fn count_unproven(&self, network: Option<Network>, now: Timestamp) -> Result<u64, StoreError> {
        Ok(self.0.lock()?.count_unproven(network, now))
    }

    async fn reseal(
        &self,
        refresh: TokenHash,
        before: Sealed,
        meters: Sealed,
    ) -> Result<Written, StoreError> {
        let mut inner = self.0.lock()?;
        let grant = inner.grants.get_mut(&refresh).filter(|grant| grant.meters == before);
        Ok(grant.map_or(Written::Conflict, |grant| {
            grant.meters = meters;
            Written::Applied
        }))
    }

    async fn installation(&self) -> Result<Option<Installation>, StoreError> {
        Ok(self.0.lock()?.installation.clone())
    }

    async fn put_installation(
        &self,
        before: Option<Sealed>,
        record: Installation,
    ) -> Result<Written, StoreError> {
        let mut inner = self.0.lock()?;
        if inner.installation.as_ref().map(|record| &record.root) != before.as_ref() {
            return Ok(Written::Conflict);
        }
        inner.installation = Some(record);
        Ok(Written::Applied)
    }

    async fn purge(&self, now: Timestamp) -> Result<u64, StoreError> {
        Ok(self.0.lock()?.purge(now))
    }
}

/// Random sequences of operations end as they do on a model.
pub async fn agrees_with_a_model<P: Place<dyn TokenStore>>((_, store, mut samples): Trial<P>) {
    let model: Store = Arc::new(Model::default());
    let mut rng = StdRng::seed_from_u64(1);
    let mut now = NOW;
    for n in 0..STEPS {
        // Each step at its own time, so that it is clear which token is the oldest.
        now = now + Duration::from_millis(1);
        let (refresh, token) =
            (token(rng.random_range(0..REFRESH)), token(100 + rng.random_range(0..ACCESS)));
        // One that has expired may be there or not.
        let stored = async |at| model.find_access(token, at).await.expect("a model").is_some();
        let is_stale = stored(Timestamp::EPOCH).await && !stored(now).await;
        let token = if is_stale { samples.token() } else { token };
        let expires_at = now + Duration::from_secs(20);
        let mark = rng.random_bool(0.9).then(|| RowMark::from(rng.random::<[u8; 16]>()));
        let access = Access { token, refresh, issued_at: now, expires_at, mark };
        match rng.random_range(0..26) {
            0..=3 => {
                let owners: Vec<_> = (0..2).map(|_| meter(rng.random_range(0..METERS))).collect();
                let expires_at = now + Duration::from_secs(rng.random_range(5..90));
                let grant =
                    MeterGrant { refresh, owners, consented_at: now, expires_at, ..samples.meter_grant() };
                let access = rng.random_bool(0.7).then_some(access);
                same!(n, [store, model].add(grant, access));
            }
            4..=14 => {
                let mut places = Places::default();
                places.used_from(Network::from_number(rng.random_range(1..9)), now);
                same!(n, [store, model].issue(access, places));
            }
            15 => same!(n, [store, model].revoke(refresh)),
            16 => {
                // How much goes is each one's own: access tokens that have expired may stay.
                drain(async || store.purge(now).await).await;
                drain(async || model.purge(now).await).await;
            }
            20 | 21 => {
                let claim = Claim {
                    authorisation: GrantHash::from([rng.random_range(0..3); 16]),
                    refresh,
                    browser: BrowserHash::from([rng.random_range(0..3); 16]),
                    until: now + Duration::from_secs(600),
                };
                let instead = rng.random_bool(0.5).then(|| self::token(rng.random_range(0..REFRESH)));
                same!(n, [store, model].claim(claim, instead));
            }
            22 => same!(n, [store, model].prove(refresh, now, now + Duration::from_secs(90))),
            23 => {
                let network = rng.random_bool(0.7).then(|| Network::from_number(rng.random_range(1..4)));
                same!(n, [store, model].count_unproven(network, now));
            }
            24 => {
                let stored = model.find_refresh(refresh, now).await.expect("a model");
                let before = stored.map_or_else(|| samples.sealed(), |grant| grant.meters);
                let meters = samples.sealed();
                same!(n, [store, model].reseal(refresh, before, meters));
            }
            25 => {
                let stored = model.installation().await.expect("a model").map(|record| record.root);
                let before = if rng.random_bool(0.7) { stored } else { Some(samples.sealed()) };
                let record = samples.installation();
                same!(n, [store, model].put_installation(before, record));
                same!(n, [store, model].installation());
            }
            17 | 18 => now = now + Duration::from_secs(rng.random_range(0..8)),
            _ => compare(&store, &model, now, n).await,
        }
    }
    compare(&store, &model, now, STEPS).await;
}

async fn compare(store: &Store, model: &Store, now: Timestamp, n: usize) {
    for refresh in (0..REFRESH).map(token) {
        same!(n, [store, model].find_refresh(refresh, now));
        same!(n, [store, model].find_access(refresh, now));
        same!(n, [store, model].has_ended(refresh));
    }
    same!(n, [store, model].has_held_grants());
    for token in (0..ACCESS).map(|slot| token(100 + slot)) {
        same!(n, [store, model].find_access(token, now));
        same!(n, [store, model].find_refresh(token, now));
    }
    for owner in (0..METERS).map(meter) {
        same!(n, [store, model].of_meter(owner, now));
    }
    let by_token = |grants: Vec<MeterGrant>| -> BTreeMap<_, _> {
        grants.into_iter().map(|grant| (grant.refresh, grant)).collect()
    };
    assert_eq!(by_token(live(store, now).await.0), by_token(live(model, now).await.0), "pages at step {n}");
}

fn token(slot: u8) -> TokenHash {
    TokenHash::from([slot; 16])
}

fn meter(slot: u8) -> MeterHash {
    MeterHash::from([slot; 16])
}

/// Until when it is noted that a grant has ended.
fn noted_until(grant: &MeterGrant) -> Timestamp {
    (grant.consented_at + CONSENT_MAX).max(grant.expires_at)
}
