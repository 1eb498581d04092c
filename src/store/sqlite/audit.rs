//! The audit record in `audit.sqlite`.
//!
//! Promises, of the file and beside other processes, what the store of tokens does: a group of lines is one transaction, on
//! disk before the answer; the server and an operator's commands may append and read at the same time.

use std::path::Path;

use actors::base::audit::{AuditLine, AuditLog, first_key};
use actors::base::clock::Timestamp;
use actors::base::store::StoreError;
use async_trait::async_trait;
use rusqlite::params;

use super::columns::{Columns, Sql, columns};
use super::files;
use super::schema::Schema;
use super::transaction::{delete_some, transact};
use super::worker::Workers;
use crate::store::OpenError;

pub(super) const FILE: &str = "audit.sqlite";
/// Groups that may wait for the thread that writes: one of the server, which waits for its end.
const WRITES_QUEUED: usize = 64;
/// Names of the threads that read and write.
const THREADS: [&str; 2] = ["audit-reader", "audit-writer"];
/// Lines of one page, and of one purge.
const PAGE: u32 = 1_000;

pub(super) const SCHEMA: Schema = Schema {
    // "DfPa"
    application_id: 0x4466_5061,
    // A key sorts by time.
    steps: &["CREATE TABLE line (
            key       BLOB    NOT NULL PRIMARY KEY,
            at_ms     INTEGER NOT NULL,
            act       TEXT    NOT NULL,
            how       TEXT    NOT NULL,
            subject   TEXT,
            client_id TEXT,
            network   TEXT,
            meters    INTEGER NOT NULL
         ) STRICT, WITHOUT ROWID;"],
    synchronous: "FULL",
    cache_kib: 1_024,
};

columns!(AuditLine as "line": key, at_ms, act, how, subject, client_id, network, meters);

static APPEND: Sql = Sql::new(|| AuditLine::insert("ON CONFLICT DO NOTHING"));
static READ: Sql = Sql::new(|| AuditLine::select("line t WHERE t.key > ?1 ORDER BY t.key LIMIT ?2"));
const PURGE: &str =
    "DELETE FROM line WHERE key IN (SELECT key FROM line WHERE key < ?1 ORDER BY key LIMIT ?2)";

/// The audit record. See the module.
#[derive(Debug)]
pub struct SqliteAudit {
    workers: Workers,
}

impl SqliteAudit {
    /// Opens the record in `dir`, which is created if it is missing (mode 0700), as is the file (mode 0600). Takes no lock.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        files::make_directory(dir)?;
        let workers = Workers::open(&dir.join(FILE), &SCHEMA, THREADS, WRITES_QUEUED)?;
        files::make_durable(dir)?;
        Ok(Self { workers })
    }
}

#[async_trait]
impl AuditLog for SqliteAudit {
    async fn append(&self, lines: Vec<AuditLine>) -> Result<(), StoreError> {
        let append = move |db: &rusqlite::Connection| {
            let mut statement = db.prepare_cached(&APPEND)?;
            lines.iter().try_for_each(|line| line.execute(&mut statement).map(drop))
        };
        self.workers.write(move |db| transact(db, append)).await
    }

    async fn read(&self, after: Vec<u8>) -> Result<Vec<AuditLine>, StoreError> {
        self.workers.read(move |db| AuditLine::find(db, &READ, params![after, PAGE])).await
    }

    async fn purge(&self, end: Timestamp) -> Result<u64, StoreError> {
        let purge = move |db: &rusqlite::Connection| {
            db.prepare_cached(PURGE)?.execute(params![first_key(end), PAGE]).map(|gone| gone as u64)
        };
        self.workers.write(move |db| delete_some(db, purge)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::inspect::{assert_plans, assert_set_up};

    #[test]
    fn the_file_is_set_up_as_documented_and_read_by_its_key() {
        assert_set_up(SqliteAudit::open, |log| &log.workers, FILE, 2, 1);
        assert_plans(
            SqliteAudit::open,
            |log| &log.workers,
            [
                (READ.as_str(), &["SEARCH t USING PRIMARY KEY (key>?)"]),
                (PURGE, &["SEARCH line USING PRIMARY KEY (key=?)"]),
            ],
        );
    }
}
