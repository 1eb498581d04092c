//! MongoDB on a real server, a database for each test.

use std::sync::Arc;

use actors::metering::cache::MeterCache;
use actors::testing::{NOW, Samples, block_on};
use device_flow_proxy::store::mongo::MongoMeters;
use testkit::mongod::{Kind, Mongod};

use crate::store_contract::mongo::{Port, contract_on_mongodb, database, noted, peek};

async fn connect(uri: String) -> MongoMeters {
    crate::store_contract::mongo::connect(uri).await.meters().await.expect("a cache")
}

impl Port for dyn MeterCache {
    async fn connect(uri: String) -> Arc<Self> {
        Arc::new(connect(uri).await)
    }
}

contract_on_mongodb!(meters);

/// Nothing that the cache asks looks at more than it needs.
#[test]
fn no_question_scans_the_collection() {
    block_on(async {
        let (mongod, name) = (Mongod::shared(Kind::Standalone), database());
        let cache = connect(mongod.uri(&name)).await;
        let mut samples = Samples::new(242);
        let owner = samples.cache_key();
        let mut entries: Vec<_> = (0..300).map(|_| samples.cache_entry(owner)).collect();
        entries[7].owner = samples.cache_key();
        cache.put(entries.clone()).await.expect("stored");
        let collection = peek(&mongod, &name, "meter_cache").await;
        let noted = noted(&collection, async {
            let keys = vec![entries[0].key, entries[9].key];
            assert_eq!(cache.get(keys, NOW).await.expect("an answer").len(), 2);
            cache.put(vec![entries[3].clone()]).await.expect("stored");
            assert_eq!(cache.forget(entries[7].owner).await.expect("an answer"), 1);
            assert_eq!(cache.evict(NOW, u64::MAX).await.expect("an answer"), 0);
        })
        .await;
        assert_eq!(noted.len(), 5, "{noted:?}");
        for note in noted {
            let examined = note.get_i32("docsExamined").unwrap_or(0);
            assert!(examined <= 2, "{note}");
        }
    });
}
