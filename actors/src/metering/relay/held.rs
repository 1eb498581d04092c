//! The meters with a consent, out of the store of tokens: after a restart nobody has asked yet.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::clock::Timestamp;
use crate::base::keyring::Keyring;
use crate::base::meter::Meter;
use crate::metering::tokens::TokenStore;

/// A meter with a consent, in place of a question: nobody has asked.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub meter: Meter,
    pub consented: Timestamp,
    pub ends: Timestamp,
    pub is_proven: bool,
}

/// The meters with a consent, each by the newest; `None` if the store does not answer.
pub(super) async fn read(
    grants: Option<Arc<dyn TokenStore>>,
    keys: &Keyring,
    now: Timestamp,
) -> Option<Vec<Held>> {
    let mut held: HashMap<Meter, Held> = HashMap::new();
    let (Some(grants), mut after) = (grants, None) else { return Some(Vec::new()) };
    loop {
        let page = grants.grants(after, now).await;
        let page = page
            .inspect_err(|error| tracing::warn!(%error, "the meters with a consent cannot be read"))
            .ok()?;
        for grant in page.grants {
            let (consented, ends, is_proven) = (grant.consented_at, grant.expires_at, !grant.unproven);
            for meter in grant.covered(keys).into_iter().flat_map(|covered| covered.meters) {
                let new = Held { meter, consented, ends, is_proven };
                let newest = held.entry(meter).or_insert(new);
                if newest.consented < consented {
                    *newest = new;
                }
            }
        }
        after = page.next;
        if after.is_none() {
            return Some(held.into_values().collect());
        }
    }
}
