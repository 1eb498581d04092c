//! MongoDB on a real server, a database for each test.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actors::base::store::{StoreError, Written};
use actors::device_flow::store::{SessionKey, SessionStore, Write};
use actors::metering::cache::MeterCache as _;
use actors::metering::tokens::places::Places;
use actors::metering::tokens::{CONSENT_MAX, TokenStore as _};
use actors::testing::{NOW, Place, Samples, block_on};
use device_flow_proxy::store::OpenError;
use device_flow_proxy::store::mongo::{MongoMeters, MongoSettings, MongoStore, MongoTokens};
use futures_util::TryStreamExt;
use futures_util::future::{Either, join_all, select};
use mongodb::bson::{Document, doc};
use testkit::cutter::Cutter;
use testkit::mongod::{Kind, Mongod};

use super::inserts;
use crate::fixture::{PATIENCE, eventually};

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

/// A database of a server that stands alone, or of a replica set.
pub(super) struct Database<const REPLICA_SET: bool>(Arc<Mongod>, String);

impl<const REPLICA_SET: bool, P: Port + ?Sized> Place<P> for Database<REPLICA_SET> {
    async fn fresh() -> Self {
        let kind = if REPLICA_SET { Kind::ReplicaSet } else { Kind::Standalone };
        Self(Mongod::shared(kind), database())
    }

    async fn open(&self) -> Arc<P> {
        P::connect(self.0.uri(&self.1)).await
    }
}

/// The contract on both kinds of servers.
macro_rules! contract_on_mongodb {
    ($kind:ident) => {
        mod standalone {
            actors::store_contract!($kind on $crate::store_contract::mongo::Database<false>);
        }

        mod replica_set {
            actors::store_contract!($kind on $crate::store_contract::mongo::Database<true>);
        }
    };
}
pub(super) use contract_on_mongodb;

contract_on_mongodb!(sessions);

/// A client of the test's own, to look behind the store.
pub(super) async fn peek(mongod: &Mongod, name: &str, collection: &str) -> mongodb::Collection<Document> {
    let client = mongodb::Client::with_uri_str(mongod.uri(name)).await.expect("a client");
    client.database(name).collection(collection)
}

/// What the server notes of how it answered all that `work` asks of `collection`.
pub(super) async fn noted(collection: &mongodb::Collection<Document>, work: impl Future) -> Vec<Document> {
    let database = collection.client().database(&collection.namespace().db);
    database.run_command(doc! { "profile": 2 }).await.expect("a profile");
    work.await;
    database.run_command(doc! { "profile": 0 }).await.expect("no profile");
    let profile = database.collection::<Document>("system.profile");
    let noted = profile.find(doc! { "ns": collection.namespace().to_string() }).await.expect("notes");
    noted.try_collect().await.expect("notes")
}

/// The three stores of one database.
async fn stores(uri: &str) -> (MongoStore, MongoTokens, MongoMeters) {
    let sessions = connect(uri.to_owned()).await;
    let tokens = MongoTokens::connect(MongoSettings::new(uri.to_owned())).await.expect("a store");
    let meters = sessions.meters().await.expect("a cache");
    (sessions, tokens, meters)
}

#[test]
fn every_end_is_a_date_that_the_server_acts_on() {
    block_on(async {
        let (mongod, name) = (Mongod::shared(Kind::Standalone), database());
        let (sessions, tokens, meters) = stores(&mongod.uri(&name)).await;
        let mut samples = Samples::new(30);
        let (session, grant) = (samples.pending(), samples.meter_grant());
        let owner = samples.cache_key();
        let entry = samples.cache_entry(owner);
        sessions.commit(inserts(std::slice::from_ref(&session))).await;
        tokens.add(grant.clone(), None).await.expect("stored");
        meters.put(vec![entry.clone()]).await.expect("stored");
        let ended = samples.meter_grant();
        tokens.add(ended.clone(), None).await.expect("stored");
        assert!(tokens.revoke(ended.refresh).await.expect("revoked"));
        // Grants are not the server's to delete: its clock may be wrong. That they have ended may be forgotten.
        for (collection, field, end, deletes, indexes_wanted) in [
            ("device_sessions", "purge_at", session.purge_at, 1, 5),
            ("meter_grants", "expires_at", grant.expires_at, 0, 5),
            ("ended_grants", "until", ended.consented_at + CONSENT_MAX, 1, 2),
            ("meter_cache", "expires_at", entry.expires, 1, 4),
        ] {
            let collection = peek(&mongod, &name, collection).await;
            let stored = collection.find_one(doc! {}).await.expect("an answer").expect("a document");
            let date = stored.get_datetime(field).expect("a date");
            assert_eq!(u64::try_from(date.timestamp_millis()).ok(), Some(end.as_millis()));
            let indexes = collection.list_indexes().await.expect("indexes");
            let indexes: Vec<_> = indexes.try_collect().await.expect("indexes");
            let ttl: Vec<_> = indexes.iter().filter_map(|i| i.options.as_ref()?.expire_after).collect();
            assert_eq!((ttl, indexes.len()), (vec![Duration::ZERO; deletes], indexes_wanted));
        }
        drop(stores(&mongod.uri(&name)).await);
    });
}

#[test]
fn no_question_scans_the_collection() {
    block_on(async {
        let (mongod, name) = (Mongod::shared(Kind::Standalone), database());
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

#[test]
fn writes_that_are_held_up_hold_up_no_reads() {
    block_on(async {
        // A server of its own: all its writes are held up.
        let (mongod, name) = (Mongod::start(Kind::Standalone), database());
        let settings = MongoSettings { pool_size: Some(2), ..MongoSettings::new(mongod.uri(&name)) };
        let store = Arc::new(MongoStore::connect(settings).await.expect("a store"));
        let tokens = store.tokens().await.expect("a store");
        let mut samples = Samples::new(33);
        let (sessions, grant) = (samples.pendings(8), samples.meter_grant());
        store.commit(inserts(&sessions)).await;
        tokens.add(grant.clone(), None).await.expect("stored");
        let (_, cursor) = store.changes(None).await.expect("an answer");
        let admin = peek(&mongod, &name, "any").await.client().database("admin");
        admin.run_command(doc! { "fsync": 1, "lock": true }).await.expect("a lock");
        let updates: Vec<_> = sessions.iter().map(|s| Write::Update { to: samples.confirmed(s) }).collect();
        let written = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.commit(updates).await }
        });
        eventually("writes are held up", || async {
            let status = admin.run_command(doc! { "serverStatus": 1 }).await.ok()?;
            let queue = status.get_document("globalLock").ok()?.get_document("currentQueue").ok()?;
            (queue.get_i32("writers").ok()? > 0).then_some(())
        })
        .await;
        let found = store.find(SessionKey::Device(sessions[0].device), NOW).await;
        assert_eq!(found.expect("an answer"), Some(sessions[0].clone()));
        let found = tokens.find_refresh(grant.refresh, NOW).await;
        assert_eq!(found.expect("an answer"), Some(grant));
        assert!(store.changes(Some(cursor)).await.is_ok_and(|(changed, _)| changed.is_empty()));
        assert!(!written.is_finished());
        admin.run_command(doc! { "fsyncUnlock": 1 }).await.expect("no lock");
        assert!(written.await.unwrap().iter().all(|outcome| matches!(outcome, Ok(Written::Applied))));
    });
}

/// Nothing is fetched twice by one follower, and what another instance decides is there soon.
#[test]
fn a_follower_is_told_once() {
    block_on(async {
        let (mongod, name) = (Mongod::shared(Kind::Standalone), database());
        let (here, there) = (connect(mongod.uri(&name)).await, connect(mongod.uri(&name)).await);
        let mut samples = Samples::new(32);
        let sessions = samples.pendings(3);
        there.commit(inserts(&sessions)).await;
        let (_, cursor) = here.changes(None).await.expect("an answer");
        let cursor = Cell::new(Some(cursor));
        let changes = async || {
            let (changed, next) = here.changes(cursor.take()).await.expect("an answer");
            cursor.set(Some(next));
            changed
        };
        let mut told = Vec::new();
        for session in &sessions {
            let to = samples.confirmed(session);
            there.commit(vec![Write::Update { to: to.clone() }]).await;
            told.extend(
                eventually("the change is told", async || {
                    Some(changes().await).filter(|all| !all.is_empty())
                })
                .await,
            );
            assert_eq!(told.last(), Some(&to));
        }
        for _ in 0..3 {
            assert!(changes().await.is_empty());
        }
        assert_eq!(told.len(), 3);
    });
}

/// Every store: an error comes in time, and a certain one for what was never sent.
#[test]
fn a_dead_server_is_an_error() {
    block_on(async {
        let mongod = Mongod::start(Kind::Standalone);
        let (sessions, tokens, meters) = stores(&mongod.uri("dead")).await;
        let mut samples = Samples::new(33);
        let (pending, grant, owner) = (samples.pendings(3), samples.meter_grant(), samples.cache_key());
        let entry = samples.cache_entry(owner);
        assert!(sessions.commit(inserts(&pending)).await.iter().all(Result::is_ok));
        tokens.add(grant.clone(), None).await.expect("stored");
        meters.put(vec![entry.clone()]).await.expect("stored");
        mongod.kill().expect("a running server");
        // The first operation may still find a connection that looks alive; from then on nothing can be sent.
        let first = sessions.commit(inserts(&samples.pendings(2))).await;
        assert!(first.iter().all(Result::is_err), "{first:?}");
        tokens.add(samples.meter_grant(), None).await.expect_err("no server");

        let mut group = inserts(&samples.pendings(2));
        group.push(Write::Update { to: samples.confirmed(&pending[0]) });
        let of_sessions = async {
            let certain = |outcome: &Result<_, _>| matches!(outcome, Err(StoreError::Aborted(_)));
            let outcomes = sessions.commit(group).await;
            assert!(outcomes.len() == 3 && outcomes.iter().all(certain), "{outcomes:?}");
            let found = sessions.find(SessionKey::Device(pending[0].device), NOW).await;
            assert!(matches!(found, Err(StoreError::Aborted(_))), "{found:?}");
            assert!(sessions.ping().await.is_err() && sessions.changes(None).await.is_err());
        };
        let of_tokens = async {
            let outcomes = [
                tokens.add(samples.meter_grant(), None).await.map(drop),
                tokens.issue(samples.access(&grant, NOW), Places::default()).await.map(drop),
                tokens.find_refresh(grant.refresh, NOW).await.map(drop),
                tokens.revoke(grant.refresh).await.map(drop),
            ];
            let certain = |outcome: &Result<_, _>| matches!(outcome, Err(StoreError::Aborted(_)));
            assert!(outcomes.iter().all(certain), "{outcomes:?}");
            let refused = MongoTokens::connect(MongoSettings::new(mongod.uri("dead"))).await;
            assert!(matches!(refused, Err(OpenError::Unreachable(_))), "{:?}", refused.err());
        };
        let of_meters = async {
            meters.get(vec![entry.key], NOW).await.expect_err("no server");
            meters.put(vec![entry.clone()]).await.expect_err("no server");
            meters.evict(NOW, 0).await.expect_err("no server");
            meters.forget(owner).await.expect_err("no server");
        };
        let all = async { tokio::join!(of_sessions, of_tokens, of_meters) };
        tokio::time::timeout(PATIENCE, all).await.expect("every operation ends");
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
        let new = samples.pendings(2);
        let mut group = inserts(&new);
        group.push(Write::Update { to: samples.confirmed(&sessions[0]) });
        let outcomes = tokio::time::timeout(PATIENCE, store.commit(group)).await.expect("an end");
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
        let mongod = Mongod::shared(Kind::Standalone);
        let cutter = Cutter::start(mongod.addr()).await.expect("a relay");
        let store = connect(mongod.uri_through(cutter.addr(), &database())).await;
        let mut samples = Samples::new(35);
        assert!(store.commit(inserts(&samples.pendings(5))).await.iter().all(Result::is_ok));
        cutter.cut();
        let outcomes = store.commit(inserts(&samples.pendings(5))).await;
        assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
        cutter.restore();
        eventually("the line is in use again", async || store.ping().await.ok()).await;
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
        let (mongod, name) = (Mongod::shared(Kind::Standalone), database());
        let named = mongodb::options::IndexOptions::builder().name("user".to_owned()).build();
        let index = mongodb::IndexModel::builder().keys(doc! { "user": -1 }).options(named).build();
        peek(&mongod, &name, "device_sessions").await.create_index(index).await.expect("an index");
        let error =
            MongoStore::connect(MongoSettings::new(mongod.uri(&name))).await.expect_err("another index");
        assert!(matches!(error, OpenError::Layout(_)), "{error:?}");
    });
}

#[test]
fn a_database_of_a_newer_version_is_left_alone() {
    block_on(async {
        let (mongod, name) = (Mongod::shared(Kind::Standalone), database());
        drop(connect(mongod.uri(&name)).await);
        let layout = peek(&mongod, &name, "installation").await;
        let newer = doc! { "$set": { "version": 99_i64 } };
        let written = layout.update_one(doc! { "_id": "layout" }, newer).await.expect("an answer");
        assert_eq!(written.modified_count, 1);
        let sessions = peek(&mongod, &name, "device_sessions").await;
        sessions.drop_indexes().await.expect("an answer");
        let settings = || MongoSettings::new(mongod.uri(&name));
        for error in [
            MongoStore::connect(settings()).await.map(drop).expect_err("a newer layout"),
            MongoTokens::connect(settings()).await.map(drop).expect_err("a newer layout"),
        ] {
            assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error:?}");
            assert!(error.to_string().contains(&name), "{error}");
        }
        assert_eq!(sessions.list_index_names().await.expect("an answer"), ["_id_"], "nothing is made");
    });
}

/// What each of some clients does again and again through a line that breaks again and again, until some of their
/// writes were taken and some were not. Returns every outcome, and a store to look for the truth in.
pub(super) async fn outcomes_while_the_line_breaks<P: Port + ?Sized, T>(
    mongod: &Mongod,
    round: impl AsyncFn(&P, &mut Samples) -> Vec<(T, Result<Written, StoreError>)>,
) -> (Arc<P>, Vec<(T, Result<Written, StoreError>)>) {
    let name = database();
    let cutter = Cutter::start(mongod.addr()).await.expect("a relay");
    let store = P::connect(mongod.uri_through(cutter.addr(), &name)).await;
    let (taken, failed) = (Cell::new(0), Cell::new(0));
    let (taken, failed, round, store) = (&taken, &failed, &round, &*store);
    let clients = (0..6).map(|seed| async move {
        let (mut samples, mut outcomes) = (Samples::new(40 + seed), Vec::new());
        while taken.get() < 100 || failed.get() < 20 {
            let new = round(store, &mut samples).await;
            let good = new.iter().filter(|(_, outcome)| outcome.is_ok()).count();
            taken.set(taken.get() + good);
            failed.set(failed.get() + new.len() - good);
            outcomes.extend(new);
        }
        outcomes
    });
    let clients = std::pin::pin!(join_all(clients));
    let breaks = std::pin::pin!(async {
        loop {
            tokio::time::sleep(Duration::from_millis(45)).await;
            cutter.cut_once();
        }
    });
    let outcomes = match select(clients, breaks).await {
        Either::Left((outcomes, _)) => outcomes,
        Either::Right((never, _)) => never,
    };
    (P::connect(mongod.uri(&name)).await, outcomes.into_iter().flatten().collect())
}

/// What is said to be applied is stored, what is said to be certainly not is not, and no write conflicts with itself.
pub(super) fn assert_true(outcome: Result<Written, StoreError>, stored: bool) {
    match outcome {
        Ok(Written::Applied) => assert!(stored, "applied, but not stored"),
        Ok(Written::Conflict) => panic!("a write conflicts with itself"),
        Err(StoreError::Aborted(reason)) => assert!(!stored, "certainly not written ({reason}), but stored"),
        Err(StoreError::Unknown(_)) => {}
    }
}

#[test]
fn no_answer_is_wrong_while_the_line_breaks() {
    let round = async |store: &dyn SessionStore, samples: &mut Samples| {
        let sessions = samples.pendings(5);
        let inserted = store.commit(inserts(&sessions)).await;
        let applied = sessions.iter().zip(&inserted).filter(|(_, o)| matches!(o, Ok(Written::Applied)));
        let confirmed: Vec<_> = applied.map(|(session, _)| samples.confirmed(session)).collect();
        let updates = confirmed.iter().map(|to| Write::Update { to: to.clone() }).collect();
        let outcomes = store.commit(updates).await;
        sessions.into_iter().zip(inserted).chain(confirmed.into_iter().zip(outcomes)).collect::<Vec<_>>()
    };
    block_on(async {
        for mongod in [Mongod::shared(Kind::Standalone), Mongod::shared(Kind::ReplicaSet)] {
            let (truth, outcomes) = outcomes_while_the_line_breaks(&mongod, round).await;
            for (session, outcome) in outcomes {
                let stored = truth.find(SessionKey::Device(session.device), NOW).await.expect("an answer");
                assert_true(outcome, stored.is_some_and(|stored| stored.rev >= session.rev));
            }
        }
    });
}
