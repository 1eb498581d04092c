//! Owns the whole device flows of a run: a device asks for a code, a person consents at Enedis, the device polls until it
//! has its token.
//!
//! Each begins at its planned instant, whatever became of those before. It promises that each has completed or failed
//! by the end of the grace, and a kind and words for each failure.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::line::words;
use super::schedule::{instants, seconds};
use super::tally::{Errors, Times};
use crate::person::{Choice, Person};
use crate::plugin::CLIENT_ID;
use crate::wire::{self, Connection};

/// What the flows came to.
#[derive(Clone, Debug, Default)]
pub(super) struct FlowTally {
    pub(super) started: u64,
    pub(super) completed: u64,
    pub(super) errors: Errors,
    /// From the planned instant to the device code.
    pub(super) code: Times,
    /// All pages of a person, those of Enedis and the exchange of the code there included.
    pub(super) pages: Times,
    /// The poll that brought the token.
    pub(super) token: Times,
    /// From the planned instant to the token, the interval between polls included.
    pub(super) whole: Times,
    /// Started and completed in each second.
    pub(super) seconds: Vec<[u64; 2]>,
}

/// The flows of a run.
#[derive(Clone)]
pub(super) struct Flows {
    pub(super) address: SocketAddr,
    pub(super) rate: f64,
    pub(super) length: Duration,
    pub(super) grace: Duration,
    pub(super) seed: u64,
    tally: Arc<Mutex<FlowTally>>,
}

/// Why a flow did not complete: what kind, in which words.
struct Failure(&'static str, String);

impl Flows {
    pub(super) fn new(
        address: SocketAddr,
        rate: f64,
        (length, grace): (Duration, Duration),
        seed: u64,
    ) -> Self {
        let tally = FlowTally { seconds: vec![[0; 2]; seconds(length + grace)], ..FlowTally::default() };
        Self { address, rate, length, grace, seed, tally: Arc::new(Mutex::new(tally)) }
    }

    /// What they came to so far.
    pub(super) fn tally(&self) -> FlowTally {
        self.locked().clone()
    }

    /// How many have completed, and failed, so far.
    pub(super) fn standing(&self) -> (u64, u64) {
        let tally = self.locked();
        (tally.completed, tally.errors.total())
    }

    /// Runs them all.
    pub(super) async fn run_from(&self, start: Instant) {
        let end = start + self.length + self.grace;
        let mut tasks = JoinSet::new();
        for at in instants(self.rate, self.length, self.seed) {
            sleep_until(start + at).await;
            {
                let mut tally = self.locked();
                tally.started += 1;
                second(&mut tally, at, 0);
            }
            let flows = self.clone();
            tasks.spawn(async move {
                let ended = timeout_at(end, flows.flow(start + at)).await;
                let ended = ended.unwrap_or_else(|_| Err(Failure("no token by the end", String::new())));
                let mut tally = flows.locked();
                match ended {
                    Ok(()) => {
                        tally.completed += 1;
                        second(&mut tally, start.elapsed(), 1);
                    }
                    Err(Failure(kind, text)) => tally.errors.count(kind, || format!("{kind}: {text}")),
                }
            });
            // Those that are done make room.
            while tasks.try_join_next().is_some() {}
        }
        while tasks.join_next().await.is_some() {}
    }

    /// One flow, planned for `planned`.
    async fn flow(&self, planned: Instant) -> Result<(), Failure> {
        let (status, answer) = self.ask("device code", &wire::ask_for_code(CLIENT_ID)).await?;
        let text = |name: &str| answer.get(name).and_then(Value::as_str);
        let (Some(code), Some(link)) = (text("device_code"), text("verification_uri_complete")) else {
            return Err(Failure("device code", format!("HTTP {status} {answer}")));
        };
        let interval = answer.get("interval").and_then(Value::as_u64).unwrap_or(5);
        let asked = Instant::now();
        self.locked().code.record(asked - planned);

        let person = Person::new();
        let visit =
            person.link(link, Choice::Allow).await.map_err(|error| Failure("pages", error.to_string()))?;
        if visit.status != 200 {
            let text = format!("HTTP {} {}: {}", visit.status, visit.url, words(visit.html.as_bytes()));
            return Err(Failure("pages", text));
        }
        drop(person);
        self.locked().pages.record(asked.elapsed());

        let poll = wire::poll(CLIENT_ID, code);
        let mut next = asked;
        loop {
            next += Duration::from_secs(interval);
            sleep_until(next).await;
            let sent = Instant::now();
            let (status, answer) = self.ask("poll", &poll).await?;
            match (status, answer.get("error").and_then(Value::as_str)) {
                (200, None) if answer.get("access_token").is_some() => {
                    let mut tally = self.locked();
                    tally.token.record(sent.elapsed());
                    tally.whole.record(planned.elapsed());
                    return Ok(());
                }
                (400, Some("authorization_pending" | "slow_down")) => {}
                // The answer may hold a token.
                (status, error) => return Err(Failure("poll", format!("HTTP {status} {error:?}"))),
            }
        }
    }

    /// One request on a connection of its own.
    async fn ask(&self, kind: &'static str, request: &[u8]) -> Result<(u16, Value), Failure> {
        let asked = async {
            let mut connection = Connection::new(tokio::net::TcpStream::connect(self.address).await?)?;
            let (status, body) = connection.ask(request).await?;
            Ok::<_, std::io::Error>((status, serde_json::from_slice(body)?))
        };
        asked.await.map_err(|error| Failure(kind, error.to_string()))
    }

    fn locked(&self) -> MutexGuard<'_, FlowTally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn second(tally: &mut FlowTally, at: Duration, which: usize) {
    let last = tally.seconds.len().saturating_sub(1);
    let number = usize::try_from(at.as_secs()).unwrap_or(last).min(last);
    if let Some(counts) = tally.seconds.get_mut(number) {
        counts[which] += 1;
    }
}
