//! Owns what a run is judged by: the numbers of each day, and the requirements they must meet.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Plan;
use super::boxes::{State, point};
use super::crowd::Crowd;
use crate::calendar::Day;
use crate::enedis::{Counts, Endpoint};
use crate::plugin::Outcomes;
pub use crate::report::Verdict;
use crate::report::{Judged, name};

/// Most data calls at Enedis for a meter that only consumes, on any day but the first.
const CALLS_A_DAY: f64 = 2.1;

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
    /// The date, `YYYY-MM-DD`.
    pub date: String,
    /// Boxes in all.
    pub boxes: usize,
    /// Boxes that got everything they wanted.
    pub served: usize,
    /// Boxes that gave up for an hour at least once.
    pub gave_up: usize,
    /// Times a box gave up for an hour.
    pub times_given_up: u64,
    /// Boxes that had stopped for good by the end of the day.
    pub disabled: usize,
    /// Boxes that threw, and did nothing until the next day.
    pub stuck: usize,
    /// Boxes that were still busy, or waiting for another hour, at the end.
    pub unfinished: usize,
    /// Requests of the boxes by kind, those sent again included.
    pub requests: BTreeMap<String, u64>,
    /// Requests of the boxes sent again.
    pub resends: u64,
    /// Requests of the boxes without an answer in four heartbeats.
    pub timeouts: u64,
    /// Answers the boxes got, by status.
    pub answers: BTreeMap<u16, u64>,
    /// Calls to Enedis for data, those during an outage included.
    pub data_calls: u64,
    /// Meters that only consume.
    pub consumers: u64,
    /// Calls to Enedis for their data, but for those during an outage.
    pub consumer_calls: u64,
    /// Meters that produce as well.
    pub producers: u64,
    /// Calls to Enedis for their data, but for those during an outage.
    pub producer_calls: u64,
    /// Calls to Enedis to learn which meter was consented to.
    pub service_calls: u64,
    /// Tokens of the application that Enedis issued.
    pub tokens: u64,
    /// Calls that Enedis answered 429 because the quota was spent.
    pub throttled: u64,
    /// The most calls to one API in a second and in an hour, as Enedis counts them.
    pub most_in_a_second: u32,
    /// See [`DayReport::most_in_a_second`].
    pub most_in_an_hour: u32,
    /// Seconds by which the clocks were put forward while every box waited.
    pub skipped_secs: u64,
    /// Seconds from the first arrival until all boxes were served, skipped time included; `None`: they were not.
    pub served_after_secs: Option<f64>,
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
    /// Requests to learn which meter was consented to.
    pub service_calls: u64,
    /// Requests for tokens.
    pub token_calls: u64,
}

impl DayReport {
    /// The day that just ended; `before` is what had become of the boxes when it began, `enedis` what it counted
    /// during an outage and apart from it.
    pub(super) fn new(
        plan: &Plan,
        (name, date): (&str, Day),
        crowd: &Crowd,
        before: &Outcomes,
        (outage, counts): (Option<OutageReport>, Counts),
        skipped: Duration,
    ) -> Self {
        let boxes = crowd.residents();
        let standing = |wanted: State| boxes.iter().filter(|each| each.state() == wanted).count();
        let sum = crowd.outcomes().since(before);
        let [mut consumer_calls, mut producer_calls] = [0, 0];
        let producing: HashSet<_> =
            (0..plan.boxes).filter(|index| plan.meters().produces(*index)).map(point).collect();
        for ((asked, _), count) in &counts.per_meter {
            if producing.contains(asked) {
                producer_calls += count;
            } else {
                consumer_calls += count;
            }
        }
        let producers = producing.len() as u64;
        let served = standing(State::Served);
        let served_after =
            crowd.served_after().filter(|_| served == boxes.len()).map(|after| after + skipped);
        Self {
            name: name.to_owned(),
            date: date.to_string(),
            boxes: boxes.len(),
            served,
            gave_up: boxes.iter().filter(|each| each.of_today().gave_up > 0).count(),
            times_given_up: sum.gave_up,
            disabled: standing(State::Disabled),
            stuck: standing(State::Stuck),
            unfinished: standing(State::Busy) + standing(State::Waiting),
            requests: sum.requests.iter().map(|(kind, count)| (kind.name().to_owned(), *count)).collect(),
            resends: sum.resends,
            timeouts: sum.timeouts,
            answers: sum.statuses,
            data_calls: counts.data_requests() + outage.as_ref().map_or(0, |outage| outage.data_calls),
            consumers: u64::from(plan.boxes) - producers,
            consumer_calls,
            producers,
            producer_calls,
            service_calls: counts.requests(Endpoint::SubscribedServices),
            tokens: counts.application_tokens,
            throttled: counts.throttled_in_all(),
            most_in_a_second: counts.most_in_a_second.values().copied().max().unwrap_or(0),
            most_in_an_hour: counts.most_in_an_hour.values().copied().max().unwrap_or(0),
            skipped_secs: skipped.as_secs(),
            served_after_secs: served_after.map(|after| after.as_secs_f64()),
            outage,
        }
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

/// One or two lines that say what was tried.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} boxes within {} s each morning, {} days of history; consent {}, API {}, {}; seed {}",
            self.boxes,
            self.arrive_within.as_secs(),
            self.history_days,
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
        more.extend(self.outage.map(|outage| format!("Enedis on day 2: {}", name(&outage))));
        if more.is_empty() { Ok(()) } else { write!(f, "\n{}", more.join("; ")) }
    }
}

fn per(calls: u64, meters: u64) -> f64 {
    if meters == 0 { 0.0 } else { calls as f64 / meters as f64 }
}
