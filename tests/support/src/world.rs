//! Owns what a server under test stands between: a simulated Enedis, and a store. Everything that starts a server takes a
//! [`StoreKind`].
//!
//! ```text
//! World::new ─► change the builder ─► start ─► stop, start again on the same data …
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::enedis::{Options, Simulator};
use crate::mongod::{Kind, Mongod};
use crate::server::{Builder, Server, StartError};

/// A simulated Enedis, a store, and how the server is started between them.
#[derive(Debug)]
pub struct World {
    /// The simulated Enedis.
    pub enedis: Simulator,
    /// What the server keeps.
    pub store: Store,
    /// How the server is started; add settings to it.
    pub builder: Builder,
}

impl World {
    /// A server of `binary` with its client at Enedis, the endpoints of the device flow, and the store.
    ///
    /// # Panics
    /// If no loopback port or temporary directory is to be had, or there is no `mongod` when one is wanted.
    pub async fn new(binary: impl Into<PathBuf>, options: Options, store: StoreKind) -> Self {
        let enedis = Simulator::start(options).await;
        let store = store.open();
        let builder = store.used_by(Server::builder(binary)).envs([
            ("CLIENT_ID", enedis.options().client_id.clone()),
            ("CLIENT_SECRET", enedis.options().client_secret.clone().unwrap_or_default()),
            ("AUTHORIZATION_ENDPOINT", enedis.authorize_url()),
            ("TOKEN_ENDPOINT", enedis.token_url()),
            // Many boxes and people at one address.
            ("DEVICE_CODES_PER_MINUTE_PER_IP", "1000000".to_owned()),
        ]);
        Self { enedis, store, builder }
    }

    /// Adds settings of the server.
    #[must_use]
    pub fn with<N: Into<String>, V: Into<String>>(
        mut self,
        settings: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.builder = self.builder.envs(settings);
        self
    }

    /// Starts the server, whose address Enedis is told, and waits until it is ready.
    pub async fn start(&self) -> Result<Server, StartError> {
        self.enedis.set_callback(format!("{}/auth/redirect", self.builder.base_url()));
        self.builder.start().await
    }
}

/// Where the server keeps what it must not lose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum StoreKind {
    /// SQLite in the server's own directory.
    #[default]
    Sqlite,
    /// A database of its own on the MongoDB server that this process shares.
    Mongodb,
}

/// An empty store. Keep it as long as a server uses it.
#[derive(Debug)]
pub struct Store {
    mongod: Option<(Arc<Mongod>, String)>,
}

impl StoreKind {
    /// An empty store that nobody else uses.
    ///
    /// # Panics
    /// If MongoDB is wanted and there is no `mongod`.
    pub fn open(self) -> Store {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let mongod = (self == Self::Mongodb).then(|| {
            let mongod = Mongod::shared(Kind::Standalone);
            let number = DATABASES.fetch_add(1, Ordering::Relaxed);
            let uri = mongod.uri(&format!("test_{}_{number}", std::process::id()));
            (mongod, uri)
        });
        Store { mongod }
    }
}

impl Store {
    /// `MONGODB_URI`, unless it is SQLite.
    pub fn uri(&self) -> Option<&str> {
        self.mongod.as_ref().map(|(_, uri)| uri.as_str())
    }

    /// The server that `builder` starts uses this store.
    #[must_use]
    pub fn used_by(&self, builder: Builder) -> Builder {
        match self.uri() {
            Some(uri) => builder.env("MONGODB_URI", uri),
            None => builder,
        }
    }
}

/// Warnings and errors that `server` has logged, by message.
pub fn complaints(server: &Server) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for message in server.logs().iter().filter_map(|line| complaint(line)) {
        *counts.entry(message).or_default() += 1;
    }
    counts
}

fn complaint(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let level = line["level"].as_str().filter(|level| matches!(*level, "WARN" | "ERROR"))?;
    Some(format!("{level} {}", line["fields"]["message"].as_str()?))
}

/// Tells `error` and its causes on standard error, as the program `name`.
pub fn tell_error(name: &str, error: &dyn std::error::Error) {
    eprintln!("{name}: {error}");
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        eprintln!("  because: {cause}");
    }
}

/// Reads whole seconds from a command line.
pub fn secs(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}

/// Reads a server's setting from a command line, `NAME=VALUE`.
pub fn setting(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is wanted")?;
    Ok((name.to_owned(), value.to_owned()))
}
