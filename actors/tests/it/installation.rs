//! The record of an installation: the key may change, the hashes stay.

use actors::base::code::BearerToken;
use actors::base::keyring::Keyring;
use actors::base::meter::Meter;
use actors::metering::tokens::installation::{Installation, InstallationError, Secret};
use actors::metering::tokens::{Origin, Terms, TokenStore as _};
use actors::testing::{CONSENT_LIFE, NOW, TokenModel};
use rand::SeedableRng;
use rand::rngs::StdRng;
use zeroize::Zeroizing;

fn secrets<const N: usize>(bytes: [u8; N]) -> Vec<Secret> {
    bytes.iter().map(|byte| Zeroizing::new([*byte; 32])).collect()
}

async fn open<const N: usize>(store: &TokenModel, bytes: [u8; N]) -> Result<Keyring, InstallationError> {
    Installation::open(store, &secrets(bytes), NOW, &mut StdRng::seed_from_u64(1)).await
}

#[tokio::test]
async fn the_key_changes_and_the_hashes_stay() {
    let (store, token) = (TokenModel::default(), BearerToken::generate(&mut StdRng::seed_from_u64(2)));
    let first = open(&store, [1]).await.unwrap();
    assert_eq!(first.refresh(&token), Keyring::new(&[1; 32]).refresh(&token), "as without a record");
    assert!(matches!(open(&store, [2]).await, Err(InstallationError::OtherKey)));
    for known in [&[2, 1][..], &[2], &[3, 2], &[3]] {
        let keys = match *known {
            [a, b] => open(&store, [a, b]).await,
            [a, ..] => open(&store, [a]).await,
            [] => unreachable!(),
        };
        assert_eq!(keys.unwrap().refresh(&token), first.refresh(&token), "{known:?}");
    }
    assert!(matches!(open(&store, [1]).await, Err(InstallationError::OtherKey)), "nobody has it any more");
}

#[tokio::test]
async fn a_store_without_a_record_tells_its_key_by_its_grants() {
    let mut rng = StdRng::seed_from_u64(3);
    let (store, keys) = (TokenModel::default(), Keyring::new(&[1; 32]));
    let refresh = keys.refresh(&BearerToken::generate(&mut rng));
    let (client_id, ends_at, origin) = (None, NOW + CONSENT_LIFE, Origin::Import);
    let terms = Terms { refresh, client_id, consented_at: NOW, ends_at, origin };
    let grant = terms.grant(&keys, &mut rng, &[Meter::parse("12345678901234").unwrap()]);
    store.add(grant, None).await.unwrap();
    assert!(matches!(open(&store, [2]).await, Err(InstallationError::OtherKey)));
    assert_eq!(store.installation().await.unwrap(), None, "nothing was written");
    let keys = open(&store, [2, 1]).await.unwrap();
    let grant = store.find_refresh(refresh, NOW).await.unwrap().unwrap();
    assert!(grant.covered(&keys).is_some());
}
