//! MongoDB on a real server, a database for each test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actors::base::store::{StoreError, Written};
use actors::metering::tokens::TokenStore;
use actors::testing::{NOW, Samples, block_on};
use device_flow_proxy::config::StoreConfig;
use device_flow_proxy::store::mongo::{DEADLINE, MongoSettings, MongoTokens};
use device_flow_proxy::store::{MeteringStores, OpenError, Stores, open_tokens};
use futures_util::TryStreamExt;
use mongodb::bson::doc;
use testkit::cutter::Cutter;
use testkit::mongod::{Kind, Mongod};

use crate::store_contract::mongo::{Port, ReplicaSet, Standalone, database, peek};

async fn connect(uri: String) -> MongoTokens {
    MongoTokens::connect(MongoSettings::new(uri)).await.expect("a store")
}

impl Port for dyn TokenStore {
    async fn connect(uri: String) -> Arc<Self> {
        Arc::new(connect(uri).await)
    }
}

mod standalone {
    actors::token_store_contract!(super::Standalone);
}

mod replica_set {
    actors::token_store_contract!(super::ReplicaSet);
}

/// Every store of a server works in one database, and a command's store beside it.
#[test]
fn a_command_works_beside_a_server() {
    block_on(async {
        let (mongod, name) = (Mongod::shared(), database());
        let config = StoreConfig::Mongo { uri: mongod.uri(&name), pool_size: 4 };
        let nowhere = std::path::Path::new("/nonexistent");
        let server = Stores::open(&config, nowhere, true).await.expect("stores");
        let MeteringStores { tokens, meters } = server.metering.expect("asked for");
        let command = open_tokens(&config, nowhere).await.expect("the tokens");
        let mut samples = Samples::new(141);
        let grant = samples.meter_grant();
        let access = samples.access(&grant, NOW);
        assert_eq!(command.add(grant.clone(), Some(access)).await.expect("stored"), Written::Applied);
        // The threads and connections stay as long as one of the stores that share them.
        drop(server.sessions);
        drop(meters);
        assert_eq!(tokens.find_access(access.token, NOW).await.expect("an answer"), Some(grant.clone()));
        assert!(command.revoke(grant.refresh).await.expect("revoked"));
        assert_eq!(tokens.find_access(access.token, NOW).await.expect("an answer"), None);
    });
}

#[test]
fn the_end_of_a_grant_is_a_date_that_the_server_acts_on() {
    block_on(async {
        let (mongod, name) = (Mongod::shared(), database());
        let store = connect(mongod.uri(&name)).await;
        let grant = Samples::new(142).meter_grant();
        store.add(grant.clone(), None).await.expect("stored");
        let grants = peek(&mongod, &name, "meter_grants").await;
        let stored = grants.find_one(doc! {}).await.expect("an answer").expect("a grant");
        let date = stored.get_datetime("expires_at").expect("a date");
        assert_eq!(u64::try_from(date.timestamp_millis()).ok(), Some(grant.expires_at.as_millis()));
        let indexes: Vec<_> =
            grants.list_indexes().await.expect("indexes").try_collect().await.expect("indexes");
        let ttl: Vec<_> = indexes.iter().filter_map(|i| i.options.as_ref()?.expire_after).collect();
        assert_eq!(ttl, [Duration::ZERO]);
        assert_eq!(indexes.len(), 4);
        drop(connect(mongod.uri(&name)).await);
    });
}

#[test]
fn no_question_scans_the_collection() {
    block_on(async {
        let (mongod, name) = (Mongod::shared(), database());
        let store = connect(mongod.uri(&name)).await;
        let mut samples = Samples::new(143);
        let mut last = None;
        for _ in 0..100 {
            let grant = samples.meter_grant();
            let access = samples.access(&grant, NOW);
            store.add(grant.clone(), Some(access)).await.expect("stored");
            last = Some((grant, access));
        }
        let (grant, access) = last.expect("a grant");
        // The server notes how it answered what the store really asks.
        let grants = peek(&mongod, &name, "meter_grants").await;
        let database = grants.client().database(&name);
        database.run_command(doc! { "profile": 2 }).await.expect("a profile");
        assert!(store.find_refresh(grant.refresh, NOW).await.expect("an answer").is_some());
        assert!(store.find_access(access.token, NOW).await.expect("an answer").is_some());
        assert_eq!(store.of_meter(grant.owners[0], NOW).await.expect("an answer").len(), 1);
        let further = samples.access(&grant, NOW);
        assert_eq!(store.issue(further).await.expect("an answer"), Written::Applied);
        assert!(store.revoke(grant.refresh).await.expect("an answer"));
        database.run_command(doc! { "profile": 0 }).await.expect("no profile");
        let profile = database.collection::<mongodb::bson::Document>("system.profile");
        let noted = profile.find(doc! { "ns": grants.namespace().to_string() }).await.expect("notes");
        let noted: Vec<_> = noted.try_collect().await.expect("notes");
        assert_eq!(noted.len(), 5, "{noted:?}");
        for note in noted {
            let examined = (note.get_i32("docsExamined"), note.get_i32("keysExamined"));
            assert!(matches!(examined, (Ok(0..=1), Ok(0..=3))), "{note}");
            assert!(!note.get_bool("hasSortStage").unwrap_or(false), "{note}");
        }
    });
}

#[test]
fn a_dead_server_is_an_error_in_time() {
    block_on(async {
        let mongod = Mongod::start(Kind::Standalone);
        let store = connect(mongod.uri("dead")).await;
        let mut samples = Samples::new(144);
        let grant = samples.meter_grant();
        store.add(grant.clone(), None).await.expect("stored");
        mongod.kill().expect("a running server");
        // The first operation may still find a connection that looks alive; from then on nothing can be sent.
        store.add(samples.meter_grant(), None).await.expect_err("no server");
        let asked = Instant::now();
        let (added, issued, found, revoked) = tokio::join!(
            store.add(samples.meter_grant(), None),
            store.issue(samples.access(&grant, NOW)),
            store.find_refresh(grant.refresh, NOW),
            store.revoke(grant.refresh),
        );
        assert!(asked.elapsed() < DEADLINE, "{:?}", asked.elapsed());
        assert!(matches!(added, Err(StoreError::Aborted(_))), "{added:?}");
        assert!(matches!(issued, Err(StoreError::Aborted(_))), "{issued:?}");
        assert!(matches!(found, Err(StoreError::Aborted(_))), "{found:?}");
        assert!(matches!(revoked, Err(StoreError::Aborted(_))), "{revoked:?}");
        let settings = MongoSettings::new(mongod.uri("dead"));
        let refused = MongoTokens::connect(settings).await.expect_err("no server");
        assert!(matches!(refused, OpenError::Unreachable(_)), "{refused:?}");
    });
}

/// Whatever the line does: what is said to be stored is, with its token; what is said to be certainly not is not; no
/// grant conflicts with itself.
async fn no_answer_is_wrong_while_the_line_breaks(mongod: &Mongod) {
    let name = database();
    let cutter = Cutter::start(mongod.addr()).await.expect("a relay");
    let store = Arc::new(connect(mongod.uri_through(cutter.addr(), &name)).await);
    let tasks: Vec<_> = (0..4)
        .map(|seed| {
            let (store, mut samples) = (Arc::clone(&store), Samples::new(150 + seed));
            tokio::spawn(async move {
                let mut ends = Vec::new();
                let started = Instant::now();
                while started.elapsed() < Duration::from_secs(2) {
                    let grant = samples.meter_grant();
                    let (first, second) = (samples.access(&grant, NOW), samples.access(&grant, NOW));
                    let added = store.add(grant.clone(), Some(first)).await;
                    let issued = match added {
                        Ok(_) => Some((store.issue(second).await, second)),
                        Err(_) => None,
                    };
                    ends.push((added, first));
                    ends.extend(issued);
                }
                ends
            })
        })
        .collect();
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(45)).await;
        cutter.cut_once();
    }
    let truth = connect(mongod.uri(&name)).await;
    let mut told = (0, 0);
    for task in tasks {
        for (outcome, access) in task.await.expect("no panic") {
            let found = truth.find_access(access.token, NOW).await.expect("an answer");
            match outcome {
                Ok(Written::Applied) => {
                    told.0 += 1;
                    assert_eq!(found.expect("applied, and stored").refresh, access.refresh);
                }
                Ok(Written::Conflict) => panic!("a grant conflicts with itself"),
                Err(StoreError::Aborted(reason)) => {
                    told.1 += 1;
                    assert!(found.is_none(), "certainly not written ({reason}), but stored");
                }
                Err(StoreError::Unknown(_)) => told.1 += 1,
            }
        }
    }
    assert!(told.0 > 0 && told.1 > 0, "{told:?}");
}

#[test]
fn no_answer_is_wrong_while_the_line_to_a_single_server_breaks() {
    block_on(async { no_answer_is_wrong_while_the_line_breaks(&Mongod::shared()).await });
}

#[test]
fn no_answer_is_wrong_while_the_line_to_a_replica_set_breaks() {
    block_on(async { no_answer_is_wrong_while_the_line_breaks(&Mongod::shared_replica_set()).await });
}
