//! Owns how a report is written for a person: a column per day, then the verdicts.

use std::fmt;

use jiff::SignedDuration;

use super::report::{DayReport, Report};
use crate::report::{Judged as _, Table};

/// Days beside each other; more go below.
const DAYS: usize = 5;
/// Kinds of requests, in the order a box sends them.
const KINDS: [&str; 6] = ["device code", "poll", "refresh", "consumption", "max power", "production"];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.plan)?;
        let days: Vec<_> = self.all().collect();
        for days in days.chunks(DAYS) {
            writeln!(f, "{}", table(days))?;
        }
        for outage in days.iter().filter_map(|day| day.outage.as_ref()) {
            writeln!(
                f,
                "Enedis was out of order ({}): meanwhile {} calls for data, {} for services, {} for tokens reached it\n",
                outage.kind, outage.data_calls, outage.service_calls, outage.token_calls
            )?;
        }
        for (who, said) in [("the server", &self.server_said), ("owners", &self.owners_said)] {
            for (message, count) in said {
                writeln!(f, "{who} said {count} times: {message}")?;
            }
            if !said.is_empty() {
                writeln!(f)?;
            }
        }
        self.verdicts().iter().try_for_each(|verdict| verdict.fmt(f))
    }
}

fn table(days: &[&DayReport]) -> Table {
    let mut table = Table::default();
    let mut row = |label: &str, cell: &dyn Fn(&DayReport) -> String| {
        table.row(label, days.iter().map(|day| cell(day)));
    };
    row("", &|day| day.name.clone());
    row("", &|day| day.date.clone());
    row("boxes", &|day| day.boxes.to_string());
    row("  served", &|day| day.served.to_string());
    row("  gave up for an hour (times)", &|day| match day.times_given_up {
        0 => "0".into(),
        times => format!("{} ({times})", day.gave_up),
    });
    row("  stopped for good", &|day| day.disabled.to_string());
    row("  stuck until the next day", &|day| day.stuck.to_string());
    row("  unfinished", &|day| day.unfinished.to_string());
    row("all served after", &|day| {
        day.served_after_secs.map_or("never".into(), |secs| duration(secs.round()))
    });
    row("  of which skipped, all boxes waiting", &|day| match day.skipped_secs {
        0 => "0".into(),
        secs => duration(secs as f64),
    });
    row("requests of the boxes", &|day| day.requests.values().sum::<u64>().to_string());
    for kind in KINDS {
        if days.iter().any(|day| day.requests.contains_key(kind)) {
            row(&format!("  {kind}"), &|day| count(day.requests.get(kind)));
        }
    }
    row("  sent again", &|day| day.resends.to_string());
    row("  without an answer in time", &|day| day.timeouts.to_string());
    let mut statuses: Vec<_> = days.iter().flat_map(|day| day.answers.keys().copied()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    for status in statuses {
        row(&format!("  answered {status}"), &|day| count(day.answers.get(&status)));
    }
    row("calls to Enedis for data", &|day| day.data_calls.to_string());
    row("  per meter that only consumes", &|day| format!("{:.2}", day.per_consumer()));
    if days.iter().any(|day| day.producers > 0) {
        row("  per meter that produces as well", &|day| format!("{:.2}", day.per_producer()));
    }
    row("  most in a second", &|day| day.most_in_a_second.to_string());
    row("  most in an hour", &|day| day.most_in_an_hour.to_string());
    row("  answered 429 for the quota", &|day| day.throttled.to_string());
    row("calls to Enedis for services", &|day| day.service_calls.to_string());
    row("tokens of Enedis for the application", &|day| day.tokens.to_string());
    table
}

fn count(count: Option<&u64>) -> String {
    count.copied().unwrap_or(0).to_string()
}

/// `1m 15s`.
fn duration(secs: f64) -> String {
    format!("{:#}", SignedDuration::from_secs_f64(secs))
}
