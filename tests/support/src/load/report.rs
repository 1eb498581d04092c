//! Owns what a run is judged by: its numbers, and the requirements they must meet.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::arguments::INTERVAL_SECS;
use super::flows::FlowTally;
use super::schedule::seconds;
use super::tally::{Errors, Percentiles, Tally, Times};
use super::world::{Cpu, Taken, quota};
use super::{Machine, Mode, Plan};
use crate::enedis::{Counts, Endpoint};
use crate::fleet::Verdict;

/// Part of the polls that may be sent late by the generator before the offer counts as not made.
const LATE_PART: f64 = 0.01;
/// How late, at most, the generator's threads may wake up (p99) before the offer counts as not made.
const LAG_MAX_MS: f64 = 20.0;

/// What came of a run. [`std::fmt::Display`] writes it as a table and a list of verdicts.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The plan, in words.
    pub plan: String,
    /// Seconds that load was offered.
    pub seconds: f64,
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
    /// How the server ended, once it was told to.
    pub ending: Ending,
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
#[derive(Clone, Debug, Default, Serialize)]
pub struct Polls {
    /// Polls planned.
    pub offered: u64,
    /// Polls sent.
    pub sent: u64,
    /// Polls answered as they must be, those told to slow down included.
    pub answered: u64,
    /// Of them, those told to slow down.
    pub slow_down: u64,
    /// What went wrong; polls without an answer by the end are among them.
    pub errors: Errors,
    /// Polls planned in a second.
    pub rate_offered: f64,
    /// Polls answered in a second, in the time that polls were offered.
    pub rate_answered: f64,
    /// From the planned instant to the answer, in milliseconds.
    pub latency_ms: Percentiles,
    /// Pairs of a part of the polls and the milliseconds it was answered within.
    pub latency_curve: Vec<(f64, f64)>,
    /// Polls that waited for the answer before on their connection.
    pub waited_for_connection: u64,
    /// Polls sent more than [`super::LATE`] late although their connection was free.
    pub sent_late_by_generator: u64,
    /// How late polls were sent although their connection was free, in milliseconds.
    pub generator_behind_ms: Percentiles,
    /// How late the generator's threads woke up, in milliseconds; answers were read as late.
    pub generator_lag_ms: Percentiles,
    /// Connections opened anew because the server had closed them, where they are to be kept.
    pub reopened: Option<u64>,
    /// Whether each device keeps to the interval it was told, so that none may be told to slow down.
    pub on_schedule: bool,
    /// Each second.
    pub series: Vec<Moment>,
}

/// One second of the polls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Moment {
    /// Seconds since the start.
    pub second: usize,
    /// Polls sent in it.
    pub sent: u64,
    /// Polls answered in it.
    pub answered: u64,
    /// Errors in it.
    pub errors: u64,
    /// Latencies of the polls planned in it, in milliseconds.
    pub latency_ms: Percentiles,
}

/// What came of the whole device flows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Consents {
    /// Begun.
    pub started: u64,
    /// Ended with a token.
    pub completed: u64,
    /// Why the others failed.
    pub errors: Errors,
    /// From the planned instant to the device code, in milliseconds.
    pub code_ms: Percentiles,
    /// All pages of a person, with Enedis' and the exchange of the code there, in milliseconds.
    pub pages_ms: Percentiles,
    /// The poll that brought the token, in milliseconds.
    pub token_ms: Percentiles,
    /// From the planned instant to the token, with the interval between polls, in milliseconds.
    pub whole_ms: Percentiles,
    /// Begun and completed in each second.
    pub series: Vec<[u64; 2]>,
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
    /// The same of the generator.
    pub generator_us_per_poll: Option<f64>,
    /// Resident memory of the server at the end, in bytes.
    pub server_resident_bytes: u64,
    /// Cores taken by the server, the generator and everything else in each second.
    pub series: Vec<[f64; 3]>,
}

/// What reached Enedis' token endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Enedis {
    /// Requests.
    pub calls: u64,
    /// Those answered 429.
    pub throttled: u64,
    /// The most in one second of the quota.
    pub most_in_a_second: u32,
    /// The most in one hour of the quota.
    pub most_in_an_hour: u32,
    /// The quota: in a second, and in an hour.
    pub quota: (u32, u32),
}

/// How the server ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ending {
    /// It finished what was under way, in time.
    pub well: bool,
    /// Its exit status, or why there is none.
    pub how: String,
}

impl Setup {
    pub(super) fn new(codes: u32, took: Duration, grown: u64) -> Self {
        let seconds = took.as_secs_f64();
        let each = f64::from(codes.max(1));
        Self { codes, seconds, per_second: each / seconds.max(1e-9), bytes_per_session: grown as f64 / each }
    }
}

impl Polls {
    pub(super) fn new(plan: &Plan, tally: &Tally) -> Self {
        // What came in the grace counts for no rate.
        let within: u64 = tally.seconds.iter().take(seconds(plan.length)).map(|second| second.answered).sum();
        let series = tally.seconds.iter().rposition(|second| !second.is_empty()).map_or(0, |last| last + 1);
        Self {
            offered: plan.schedule().offered(),
            sent: tally.sent,
            answered: tally.answered,
            slow_down: tally.slow_down,
            errors: tally.errors.clone(),
            rate_offered: plan.rate,
            rate_answered: within as f64 / plan.length.as_secs_f64(),
            latency_ms: tally.latency.percentiles(),
            latency_curve: tally.latency.curve(),
            waited_for_connection: tally.waited,
            sent_late_by_generator: tally.late,
            generator_behind_ms: tally.behind.percentiles(),
            generator_lag_ms: tally.lag.percentiles(),
            reopened: (plan.mode != Mode::Reconnecting).then_some(tally.reopened),
            on_schedule: plan.rate * INTERVAL_SECS <= f64::from(plan.devices),
            series: tally.seconds[..series].iter().enumerate().map(Moment::new).collect(),
        }
    }

    /// Every poll was sent, and hardly any late by the generator's own fault.
    fn was_offered(&self) -> bool {
        let late = self.sent_late_by_generator as f64 <= LATE_PART * self.offered as f64;
        self.sent == self.offered && late && self.generator_lag_ms.p99 <= LAG_MAX_MS
    }
}

impl Moment {
    fn new((number, second): (usize, &super::tally::Second)) -> Self {
        let (sent, answered, errors) = (second.sent, second.answered, second.errors);
        Self { second: number, sent, answered, errors, latency_ms: second.latency.percentiles() }
    }
}

impl Consents {
    pub(super) fn new(tally: &FlowTally) -> Self {
        let [code_ms, pages_ms, token_ms, whole_ms] =
            [&tally.code, &tally.pages, &tally.token, &tally.whole].map(Times::percentiles);
        Self {
            started: tally.started,
            completed: tally.completed,
            errors: tally.errors.clone(),
            code_ms,
            pages_ms,
            token_ms,
            whole_ms,
            series: tally.seconds
                [..tally.seconds.iter().rposition(|counts| *counts != [0, 0]).map_or(0, |last| last + 1)]
                .to_vec(),
        }
    }
}

impl Use {
    pub(super) fn new(taken: &Taken, polls: Option<&Polls>) -> Self {
        let [server_cores, generator_cores, other_cores] = cores(&taken.cpu, taken.length);
        // Of the time that load was offered, as the CPU is.
        let answered = polls.map(|polls| polls.rate_answered * taken.length.as_secs_f64());
        let answered = answered.filter(|answered| *answered > 0.0);
        let each = |cpu: Duration| answered.map(|answered| cpu.as_secs_f64() * 1e6 / answered);
        Self {
            server_cores,
            generator_cores,
            other_cores,
            server_us_per_poll: each(taken.cpu.server),
            generator_us_per_poll: each(taken.cpu.own),
            server_resident_bytes: taken.resident,
            series: taken.seconds.iter().map(|cpu| cores(cpu, Duration::from_secs(1))).collect(),
        }
    }
}

/// Cores that the server, the generator and everything else kept busy in a time of this length.
fn cores(cpu: &Cpu, length: Duration) -> [f64; 3] {
    let other = cpu.machine.saturating_sub(cpu.server + cpu.own);
    [cpu.server, cpu.own, other].map(|cpu| cpu.as_secs_f64() / length.as_secs_f64().max(1e-9))
}

impl Enedis {
    pub(super) fn new(plan: &Plan, counts: &Counts) -> Self {
        let quota = quota(plan);
        let most =
            |of: &std::collections::HashMap<Endpoint, u32>| of.get(&Endpoint::Token).copied().unwrap_or(0);
        Self {
            calls: counts.requests(Endpoint::Token),
            throttled: counts.throttled(Endpoint::Token),
            most_in_a_second: most(&counts.most_in_a_second),
            most_in_an_hour: most(&counts.most_in_an_hour),
            quota: (quota.per_second.unwrap_or(u32::MAX), quota.per_hour.unwrap_or(u32::MAX)),
        }
    }

    fn is_within(&self) -> bool {
        self.throttled == 0 && self.most_in_a_second <= self.quota.0 && self.most_in_an_hour <= self.quota.1
    }
}

impl Report {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            plan: plan.to_string(),
            seconds: plan.length.as_secs_f64(),
            machine: Machine::this(),
            p99_below_ms: plan.p99.map(|p99| p99.as_secs_f64() * 1e3),
            ..Self::default()
        }
    }

    /// Every requirement that the run can be judged by.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let mut verdict = |requirement, pass, found| verdicts.push(Verdict { pass, requirement, found });
        if let Some(polls) = &self.polls {
            let errors = polls.errors.total();
            verdict(
                "every poll is answered as it must be",
                errors == 0
                    && polls.answered == polls.offered
                    && (polls.slow_down == 0 || !polls.on_schedule),
                format!(
                    "{} of {}, {errors} errors, {} told to slow down",
                    polls.answered, polls.offered, polls.slow_down
                ),
            );
            if let Some(reopened) = polls.reopened {
                verdict("connections are kept", reopened == 0, format!("{reopened} opened anew"));
            }
            if let Some(below) = self.p99_below_ms {
                let p99 = polls.latency_ms.p99;
                verdict(
                    "the p99 of polls is low",
                    p99 < below && polls.answered > 0,
                    format!("{p99:.2} ms, less than {below} ms wanted"),
                );
            }
            verdict(
                "the load was really offered",
                polls.was_offered(),
                format!(
                    "{} sent, {} of them late by the generator, whose threads woke up {:.1} ms late (p99)",
                    polls.sent, polls.sent_late_by_generator, polls.generator_lag_ms.p99
                ),
            );
        }
        if let Some(consents) = &self.consents {
            verdict(
                "every consent ends with a token",
                consents.errors.total() == 0
                    && consents.completed == consents.started
                    && consents.started > 0,
                format!("{} of {}", consents.completed, consents.started),
            );
            let Enedis { most_in_a_second, quota, throttled, .. } = self.enedis;
            verdict(
                "Enedis' quota is never exceeded",
                self.enedis.is_within(),
                format!("at most {most_in_a_second} in a second of {}, {throttled} refused", quota.0),
            );
        }
        verdict("the server ends when it is told to", self.ending.well, self.ending.how.clone());
        verdicts
    }

    /// The report with its verdicts, for a program.
    pub fn to_json(&self) -> Value {
        Verdict::append(json!(self), &self.verdicts())
    }

    /// Every requirement is met.
    pub fn passed(&self) -> bool {
        Verdict::all_pass(&self.verdicts())
    }
}
