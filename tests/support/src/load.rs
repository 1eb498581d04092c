//! More devices than a town has, in front of the real server, from one process: `cargo fleet polling`, `consenting` and
//! `reconnecting`.
//!
//! It owns the server (`FLOW=DEVICE`), the simulated Enedis, the devices and the people for as long as a run takes. The
//! load is an **open loop**: every request has a planned instant, and its latency is counted from there to the answer.
//! A connection has one request under way; those planned meanwhile wait for it, with the clock running, so that a server
//! that falls behind is not spared in the figures, though it is asked no more at once than there are connections. What
//! was sent late because the devices' own thread was busy is told apart, so that trouble of the generator is not taken
//! for trouble of the server.
//!
//! ```text
//!             a thread of devices ── polls, 1 every interval each ──► server ── token, quota ──► simulated Enedis
//! people (the caller's runtime) ── pages, consents, tokens ───────►        └─► SQLite | MongoDB
//! ```
//!
//! It promises a [`Report`] that judges each requirement, an end at the planned length and a grace, and nothing left
//! behind. `cargo bench --bench
//! http` runs the same [`Devices`] as a closed loop.

mod devices;
mod flows;
mod line;
mod report;
mod schedule;
mod tally;
#[cfg(test)]
mod tests;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Parser;
use tokio::time::Instant;

pub use self::devices::{Devices, Settings};
pub use self::flows::Consents;
pub use self::report::{Cpu, Enedis, Polls, Report, Setup, Use};
pub use self::schedule::{Pace, Schedule};
pub use self::tally::{Answer, Errors, LATE, Second, Tally, Times};
use crate::enedis::{Endpoint, GeneratedMeters, Meters, Options, Quota};
use crate::plugin::CLIENT_ID;
use crate::process::resident;
use crate::report::{Judged as _, Progress, RunError, write_json};
use crate::server::build_proxy;
use crate::world::StoreKind;
use crate::world::{World, complaints, secs, setting};

/// Seconds between two polls of a device, as the server tells it.
const INTERVAL_SECS: f64 = 5.0;
/// Time between the last code and the first poll.
const PAUSE: Duration = Duration::from_millis(200);
/// Calls to Enedis allowed for each consent offered.
const CALLS_PER_CONSENT: f64 = 1.2;
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// What a run is to be, as the command line has it.
#[derive(Clone, Debug, Parser)]
pub struct Plan {
    /// Devices, each with a pending code; 0: only consents are wanted.
    #[arg(long, default_value_t = 200_000)]
    pub devices: u32,
    /// Polls in a second, by all devices; default: each polls every 5 s.
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// Connections the devices share; of those that reconnect, how many poll at a time.
    #[arg(long, default_value_t = 1_000)]
    pub connections: u32,
    /// Whole device flows begun in a second, from the code to the token.
    #[arg(long, default_value_t = 0.0, value_name = "PER_SECOND")]
    pub consents: f64,
    /// How long load is offered.
    #[arg(long = "seconds", default_value = "60", value_parser = secs)]
    pub length: Duration,
    /// Where the server keeps what it must not lose.
    #[arg(long, value_enum, default_value = "sqlite")]
    pub store: StoreKind,
    /// A setting of the server; may be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    pub settings: Vec<(String, String)>,
    /// The p99 of polls must stay below this.
    #[arg(long, default_value = "50", value_name = "MS")]
    pub p99_ms: Option<f64>,
    /// Also write the report to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Run this server; without it, the workspace's is built.
    #[arg(long, value_name = "FILE")]
    pub binary: Option<PathBuf>,
    /// Each poll has a connection of its own.
    #[arg(skip)]
    pub reconnects: bool,
    /// How long answers are waited for after the last request.
    #[arg(skip = Duration::from_secs(30))]
    pub grace: Duration,
    /// Tells on standard error how far it is.
    #[arg(skip = true)]
    pub progress: bool,
}

impl Plan {
    /// The defaults of the command line, for a test: with `binary` as the server, told to nobody, as slow as may be.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self { binary: Some(binary.into()), p99_ms: None, progress: false, ..Self::parse_from(["load"]) }
    }

    fn check(&self) -> Result<(), RunError> {
        let rates = [self.rate(), self.consents];
        let wrong = if rates.iter().any(|rate| !(0.0..=10_000_000.0).contains(rate)) {
            "rates must be from 0 to 10000000 a second"
        } else if !(1..=3_600).contains(&self.length.as_secs()) {
            "a run takes 1 to 3600 seconds"
        } else if self.devices > 0 && (self.rate() <= 0.0 || self.connections == 0) {
            "devices want a rate and a connection"
        } else if self.devices == 0 && self.consents <= 0.0 {
            "neither devices nor consents are wanted"
        } else {
            return Ok(());
        };
        Err(RunError::Plan(wrong.into()))
    }

    fn rate(&self) -> f64 {
        self.rate.unwrap_or(f64::from(self.devices) / INTERVAL_SECS)
    }

    fn schedule(&self) -> Schedule {
        let Self { devices, length, .. } = *self;
        Schedule { devices, connections: self.connections.min(devices), rate: self.rate(), length }
    }
}

/// Runs `plan` to its end, and writes the JSON file if one is wanted. Dropped before, it leaves nothing behind.
///
/// # Panics
/// If no loopback port or temporary directory is to be had, or there is no `mongod` when one is wanted.
pub async fn run(plan: &Plan) -> Result<Report, RunError> {
    plan.check()?;
    let mut progress = Progress::new(plan.progress);
    let world = world(plan).await?;
    let server = world.start().await?;
    let address: SocketAddr = server.listen().parse().map_err(io::Error::other)?;
    let mut report = Report::new(plan);
    let Plan { devices: count, connections, reconnects, length, grace, .. } = *plan;
    let mut devices = Devices::new(Settings { address, devices: count, connections, reconnects })?;
    if count > 0 {
        let (empty, begun) = (resident(server.pid())?, Instant::now());
        devices.fill().await?;
        let grown = resident(server.pid())?.saturating_sub(empty);
        report.setup = Some(Setup::new(count, begun.elapsed(), grown));
    }
    let polls = Arc::new(Mutex::new(Tally::new(length + grace)));
    let consents = Arc::new(Mutex::new(Consents::new(length + grace)));
    let start = Instant::now() + PAUSE;
    let offering = async {
        let polling = async {
            if count > 0 {
                devices.poll(Pace::Planned(plan.schedule()), start, grace, &polls).await;
            }
        };
        tokio::join!(polling, flows::run(plan, server.base_url(), start, &consents))
    };
    let look = || standing(start.elapsed().min(length).as_secs(), &locked(&polls), &locked(&consents));
    let (taken, _) =
        tokio::join!(report::watch(server.pid(), start, length), progress.during(offering, look));
    report.polls = (count > 0).then(|| Polls::new(plan, locked(&polls).clone()));
    report.consents = (plan.consents > 0.0).then(|| locked(&consents).clone().finished());
    report.used = Use::new(taken?, length, report.polls.as_ref());
    let counts = world.enedis.counts();
    let (calls, throttled) = (counts.requests(Endpoint::Token), counts.throttled(Endpoint::Token));
    report.enedis = Enedis { calls, throttled };
    server.end(STOP_WITHIN).await?;
    report.server_said = complaints(&server);
    if let Some(path) = &plan.json {
        write_json(path, &report.to_json())?;
    }
    Ok(report)
}

/// A server whose sessions outlive a run, and whose devices are told to poll every five seconds.
async fn world(plan: &Plan) -> Result<World, RunError> {
    let binary = plan.binary.clone().map_or_else(build_proxy, Ok)?;
    let quota = quota(plan);
    let options = Options {
        client_id: CLIENT_ID.into(),
        meters: Meters::Generated(GeneratedMeters { count: u32::MAX, producer_every: 0 }),
        token_quota: Some(quota),
        ..Options::default()
    };
    let world = World::new(binary, options, plan.store).await;
    // A name would have to be looked up for each person.
    let base_url = world.builder.base_url().replace("localhost", "127.0.0.1");
    let calls = |limit: Option<u32>| limit.unwrap_or(u32::MAX).to_string();
    let settings = [
        ("BASE_URL", base_url),
        ("FLOW", "DEVICE".into()),
        ("ENEDIS_CALLS_PER_SECOND", calls(quota.per_second)),
        ("ENEDIS_CALLS_PER_HOUR", calls(quota.per_hour)),
        ("LIMIT_REQUESTS_PER_MINUTE", "12".into()),
        ("CODE_LIFETIME_SECS", "86400".into()),
        ("MAX_PENDING_SESSIONS", (u64::from(plan.devices) + 1_000_000).to_string()),
        // What is needed to know that it is ready.
        ("RUST_LOG", "warn,device_flow_proxy::app=info".into()),
    ];
    Ok(world.with(settings).with(plan.settings.clone()))
}

/// What Enedis takes, and the server is told it takes: a fifth more calls than consents are offered.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is not negative")]
fn quota(plan: &Plan) -> Quota {
    let per_second = (plan.consents * CALLS_PER_CONSENT).ceil().max(5.0);
    let per_hour = (per_second * (plan.length + plan.grace).as_secs_f64()).max(1_000.0);
    Quota { per_second: Some(per_second as u32), per_hour: Some(per_hour as u32) }
}

/// A line that says how far a run is.
fn standing(passed: u64, polls: &Tally, consents: &Consents) -> String {
    let (wrong, failed) = (polls.errors.total(), consents.errors.total());
    format!(
        "{passed} s: of {} polls {} answered, {wrong} wrong; of {} consents {} completed, {failed} failed",
        polls.sent, polls.answered, consents.started, consents.completed
    )
}

fn locked<T>(tally: &Mutex<T>) -> MutexGuard<'_, T> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
