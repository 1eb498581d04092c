//! Numbers that all instances share, in the collection `ledger`: `{ _id: name, number }`, and what was taken of an API's
//! quota: `{ _id: name, hour, number, granted }`, the last for whoever took it.

use std::sync::Arc;

use actors::base::clock::Timestamp;
use actors::base::ledger::Ledger;
use actors::base::store::{StoreError, timestamp};
use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use mongodb::error::{Error, Result};
use mongodb::options::ReturnDocument;
use mongodb::{Collection, Database};

use super::errors::is_duplicate;
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

    async fn take(
        &self,
        api: &str,
        hour: u64,
        calls: u32,
        most: u32,
    ) -> std::result::Result<(u32, u32), StoreError> {
        let hour = i64::try_from(hour).unwrap_or(i64::MAX);
        let (numbers, filter) = (self.numbers.clone(), doc! { "_id": format!("quota.{api}") });
        // One step for the server: another hour begins at nothing, and nobody takes what is not left. At the turn of the
        // hour another instance may be a little ahead.
        let is_it = doc! { "$in": ["$hour", [hour, hour + 1]] };
        let used = doc! { "$cond": [is_it.clone(), "$number", 0_i64] };
        let hour = doc! { "$cond": [is_it, "$hour", hour] };
        let left = doc! { "$max": [0_i64, { "$subtract": [i64::from(most), "$number"] }] };
        let take = vec![
            doc! { "$set": { "number": used, "hour": hour } },
            doc! { "$set": { "granted": { "$min": [i64::from(calls), left] } } },
            doc! { "$set": { "number": { "$add": ["$number", "$granted"] } } },
        ];
        let taken = async move {
            let taken = || {
                let taken = numbers.find_one_and_update(filter.clone(), take.clone()).upsert(true);
                taken.return_document(ReturnDocument::After)
            };
            match taken().await {
                // Another instance made the record in the same moment.
                Err(error) if is_duplicate(&error) => taken().await,
                taken => taken,
            }
        };
        let taken = self.link.change(taken).await?.unwrap_or_default();
        let number = |name| taken.get_i64(name).ok().and_then(|number| u32::try_from(number).ok());
        Ok((number("granted").unwrap_or(0), number("number").unwrap_or(most)))
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
