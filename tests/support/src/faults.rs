//! Everything goes wrong, and a judge says what was lost: `cargo faults`.
//!
//! A scenario ([`Scenario`]) is data drawn from a seed: instances on a store, and troubles that begin at some moment. It
//! is played in a world of its own. Boxes ask for codes, poll, refresh, read and give their tokens up, owners consent and
//! refuse, all of them whatever happens; each request is noted with its answer, or with none. Then all that was wrong is
//! healed, every session is asked about once more, and a judge ([`judge`]) looks through what was told.
//!
//! ```text
//! seed ─► Scenario ─► troubles ─► instances ◄─ boxes, owners ─► events ─► judge ─► Report
//!                             └─► store, Enedis
//! ```
//!
//! It promises a [`Report`] with a verdict for each guarantee, and nothing left behind. Boxes draw from the seed too, but
//! the machine decides what meets what: a seed brings a fault back often, not always.

mod history;
mod report;
mod scenario;
mod site;
mod town;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Parser;
use futures_util::future::try_join_all;
use futures_util::{TryStreamExt as _, stream};
use tokio::time::sleep;

pub use self::history::{Act, Event, Findings, Guarantee, Said, judge};
pub use self::report::Report;
pub use self::scenario::{Scenario, Strike, Trouble};
use self::site::{Site, Stores};
use self::town::Town;
use crate::enedis::GeneratedMeters;
use crate::report::{Judged as _, Progress, RunError, write_json};
use crate::server::build_proxy;
use crate::world::{StoreKind, secs};

/// What a run is to be, as the command line has it.
#[derive(Clone, Debug, Parser)]
pub struct Plan {
    /// How many scenarios.
    #[arg(long, default_value_t = 20)]
    pub scenarios: u64,
    /// The seed of the first; the others follow.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where the server keeps what it must not lose.
    #[arg(long, value_enum, default_value = "sqlite")]
    pub store: StoreKind,
    /// With `mongodb`: a replica set of three, which the troubles are of.
    #[arg(long)]
    pub replica_set: bool,
    /// Instances of the server; SQLite serves one.
    #[arg(long, default_value_t = 1)]
    pub instances: usize,
    /// Only these troubles.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Trouble>,
    /// Troubles in a scenario; default: 3 to 8, as the seed has it.
    #[arg(long)]
    pub strikes: Option<u32>,
    /// How long the troubles begin within.
    #[arg(long = "seconds", default_value = "5", value_parser = secs)]
    pub length: Duration,
    /// Boxes that ask for one code after the other.
    #[arg(long, default_value_t = 8)]
    pub boxes: usize,
    /// Boxes that poll a code that nobody decides.
    #[arg(long, default_value_t = 4)]
    pub waiters: usize,
    /// Scenarios played at a time; of a replica set, one.
    #[arg(long, default_value_t = 2)]
    pub at_once: usize,
    /// Also write the report to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Run this server; without it, the workspace's is built.
    #[arg(long, value_name = "FILE")]
    pub binary: Option<PathBuf>,
    /// Tells on standard error how far it is.
    #[arg(skip = true)]
    pub progress: bool,
}

/// What was measured beside.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// From the start of a killed instance to its word that it is ready.
    pub restarts: Vec<Duration>,
    /// From the end of a primary to the next one.
    pub elections: Vec<Duration>,
    /// Warnings and errors of the server, by message.
    pub server_said: BTreeMap<String, u64>,
}

impl Plan {
    /// The defaults of the command line, for a test: with `binary` as the server, told to nobody.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self { binary: Some(binary.into()), progress: false, ..Self::parse_from(["faults"]) }
    }

    fn check(&self) -> Result<(), RunError> {
        let wrong = if self.scenarios == 0 || self.instances == 0 || self.at_once == 0 {
            "there must be at least one scenario, one instance, and one at a time"
        } else if self.store == StoreKind::Sqlite && (self.instances > 1 || self.replica_set) {
            "SQLite serves one instance, and is no replica set"
        } else if !self.only.iter().all(|trouble| trouble.fits(self)) {
            "not all of these troubles can be had with this store"
        } else {
            return Ok(());
        };
        Err(RunError::Plan(wrong.into()))
    }
}

/// Plays every scenario of `plan`, and writes the JSON file if one is wanted. Dropped before, it leaves nothing behind.
///
/// # Panics
/// If no loopback port or temporary directory is to be had, there is no C compiler, or no `mongod` when one is wanted.
pub async fn run(mut plan: Plan) -> Result<Report, RunError> {
    plan.check()?;
    plan.binary = Some(plan.binary.take().map_or_else(build_proxy, Ok)?);
    let stores = Stores::start(&plan).await;
    let at_once = if plan.replica_set { 1 } else { plan.at_once };
    let report = Mutex::new(Report::new(&plan));
    let seeds = plan.seed..plan.seed + plan.scenarios;
    let playing = stream::iter(seeds.map(|seed| Ok(Scenario::draw(&plan, seed)))).try_for_each_concurrent(
        at_once,
        async |scenario| {
            let (events, findings, measured) = play(&plan, &scenario, &stores).await?;
            locked(&report).add(&scenario, &events, findings, measured);
            Ok::<_, RunError>(())
        },
    );
    Progress::new(plan.progress).during(playing, || locked(&report).progress()).await?;
    let report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = &plan.json {
        write_json(path, &report.to_json())?;
    }
    Ok(report)
}

/// Plays `scenario`.
async fn play(
    plan: &Plan,
    scenario: &Scenario,
    stores: &Stores,
) -> Result<(Vec<Event>, Findings, Measured), RunError> {
    let site = Site::start(plan, scenario, stores).await?;
    let (events, mut findings) = {
        let town = Town::new(&site);
        let troubles = async {
            let strikes = scenario.strikes.iter().map(|strike| async {
                sleep(Duration::from_millis(strike.at_ms)).await;
                site.suffer(strike).await
            });
            let suffered = tokio::join!(try_join_all(strikes), sleep(plan.length)).0;
            town.stop();
            suffered
        };
        tokio::join!(troubles, town.live(scenario.seed, plan.boxes, plan.waiters)).0?;
        site.heal().await?;
        town.settle().await;
        let events = town.events();
        let findings = judge(&events, |number| {
            // Enedis' answer to a code names no meter of a box that holds one.
            GeneratedMeters::point(number)
        });
        (events, findings)
    };
    let again = site.world.enedis.seen().codes_presented_after_success();
    findings.look(Guarantee::OnceAtEnedis, again.is_empty(), || format!("{} codes", again.len()));
    Ok((events, findings, site.end().await?))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
