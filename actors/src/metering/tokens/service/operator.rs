//! What the operator sees of grants while the server runs, and how one is ended.

use super::{TokenService, uncovered};
use crate::base::audit::{Act, Note};
use crate::base::clock::Timestamp;
use crate::base::keyring::TokenHash;
use crate::base::meter::Meter;
use crate::base::store::StoreError;
use crate::metering::tokens::{GrantPage, MeterGrant};

impl TokenService {
    /// Live grants, page by page.
    pub async fn grants(&self, after: Option<TokenHash>) -> Result<GrantPage, StoreError> {
        self.store.grants(after, self.clock.wall()).await
    }

    /// The live grants that cover a meter, as many as the store answers.
    pub async fn grants_of(&self, meter: Meter) -> Result<Vec<MeterGrant>, StoreError> {
        self.store.of_meter(self.keys.meter(meter), self.clock.wall()).await
    }

    /// The meters of a grant; `None` if they cannot be read.
    pub fn meters(&self, grant: &MeterGrant) -> Option<Vec<Meter>> {
        Some(grant.covered(&self.keys)?.meters)
    }

    /// Whether two boxes seem to hold a grant.
    pub fn is_double(&self, grant: &MeterGrant) -> bool {
        grant.places.is_double(self.clock.wall())
    }

    /// The operator ends a grant, with every token of it: its meters that no other grant covers; `None` if there was no such
    /// grant. Durable before the answer.
    pub async fn end_by_operator(&self, refresh: TokenHash) -> Result<Option<Vec<Meter>>, StoreError> {
        let Some(grant) = self.store.find_refresh(refresh, Timestamp::EPOCH).await? else { return Ok(None) };
        let note =
            Note::of(Act::RevokedByOperator).client(grant.client_id.as_deref()).count(grant.owners.len());
        if !self.end(refresh, note).await? {
            return Ok(None);
        }
        let meters = self.meters(&grant).unwrap_or_default();
        uncovered(self.store.as_ref(), &self.keys, meters, self.clock.wall()).await.map(Some)
    }
}
