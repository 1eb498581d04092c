//! A running server, as the tests need it: the real binary, a simulated Enedis, and a store of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use testkit::device::{Device, PollAnswer};
use testkit::enedis::{Options, Simulator};
use testkit::mongod::Mongod;
use testkit::person::{Choice, Person, Visit};
use testkit::server::{Builder, Server};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_device-flow-proxy");
/// The client of the simulator's default options.
pub const CLIENT: &str = "simulated-client";
/// Its secret.
pub const SECRET: &str = "simulated-secret";
/// Far longer than anything takes; only a hang meets it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Which store a test runs on. Every journey runs on both.
#[derive(Clone, Copy, Debug)]
pub enum Store {
    Sqlite,
    Mongo,
}

/// A server about to be started.
pub struct Plan {
    pub builder: Builder,
    pub enedis: Simulator,
    pub mongod: Option<Arc<Mongod>>,
    pub mongo_uri: Option<String>,
}

/// A server and what it works with.
pub struct World {
    pub server: Server,
    pub builder: Builder,
    pub enedis: Simulator,
    pub mongo_uri: Option<String>,
    // Runs as long as a test uses it.
    _mongod: Option<Arc<Mongod>>,
}

impl Plan {
    /// A server of the usual configuration on `store`; polls may come every second.
    pub async fn new(store: Store) -> Self {
        Self::with(store, Options::default()).await
    }

    /// The same in front of a simulator with `options`.
    pub async fn with(store: Store, options: Options) -> Self {
        let enedis = Simulator::start(options).await;
        let builder = Server::builder(BINARY)
            .env("CLIENT_ID", CLIENT)
            .env("CLIENT_SECRET", SECRET)
            .env("AUTHORIZATION_ENDPOINT", enedis.authorize_url())
            .env("TOKEN_ENDPOINT", enedis.token_url())
            .env("LIMIT_REQUESTS_PER_MINUTE", "60")
            .env("WORKERS", "2");
        enedis.set_callback(format!("{}/auth/redirect", builder.base_url()));
        let plan = Self { builder, enedis, mongod: None, mongo_uri: None };
        match store {
            Store::Sqlite => plan,
            Store::Mongo => plan.on_mongo(),
        }
    }

    /// The same with `FLOW=CLIENT_CREDENTIALS`; people are sent to the consent page of `version` 1 or 2.
    pub async fn metering(store: Store, options: Options, version: u8) -> Self {
        let plan = Self::with(store, options).await;
        let (data, token) = (plan.enedis.base_url(), plan.enedis.token_url());
        let authorize =
            if version == 2 { plan.enedis.authorize_v2_url() } else { plan.enedis.authorize_url() };
        plan.env("FLOW", "CLIENT_CREDENTIALS")
            .env("AUTHORIZATION_ENDPOINT", &authorize)
            .env("TOKEN_ENDPOINT_V3", &token)
            .env("DATA_ENDPOINT", &data)
    }

    fn on_mongo(mut self) -> Self {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let mongod = Mongod::shared();
        let n = DATABASES.fetch_add(1, Ordering::Relaxed);
        let uri = mongod.uri(&format!("it_{}_{n}", std::process::id()));
        self.builder = self.builder.env("MONGODB_URI", &uri);
        self.mongod = Some(mongod);
        self.mongo_uri = Some(uri);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.env(name, value);
        self
    }

    /// Leaves a variable out.
    pub fn without(mut self, name: &str) -> Self {
        self.builder = self.builder.env_remove(name);
        self
    }

    /// Starts the binary and waits until it is ready.
    pub async fn start(self) -> World {
        let server = self.builder.start().await.unwrap_or_else(|error| panic!("{error}"));
        let Self { builder, enedis, mongod, mongo_uri } = self;
        World { server, builder, enedis, mongo_uri, _mongod: mongod }
    }
}

impl World {
    /// A usual server on `store`.
    pub async fn start(store: Store) -> Self {
        Plan::new(store).await.start().await
    }

    /// A box that has asked for its codes.
    pub async fn device(&self) -> Device {
        let mut device = Device::new(self.server.base_url(), CLIENT);
        device.request_code(&[]).await.expect("a device code");
        device
    }

    /// The owner of `device` opens the link, confirms, and decides at Enedis.
    pub async fn consent(&self, device: &Device, choice: Choice) -> Visit {
        let link = device.code().expect("a code was asked for").link().to_owned();
        Person::new().link(&link, choice).await.expect("the person gets through")
    }

    /// Polls as RFC 8628 wants it until there is a final answer.
    pub async fn final_answer(&self, device: &Device) -> PollAnswer {
        device.poll_until_final(PATIENCE).await.expect("a final answer")
    }

    /// One value of `/metrics`, by its name and labels as they stand there.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text =
            reqwest::get(format!("{}/metrics", self.server.admin_url())).await.ok()?.text().await.ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Starts the binary again on the same port and data.
    pub async fn restart(&mut self) {
        self.server = self.builder.start().await.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Tries every case, a few at a time, as each mostly waits.
pub async fn each<T>(cases: impl IntoIterator<Item = T>, run: impl AsyncFn(T)) {
    let run = &run;
    stream::iter(cases).for_each_concurrent(4, |case| async move { run(case).await }).await;
}

/// Waits until `probe` gives something, looking again and again until [`PATIENCE`] is over.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut probe: impl FnMut() -> F) -> T {
    let look = async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            if let Some(found) = probe().await {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("never happened: {what}"))
}
