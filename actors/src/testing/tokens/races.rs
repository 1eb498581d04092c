//! What holds although several tasks on several handles write at once.

use std::time::Duration;

use futures_util::future::join_all;

use super::{Store, Trial, add, by_access, by_refresh, issue, live, of_meter, revoke};
use crate::base::store::Written;
use crate::metering::tokens::{ACCESS_MAX, Access, MeterGrant, TokenStore};
use crate::testing::{NOW, Place, only_winner, race};

/// Of many grants with one refresh token, and of many with one access token, sent at once, exactly one is stored;
/// nothing is left of the others.
pub async fn lets_one_of_many_racing_adds_win<P: Place<dyn TokenStore>>(
    (place, store, mut samples): Trial<P>,
) {
    let stores = [store, place.open().await];
    let add_one = |store: Store, (grant, access): (MeterGrant, Access)| async move {
        add(&store, &grant, Some(access)).await
    };
    let refresh = samples.token();
    let rivals: Vec<_> = (0..16)
        .map(|_| {
            let grant = MeterGrant { refresh, ..samples.meter_grant() };
            let access = samples.access(&grant, NOW);
            (grant, access)
        })
        .collect();
    let winner = only_winner(&race(&stores, rivals.clone(), add_one).await);
    for (n, (grant, access)) in rivals.iter().enumerate() {
        let want = (n == winner).then_some(grant);
        assert_eq!(by_access(&stores[n % 2], access.token).await.as_ref(), want);
        assert_eq!(of_meter(&stores[n % 2], grant.owners[0], NOW).await.first(), want);
    }
    assert_eq!(by_refresh(&stores[0], refresh).await.as_ref(), Some(&rivals[winner].0));

    let token = samples.token();
    let rivals: Vec<_> = (0..16)
        .map(|_| {
            let grant = samples.meter_grant();
            let access = Access { token, ..samples.access(&grant, NOW) };
            (grant, access)
        })
        .collect();
    let winner = only_winner(&race(&stores, rivals.clone(), add_one).await);
    for (n, (grant, _)) in rivals.iter().enumerate() {
        let want = (n == winner).then_some(grant);
        assert_eq!(by_refresh(&stores[n % 2], grant.refresh).await.as_ref(), want);
    }
    assert_eq!(by_access(&stores[1], token).await.as_ref(), Some(&rivals[winner].0));
    assert_eq!(live(&stores[1], NOW).await.0.len(), 2);
}

/// However many access tokens are issued at once, [`ACCESS_MAX`] of a grant stay.
pub async fn bounds_racing_issues<P: Place<dyn TokenStore>>((place, store, mut samples): Trial<P>) {
    let stores = [store, place.open().await];
    let grant = samples.meter_grant();
    assert_eq!(add(&stores[0], &grant, None).await, Written::Applied);
    let tokens: Vec<_> = (0..40).map(|n| samples.access(&grant, NOW + Duration::from_millis(n))).collect();
    let outcomes =
        race(&stores, tokens.clone(), |store, access| async move { issue(&store, access).await }).await;
    assert!(outcomes.iter().all(|written| *written == Written::Applied));
    let found = join_all(tokens.iter().map(|access| by_access(&stores[0], access.token))).await;
    let found: Vec<_> = found.into_iter().flatten().collect();
    assert_eq!(found.len(), ACCESS_MAX as usize);
    assert!(found.iter().all(|found| *found == grant));
}

/// Access tokens that are issued while their grant is revoked end with it, whichever came first.
pub async fn leaves_no_token_of_a_revoked_grant<P: Place<dyn TokenStore>>(
    (place, store, mut samples): Trial<P>,
) {
    let stores = [store, place.open().await];
    for _ in 0..8 {
        let grant = samples.meter_grant();
        assert_eq!(add(&stores[0], &grant, Some(samples.access(&grant, NOW))).await, Written::Applied);
        let tokens: Vec<_> = (0..6).map(|_| samples.access(&grant, NOW)).collect();
        let issued =
            race(&stores, tokens.clone(), |store, access| async move { issue(&store, access).await });
        let (_, gone) = tokio::join!(issued, revoke(&stores[1], &grant));
        assert!(gone, "only one revokes");
        for access in &tokens {
            assert_eq!(by_access(&stores[0], access.token).await, None);
        }
        assert_eq!(add(&stores[0], &grant, None).await, Written::Applied);
        for access in &tokens {
            assert_eq!(by_access(&stores[1], access.token).await, None, "ended for good");
        }
    }
}
