//! What a consent is given: its tokens, unless the authorisation is another's or too much is on probation.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{OptionFuture, join};
use jiff::civil::Date;

use super::{TokenService, answer};
use crate::base::audit::{Act, Note};
use crate::base::clock::Timestamp;
use crate::base::keyring::{BrowserHash, GrantHash, MeterHash, StateHash, TokenHash};
use crate::base::meter::{Meter, meters_text};
use crate::base::network::Network;
use crate::base::store::{StoreError, Written};
use crate::base::token_set::TokenSet;
use crate::metering::tokens::{Claim, MeterGrant, Origin, Terms};

/// How long a consent is good for which Enedis has never answered.
const PROBATION: Duration = Duration::from_secs(7 * 86_400);
/// Grants on probation of one network, an IPv6 /48 being one, and of all.
const UNPROVEN_OF_NETWORK: u64 = 32;
const UNPROVEN_MAX: u64 = 10_000;
/// Live grants of one meter.
const OF_METER_LIVE: usize = 16;

/// A consent, and what tells it from others.
#[derive(Clone)]
pub struct Consented {
    /// The `state` it was asked under.
    pub state: StateHash,
    /// When its device asked for a code.
    pub asked_at: Timestamp,
    /// What Enedis returned, by its hash.
    pub grant: GrantHash,
    /// The client whose device asked.
    pub client_id: Arc<str>,
    /// Between one and [`METERS_MAX`](crate::base::meter::METERS_MAX).
    pub meters: Vec<Meter>,
    /// How Enedis named them.
    pub origin: Origin,
    /// The browser that brought it.
    pub browser: BrowserHash,
    /// Where it is.
    pub network: Network,
    /// What Enedis says of it, if it came by the v2 page.
    pub authorised: Option<Authorised>,
}

/// An authorisation of the v2 page. Its number stays the same when its owner shares the meter anew on another day.
#[derive(Clone, Copy, Debug)]
pub struct Authorised {
    /// `autorisation_id`.
    pub id: i64,
    /// The day it was given.
    pub since: Date,
    /// Until when it is the first bringer's.
    pub until: Timestamp,
}

/// What comes of a consent.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    /// Its tokens, durable.
    Tokens(TokenSet),
    /// Another browser has brought this authorisation before.
    Anothers,
    /// Too many consents are on probation.
    TooMany,
}

impl TokenService {
    /// Gives the first tokens of a consent. Durable before the answer; the answer holds `usage_points_id`. Given again for
    /// the same consent, they are the same.
    pub async fn give(&self, consented: &Consented) -> Result<Given, StoreError> {
        let now = self.clock.wall();
        let Consented { state, asked_at, grant, client_id, meters, origin, network, .. } = consented;
        let text = meters_text(meters);
        let (refresh, access) = self.keys.consent_tokens(state, grant, *asked_at);
        let hash = self.keys.refresh(&refresh);
        if !self.claim(hash, consented, now).await? {
            return Ok(Given::Anothers);
        }
        let is_known = self.store.find_refresh(hash, now).await?.is_some();
        let unproven = *origin == Origin::ConsentV1;
        if !is_known && unproven && self.is_crowded(*network, now).await? {
            return Ok(Given::TooMany);
        }
        let terms = Terms {
            refresh: hash,
            client_id: Some(Arc::clone(client_id)),
            consented_at: now,
            ends_at: now + self.life,
            origin: *origin,
        };
        let grant = terms.grant(&self.keys, &mut *self.rng(), meters);
        if !is_known {
            self.make_room(&grant.owners, now).await?;
        }
        let life = if unproven { self.life.min(PROBATION) } else { self.life };
        let grant = MeterGrant { expires_at: now + life, network: Some(network.widest()), unproven, ..grant };
        let record = self.access(&access, &grant, now);
        let added = self.store.add(grant, Some(record)).await?;
        // Also if it was stored before: that process may have ended before it came to its lines.
        let claimed = consented.authorised.is_some().then(|| self.note(Act::Claimed, hash, consented));
        join(OptionFuture::from(claimed), self.note(Act::Granted, hash, consented)).await;
        match added {
            Written::Applied => {
                Ok(Given::Tokens(answer(&access, &refresh, &text, record.expires_at.since(now))))
            }
            Written::Conflict => {
                // Stored before, by a process that did not come to record the consent.
                let stored = self.store.find_refresh(hash, now).await?;
                let stored = stored.ok_or_else(|| StoreError::Aborted("tokens were taken away".into()))?;
                let ends = self.access(&access, &stored, stored.consented_at).expires_at;
                Ok(Given::Tokens(answer(&access, &refresh, &text, ends.since(now))))
            }
        }
    }

    /// Takes the tokens of a consent back: nobody will ever receive them.
    pub async fn withdraw(
        &self,
        state: &StateHash,
        grant: &GrantHash,
        asked_at: Timestamp,
    ) -> Result<(), StoreError> {
        let (refresh, _) = self.keys.consent_tokens(state, grant, asked_at);
        self.end(self.keys.refresh(&refresh), Note::of(Act::RevokedUndelivered)).await.map(drop)
    }

    /// Whether a box holds a live grant for a meter of this consent, other than the one it was given itself.
    pub async fn is_held(&self, consented: &Consented) -> Result<bool, StoreError> {
        let own = self.own(consented);
        for meter in &consented.meters {
            let grants = self.store.of_meter(self.keys.meter(*meter), self.clock.wall()).await?;
            if grants.iter().any(|grant| grant.refresh != own) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes an authorisation this consent's, unless it is another's. Whoever brings it again from the same browser may
    /// have it instead of a box that never came back for a second token: a household that starts over.
    async fn claim(
        &self,
        refresh: TokenHash,
        consented: &Consented,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let Some(Authorised { id, since, until }) = consented.authorised else { return Ok(true) };
        let authorisation = self.keys.grant(&format!("autorisation|{id}|{since}"));
        let claim = Claim { authorisation, refresh, browser: consented.browser, until };
        let stands = self.store.claim(claim, None).await?;
        if stands.refresh == refresh || stands.browser != consented.browser {
            return Ok(stands.refresh == refresh);
        }
        let first = self.store.find_refresh(stands.refresh, now).await?;
        if first.is_some_and(|first| first.used_at.is_some()) {
            return Ok(false);
        }
        self.end(stands.refresh, Note::of(Act::RevokedStartedOver)).await?;
        Ok(self.store.claim(claim, Some(stands.refresh)).await?.refresh == refresh)
    }

    /// Whether too many grants are on probation. This machine's are not counted: a proxy that hides its clients stands for
    /// all of them.
    async fn is_crowded(&self, network: Network, now: Timestamp) -> Result<bool, StoreError> {
        let network = network.widest();
        Ok(network != Network::LOCALHOST
            && self.store.count_unproven(Some(network), now).await? >= UNPROVEN_OF_NETWORK
            || self.store.count_unproven(None, now).await? >= UNPROVEN_MAX)
    }

    /// Ends grants of meters that have as many as a meter may: those that Enedis never answered for first, then those
    /// whose boxes have been away the longest.
    async fn make_room(&self, owners: &[MeterHash], now: Timestamp) -> Result<(), StoreError> {
        for owner in owners {
            let mut grants = self.store.of_meter(*owner, now).await?;
            grants.sort_by_key(|grant| (!grant.unproven, grant.used_at.unwrap_or(grant.consented_at)));
            let excess = (grants.len() + 1).saturating_sub(OF_METER_LIVE);
            for grant in grants.iter().take(excess) {
                tracing::warn!(grant = ?grant.refresh, "a meter has too many grants; the longest unused one ends");
                let note = Note::of(Act::RevokedForRoom).client(grant.client_id.as_deref());
                self.end(grant.refresh, note.count(grant.owners.len())).await?;
            }
        }
        Ok(())
    }

    /// A meter that a box holds was claimed once more by the v1 page.
    pub(crate) async fn note_second_claim(&self, consented: &Consented) {
        self.second_claims.fetch_add(1, Ordering::Relaxed);
        self.note(Act::ClaimedAgain, self.own(consented), consented).await;
    }

    /// The grant that a consent is given.
    fn own(&self, Consented { state, grant, asked_at, .. }: &Consented) -> TokenHash {
        self.keys.refresh(&self.keys.consent_tokens(state, grant, *asked_at).0)
    }

    /// Records what came of a consent, and which grant.
    async fn note(&self, act: Act, refresh: TokenHash, consented: &Consented) {
        let Consented { client_id, network, meters, .. } = consented;
        let note = Note::of(act).about(refresh).client(Some(client_id)).from(*network);
        self.audit.note(note.count(meters.len())).await;
    }
}
