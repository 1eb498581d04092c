//! MongoDB on a real server, a database for each test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actors::metering::cache::MeterCache;
use actors::testing::{NOW, Samples, block_on};
use device_flow_proxy::store::mongo::{DEADLINE, MongoMeters};
use futures_util::TryStreamExt;
use mongodb::bson::doc;
use testkit::mongod::{Kind, Mongod};

use crate::store_contract::mongo::{Port, ReplicaSet, Standalone, database, peek};

async fn connect(uri: String) -> MongoMeters {
    crate::store_contract::mongo::connect(uri).await.meters().await.expect("a cache")
}

impl Port for dyn MeterCache {
    async fn connect(uri: String) -> Arc<Self> {
        Arc::new(connect(uri).await)
    }
}

mod standalone {
    actors::meter_cache_contract!(super::Standalone);
}

mod replica_set {
    actors::meter_cache_contract!(super::ReplicaSet);
}

#[test]
fn the_end_of_an_entry_is_a_date_that_the_server_acts_on() {
    block_on(async {
        let (mongod, name) = (Mongod::shared(), database());
        let cache = connect(mongod.uri(&name)).await;
        let mut samples = Samples::new(241);
        let owner = samples.cache_key();
        let entry = samples.cache_entry(owner);
        cache.put(vec![entry.clone()]).await.expect("stored");
        let entries = peek(&mongod, &name, "meter_cache").await;
        let stored = entries.find_one(doc! {}).await.expect("an answer").expect("an entry");
        let date = stored.get_datetime("expires_at").expect("a date");
        assert_eq!(u64::try_from(date.timestamp_millis()).ok(), Some(entry.expires.as_millis()));
        let indexes: Vec<_> =
            entries.list_indexes().await.expect("indexes").try_collect().await.expect("indexes");
        let ttl: Vec<_> = indexes.iter().filter_map(|i| i.options.as_ref()?.expire_after).collect();
        assert_eq!(ttl, [Duration::ZERO]);
        assert_eq!(indexes.len(), 4);
        drop(connect(mongod.uri(&name)).await);
    });
}

/// Nothing that the cache asks looks at more than it needs.
#[test]
fn no_question_scans_the_collection() {
    block_on(async {
        let (mongod, name) = (Mongod::shared(), database());
        let cache = connect(mongod.uri(&name)).await;
        let mut samples = Samples::new(242);
        let owner = samples.cache_key();
        let mut entries: Vec<_> = (0..300).map(|_| samples.cache_entry(owner)).collect();
        entries[7].owner = samples.cache_key();
        cache.put(entries.clone()).await.expect("stored");
        let collection = peek(&mongod, &name, "meter_cache").await;
        let database = collection.client().database(&name);
        database.run_command(doc! { "profile": 2 }).await.expect("a profile");
        assert_eq!(cache.get(vec![entries[0].key, entries[9].key], NOW).await.expect("an answer").len(), 2);
        cache.put(vec![entries[3].clone()]).await.expect("stored");
        assert_eq!(cache.forget(entries[7].owner).await.expect("an answer"), 1);
        assert_eq!(cache.evict(NOW, u64::MAX).await.expect("an answer"), 0);
        database.run_command(doc! { "profile": 0 }).await.expect("no profile");
        let profile = database.collection::<mongodb::bson::Document>("system.profile");
        let noted = profile.find(doc! { "ns": collection.namespace().to_string() }).await.expect("notes");
        let noted: Vec<_> = noted.try_collect().await.expect("notes");
        assert_eq!(noted.len(), 5, "{noted:?}");
        for note in noted {
            let examined = note.get_i32("docsExamined").unwrap_or(0);
            assert!(examined <= 2, "{note}");
        }
    });
}

#[test]
fn a_dead_server_is_an_error_in_time() {
    block_on(async {
        let mongod = Mongod::start(Kind::Standalone);
        let cache = connect(mongod.uri("dead")).await;
        let mut samples = Samples::new(243);
        let owner = samples.cache_key();
        let entry = samples.cache_entry(owner);
        cache.put(vec![entry.clone()]).await.expect("stored");
        mongod.kill().expect("a running server");
        let asked = Instant::now();
        let (found, stored, evicted, forgotten) = tokio::join!(
            cache.get(vec![entry.key], NOW),
            cache.put(vec![entry.clone()]),
            cache.evict(NOW, 0),
            cache.forget(owner),
        );
        assert!(asked.elapsed() < DEADLINE + Duration::from_secs(1), "{:?}", asked.elapsed());
        assert!(found.is_err() && stored.is_err() && evicted.is_err() && forgotten.is_err());
    });
}
