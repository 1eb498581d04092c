//! For tests: looks behind a store, at its file and its statements.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::Value;

use super::worker::Workers;

impl Workers {
    /// Does `probe` on the thread that writes.
    pub(super) async fn probe<T: Send + 'static>(
        &self,
        probe: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> T {
        self.write(move |db| Ok(probe(db)?)).await.expect("the writer runs")
    }

    /// The one number that `sql` finds.
    pub(super) async fn number(&self, sql: &'static str) -> i64 {
        self.probe(move |db| db.query_row(sql, [], |row| row.get(0))).await
    }

    /// Pages of the file.
    pub(super) async fn pages(&self) -> i64 {
        self.number("PRAGMA page_count").await
    }

    /// Lets the file grow by so many pages: beyond, the disk is full.
    pub(super) async fn leave_room(&self, pages: i64) {
        let limit = format!("PRAGMA max_page_count = {}", self.pages().await + pages);
        self.probe(move |db| db.query_row(&limit, [], |_| Ok(()))).await;
    }

    /// Lets the file be written or not.
    pub(super) async fn let_write(&self, writable: bool) {
        self.probe(move |db| db.pragma_update(None, "query_only", !writable)).await;
    }

    /// Each statement is carried out by the indexes named beside it, and sorts nothing.
    pub(super) async fn assert_plans<const N: usize>(&self, statements: [(&'static str, &[&str]); N]) {
        for (sql, parts) in statements {
            let steps = move |db: &Connection| -> rusqlite::Result<Vec<String>> {
                let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
                statement.raw_query().mapped(|row| row.get(3)).collect()
            };
            let plan = self.probe(steps).await.join("; ");
            assert!(parts.iter().all(|part| plan.contains(part)), "{sql}: {plan}");
            let scans = plan.replace("SCAN CONSTANT ROW", "").replace("SCAN entry USING INDEX", "");
            assert!(!scans.contains("SCAN") && !plan.contains("TEMP B-TREE FOR ORDER"), "{sql}: {plan}");
        }
    }

    /// The file is set up as documented, and nobody else may read it or what is beside it.
    pub(super) async fn assert_set_up(&self, path: &Path, synchronous: i64) {
        for (name, value) in [
            ("journal_mode", Value::from("wal".to_owned())),
            ("synchronous", synchronous.into()),
            ("auto_vacuum", 2.into()),
            ("user_version", 1.into()),
            ("locking_mode", "normal".to_owned().into()),
        ] {
            let found = self.probe(move |db| db.pragma_query_value(None, name, |row| row.get::<_, Value>(0)));
            assert_eq!(found.await, value, "{name}");
        }
        let path = path.to_str().expect("text");
        for file in [path, &format!("{path}-wal"), &format!("{path}-shm")] {
            assert_eq!(mode(Path::new(file)), 0o600, "{file}");
        }
    }
}

/// The permissions of a file.
pub(super) fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
}
