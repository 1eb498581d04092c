//! What only the inside can provoke: a full disk, a file that turned read-only, a damaged row, a broken commit.

use std::time::Duration;

use actors::testing::{NOW, Samples, block_on};
use rusqlite::Connection;

use super::*;
use crate::store::sqlite::inspect::{mode, plan, pragmas};

async fn probe<T: Send + 'static>(
    store: &SqliteStore,
    probe: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
) -> T {
    store.workers.write(move |db| Ok(probe(db)?)).await.expect("the writer runs")
}

fn inserts(sessions: &[Session]) -> Vec<Write> {
    sessions.iter().cloned().map(Write::Insert).collect()
}

async fn is_stored(store: &SqliteStore, session: &Session) -> bool {
    store.find(SessionKey::Device(session.device), NOW).await.expect("the store can be read").is_some()
}

#[test]
fn a_full_disk_undoes_the_whole_group_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut samples = Samples::new(1);
    let (first, group, last) = (samples.pendings(1), samples.pendings(400), samples.pendings(3));
    block_on(async {
        let store = SqliteStore::open(dir.path()).expect("a store");
        assert!(store.commit(inserts(&first)).await[0].is_ok());
        let limit = "PRAGMA max_page_count = 12";
        probe(&store, |db| db.query_row(limit, [], |_| Ok(()))).await;
        let outcomes = store.commit(inserts(&group)).await;
        assert_eq!(outcomes.len(), 400);
        assert!(
            outcomes.iter().all(|outcome| matches!(outcome, Err(StoreError::Aborted(_)))),
            "{outcomes:?}"
        );
        assert!(is_stored(&store, &first[0]).await);
        for session in &group {
            assert!(!is_stored(&store, session).await);
        }
        let limit = "PRAGMA max_page_count = 1000000";
        probe(&store, |db| db.query_row(limit, [], |_| Ok(()))).await;
        assert!(store.commit(inserts(&last)).await.iter().all(Result::is_ok));
        assert!(
            store.commit(inserts(&group)).await.iter().all(|outcome| matches!(outcome, Ok(Written::Applied)))
        );
    });
}

#[test]
fn a_file_that_cannot_be_written_aborts_and_recovers() {
    let dir = tempfile::tempdir().expect("a directory");
    let sessions = Samples::new(2).pendings(2);
    block_on(async {
        let store = SqliteStore::open(dir.path()).expect("a store");
        probe(&store, |db| db.pragma_update(None, "query_only", "ON")).await;
        assert!(matches!(
            store.commit(inserts(&sessions)).await[..],
            [Err(StoreError::Aborted(_)), Err(StoreError::Aborted(_))]
        ));
        assert!(matches!(store.purge(NOW).await, Err(StoreError::Aborted(_))));
        probe(&store, |db| db.pragma_update(None, "query_only", "OFF")).await;
        assert!(store.commit(inserts(&sessions)).await.iter().all(Result::is_ok));
    });
}

#[test]
fn a_transaction_left_open_does_not_stop_the_store() {
    let dir = tempfile::tempdir().expect("a directory");
    let sessions = Samples::new(3).pendings(2);
    block_on(async {
        let store = SqliteStore::open(dir.path()).expect("a store");
        probe(&store, |db| db.execute_batch("BEGIN IMMEDIATE; DELETE FROM session")).await;
        assert!(store.commit(inserts(&sessions)).await.iter().all(Result::is_ok));
        assert!(is_stored(&store, &sessions[1]).await);
    });
}

#[test]
fn a_damaged_session_is_reported_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let sessions = Samples::new(4).pendings(3);
    block_on(async {
        let store = SqliteStore::open(dir.path()).expect("a store");
        store.commit(inserts(&sessions)).await;
        let device = sessions[1].device;
        let damage = move |db: &Connection| {
            db.execute("UPDATE session SET phase = 77 WHERE device = ?1", [device.as_bytes().as_slice()])
        };
        assert_eq!(probe(&store, damage).await, 1);
        assert!(store.find(SessionKey::Device(device), NOW).await.is_err());
        assert!(is_stored(&store, &sessions[0]).await);
        let page = store.page(None, NOW).await.expect("a page");
        assert_eq!((page.sessions.len(), page.next), (2, None));
    });
}

#[test]
fn a_purge_goes_on_in_steps_and_gives_room_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut samples = Samples::new(5);
    let mut old = samples.pendings(6_000);
    for session in &mut old {
        session.request.agent = Some("x".repeat(900).into());
    }
    let mut late = samples.pendings(1);
    late[0].purge_at = NOW + Duration::from_secs(7_200);
    block_on(async {
        let store = SqliteStore::open(dir.path()).expect("a store");
        assert!(store.commit(inserts(&old)).await.iter().all(Result::is_ok));
        let pages = |db: &Connection| db.pragma_query_value(None, "page_count", |row| row.get::<_, u32>(0));
        let before = probe(&store, pages).await;
        let (purged, written) =
            tokio::join!(store.purge(NOW + Duration::from_secs(3_600)), store.commit(inserts(&late)));
        assert_eq!(purged.expect("a purge"), 6_000);
        assert!(written[0].is_ok());
        let after = probe(&store, pages).await;
        assert!(after < before, "{before} pages before, {after} after");
    });
}

#[test]
fn the_file_is_set_up_as_documented() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("a/b");
    block_on(async {
        let store = SqliteStore::open(&data).expect("a store");
        let names = &["journal_mode", "synchronous", "auto_vacuum", "user_version"];
        let settings = probe(&store, |db| pragmas(db, names)).await;
        assert_eq!(settings, ["Text(\"wal\")", "Integer(2)", "Integer(2)", "Integer(1)"]);
        assert_eq!(mode(&data), 0o700);
        for file in ["sessions.sqlite", "sessions.sqlite-wal", "sessions.sqlite-shm", "sessions.lock"] {
            assert_eq!(mode(&data.join(file)), 0o600, "{file}");
        }
        drop(store);
        assert!(!data.join("sessions.sqlite-wal").exists(), "the log is folded into the file");
    });
}

#[test]
fn every_query_uses_an_index() {
    let dir = tempfile::tempdir().expect("a directory");
    block_on(async {
        let store = SqliteStore::open(dir.path()).expect("a store");
        for (sql, part) in [
            (sql::BY_DEVICE.as_str(), "PRIMARY KEY (device=?)"),
            (&sql::BY_USER, "session_user (user=?)"),
            (&sql::BY_STATE, "session_state (state=?)"),
            (&sql::PAGE_AFTER, "PRIMARY KEY (device>?)"),
            (sql::PURGE, "session_purge (purge_ms<?)"),
        ] {
            let plan = probe(&store, move |db| plan(db, sql)).await;
            assert!(plan.contains(part), "{sql}: {plan}");
        }
    });
}
