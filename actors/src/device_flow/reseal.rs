//! Stored sessions under today's secret. Done at the start, before any is in memory: what is in memory is written again.

use rand::Rng;

use super::session::{Phase, Session};
use super::store::{SessionStore, Write};
use crate::base::clock::Timestamp;
use crate::base::keyring::Keyring;
use crate::base::sealed::{Purpose, Sealed};
use crate::base::store::StoreError;

/// Seals under today's secret what is sealed under an older one. What another instance changes meanwhile stays as it is.
pub async fn reseal(
    store: &dyn SessionStore,
    keys: &Keyring,
    now: Timestamp,
    rng: &mut impl Rng,
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = store.page(after, now).await?;
        let resealed = page.sessions.into_iter().filter_map(|session| resealed(session, keys, rng));
        let writes = resealed.map(|to| Write::Update { to }).collect();
        for outcome in store.commit(writes).await {
            outcome?;
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

/// What is sealed in a session.
pub fn sealed_in(session: &mut Session) -> impl Iterator<Item = (Purpose<'static>, &mut Sealed)> {
    let secret = session.request.client_secret.as_mut().map(|sealed| (Purpose::ClientSecret, sealed));
    let verifier = session.consent.as_deref_mut().and_then(|consent| consent.verifier.as_mut());
    let verifier = verifier.map(|sealed| (Purpose::Verifier, sealed));
    let answer = match &mut session.phase {
        Phase::Approved { token, .. } => Some((Purpose::Token, token)),
        Phase::Redeemed { body, .. } => Some((Purpose::Delivered, body)),
        _ => None,
    };
    secret.into_iter().chain(verifier).chain(answer)
}

/// The next revision, if anything of it is sealed under an older secret.
fn resealed(mut session: Session, keys: &Keyring, rng: &mut impl Rng) -> Option<Session> {
    let (device, mut is_new) = (session.device, false);
    for (purpose, sealed) in sealed_in(&mut session) {
        if let Some(new) = keys.reseal(rng, purpose, &device, sealed) {
            (*sealed, is_new) = (new, true);
        }
    }
    is_new.then(|| Session { rev: session.rev + 1, ..session })
}
