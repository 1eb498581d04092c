//! What a store in a file promises of that file.

use std::cell::Cell;
use std::path::Path;

use actors::base::store::{StoreError, Written};
use actors::testing::Samples;
use device_flow_proxy::store::OpenError;
use futures_util::FutureExt;
use futures_util::future::join_all;

/// A store whose answers are promises about its file.
pub(super) trait Kept: Sized {
    /// One thing to store.
    type Sample;

    const FILE: &str;

    fn open(dir: &Path) -> Result<Self, OpenError>;

    fn sample(samples: &mut Samples) -> Self::Sample;

    async fn keep(&self, sample: Self::Sample) -> Result<Written, StoreError>;

    /// How many things are stored.
    async fn count(&self) -> usize;
}

/// The promises of a [`Kept`] store, one a test.
macro_rules! kept {
    ($store:ty: $($promise:ident)*) => {
        $(
            #[test]
            fn $promise() {
                actors::testing::block_on($crate::store_contract::kept::$promise::<$store>());
            }
        )*
    };
    ($store:ty) => {
        $crate::store_contract::kept::kept! { $store:
            what_is_not_ours_is_refused_and_left_alone
            what_was_acknowledged_is_on_disk
            a_locked_file_aborts_a_change_and_delays_no_question
            what_is_queued_is_finished_before_the_store_goes
        }
    };
}
pub(super) use kept;

pub(super) async fn what_is_not_ours_is_refused_and_left_alone<S: Kept>() {
    let open = |prepare: &dyn Fn(&Path)| {
        let place = tempfile::tempdir().expect("a directory");
        let file = place.path().join(S::FILE);
        prepare(&file);
        let before = std::fs::read(&file).expect("a file");
        let refused = S::open(place.path()).err().expect("not ours");
        assert_eq!(std::fs::read(&file).expect("a file"), before);
        assert!(refused.to_string().contains(S::FILE), "{refused}");
        refused
    };
    let create = |file: &Path| drop(S::open(file.parent().expect("a directory")).expect("a store"));
    let text = open(&|file: &Path| {
        std::fs::write(file, "not a database, but long enough to look like one".repeat(50)).expect("text");
    });
    assert!(matches!(text, OpenError::Damaged { source: Some(_), .. }), "{text:?}");
    let cut = open(&|file: &Path| {
        create(file);
        let bytes = std::fs::read(file).expect("a file");
        std::fs::write(file, &bytes[..4_096]).expect("half a file");
    });
    assert!(matches!(cut, OpenError::Damaged { source: Some(_), .. }), "{cut:?}");
    let foreign = open(&|file: &Path| drop(execute(file, "CREATE TABLE theirs (x)")));
    assert!(matches!(foreign, OpenError::Damaged { source: None, .. }), "{foreign:?}");
    let others =
        open(&|file: &Path| drop(execute(file, "PRAGMA application_id = 7; CREATE TABLE theirs (x)")));
    assert!(matches!(others, OpenError::Damaged { source: None, .. }), "{others:?}");
    let newer = open(&|file: &Path| {
        create(file);
        drop(execute(file, "PRAGMA user_version = 99"));
    });
    assert!(matches!(newer, OpenError::Newer { found: 99, .. }), "{newer:?}");
}

/// What is on disk at the moment of an acknowledgement is all that a killed process leaves.
pub(super) async fn what_was_acknowledged_is_on_disk<S: Kept>() {
    let (place, copy) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let mut samples = Samples::new(20);
    let store = S::open(place.path()).expect("a store");
    for _ in 0..20 {
        assert_eq!(store.keep(S::sample(&mut samples)).await.expect("stored"), Written::Applied);
    }
    for file in [S::FILE.to_owned(), format!("{}-wal", S::FILE)] {
        std::fs::copy(place.path().join(&file), copy.path().join(&file)).expect("a copy");
    }
    assert_eq!(S::open(copy.path()).expect("a store").count().await, 20);
}

/// A change may be under way, even a failing one: questions are answered meanwhile, and the change learns in time that
/// it was not written.
pub(super) async fn a_locked_file_aborts_a_change_and_delays_no_question<S: Kept>() {
    let place = tempfile::tempdir().expect("a directory");
    let mut samples = Samples::new(21);
    let store = S::open(place.path()).expect("a store");
    store.keep(S::sample(&mut samples)).await.expect("stored");
    let intruder = execute(&place.path().join(S::FILE), "BEGIN IMMEDIATE");
    let over = Cell::new(false);
    let change = store.keep(S::sample(&mut samples)).inspect(|_| over.set(true));
    let questions = async {
        for _ in 0..20 {
            assert_eq!(store.count().await, 1);
        }
        assert!(!over.get(), "no question waits for the change");
    };
    let (outcome, ()) = tokio::join!(change, questions);
    assert!(matches!(outcome, Err(StoreError::Aborted(_))), "{outcome:?}");
    intruder.execute_batch("ROLLBACK").expect("the lock is released");
    assert_eq!(store.count().await, 1);
    assert_eq!(store.keep(S::sample(&mut samples)).await.expect("stored"), Written::Applied);
}

pub(super) async fn what_is_queued_is_finished_before_the_store_goes<S: Kept>() {
    let place = tempfile::tempdir().expect("a directory");
    let mut samples = Samples::new(22);
    let store = S::open(place.path()).expect("a store");
    let changes = join_all((0..40).map(|_| store.keep(S::sample(&mut samples))));
    // Asked, but not waited for.
    assert!(changes.now_or_never().is_none());
    drop(store);
    assert_eq!(S::open(place.path()).expect("a store").count().await, 40);
}

/// Does `sql` to a file from outside.
pub(super) fn execute(file: &Path, sql: &str) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(file).expect("a database");
    db.execute_batch(sql).expect("a statement");
    db
}
