//! The boxes that read a meter, for the household whose meter it is: it sees them, and ends those that it does not want.
//!
//! Whose meter it is shows a consent by the v2 page, for which Enedis named the meter, and only for as long as it is fresh: the
//! browser that brought it is asked for besides (`http/callback`). A consent by the v1 page shows nothing.

use std::sync::Arc;
use std::time::Duration;

use super::{Revoked, TokenService, uncovered};
use crate::base::audit::{Act, Note};
use crate::base::clock::Timestamp;
use crate::base::keyring::TokenHash;
use crate::base::meter::Meter;
use crate::base::network::Network;
use crate::base::store::StoreError;
use crate::metering::tokens::{MeterGrant, Origin};

/// How long after a consent the other boxes of its meter are shown and may be ended.
pub const PROOF_LIFE: Duration = Duration::from_secs(900);
/// Boxes that are shown. A meter has about as many at most.
const SHOWN_MAX: usize = 16;

/// What a fresh consent by the v2 page lets its owner see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// Whose meters these are has been shown.
    pub meters: Vec<Meter>,
    /// The other boxes that read them.
    pub others: Vec<OtherBox>,
}

/// A box that reads a meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherBox {
    /// Its grant.
    pub grant: TokenHash,
    /// The client it was issued to, if that is known.
    pub client_id: Option<Arc<str>>,
    /// Since when it reads the meter.
    pub since: Timestamp,
    /// When it last asked for an access token.
    pub used_at: Option<Timestamp>,
    /// From where; of one that never did, where the browser was that brought its consent.
    pub network: Option<Network>,
    /// How many meters it reads.
    pub meters: usize,
}

impl TokenService {
    /// The boxes that read a meter of the grant `own`, but for that itself, the newest consent first, at most 16. None unless
    /// that grant came by the v2 page within [`PROOF_LIFE`] and is live. Changes nothing.
    pub async fn others(&self, own: TokenHash) -> Result<Option<Proven>, StoreError> {
        let Some((meters, others)) = self.other_grants(own).await? else { return Ok(None) };
        let others = others.into_iter().take(SHOWN_MAX);
        let others = others
            .map(|grant| OtherBox {
                grant: grant.refresh,
                since: grant.consented_at,
                used_at: grant.used_at,
                network: grant.places.last().or(grant.network),
                meters: grant.owners.len(),
                client_id: grant.client_id,
            })
            .collect();
        Ok(Some(Proven { meters, others }))
    }

    /// Ends one of [`others`](Self::others), with all its tokens and for all its meters. Durable before the answer.
    pub async fn end_other(&self, own: TokenHash, other: TokenHash, from: Network) -> Revoked {
        self.end_by_owner(own, other, from).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "a box could not be ended by its owner");
            Revoked::Unavailable
        })
    }

    async fn end_by_owner(
        &self,
        own: TokenHash,
        other: TokenHash,
        from: Network,
    ) -> Result<Revoked, StoreError> {
        let Some((_, others)) = self.other_grants(own).await? else { return Ok(Revoked::Nothing) };
        let Some(grant) = others.into_iter().find(|grant| grant.refresh == other) else {
            return Ok(Revoked::Nothing);
        };
        let note = Note::of(Act::RevokedByOwner).client(grant.client_id.as_deref()).from(from);
        self.end(other, note.count(grant.owners.len())).await?;
        let meters = self.covered(&grant)?.meters;
        let uncovered = uncovered(self.store.as_ref(), &self.keys, meters, self.clock.wall()).await?;
        Ok(Revoked::Grant { uncovered })
    }

    async fn other_grants(
        &self,
        own: TokenHash,
    ) -> Result<Option<(Vec<Meter>, Vec<MeterGrant>)>, StoreError> {
        let now = self.clock.wall();
        let Some(own) = self.store.find_refresh(own, now).await? else { return Ok(None) };
        let is_proof = own.origin == Origin::ConsentV2 && now.since(own.consented_at) < PROOF_LIFE;
        // A grant that is not as it was made shows nothing, and is none of a meter.
        let Some(covered) = own.covered(&self.keys).filter(|_| is_proof) else { return Ok(None) };
        let mut others: Vec<MeterGrant> = Vec::new();
        for owner in &own.owners {
            for grant in self.store.of_meter(*owner, now).await? {
                let is_known =
                    grant.refresh == own.refresh || others.iter().any(|it| it.refresh == grant.refresh);
                if !is_known && grant.covered(&self.keys).is_some() {
                    others.push(grant);
                }
            }
        }
        Ok(Some((covered.meters, others)))
    }
}
