//! Owns what a run came to: the table of guarantees, what was measured beside, and what is broken with all that led there.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::history::{Act, Event, Findings, Guarantee, Said};
use super::{Measured, Plan, Scenario, Trouble};
use crate::report::{Judged, Machine, Table, Verdict, name, write_end};

/// How often the break of a guarantee is told at length; more are counted.
const TOLD: usize = 2;

/// What a run came to. [`fmt::Display`] writes it as tables and a list of verdicts.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The plan, in words.
    pub plan: String,
    #[serde(skip)]
    length: Duration,
    /// Where it ran.
    pub machine: Machine,
    /// Scenarios that are wanted, and that were played.
    pub scenarios: [u64; 2],
    /// What went wrong, how often.
    pub troubles: BTreeMap<Trouble, u64>,
    /// Requests by what was asked: how many, how many with an answer that was not for later.
    pub requests: BTreeMap<String, [u64; 2]>,
    /// How often each guarantee was looked at, and broken.
    pub guarantees: BTreeMap<Guarantee, [u64; 2]>,
    /// The first that are broken: the seed, which, and what was told.
    pub broken: Vec<(u64, Guarantee, String)>,
    /// From the start of a killed instance to its word that it is ready, in milliseconds, sorted.
    pub restarts_ms: Vec<u128>,
    /// From the end of a primary to the next one, in milliseconds, sorted.
    pub elections_ms: Vec<u128>,
    /// The longest time without a new code in each scenario, in milliseconds, sorted.
    pub no_codes_ms: Vec<u128>,
    /// The longest time in which no pending poll was answered in each scenario, in milliseconds, sorted.
    pub no_polls_ms: Vec<u128>,
    /// Warnings and errors of the server, by message.
    pub server_said: BTreeMap<String, u64>,
}

impl Report {
    pub(super) fn new(plan: &Plan) -> Self {
        let Plan { seed, scenarios, instances, boxes, waiters, length, .. } = plan;
        let store = if plan.replica_set { "a replica set".to_owned() } else { name(&plan.store) };
        let told = format!(
            "seeds {seed} to {}, {instances} on {store}, {boxes} boxes and {waiters} that wait, {} s each",
            seed + scenarios - 1,
            length.as_secs()
        );
        Self {
            plan: told,
            length: *length,
            machine: Machine::this(),
            scenarios: [*scenarios, 0],
            troubles: BTreeMap::new(),
            requests: BTreeMap::new(),
            guarantees: BTreeMap::new(),
            broken: Vec::new(),
            restarts_ms: Vec::new(),
            elections_ms: Vec::new(),
            no_codes_ms: Vec::new(),
            no_polls_ms: Vec::new(),
            server_said: BTreeMap::new(),
        }
    }

    pub(super) fn add(
        &mut self,
        scenario: &Scenario,
        events: &[Event],
        findings: Findings,
        measured: Measured,
    ) {
        self.scenarios[1] += 1;
        for strike in &scenario.strikes {
            *self.troubles.entry(strike.trouble).or_default() += 1;
        }
        for event in events {
            let [all, answered] = self.requests.entry(format!("{:?}", event.act)).or_default();
            *all += 1;
            *answered += u64::from(!matches!(event.said, Said::Later(_) | Said::Nothing));
        }
        for (guarantee, count) in findings.looked {
            self.guarantees.entry(guarantee).or_default()[0] += count;
        }
        for (guarantee, why) in findings.broken {
            self.guarantees.entry(guarantee).or_default()[1] += 1;
            if self.broken.iter().filter(|(_, told, _)| *told == guarantee).count() < TOLD {
                let why = format!("{why}\n    {}", serde_json::json!(scenario));
                self.broken.push((scenario.seed, guarantee, why));
            }
        }
        let gap = |wanted: fn(&Event) -> bool| {
            let wanted = events.iter().filter(|event| wanted(event) && event.began < self.length);
            let at: Vec<_> = wanted.map(|event| event.ended).collect();
            at.windows(2).map(|two| two[1].saturating_sub(two[0])).max()
        };
        let no_codes = gap(|event| event.act == Act::Code && matches!(event.said, Said::Codes(_)));
        let no_polls = gap(|event| event.act == Act::Poll && event.said == Said::Pending);
        keep(&mut self.no_codes_ms, no_codes);
        keep(&mut self.no_polls_ms, no_polls);
        keep(&mut self.restarts_ms, measured.restarts);
        keep(&mut self.elections_ms, measured.elections);
        for (message, count) in measured.server_said {
            *self.server_said.entry(message).or_default() += count;
        }
    }

    pub(super) fn progress(&self) -> String {
        const WIDTH: u64 = 30;
        let [wanted, played] = self.scenarios;
        let bar: String =
            (0..WIDTH).map(|part| if part * wanted < played * WIDTH { '#' } else { '.' }).collect();
        let broken: u64 = self.guarantees.values().map(|[_, broken]| broken).sum();
        format!("{bar} {played} of {wanted} scenarios, broken: {broken}")
    }
}

impl Judged for Report {
    fn verdicts(&self) -> Vec<Verdict> {
        let verdict = |(guarantee, words)| {
            let [looked, broken] = self.guarantees.get(&guarantee).copied().unwrap_or_default();
            Verdict::new(words, broken == 0, format!("looked at {looked} times, broken {broken}"))
        };
        Guarantee::ALL.map(verdict).to_vec()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} scenarios: {}\n{}\n", self.scenarios[1], self.plan, self.machine)?;
        let mut table = Table::default();
        for (trouble, times) in &self.troubles {
            table.row(name(trouble), [times]);
        }
        writeln!(f, "{table}")?;
        let mut table = Table::default();
        table.row("request", ["sent", "answered, and not for later"]);
        for (act, counts) in &self.requests {
            table.row(act, counts);
        }
        writeln!(f, "{table}")?;
        let mut table = Table::default();
        table.row("ms", ["count", "median", "max"]);
        for (what, sorted) in [
            ("ready again after a kill", &self.restarts_ms),
            ("another primary", &self.elections_ms),
            ("longest without a new code, of each scenario", &self.no_codes_ms),
            ("longest without an answer to a pending poll", &self.no_polls_ms),
        ] {
            if let (Some(median), Some(max)) = (sorted.get(sorted.len() / 2), sorted.last()) {
                table.row(what, [&(sorted.len() as u128), median, max]);
            }
        }
        writeln!(f, "{table}")?;
        for (seed, guarantee, why) in &self.broken {
            writeln!(f, "seed {seed}, {guarantee:?}: {why}\n")?;
        }
        write_end(f, &[("the server", &self.server_said)], &self.verdicts())
    }
}

fn keep(sorted: &mut Vec<u128>, new: impl IntoIterator<Item = Duration>) {
    sorted.extend(new.into_iter().map(|time| time.as_millis()));
    sorted.sort_unstable();
}
