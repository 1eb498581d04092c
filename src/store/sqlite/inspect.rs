//! For tests: looks behind a store, at its file and its statements.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use actors::testing::{Samples, block_on};
use rusqlite::Connection;
use rusqlite::types::Value;

use super::worker::Workers;
use crate::store::OpenError;

/// Runs `test` on what `open` opens in a directory of its own.
pub(super) fn on<S>(open: impl FnOnce(&Path) -> Result<S, OpenError>, test: impl AsyncFnOnce(&S, Samples)) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path()).expect("a store");
    block_on(test(&store, Samples::new(1)));
}

/// What `open` opens is set up as documented, nobody else may read it or what is beside it, and its log is folded into
/// it at the end.
pub(super) fn assert_set_up<S>(
    open: impl FnOnce(&Path) -> Result<S, OpenError>,
    workers: impl Fn(&S) -> &Workers,
    file: &str,
    synchronous: i64,
    layout: i64,
) {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("a/b");
    let store = open(&data).expect("a store");
    for (name, value) in [
        ("journal_mode", Value::from("wal".to_owned())),
        ("synchronous", synchronous.into()),
        ("auto_vacuum", 2.into()),
        ("user_version", layout.into()),
        ("locking_mode", "normal".to_owned().into()),
    ] {
        let read = move |db: &Connection| db.pragma_query_value(None, name, |row| row.get::<_, Value>(0));
        assert_eq!(block_on(workers(&store).probe(read)), value, "{name}");
    }
    let mode = |path: &Path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    let log = data.join(format!("{file}-wal"));
    assert!(log.exists());
    for entry in std::fs::read_dir(&data).expect("a directory") {
        let path = entry.expect("a file").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    drop(store);
    assert!(!log.exists());
}

/// Each statement is carried out by the indexes named beside it, and sorts nothing.
pub(super) fn assert_plans<S, const N: usize>(
    open: impl FnOnce(&Path) -> Result<S, OpenError>,
    workers: impl Fn(&S) -> &Workers,
    statements: [(&'static str, &[&str]); N],
) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path()).expect("a store");
    for (sql, parts) in statements {
        let steps = move |db: &Connection| -> rusqlite::Result<Vec<String>> {
            let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            statement.raw_query().mapped(|row| row.get(3)).collect()
        };
        let plan = block_on(workers(&store).probe(steps)).join("; ");
        assert!(parts.iter().all(|part| plan.contains(part)), "{sql}: {plan}");
        let scans = plan.replace("SCAN CONSTANT ROW", "").replace("SCAN entry USING INDEX", "");
        assert!(!scans.contains("SCAN") && !plan.contains("TEMP B-TREE FOR ORDER"), "{sql}: {plan}");
    }
}

impl Workers {
    /// Does `probe` on the thread that writes.
    pub(super) async fn probe<T: Send + 'static>(
        &self,
        probe: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> T {
        self.write(move |db| Ok(probe(db)?)).await.expect("the writer runs")
    }

    pub(super) async fn number(&self, sql: &'static str) -> i64 {
        self.probe(move |db| db.query_row(sql, [], |row| row.get(0))).await
    }

    pub(super) async fn pages(&self) -> i64 {
        self.number("PRAGMA page_count").await
    }

    /// Lets the file grow by so many pages: beyond, the disk is full.
    pub(super) async fn leave_room(&self, pages: i64) {
        let limit = format!("PRAGMA max_page_count = {}", self.pages().await + pages);
        self.probe(move |db| db.query_row(&limit, [], |_| Ok(()))).await;
    }

    pub(super) async fn let_write(&self, writable: bool) {
        self.probe(move |db| db.pragma_update(None, "query_only", !writable)).await;
    }
}
