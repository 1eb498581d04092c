//! What every token store promises, one property a function. Each panics where the property does not hold.
#![expect(clippy::missing_panics_doc, reason = "a property panics where it does not hold, and says so above")]

pub(super) mod model;
mod races;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

pub use self::model::agrees_with_a_model;
pub use self::races::{
    bounds_racing_issues, leaves_no_token_of_a_revoked_grant, lets_one_of_many_racing_adds_win,
};
use super::{NOW, Place, before, drain};
use crate::base::clock::Timestamp;
use crate::base::keyring::{MeterHash, TokenHash};
use crate::base::meter::METERS_MAX;
use crate::base::sealed::Sealed;
use crate::base::store::Written;
use crate::metering::tokens::places::Places;
use crate::metering::tokens::{ACCESS_MAX, Access, MeterGrant, OF_METER_MAX, Origin, TokenStore};

type Store = Arc<dyn TokenStore>;
type Trial<P> = super::Trial<P, dyn TokenStore>;

async fn add(store: &Store, grant: &MeterGrant, access: Option<Access>) -> Written {
    store.add(grant.clone(), access).await.expect("the store takes the grant")
}

async fn issue(store: &Store, access: Access) -> Written {
    store.issue(access, Places::default()).await.expect("the store takes the token")
}

/// A grant as it was stored: when it was used is compared with the model's.
fn as_stored(grant: MeterGrant) -> MeterGrant {
    MeterGrant { used_at: None, places: Places::default(), ..grant }
}

async fn by_refresh_at(store: &Store, refresh: TokenHash, now: Timestamp) -> Option<MeterGrant> {
    store.find_refresh(refresh, now).await.expect("the store can be read").map(as_stored)
}

async fn by_refresh(store: &Store, refresh: TokenHash) -> Option<MeterGrant> {
    by_refresh_at(store, refresh, NOW).await
}

async fn by_access_at(store: &Store, token: TokenHash, now: Timestamp) -> Option<MeterGrant> {
    let found = store.find_access(token, now).await.expect("the store can be read");
    found.map(|(grant, access)| {
        assert_eq!((access.token, access.refresh), (token, grant.refresh));
        as_stored(grant)
    })
}

async fn by_access(store: &Store, token: TokenHash) -> Option<MeterGrant> {
    by_access_at(store, token, NOW).await
}

async fn of_meter(store: &Store, owner: MeterHash, now: Timestamp) -> Vec<MeterGrant> {
    let found = store.of_meter(owner, now).await.expect("the store can be read");
    found.into_iter().map(as_stored).collect()
}

async fn revoke(store: &Store, grant: &MeterGrant) -> bool {
    store.revoke(grant.refresh).await.expect("the store revokes")
}

async fn has_ended(store: &Store, grant: &MeterGrant) -> bool {
    store.has_ended(grant.refresh).await.expect("an answer")
}

/// All live grants, with the number of pages they took.
async fn live(store: &Store, now: Timestamp) -> (Vec<MeterGrant>, usize) {
    let (mut all, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = store.grants(after, now).await.expect("the store can be read");
        all.extend(page.grants.into_iter().map(as_stored));
        pages += 1;
        match page.next {
            Some(next) => after = Some(next),
            None => return (all, pages),
        }
    }
}

/// Stores grants that must be taken, each with its access token.
async fn add_all<'a>(store: &Store, grants: impl IntoIterator<Item = &'a (MeterGrant, Access)>) {
    for (grant, access) in grants {
        assert_eq!(add(store, grant, Some(*access)).await, Written::Applied);
    }
}

/// What holds of a grant that is stored and live, or that is not.
async fn is_found(store: &Store, grant: &MeterGrant, tokens: &[Access], found: bool) {
    let want = found.then_some(grant);
    assert_eq!(by_refresh(store, grant.refresh).await.as_ref(), want);
    for access in tokens {
        assert_eq!(by_access(store, access.token).await.as_ref(), want);
    }
    assert_eq!(of_meter(store, grant.owners[0], NOW).await.first(), want);
}

/// From its end on a grant is found by no token, no meter and on no page, nor by an access token that ends later;
/// an access token ends on its own before.
pub async fn hides_what_has_expired<P: Place<dyn TokenStore>>((_, store, mut samples): Trial<P>) {
    assert!(!store.has_held_grants().await.expect("an answer"));
    assert!(!store.has_ended(samples.token()).await.expect("an answer"));
    let grant = samples.meter_grant();
    let end = grant.expires_at;
    let short = samples.access(&grant, NOW);
    let long = Access { expires_at: end + Duration::from_secs(60), ..samples.access(&grant, NOW) };
    assert_eq!(add(&store, &grant, Some(short)).await, Written::Applied);
    assert_eq!(issue(&store, long).await, Written::Applied);
    let access = async |token, now| by_access_at(&store, token, now).await;
    let refresh = async |now| by_refresh_at(&store, grant.refresh, now).await;
    assert_eq!(access(short.token, before(short.expires_at)).await.as_ref(), Some(&grant));
    assert_eq!(access(short.token, short.expires_at).await, None);
    assert_eq!(access(long.token, before(end)).await.as_ref(), Some(&grant));
    assert_eq!(access(long.token, end).await, None, "its grant has ended");
    assert_eq!(refresh(before(end)).await.as_ref(), Some(&grant));
    assert_eq!(refresh(end).await, None);
    assert_eq!(of_meter(&store, grant.owners[0], before(end)).await, std::slice::from_ref(&grant));
    assert!(of_meter(&store, grant.owners[0], end).await.is_empty());
    assert_eq!(live(&store, before(end)).await.0, [grant]);
    assert!(live(&store, end).await.0.is_empty());
}

/// Beyond [`ACCESS_MAX`] each further access token of a grant ends its oldest one, the first one included; those of
/// other grants are not counted.
pub async fn ends_the_oldest_access_tokens<P: Place<dyn TokenStore>>((_, store, mut samples): Trial<P>) {
    let (grant, bystander) = (samples.meter_grant(), samples.meter_grant());
    let other = samples.access(&bystander, NOW);
    assert_eq!(add(&store, &bystander, Some(other)).await, Written::Applied);
    let tokens: Vec<_> = (0..ACCESS_MAX + 5)
        .map(|n| samples.access(&grant, NOW + Duration::from_secs(u64::from(n))))
        .collect();
    assert_eq!(add(&store, &grant, Some(tokens[0])).await, Written::Applied);
    for (n, access) in tokens.iter().enumerate().skip(1) {
        assert_eq!(issue(&store, *access).await, Written::Applied);
        let ended = (n + 1).saturating_sub(ACCESS_MAX as usize);
        for (age, access) in tokens[..=n].iter().enumerate() {
            let found = by_access(&store, access.token).await;
            assert_eq!(found.is_some(), age >= ended, "token {age} after {n}");
        }
    }
    assert_eq!(by_access(&store, other.token).await, Some(bystander));
}

/// A revocation takes the grant and all its access tokens, counts at once on every handle, and leaves the tokens
/// free: a grant stored anew does not bring the old access tokens back.
pub async fn revokes_a_grant_with_all_its_tokens<P: Place<dyn TokenStore>>(
    (place, _, mut samples): Trial<P>,
) {
    let (here, there) = (place.open().await, place.open().await);
    let (grant, bystander) = (samples.meter_grant(), samples.meter_grant());
    let tokens: Vec<_> = (0..3).map(|_| samples.access(&grant, NOW)).collect();
    let other = samples.access(&bystander, NOW);
    add_all(&here, &[(grant.clone(), tokens[0]), (bystander.clone(), other)]).await;
    assert_eq!(issue(&there, tokens[1]).await, Written::Applied);
    assert_eq!(issue(&here, tokens[2]).await, Written::Applied);
    for store in [&here, &there] {
        is_found(store, &grant, &tokens, true).await;
    }
    assert!(revoke(&there, &grant).await);
    for store in [&here, &there] {
        is_found(store, &grant, &tokens, false).await;
        assert!(has_ended(store, &grant).await);
        assert_eq!(live(store, NOW).await.0, std::slice::from_ref(&bystander));
        assert!(!revoke(store, &grant).await, "there is none any more");
    }
    assert_eq!(add(&here, &grant, None).await, Written::Applied);
    assert_eq!(by_access(&here, tokens[1].token).await, None, "ended for good");
    assert_eq!(by_access(&here, other.token).await, Some(bystander));
}

/// The live grants of a meter come newest consent first and bounded, whichever of their meters is asked for.
pub async fn finds_the_grants_of_a_meter<P: Place<dyn TokenStore>>((_, store, mut samples): Trial<P>) {
    let meter = samples.meter();
    let count = u64::from(OF_METER_MAX) + 20;
    let mut grants = Vec::new();
    for n in 0..count {
        let mut grant = samples.meter_grant();
        let at = usize::try_from(n).expect("few") % (grant.owners.len() + 1);
        grant.owners.insert(at, meter);
        // Not in the order they are stored in.
        grant.consented_at = NOW + Duration::from_secs(n * 7 % count);
        if n % 10 == 0 {
            grant.expires_at = NOW;
        }
        grants.push(grant);
    }
    let stored = join_all(grants.iter().map(|grant| add(&store, grant, None))).await;
    assert!(stored.iter().all(|written| *written == Written::Applied));
    let mut want: Vec<_> = grants.iter().filter(|grant| grant.expires_at > NOW).cloned().collect();
    want.sort_by_key(|grant| std::cmp::Reverse(grant.consented_at));
    want.truncate(OF_METER_MAX as usize);
    assert_eq!(of_meter(&store, meter, NOW).await, want);
    let own = grants[7].owners.iter().find(|owner| **owner != meter).expect("a meter of its own");
    assert_eq!(of_meter(&store, *own, NOW).await, grants[7..8]);
}

/// Every field comes back as it was stored: any text, any number of meters in their order, any origin.
pub async fn returns_every_grant_as_it_was_stored<P: Place<dyn TokenStore>>(
    (_, store, mut samples): Trial<P>,
) {
    let long = "x".repeat(2_000);
    for text in
        [None, Some(""), Some("'; DROP TABLE meter_grant;--"), Some("$where"), Some("🏠 ß"), Some(&long)]
    {
        for origin in [Origin::ConsentV1, Origin::ConsentV2, Origin::Import] {
            let mut grant = MeterGrant { client_id: text.map(Arc::from), origin, ..samples.meter_grant() };
            grant.owners = (0..METERS_MAX).map(|_| samples.meter()).collect();
            grant.meters = Sealed::from_bytes((0..=u8::MAX).cycle().take(400).collect());
            grant.consented_at = Timestamp::from_millis(1);
            assert_eq!(add(&store, &grant, None).await, Written::Applied);
            is_found(&store, &grant, &[], true).await;
            assert_eq!(of_meter(&store, grant.owners[METERS_MAX - 1], NOW).await, [grant]);
        }
    }
}

/// The pages together hold every live grant once and no other.
pub async fn visits_every_live_grant_once<P: Place<dyn TokenStore>>((_, store, mut samples): Trial<P>) {
    let mut grants: Vec<_> = (0..1_500).map(|_| samples.meter_grant()).collect();
    for old in grants.iter_mut().step_by(5) {
        old.expires_at = NOW;
    }
    for group in grants.chunks(50) {
        let stored = join_all(group.iter().map(|grant| add(&store, grant, None))).await;
        assert!(stored.iter().all(|written| *written == Written::Applied));
    }
    let (seen, pages) = live(&store, NOW).await;
    let distinct: BTreeSet<TokenHash> = seen.iter().map(|grant| grant.refresh).collect();
    assert_eq!((seen.len(), distinct.len()), (1_200, 1_200));
    assert!(seen.iter().all(|grant| grant.expires_at > NOW));
    assert!(pages > 1, "a page is bounded");
}

/// A purge deletes grants that have expired, with their tokens, and notes them; of a grant that lives on, an access token
/// may stay.
pub async fn purges_only_what_has_expired<P: Place<dyn TokenStore>>((_, store, mut samples): Trial<P>) {
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for n in 0..40_u64 {
        let mut grant = samples.meter_grant();
        grant.expires_at = NOW + Duration::from_millis(n);
        let access = samples.access(&grant, NOW);
        assert_eq!(add(&store, &grant, Some(access)).await, Written::Applied);
        if n < 25 { old.push((grant, access)) } else { new.push((grant, access)) }
    }
    // A grant that lives on, and one of its tokens that does not.
    let grant = samples.meter_grant();
    let ended = Access { expires_at: NOW + Duration::from_millis(3), ..samples.access(&grant, NOW) };
    assert!(store.has_held_grants().await.expect("an answer"));
    assert_eq!(add(&store, &grant, Some(ended)).await, Written::Applied);
    new.push((grant.clone(), samples.access(&grant, NOW + Duration::from_millis(1))));
    assert_eq!(issue(&store, new[15].1).await, Written::Applied);
    let at = NOW + Duration::from_millis(24);
    let gone = drain(async || store.purge(at).await).await;
    assert!(gone >= 25, "{gone} were deleted");
    for (grant, access) in &new {
        assert_eq!(by_refresh_at(&store, grant.refresh, at).await.as_ref(), Some(grant));
        assert_eq!(by_access_at(&store, access.token, at).await.as_ref(), Some(grant));
    }
    for (grant, _) in &old {
        assert!(has_ended(&store, grant).await, "deleted or not");
    }
    let (grants, _) = live(&store, at).await;
    assert_eq!(grants.len(), 16);
    assert_eq!(live(&store, Timestamp::EPOCH).await.0.len(), 16, "nothing is left to be found");
    for (grant, access) in old {
        assert_eq!(add(&store, &grant, Some(access)).await, Written::Applied, "its tokens are free");
    }
}

/// What was acknowledged is there when the store is opened again, and what was revoked is not.
pub async fn keeps_what_it_acknowledged<P: Place<dyn TokenStore>>((place, store, mut samples): Trial<P>) {
    let grants: Vec<_> = (0..10).map(|_| samples.granted()).collect();
    add_all(&store, &grants).await;
    let further = samples.access(&grants[3].0, NOW);
    assert_eq!(issue(&store, further).await, Written::Applied);
    assert!(revoke(&store, &grants[0].0).await);
    drop(store);
    let store = place.open().await;
    for (n, (grant, access)) in grants.iter().enumerate() {
        is_found(&store, grant, &[*access], n > 0).await;
    }
    is_found(&store, &grants[3].0, &[further], true).await;
    assert!(has_ended(&store, &grants[0].0).await);
}
