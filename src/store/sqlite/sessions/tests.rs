//! What only the inside can provoke: a full disk, a file that turned read-only, a damaged row, a broken commit.

use std::time::Duration;

use actors::testing::NOW;
use rusqlite::Connection;

use super::*;
use crate::store::sqlite::inspect::{assert_plans, assert_set_up, on};

fn inserts(sessions: &[Session]) -> Vec<Write> {
    sessions.iter().cloned().map(Write::Insert).collect()
}

async fn is_stored(store: &SqliteStore, session: &Session) -> bool {
    store.find(SessionKey::Device(session.device), NOW).await.expect("the store can be read").is_some()
}

#[test]
fn a_full_disk_undoes_the_whole_group_and_nothing_else() {
    on(SqliteStore::open, async |store, mut samples| {
        let (first, group, last) = (samples.pendings(1), samples.pendings(400), samples.pendings(3));
        assert!(store.commit(inserts(&first)).await[0].is_ok());
        store.workers.leave_room(4).await;
        let outcomes = store.commit(inserts(&group)).await;
        assert_eq!(outcomes.len(), 400);
        assert!(
            outcomes.iter().all(|outcome| matches!(outcome, Err(StoreError::Aborted(_)))),
            "{outcomes:?}"
        );
        assert!(is_stored(store, &first[0]).await);
        for session in &group {
            assert!(!is_stored(store, session).await);
        }
        store.workers.leave_room(1_000).await;
        assert!(store.commit(inserts(&last)).await.iter().all(Result::is_ok));
        assert!(
            store.commit(inserts(&group)).await.iter().all(|outcome| matches!(outcome, Ok(Written::Applied)))
        );
    });
}

#[test]
fn a_file_that_cannot_be_written_aborts_and_recovers() {
    on(SqliteStore::open, async |store, mut samples| {
        let sessions = samples.pendings(2);
        store.workers.let_write(false).await;
        assert!(matches!(
            store.commit(inserts(&sessions)).await[..],
            [Err(StoreError::Aborted(_)), Err(StoreError::Aborted(_))]
        ));
        assert!(matches!(store.purge(NOW).await, Err(StoreError::Aborted(_))));
        assert!(store.ping().await.is_err());
        store.workers.let_write(true).await;
        store.ping().await.expect("it can be written again");
        // Nor does a transaction that was left open stop the store.
        store.workers.probe(|db| db.execute_batch("BEGIN IMMEDIATE; DELETE FROM session")).await;
        assert!(store.commit(inserts(&sessions)).await.iter().all(Result::is_ok));
        assert!(is_stored(store, &sessions[1]).await);
    });
}

#[test]
fn a_damaged_session_is_reported_alone() {
    on(SqliteStore::open, async |store, mut samples| {
        let sessions = samples.pendings(3);
        store.commit(inserts(&sessions)).await;
        let device = sessions[1].device;
        let damage = move |db: &Connection| {
            db.execute("UPDATE session SET phase = 77 WHERE device = ?1", [device.as_bytes().as_slice()])
        };
        assert_eq!(store.workers.probe(damage).await, 1);
        assert!(store.find(SessionKey::Device(device), NOW).await.is_err());
        assert!(is_stored(store, &sessions[0]).await);
        let page = store.page(None, NOW).await.expect("a page");
        assert_eq!((page.sessions.len(), page.next), (2, None));
    });
}

#[test]
fn a_purge_goes_on_in_steps_and_gives_room_back() {
    on(SqliteStore::open, async |store, mut samples| {
        let mut old = samples.pendings(6_000);
        for session in &mut old {
            session.request.agent = Some("x".repeat(900).into());
        }
        let mut late = samples.pendings(1);
        late[0].purge_at = NOW + Duration::from_secs(7_200);
        assert!(store.commit(inserts(&old)).await.iter().all(Result::is_ok));
        let peak = bytes(&store.dir);
        let (purged, written) =
            tokio::join!(store.purge(NOW + Duration::from_secs(3_600)), store.commit(inserts(&late)));
        assert_eq!(purged.expect("a purge"), 6_000);
        assert!(written[0].is_ok());
        for _ in 0..3 {
            assert_eq!(store.purge(NOW).await.expect("a purge"), 0);
        }
        let left = bytes(&store.dir);
        assert!(left <= peak / 4, "{left} bytes of {peak} are left");
        assert!(is_stored(store, &late[0]).await);
    });
}

/// What the files in `dir` take, the log's included.
fn bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).expect("a directory");
    files.map(|file| file.and_then(|file| file.metadata()).expect("a file").len()).sum()
}

#[test]
fn the_file_is_set_up_as_documented() {
    assert_set_up(SqliteStore::open, |store| &store.workers, FILE, 2, 4);
}

#[test]
fn every_statement_uses_an_index() {
    assert_plans(
        SqliteStore::open,
        |store| &store.workers,
        [
            (&sql::BY_DEVICE, &["PRIMARY KEY (device=?)"]),
            (&sql::BY_USER, &["session_user (user=?)"]),
            (&sql::BY_STATE, &["session_state (state=?)"]),
            (&sql::PAGE_AFTER, &["PRIMARY KEY (device>?)"]),
            (sql::PURGE, &["session_purge (purge_ms<?)"]),
        ],
    );
}
