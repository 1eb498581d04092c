//! What only the inside can provoke: a full disk, a file that turned read-only, a damaged row, a broken commit.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use actors::testing::{NOW, Samples, block_on};
use rusqlite::Connection;

use super::*;

async fn probe<T: Send + 'static>(
    store: &SqliteStore,
    probe: impl FnOnce(&Connection) -> T + Send + 'static,
) -> T {
    let (reply, answer) = oneshot::channel();
    let probe = move |db: &Connection| drop(reply.send(probe(db)));
    store.writer.offer(Change::Probe(Box::new(probe))).expect("room in the queue");
    answer.await.expect("the writer runs")
}

/// What the pragmas of these names say.
pub(super) fn pragmas(db: &Connection, names: &[&str]) -> rusqlite::Result<Vec<String>> {
    let text = |name: &&str| {
        let value = db.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))?;
        Ok(format!("{value:?}"))
    };
    names.iter().map(text).collect()
}

/// The permissions of a file.
pub(super) fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

/// How a statement is carried out.
pub(super) fn plan(db: &Connection, sql: &str) -> rusqlite::Result<String> {
    let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
    let steps = statement.raw_query().mapped(|row| row.get::<_, String>(3)).collect::<Result<Vec<_>, _>>()?;
    Ok(steps.join("; "))
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
        probe(&store, |db| db.query_row(limit, [], |_| Ok(()))).await.expect("a limit");
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
        probe(&store, |db| db.query_row(limit, [], |_| Ok(()))).await.expect("no limit");
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
        probe(&store, |db| db.pragma_update(None, "query_only", "ON")).await.expect("read-only");
        assert!(matches!(
            store.commit(inserts(&sessions)).await[..],
            [Err(StoreError::Aborted(_)), Err(StoreError::Aborted(_))]
        ));
        assert!(matches!(store.purge(NOW).await, Err(StoreError::Aborted(_))));
        probe(&store, |db| db.pragma_update(None, "query_only", "OFF")).await.expect("writable");
        assert!(store.commit(inserts(&sessions)).await.iter().all(Result::is_ok));
    });
}

#[test]
fn a_transaction_left_open_does_not_stop_the_store() {
    let dir = tempfile::tempdir().expect("a directory");
    let sessions = Samples::new(3).pendings(2);
    block_on(async {
        let store = SqliteStore::open(dir.path()).expect("a store");
        probe(&store, |db| db.execute_batch("BEGIN IMMEDIATE; DELETE FROM session"))
            .await
            .expect("a transaction");
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
        assert_eq!(probe(&store, damage).await.expect("damage"), 1);
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
        let before = probe(&store, pages).await.expect("pages");
        let (purged, written) =
            tokio::join!(store.purge(NOW + Duration::from_secs(3_600)), store.commit(inserts(&late)));
        assert_eq!(purged.expect("a purge"), 6_000);
        assert!(written[0].is_ok());
        let after = probe(&store, pages).await.expect("pages");
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
        let settings = probe(&store, |db| pragmas(db, names).expect("pragmas")).await;
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
        let plans = [
            ("SELECT 1 FROM session WHERE device = x'00' AND purge_ms > 9", "PRIMARY KEY (device=?)"),
            ("SELECT 1 FROM session WHERE user = x'00' AND purge_ms > 9", "session_user (user=?)"),
            ("SELECT 1 FROM session WHERE state = x'00' AND purge_ms > 9", "session_state (state=?)"),
            (
                "SELECT 1 FROM session WHERE device > x'00' AND +purge_ms > 9 ORDER BY device",
                "PRIMARY KEY (device>?)",
            ),
            (
                "SELECT device FROM session WHERE purge_ms <= 9 ORDER BY purge_ms LIMIT 9",
                "session_purge (purge_ms<?)",
            ),
        ];
        for (sql, part) in plans {
            let plan = probe(&store, move |db| {
                db.query_row(&format!("EXPLAIN QUERY PLAN {sql}"), [], |row| row.get::<_, String>(3))
            });
            let plan = plan.await.expect("a plan");
            assert!(plan.contains(part), "{sql}: {plan}");
        }
    });
}
