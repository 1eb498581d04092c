//! Numbers that all instances share, in the collection `ledger`: `{ _id: name, number }`.

use std::sync::Arc;

use actors::base::clock::Timestamp;
use actors::base::ledger::Ledger;
use actors::base::store::{StoreError, timestamp};
use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use mongodb::error::{Error, Result};
use mongodb::{Collection, Database};

use super::link::Link;

const COLLECTION: &str = "ledger";

/// The numbers. See the module.
#[derive(derive_more::Debug)]
#[debug("MongoLedger({})", numbers.namespace())]
pub struct MongoLedger {
    link: Arc<Link>,
    numbers: Collection<Document>,
}

impl MongoLedger {
    pub(super) fn on(link: Arc<Link>) -> Self {
        Self { numbers: link.database().collection(COLLECTION), link }
    }
}

#[async_trait]
impl Ledger for MongoLedger {
    async fn read(&self, name: &str) -> std::result::Result<Option<i64>, StoreError> {
        let (numbers, filter) = (self.numbers.clone(), doc! { "_id": name });
        let found = self.link.ask(async move { numbers.find_one(filter).await }).await?;
        Ok(found.and_then(|found| found.get_i64("number").ok()))
    }

    async fn write(&self, name: &str, number: i64) -> std::result::Result<(), StoreError> {
        let (numbers, filter) = (self.numbers.clone(), doc! { "_id": name });
        let update = doc! { "$set": { "number": number } };
        self.link.change(async move { numbers.update_one(filter, update).upsert(true).await.map(drop) }).await
    }

    async fn time(&self) -> std::result::Result<Option<Timestamp>, StoreError> {
        let database = self.link.database().clone();
        self.link.ask(async move { server_time(&database).await.map(timestamp).map(Some) }).await
    }
}

/// The server's own clock, in milliseconds since the epoch.
pub(super) async fn server_time(database: &Database) -> Result<i64> {
    let hello = database.run_command(doc! { "hello": 1 }).await?;
    let time = hello.get_datetime("localTime").map_err(|_| Error::custom("no server time".to_owned()));
    time.map(|time| time.timestamp_millis())
}
