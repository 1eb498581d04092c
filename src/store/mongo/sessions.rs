//! Pending sessions, in the collection `device_sessions`.
//!
//! ```text
//!   { _id: device, user, client_id, …, purge_at, changed }                      (hashes and sealed bytes only)
//! ```
//!
//! The fields are those of [`Record`]; a document that was updated also has `changed`, the server's time of the last
//! update.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use actors::base::clock::Timestamp;
use actors::base::keyring::DeviceHash;
use actors::base::store::{Damaged, StoreError, Written};
use actors::device_flow::session::Session;
use actors::device_flow::store::record::Record;
use actors::device_flow::store::{Cursor, Page, Polled, SessionKey, SessionStore, Write};
use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::bson::{DateTime, Document, RawDocumentBuf, doc};
use mongodb::options::ReadConcern;
use mongodb::{Collection, Database};

use super::changes::{self, Memory};
use super::documents::{binary, live, next, record};
use super::link::{Link, stopped};
use super::shared_polls::SharedPolls;
use super::{
    DEADLINE, Instances, MongoAudit, MongoLedger, MongoMeters, MongoSettings, MongoTokens, commits, errors,
    indexes,
};
use crate::store::{OpenError, undamaged};

const COLLECTION: &str = "device_sessions";
/// Sessions of one page.
const PAGE: u32 = 1000;
/// Groups under way at a time: while one waits for the journal, the next is written.
const COMMITS_AT_ONCE: usize = 2;

/// The store. See the module.
#[derive(derive_more::Debug)]
#[debug("MongoStore({})", inner.sessions.namespace())]
pub struct MongoStore {
    link: Arc<Link>,
    inner: Arc<Inner>,
}

struct Inner {
    sessions: Collection<RawDocumentBuf>,
    read: Collection<RawDocumentBuf>,
    follower: Database,
    followed: Mutex<Memory>,
    polls: SharedPolls,
}

impl MongoStore {
    /// Connects, and makes the collection's indexes. Fails within some seconds if the server does not answer.
    pub async fn connect(settings: MongoSettings) -> Result<Self, OpenError> {
        let link = Link::open(settings).await?;
        let inner = Arc::new(Inner {
            sessions: link.database().collection(COLLECTION),
            read: link.reads().collection(COLLECTION),
            follower: link.follower().clone(),
            followed: Mutex::default(),
            polls: SharedPolls::new(link.follower()),
        });
        let prepared = Arc::clone(&inner);
        let prepare = async move {
            prepared.sessions.create_indexes(indexes::sessions()).await?;
            prepared.polls.prepare().await
        };
        link.prepare(prepare).await?;
        Ok(Self { link, inner })
    }

    /// How many documents each collection has, as the server has counted them.
    pub async fn rows(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let database = self.link.reads().clone();
        let count = async move {
            let mut rows = BTreeMap::new();
            for name in database.list_collection_names().await? {
                let documents = database.collection::<Document>(&name).estimated_document_count().await?;
                rows.insert(name, documents);
            }
            Ok(rows)
        };
        self.link.ask(count).await
    }

    /// The tokens in the same database, through the same connections. Makes their collection's indexes.
    pub async fn tokens(&self) -> Result<MongoTokens, OpenError> {
        MongoTokens::on(Arc::clone(&self.link)).await
    }

    /// Joins the other instances on the same database, by settings that have to be the same. Refuses if one differs.
    pub async fn join(&self, settings: &[(&'static str, String)]) -> Result<Instances, OpenError> {
        Instances::join(Arc::clone(&self.link), settings).await
    }

    /// The numbers in the same database, through the same connections.
    pub fn ledger(&self) -> MongoLedger {
        MongoLedger::on(Arc::clone(&self.link))
    }

    /// The cache of metering data in the same database, through the same connections. Makes its collection's indexes.
    pub async fn meters(&self) -> Result<MongoMeters, OpenError> {
        MongoMeters::on(Arc::clone(&self.link)).await
    }

    /// The audit record in the same database, through the same connections. Makes its collection's index.
    pub async fn audit(&self) -> Result<MongoAudit, OpenError> {
        MongoAudit::on(Arc::clone(&self.link)).await
    }
}

#[async_trait]
impl SessionStore for MongoStore {
    async fn commit(&self, writes: Vec<Write>) -> Vec<Result<Written, StoreError>> {
        let count = writes.len();
        let sessions = self.inner.sessions.clone();
        let commit = async move { commits::commit(&sessions, writes).await };
        self.link.run(commit, move || vec![Err(stopped(StoreError::Unknown)); count]).await
    }

    async fn find(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>, StoreError> {
        let sessions = self.inner.read.clone();
        let (name, key) = match &key {
            SessionKey::Device(device) => ("_id", binary(device)),
            SessionKey::User(user) => ("user", binary(user)),
            SessionKey::State(state) => ("state", binary(state)),
        };
        let filter = doc! { name: key, "purge_at": live(now) };
        let find = async move {
            let found = sessions.find_one(filter.clone()).await?;
            if found.is_some() {
                return Ok(found);
            }
            // A primary that was just elected does not know yet what the majority has, and one that stood still not that
            // there is another: "no such code" is final for a box.
            let last_word = sessions.find_one(filter).read_concern(ReadConcern::linearizable());
            last_word.max_time(DEADLINE).await.or_else(errors::alone)
        };
        let found = self.link.ask(find).await?;
        Ok(found.as_ref().map(session).transpose()?)
    }

    async fn page(&self, after: Option<DeviceHash>, now: Timestamp) -> Result<Page, StoreError> {
        let sessions = self.inner.read.clone();
        // An empty key is below every other.
        let after = after.map_or_else(|| binary(b""), binary);
        let filter = doc! { "_id": { "$gt": after }, "purge_at": live(now) };
        // Understood on the driver's threads: at the start there may be a million.
        let page = async move {
            let found = sessions.find(filter).sort(doc! { "_id": 1 }).limit(PAGE.into()).batch_size(PAGE);
            let found: Vec<_> = found.await?.try_collect().await?;
            let next = next(&found, PAGE).and_then(DeviceHash::from_slice);
            Ok(Page { next, sessions: undamaged(found.iter().map(session)) })
        };
        self.link.ask(page).await
    }

    async fn changes(&self, cursor: Option<Cursor>) -> Result<(Vec<Session>, Cursor), StoreError> {
        let inner = Arc::clone(&self.inner);
        let changed = async move {
            let sessions = inner.follower.collection(COLLECTION);
            changes::changes(&inner.follower, &sessions, &inner.followed, cursor).await
        };
        let (found, next) = self.link.ask(changed).await?;
        Ok((undamaged(found.iter().map(session)), next))
    }

    async fn share_polls(&self, polled: Vec<Polled>) -> Result<Vec<Polled>, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.link.ask(async move { inner.polls.share(polled).await }).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let sessions = self.inner.sessions.clone();
        // No session has an empty code. The answer waits for what a majority has on its disks all the same.
        let nobody = doc! { "_id": binary(b"") };
        let change = doc! { "$set": { "rev": 0 } };
        self.link.change(async move { sessions.update_one(nobody, change).await.map(drop) }).await
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn commits_at_once(&self) -> usize {
        COMMITS_AT_ONCE
    }
}

pub(super) fn session(document: &RawDocumentBuf) -> Result<Session, Damaged> {
    record::<Record<DateTime>>(document)?.session(DateTime::timestamp_millis)
}
