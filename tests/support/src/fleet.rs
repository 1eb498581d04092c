//! A fleet of boxes in front of the real server, over several days: who is served, and what it costs at Enedis.
//!
//! It owns the server (`FLOW=CLIENT_CREDENTIALS`), the simulated Enedis, the boxes and their owners for as long as a run
//! takes. Within a day everything happens at the pace of the field, as the quota, the waits and the heartbeat of ten
//! seconds are what is tried. Between days, and while every box waits for its next hour, the server is stopped and
//! started again on the same data with its clock, Enedis' and the boxes' put forward.
//!
//! ```text
//! day 1, 8:00      boxes are switched on within a minute: codes, consent, tokens, data
//!    │ all waiting for the next hour: stop, clocks forward, start ─┐
//!    │◄────────────────────────────────────────────────────────────┘ until none is left
//! day 2, 8:00      stop, clocks forward, start; boxes ask for one day more
//! (again)          every box forgets its data and asks the last day once more: the server's cache has it
//! ```
//!
//! It promises a [`Report`] that judges each requirement, and nothing left behind. It refuses plans that cannot be
//! judged ([`RunError::Plan`]). A box that its server leaves without an answer does not end a run; it is reported.

mod boxes;
mod crowd;
mod report;
#[cfg(test)]
mod tests;
mod world;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;

use self::boxes::Start;
use self::crowd::Crowd;
pub use self::report::{DayReport, OutageReport, Report, Verdict};
use self::world::World;
use crate::calendar::Day;
use crate::enedis::GeneratedMeters;
use crate::report::{Judged as _, Progress, RunError, write_json};
pub use crate::world::StoreKind;
use crate::world::secs;

/// Most hours that the clocks are put forward for boxes which gave up, on one day: from 8 to 22 o'clock.
const HOURS_A_DAY: u32 = 14;

/// What a run is to be, as the command line has it.
#[derive(Clone, Debug, Parser)]
pub struct Plan {
    /// How many boxes, one meter each.
    #[arg(long, default_value_t = 200)]
    pub boxes: u32,
    /// How many days.
    #[arg(long, default_value_t = 3)]
    pub days: u32,
    /// Seconds, on the wall, within which the boxes arrive each morning.
    #[arg(long, default_value = "60", value_name = "SECONDS", value_parser = secs)]
    pub arrive_within: Duration,
    /// `ENEDIS_API_MODE` of the server.
    #[arg(long, value_enum, default_value = "auto")]
    pub api: ApiMode,
    /// Where the server keeps what it must not lose.
    #[arg(long, value_enum, default_value = "sqlite")]
    pub store: StoreKind,
    /// Version of Enedis' consent page.
    #[arg(long, value_enum, default_value = "v1")]
    pub authorize: Authorize,
    /// Every so-many-th meter also produces; 0: none.
    #[arg(long = "producers", default_value_t = 0, value_name = "EVERY_N")]
    pub producer_every: u32,
    /// Decides what is drawn at random: arrivals, owners, minutes.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What is wrong at Enedis on day 2.
    #[arg(long, value_enum)]
    pub outage: Option<Outage>,
    /// Let the server run from 06:00 on before each day but the first, until it has fetched what boxes will ask for.
    #[arg(long)]
    pub night: bool,
    /// Instances of the server, between which boxes are divided; SQLite serves one.
    #[arg(long, default_value_t = 1)]
    pub instances: usize,
    /// After the last day, let every box forget its data and ask that day again.
    #[arg(long)]
    pub again: bool,
    /// How much faster the clocks of the boxes run than the wall's. Other than 1, the server's limits are tried less: they
    /// stay those of the wall, but for its polls a minute, which are raised as much.
    #[arg(long, default_value_t = 1.0)]
    pub speed: f64,
    /// Also write the report to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Run this server; without it, the workspace's is built.
    #[arg(long, value_name = "FILE")]
    pub binary: Option<PathBuf>,
    /// Longest time on the wall for one round of boxes; those still busy then count as unfinished.
    #[arg(skip = Duration::from_secs(1_800))]
    pub round_within: Duration,
    /// Tells on standard error how far it is.
    #[arg(skip = true)]
    pub progress: bool,
}

/// `ENEDIS_API_MODE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ApiMode {
    /// The server finds out.
    Auto,
    /// `mesure_synchrone_auto/v2`.
    New,
    /// `metering_data_…/v5`.
    Legacy,
}

/// Version of Enedis' consent page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Authorize {
    /// The callback names the meter.
    V1,
    /// The callback names an authorisation.
    V2,
}

/// What is wrong at Enedis on the second day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Outage {
    /// From 8 to 9 o'clock every door closes the connection, answers 503 or hangs, in turn.
    Down,
    /// From 8 to 9 o'clock every door answers 500.
    #[value(name = "500")]
    Errors,
    /// Closed until 8 o'clock by Enedis' clock, while those of the boxes are half a minute ahead.
    Night,
}

impl Plan {
    /// The defaults of the command line, for a test: with `binary` as the server, told to nobody.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self { binary: Some(binary.into()), progress: false, ..Self::parse_from(["fleet"]) }
    }

    fn check(&self) -> Result<(), RunError> {
        let wrong = if self.boxes == 0 || self.days == 0 {
            "there must be at least one box and one day"
        } else if self.outage.is_some() && self.days < 2 {
            "the outage is on day 2: there must be two days"
        } else if self.instances == 0 || (self.instances > 1 && self.store == StoreKind::Sqlite) {
            "there must be one instance, or several on MongoDB"
        } else if !(1.0..=100.0).contains(&self.speed) {
            "the speed must be from 1 to 100"
        } else {
            return Ok(());
        };
        Err(RunError::Plan(wrong.into()))
    }

    fn meters(&self) -> GeneratedMeters {
        GeneratedMeters { count: self.boxes, producer_every: self.producer_every }
    }
}

/// Runs `plan` to its end, and writes the JSON file if one is wanted. Dropped before, it leaves nothing behind.
///
/// # Panics
/// If no loopback port or temporary directory is to be had, or there is no `mongod` when one is wanted.
pub async fn run(plan: Plan) -> Result<Report, RunError> {
    plan.check()?;
    let mut progress = Progress::new(plan.progress);
    let mut world = World::start(&plan).await?;
    let mut crowd = Crowd::new(&plan, &world.urls(), world.first_day());
    let mut report = Report::new(&plan);
    let days = (1..=plan.days).map(|number| (format!("day {number}"), number, Start::Morning));
    for (name, number, start) in days.chain(plan.again.then(|| ("again".into(), plan.days, Start::Again))) {
        let day = world.first_day().plus(i64::from(number) - 1);
        match start {
            Start::Morning if number == 1 => {}
            Start::Morning | Start::Resume => {
                world.enedis().reset_counts();
                if plan.night {
                    world.night(day).await?;
                }
                world.morning(day, plan.outage.filter(|_| number == 2)).await?;
            }
            Start::Again => world.enedis().reset_counts(),
        }
        let at_night = plan.night.then(|| world.enedis().counts().data_requests());
        let told = run_day(&plan, &mut world, &mut crowd, &mut progress, (&name, day, start)).await?;
        let told = DayReport { at_night: at_night.filter(|_| number > 1), ..told };
        if start == Start::Again { report.again = Some(told) } else { report.days.push(told) }
    }
    world.stop().await?;
    report.server_said = world.said();
    report.owners_said = crowd.owners_said();
    if let Some(path) = &plan.json {
        write_json(path, &report.to_json())?;
    }
    Ok(report)
}

/// One day, or the last one again: rounds of boxes until none is left that would come back on the same day.
async fn run_day(
    plan: &Plan,
    world: &mut World,
    crowd: &mut Crowd,
    progress: &mut Progress,
    (name, day, start): (&str, Day, Start),
) -> Result<DayReport, RunError> {
    crowd.begin_day();
    let mut next = start;
    let mut aligned = Instant::now();
    for hour in 0..=HOURS_A_DAY {
        crowd
            .round(day, next, plan.round_within, |served| {
                world.end_outage_if_due();
                progress.tell(|| {
                    let calls = world.enedis().counts().data_requests();
                    format!("{name}: served {served} of {}, calls to Enedis {calls}", plan.boxes)
                });
            })
            .await;
        let Some(wait) = crowd.until_next(day).filter(|_| hour < HOURS_A_DAY) else { break };
        // Clocks of boxes that run faster are ahead: the others catch up.
        let lag = aligned.elapsed().mul_f64(plan.speed - 1.0);
        world.skip(wait + lag).await?;
        crowd.skip(wait);
        aligned = Instant::now();
        next = Start::Resume;
    }
    let outage = world.end_outage();
    Ok(DayReport::new(plan, name, crowd, outage, &world.enedis().counts()))
}
