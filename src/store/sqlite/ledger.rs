//! Numbers that outlive a process, in `sessions.sqlite`.

use actors::base::ledger::Ledger;
use actors::base::store::StoreError;
use async_trait::async_trait;
use rusqlite::{OptionalExtension, params};

use super::SqliteStore;
use super::transaction::transact;

const READ: &str = "SELECT number FROM ledger WHERE name = ?1";
const WRITE: &str = "INSERT INTO ledger (name, number) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET number = ?2";

#[async_trait]
impl Ledger for SqliteStore {
    async fn read(&self, name: &str) -> Result<Option<i64>, StoreError> {
        let name = name.to_owned();
        self.workers
            .read(move |db| db.prepare_cached(READ)?.query_row([&name], |row| row.get(0)).optional())
            .await
    }

    async fn write(&self, name: &str, number: i64) -> Result<(), StoreError> {
        let name = name.to_owned();
        let write = move |db: &rusqlite::Connection| db.prepare_cached(WRITE)?.execute(params![name, number]);
        self.workers.write(move |db| transact(db, |db| write(db).map(drop))).await
    }
}
