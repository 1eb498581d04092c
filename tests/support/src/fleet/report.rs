//! Owns what a run is judged by: the numbers of each day, the requirements they must meet, and how both are written for
//! a person: a column per day, then the verdicts.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::Serialize;

use super::Plan;
use super::boxes::State;
use super::crowd::Crowd;
use crate::enedis::{Counts, GeneratedMeters};
pub use crate::report::Verdict;
use crate::report::{Judged, Table, name, write_end};

/// Most data calls at Enedis for a meter that only consumes, on any day but the first.
const CALLS_A_DAY: f64 = 2.1;

/// Days beside each other; more go below.
const DAYS: usize = 5;
/// Kinds of requests, in the order a box sends them.
const KINDS: [&str; 6] = ["device code", "poll", "refresh", "consumption", "max power", "production"];

/// What came of a run. [`fmt::Display`] writes it as a table and a list of verdicts.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The plan, in words.
    pub plan: String,
    /// Each day, in order.
    pub days: Vec<DayReport>,
    /// The last day asked once more.
    pub again: Option<DayReport>,
    /// Warnings and errors of the server, by message.
    pub server_said: BTreeMap<String, u64>,
    /// What owners read who found no way to consent.
    pub owners_said: BTreeMap<String, u64>,
}

/// What came of one day.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DayReport {
    /// `day 1`, or `again`.
    pub name: String,
    /// Boxes in all.
    pub boxes: usize,
    /// Boxes that got everything they wanted.
    pub served: usize,
    /// Times a box gave up for an hour.
    pub gave_up: u64,
    /// Boxes that had stopped for good by the end of the day.
    pub disabled: usize,
    /// Boxes that threw, and did nothing until the next day.
    pub stuck: usize,
    /// Boxes that were still busy, or waiting for another hour, at the end.
    pub unfinished: usize,
    /// Requests of the boxes by kind, those sent again included.
    pub requests: BTreeMap<String, u64>,
    /// Answers the boxes got, by status.
    pub answers: BTreeMap<u16, u64>,
    /// Calls to Enedis for data, those during an outage included.
    pub data_calls: u64,
    /// Of them, those of the night before, if the server ran then.
    pub at_night: Option<u64>,
    /// Meters that only consume.
    pub consumers: u64,
    /// Calls to Enedis for their data, but for those during an outage.
    pub consumer_calls: u64,
    /// Meters that produce as well.
    pub producers: u64,
    /// Calls to Enedis for their data, but for those during an outage.
    pub producer_calls: u64,
    /// Calls that Enedis answered 429 because the quota was spent.
    pub throttled: u64,
    /// What reached Enedis during the outage.
    pub outage: Option<OutageReport>,
}

/// What reached Enedis during an outage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OutageReport {
    /// `down`, `500` or `night`.
    pub kind: String,
    /// Requests for data.
    pub data_calls: u64,
}

impl DayReport {
    /// The day that just ended; `outage` is what reached Enedis during it, `counts` what it counted apart from it.
    pub(super) fn new(
        plan: &Plan,
        name: &str,
        crowd: &Crowd,
        outage: Option<OutageReport>,
        counts: &Counts,
    ) -> Self {
        let producing: HashSet<_> = (0..plan.boxes)
            .filter(|index| plan.meters().produces(*index))
            .map(GeneratedMeters::point)
            .collect();
        let calls = |produces: bool| {
            let of = counts.per_meter.iter().filter(|((asked, _), _)| producing.contains(asked) == produces);
            of.map(|(_, count)| count).sum()
        };
        let producers = producing.len() as u64;
        let mut day = Self {
            name: name.to_owned(),
            boxes: crowd.len(),
            served: crowd.standing(State::Served),
            disabled: crowd.standing(State::Disabled),
            stuck: crowd.standing(State::Stuck),
            unfinished: crowd.standing(State::Busy) + crowd.standing(State::Waiting),
            data_calls: counts.data_requests() + outage.as_ref().map_or(0, |outage| outage.data_calls),
            consumers: u64::from(plan.boxes) - producers,
            consumer_calls: calls(false),
            producers,
            producer_calls: calls(true),
            throttled: counts.throttled_in_all(),
            outage,
            ..Self::default()
        };
        for outcomes in crowd.outcomes() {
            day.gave_up += outcomes.gave_up;
            for (kind, count) in &outcomes.requests {
                *day.requests.entry(kind.name().to_owned()).or_default() += count;
            }
            for (status, count) in &outcomes.statuses {
                *day.answers.entry(*status).or_default() += count;
            }
        }
        day
    }

    /// Calls to Enedis for data per meter that only consumes.
    pub fn per_consumer(&self) -> f64 {
        per(self.consumer_calls, self.consumers)
    }

    /// Calls to Enedis for data per meter that produces as well.
    pub fn per_producer(&self) -> f64 {
        per(self.producer_calls, self.producers)
    }
}

impl Report {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { plan: plan.to_string(), ..Self::default() }
    }

    /// The days, and the last one again.
    pub fn all(&self) -> impl Iterator<Item = &DayReport> {
        self.days.iter().chain(&self.again)
    }
}

impl Judged for Report {
    fn verdicts(&self) -> Vec<Verdict> {
        let each = |what: fn(&DayReport) -> String| self.all().map(what).collect::<Vec<_>>().join(", ");
        let disabled = self.all().map(|day| day.disabled).max().unwrap_or(0);
        let mut verdicts = vec![
            Verdict::new(
                "every box is served, every day",
                self.all().all(|day| day.served == day.boxes),
                each(|day| format!("{} of {}", day.served, day.boxes)),
            ),
            Verdict::new("no box stops for good", disabled == 0, format!("{disabled} stopped")),
            Verdict::new(
                "Enedis never answers 429 for its quota",
                self.all().all(|day| day.throttled == 0),
                each(|day| day.throttled.to_string()),
            ),
        ];
        let later: Vec<_> = self.days.iter().skip(1).filter(|day| day.consumers > 0).collect();
        if !later.is_empty() {
            let found: Vec<_> = later.iter().map(|day| format!("{:.2}", day.per_consumer())).collect();
            verdicts.push(Verdict::new(
                "at most 2.1 data calls per meter that only consumes, from day 2 on",
                later.iter().all(|day| day.per_consumer() <= CALLS_A_DAY),
                found.join(", "),
            ));
        }
        let after_nights: Vec<_> =
            self.days.iter().filter_map(|day| Some(day.data_calls - day.at_night?)).collect();
        if !after_nights.is_empty() {
            verdicts.push(Verdict::new(
                "after a night every box has its answer without a call",
                after_nights.iter().all(|calls| *calls == 0),
                after_nights.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
            ));
        }
        if let Some(again) = &self.again {
            verdicts.push(Verdict::new(
                "the same day asked again costs no call",
                again.data_calls == 0,
                format!("{} calls", again.data_calls),
            ));
        }
        verdicts
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.plan)?;
        let days: Vec<_> = self.all().collect();
        for days in days.chunks(DAYS) {
            writeln!(f, "{}", table(days))?;
        }
        for outage in days.iter().filter_map(|day| day.outage.as_ref()) {
            let OutageReport { kind, data_calls } = outage;
            writeln!(
                f,
                "Enedis was out of order ({kind}): meanwhile {data_calls} calls for data reached it\n"
            )?;
        }
        let said = [("the server", &self.server_said), ("owners", &self.owners_said)];
        write_end(f, &said, &self.verdicts())
    }
}

fn table(days: &[&DayReport]) -> Table {
    let mut table = Table::default();
    let mut row = |label: &str, cell: &dyn Fn(&DayReport) -> String| {
        table.row(label, days.iter().map(|day| cell(day)));
    };
    row("", &|day| day.name.clone());
    row("boxes", &|day| day.boxes.to_string());
    row("  served", &|day| day.served.to_string());
    row("  gave up for an hour, times", &|day| day.gave_up.to_string());
    row("  stopped for good", &|day| day.disabled.to_string());
    row("  stuck until the next day", &|day| day.stuck.to_string());
    row("  unfinished", &|day| day.unfinished.to_string());
    row("requests of the boxes", &|day| day.requests.values().sum::<u64>().to_string());
    for kind in KINDS {
        if days.iter().any(|day| day.requests.contains_key(kind)) {
            row(&format!("  {kind}"), &|day| count(day.requests.get(kind)));
        }
    }
    let mut statuses: Vec<_> = days.iter().flat_map(|day| day.answers.keys().copied()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    for status in statuses {
        row(&format!("  answered {status}"), &|day| count(day.answers.get(&status)));
    }
    row("calls to Enedis for data", &|day| day.data_calls.to_string());
    if days.iter().any(|day| day.at_night.is_some()) {
        row("  of the night before", &|day| count(day.at_night.as_ref()));
    }
    row("  per meter that only consumes", &|day| format!("{:.2}", day.per_consumer()));
    if days.iter().any(|day| day.producers > 0) {
        row("  per meter that produces as well", &|day| format!("{:.2}", day.per_producer()));
    }
    row("  answered 429 for the quota", &|day| day.throttled.to_string());
    table
}

fn count(count: Option<&u64>) -> String {
    count.copied().unwrap_or(0).to_string()
}

/// One or two lines that say what was tried.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} boxes within {} s each morning; consent {}, API {}, {}; seed {}",
            self.boxes,
            self.arrive_within.as_secs(),
            name(&self.authorize),
            name(&self.api),
            name(&self.store),
            self.seed
        )?;
        let mut more = Vec::new();
        if self.producer_every > 0 {
            more.push(format!("one meter in {} produces as well", self.producer_every));
        }
        if self.speed > 1.0 {
            more.push(format!("boxes at {} times the speed", self.speed));
        }
        if self.night {
            more.push("the server runs from six on".to_owned());
        }
        if self.instances > 1 {
            more.push(format!("{} instances", self.instances));
        }
        more.extend(self.outage.map(|outage| format!("Enedis on day 2: {}", name(&outage))));
        if more.is_empty() { Ok(()) } else { write!(f, "\n{}", more.join("; ")) }
    }
}

fn per(calls: u64, meters: u64) -> f64 {
    if meters == 0 { 0.0 } else { calls as f64 / meters as f64 }
}
