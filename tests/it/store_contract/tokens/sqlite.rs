//! SQLite in a directory of its own.

use std::path::Path;
use std::sync::Arc;

use actors::base::store::{StoreError, Written};
use actors::metering::tokens::places::Places;
use actors::metering::tokens::{MeterGrant, TokenStore};
use actors::testing::{NOW, Place, Samples, block_on};
use device_flow_proxy::store::OpenError;
use device_flow_proxy::store::sqlite::{SqliteStore, SqliteTokens};
use tempfile::TempDir;

use crate::store_contract::kept::{Kept, kept};

struct Directory(TempDir);

impl Place<dyn TokenStore> for Directory {
    async fn fresh() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    async fn open(&self) -> Arc<dyn TokenStore> {
        Arc::new(SqliteTokens::open(self.0.path()).expect("a store"))
    }
}

actors::store_contract!(tokens on Directory);

impl Kept for SqliteTokens {
    type Sample = MeterGrant;

    const FILE: &str = "tokens.sqlite";

    fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open(dir)
    }

    fn sample(samples: &mut Samples) -> MeterGrant {
        samples.meter_grant()
    }

    async fn keep(&self, grant: MeterGrant) -> Result<Written, StoreError> {
        self.add(grant, None).await
    }

    async fn count(&self) -> usize {
        self.grants(None, NOW).await.expect("a page").grants.len()
    }
}

kept!(SqliteTokens);

/// As for a grant: what is on disk at the moment of an acknowledgement is all that a killed process leaves.
#[test]
fn an_acknowledged_revocation_is_on_disk() {
    let (place, copy) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let mut samples = Samples::new(132);
    let grants = [samples.meter_grant(), samples.meter_grant()];
    let access = samples.access(&grants[1], NOW);
    block_on(async {
        let store = SqliteTokens::open(place.path()).expect("a store");
        for grant in &grants {
            assert_eq!(store.add(grant.clone(), None).await.expect("stored"), Written::Applied);
        }
        assert_eq!(store.issue(access, Places::default()).await.expect("stored"), Written::Applied);
        assert!(store.revoke(grants[0].refresh).await.expect("revoked"));
        for file in ["tokens.sqlite", "tokens.sqlite-wal"] {
            std::fs::copy(place.path().join(file), copy.path().join(file)).expect("a copy");
        }
        let survivor = SqliteTokens::open(copy.path()).expect("a store");
        assert_eq!(survivor.find_refresh(grants[0].refresh, NOW).await.expect("an answer"), None);
        assert!(survivor.find_access(access.token, NOW).await.expect("an answer").is_some());
    });
}

/// Processes that start together make the file once.
#[test]
fn a_new_file_is_opened_by_several_at_once() {
    let place = tempfile::tempdir().expect("a directory");
    let mut samples = Samples::new(133);
    let grants: Vec<MeterGrant> = (0..8).map(|_| samples.meter_grant()).collect();
    std::thread::scope(|scope| {
        for grant in &grants {
            let dir = place.path();
            scope.spawn(move || {
                block_on(async {
                    let store = SqliteTokens::open(dir).expect("a store");
                    assert_eq!(store.add(grant.clone(), None).await.expect("stored"), Written::Applied);
                });
            });
        }
    });
    block_on(async {
        let store = SqliteTokens::open(place.path()).expect("a store");
        assert_eq!(store.grants(None, NOW).await.expect("a page").grants.len(), 8);
    });
}

/// The file of the sessions under the name of the tokens'.
#[test]
fn the_sessions_are_no_tokens() {
    let place = tempfile::tempdir().expect("a directory");
    drop(SqliteStore::open(place.path()).expect("a store"));
    std::fs::rename(place.path().join("sessions.sqlite"), place.path().join("tokens.sqlite"))
        .expect("a name");
    let refused = SqliteTokens::open(place.path()).expect_err("not ours");
    assert!(matches!(refused, OpenError::Damaged { source: None, .. }), "{refused:?}");
}
