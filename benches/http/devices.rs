//! The devices: connections that send a request as soon as the last is answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use testkit::wire::{self, Connection};
use tokio::task::JoinSet;

use crate::Fault;

pub const CLIENT: &str = "bench-client";
/// Asks for `count` device codes; they, and how many came in a second.
pub async fn ask_for_codes(
    address: &str,
    connections: usize,
    count: usize,
) -> Result<(Vec<String>, f64), Fault> {
    let begun = Instant::now();
    let mut devices = JoinSet::new();
    for number in 0..connections {
        let (address, mine) =
            (address.to_owned(), count / connections + usize::from(number < count % connections));
        devices.spawn(async move {
            let mut device = Connection::open(&address).await?;
            let request = wire::ask_for_code(CLIENT);
            let mut codes = Vec::with_capacity(mine);
            for _ in 0..mine {
                let (status, body) = device.ask(&request).await?;
                let answer: serde_json::Value = serde_json::from_slice(body)?;
                let code = answer["device_code"].as_str().ok_or_else(|| format!("{status}: {answer}"))?;
                codes.push(code.to_owned());
            }
            Ok::<_, Fault>(codes)
        });
    }
    let mut codes = Vec::with_capacity(count);
    while let Some(done) = devices.join_next().await {
        codes.extend(done??);
    }
    Ok((codes, count as f64 / begun.elapsed().as_secs_f64()))
}

/// A round of polls.
pub struct Load {
    pub address: String,
    pub connections: usize,
    pub length: Duration,
}

/// What came of it.
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
    pub fn rate(&self) -> f64 {
        self.polls as f64 / self.took.as_secs_f64().max(f64::EPSILON)
    }
}

impl Load {
    /// Each connection goes through its own part of the requests, again and again.
    pub async fn run(&self, requests: &Arc<Vec<Vec<u8>>>) -> Result<Done, Fault> {
        let begun = Instant::now();
        let end = begun + self.length;
        let mut devices = JoinSet::new();
        for number in 0..self.connections {
            let (address, requests, step) = (self.address.clone(), Arc::clone(requests), self.connections);
            devices.spawn(async move {
                let mut device = Connection::open(&address).await?;
                let mut done = Done::default();
                let own = requests.iter().skip(number % requests.len()).step_by(step);
                for request in own.cycle() {
                    if Instant::now() >= end {
                        break;
                    }
                    let (status, body) = device.ask(request).await?;
                    if status != 400 {
                        return Err(format!("{status}: {}", String::from_utf8_lossy(body)).into());
                    }
                    done.polls += 1;
                    done.slow_down += u64::from(body.windows(9).any(|window| window == b"slow_down"));
                }
                Ok::<_, Fault>(done)
            });
        }
        let mut all = Done::default();
        while let Some(done) = devices.join_next().await {
            let done = done??;
            all.polls += done.polls;
            all.slow_down += done.slow_down;
        }
        Ok(Done { took: begun.elapsed(), ..all })
    }
}
