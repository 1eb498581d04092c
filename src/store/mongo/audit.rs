//! The audit record in the collection `audit`.
//!
//! ```text
//!   { _id: bytes that sort by time, at_ms, act, how, subject, client_id, network, meters, at }
//! ```
//!
//! `at` is the time as a date, by which the server deletes a line when its year is over.

use std::sync::Arc;

use actors::base::audit::{AuditLine, AuditLog};
use actors::base::store::StoreError;
use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{DateTime, Document, RawDocumentBuf, doc};
use mongodb::options::Hint;

use super::commits::insert_many;
use super::documents::{binary, fields, record};
use super::link::{Link, stopped};
use super::{MongoSettings, indexes};
use crate::store::{OpenError, undamaged};

const COLLECTION: &str = "audit";
/// Lines of one page.
const PAGE: u32 = 1_000;

/// The audit record. See the module.
#[derive(derive_more::Debug)]
#[debug("MongoAudit({})", lines.namespace())]
pub struct MongoAudit {
    link: Arc<Link>,
    lines: Collection<RawDocumentBuf>,
}

impl MongoAudit {
    /// Connects for the record alone, and makes the collection's index. Fails within some seconds if the server does not
    /// answer.
    pub async fn connect(settings: MongoSettings) -> Result<Self, OpenError> {
        Self::on(Link::open(settings).await?).await
    }

    pub(super) async fn on(link: Arc<Link>) -> Result<Self, OpenError> {
        let lines: Collection<RawDocumentBuf> = link.database().collection(COLLECTION);
        let prepared = lines.clone();
        link.prepare(async move { prepared.create_indexes(indexes::audit()).await.map(drop) }).await?;
        Ok(Self { link, lines })
    }
}

#[async_trait]
impl AuditLog for MongoAudit {
    async fn append(&self, lines: Vec<AuditLine>) -> Result<(), StoreError> {
        let (log, documents) = (self.lines.clone(), lines.iter().map(document).collect());
        let append =
            async move { insert_many(&log, documents).await.into_iter().collect::<Result<Vec<_>, _>>() };
        // One that was there already is as good.
        self.link.run(append, || Err(stopped(StoreError::Unknown))).await.map(drop)
    }

    async fn read(&self, after: Vec<u8>) -> Result<Vec<AuditLine>, StoreError> {
        let (log, filter) = (self.lines.clone(), doc! { "_id": { "$gt": binary(after) } });
        let found = self.link.ask(async move {
            let by_id = Hint::Keys(doc! { "_id": 1 });
            let found =
                log.find(filter).hint(by_id).sort(doc! { "_id": 1 }).limit(PAGE.into()).batch_size(PAGE);
            found.await?.try_collect::<Vec<_>>().await
        });
        Ok(undamaged(found.await?.iter().map(record)))
    }
}

fn document(line: &AuditLine) -> Document {
    let (mut document, _) = fields(line);
    document.insert("at", DateTime::from_millis(line.at_ms));
    document
}
