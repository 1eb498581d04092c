//! The way to MongoDB that all stores of a process share: its connections, and the threads for them.
//!
//! The driver has one pool for each client, so that there are three: writes that the server does not take hold theirs, and
//! look-ups and what is heard of other instances go on.

use std::sync::Arc;
use std::time::Duration;

use actors::base::store::StoreError;
use futures_util::TryFutureExt;
use mongodb::options::{
    Acknowledgment, ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Database};
use tokio::runtime::{Handle, Runtime};

use super::errors::{aborted, failed_write, refused, unreadable};
use super::{DATABASE, DEADLINE, MongoSettings, POOL_SIZE, layout};
use crate::store::OpenError;

/// Wait for a server that takes writes. Shorter than [`DEADLINE`]: then it is certain that nothing was sent.
const SERVER_SELECTION: Duration = Duration::from_secs(4);
/// Wait for one connection.
const CONNECT: Duration = Duration::from_secs(3);
/// Wait for the majority's journals.
const WRITE_CONCERN: Duration = Duration::from_secs(5);
const THREADS: usize = 2;
/// Connections of the follower, which asks two questions at a time.
const FOLLOWER_POOL: u32 = 2;

/// The clients and their threads, which stop when the last store that shares them is dropped.
pub(super) struct Link {
    pools: Pools,
    threads: Threads,
}

/// The database, by what is done there.
struct Pools {
    writes: Database,
    reads: Database,
    follower: Database,
}

impl Link {
    /// Reads the address and makes the clients. Nothing is sent before the first operation.
    pub(super) async fn open(settings: MongoSettings) -> Result<Arc<Self>, OpenError> {
        let threads = Threads::start()?;
        let pools = threads.handle.spawn(pools(settings)).await;
        let pools = pools.unwrap_or_else(|_| Err(OpenError::Unreachable("the driver has stopped".into())))?;
        Ok(Arc::new(Self { pools, threads }))
    }

    /// The database. Reads are of what a majority has, from the primary; writes are journaled on a majority.
    pub(super) fn database(&self) -> &Database {
        &self.pools.writes
    }

    /// The same for look-ups, which wait for no write.
    pub(super) fn reads(&self) -> &Database {
        &self.pools.reads
    }

    /// The same for what instances tell each other.
    pub(super) fn follower(&self) -> &Database {
        &self.pools.follower
    }

    /// Makes what a store needs on the server, unless a newer version has written there. Fails within some seconds if the
    /// server does not answer.
    pub(super) async fn prepare(
        &self,
        work: impl Future<Output = mongodb::error::Result<()>> + Send + 'static,
    ) -> Result<(), OpenError> {
        let database = self.database().clone();
        let work = async move {
            layout::take(&database).await?;
            work.await.map_err(|error| refused(&error))
        };
        let prepared = self.run(async { Some(tokio::time::timeout(DEADLINE, work).await) }, || None).await;
        let unreachable = |text: &str| OpenError::Unreachable(text.into());
        prepared
            .ok_or_else(|| unreachable("the driver has stopped"))?
            .map_err(|_| unreachable("no answer in time"))?
    }

    /// Runs `work` on the driver's threads; `lost` is the answer should they stop meanwhile.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        lost: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        self.threads.handle.spawn(work).await.unwrap_or_else(|_| lost())
    }

    /// Runs a question; it writes nothing, so that any failure is certain.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl Future<Output = mongodb::error::Result<T>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let bounded = async {
            match tokio::time::timeout(DEADLINE, question).await {
                Ok(answer) => answer.map_err(|error| aborted(&error)),
                Err(_) => Err(StoreError::Aborted("MongoDB did not answer in time".into())),
            }
        };
        self.run(bounded, || Err(stopped(StoreError::Aborted))).await
    }

    pub(super) async fn change<T: Send + 'static>(
        &self,
        change: impl Future<Output = mongodb::error::Result<T>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.write(change.map_err(|error| failed_write(&error))).await
    }

    /// Runs a change that says by itself what its failure means.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        write: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let bounded = async { tokio::time::timeout(DEADLINE, write).await.unwrap_or_else(|_| Err(late())) };
        self.run(bounded, || Err(stopped(StoreError::Unknown))).await
    }
}

/// The outcome of a write that was not answered in time.
pub(super) fn late() -> StoreError {
    StoreError::Unknown("MongoDB did not answer in time".into())
}

/// The outcome of what was under way when the driver's threads ended.
pub(super) fn stopped(outcome: fn(String) -> StoreError) -> StoreError {
    outcome("the store has stopped".into())
}

async fn pools(settings: MongoSettings) -> Result<Pools, OpenError> {
    // What the driver says of an address it cannot read may repeat a password.
    let parsed = tokio::time::timeout(DEADLINE, ClientOptions::parse(&settings.uri)).await;
    let mut options = match parsed {
        Ok(Ok(options)) => options,
        Ok(Err(error)) => return Err(unreadable(&error, &settings.uri)),
        Err(_) => return Err(OpenError::Unreachable("its name could not be looked up in time".into())),
    };
    let shorter = |given: Option<Duration>, ours: Duration| Some(given.map_or(ours, |given| given.min(ours)));
    options.app_name.get_or_insert_with(|| env!("CARGO_PKG_NAME").into());
    options.server_selection_timeout = shorter(options.server_selection_timeout, SERVER_SELECTION);
    options.connect_timeout = shorter(options.connect_timeout, CONNECT);
    let pool_size = settings.pool_size.or(options.max_pool_size).unwrap_or(POOL_SIZE).max(1);
    options.write_concern = Some(
        WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(WRITE_CONCERN).build(),
    );
    options.read_concern = Some(ReadConcern::majority());
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    let name =
        settings.database.or_else(|| options.default_database.clone()).unwrap_or_else(|| DATABASE.into());
    let pool = |size: u32| {
        let mut options = options.clone();
        options.max_pool_size = Some(size);
        options.min_pool_size = options.min_pool_size.map(|least| least.min(size));
        let client = Client::with_options(options).map_err(|error| unreadable(&error, &settings.uri))?;
        Ok(client.database(&name))
    };
    let half = pool_size.div_ceil(2);
    Ok(Pools { writes: pool(half)?, reads: pool(half)?, follower: pool(FOLLOWER_POOL)? })
}

/// The driver's threads. Dropped, they stop on their own: what is under way is answered as lost.
struct Threads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Threads {
    fn start() -> Result<Self, OpenError> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(THREADS).thread_name("mongodb").enable_all().build();
        let runtime = runtime.map_err(OpenError::Threads)?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
