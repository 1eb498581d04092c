//! Owns what a run is judged by: its numbers, the requirements they must meet, and how both are written for a person.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::flows::Consents;
use super::tally::{Errors, FIGURES, Second, Tally, Times, seconds};
use super::{INTERVAL_SECS, Plan};
use crate::process;
use crate::report::{Judged, Machine, Table, Verdict, name, write_end};

/// Part of the polls that may be sent late by the generator before the offer counts as not made.
const LATE_PART: f64 = 0.01;
/// How late, at most, the generator's thread may wake up (p99) before the offer counts as not made.
const LAG_MAX_MS: f64 = 20.0;

/// What came of a run. [`fmt::Display`] writes it as a list of verdicts, which have the counts, and a table of the rest.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The plan, in words.
    pub plan: String,
    /// Where and of what it was measured.
    pub machine: Machine,
    /// How the devices got their codes.
    pub setup: Option<Setup>,
    /// The polls.
    pub polls: Option<Polls>,
    /// The whole device flows.
    pub consents: Option<Consents>,
    /// What was taken of the machine meanwhile.
    pub used: Use,
    /// What reached Enedis.
    pub enedis: Enedis,
    /// Warnings and errors of the server, by message.
    pub server_said: BTreeMap<String, u64>,
    /// The p99 of polls must stay below, in milliseconds.
    pub p99_below_ms: Option<f64>,
}

/// How the devices got their codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Setup {
    /// Device codes asked for.
    pub codes: u32,
    /// How long it took, each connection asking as soon as it was answered.
    pub seconds: f64,
    /// Codes in a second.
    pub per_second: f64,
    /// What the server's resident memory grew by, per session; connections are in it.
    pub bytes_per_session: f64,
}

/// What came of the polls.
#[derive(Clone, Debug, Serialize)]
pub struct Polls {
    /// Polls planned.
    pub offered: u64,
    /// Polls answered in a second, in the time that polls were offered.
    pub rate_answered: f64,
    /// Whether each device keeps to the interval it was told, so that none may be told to slow down.
    pub on_schedule: bool,
    /// Whether each poll has a connection of its own.
    pub reconnects: bool,
    /// What was counted.
    #[serde(flatten)]
    pub tally: Tally,
}

/// What was taken of the machine while load was offered.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Use {
    /// CPU seconds in a second, by the server.
    pub server_cores: f64,
    /// By the devices, the people and the simulated Enedis.
    pub generator_cores: f64,
    /// By everything else: the database if it is a process of its own, what the kernel does for all, strangers.
    pub other_cores: f64,
    /// CPU time of the server per poll answered, in microseconds; consents, if any, are in it.
    pub server_us_per_poll: Option<f64>,
    /// Resident memory of the server at the end, in bytes.
    pub server_resident_bytes: u64,
}

/// CPU time taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// By the server.
    pub server: Duration,
    /// By this process: devices, people and the simulated Enedis.
    pub own: Duration,
    /// By all there is.
    pub machine: Duration,
}

impl Cpu {
    /// What was taken so far; the server's process is `pid`.
    pub fn now(pid: u32) -> io::Result<Self> {
        let own = process::cpu(std::process::id())?;
        Ok(Self { server: process::cpu(pid)?, own, machine: process::cpu_of_machine()? })
    }

    /// What was taken after `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            server: self.server.saturating_sub(before.server),
            own: self.own.saturating_sub(before.own),
            machine: self.machine.saturating_sub(before.machine),
        }
    }

    /// Cores that the server, this process and everything else kept busy in a time of this length.
    pub fn cores(self, length: Duration) -> [f64; 3] {
        let other = self.machine.saturating_sub(self.server + self.own);
        [self.server, self.own, other].map(|cpu| cpu.as_secs_f64() / length.as_secs_f64().max(1e-9))
    }
}

/// What is taken for `length` from `start` on, and the server's resident memory then, in bytes. What comes after the last
/// poll, such as the tail of consents, is not counted.
pub(super) async fn watch(pid: u32, start: Instant, length: Duration) -> io::Result<(Cpu, u64)> {
    sleep_until(start).await;
    let before = Cpu::now(pid)?;
    sleep_until(start + length).await;
    Ok((Cpu::now(pid)?.since(before), process::resident(pid)?))
}

/// What reached Enedis' token endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Enedis {
    /// Requests.
    pub calls: u64,
    /// Those answered 429, as they were beyond the quota.
    pub throttled: u64,
}

impl Setup {
    /// So many `codes` took so long, and the server's memory has grown by so many bytes.
    pub fn new(codes: u32, took: Duration, grown: u64) -> Self {
        let seconds = took.as_secs_f64();
        let each = f64::from(codes.max(1));
        Self { codes, seconds, per_second: each / seconds.max(1e-9), bytes_per_session: grown as f64 / each }
    }
}

impl Polls {
    pub(super) fn new(plan: &Plan, mut tally: Tally) -> Self {
        // What came in the grace counts for no rate.
        let within: u64 = tally.series.iter().take(seconds(plan.length)).map(|second| second.answered).sum();
        let busy = |second: &Second| second.sent + second.answered + second.errors > 0;
        tally.series.truncate(tally.series.iter().rposition(busy).map_or(0, |last| last + 1));
        Self {
            offered: plan.schedule().offered(),
            rate_answered: within as f64 / plan.length.as_secs_f64(),
            on_schedule: plan.rate() * INTERVAL_SECS <= f64::from(plan.devices),
            reconnects: plan.reconnects,
            tally,
        }
    }

    fn judge(&self, p99_below_ms: Option<f64>, verdicts: &mut Vec<Verdict>) {
        let Self { offered, tally, .. } = self;
        let Tally { sent, answered, slow_down, reopened, sent_late_by_generator, .. } = tally;
        let errors = tally.errors.total();
        verdicts.push(Verdict::new(
            "every poll is answered as it must be",
            errors == 0 && answered == offered && (*slow_down == 0 || !self.on_schedule),
            format!("{answered} of {offered}, {errors} errors, {slow_down} told to slow down"),
        ));
        if !self.reconnects {
            let found = format!("{reopened} opened anew");
            verdicts.push(Verdict::new("connections are kept", *reopened == 0, found));
        }
        if let Some(below) = p99_below_ms {
            let p99 = tally.latency_ms.at(0.99);
            let found = format!("{p99:.2} ms, less than {below} ms wanted");
            verdicts.push(Verdict::new("the p99 of polls is low", p99 < below && *answered > 0, found));
        }
        let lag = tally.generator_lag_ms.at(0.99);
        verdicts.push(Verdict::new(
            "the load was really offered",
            sent == offered
                && *sent_late_by_generator as f64 <= LATE_PART * *offered as f64
                && lag <= LAG_MAX_MS,
            format!(
                "{sent} sent, {sent_late_by_generator} of them late by the generator, whose thread woke up {lag:.1} ms \
                 late (p99)"
            ),
        ));
    }
}

impl Use {
    /// So much was taken in `length`, and the server had so much memory in the end.
    pub(super) fn new((cpu, resident): (Cpu, u64), length: Duration, polls: Option<&Polls>) -> Self {
        let [server_cores, generator_cores, other_cores] = cpu.cores(length);
        // Of the time that load was offered, as the CPU is.
        let answered = polls.map(|polls| polls.rate_answered * length.as_secs_f64());
        let answered = answered.filter(|answered| *answered > 0.0);
        Self {
            server_cores,
            generator_cores,
            other_cores,
            server_us_per_poll: answered.map(|answered| cpu.server.as_secs_f64() * 1e6 / answered),
            server_resident_bytes: resident,
        }
    }
}

impl Report {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            plan: plan.to_string(),
            machine: Machine::this(),
            p99_below_ms: plan.p99_ms,
            ..Self::default()
        }
    }
}

impl Judged for Report {
    fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        if let Some(polls) = &self.polls {
            polls.judge(self.p99_below_ms, &mut verdicts);
        }
        if let Some(Consents { started, completed, errors, .. }) = &self.consents {
            verdicts.push(Verdict::new(
                "every consent ends with a token",
                errors.total() == 0 && completed == started && *started > 0,
                format!("{completed} of {started}"),
            ));
            let Enedis { calls, throttled } = self.enedis;
            let found = format!("{throttled} of {calls} calls refused");
            verdicts.push(Verdict::new("Enedis' quota is never exceeded", throttled == 0, found));
        }
        verdicts
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n", self.plan, self.machine)?;
        let (mut table, mut times) = (Table::default(), Table::default());
        let mut texts = Vec::new();
        times.row("milliseconds", FIGURES.map(|(name, _)| name));
        if let Some(setup) = &self.setup {
            table.row("device codes at the start", [setup.codes]);
            table.row("  in a second", [format!("{:.0}", setup.per_second)]);
            table.row("  bytes of the server per session", [format!("{:.0}", setup.bytes_per_session)]);
        }
        if let Some(Polls { rate_answered, tally, .. }) = &self.polls {
            table.row("polls answered in a second", [format!("{rate_answered:.0}")]);
            errors(&mut table, &mut texts, "errors of polls", &tally.errors);
            times.row("polls, planned to answered", cells(&tally.latency_ms));
            times.row("  generator: woken late", cells(&tally.generator_lag_ms));
        }
        if let Some(consents) = &self.consents {
            errors(&mut table, &mut texts, "errors of consents", &consents.errors);
            times.row("consents, planned to token", cells(&consents.whole_ms));
            times.row("  device code", cells(&consents.code_ms));
            times.row("  all pages of the person", cells(&consents.pages_ms));
            times.row("  poll that brought the token", cells(&consents.token_ms));
        }
        let used = &self.used;
        for (who, cores) in [
            ("CPU of the server, cores", used.server_cores),
            ("CPU of the generator, cores", used.generator_cores),
            ("CPU of everything else, cores", used.other_cores),
        ] {
            table.row(who, [format!("{cores:.2}")]);
        }
        used.server_us_per_poll
            .inspect(|each| table.row("CPU of the server per poll, µs", [format!("{each:.1}")]));
        let resident = format!("{:.1}", used.server_resident_bytes as f64 / 1e6);
        table.row("resident memory of the server, MB", [resident]);
        writeln!(f, "{table}\n{times}")?;
        texts.iter().try_for_each(|text| writeln!(f, "error: {text}"))?;
        if !texts.is_empty() {
            writeln!(f)?;
        }
        write_end(f, &[("the server", &self.server_said)], &self.verdicts())
    }
}

fn errors<'a>(table: &mut Table, texts: &mut Vec<&'a str>, title: &str, errors: &'a Errors) {
    table.row(title, [errors.total()]);
    for (kind, count) in &errors.kinds {
        table.row(format!("  {kind}"), [count]);
    }
    texts.extend(errors.texts.iter().map(String::as_str));
}

fn cells(times: &Times) -> [String; 5] {
    FIGURES.map(|(_, part)| format!("{:.2}", times.at(part)))
}

/// A line that says what was tried.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.devices > 0 {
            write!(f, "{} devices offer {} polls a second ", self.devices, self.rate())?;
            if self.reconnects {
                write!(f, "each over a new connection")?;
            } else {
                write!(f, "over {} connections", self.connections.min(self.devices))?;
            }
        }
        if self.consents > 0.0 {
            let and = if self.devices > 0 { ", and " } else { "" };
            write!(f, "{and}{} consents begin a second", self.consents)?;
        }
        write!(f, ", for {} s; {}", self.length.as_secs_f64(), name(&self.store))?;
        self.settings.iter().try_for_each(|(name, value)| write!(f, "; {name}={value}"))
    }
}
