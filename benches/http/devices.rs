//! The devices: connections that send a request as soon as the last is answered (closed loop). What is asked for is how
//! much the server can do; `cargo fleet` tells how long a device waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use testkit::wire::{self, Connection};
use tokio::task::JoinSet;

use crate::Fault;

pub const CLIENT: &str = "bench-client";

/// Over which connection a device polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Polls {
    /// The one over which it asked for its code, as the plugin does.
    Own,
    /// Any other, as behind a reverse proxy that shares its connections.
    Shared,
    /// A new one for each poll.
    New,
}

/// The devices behind one connection.
struct Household {
    connection: Connection,
    polls: Vec<Vec<u8>>,
}

/// All devices.
pub struct Crowd {
    households: Vec<Household>,
}

impl Crowd {
    /// Asks for `count` device codes over so many `connections`; the devices, and how many codes came in a second.
    pub async fn ask_for_codes(
        address: &str,
        connections: usize,
        count: usize,
    ) -> Result<(Self, f64), Fault> {
        let begun = Instant::now();
        let mut asking = JoinSet::new();
        for number in 0..connections {
            let mine = count / connections + usize::from(number < count % connections);
            let address = address.to_owned();
            asking.spawn(async move {
                let mut connection = Connection::open(&address).await?;
                let request = wire::ask_for_code(CLIENT);
                let mut polls = Vec::with_capacity(mine);
                for _ in 0..mine {
                    let (status, body) = connection.ask(&request).await?;
                    let answer: serde_json::Value = serde_json::from_slice(body)?;
                    let code = answer["device_code"].as_str().ok_or_else(|| format!("{status}: {answer}"))?;
                    polls.push(wire::poll(CLIENT, code));
                }
                Ok::<_, Fault>(Household { connection, polls })
            });
        }
        let mut households = Vec::with_capacity(connections);
        while let Some(done) = asking.join_next().await {
            households.push(done??);
        }
        Ok((Self { households }, count as f64 / begun.elapsed().as_secs_f64()))
    }

    /// The same devices in front of another server, over new connections.
    pub async fn elsewhere(&self, address: &str) -> Result<Self, Fault> {
        let mut households = Vec::with_capacity(self.households.len());
        for household in &self.households {
            let polls = household.polls.clone();
            households.push(Household { connection: Connection::open(address).await?, polls });
        }
        Ok(Self { households })
    }

    /// From now on each connection carries the polls of devices that asked over all of them.
    pub fn mix(&mut self) {
        let count = self.households.len();
        let mut mixed = vec![Vec::new(); count];
        for household in &mut self.households {
            for (number, poll) in std::mem::take(&mut household.polls).into_iter().enumerate() {
                mixed[number % count].push(poll);
            }
        }
        for (household, polls) in self.households.iter_mut().zip(mixed) {
            household.polls = polls;
        }
    }

    /// Polls for this `length`, each connection through its devices again and again. `renew`: a new connection to this
    /// address for each poll.
    pub async fn poll(self, length: Duration, renew: Option<&str>) -> Result<(Self, Done), Fault> {
        let begun = Instant::now();
        let end = begun + length;
        let renew: Option<Arc<str>> = renew.map(Arc::from);
        let mut polling = JoinSet::new();
        for mut household in self.households {
            let renew = renew.clone();
            polling.spawn(async move {
                let mut done = Done::default();
                let Household { connection, polls } = &mut household;
                for poll in polls.iter().cycle() {
                    if Instant::now() >= end {
                        break;
                    }
                    if let Some(address) = &renew {
                        *connection = Connection::open(address).await?;
                    }
                    let (status, body) = connection.ask(poll).await?;
                    if status != 400 {
                        return Err(format!("{status}: {}", String::from_utf8_lossy(body)).into());
                    }
                    done.polls += 1;
                    done.slow_down += u64::from(body.windows(9).any(|window| window == b"slow_down"));
                }
                Ok::<_, Fault>((household, done))
            });
        }
        let (mut households, mut all) = (Vec::new(), Done::default());
        while let Some(ended) = polling.join_next().await {
            let (household, done) = ended??;
            households.push(household);
            all.polls += done.polls;
            all.slow_down += done.slow_down;
        }
        Ok((Self { households }, Done { took: begun.elapsed(), ..all }))
    }
}

/// What came of a round of polls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Polls answered.
    pub polls: u64,
    /// Of them, those told to slow down.
    pub slow_down: u64,
    /// From the first request to the last answer.
    pub took: Duration,
}

impl Done {
    /// Polls in a second.
    pub fn rate(&self) -> f64 {
        self.polls as f64 / self.took.as_secs_f64().max(f64::EPSILON)
    }
}
