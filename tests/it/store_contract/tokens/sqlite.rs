//! SQLite in a directory of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actors::base::store::{StoreError, Written};
use actors::metering::tokens::{MeterGrant, TokenStore};
use actors::testing::{NOW, Place, Samples, block_on};
use device_flow_proxy::config::StoreConfig;
use device_flow_proxy::store::sqlite::{SqliteStore, SqliteTokens};
use device_flow_proxy::store::{MeteringStores, OpenError, Stores, open_tokens};
use futures_util::FutureExt;
use futures_util::future::join_all;
use tempfile::TempDir;

struct Directory(TempDir);

impl Place<dyn TokenStore> for Directory {
    async fn fresh() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    async fn open(&self) -> Arc<dyn TokenStore> {
        Arc::new(SqliteTokens::open(self.0.path()).expect("a store"))
    }
}

actors::token_store_contract!(Directory);

fn execute(file: &Path, sql: &str) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(file).expect("a database");
    db.execute_batch(sql).expect("a statement");
    db
}

/// What a command does counts for the server that runs meanwhile, although the server has locked the directory.
#[test]
fn a_command_works_beside_a_server() {
    let place = tempfile::tempdir().expect("a directory");
    let mut samples = Samples::new(131);
    let grant = samples.meter_grant();
    let access = samples.access(&grant, NOW);
    block_on(async {
        let server = Stores::open(&StoreConfig::Embedded, place.path(), true).await.expect("stores");
        let MeteringStores { tokens, .. } = server.metering.clone().expect("asked for");
        assert!(matches!(SqliteStore::open(place.path()), Err(OpenError::InUse(_))));
        assert_eq!(tokens.add(grant.clone(), Some(access)).await.expect("stored"), Written::Applied);
        let command = open_tokens(&StoreConfig::Embedded, place.path()).await.expect("the tokens");
        assert_eq!(command.find_refresh(grant.refresh, NOW).await.expect("an answer"), Some(grant.clone()));
        assert!(command.revoke(grant.refresh).await.expect("revoked"));
        assert_eq!(tokens.find_access(access.token, NOW).await.expect("an answer"), None);
        // The command ends; the server goes on.
        drop(command);
        assert_eq!(tokens.add(grant.clone(), Some(access)).await.expect("stored"), Written::Applied);
        assert_eq!(tokens.find_access(access.token, NOW).await.expect("an answer"), Some(grant));
    });
}

/// What is on disk at the moment of an acknowledgement is all that a killed process leaves.
#[test]
fn an_acknowledged_change_is_on_disk_before_its_answer() {
    let (place, copy) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let mut samples = Samples::new(132);
    let grants: Vec<_> = (0..20).map(|_| samples.meter_grant()).collect();
    let late = samples.access(&grants[19], NOW);
    block_on(async {
        let store = SqliteTokens::open(place.path()).expect("a store");
        for grant in &grants {
            assert_eq!(store.add(grant.clone(), None).await.expect("stored"), Written::Applied);
        }
        assert_eq!(store.issue(late).await.expect("stored"), Written::Applied);
        assert!(store.revoke(grants[0].refresh).await.expect("revoked"));
        for file in ["tokens.sqlite", "tokens.sqlite-wal"] {
            std::fs::copy(place.path().join(file), copy.path().join(file)).expect("a copy");
        }
        let survivor = SqliteTokens::open(copy.path()).expect("a store");
        assert_eq!(survivor.grants(None, NOW).await.expect("a page").grants.len(), 19);
        assert_eq!(survivor.find_refresh(grants[0].refresh, NOW).await.expect("an answer"), None);
        assert!(survivor.find_access(late.token, NOW).await.expect("an answer").is_some());
    });
}

/// Processes that start together make the file once.
#[test]
fn a_new_file_is_opened_by_several_at_once() {
    let place = tempfile::tempdir().expect("a directory");
    let mut samples = Samples::new(133);
    let grants: Vec<MeterGrant> = (0..8).map(|_| samples.meter_grant()).collect();
    std::thread::scope(|scope| {
        for grant in &grants {
            let dir = place.path();
            scope.spawn(move || {
                block_on(async {
                    let store = SqliteTokens::open(dir).expect("a store");
                    assert_eq!(store.add(grant.clone(), None).await.expect("stored"), Written::Applied);
                });
            });
        }
    });
    block_on(async {
        let store = SqliteTokens::open(place.path()).expect("a store");
        assert_eq!(store.grants(None, NOW).await.expect("a page").grants.len(), 8);
    });
}

/// A change waits for another process and then gives up; questions do not wait at all.
#[test]
fn a_locked_file_aborts_a_change_and_delays_no_question() {
    let place = tempfile::tempdir().expect("a directory");
    let mut samples = Samples::new(134);
    let (first, second) = (samples.meter_grant(), samples.meter_grant());
    block_on(async {
        let store = Arc::new(SqliteTokens::open(place.path()).expect("a store"));
        assert_eq!(store.add(first.clone(), None).await.expect("stored"), Written::Applied);
        let intruder = execute(&place.path().join("tokens.sqlite"), "BEGIN IMMEDIATE");
        let (writer, grant) = (Arc::clone(&store), second.clone());
        let change = tokio::spawn(async move { writer.add(grant, None).await });
        let asked = Instant::now();
        for _ in 0..20 {
            assert!(store.find_refresh(first.refresh, NOW).await.expect("an answer").is_some());
        }
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        let outcome = change.await.expect("no panic");
        assert!(matches!(outcome, Err(StoreError::Aborted(_))), "{outcome:?}");
        intruder.execute_batch("ROLLBACK").expect("the lock is released");
        assert_eq!(store.find_refresh(second.refresh, NOW).await.expect("an answer"), None);
        assert_eq!(store.add(second, None).await.expect("stored"), Written::Applied);
    });
}

#[test]
fn a_file_that_is_damaged_or_of_others_is_refused_and_left_alone() {
    let open = |prepare: fn(&Path)| {
        let place = tempfile::tempdir().expect("a directory");
        let file = place.path().join("tokens.sqlite");
        prepare(&file);
        let before = std::fs::read(&file).expect("a file");
        let refused = SqliteTokens::open(place.path()).expect_err("not ours");
        assert_eq!(std::fs::read(&file).expect("a file"), before);
        refused
    };
    let text = open(|file| {
        std::fs::write(file, "not a database, but long enough to look like one".repeat(50)).expect("text");
    });
    assert!(matches!(text, OpenError::Damaged { source: Some(_), .. }), "{text:?}");
    assert!(text.to_string().contains("tokens.sqlite"), "{text}");
    let cut = open(|file| {
        drop(SqliteTokens::open(file.parent().expect("a directory")).expect("a store"));
        let bytes = std::fs::read(file).expect("a file");
        std::fs::write(file, &bytes[..4_096]).expect("half a file");
    });
    assert!(matches!(cut, OpenError::Damaged { source: Some(_), .. }), "{cut:?}");
    let sessions = open(|file| {
        let dir = file.parent().expect("a directory");
        drop(SqliteStore::open(dir).expect("a store"));
        std::fs::rename(dir.join("sessions.sqlite"), file).expect("another name");
    });
    assert!(matches!(sessions, OpenError::Damaged { source: None, .. }), "{sessions:?}");
    let newer = open(|file| {
        drop(SqliteTokens::open(file.parent().expect("a directory")).expect("a store"));
        drop(execute(file, "PRAGMA user_version = 99"));
    });
    assert!(matches!(newer, OpenError::Newer { found: 99, known: 1, .. }), "{newer:?}");
}

#[test]
fn what_is_queued_is_finished_before_the_store_goes() {
    let place = tempfile::tempdir().expect("a directory");
    let mut samples = Samples::new(135);
    block_on(async {
        let store = SqliteTokens::open(place.path()).expect("a store");
        {
            let adds = join_all((0..40).map(|_| store.add(samples.meter_grant(), None)));
            // Asked, but not waited for.
            assert!(adds.now_or_never().is_none());
        }
        drop(store);
        let store = SqliteTokens::open(place.path()).expect("a store");
        assert_eq!(store.grants(None, NOW).await.expect("a page").grants.len(), 40);
    });
}
