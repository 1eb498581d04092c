//! The shared store: one collection in MongoDB, for several instances.
//!
//! ```text
//!   any thread ── commit, find, … ──▶ worker threads of this store ──▶ driver's pool ──▶ mongod
//!                      ◀──────────── answer ────────────┘
//! ```
//!
//! Owns the client, its connections and two threads for them, so that BSON and the driver's own tasks stay off the
//! threads that serve HTTP. Promises: an applied write is journaled on a majority; reads come from the primary and
//! return nothing that could be rolled back; an update is one conditional write that never creates a document nor
//! replaces one; every operation ends within [`DEADLINE`], dead server or not. A failure is
//! [`StoreError::Aborted`] only where nothing can have been written (`mongo/errors.rs`). Refuses nothing by itself: the
//! driver's pool makes what is too much wait.
//!
//! What was changed by any instance is found by the time the *server* noted when it applied the change
//! (`mongo/follow.rs`); no clock of an instance is compared with another's. Outdated documents are deleted by the server's
//! TTL monitor, late and unhurriedly; every question tests the purge time itself.

mod board;
mod commits;
mod documents;
mod errors;
mod follow;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actors::clock::Timestamp;
use actors::keys::DeviceHash;
use actors::session::Session;
use actors::store::record::millis;
use actors::store::{Cursor, Page, Polled, SessionKey, SessionStore, StoreError, Write, Written};
use futures_util::future::{BoxFuture, ready};
use futures_util::{FutureExt, TryStreamExt};
use mongodb::bson::{DateTime, Document, RawDocumentBuf, doc};
use mongodb::options::{
    Acknowledgment, ClientOptions, IndexOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection, Database, IndexModel};
use tokio::runtime::Runtime;

use self::board::Board;
use self::documents::binary;
use self::errors::{aborted, refused};
use self::follow::Memory;
use crate::store::OpenError;

/// Longest wait for one operation of the driver, whatever happens to the server; below the writer's own deadline,
/// so that the caller hears the reason.
pub const DEADLINE: Duration = Duration::from_secs(8);
/// Connections, unless the settings or the address say otherwise.
pub const POOL_SIZE: u32 = 16;
/// The database, unless the address or the settings name one.
pub const DATABASE: &str = "device_flow";

const COLLECTION: &str = "device_sessions";
/// Wait for a server that takes writes. Shorter than [`DEADLINE`]: then it is certain that nothing was sent.
const SERVER_SELECTION: Duration = Duration::from_secs(4);
/// Wait for one connection.
const CONNECT: Duration = Duration::from_secs(3);
/// Wait for the majority's journals.
const WRITE_CONCERN: Duration = Duration::from_secs(5);
/// Sessions of one page.
const PAGE: usize = 1000;
/// Groups under way at a time: while one waits for the journal, the next is written.
const LANES: usize = 2;
/// Threads of the driver.
const THREADS: usize = 2;

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
    inner: Arc<Inner>,
    runtime: Threads,
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
        let runtime = Threads::start()?;
        let task = runtime.get().spawn(async move {
            let inner = Inner::connect(settings).await?;
            let prepared = tokio::time::timeout(DEADLINE, inner.prepare()).await;
            prepared
                .map_err(|_| OpenError::Unreachable("no answer in time".into()))?
                .map_err(|e| refused(&e))?;
            Ok(inner)
        });
        let inner =
            task.await.unwrap_or_else(|_| Err(OpenError::Unreachable("the driver has stopped".into())))?;
        Ok(Self { inner: Arc::new(inner), runtime })
    }

    /// Runs `work` on the store's own threads; `lost` is the answer should they stop meanwhile.
    fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        lost: impl FnOnce() -> T + Send + 'static,
    ) -> BoxFuture<'static, T> {
        self.runtime.get().spawn(work).map(|done| done.unwrap_or_else(|_| lost())).boxed()
    }

    /// Runs a question; it writes nothing, so that any failure is certain.
    fn ask<T: Send + 'static>(
        &self,
        question: impl Future<Output = mongodb::error::Result<T>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let bounded = async {
            match tokio::time::timeout(DEADLINE, question).await {
                Ok(answer) => answer.map_err(|error| aborted(&error)),
                Err(_) => Err(StoreError::Aborted("MongoDB did not answer in time".into())),
            }
        };
        self.run(bounded, || Err(StoreError::Aborted("the store has stopped".into())))
    }
}

impl SessionStore for MongoStore {
    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'static, Vec<Result<Written, StoreError>>> {
        let count = writes.len();
        let sessions = self.inner.sessions.clone();
        self.run(async move { commits::commit(&sessions, writes).await }, move || {
            vec![Err(StoreError::Unknown("the store has stopped".into())); count]
        })
    }

    fn find(
        &self,
        key: SessionKey,
        now: Timestamp,
    ) -> BoxFuture<'static, Result<Option<Session>, StoreError>> {
        let inner = Arc::clone(&self.inner);
        let (name, key) = match &key {
            SessionKey::Device(device) => ("_id", binary(device.as_bytes())),
            SessionKey::User(user) => ("user", binary(user.as_bytes())),
            SessionKey::State(state) => ("state", binary(state.as_bytes())),
        };
        let filter = doc! { name: key, "purge_at": live(now) };
        let found = self.ask(async move { inner.sessions.find_one(filter).await });
        let read = |found: RawDocumentBuf| {
            documents::session(&found).map_err(|damaged| StoreError::Aborted(damaged.to_string()))
        };
        found.map(move |found| found?.map(read).transpose()).boxed()
    }

    fn page(
        &self,
        after: Option<DeviceHash>,
        now: Timestamp,
    ) -> BoxFuture<'static, Result<Page, StoreError>> {
        let inner = Arc::clone(&self.inner);
        // An empty key is below every other.
        let after = binary(after.as_ref().map_or(&[], |after| after.as_bytes().as_slice()));
        let filter = doc! { "_id": { "$gt": after }, "purge_at": live(now) };
        let found = self.ask(async move { inner.read_page(filter).await });
        let page = |found: Vec<RawDocumentBuf>| Page {
            next: found.last().filter(|_| found.len() == PAGE).and_then(documents::device),
            sessions: crate::store::undamaged(found.iter().map(documents::session)),
        };
        found.map(move |found| found.map(page)).boxed()
    }

    /// The server's TTL monitor deletes.
    fn purge(&self, _: Timestamp) -> BoxFuture<'static, Result<u64, StoreError>> {
        ready(Ok(0)).boxed()
    }

    fn changes(
        &self,
        cursor: Option<Cursor>,
    ) -> BoxFuture<'static, Result<(Vec<Session>, Cursor), StoreError>> {
        let inner = Arc::clone(&self.inner);
        let changed = self.ask(async move {
            follow::changes(&inner.database, &inner.sessions, &inner.followed, cursor).await
        });
        let read = |found: Vec<RawDocumentBuf>| crate::store::undamaged(found.iter().map(documents::session));
        changed.map(move |changed| changed.map(|(found, next)| (read(found), next))).boxed()
    }

    fn share_polls(&self, polled: Vec<Polled>) -> BoxFuture<'static, Result<Vec<Polled>, StoreError>> {
        let inner = Arc::clone(&self.inner);
        self.ask(async move { inner.board.share(polled).await })
    }

    fn ping(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        let inner = Arc::clone(&self.inner);
        self.ask(async move { inner.database.run_command(doc! { "ping": 1 }).await.map(drop) })
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn commit_lanes(&self) -> usize {
        LANES
    }
}

impl Inner {
    async fn connect(settings: MongoSettings) -> Result<Self, OpenError> {
        // What the driver says of an address it cannot read may repeat a password.
        let parsed = tokio::time::timeout(DEADLINE, ClientOptions::parse(&settings.uri)).await;
        let mut options = match parsed {
            Ok(Ok(options)) => options,
            Ok(Err(error)) => return Err(errors::unreadable(&error, &settings.uri)),
            Err(_) => return Err(OpenError::Unreachable("its name could not be looked up in time".into())),
        };
        let shorter =
            |given: Option<Duration>, ours: Duration| Some(given.map_or(ours, |given| given.min(ours)));
        options.app_name.get_or_insert_with(|| env!("CARGO_PKG_NAME").into());
        options.server_selection_timeout = shorter(options.server_selection_timeout, SERVER_SELECTION);
        options.connect_timeout = shorter(options.connect_timeout, CONNECT);
        let pool_size = settings.pool_size.or(options.max_pool_size).unwrap_or(POOL_SIZE).max(1);
        options.max_pool_size = Some(pool_size);
        options.min_pool_size = options.min_pool_size.map(|least| least.min(pool_size));
        options.write_concern = Some(
            WriteConcern::builder()
                .w(Acknowledgment::Majority)
                .journal(true)
                .w_timeout(WRITE_CONCERN)
                .build(),
        );
        options.read_concern = Some(ReadConcern::majority());
        options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        let name =
            settings.database.or_else(|| options.default_database.clone()).unwrap_or_else(|| DATABASE.into());
        let client =
            Client::with_options(options).map_err(|error| errors::unreadable(&error, &settings.uri))?;
        let database = client.database(&name);
        let sessions = database.collection(COLLECTION);
        let board = Board::new(&database);
        Ok(Self { database, sessions, followed: Mutex::default(), board })
    }

    /// Makes the indexes that are missing. Instances that start together may do so at the same time.
    async fn prepare(&self) -> mongodb::error::Result<()> {
        let index =
            |keys: Document, options: IndexOptions| IndexModel::builder().keys(keys).options(options).build();
        let named = |name: &str| IndexOptions::builder().name(name.to_owned());
        let indexes = [
            index(doc! { "user": 1 }, named("user").unique(true).build()),
            index(doc! { "state": 1 }, named("state").sparse(true).build()),
            index(doc! { "purge_at": 1 }, named("purge").expire_after(Duration::ZERO).build()),
            // Answers "what changed" by itself, without a look at any document.
            index(
                doc! { "changed": 1, "rev": 1, "_id": 1 },
                named(follow::INDEX)
                    .partial_filter_expression(doc! { "changed": { "$exists": true } })
                    .build(),
            ),
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

/// The driver's threads. Dropped, they stop on their own: what is under way is answered as lost.
struct Threads(Option<Runtime>);

impl Threads {
    fn start() -> Result<Self, OpenError> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(THREADS).thread_name("mongodb").enable_all().build();
        runtime.map(|runtime| Self(Some(runtime))).map_err(OpenError::Threads)
    }

    fn get(&self) -> &Runtime {
        // Taken by `drop` alone.
        self.0.as_ref().expect("the threads live as long as the store")
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
