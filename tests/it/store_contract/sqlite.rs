//! SQLite in a directory of its own.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use actors::base::store::{StoreError, Written};
use actors::device_flow::session::Session;
use actors::device_flow::store::{SessionKey, SessionStore, Write};
use actors::testing::sessions::{Step, walk};
use actors::testing::{NOW, Place, Samples, block_on};
use device_flow_proxy::store::sqlite::SqliteStore;
use device_flow_proxy::store::{Counted, OpenError, StoreCounts};
use futures_util::FutureExt;
use futures_util::future::join_all;
use proptest::prelude::*;
use tempfile::TempDir;

use super::inserts;
use super::kept::{Kept, execute, kept};

struct Directory(TempDir);

impl Place for Directory {
    async fn fresh() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    async fn open(&self) -> Arc<dyn SessionStore> {
        Arc::new(SqliteStore::open(self.0.path()).expect("a store"))
    }
}

actors::store_contract!(sessions on Directory);

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
fn a_directory_that_cannot_be_made_is_named() {
    let place = tempfile::tempdir().expect("a directory");
    std::fs::write(place.path().join("file"), "").expect("a file");
    let refused = SqliteStore::open(&place.path().join("file/data")).expect_err("a directory in a file");
    assert!(matches!(refused, OpenError::Directory { .. }));
    assert!(refused.to_string().contains("file/data"), "{refused}");
}

impl Kept for SqliteStore {
    type Sample = Session;

    const FILE: &str = "sessions.sqlite";

    fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open(dir)
    }

    fn sample(samples: &mut Samples) -> Session {
        samples.pending()
    }

    async fn keep(&self, session: Session) -> Result<Written, StoreError> {
        self.commit(vec![Write::Insert(session)]).await.remove(0)
    }

    async fn count(&self) -> usize {
        self.page(None, NOW).await.expect("a page").sessions.len()
    }
}

kept!(SqliteStore);

#[test]
fn a_queue_that_is_full_refuses_at_once() {
    let place = tempfile::tempdir().expect("a directory");
    let sessions = Samples::new(23).pendings(200);
    block_on(async {
        let store = SqliteStore::open(place.path()).expect("a store");
        let intruder = execute(&place.path().join("sessions.sqlite"), "BEGIN IMMEDIATE");
        let mut commits = pin!(join_all(sessions.chunks(1).map(|group| store.commit(inserts(group)))));
        // Asking blocks nobody, or the lock would never be released.
        assert!(commits.as_mut().now_or_never().is_none());
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
        let told = || {
            let StoreCounts { writes, errors, operations } = store.counts();
            let asked = operations.into_iter().map(|(name, times)| (name, times.count()));
            (writes, errors, asked.filter(|(_, count)| *count > 0).collect::<Vec<_>>())
        };
        assert_eq!(told(), (0, 0, vec![]));
        store.commit(inserts(&sessions)).await;
        store.commit(inserts(&sessions[..1])).await;
        store.find(SessionKey::Device(sessions[0].device), NOW).await.expect("an answer");
        assert_eq!(told(), (4, 0, vec![("commit", 2), ("find", 1)]));
    });
}
