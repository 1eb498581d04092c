//! The figures of one measurement: medians of the rounds, the server's beside the floor's, as a table and as JSON.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::devices::Done;

/// One round of one of the two.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// What its devices saw.
    pub done: Done,
    /// What its process took of the CPU meanwhile.
    pub cpu: Duration,
    /// What the devices took.
    pub own: Duration,
}

impl Round {
    /// Cores that the devices kept busy; they are one thread, so that near one it is they who are measured.
    fn devices_cores(&self) -> f64 {
        self.own.as_secs_f64() / self.done.took.as_secs_f64().max(f64::EPSILON)
    }

    fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / (self.done.polls.max(1) as f64)
    }
}

/// The figures of one measurement.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Device codes, durable before each answer, in a second.
    pub codes_a_second: f64,
    /// Resident memory that each session added, before the first poll.
    pub bytes_pending: f64,
    /// The same with the pacing of every session that was polled, and the buffers of the connections.
    pub bytes_polled: f64,
    /// The same after a restart.
    pub bytes_restarted: f64,
    /// From the start of the process, with all sessions in the store, to its word that it is ready.
    pub restart: Duration,
    /// Rounds of the server.
    pub server: Vec<Round>,
    /// Rounds of the floor.
    pub floor: Vec<Round>,
}

/// Names of the figures that are compared between runs, with what each is called in a table.
pub const COMPARED: [(&str, &str); 7] = [
    ("rate_to_floor", "polls/s, over the floor's"),
    ("cpu_to_floor", "CPU of a poll, over the floor's"),
    ("polls_per_second", "polls/s"),
    ("cpu_us_per_poll", "CPU of a poll, µs"),
    ("codes_per_second", "device codes/s"),
    ("bytes_per_session", "memory of a session, bytes"),
    ("restart_seconds", "restart, s"),
];

impl Figures {
    /// The figures with the rounds they were made of.
    pub fn to_json(&self) -> Value {
        let rounds = |rounds: &[Round]| -> Vec<Value> {
            let one = |round: &Round| {
                json!({
                    "polls_per_second": round.done.rate(),
                    "slow_down": round.done.slow_down,
                    "cpu_us_per_poll": round.cpu_us(),
                    "devices_cores": round.devices_cores(),
                })
            };
            rounds.iter().map(one).collect()
        };
        let (rate, cpu) = self.ratios();
        json!({
            "rate_to_floor": rate,
            "cpu_to_floor": cpu,
            "polls_per_second": median(&self.server, |round| round.done.rate()),
            "cpu_us_per_poll": median(&self.server, Round::cpu_us),
            "codes_per_second": self.codes_a_second,
            "bytes_per_session": self.bytes_pending,
            "bytes_per_polled_session": self.bytes_polled,
            "bytes_per_session_after_restart": self.bytes_restarted,
            "restart_seconds": self.restart.as_secs_f64(),
            "server": rounds(&self.server),
            "floor": rounds(&self.floor),
        })
    }

    /// The server's rate and CPU for a poll, each over the floor's.
    fn ratios(&self) -> (f64, f64) {
        let ratio =
            |of: fn(&Round) -> f64| median(&self.server, of) / median(&self.floor, of).max(f64::EPSILON);
        (ratio(|round| round.done.rate()), ratio(Round::cpu_us))
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rate, cpu) = self.ratios();
        writeln!(f, "device codes     {:>10.0} /s, each durable before its answer", self.codes_a_second)?;
        writeln!(
            f,
            "memory           {:>10.0} bytes a session; {:.0} once polled; {:.0} after a restart",
            self.bytes_pending, self.bytes_polled, self.bytes_restarted
        )?;
        writeln!(f, "restart          {:>10.2} s until ready", self.restart.as_secs_f64())?;
        writeln!(
            f,
            "                 {:>12} {:>12} {:>12} {:>12}",
            "polls/s", "CPU µs/poll", "slow_down", "devices' CPU"
        )?;
        for (name, rounds) in [("server", &self.server), ("floor", &self.floor)] {
            let slow: u64 = rounds.iter().map(|round| round.done.slow_down).sum();
            let (rate, cpu) = (median(rounds, |round| round.done.rate()), median(rounds, Round::cpu_us));
            let devices = median(rounds, Round::devices_cores);
            writeln!(f, "{name:<16} {rate:>12.0} {cpu:>12.1} {slow:>12} {devices:>12.2}")?;
        }
        write!(f, "server / floor   {rate:>12.2} {cpu:>12.2}")
    }
}

fn median(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    f64::midpoint(at(low), at(high))
}

/// Compares two measurements, as JSON, figure by figure.
pub fn compare(now: &Value, baseline: &Value) -> String {
    let line = |(name, title): (&str, &str)| {
        let (now, then) = (now[name].as_f64()?, baseline[name].as_f64()?);
        let change = if then == 0.0 { 0.0 } else { 100.0 * (now / then - 1.0) };
        Some(format!("{title:<34} {then:>10.2} → {now:>10.2} {change:>+7.1} %\n"))
    };
    COMPARED.into_iter().filter_map(line).collect()
}
