//! Owns the whole device flows of a run: a device asks for a code, a person consents at Enedis, the device polls until it
//! has its token.
//!
//! Each begins at its planned instant, whatever became of those before. It promises that each has completed or failed
//! by the end of the grace, and a kind and words for each failure.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::schedule::instants;
use super::tally::{Errors, Times, second, seconds};
use super::{Plan, locked};
use crate::device::Device;
use crate::person::{Choice, Person};
use crate::plugin::CLIENT_ID;

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
    pub code_ms: Times,
    /// All pages of a person, with Enedis' and the exchange of the code there, in milliseconds.
    pub pages_ms: Times,
    /// The poll that brought the token, in milliseconds.
    pub token_ms: Times,
    /// From the planned instant to the token, with the interval between polls, in milliseconds.
    pub whole_ms: Times,
    /// Begun and completed in each second.
    pub series: Vec<[u64; 2]>,
}

/// Why a flow did not complete: what kind, in which words.
struct Failure(&'static str, String);

impl Consents {
    pub(super) fn new(length: Duration) -> Self {
        Self { series: vec![[0; 2]; seconds(length)], ..Self::default() }
    }

    /// Without the seconds in which nothing happened any more.
    pub(super) fn finished(mut self) -> Self {
        self.series
            .truncate(self.series.iter().rposition(|counts| *counts != [0, 0]).map_or(0, |last| last + 1));
        self
    }

    fn start(&mut self, at: Duration) {
        self.started += 1;
        let number = second(at, self.series.len());
        self.series[number][0] += 1;
    }

    fn end(&mut self, at: Duration, ended: Result<(), Failure>) {
        match ended {
            Ok(()) => {
                self.completed += 1;
                let number = second(at, self.series.len());
                self.series[number][1] += 1;
            }
            Err(Failure(kind, text)) => self.errors.count(kind, &text),
        }
    }
}

/// Runs all flows of `plan` against the server at `base_url`.
pub(super) async fn run(plan: &Plan, base_url: &str, start: Instant, tally: &Arc<Mutex<Consents>>) {
    let end = start + plan.length + plan.grace;
    let mut tasks = JoinSet::new();
    for at in instants(plan.consents, plan.length) {
        sleep_until(start + at).await;
        locked(tally).start(at);
        let (base_url, tally) = (base_url.to_owned(), Arc::clone(tally));
        tasks.spawn(async move {
            let ended = timeout_at(end, flow(&base_url, start + at, &tally)).await;
            let ended = ended.unwrap_or_else(|_| Err(Failure("no token by the end", String::new())));
            locked(&tally).end(start.elapsed(), ended);
        });
        // Those that are done make room.
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
}

/// One flow, planned for `planned`.
async fn flow(base_url: &str, planned: Instant, tally: &Mutex<Consents>) -> Result<(), Failure> {
    let failed = |kind| move |error: &dyn std::fmt::Display| Failure(kind, error.to_string());
    let mut device = Device::new(base_url, CLIENT_ID);
    let code = device.request_code(&[]).await.map_err(|error| failed("device code")(&error))?;
    let asked = Instant::now();
    locked(tally).code_ms.record(asked - planned);

    let visit =
        Person::new().link(code.link(), Choice::Allow).await.map_err(|error| failed("pages")(&error))?;
    if visit.status != 200 {
        let words: String = visit.html.chars().take(300).collect();
        return Err(Failure("pages", format!("HTTP {} {}: {words}", visit.status, visit.url)));
    }
    locked(tally).pages_ms.record(asked.elapsed());

    let mut next = asked;
    loop {
        next += Duration::from_secs(code.interval);
        sleep_until(next).await;
        let sent = Instant::now();
        let answer = device.poll_once().await.map_err(|error| failed("poll")(&error))?;
        match (answer.status, answer.error()) {
            (200, None) if answer.text("access_token").is_some() => {
                let mut tally = locked(tally);
                tally.token_ms.record(sent.elapsed());
                tally.whole_ms.record(planned.elapsed());
                return Ok(());
            }
            (400, Some("authorization_pending" | "slow_down")) => {}
            // The body may hold a token.
            (status, error) => return Err(Failure("poll", format!("HTTP {status} {error:?}"))),
        }
    }
}
