//! More devices than a town has, in front of the real server, from one process: `cargo fleet polling`, `consenting` and
//! `reconnecting`.
//!
//! It owns the server (`FLOW=DEVICE`), the simulated Enedis, the devices and the people for as long as a run takes. The
//! load is an **open loop**: every request has a planned instant, and its latency is counted from there to the answer.
//! A connection has one request under way; those planned meanwhile wait for it, with the clock running, so that a server
//! that falls behind is not spared in the figures, though it is asked no more at once than there are connections. What
//! was sent late because the devices' own threads were busy is told apart, so that trouble of the generator is not taken
//! for trouble of the server.
//!
//! ```text
//!             threads of devices ── polls, 1 every interval each ──► server ── token, quota ──► simulated Enedis
//! people (the caller's runtime) ── pages, consents, tokens ───────►        └─► SQLite | MongoDB
//! ```
//!
//! It promises a [`Report`] that judges each requirement, an end at the planned length and a grace, and nothing left
//! behind. It refuses plans that the machine has no descriptors for ([`LoadError::Descriptors`]).

mod arguments;
mod devices;
mod flows;
mod line;
mod machine;
mod page;
mod progress;
mod report;
mod schedule;
mod table;
mod tally;
#[cfg(test)]
mod tests;
mod world;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

pub use self::arguments::{Consenting, Polling, Reconnecting};
pub use self::devices::LATE;
use self::devices::{Devices, Settings};
use self::flows::Flows;
pub use self::line::FillError;
pub use self::machine::Machine;
use self::progress::Progress;
pub use self::report::{Consents, Ending, Enedis, Moment, Polls, Report, Setup, Use};
use self::schedule::Schedule;
pub use self::tally::{Errors, Percentiles};
use self::world::World;
use crate::fleet::StoreKind;
use crate::plot::PlotError;
use crate::proxy_build::BuildError;
use crate::server::StartError;

/// Descriptors that are used for other things than devices: files, the database, people, Enedis.
const DESCRIPTORS_KEPT: usize = 500;
/// Time between the last code and the first poll.
const PAUSE: Duration = Duration::from_millis(200);

/// Who does what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Devices poll over connections that are kept; consents beside them.
    Polling,
    /// Consents only.
    Consenting,
    /// Devices poll, each time over a new connection.
    Reconnecting,
}

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server's binary.
    pub binary: PathBuf,
    /// Who does what.
    pub mode: Mode,
    /// Devices with a pending code each; 0 when only consents are wanted.
    pub devices: u32,
    /// Polls offered in a second, by all devices.
    pub rate: f64,
    /// Connections that the devices share; of those that reconnect, how many poll at a time.
    pub connections: u32,
    /// Whole device flows begun in a second.
    pub consents: f64,
    /// How long load is offered.
    pub length: Duration,
    /// How long answers are waited for after that.
    pub grace: Duration,
    /// Where the server keeps what it must not lose.
    pub store: StoreKind,
    /// Further settings of the server.
    pub settings: Vec<(String, String)>,
    /// Decides where within its share of time each request is.
    pub seed: u64,
    /// Threads that devices poll from.
    pub threads: u32,
    /// The p99 of polls must stay below; `None`: anything goes.
    pub p99: Option<Duration>,
    /// Tells on standard error how far it is.
    pub progress: bool,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The plan cannot be carried out.
    #[error("{0}")]
    Plan(&'static str),
    /// The process may not open as many sockets.
    #[error(
        "{wanted} connections are wanted, and {allowed} are to be had of the {limit} descriptors of a process: take fewer \
         --connections, or raise `ulimit -n` for this shell"
    )]
    Descriptors {
        /// Connections of the plan.
        wanted: usize,
        /// Connections there is room for.
        allowed: usize,
        /// `ulimit -n`.
        limit: usize,
    },
    /// There is no server to run.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The server does not start.
    #[error("the server does not start")]
    Start(#[from] StartError),
    /// The devices got no codes.
    #[error("the devices have no codes to poll with")]
    Fill(#[from] FillError),
    /// The devices cannot be run, or the kernel does not tell what the server takes.
    #[error("the load cannot be run or measured")]
    Io(#[from] io::Error),
    /// A plot cannot be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// The report cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Plan {
    fn check(&self) -> Result<(), LoadError> {
        let rates = [self.rate, self.consents];
        let wrong = if rates.iter().any(|rate| !(0.0..=10_000_000.0).contains(rate)) {
            "rates must be from 0 to 10000000 a second"
        } else if !(1..=3_600).contains(&self.length.as_secs()) {
            "a run takes 1 to 3600 seconds"
        } else if self.devices > 0 && (self.rate <= 0.0 || self.connections == 0 || self.threads == 0) {
            "devices want a rate, a connection and a thread"
        } else if self.devices == 0 && self.consents <= 0.0 {
            "neither devices nor consents are wanted"
        } else {
            return self.check_descriptors(machine::descriptors());
        };
        Err(LoadError::Plan(wrong))
    }

    /// The server, which inherits the limit, needs as many as we do.
    fn check_descriptors(&self, limit: Option<usize>) -> Result<(), LoadError> {
        let Some(limit) = limit else { return Ok(()) };
        let wanted = if self.devices > 0 { self.connections.min(self.devices) as usize } else { 0 };
        let allowed = limit.saturating_sub(DESCRIPTORS_KEPT);
        if wanted > allowed { Err(LoadError::Descriptors { wanted, allowed, limit }) } else { Ok(()) }
    }

    fn schedule(&self) -> Schedule {
        Schedule {
            devices: self.devices,
            connections: self.connections.min(self.devices),
            rate: self.rate,
            length: self.length,
            seed: self.seed,
        }
    }
}

/// Runs `plan` to its end. Dropped before, it leaves nothing behind.
///
/// # Panics
/// If no loopback port or temporary directory is to be had, or there is no `mongod` when one is wanted.
pub async fn run(plan: Plan) -> Result<Report, LoadError> {
    plan.check()?;
    let progress = Progress::new(&plan);
    let world = World::start(&plan).await?;
    let mut report = Report::new(&plan);
    let mut devices = None;
    let empty = world.resident()?;
    if plan.devices > 0 {
        let begun = Instant::now();
        let mut filling = Devices::start(Settings {
            address: world.address()?,
            schedule: plan.schedule(),
            threads: plan.threads,
            reconnects: plan.mode == Mode::Reconnecting,
            grace: plan.grace,
        })?;
        progress.filling(&mut filling).await?;
        report.setup =
            Some(Setup::new(plan.devices, begun.elapsed(), world.resident()?.saturating_sub(empty)));
        devices = Some(filling);
    }
    let flows = Flows::new(world.address()?, plan.consents, (plan.length, plan.grace), plan.seed);
    let start = Instant::now() + PAUSE;
    if let Some(devices) = &devices {
        devices.run_from(start);
    }
    let (used, ()) =
        tokio::join!(world.watch(start, plan.length), progress.running(start, devices.as_mut(), &flows));
    let used = used?;
    if let Some(devices) = &devices {
        report.polls = Some(Polls::new(&plan, &devices.tally()));
    }
    if plan.consents > 0.0 {
        report.consents = Some(Consents::new(&flows.tally()));
    }
    report.used = Use::new(&used, report.polls.as_ref());
    report.enedis = Enedis::new(&plan, &world.enedis().counts());
    (report.server_said, report.ending) = world.stop().await;
    Ok(report)
}
