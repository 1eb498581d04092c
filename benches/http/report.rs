//! The figures: medians of the rounds, and the server's beside the floor's.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Fault;
use crate::devices::Done;

/// One round of one of the two.
#[derive(Clone, Copy)]
pub struct Round {
    pub done: Done,
    /// What its process took of the CPU meanwhile.
    pub cpu: Duration,
}

impl Round {
    fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / (self.done.polls.max(1) as f64)
    }
}

/// The figures of one run.
pub struct Report {
    pending: usize,
    connections: usize,
    issued: f64,
    grown: u64,
    server: Vec<Round>,
    floor: Vec<Round>,
}

impl Report {
    /// `issued`: device codes in a second; `grown`: bytes by which the server's memory grew with them.
    pub fn new(pending: usize, connections: usize, issued: f64, grown: u64) -> Self {
        Self { pending, connections, issued, grown, server: Vec::new(), floor: Vec::new() }
    }

    pub fn add(&mut self, name: &str, round: Round) {
        if name == "floor" { self.floor.push(round) } else { self.server.push(round) }
    }

    fn bytes_of_a_session(&self) -> f64 {
        self.grown as f64 / self.pending.max(1) as f64
    }

    /// The figures with what they were measured on.
    pub fn to_json(&self, store: &str) -> Result<String, Fault> {
        let rounds = |rounds: &[Round]| -> Vec<Value> {
            let one = |round: &Round| {
                json!({
                    "polls_per_second": round.done.rate(),
                    "slow_down": round.done.slow_down,
                    "cpu_us_per_poll": round.cpu_us(),
                })
            };
            rounds.iter().map(one).collect()
        };
        let (rate, cpu) = self.ratios();
        let whole = json!({
            "machine": machine(),
            "commit": commit(),
            "store": store.to_lowercase(),
            "pending": self.pending,
            "connections": self.connections,
            "codes_per_second": self.issued,
            "bytes_per_session": self.bytes_of_a_session(),
            "rate_to_floor": rate,
            "cpu_to_floor": cpu,
            "server": rounds(&self.server),
            "floor": rounds(&self.floor),
        });
        Ok(serde_json::to_string_pretty(&whole)? + "\n")
    }

    /// The server's rate and CPU for a poll, each over the floor's.
    fn ratios(&self) -> (f64, f64) {
        let ratio =
            |of: fn(&Round) -> f64| median(&self.server, of) / median(&self.floor, of).max(f64::EPSILON);
        (ratio(|round| round.done.rate()), ratio(Round::cpu_us))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rate, cpu) = self.ratios();
        writeln!(f, "{} sessions pending, {} connections", self.pending, self.connections)?;
        writeln!(f, "device codes     {:>10.0} /s", self.issued)?;
        writeln!(f, "memory           {:>10.0} bytes a session", self.bytes_of_a_session())?;
        writeln!(f, "                 {:>12} {:>12} {:>12}", "polls/s", "CPU µs/poll", "slow_down")?;
        for (name, rounds) in [("server", &self.server), ("floor", &self.floor)] {
            let slow: u64 = rounds.iter().map(|round| round.done.slow_down).sum();
            let (rate, cpu) = (median(rounds, |round| round.done.rate()), median(rounds, Round::cpu_us));
            writeln!(f, "{name:<16} {rate:>12.0} {cpu:>12.1} {slow:>12}")?;
        }
        write!(f, "server / floor   {rate:>12.2} {cpu:>12.2}")
    }
}

fn median(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{cores} × {}", model.map_or("unknown", |(_, name)| name.trim()))
}

fn commit() -> Option<String> {
    let output = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
