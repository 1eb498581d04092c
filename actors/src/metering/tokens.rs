//! Our own tokens (`FLOW=CLIENT_CREDENTIALS`): what a box holds instead of a token of Enedis, and the port to their
//! storage.
//!
//! ```text
//!   consent for meters ──▶ MeterGrant (refresh token, life of the consent) ──▶ Access (12 600 s) ──▶ /data/proxy
//!                                └── each refresh adds an Access; the refresh token stays the same
//! ```
//!
//! Promises: a token stands in no store, only its keyed hash; the meters it covers are sealed, and found by keyed
//! hashes. A refresh token stays the same for life, because the plugin sends a refresh again whose answer was lost, and
//! strict rotation would lock it out. Access tokens given before stay good until they end.

pub mod earlier;
pub mod installation;
pub mod places;
pub mod record;
pub mod service;
mod unknown;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rand::Rng;

use self::installation::Installation;
use self::places::Places;
use crate::base::clock::Timestamp;
use crate::base::keyring::{BrowserHash, GrantHash, Keyring, MeterHash, TokenHash};
use crate::base::meter::{Meter, meters_text, parse_meters};
use crate::base::network::Network;
use crate::base::sealed::{Purpose, RowMark, Sealed};
use crate::base::store::{StoreError, Written, millis, timestamp};

/// Life of an access token. The PHP server's and Enedis' own; the plugin refreshes once a day with it.
pub const ACCESS_LIFE: Duration = Duration::from_secs(12_600);
/// Access tokens of one grant that live at a time; a further one ends the oldest. The plugin asks up to four times
/// for one refresh.
pub const ACCESS_MAX: u32 = 16;
/// Longest life of a consent (`DURATION`), and thus of a token of ours.
pub const CONSENT_MAX: Duration = Duration::from_secs(3 * 366 * 86_400);
/// Grants of one meter that [`TokenStore::of_meter`] answers at most.
pub const OF_METER_MAX: u32 = 100;

/// Where a grant comes from. The numbers are on disk: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, derive_more::TryFrom)]
#[try_from(repr)]
#[repr(i32)]
pub enum Origin {
    /// A consent in a browser, the meters named by the browser itself (v1 authorize).
    ConsentV1 = 1,
    /// A consent in a browser, the meters named by Enedis' `subscribed_services` (v2 authorize).
    ConsentV2 = 2,
    /// Taken over from the PHP server.
    Import = 3,
}

/// An owner's consent for some meters, as given to one box: what a refresh token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterGrant {
    /// Keyed hash of the refresh token; primary key.
    pub refresh: TokenHash,
    /// The client it was issued to; `None` if that is not known (imported): any accepted client.
    pub client_id: Option<Arc<str>>,
    /// The meters and the end of the consent, sealed; see [`Terms::grant`].
    pub meters: Sealed,
    /// Keyed hash of each meter, to find the grants of one. Not empty, at most [`METERS_MAX`](crate::base::meter::METERS_MAX).
    pub owners: Vec<MeterHash>,
    /// When the owner consented.
    pub consented_at: Timestamp,
    /// When the consent ends, and with it every token.
    pub expires_at: Timestamp,
    /// Where it comes from.
    pub origin: Origin,
    /// Where the browser was that brought the consent, if that is known.
    pub network: Option<Network>,
    /// Enedis has not answered for its meters yet: it ends soon unless it does.
    pub unproven: bool,
    /// When its box last asked for an access token; `None`: not since the consent.
    pub used_at: Option<Timestamp>,
    /// From where.
    pub places: Places,
}

/// Whose an authorisation of the v2 page is: the first who brings it back has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The authorisation and the day on which it was given, by their hash; primary key.
    pub authorisation: GrantHash,
    /// The grant that was made of it.
    pub refresh: TokenHash,
    /// The browser that brought it.
    pub browser: BrowserHash,
    /// Until when Enedis may call it fresh.
    pub until: Timestamp,
}

/// What never changes of a grant, and is bound to its meters.
#[derive(Clone, Debug)]
pub struct Terms {
    /// [`MeterGrant::refresh`].
    pub refresh: TokenHash,
    /// [`MeterGrant::client_id`].
    pub client_id: Option<Arc<str>>,
    /// [`MeterGrant::consented_at`].
    pub consented_at: Timestamp,
    /// When the consent ends; the grant may end before.
    pub ends_at: Timestamp,
    /// [`MeterGrant::origin`].
    pub origin: Origin,
}

/// What is sealed in a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Covered {
    /// The meters, in the grant's order.
    pub meters: Vec<Meter>,
    /// When the consent ends; `None` in a grant of version 0.1.0, which did not seal it.
    pub ends_at: Option<Timestamp>,
}

/// An access token of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Keyed hash of the access token; primary key.
    pub token: TokenHash,
    /// The grant it belongs to.
    pub refresh: TokenHash,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it ends; never after its grant.
    pub expires_at: Timestamp,
    /// Says that all this was written here; `None`: by version 0.1.0, which did not say so.
    pub mark: Option<RowMark>,
}

/// One page of grants, in an order of the backend's own choosing.
#[derive(Debug, Default)]
pub struct GrantPage {
    /// Grants that had not expired when the page was read.
    pub grants: Vec<MeterGrant>,
    /// Pass it on to get the next page; `None` at the end.
    pub next: Option<TokenHash>,
}

/// Durable storage of grants and access tokens; durable means: survives `kill -9` of this process and of the store. All methods may be called from any
/// thread and run concurrently, from several processes at a time: an operator's command revokes while the server
/// serves. Nothing is remembered between calls, so that a revocation counts at once.
///
/// Every question carries `now`: what has expired is not found, whether or not it was deleted.
#[async_trait]
pub trait TokenStore: Send + Sync + 'static {
    /// Stores a grant and its first access token, both or neither. `Conflict` if either token is stored already, in
    /// which case nothing is changed.
    async fn add(&self, grant: MeterGrant, access: Option<Access>) -> Result<Written, StoreError>;

    /// Stores one more access token of a grant that has not expired at `access.issued_at`, which was used then, in all from
    /// these `places`; beyond [`ACCESS_MAX`] the oldest ones of the grant are deleted. `Conflict` if there is no such grant (any more).
    async fn issue(&self, access: Access, places: Places) -> Result<Written, StoreError>;

    /// The grant of a refresh token, by its hash.
    async fn find_refresh(&self, token: TokenHash, now: Timestamp) -> Result<Option<MeterGrant>, StoreError>;

    /// An access token by its hash, with its grant, if both are live.
    async fn find_access(
        &self,
        token: TokenHash,
        now: Timestamp,
    ) -> Result<Option<(MeterGrant, Access)>, StoreError>;

    /// The live grants that cover a meter, newest consent first, at most [`OF_METER_MAX`].
    async fn of_meter(&self, owner: MeterHash, now: Timestamp) -> Result<Vec<MeterGrant>, StoreError>;

    /// Live grants, page by page.
    async fn grants(&self, after: Option<TokenHash>, now: Timestamp) -> Result<GrantPage, StoreError>;

    /// Deletes a grant and all its access tokens, and notes that it has ended; answers whether there was one.
    async fn revoke(&self, refresh: TokenHash) -> Result<bool, StoreError>;

    /// Stores a claim, unless there is another for its authorisation than one for `instead_of`; answers the one that stands.
    async fn claim(&self, claim: Claim, instead_of: Option<TokenHash>) -> Result<Claim, StoreError>;

    /// Enedis has answered for the meters of a grant that is live at `now`: it is good until `expires_at`. Nothing if there
    /// is no such grant (any more).
    async fn prove(
        &self,
        refresh: TokenHash,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), StoreError>;

    /// How many live grants are unproven, of one network or of all.
    async fn count_unproven(&self, network: Option<Network>, now: Timestamp) -> Result<u64, StoreError>;

    /// Whether the grant of a refresh token that is not live has ended here: it was revoked, or its time was over. Noted for
    /// [`CONSENT_MAX`] from the consent on, and for as long as the grant would have lived.
    async fn has_ended(&self, refresh: TokenHash) -> Result<bool, StoreError>;

    /// Whether any grant is or was here, as far as is noted.
    async fn has_held_grants(&self) -> Result<bool, StoreError>;

    /// Seals the meters of a grant anew. `Conflict` unless they are sealed as `before`.
    async fn reseal(&self, refresh: TokenHash, before: Sealed, meters: Sealed)
    -> Result<Written, StoreError>;

    /// The record of the installation, if it has one.
    async fn installation(&self) -> Result<Option<Installation>, StoreError>;

    /// Stores the record. `Conflict` unless the stored one has the root `before`; `None`: unless there is none.
    async fn put_installation(
        &self,
        before: Option<Sealed>,
        record: Installation,
    ) -> Result<Written, StoreError>;

    /// Deletes grants that have expired at `now`, with their access tokens, a bounded number a call, and notes that they have
    /// ended, and claims; answers how much went. Access tokens of other grants stay: there are [`ACCESS_MAX`] of each at most.
    async fn purge(&self, _now: Timestamp) -> Result<u64, StoreError> {
        Ok(0)
    }
}

impl Terms {
    /// The grant of these terms for some meters. The meters and the end are sealed, bound to all other terms, so that
    /// nobody without the key can alter any.
    pub fn grant(self, keys: &Keyring, rng: &mut impl Rng, meters: &[Meter]) -> MeterGrant {
        let Self { refresh, client_id, consented_at, ends_at, origin } = self;
        let text = format!("{}|{}", millis(ends_at), meters_text(meters));
        let bound = bound(client_id.as_deref(), consented_at, origin);
        MeterGrant {
            refresh,
            client_id,
            meters: keys.seal(rng, Purpose::Meters(&bound), &refresh, text.as_bytes()),
            owners: meters.iter().map(|meter| keys.meter(*meter)).collect(),
            consented_at,
            expires_at: ends_at,
            origin,
            network: None,
            unproven: false,
            used_at: None,
            places: Places::default(),
        }
    }
}

impl MeterGrant {
    /// Its meters sealed under today's key; `None` if they are already, or cannot be opened.
    pub fn resealed(&self, keys: &Keyring, rng: &mut impl Rng) -> Option<Sealed> {
        let bound = bound(self.client_id.as_deref(), self.consented_at, self.origin);
        keys.reseal(rng, Purpose::Meters(&bound), &self.refresh, &self.meters)
    }

    /// What is sealed in it; `None` if the grant is not as it was made: sealed under another key, its terms or meters
    /// altered, or living longer than the consent.
    pub fn covered(&self, keys: &Keyring) -> Option<Covered> {
        let bound = bound(self.client_id.as_deref(), self.consented_at, self.origin);
        let text = keys.open(Purpose::Meters(&bound), &self.refresh, &self.meters)?;
        let text = str::from_utf8(&text).ok()?;
        let (ends_at, meters) = match text.split_once('|') {
            Some((ends_ms, meters)) => (Some(timestamp(ends_ms.parse().ok()?)), meters),
            None => (None, text),
        };
        let meters = parse_meters(meters)?;
        let is_whole = self.owners.iter().copied().eq(meters.iter().map(|meter| keys.meter(*meter)))
            && ends_at.is_none_or(|ends_at| self.expires_at <= ends_at);
        is_whole.then_some(Covered { meters, ends_at })
    }
}

/// Terms as bytes; no two have the same.
fn bound(client_id: Option<&str>, consented_at: Timestamp, origin: Origin) -> Vec<u8> {
    let client = client_id.map_or_else(Vec::new, |id| [b"c", id.as_bytes()].concat());
    [&millis(consented_at).to_be_bytes(), &(origin as i32).to_be_bytes()[..], &client].concat()
}

impl Access {
    /// A row that is marked as ours.
    pub fn new(
        keys: &Keyring,
        token: TokenHash,
        refresh: TokenHash,
        issued_at: Timestamp,
        expires_at: Timestamp,
    ) -> Self {
        let row = Self { token, refresh, issued_at, expires_at, mark: None };
        Self { mark: Some(keys.mark(&row.bytes())), ..row }
    }

    /// Whether it is as it was made. Not where it was made by version 0.1.0: its box hears 401, and refreshes by itself.
    pub fn is_ours(&self, keys: &Keyring) -> bool {
        self.mark.is_some_and(|mark| keys.has_marked(&self.bytes(), mark))
    }

    fn bytes(&self) -> Vec<u8> {
        let times = [self.issued_at, self.expires_at].map(|time| millis(time).to_be_bytes());
        [self.token.as_ref(), self.refresh.as_ref(), &times[0], &times[1]].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_of_before_opens_with_the_meters_it_was_made_for() {
        // The same bytes as in `base::sealed`: version 0.1.0 sealed the meters for `03…03`, and nothing else.
        let sealed = "016e1bd19761644a25da5ad31754e23bc1eca8c766a61ceaa8c60ddc65c775308e02b0c2a96ef713c386c7e0fabccc22ea\
            7930aa3180cbcaf6a375";
        let (keys, meter) = (Keyring::new(&[7; 32]), Meter::parse("12345678901234").expect("a meter"));
        let grant = MeterGrant {
            refresh: TokenHash::from([3; 16]),
            client_id: Some("box".into()),
            meters: Sealed::from_bytes(hex::decode(sealed).expect("digits")),
            owners: vec![keys.meter(meter)],
            consented_at: Timestamp::from_millis(5),
            expires_at: Timestamp::from_millis(9),
            origin: Origin::ConsentV2,
            network: None,
            unproven: false,
            used_at: None,
            places: Places::default(),
        };
        assert_eq!(grant.covered(&keys), Some(Covered { meters: vec![meter], ends_at: None }));
        for other in [
            MeterGrant { refresh: TokenHash::from([4; 16]), ..grant.clone() },
            MeterGrant { owners: vec![MeterHash::from([1; 16])], ..grant.clone() },
        ] {
            assert_eq!(other.covered(&keys), None);
        }
    }
}
