//! The figures of one measurement: medians of the rounds, the server's beside the floor's, as a table and as JSON.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::load::Cpu;
use testkit::report::Table;

/// One round of one of the two.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Polls answered.
    pub polls: u64,
    /// Of them, those told to slow down.
    pub slow_down: u64,
    /// From the first request to the last answer.
    pub took: Duration,
    /// What was taken of the CPU meanwhile.
    pub cpu: Cpu,
}

impl Round {
    /// Polls in a second.
    pub fn rate(&self) -> f64 {
        self.polls as f64 / self.took.as_secs_f64().max(f64::EPSILON)
    }

    fn cpu_us(&self) -> f64 {
        self.cpu.server.as_secs_f64() * 1e6 / (self.polls.max(1) as f64)
    }

    /// Cores that the devices kept busy; they are one thread, so that near one it is they who are measured.
    fn devices_cores(&self) -> f64 {
        self.cpu.cores(self.took)[1]
    }
}

/// Names of the figures in JSON, with what each is called in a table.
const FIGURES: [(&str, &str); 9] = [
    ("rate_to_floor", "polls/s, over the floor's"),
    ("cpu_to_floor", "CPU of a poll, over the floor's"),
    ("polls_per_second", "polls/s"),
    ("cpu_us_per_poll", "CPU of a poll, µs"),
    ("codes_per_second", "device codes/s, durable"),
    ("bytes_per_session", "memory of a session, bytes"),
    ("bytes_per_polled_session", "  once polled"),
    ("bytes_per_session_after_restart", "  after a restart"),
    ("restart_seconds", "restart until ready, s"),
];

/// The figures that the rounds of the server and of the floor give.
pub fn of_rounds(server: &[Round], floor: &[Round]) -> Value {
    let ratio = |of| median(server, of) / median(floor, of).max(f64::EPSILON);
    json!({
        "rate_to_floor": ratio(Round::rate),
        "cpu_to_floor": ratio(Round::cpu_us),
        "polls_per_second": median(server, Round::rate),
        "cpu_us_per_poll": median(server, Round::cpu_us),
    })
}

/// The rounds of the two beside each other, by their medians.
pub fn sides(server: &[Round], floor: &[Round]) -> Table {
    let mut table = Table::default();
    table.row("", ["polls/s", "CPU µs/poll", "slow_down", "devices' CPU"]);
    for (name, rounds) in [("server", server), ("floor", floor)] {
        let slow: u64 = rounds.iter().map(|round| round.slow_down).sum();
        let [rate, cpu] = [median(rounds, Round::rate), median(rounds, Round::cpu_us)];
        let devices = format!("{:.2}", median(rounds, Round::devices_cores));
        table.row(name, [format!("{rate:.0}"), format!("{cpu:.1}"), slow.to_string(), devices]);
    }
    table
}

/// Each figure of a measurement, beside those of an earlier one if there is one.
pub fn figures(now: &Value, then: Option<&Value>) -> Table {
    let mut table = Table::default();
    if then.is_some() {
        table.row("", ["now", "then", "change, %"]);
    }
    for (name, title) in FIGURES {
        let Some(now) = now[name].as_f64() else { continue };
        let mut cells = vec![format!("{now:.2}")];
        if let Some(then) = then.and_then(|then| then[name].as_f64()) {
            let change = if then == 0.0 { 0.0 } else { 100.0 * (now / then - 1.0) };
            cells.extend([format!("{then:.2}"), format!("{change:+.1}")]);
        }
        table.row(title, cells);
    }
    table
}

fn median(rounds: &[Round], of: fn(&Round) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    f64::midpoint(at(low), at(high))
}
