//! Numbers that outlive a process, in `sessions.sqlite`.

use actors::base::ledger::Ledger;
use actors::base::store::StoreError;
use async_trait::async_trait;
use rusqlite::{OptionalExtension, params};

use super::SqliteStore;
use super::transaction::transact;

const READ: &str = "SELECT number FROM ledger WHERE name = ?1";
const WRITE: &str = "INSERT INTO ledger (name, number) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET number = ?2";
const USED: &str = "SELECT used FROM quota WHERE api = ?1 AND hour = ?2";
const USE: &str = "INSERT INTO quota (api, hour, used) VALUES (?1, ?2, ?3) \
    ON CONFLICT DO UPDATE SET hour = ?2, used = ?3";

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

    async fn take(&self, api: &str, hour: u64, calls: u32, most: u32) -> Result<(u32, u32), StoreError> {
        let (api, hour) = (api.to_owned(), i64::try_from(hour).unwrap_or(i64::MAX));
        let take = move |db: &rusqlite::Connection| {
            let used = db.prepare_cached(USED)?.query_row(params![api, hour], |row| row.get(0)).optional()?;
            let used: u32 = used.unwrap_or(0);
            let granted = calls.min(most.saturating_sub(used));
            db.prepare_cached(USE)?.execute(params![api, hour, used + granted])?;
            Ok((granted, used + granted))
        };
        self.workers.write(move |db| transact(db, take)).await
    }
}
