//! SQLite in a directory of its own.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actors::base::keyring::DeviceHash;
use actors::base::store::{StoreError, Written};
use actors::device_flow::store::{SessionKey, SessionStore};
use actors::testing::contract::{Step, walk};
use actors::testing::{NOW, Place, Samples, block_on};
use device_flow_proxy::store::sqlite::SqliteStore;
use device_flow_proxy::store::{Counted, OpenError, StoreCounts};
use futures_util::FutureExt;
use futures_util::future::join_all;
use proptest::prelude::*;
use tempfile::TempDir;

use super::inserts;

struct Directory(TempDir);

impl Place for Directory {
    async fn fresh() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    async fn open(&self) -> Arc<dyn SessionStore> {
        Arc::new(SqliteStore::open(self.0.path()).expect("a store"))
    }
}

actors::session_store_contract!(Directory);

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_operations_ends_as_on_the_model(steps in proptest::collection::vec(any::<Step>(), 0..60)) {
        block_on(async {
            let place = Directory::fresh().await;
            walk(&place.open().await, &steps).await;
        });
    }
}

#[test]
fn a_second_process_is_refused_until_the_first_has_gone() {
    let place = tempfile::tempdir().expect("a directory");
    let first = SqliteStore::open(place.path()).expect("a store");
    let refused = SqliteStore::open(place.path()).expect_err("a second one");
    assert!(matches!(refused, OpenError::InUse(_)));
    assert!(refused.to_string().contains("DATA_DIR"), "{refused}");
    drop(first);
    SqliteStore::open(place.path()).expect("the directory is free again");
}

#[test]
fn files_of_others_and_of_newer_versions_are_left_alone() {
    let open = |prepare: fn(&Path)| {
        let place = tempfile::tempdir().expect("a directory");
        let file = place.path().join("sessions.sqlite");
        prepare(&file);
        let before = std::fs::read(&file).expect("a file");
        let refused = SqliteStore::open(place.path()).expect_err("not ours");
        assert_eq!(std::fs::read(&file).expect("a file"), before);
        refused
    };
    let text = open(|file| {
        std::fs::write(file, "not a database, but long enough to look like one".repeat(50)).expect("text");
    });
    assert!(matches!(text, OpenError::Damaged { source: Some(_), .. }), "{text:?}");
    let foreign = open(|file| execute(file, "CREATE TABLE theirs (x)"));
    assert!(matches!(foreign, OpenError::Damaged { source: None, .. }), "{foreign:?}");
    let newer = open(|file| {
        drop(SqliteStore::open(file.parent().expect("a directory")).expect("a store"));
        execute(file, "PRAGMA user_version = 99");
    });
    assert!(matches!(newer, OpenError::Newer { found: 99, known: 1, .. }), "{newer:?}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let place = tempfile::tempdir().expect("a directory");
    std::fs::write(place.path().join("file"), "").expect("a file");
    let refused = SqliteStore::open(&place.path().join("file/data")).expect_err("a directory in a file");
    assert!(matches!(refused, OpenError::Directory { .. }));
    assert!(refused.to_string().contains("file/data"), "{refused}");
}

/// What is on disk at the moment of an acknowledgement is all that a killed process leaves.
#[test]
fn an_acknowledged_group_is_on_disk_before_its_answer() {
    let (place, copy) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let sessions = Samples::new(20).pendings(50);
    block_on(async {
        let store = SqliteStore::open(place.path()).expect("a store");
        for group in sessions.chunks(10) {
            assert!(store.commit(inserts(group)).await.iter().all(Result::is_ok));
        }
        for file in ["sessions.sqlite", "sessions.sqlite-wal"] {
            std::fs::copy(place.path().join(file), copy.path().join(file)).expect("a copy");
        }
        let survivor = SqliteStore::open(copy.path()).expect("a store");
        let page = survivor.page(None, NOW).await.expect("a page");
        assert_eq!(page.sessions.len(), 50);
    });
}

/// A group may be under way, even a failing one: reads are answered meanwhile, and the group learns in time that it
/// was not written.
#[test]
fn a_locked_file_aborts_the_group_and_delays_no_read() {
    let place = tempfile::tempdir().expect("a directory");
    let sessions = Samples::new(21).pendings(4);
    block_on(async {
        let store = Arc::new(SqliteStore::open(place.path()).expect("a store"));
        assert!(store.commit(inserts(&sessions[..1])).await[0].is_ok());
        let intruder =
            rusqlite::Connection::open(place.path().join("sessions.sqlite")).expect("a connection");
        intruder.execute_batch("BEGIN IMMEDIATE").expect("the lock");
        let (writer, group) = (Arc::clone(&store), inserts(&sessions[1..]));
        let commit = tokio::spawn(async move { writer.commit(group).await });
        let asked = Instant::now();
        for _ in 0..20 {
            let found = store.find(SessionKey::Device(sessions[0].device), NOW).await.expect("an answer");
            assert!(found.is_some());
        }
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        let outcomes = commit.await.expect("no panic");
        assert!(
            outcomes.iter().all(|outcome| matches!(outcome, Err(StoreError::Aborted(_)))),
            "{outcomes:?}"
        );
        intruder.execute_batch("ROLLBACK").expect("the lock is released");
        assert!(
            store.commit(inserts(&sessions[1..])).await.iter().all(|o| matches!(o, Ok(Written::Applied)))
        );
    });
}

#[test]
fn what_is_queued_is_finished_before_the_store_goes() {
    let place = tempfile::tempdir().expect("a directory");
    let sessions = Samples::new(22).pendings(40);
    block_on(async {
        let store = SqliteStore::open(place.path()).expect("a store");
        {
            let commits = join_all(sessions.chunks(2).map(|group| store.commit(inserts(group))));
            // Asked, but not waited for.
            assert!(commits.now_or_never().is_none());
        }
        drop(store);
        let store = SqliteStore::open(place.path()).expect("a store");
        assert_eq!(store.page(None, NOW).await.expect("a page").sessions.len(), 40);
    });
}

#[test]
fn a_queue_that_is_full_refuses_at_once() {
    let place = tempfile::tempdir().expect("a directory");
    let sessions = Samples::new(23).pendings(200);
    block_on(async {
        let store = SqliteStore::open(place.path()).expect("a store");
        let intruder =
            rusqlite::Connection::open(place.path().join("sessions.sqlite")).expect("a connection");
        intruder.execute_batch("BEGIN IMMEDIATE").expect("the lock");
        let asked = Instant::now();
        let mut commits = pin!(join_all(sessions.chunks(1).map(|group| store.commit(inserts(group)))));
        assert!(commits.as_mut().now_or_never().is_none());
        assert!(asked.elapsed() < Duration::from_secs(1), "asking blocks nobody");
        intruder.execute_batch("ROLLBACK").expect("the lock is released");
        let mut refused = 0;
        for outcome in commits.await.concat() {
            match outcome {
                Ok(Written::Applied) => {}
                Err(StoreError::Aborted(_)) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        let stored = store.page(None, NOW).await.expect("a page").sessions.len();
        assert!(refused > 100, "{refused} were refused");
        assert_eq!(stored, 200 - refused);
    });
}

#[test]
fn operations_are_counted() {
    let place = tempfile::tempdir().expect("a directory");
    let mut samples = Samples::new(24);
    let sessions = samples.pendings(3);
    block_on(async {
        let store = Counted::new(Arc::new(SqliteStore::open(place.path()).expect("a store")));
        assert_eq!(store.counts(), StoreCounts::default());
        store.commit(inserts(&sessions)).await;
        store.commit(inserts(&sessions[..1])).await;
        store.find(SessionKey::Device(sessions[0].device), NOW).await.expect("an answer");
        store.page(None::<DeviceHash>, NOW).await.expect("an answer");
        store.purge(NOW).await.expect("an answer");
        store.changes(None).await.expect("an answer");
        store.ping().await.expect("an answer");
        let want = StoreCounts {
            commits: 2,
            writes: 4,
            conflicts: 1,
            finds: 1,
            pages: 1,
            purges: 1,
            changes: 1,
            shares: 0,
            pings: 1,
            errors: 0,
        };
        assert_eq!(store.counts(), want);
    });
}

fn execute(file: &Path, sql: &str) {
    rusqlite::Connection::open(file).and_then(|db| db.execute_batch(sql)).expect("a database");
}
