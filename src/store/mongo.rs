//! The shared stores: collections in MongoDB, for several instances.
//!
//! ```text
//!   any thread ── commit, find, … ──▶ worker threads of this store ──▶ driver's pool ──▶ mongod
//!                      ◀──────────── answer ────────────┘
//! ```
//!
//! [`MongoStore`] keeps the sessions; it hands out [`MongoTokens`] and [`MongoMeters`], which share what it owns: the
//! client, its connections and two threads for them, so that BSON and the driver's own tasks stay off the threads that
//! serve HTTP (`mongo/link.rs`). Promises: an applied write is journaled on a majority; reads come from the primary and
//! return nothing that could be rolled back; an update is one conditional write that never creates a document nor
//! replaces one; every operation ends within [`DEADLINE`], dead server or not. A failure is
//! [`StoreError::Aborted`] only where nothing can have been written (`mongo/errors.rs`). Refuses nothing by itself: the
//! driver's pool makes what is too much wait. The cache promises less, and says so (`mongo/meters.rs`).
//!
//! What was changed by any instance is found by the time the *server* noted when it applied the change
//! (`mongo/follow.rs`); no clock of an instance is compared with another's. Outdated documents are deleted by the server's
//! TTL monitor, late and unhurriedly; every question tests the purge time itself.

mod board;
mod commits;
mod documents;
pub(crate) mod errors;
mod follow;
mod link;
mod meters;
mod tokens;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actors::base::clock::Timestamp;
use actors::base::keyring::DeviceHash;
use actors::base::store::millis;
use actors::base::store::{StoreError, Written};
use actors::device_flow::session::Session;
use actors::device_flow::store::{Cursor, Page, Polled, SessionKey, SessionStore, Write};
use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::bson::{DateTime, Document, RawDocumentBuf, doc};
use mongodb::options::IndexOptions;
use mongodb::{Collection, Database};

use self::board::Board;
use self::documents::binary;
use self::follow::Memory;
use self::link::{Link, ends, index};
pub use self::meters::MongoMeters;
pub use self::tokens::MongoTokens;
use crate::store::{OpenError, undamaged};

/// Longest wait for one operation of the driver, whatever happens to the server; below the writer's own deadline,
/// so that the caller hears the reason.
pub const DEADLINE: Duration = Duration::from_secs(8);
/// Connections, unless the settings or the address say otherwise.
pub const POOL_SIZE: u32 = 16;
/// The database, unless the address or the settings name one.
pub const DATABASE: &str = "device_flow";

const COLLECTION: &str = "device_sessions";
/// Sessions of one page.
const PAGE: usize = 1000;
/// Groups under way at a time: while one waits for the journal, the next is written.
const LANES: usize = 2;

/// How to reach MongoDB.
#[derive(Clone)]
pub struct MongoSettings {
    /// `mongodb://…` or `mongodb+srv://…`. May hold a password: never shown.
    pub uri: String,
    /// Overrides the database that the address names; [`DATABASE`] if neither does.
    pub database: Option<String>,
    /// Overrides the `maxPoolSize` of the address; [`POOL_SIZE`] if neither is given.
    pub pool_size: Option<u32>,
}

impl MongoSettings {
    /// The defaults for the server at `uri`.
    pub fn new(uri: impl Into<String>) -> Self {
        Self { uri: uri.into(), database: None, pool_size: None }
    }
}

impl fmt::Debug for MongoSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uri: _, database, pool_size } = self;
        write!(f, "MongoSettings {{ database: {database:?}, pool_size: {pool_size:?}, .. }}")
    }
}

/// The store. See the module.
pub struct MongoStore {
    link: Arc<Link>,
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    sessions: Collection<RawDocumentBuf>,
    followed: Mutex<Memory>,
    board: Board,
}

impl MongoStore {
    /// Connects, and makes the collection's indexes. Fails within some seconds if the server does not answer.
    pub async fn connect(settings: MongoSettings) -> Result<Self, OpenError> {
        let link = Link::open(settings).await?;
        let inner = Arc::new(Inner::new(link.database().clone()));
        let prepared = Arc::clone(&inner);
        link.prepare(async move { prepared.prepare().await }).await?;
        Ok(Self { link, inner })
    }

    /// The tokens in the same database, through the same connections. Makes their collection's indexes.
    pub async fn tokens(&self) -> Result<MongoTokens, OpenError> {
        MongoTokens::on(Arc::clone(&self.link)).await
    }

    /// The cache of metering data in the same database, through the same connections. Makes its collection's indexes.
    pub async fn meters(&self) -> Result<MongoMeters, OpenError> {
        MongoMeters::on(Arc::clone(&self.link)).await
    }
}

#[async_trait]
impl SessionStore for MongoStore {
    async fn commit(&self, writes: Vec<Write>) -> Vec<Result<Written, StoreError>> {
        let count = writes.len();
        let sessions = self.inner.sessions.clone();
        let lost = move || vec![Err(StoreError::Unknown("the store has stopped".into())); count];
        self.link.run(async move { commits::commit(&sessions, writes).await }, lost).await
    }

    async fn find(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>, StoreError> {
        let inner = Arc::clone(&self.inner);
        let (name, key) = match &key {
            SessionKey::Device(device) => ("_id", binary(device.as_bytes())),
            SessionKey::User(user) => ("user", binary(user.as_bytes())),
            SessionKey::State(state) => ("state", binary(state.as_bytes())),
        };
        let filter = doc! { name: key, "purge_at": live(now) };
        let found = self.link.ask(async move { inner.sessions.find_one(filter).await }).await?;
        Ok(found.as_ref().map(documents::session).transpose()?)
    }

    async fn page(&self, after: Option<DeviceHash>, now: Timestamp) -> Result<Page, StoreError> {
        let inner = Arc::clone(&self.inner);
        // An empty key is below every other.
        let after = binary(after.as_ref().map_or(&[], |after| after.as_bytes().as_slice()));
        let filter = doc! { "_id": { "$gt": after }, "purge_at": live(now) };
        let page = |found: Vec<RawDocumentBuf>| Page {
            next: found.last().filter(|_| found.len() == PAGE).and_then(documents::device),
            sessions: undamaged(found.iter().map(documents::session)),
        };
        // Understood on the driver's threads: at the start there may be a million.
        self.link.ask(async move { inner.read_page(filter).await.map(page) }).await
    }

    /// The server's TTL monitor deletes.
    async fn purge(&self, _: Timestamp) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn changes(&self, cursor: Option<Cursor>) -> Result<(Vec<Session>, Cursor), StoreError> {
        let inner = Arc::clone(&self.inner);
        let changed =
            async move { follow::changes(&inner.database, &inner.sessions, &inner.followed, cursor).await };
        let (found, next) = self.link.ask(changed).await?;
        Ok((undamaged(found.iter().map(documents::session)), next))
    }

    async fn share_polls(&self, polled: Vec<Polled>) -> Result<Vec<Polled>, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.link.ask(async move { inner.board.share(polled).await }).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        self.link.ask(async move { inner.database.run_command(doc! { "ping": 1 }).await.map(drop) }).await
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn commit_lanes(&self) -> usize {
        LANES
    }
}

impl Inner {
    fn new(database: Database) -> Self {
        let sessions = database.collection(COLLECTION);
        let board = Board::new(&database);
        Self { database, sessions, followed: Mutex::default(), board }
    }

    /// Makes the indexes that are missing. Instances that start together may do so at the same time.
    async fn prepare(&self) -> mongodb::error::Result<()> {
        let followed = IndexOptions::builder()
            .partial_filter_expression(doc! { "changed": { "$exists": true } })
            .build();
        let indexes = [
            index("user", doc! { "user": 1 }, IndexOptions::builder().unique(true).build()),
            index("state", doc! { "state": 1 }, IndexOptions::builder().sparse(true).build()),
            index("purge", doc! { "purge_at": 1 }, ends()),
            // Answers "what changed" by itself, without a look at any document.
            index(follow::INDEX, doc! { "changed": 1, "rev": 1, "_id": 1 }, followed),
        ];
        self.sessions.create_indexes(indexes).await?;
        self.board.prepare().await
    }

    async fn read_page(&self, filter: Document) -> mongodb::error::Result<Vec<RawDocumentBuf>> {
        let limit = u32::try_from(PAGE).unwrap_or(u32::MAX);
        let found =
            self.sessions.find(filter).sort(doc! { "_id": 1 }).limit(limit.into()).batch_size(limit).await?;
        found.try_collect().await
    }
}

fn live(now: Timestamp) -> Document {
    doc! { "$gt": DateTime::from_millis(millis(now)) }
}

impl fmt::Debug for MongoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MongoStore({})", self.inner.sessions.namespace())
    }
}
