//! Numbers that all instances share: on SQLite, and on MongoDB of either kind.

use std::sync::Arc;

use actors::base::ledger::Ledger;
use actors::testing::block_on;
use device_flow_proxy::store::sqlite::SqliteStore;
use futures_util::future::join_all;
use testkit::mongod::{Kind, Mongod};

use super::mongo::{connect, database};

#[test]
fn an_hour_is_taken_once_and_no_more() {
    block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        keeps(&(Arc::new(SqliteStore::open(dir.path()).expect("a store")) as Arc<dyn Ledger>)).await;
        for kind in [Kind::Standalone, Kind::ReplicaSet] {
            let mongod = Mongod::shared(kind);
            keeps(&(Arc::new(connect(mongod.uri(&database())).await.ledger()) as Arc<dyn Ledger>)).await;
        }
    });
}

async fn keeps(ledger: &Arc<dyn Ledger>) {
    assert_eq!(ledger.read("a").await.expect("an answer"), None);
    for number in [7, i64::MAX] {
        ledger.write("a", number).await.expect("written");
        assert_eq!(ledger.read("a").await.expect("an answer"), Some(number));
    }
    // Racing.
    let taken = join_all((0..40).map(|_| ledger.take("token", 500, 3, 100))).await;
    let taken: Vec<_> = taken.into_iter().map(|taken| taken.expect("an answer")).collect();
    assert_eq!(taken.iter().map(|(granted, _)| granted).sum::<u32>(), 100);
    assert_eq!(taken.iter().map(|(_, used)| used).max(), Some(&100));
    assert_eq!(ledger.take("token", 500, 3, 100).await.expect("an answer"), (0, 100));
    assert_eq!(ledger.take("services", 500, 3, 100).await.expect("an answer"), (3, 3));
    assert_eq!(ledger.take("token", 501, 3, 100).await.expect("an answer"), (3, 3));
}
