//! Owns how a report is written for a person: figures, then the verdicts.

use std::fmt;

use super::report::Report;
use super::tally::{Errors, Percentiles};
use super::{Mode, Plan};
use crate::fleet::name;

/// Width of the first column, and of the others.
const LABEL: usize = 36;
const COLUMN: usize = 12;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.plan)?;
        let machine = &self.machine;
        let cpu = machine.cpu.as_deref().unwrap_or("an unknown processor");
        writeln!(
            f,
            "{} cores of {cpu}, commit {}\n",
            machine.cores,
            machine.commit.as_deref().unwrap_or("unknown")
        )?;
        if let Some(setup) = &self.setup {
            row(f, "device codes at the start", &setup.codes.to_string())?;
            row(f, "  in a second", &format!("{:.0}", setup.per_second))?;
            row(f, "  bytes of the server per session", &format!("{:.0}", setup.bytes_per_session))?;
        }
        if let Some(polls) = &self.polls {
            row(f, "polls offered", &polls.offered.to_string())?;
            row(f, "  sent", &polls.sent.to_string())?;
            row(f, "  answered", &polls.answered.to_string())?;
            row(f, "    told to slow down", &polls.slow_down.to_string())?;
            errors(f, &polls.errors)?;
            row(f, "  waited for their connection", &polls.waited_for_connection.to_string())?;
            row(f, "  sent late by the generator", &polls.sent_late_by_generator.to_string())?;
            if let Some(reopened) = polls.reopened {
                row(f, "  connections opened anew", &reopened.to_string())?;
            }
            row(f, "polls offered in a second", &format!("{:.0}", polls.rate_offered))?;
            row(f, "polls answered in a second", &format!("{:.0}", polls.rate_answered))?;
        }
        if let Some(consents) = &self.consents {
            row(f, "consents started", &consents.started.to_string())?;
            row(f, "  completed", &consents.completed.to_string())?;
            errors(f, &consents.errors)?;
            let enedis = &self.enedis;
            row(f, "token calls to Enedis", &enedis.calls.to_string())?;
            row(f, "  most in a second", &format!("{} of {}", enedis.most_in_a_second, enedis.quota.0))?;
            row(f, "  most in an hour", &format!("{} of {}", enedis.most_in_an_hour, enedis.quota.1))?;
            row(f, "  answered 429 for the quota", &enedis.throttled.to_string())?;
        }
        let used = &self.used;
        for (who, cores, each) in [
            ("CPU of the server, cores", used.server_cores, used.server_us_per_poll),
            ("CPU of the generator, cores", used.generator_cores, used.generator_us_per_poll),
            ("CPU of everything else, cores", used.other_cores, None),
        ] {
            row(f, who, &format!("{cores:.2}"))?;
            if let Some(each) = each {
                row(f, "  µs per poll", &format!("{each:.1}"))?;
            }
        }
        row(
            f,
            "resident memory of the server, MB",
            &format!("{:.1}", used.server_resident_bytes as f64 / 1e6),
        )?;
        self.latencies(f)?;
        for (message, count) in &self.server_said {
            writeln!(f, "the server said {count} times: {message}")?;
        }
        if !self.server_said.is_empty() {
            writeln!(f)?;
        }
        self.verdicts().iter().try_for_each(|verdict| writeln!(f, "{verdict}"))
    }
}

/// A line that says what was tried.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.devices > 0 {
            let each = match self.mode {
                Mode::Reconnecting => "each over a new connection".to_owned(),
                Mode::Polling | Mode::Consenting => {
                    format!("over {} connections", self.connections.min(self.devices))
                }
            };
            write!(f, "{} devices offer {} polls a second {each}", self.devices, self.rate)?;
        }
        if self.consents > 0.0 {
            let and = if self.devices > 0 { ", and " } else { "" };
            write!(f, "{and}{} consents begin a second", self.consents)?;
        }
        write!(f, ", for {} s; {}; seed {}", self.length.as_secs_f64(), name(&self.store), self.seed)?;
        self.settings.iter().try_for_each(|(name, value)| write!(f, "; {name}={value}"))
    }
}

impl Report {
    fn latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{:<LABEL$}", "milliseconds")?;
        for title in ["p50", "p90", "p99", "p99.9", "max"] {
            write!(f, "{title:>COLUMN$}")?;
        }
        writeln!(f)?;
        if let Some(polls) = &self.polls {
            times(f, "polls, planned to answered", &polls.latency_ms)?;
            times(f, "  generator: sent after planned", &polls.generator_behind_ms)?;
            times(f, "  generator: woken late", &polls.generator_lag_ms)?;
        }
        if let Some(consents) = &self.consents {
            times(f, "consents, planned to token", &consents.whole_ms)?;
            times(f, "  device code", &consents.code_ms)?;
            times(f, "  all pages of the person", &consents.pages_ms)?;
            times(f, "  poll that brought the token", &consents.token_ms)?;
        }
        writeln!(f)
    }
}

fn row(f: &mut fmt::Formatter<'_>, label: &str, cell: &str) -> fmt::Result {
    writeln!(f, "{label:<LABEL$}{cell:>COLUMN$}")
}

fn times(f: &mut fmt::Formatter<'_>, label: &str, times: &Percentiles) -> fmt::Result {
    write!(f, "{label:<LABEL$}")?;
    for time in [times.p50, times.p90, times.p99, times.p999, times.max] {
        write!(f, "{time:>COLUMN$.2}")?;
    }
    writeln!(f)
}

fn errors(f: &mut fmt::Formatter<'_>, errors: &Errors) -> fmt::Result {
    row(f, "  errors", &errors.total().to_string())?;
    for (kind, count) in &errors.kinds {
        row(f, &format!("    {kind}"), &count.to_string())?;
    }
    errors.texts.iter().try_for_each(|text| writeln!(f, "    first: {text}"))
}
