//! Refresh tokens that the store does not know: ended or made up, and refused for good; or a sign that the store is not
//! the one it should be, as when its disk is not mounted, its name is mistyped, or an older copy was restored. A box erases
//! its tokens on a refusal, so that a whole fleet would be lost by such a mistake. Therefore a token that was issued and
//! did not end here is answered by "come back" until the operator says that the store is right.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{CONSENT_MAX, TokenStore};
use crate::base::clock::{Clock, Timestamp};
use crate::base::code::BearerToken;
use crate::base::keyring::Keyring;
use crate::base::network::Network;
use crate::base::provenance::Provenance;
use crate::base::store::StoreError;

/// Tokens that do not say where they are from are doubted if this many networks bring unknown ones within [`CROWD_WITHIN`]
/// while nobody has brought a known one.
const CROWD: usize = 3;
const CROWD_WITHIN: Duration = Duration::from_secs(600);

/// Whether this is the right store.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// Since when it is held for the wrong one.
    since: Mutex<Option<Timestamp>>,
    knows_any: AtomicBool,
    /// Networks that brought unknown tokens, and when last; some more than [`CROWD`] at most.
    strangers: Mutex<BTreeMap<Network, Timestamp>>,
    is_crowded: AtomicBool,
}

impl Doubt {
    /// A token was found.
    pub fn found(&self) {
        self.knows_any.store(true, Ordering::Relaxed);
    }

    /// Whether a token that was not found, brought from `network`, is to be refused for good.
    pub async fn is_void(
        &self,
        (store, keys): (&dyn TokenStore, &Keyring),
        token: &BearerToken,
        network: Network,
        clock: &dyn Clock,
    ) -> Result<bool, StoreError> {
        let now = clock.wall();
        let (issued, is_ours) = match keys.provenance(token) {
            Provenance::Unmarked if !self.is_crowd(network, clock.now()) => return Ok(true),
            Provenance::Unmarked => (None, false),
            Provenance::Ours(at) => (Some(at), true),
            Provenance::OurForm(at) => (Some(at), false),
        };
        let is_too_old = issued.is_some_and(|issued| now.since(issued) > CONSENT_MAX);
        if is_too_old && clock.is_reliable() || store.has_ended(keys.refresh(token)).await? {
            return Ok(true);
        }
        let accepted = store.installation().await?.and_then(|record| record.accepted_at);
        if accepted.is_some_and(|accepted| issued.is_none_or(|issued| issued < accepted)) {
            return Ok(true);
        }
        if issued.is_some() && (is_ours || !store.has_held_grants().await?) {
            self.raise(now);
        }
        Ok(false)
    }

    /// Whether the store is held for the wrong one, and the operator has not said otherwise since.
    pub async fn is_raised(&self, store: &dyn TokenStore) -> Result<bool, StoreError> {
        let since = || self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(raised) = *since() else { return Ok(false) };
        let accepted = store.installation().await?.and_then(|record| record.accepted_at);
        let is_over = accepted.is_some_and(|accepted| accepted >= raised);
        if is_over {
            *since() = None;
        }
        Ok(!is_over)
    }

    fn raise(&self, now: Timestamp) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_none() {
            tracing::error!(
                "A REFRESH TOKEN THAT WAS ISSUED BY THIS PROGRAM IS NOT IN THIS STORE, and did not end in it: DATA_DIR is \
                 not mounted, the name of the database is wrong, or tokens were lost with an older copy. Boxes with such \
                 tokens are told to come back, and readiness fails, until the right store is there. If this is the right \
                 one, and their owners shall consent again: device-flow-proxy tokens accept-store"
            );
            *since = Some(now);
        }
    }

    fn is_crowd(&self, network: Network, now: Timestamp) -> bool {
        if self.knows_any.load(Ordering::Relaxed) {
            return false;
        }
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        strangers.retain(|_, at| now.since(*at) < CROWD_WITHIN);
        if strangers.len() < CROWD {
            strangers.insert(network.widest(), now);
        }
        let is_crowd = strangers.len() >= CROWD;
        if is_crowd && !self.is_crowded.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "unknown refresh tokens come from many networks, and none that is known: is this the right store? They are \
                 told to come back"
            );
        }
        is_crowd
    }
}
