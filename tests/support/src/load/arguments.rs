//! Owns the command lines of `cargo fleet polling`, `consenting` and `reconnecting`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::{LoadError, Mode, Plan, Report, page, run};
use crate::fleet::StoreKind;
use crate::proxy_build;

/// Seconds between two polls of a device, as the server tells it.
pub(super) const INTERVAL_SECS: f64 = 5.0;
/// How long answers are waited for after the last request: a flow polls every [`INTERVAL_SECS`].
const GRACE: Duration = Duration::from_secs(30);

/// Devices that poll over connections kept alive, on a schedule that no answer delays; people who consent beside them.
#[derive(Clone, Debug, Args)]
pub struct Polling {
    /// Devices, each with a pending code.
    #[arg(long, default_value_t = 200_000)]
    pub devices: u32,
    /// Polls in a second, by all devices; default: each polls every 5 s.
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// Connections the devices share.
    #[arg(long, default_value_t = 1_000)]
    pub connections: u32,
    /// Whole device flows begun in a second, from the code to the token.
    #[arg(long, default_value_t = 0.0, value_name = "PER_SECOND")]
    pub consents: f64,
    /// What every load has.
    #[command(flatten)]
    pub common: Common,
}

/// Whole device flows, from the code to the token, on a schedule that no answer delays.
#[derive(Clone, Debug, Args)]
pub struct Consenting {
    /// Whole device flows begun in a second.
    #[arg(long, default_value_t = 50.0, value_name = "PER_SECOND")]
    pub consents: f64,
    /// What every load has.
    #[command(flatten)]
    pub common: Common,
}

/// Devices that poll over a new connection each time, on a schedule that no answer delays.
#[derive(Clone, Debug, Args)]
pub struct Reconnecting {
    /// Devices, each with a pending code.
    #[arg(long, default_value_t = 20_000)]
    pub devices: u32,
    /// Polls in a second, by all devices.
    #[arg(long, default_value_t = 4_000.0, value_name = "PER_SECOND")]
    pub rate: f64,
    /// Connections at a time.
    #[arg(long, default_value_t = 1_000)]
    pub connections: u32,
    /// Whole device flows begun in a second, from the code to the token.
    #[arg(long, default_value_t = 0.0, value_name = "PER_SECOND")]
    pub consents: f64,
    /// What every load has.
    #[command(flatten)]
    pub common: Common,
}

/// What every load has.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// How long load is offered.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// Where the server keeps what it must not lose.
    #[arg(long, value_enum, default_value = "sqlite")]
    pub store: StoreKind,
    /// A setting of the server; may be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    pub settings: Vec<(String, String)>,
    /// Decides where within its share of time each request is.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The p99 of polls must stay below this.
    #[arg(long, default_value_t = 50.0, value_name = "MS")]
    pub p99_ms: f64,
    /// Threads that the devices poll from.
    #[arg(long, default_value_t = 1)]
    pub threads: u32,
    /// Also write the report to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the page with plots to this file [default: fleet/MODE.html in Cargo's target directory].
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Run this server; without it, the workspace's is built.
    #[arg(long, value_name = "FILE")]
    pub binary: Option<PathBuf>,
}

impl Polling {
    /// Runs what they say and writes the files.
    pub async fn run(self) -> Result<Report, LoadError> {
        let rate = self.rate.unwrap_or(f64::from(self.devices) / INTERVAL_SECS);
        let (devices, connections, consents) = (self.devices, self.connections, self.consents);
        let change = |plan| Plan { devices, rate, connections, consents, ..plan };
        self.common.run(Mode::Polling, change).await
    }
}

impl Consenting {
    /// Runs what they say and writes the files.
    pub async fn run(self) -> Result<Report, LoadError> {
        let consents = self.consents;
        self.common.run(Mode::Consenting, |plan| Plan { consents, ..plan }).await
    }
}

impl Reconnecting {
    /// Runs what they say and writes the files.
    pub async fn run(self) -> Result<Report, LoadError> {
        let Self { devices, rate, connections, consents, common } = self;
        let change = |plan| Plan { devices, rate, connections, consents, ..plan };
        common.run(Mode::Reconnecting, change).await
    }
}

impl Common {
    async fn run(self, mode: Mode, change: impl FnOnce(Plan) -> Plan + Send) -> Result<Report, LoadError> {
        let binary = self.binary.map_or_else(proxy_build::proxy, Ok)?;
        let plan = change(Plan {
            length: Duration::from_secs(self.seconds),
            store: self.store,
            settings: self.settings,
            seed: self.seed,
            threads: self.threads,
            p99: Some(Duration::try_from_secs_f64(self.p99_ms / 1e3).unwrap_or_default()),
            progress: true,
            ..Plan::new(binary, mode)
        });
        let report = run(plan).await?;
        if let Some(path) = self.json {
            write(&path, &format!("{:#}\n", report.to_json()))?;
        }
        if let Some(path) = self.html.or_else(|| page_path(mode)) {
            write(&path, &page::page(&report)?)?;
            eprintln!("plots are in {}", path.display());
        }
        Ok(report)
    }
}

impl Plan {
    /// No load yet, with `binary` as the server: callers say how much.
    pub fn new(binary: impl Into<PathBuf>, mode: Mode) -> Self {
        Self {
            binary: binary.into(),
            mode,
            devices: 0,
            rate: 0.0,
            connections: 1_000,
            consents: 0.0,
            length: Duration::from_secs(60),
            grace: GRACE,
            store: StoreKind::Sqlite,
            settings: Vec::new(),
            seed: 1,
            threads: 1,
            p99: None,
            progress: false,
        }
    }
}

/// `fleet/MODE.html` beside the directory that this program was built in.
fn page_path(mode: Mode) -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let name = format!("{mode:?}.html").to_lowercase();
    Some(own.parent()?.parent()?.join("fleet").join(name))
}

fn write(path: &Path, text: &str) -> Result<(), LoadError> {
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let written = made.and_then(|()| std::fs::write(path, text));
    written.map_err(|source| LoadError::Write { path: path.to_owned(), source })
}

fn setting(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is wanted")?;
    Ok((name.to_owned(), value.to_owned()))
}
