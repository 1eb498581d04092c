//! Polls and device codes over HTTP, beside the **floor**: a bare actix-web handler that reads the same form and answers
//! the same constant. `cargo bench --bench http -- --help` tells what can be asked.
//!
//! The devices are those of `cargo fleet`, but in a closed loop: what is asked for is how much the server can do, not how
//! long a device waits. The server, the floor and the devices are three processes of one machine, so that only ratios of
//! one run mean something: rounds alternate, medians are told. Nothing is asserted.

#[path = "http/floor.rs"]
mod floor;
#[path = "http/report.rs"]
mod report;
#[path = "http/run.rs"]
mod run;

use std::path::PathBuf;

use clap::{Parser, ValueEnum as _};
use serde_json::{Value, json};
use testkit::report::{Machine, write_json};
use testkit::world::StoreKind;

use self::run::{Plan, Polls};

// The server's own: the floor, which is this program as well, must not lose by another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What can go wrong ends the bench.
type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Polls and device codes over HTTP, beside a bare handler
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    plan: Plan,
    /// Measure each of these values of a setting, or of pending, connections, store or polls
    #[arg(long, value_name = "NAME=VALUE,VALUE", value_parser = testkit::world::setting)]
    sweep: Option<(String, String)>,
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Compare with figures that --json wrote
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Said by `cargo bench`; without it everything is done once, and small
    #[arg(long, hide = true)]
    bench: bool,
    /// Be the floor
    #[arg(long, hide = true, value_name = "WORKERS")]
    floor: Option<usize>,
}

fn main() -> Result<(), Fault> {
    let mut arguments = Arguments::parse();
    if let Some(workers) = arguments.floor {
        return floor::serve(workers);
    }
    if !arguments.bench {
        let plan = arguments.plan;
        arguments.plan = Plan { pending: 200, connections: 4, seconds: 1, rounds: 1, ..plan };
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(arguments.run())
}

impl Arguments {
    async fn run(self) -> Result<(), Fault> {
        let plan = &self.plan;
        // Read first: a baseline that cannot be read is told before the minutes of a measurement.
        let baseline = self.baseline.as_deref().map(std::fs::read).transpose()?;
        let baseline: Option<Value> = baseline.map(|text| serde_json::from_slice(&text)).transpose()?;
        let (mut points, mut measured) = (Vec::new(), Value::Null);
        if let Some((name, values)) = &self.sweep {
            for value in values.split(',') {
                println!("{name} = {value}");
                measured = change(plan.clone(), name, value)?.run().await?;
                points.push(json!({ "value": value, "figures": measured }));
            }
        } else {
            println!("{} sessions pending, {} connections, {:?}", plan.pending, plan.connections, plan.store);
            measured = plan.run().await?;
        }
        if let Some(baseline) = baseline {
            println!("since {}", baseline["machine"]["commit"]);
            print!("{}", report::figures(&measured, Some(&baseline["figures"])));
            if baseline["plan"] != json!(format!("{plan:?}")) {
                println!("the plans differ: {}", baseline["plan"]);
            }
        }
        if let Some(path) = &self.json {
            let sweep = self.sweep.map(|(name, _)| json!({ "name": name, "points": points }));
            let plan = format!("{plan:?}");
            let whole =
                json!({ "machine": Machine::this(), "plan": plan, "figures": measured, "sweep": sweep });
            write_json(path, &whole)?;
        }
        Ok(())
    }
}

/// The plan with another value of one option, or of a setting of the server.
fn change(mut plan: Plan, name: &str, value: &str) -> Result<Plan, Fault> {
    match name {
        "pending" => plan.pending = value.parse()?,
        "connections" => plan.connections = value.parse()?,
        "store" => plan.store = StoreKind::from_str(value, true)?,
        "polls" => plan.polls = Polls::from_str(value, true)?,
        setting => plan.settings.push((setting.to_owned(), value.to_owned())),
    }
    Ok(plan)
}
