//! MongoDB on a real server, a database for each test.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actors::base::store::{StoreError, Written};
use actors::device_flow::store::{SessionKey, SessionStore, Write};
use actors::testing::{NOW, Place, Samples, block_on};
use device_flow_proxy::store::OpenError;
use device_flow_proxy::store::mongo::{DEADLINE, MongoSettings, MongoStore};
use mongodb::bson::{Document, doc};
use testkit::cutter::Cutter;
use testkit::mongod::{Kind, Mongod};

use super::inserts;

/// A database of the test's own.
pub(super) fn database() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(super) async fn connect(uri: String) -> MongoStore {
    MongoStore::connect(MongoSettings::new(uri)).await.expect("a store")
}

/// A port that MongoDB is behind.
pub(super) trait Port {
    /// A store at `uri`.
    fn connect(uri: String) -> impl Future<Output = Arc<Self>>;
}

impl Port for dyn SessionStore {
    async fn connect(uri: String) -> Arc<Self> {
        Arc::new(connect(uri).await)
    }
}

/// A database of a server that stands alone.
pub(super) struct Standalone(Arc<Mongod>, String);

/// A database of a replica set.
pub(super) struct ReplicaSet(Arc<Mongod>, String);

impl<P: Port + ?Sized> Place<P> for Standalone {
    async fn fresh() -> Self {
        Self(Mongod::shared(), database())
    }

    async fn open(&self) -> Arc<P> {
        P::connect(self.0.uri(&self.1)).await
    }
}

impl<P: Port + ?Sized> Place<P> for ReplicaSet {
    async fn fresh() -> Self {
        Self(Mongod::shared_replica_set(), database())
    }

    async fn open(&self) -> Arc<P> {
        P::connect(self.0.uri(&self.1)).await
    }
}

mod standalone {
    actors::session_store_contract!(super::Standalone);
}

mod replica_set {
    actors::session_store_contract!(super::ReplicaSet);
}

/// A client of the test's own, to look behind the store.
pub(super) async fn peek(mongod: &Mongod, name: &str, collection: &str) -> mongodb::Collection<Document> {
    let client = mongodb::Client::with_uri_str(mongod.uri(name)).await.expect("a client");
    client.database(name).collection(collection)
}

#[test]
fn the_purge_time_is_a_date_that_the_server_acts_on() {
    block_on(async {
        let (mongod, name) = (Mongod::shared(), database());
        let store = connect(mongod.uri(&name)).await;
        let session = Samples::new(30).pending();
        store.commit(inserts(std::slice::from_ref(&session))).await;
        let sessions = peek(&mongod, &name, "device_sessions").await;
        let stored = sessions.find_one(doc! {}).await.expect("an answer").expect("a session");
        let date = stored.get_datetime("purge_at").expect("a date");
        assert_eq!(u64::try_from(date.timestamp_millis()).ok(), Some(session.purge_at.as_millis()));
        let indexes = sessions.list_indexes().await.expect("indexes");
        let indexes: Vec<_> = futures_util::TryStreamExt::try_collect(indexes).await.expect("indexes");
        let ttl: Vec<_> = indexes.iter().filter_map(|i| i.options.as_ref()?.expire_after).collect();
        assert_eq!(ttl, [Duration::ZERO]);
        assert_eq!(indexes.len(), 5);
        drop(connect(mongod.uri(&name)).await);
    });
}

#[test]
fn no_question_scans_the_collection() {
    block_on(async {
        let (mongod, name) = (Mongod::shared(), database());
        let store = connect(mongod.uri(&name)).await;
        let mut samples = Samples::new(31);
        let sessions = samples.pendings(100);
        store.commit(inserts(&sessions)).await;
        let updates: Vec<_> = sessions.iter().map(|s| Write::Update { to: samples.confirmed(s) }).collect();
        assert!(store.commit(updates).await.iter().all(|outcome| matches!(outcome, Ok(Written::Applied))));
        let collection = peek(&mongod, &name, "device_sessions").await;
        let some = collection.find_one(doc! {}).await.expect("an answer").expect("a session");
        let value = |field: &str| some.get(field).cloned().expect("a value");
        let live = doc! { "$gt": mongodb::bson::DateTime::from_millis(0) };
        let database = collection.client().database(&name);
        for (filter, projection, most) in [
            (doc! { "_id": value("_id"), "purge_at": live.clone() }, doc! {}, 1),
            (doc! { "_id": value("_id"), "rev": 1_i64 }, doc! {}, 1),
            (doc! { "user": value("user"), "purge_at": live.clone() }, doc! {}, 1),
            (doc! { "state": value("state"), "purge_at": live }, doc! {}, 1),
            // Answered by the index alone.
            (doc! { "changed": { "$gte": value("changed") } }, doc! { "_id": 1, "rev": 1 }, 0),
        ] {
            let find = doc! { "find": "device_sessions", "filter": &filter, "projection": projection };
            let plan = database.run_command(doc! { "explain": find, "verbosity": "executionStats" }).await;
            let plan = plan.expect("a plan");
            let examined =
                plan.get_document("executionStats").and_then(|stats| stats.get_i32("totalDocsExamined"));
            assert!(examined.as_ref().is_ok_and(|n| *n <= most), "{filter}: {examined:?}");
        }
    });
}

/// Nothing is fetched twice by one follower, and what another instance decides is there within a second.
#[test]
fn a_follower_is_told_once_and_soon() {
    block_on(async {
        let (mongod, name) = (Mongod::shared(), database());
        let (here, there) = (connect(mongod.uri(&name)).await, connect(mongod.uri(&name)).await);
        let mut samples = Samples::new(32);
        let sessions = samples.pendings(3);
        there.commit(inserts(&sessions)).await;
        let (_, mut cursor) = here.changes(None).await.expect("an answer");
        let mut told = Vec::new();
        for session in &sessions {
            let to = samples.confirmed(session);
            there.commit(vec![Write::Update { to: to.clone() }]).await;
            let decided = Instant::now();
            while !told.contains(&to) {
                let (changed, next) = here.changes(Some(cursor)).await.expect("an answer");
                told.extend(changed);
                cursor = next;
                assert!(decided.elapsed() < Duration::from_secs(1));
            }
        }
        for _ in 0..3 {
            let (changed, next) = here.changes(Some(cursor)).await.expect("an answer");
            assert!(changed.is_empty());
            cursor = next;
        }
        assert_eq!(told.len(), 3);
    });
}

#[test]
fn a_dead_server_is_an_error_in_time_and_a_certain_one_for_new_writes() {
    block_on(async {
        let mongod = Mongod::start(Kind::Standalone);
        let store = connect(mongod.uri("dead")).await;
        let mut samples = Samples::new(33);
        let sessions = samples.pendings(3);
        assert!(store.commit(inserts(&sessions)).await.iter().all(Result::is_ok));
        mongod.kill().expect("a running server");
        // The first operation may still find a connection that looks alive; from then on nothing can be sent.
        let first = store.commit(inserts(&samples.pendings(2))).await;
        assert!(first.iter().all(Result::is_err), "{first:?}");
        let asked = Instant::now();
        let mut group = inserts(&samples.pendings(2));
        group.push(Write::Update { to: samples.confirmed(&sessions[0]) });
        let (outcomes, found, ping, changes) = tokio::join!(
            store.commit(group),
            store.find(SessionKey::Device(sessions[0].device), NOW),
            store.ping(),
            store.changes(None),
        );
        assert!(asked.elapsed() < DEADLINE, "{:?}", asked.elapsed());
        assert_eq!(outcomes.len(), 3);
        assert!(
            outcomes.iter().all(|outcome| matches!(outcome, Err(StoreError::Aborted(_)))),
            "{outcomes:?}"
        );
        assert!(matches!(found, Err(StoreError::Aborted(_))), "{found:?}");
        assert!(ping.is_err() && changes.is_err());
    });
}

/// A write whose answer is lost may be stored or not: it is never said to be certainly undone.
#[test]
fn an_answer_that_is_lost_leaves_the_outcome_unknown() {
    block_on(async {
        let mongod = Mongod::start(Kind::Standalone);
        let store = connect(mongod.uri("frozen")).await;
        let mut samples = Samples::new(34);
        let sessions = samples.pendings(2);
        assert!(store.commit(inserts(&sessions)).await.iter().all(Result::is_ok));
        mongod.pause().expect("a running server");
        let asked = Instant::now();
        let new = samples.pendings(2);
        let mut group = inserts(&new);
        group.push(Write::Update { to: samples.confirmed(&sessions[0]) });
        let outcomes = store.commit(group).await;
        assert!(asked.elapsed() < DEADLINE + Duration::from_secs(1), "{:?}", asked.elapsed());
        assert_eq!(outcomes.len(), 3);
        let unknown = |outcome: &Result<_, _>| matches!(outcome, Err(StoreError::Unknown(_)));
        assert!(outcomes.iter().any(unknown), "{outcomes:?}");
        mongod.resume().expect("a frozen server");
        // The caller reads again, and finds the truth either way.
        let stored = store.find(SessionKey::Device(sessions[0].device), NOW).await.expect("an answer");
        assert!(stored.expect("a session").rev <= 1);
        for session in &new {
            let stored = store.find(SessionKey::Device(session.device), NOW).await.expect("an answer");
            assert!(stored.is_none_or(|stored| stored == *session));
        }
    });
}

#[test]
fn a_line_that_is_cut_heals_by_itself() {
    block_on(async {
        let mongod = Mongod::shared();
        let cutter = Cutter::start(mongod.addr()).await.expect("a relay");
        let store = connect(mongod.uri_through(cutter.addr(), &database())).await;
        let mut samples = Samples::new(35);
        assert!(store.commit(inserts(&samples.pendings(5))).await.iter().all(Result::is_ok));
        cutter.cut();
        let outcomes = store.commit(inserts(&samples.pendings(5))).await;
        assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
        cutter.restore();
        let restored = Instant::now();
        while store.ping().await.is_err() {
            assert!(restored.elapsed() < Duration::from_secs(15));
        }
        let outcomes = store.commit(inserts(&samples.pendings(5))).await;
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(Written::Applied))), "{outcomes:?}");
    });
}

#[test]
fn no_error_repeats_the_address() {
    const SECRET: &str = "hunter2";
    block_on(async {
        let mut told = Vec::new();
        for uri in [
            format!("mongodb://user:{SECRET}@127.0.0.1:1/db"),
            format!("mongodb://user:{SECRET}@127.0.0.1:notaport/db"),
            format!("mongodb://user:{SECRET}@/{SECRET}@127.0.0.1/db"),
            format!("mongodb://user:{SECRET}%zz@127.0.0.1/db"),
            format!("mongodb://user@127.0.0.1/db?authMechanism={SECRET}"),
            format!("mongo://{SECRET}"),
            SECRET.to_owned(),
        ] {
            let settings = MongoSettings::new(uri);
            assert!(!format!("{settings:?}").contains(SECRET));
            let error = MongoStore::connect(settings).await.expect_err("no server");
            let text = format!("{error} {error:?}");
            assert!(!text.contains(SECRET), "{text}");
            told.push(error);
        }
        assert!(matches!(told[0], OpenError::Unreachable(_)), "{:?}", told[0]);
        assert!(told[1..].iter().all(|error| matches!(error, OpenError::Address(_))), "{told:?}");
    });
}

#[test]
fn an_index_that_others_made_differently_is_refused() {
    block_on(async {
        let (mongod, name) = (Mongod::shared(), database());
        let named = mongodb::options::IndexOptions::builder().name("user".to_owned()).build();
        let index = mongodb::IndexModel::builder().keys(doc! { "user": -1 }).options(named).build();
        peek(&mongod, &name, "device_sessions").await.create_index(index).await.expect("an index");
        let error =
            MongoStore::connect(MongoSettings::new(mongod.uri(&name))).await.expect_err("another index");
        assert!(matches!(error, OpenError::Layout(_)), "{error:?}");
    });
}

/// Whatever the line does: what is said to be applied is stored, what is said to be certainly not is not, and no
/// write ever conflicts with itself.
async fn no_answer_is_wrong_while_the_line_breaks(mongod: &Mongod) {
    let name = database();
    let cutter = Cutter::start(mongod.addr()).await.expect("a relay");
    let store: Arc<dyn SessionStore> = Arc::new(connect(mongod.uri_through(cutter.addr(), &name)).await);
    let tasks: Vec<_> = (0..6)
        .map(|seed| {
            let (store, mut samples) = (Arc::clone(&store), Samples::new(40 + seed));
            tokio::spawn(async move {
                let mut ends = Vec::new();
                let started = Instant::now();
                while started.elapsed() < Duration::from_secs(3) {
                    let sessions = samples.pendings(5);
                    let inserted = store.commit(inserts(&sessions)).await;
                    let applied =
                        sessions.iter().zip(&inserted).filter(|(_, o)| matches!(o, Ok(Written::Applied)));
                    let confirmed: Vec<_> = applied.map(|(session, _)| samples.confirmed(session)).collect();
                    let updates = confirmed.iter().map(|to| Write::Update { to: to.clone() }).collect();
                    let outcomes = store.commit(updates).await;
                    ends.extend(sessions.into_iter().zip(inserted));
                    ends.extend(confirmed.into_iter().zip(outcomes));
                }
                ends
            })
        })
        .collect();
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(45)).await;
        cutter.cut_once();
    }
    let mut told = (0, 0, 0);
    let truth = connect(mongod.uri(&name)).await;
    for task in tasks {
        for (session, outcome) in task.await.expect("no panic") {
            let stored = truth.find(SessionKey::Device(session.device), NOW).await.expect("an answer");
            let there = stored.is_some_and(|stored| stored.rev >= session.rev);
            match outcome {
                Ok(Written::Applied) => {
                    told.0 += 1;
                    assert!(there, "applied, but not stored");
                }
                Ok(Written::Conflict) => panic!("a write conflicts with itself"),
                Err(StoreError::Aborted(reason)) => {
                    told.1 += 1;
                    assert!(!there, "certainly not written ({reason}), but stored");
                }
                Err(StoreError::Unknown(_)) => told.2 += 1,
            }
        }
    }
    let (applied, aborted, unknown) = told;
    assert!(applied > 0 && aborted + unknown > 0, "{applied} applied, {aborted} aborted, {unknown} unknown");
}

#[test]
fn no_answer_is_wrong_while_the_line_to_a_single_server_breaks() {
    block_on(async { no_answer_is_wrong_while_the_line_breaks(&Mongod::shared()).await });
}

#[test]
fn no_answer_is_wrong_while_the_line_to_a_replica_set_breaks() {
    block_on(async { no_answer_is_wrong_while_the_line_breaks(&Mongod::shared_replica_set()).await });
}
