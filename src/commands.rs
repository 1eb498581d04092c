//! The operator's commands that work on what is stored: `import-php`, `sessions`, `tokens`, `meters`, `keys`, `audit`, `backup` and
//! `check-store`; and `doctor`, which looks at that and at everything around.
//!
//! Owns what such a command needs: the installation's key and its token store. Promises: the store is opened beside a
//! running server, without its lock; what a command changed is in the audit record; no message holds more of a meter's number than was
//! asked for. Refuses to look for tokens where no server has ever run: a `DATA_DIR` mistyped would otherwise read as an
//! empty store.

pub mod audit;
pub mod backup;
pub mod check_store;
pub mod doctor;
mod error;
pub mod import_php;
pub mod keys;
mod listing;
pub mod meters;
pub mod sessions;
pub mod tokens;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use actors::base::audit::{Audit, AuditLog, Note};
use actors::base::clock::SharedClock;
use actors::base::keyring::Keyring;
use actors::base::meter::Meter;
use actors::metering::cache::{MeterCache, owner_text};
use actors::metering::tokens::{TokenStore, installation};
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use rand::SeedableRng;
use rand::rngs::StdRng;

pub use self::error::{CommandError, SourceError, chain};
use crate::config::Config;
use crate::secret::{self, Key};
use crate::store::Stores;

/// How long a command waits for the audit record.
const RECORD_PATIENCE: Duration = Duration::from_secs(5);

/// Fewest digits of an id that name something.
const ID_MIN: usize = 8;
const ID_LEN: usize = 32;

/// Whether this is an id, or its beginning, that is long enough to name one of many.
fn is_id(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        && (ID_MIN..=ID_LEN).contains(&text.len())
}

/// Shows a person at a terminal, on standard error, that work goes on whose length is not known; until it is dropped.
fn at_work(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}, {elapsed}")
        .unwrap_or(ProgressStyle::default_spinner());
    let bar =
        ProgressBar::no_length().with_style(style).with_message(what).with_finish(ProgressFinish::AndClear);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A reader that closed the pipe has seen enough.
fn seen_enough(done: Result<(), CommandError>) -> Result<(), CommandError> {
    match done {
        Err(CommandError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// How a command says what it found.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Format {
    /// Print JSON: one object, or one a line
    #[arg(long)]
    json: bool,
}

/// What a command works with: the key, the token store, what is remembered of meters, and the audit record of a server.
struct Installation {
    store: Arc<dyn TokenStore>,
    cache: Option<Arc<dyn MeterCache>>,
    log: Arc<dyn AuditLog>,
    keys: Keyring,
    clock: SharedClock,
}

/// The keys of the installation. Refuses where there are none, and thus no installation.
fn keys_of(config: &Config) -> Result<Vec<Key>, CommandError> {
    let keys = config.storage.find_keys()?;
    keys.ok_or_else(|| CommandError::NoInstallation(config.storage.data_dir.clone()))
}

impl Installation {
    /// The installation of a server that has run.
    async fn of_server(config: &Config, clock: SharedClock) -> Result<Self, CommandError> {
        Self::open(config, clock, &keys_of(config)?).await
    }

    /// Opens the installation's token store under its key, `None` if there is no key and thus no installation.
    async fn find(config: &Config, clock: SharedClock) -> Result<Option<Self>, CommandError> {
        match config.storage.find_keys()? {
            Some(secrets) => Self::open(config, clock, &secrets).await.map(Some),
            None => Ok(None),
        }
    }

    /// The same, with a key that is made if there is none.
    async fn make(config: &Config, clock: SharedClock) -> Result<Self, CommandError> {
        let fresh = secret::random()?;
        let secrets = config.storage.load_keys(|| fresh)?;
        Self::open(config, clock, &secrets).await
    }

    async fn open(config: &Config, clock: SharedClock, secrets: &[Key]) -> Result<Self, CommandError> {
        let stores = Stores::beside(&config.storage.store, &config.storage.data_dir).await?;
        let Stores { tokens: store, audit: log, meters: cache, .. } = stores;
        let mut rng = StdRng::from_seed(secret::random()?);
        let keys = installation::Installation::open(store.as_ref(), secrets, clock.wall(), &mut rng).await?;
        Ok(Self { store, cache, log, keys, clock })
    }

    /// Deletes what is remembered of a meter; how many values.
    async fn forget(&self, meter: Meter) -> Result<u64, CommandError> {
        let Some(cache) = &self.cache else { return Ok(0) };
        Ok(cache.forget(self.keys.cache(&owner_text(meter))).await?)
    }

    async fn record(&self, done: Vec<Note>) -> Result<(), CommandError> {
        record(&self.log, &self.clock, done).await
    }
}

/// Records what was done. It stays done if that fails; the operator is told.
async fn record(log: &Arc<dyn AuditLog>, clock: &SharedClock, done: Vec<Note>) -> Result<(), CommandError> {
    let audit = Audit::start(Arc::clone(log), SharedClock::clone(clock), secret::random()?);
    for note in done {
        audit.note(note).await;
    }
    if tokio::time::timeout(RECORD_PATIENCE, audit.idle()).await.is_err() {
        eprintln!(
            "device-flow-proxy: the audit record does not hold all that was done: it cannot be written"
        );
    }
    Ok(())
}
