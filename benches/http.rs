//! Polls and device codes over HTTP, beside the **floor**: a bare actix-web handler that reads the same form and answers
//! the same constant. `cargo bench --bench http -- --help` tells what can be asked.
//!
//! The server, the floor and the devices are three processes of one machine, so that only ratios of one run mean
//! something: rounds alternate, medians are told. Nothing is asserted.

#[path = "http/devices.rs"]
mod devices;
#[path = "http/floor.rs"]
mod floor;
#[path = "http/report.rs"]
mod report;
#[path = "http/run.rs"]
mod run;
#[path = "http/sweep.rs"]
mod sweep;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};

use self::devices::Polls;
use self::report::COMPARED;
use self::run::Plan;
use self::sweep::Sweep;

// The server's own: the floor, which is this program as well, must not lose by another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What can go wrong ends the bench.
type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Polls and device codes over HTTP, beside a bare handler
#[derive(Parser)]
struct Arguments {
    /// Sessions pending while polls are measured
    #[arg(long, default_value_t = 100_000)]
    pending: usize,
    /// Connections, each with one request under way
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Length of a round, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Rounds of the server, and as many of the floor
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Where the sessions are kept
    #[arg(long, value_enum, default_value_t = Store::Sqlite)]
    store: Store,
    /// Over which connections devices poll
    #[arg(long, value_enum, default_value_t = Polls::Own)]
    polls: Polls,
    /// A setting of the server, as in WORKERS=2; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Measure each of these values of a setting, or of pending, connections, store or polls
    #[arg(long, value_name = "NAME=VALUE,VALUE", value_parser = Sweep::parse)]
    sweep: Option<Sweep>,
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Compare with figures that --json wrote
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Draw each figure of a sweep into this directory, as SVG
    #[arg(long, value_name = "DIRECTORY")]
    plots: Option<PathBuf>,
    /// Said by `cargo bench`; without it everything is done once, and small
    #[arg(long, hide = true)]
    bench: bool,
    /// Be the floor
    #[arg(long, hide = true, value_name = "WORKERS")]
    floor: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Store {
    Sqlite,
    Mongodb,
}

fn main() -> Result<(), Fault> {
    let mut arguments = Arguments::parse();
    if let Some(workers) = arguments.floor {
        return floor::serve(workers);
    }
    if !arguments.bench {
        arguments = Arguments { pending: 200, connections: 4, seconds: 1, rounds: 1, ..arguments };
    }
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?
        .block_on(arguments.run())
}

impl Arguments {
    async fn run(self) -> Result<(), Fault> {
        let plan = Plan {
            pending: self.pending,
            connections: self.connections,
            round: Duration::from_secs(self.seconds),
            rounds: self.rounds,
            store: self.store,
            polls: self.polls,
            settings: self.settings.clone(),
        };
        // Read first: a baseline that cannot be read is told before the minutes of a measurement.
        let baseline = self.baseline.as_deref().map(read).transpose()?;
        let (sweep, measured) = if let Some(sweep) = &self.sweep {
            let points = sweep.run(&plan).await?;
            if let Some(directory) = &self.plots {
                std::fs::create_dir_all(directory)?;
                for (figure, title) in COMPARED {
                    std::fs::write(
                        directory.join(format!("{figure}.svg")),
                        sweep.plot(&points, figure, title)?,
                    )?;
                }
            }
            (sweep.to_json(&points), points.last().map(|(_, figures)| figures.clone()))
        } else {
            println!("{} sessions pending, {} connections, {:?}", plan.pending, plan.connections, plan.store);
            let figures = plan.run().await?;
            println!("{figures}");
            (Value::Null, Some(figures.to_json()))
        };
        if let (Some(baseline), Some(now)) = (baseline, &measured) {
            println!(
                "\nsince {}\n{}",
                baseline["machine"]["commit"],
                report::compare(now, &baseline["figures"])
            );
            if baseline["plan"] != json!(format!("{plan:?}")) {
                println!("the plans differ: {}", baseline["plan"]);
            }
        }
        if let Some(path) = &self.json {
            let whole = json!({
                "machine": testkit::load::Machine::this(),
                "plan": format!("{plan:?}"),
                "figures": measured,
                "sweep": sweep,
            });
            std::fs::write(path, format!("{whole:#}\n"))?;
        }
        Ok(())
    }
}

fn setting(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("wants NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn read(path: &Path) -> Result<Value, Fault> {
    Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
}
