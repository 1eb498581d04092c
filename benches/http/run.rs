//! One measurement: a server of its own, its sessions, rounds of polls beside the floor's, and a restart.

use std::time::{Duration, Instant};

use testkit::mongod::{Kind, Mongod};
use testkit::process;
use testkit::server::{Builder, Server};

use crate::devices::{CLIENT, Crowd, Polls};
use crate::floor::Floor;
use crate::report::{Figures, Round};
use crate::{Fault, Store};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Sessions pending.
    pub pending: usize,
    /// Connections, each with one request under way.
    pub connections: usize,
    /// Length of a round.
    pub round: Duration,
    /// Rounds of the server, and as many of the floor.
    pub rounds: usize,
    /// Where the sessions are kept.
    pub store: Store,
    /// Over which connections they are polled.
    pub polls: Polls,
    /// Settings of the server.
    pub settings: Vec<(String, String)>,
}

/// Database of one measurement, on a mongod of its own.
const DATABASE: &str = "bench_http";
/// Time a restart may take with everything in the store.
const RESTART_WITHIN: Duration = Duration::from_secs(120);
/// Time the server may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(30);

impl Plan {
    /// Measures it.
    pub async fn run(&self) -> Result<Figures, Fault> {
        let mongod = match self.store {
            Store::Sqlite => None,
            Store::Mongodb => Some(Mongod::start(Kind::Standalone)),
        };
        let builder = self.builder(mongod.as_ref())?;
        let server = builder.start().await?;
        let workers = self.settings.iter().rev().find(|(name, _)| name == "WORKERS");
        let floor = Floor::start(match workers {
            Some((_, count)) => count.parse()?,
            None => std::thread::available_parallelism()?.get(),
        })?;

        let empty = process::resident(server.pid())?;
        eprintln!("asking for {} device codes", self.pending);
        let (mut devices, codes_a_second) =
            Crowd::ask_for_codes(server.listen(), self.connections, self.pending).await?;
        let full = process::resident(server.pid())?;
        if self.polls == Polls::Shared {
            devices.mix();
        }
        let mut beside = devices.elsewhere(floor.address()).await?;
        let mut figures = Figures { codes_a_second, ..Figures::default() };
        for round in 1..=self.rounds {
            let done;
            (devices, done) = self.round(devices, server.listen(), server.pid()).await?;
            eprint!("round {round}: {:.0} polls/s", done.done.rate());
            figures.server.push(done);
            let done;
            (beside, done) = self.round(beside, floor.address(), floor.pid()).await?;
            eprintln!(", floor {:.0} polls/s", done.done.rate());
            figures.floor.push(done);
        }
        let each = |bytes: u64| bytes.saturating_sub(empty) as f64 / self.pending.max(1) as f64;
        figures.bytes_pending = each(full);
        figures.bytes_polled = each(process::resident(server.pid())?);
        drop((devices, beside));
        server.stop(STOP_WITHIN).await?;
        let begun = Instant::now();
        let server = builder.start().await?;
        figures.restart = begun.elapsed();
        figures.bytes_restarted = each(process::resident(server.pid())?);
        Ok(figures)
    }

    async fn round(&self, devices: Crowd, address: &str, pid: u32) -> Result<(Crowd, Round), Fault> {
        let renew = (self.polls == Polls::New).then_some(address);
        let own = std::process::id();
        let before = (process::cpu(pid)?, process::cpu(own)?);
        let (devices, done) = devices.poll(self.round, renew).await?;
        let after = (process::cpu(pid)?, process::cpu(own)?);
        let (cpu, own) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
        Ok((devices, Round { done, cpu, own }))
    }

    /// A server whose sessions outlive the bench, and whose interval is the shortest there is, a second: each session may
    /// be polled 1.25 times a second before it is told to slow down.
    fn builder(&self, mongod: Option<&Mongod>) -> Result<Builder, Fault> {
        let mut builder = Server::builder(env!("CARGO_BIN_EXE_device-flow-proxy"))
            .port(testkit::net::free_port()?)
            .env("CLIENT_ID", CLIENT)
            .env("CLIENT_SECRET", "not-used-here")
            .env("LIMIT_REQUESTS_PER_MINUTE", "60000")
            .env("CODE_LIFETIME_SECS", "86400")
            .env("MAX_PENDING_SESSIONS", "10000000")
            .ready_within(RESTART_WITHIN);
        if let Some(mongod) = mongod {
            builder = builder.env("MONGODB_URI", mongod.uri(DATABASE));
        }
        for (name, value) in &self.settings {
            builder = builder.env(name, value);
        }
        Ok(builder)
    }
}
