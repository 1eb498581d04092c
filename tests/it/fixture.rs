//! A running server, as the tests need it: the real binary, a simulated Enedis, and a store of its own.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use testkit::device::Device;
use testkit::enedis::{Options, Simulator};
use testkit::http::Answer;
use testkit::person::{Choice, Person, Visit};
use testkit::preload::Machine;
use testkit::server::{Builder, Server};
pub use testkit::world::StoreKind as Store;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_device-flow-proxy");
/// The client of the simulator's default options.
pub const CLIENT: &str = "simulated-client";
/// Its secret.
pub const SECRET: &str = "simulated-secret";
/// Far longer than anything takes; only a hang meets it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server about to be started.
pub struct Plan(testkit::world::World);

/// A server and what it works with.
pub struct World {
    pub server: Server,
    pub builder: Builder,
    pub enedis: Simulator,
    pub store: testkit::world::Store,
}

impl Plan {
    /// A server of the usual configuration on `store`; polls may come every second.
    pub async fn new(store: Store) -> Self {
        Self::with(store, Options::default()).await
    }

    /// The same in front of a simulator with `options`.
    pub async fn with(store: Store, options: Options) -> Self {
        let world = testkit::world::World::new(BINARY, options, store).await;
        Self(world.with([("LIMIT_REQUESTS_PER_MINUTE", "60"), ("WORKERS", "2")]))
    }

    /// The same with `FLOW=CLIENT_CREDENTIALS`; people are sent to the consent page of `version` 1 or 2.
    pub async fn metering(store: Store, options: Options, version: u8) -> Self {
        let Self(world) = Self::with(store, options).await;
        let (data, token) = (world.enedis.base_url(), world.enedis.token_url());
        let authorize =
            if version == 2 { world.enedis.authorize_v2_url() } else { world.enedis.authorize_url() };
        Self(world.with([
            ("FLOW", "CLIENT_CREDENTIALS".to_owned()),
            ("AUTHORIZATION_ENDPOINT", authorize),
            ("TOKEN_ENDPOINT_V3", token),
            ("DATA_ENDPOINT", data),
            // Calls are counted; what the server asks by itself has tests of its own.
            ("PREFETCH", "off".to_owned()),
        ]))
    }

    /// Sets a variable.
    pub fn env(self, name: &str, value: &str) -> Self {
        Self(self.0.with([(name, value)]))
    }

    /// Has a shell do `before` in the process that then becomes the server.
    pub fn before(mut self, before: &str) -> Self {
        self.0.builder = self.0.builder.before(before);
        self
    }

    /// On a machine that can be told to fail.
    pub fn on_machine(mut self) -> (Machine, Self) {
        let machine;
        (machine, self.0.builder) = Machine::under(self.0.builder);
        (machine, self)
    }

    /// Leaves a variable out.
    pub fn without(mut self, name: &str) -> Self {
        self.0.builder = self.0.builder.env_remove(name);
        self
    }

    /// How the server will be started.
    pub fn builder(&self) -> &Builder {
        &self.0.builder
    }

    /// Starts the binary and waits until it is ready.
    pub async fn start(self) -> World {
        let server = self.0.start().await.unwrap_or_else(|error| panic!("{error}"));
        let testkit::world::World { builder, enedis, store } = self.0;
        World { server, builder, enedis, store }
    }
}

impl World {
    /// A usual server on `store`.
    pub async fn start(store: Store) -> Self {
        Plan::new(store).await.start().await
    }

    /// A second instance on the same store, with these settings besides. People only ever see the first one's address,
    /// as behind a load balancer.
    pub async fn second(&self, settings: &[(&str, &str)]) -> Server {
        let builder = self.builder.clone().port(testkit::net::free_port().expect("a free port"));
        let dir = builder.data_path().with_file_name("second");
        let builder = builder.env("BASE_URL", self.server.base_url()).data_dir(dir);
        let started = builder.envs(settings.iter().copied()).start().await;
        started.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The address of `path` at the server.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.base_url())
    }

    /// A box that is `client_id`.
    pub fn client(&self, client_id: &str) -> Device {
        Device::new(self.server.base_url(), client_id)
    }

    /// A box that has asked for its codes.
    pub async fn device(&self) -> Device {
        let mut device = self.client(CLIENT);
        device.request_code(&[]).await.expect("a device code");
        device
    }

    /// The owner of `device` opens the link, confirms, and decides at Enedis.
    pub async fn consent(&self, device: &Device, choice: Choice) -> Visit {
        Person::new().link(device.code().link(), choice).await.expect("the person gets through")
    }

    /// The owner of `device` consents, and the device receives its token.
    pub async fn link(&self, device: &Device) -> Answer {
        let page = self.consent(device, Choice::Allow).await;
        assert_eq!(page.status, 200, "{}", page.html);
        let answer = self.final_answer(device).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer
    }

    /// Polls as RFC 8628 wants it until there is a final answer.
    pub async fn final_answer(&self, device: &Device) -> Answer {
        device.poll_until_final(PATIENCE).await.expect("a final answer")
    }

    /// One value of `/metrics`, by its name and labels as they stand there.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        self.server.metric(name).await
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
