//! One measurement: a server of its own, its sessions, rounds of polls beside the floor's, and a restart.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use testkit::enedis::Options;
use testkit::load::{Cpu, Devices, Pace, Settings, Setup, Tally};
use testkit::plugin::CLIENT_ID;
use testkit::process::resident;
use testkit::world::StoreKind;
use testkit::world::{World, setting};
use tokio::time::Instant;

use crate::Fault;
use crate::floor::Floor;
use crate::report::{self, Round};

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Plan {
    /// Sessions pending while polls are measured
    #[arg(long, default_value_t = 100_000)]
    pub pending: u32,
    /// Connections, each with one request under way
    #[arg(long, default_value_t = 64)]
    pub connections: u32,
    /// Length of a round, in seconds
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Rounds of the server, and as many of the floor
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Where the sessions are kept
    #[arg(long, value_enum, default_value = "sqlite")]
    pub store: StoreKind,
    /// Over which connections devices poll
    #[arg(long, value_enum, default_value = "own")]
    pub polls: Polls,
    /// A setting of the server, as in WORKERS=2; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    pub settings: Vec<(String, String)>,
}

/// Over which connection a device polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Polls {
    /// The one over which it asked for its code, as the plugin does.
    Own,
    /// Any other, as behind a reverse proxy that shares its connections.
    Shared,
    /// A new one for each poll.
    New,
}

/// Time a restart may take with everything in the store.
const RESTART_WITHIN: Duration = Duration::from_secs(120);
/// Time the server may take to stop, and an answer to come.
const STOP_WITHIN: Duration = Duration::from_secs(30);

impl Plan {
    /// Measures it, prints the figures, and returns them.
    pub async fn run(&self) -> Result<Value, Fault> {
        let world = self.world().await;
        let server = world.start().await?;
        let workers = self.settings.iter().rev().find(|(name, _)| name == "WORKERS");
        let floor = Floor::start(match workers {
            Some((_, count)) => count.parse()?,
            None => std::thread::available_parallelism()?.get(),
        })?;

        let empty = resident(server.pid())?;
        let grown = |pid| Ok::<_, Fault>(resident(pid)?.saturating_sub(empty));
        let each = |bytes: u64| bytes as f64 / f64::from(self.pending.max(1));
        eprintln!("asking for {} device codes", self.pending);
        let mut devices = Devices::new(Settings {
            address: server.listen().parse()?,
            devices: self.pending,
            connections: self.connections,
            reconnects: self.polls == Polls::New,
        })?;
        let begun = Instant::now();
        devices.fill().await?;
        let setup = Setup::new(self.pending, begun.elapsed(), grown(server.pid())?);
        if self.polls == Polls::Shared {
            devices.mix();
        }
        let mut beside = devices.elsewhere(floor.address())?;
        let (mut of_server, mut of_floor) = (Vec::new(), Vec::new());
        for number in 1..=self.rounds {
            let [one, other] =
                [self.round(&mut devices, server.pid()).await?, self.round(&mut beside, floor.pid()).await?];
            eprintln!("round {number}: {:.0} polls/s, floor {:.0} polls/s", one.rate(), other.rate());
            of_server.push(one);
            of_floor.push(other);
        }
        let bytes_polled = each(grown(server.pid())?);
        drop((devices, beside));
        server.stop(STOP_WITHIN).await?;
        let begun = Instant::now();
        let server = world.start().await?;
        let restart = begun.elapsed();
        let mut figures = report::of_rounds(&of_server, &of_floor);
        figures["codes_per_second"] = setup.per_second.into();
        figures["bytes_per_session"] = setup.bytes_per_session.into();
        figures["bytes_per_polled_session"] = bytes_polled.into();
        figures["bytes_per_session_after_restart"] = each(grown(server.pid())?).into();
        figures["restart_seconds"] = restart.as_secs_f64().into();
        println!("{}\n{}", report::sides(&of_server, &of_floor), report::figures(&figures, None));
        Ok(figures)
    }

    async fn round(&self, devices: &mut Devices, pid: u32) -> Result<Round, Fault> {
        let length = Duration::from_secs(self.seconds);
        let tally = Arc::new(Mutex::new(Tally::new(length)));
        let (before, begun) = (Cpu::now(pid)?, Instant::now());
        devices.poll(Pace::Answered(length), begun, STOP_WITHIN, &tally).await;
        let (took, cpu) = (begun.elapsed(), Cpu::now(pid)?.since(before));
        let tally = Arc::into_inner(tally).ok_or("devices still poll")?.into_inner()?;
        if tally.errors.total() > 0 {
            return Err(format!("polls went wrong: {:?}", tally.errors).into());
        }
        Ok(Round { polls: tally.answered, slow_down: tally.slow_down, took, cpu })
    }

    /// A server whose sessions outlive the bench, and whose interval is the shortest there is, a second: each session may
    /// be polled 1.25 times a second before it is told to slow down.
    async fn world(&self) -> World {
        let options = Options { client_id: CLIENT_ID.into(), ..Options::default() };
        let mut world = World::new(env!("CARGO_BIN_EXE_device-flow-proxy"), options, self.store).await;
        world.builder = world.builder.ready_within(RESTART_WITHIN);
        world
            .with([
                ("LIMIT_REQUESTS_PER_MINUTE", "60000"),
                ("CODE_LIFETIME_SECS", "86400"),
                ("MAX_PENDING_SESSIONS", "10000000"),
            ])
            .with(self.settings.clone())
    }
}
