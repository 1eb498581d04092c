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

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use testkit::mongod::Mongod;
use testkit::process;
use testkit::server::{Builder, Server};
use testkit::wire;

use self::devices::Load;
use self::floor::Floor;
use self::report::{Report, Round};

/// What can go wrong ends the bench.
type Fault = Box<dyn std::error::Error + Send + Sync>;

const BINARY: &str = env!("CARGO_BIN_EXE_device-flow-proxy");

/// Polls and device codes over HTTP, beside a bare handler
#[derive(Parser)]
struct Arguments {
    /// Sessions pending while polls are measured
    #[arg(long, default_value_t = 100_000)]
    pending: usize,
    /// Connections that poll, each as fast as it is answered
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
    /// Settings of the server, as in WORKERS=2; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Said by `cargo bench`; without it everything is done once, and small
    #[arg(long, hide = true)]
    bench: bool,
    /// Be the floor
    #[arg(long, hide = true, value_name = "WORKERS")]
    floor: Option<usize>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
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
        .block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<(), Fault> {
    let mongod = match arguments.store {
        Store::Sqlite => None,
        Store::Mongodb => Some(Mongod::shared()),
    };
    let server = builder(arguments, mongod.as_ref())?.start().await?;
    let workers = std::thread::available_parallelism()?.get();
    let floor = Floor::start(workers)?;

    let empty = process::resident(server.pid())?;
    eprintln!("asking for {} device codes", arguments.pending);
    let (codes, issued) =
        devices::ask_for_codes(server.listen(), arguments.connections, arguments.pending).await?;
    let full = process::resident(server.pid())?;
    let mut report =
        Report::new(arguments.pending, arguments.connections, issued, full.saturating_sub(empty));

    let requests = Arc::new(codes.iter().map(|code| wire::poll(devices::CLIENT, code)).collect::<Vec<_>>());
    let length = Duration::from_secs(arguments.seconds);
    for round in 0..arguments.rounds {
        for (name, address, pid) in
            [("server", server.listen(), server.pid()), ("floor", floor.address(), floor.pid())]
        {
            let load = Load { address: address.to_owned(), connections: arguments.connections, length };
            let before = process::cpu(pid)?;
            let done = load.run(&requests).await?;
            let cpu = process::cpu(pid)?.saturating_sub(before);
            eprintln!("round {} {name}: {:.0} polls/s", round + 1, done.rate());
            report.add(name, Round { done, cpu });
        }
    }
    println!("{report}");
    if let Some(path) = &arguments.json {
        std::fs::write(path, report.to_json(&format!("{:?}", arguments.store))?)?;
    }
    Ok(())
}

/// A server whose sessions outlive the bench and may be polled at any rate it can reach.
fn builder(arguments: &Arguments, mongod: Option<&Arc<Mongod>>) -> Result<Builder, Fault> {
    let mut builder = Server::builder(BINARY)
        .env("CLIENT_ID", devices::CLIENT)
        .env("CLIENT_SECRET", "not-used-here")
        .env("LIMIT_REQUESTS_PER_MINUTE", "60000")
        .env("CODE_LIFETIME_SECS", "86400")
        .env("MAX_PENDING_SESSIONS", "10000000");
    if let Some(mongod) = mongod {
        builder = builder.env("MONGODB_URI", mongod.uri("bench_http"));
    }
    for setting in &arguments.settings {
        let (name, value) = setting.split_once('=').ok_or("--set wants NAME=VALUE")?;
        builder = builder.env(name, value);
    }
    Ok(builder)
}
