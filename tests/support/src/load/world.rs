//! Owns the server under load and the simulated Enedis behind it, and the settings that make both fit a plan.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::report::Ending;
use super::{LoadError, Plan, schedule};
use crate::enedis::{GeneratedMeters, Meters, Options, Quota, Simulator};
use crate::fleet::{StoreKind, complaint, own_database};
use crate::mongod::Mongod;
use crate::plugin::CLIENT_ID;
use crate::process;
use crate::server::{Builder, Server};

/// Calls to Enedis allowed for each consent offered.
const CALLS_PER_CONSENT: f64 = 1.2;
/// Time the server may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// The server and the simulated Enedis.
pub(super) struct World {
    pub(super) enedis: Simulator,
    server: Server,
    // Runs as long as the server may use it.
    _mongod: Option<Arc<Mongod>>,
}

/// What a run has taken.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) length: Duration,
    /// Resident memory of the server at the end, in bytes.
    pub(super) resident: u64,
    pub(super) cpu: Cpu,
    /// In each second.
    pub(super) seconds: Vec<Cpu>,
}

/// CPU time taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cpu {
    /// By the server.
    pub(super) server: Duration,
    /// By this process: devices, people and the simulated Enedis.
    pub(super) own: Duration,
    /// By all there is.
    pub(super) machine: Duration,
}

impl Cpu {
    /// What was taken after `before`.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            server: self.server.saturating_sub(before.server),
            own: self.own.saturating_sub(before.own),
            machine: self.machine.saturating_sub(before.machine),
        }
    }
}

impl World {
    pub(super) async fn start(plan: &Plan) -> Result<Self, LoadError> {
        let quota = quota(plan);
        let meters = GeneratedMeters { count: u32::MAX, producer_every: 0 };
        let enedis = Simulator::start(Options {
            client_id: CLIENT_ID.into(),
            meters: Meters::Generated(meters),
            token_quota: Some(quota),
            ..Options::default()
        })
        .await;
        let mongod = (plan.store == StoreKind::Mongodb).then(Mongod::shared);
        let mut builder = configured(plan, &enedis, &quota);
        if let Some(mongod) = &mongod {
            builder = builder.env("MONGODB_URI", own_database(mongod));
        }
        for (name, value) in &plan.settings {
            builder = builder.env(name, value);
        }
        enedis.set_callback(format!("{}/auth/redirect", builder.base_url()));
        let server = builder.start().await?;
        Ok(Self { enedis, server, _mongod: mongod })
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.server.listen().parse().map_err(io::Error::other)
    }

    /// Looks each second what is taken, for `length` from `start` on. What comes after the last poll, such as the tail of
    /// consents, is not counted.
    pub(super) async fn watch(&self, start: Instant, length: Duration) -> io::Result<Taken> {
        sleep_until(start).await;
        let begun = self.cpu()?;
        let (mut before, mut seconds) = (begun, Vec::new());
        for number in 1..=schedule::seconds(length) {
            let next = Duration::from_secs(number as u64).min(length);
            sleep_until(start + next).await;
            let now = self.cpu()?;
            seconds.push(now.since(before));
            before = now;
        }
        Ok(Taken { length, resident: self.resident()?, cpu: before.since(begun), seconds })
    }

    /// Resident memory of the server, in bytes.
    pub(super) fn resident(&self) -> io::Result<u64> {
        process::resident(self.server.pid())
    }

    /// CPU time taken so far.
    fn cpu(&self) -> io::Result<Cpu> {
        let [server, own] = [self.server.pid(), std::process::id()].map(process::cpu);
        Ok(Cpu { server: server?, own: own?, machine: process::cpu_of_machine()? })
    }

    /// Stops the server; its warnings and errors, by message, and how it ended.
    pub(super) async fn stop(self) -> (BTreeMap<String, u64>, Ending) {
        let stopped = self.server.stop(STOP_WITHIN).await;
        let mut said = BTreeMap::new();
        for message in self.server.logs().iter().filter_map(|line| complaint(line)) {
            *said.entry(message).or_default() += 1;
        }
        let ending = match stopped {
            Ok(status) => Ending { well: status.success(), how: status.to_string() },
            Err(error) => Ending { well: false, how: error.to_string() },
        };
        (said, ending)
    }
}

/// What Enedis takes, and the server is told it takes: a fifth more calls than consents are offered.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is not negative")]
pub(super) fn quota(plan: &Plan) -> Quota {
    let per_second = (plan.consents * CALLS_PER_CONSENT).ceil().max(5.0);
    let per_hour = (per_second * (plan.length + plan.grace).as_secs_f64()).max(1_000.0);
    Quota { per_second: Some(per_second as u32), per_hour: Some(per_hour as u32), ..Quota::ENEDIS }
}

/// A server whose sessions outlive a run, and whose devices are told to poll every five seconds.
fn configured(plan: &Plan, enedis: &Simulator, quota: &Quota) -> Builder {
    let builder = Server::builder(&plan.binary);
    // A name would have to be looked up for each person.
    let base_url = builder.base_url().replace("localhost", "127.0.0.1");
    let calls = |limit: Option<u32>| limit.unwrap_or(u32::MAX).to_string();
    let sessions = u64::from(plan.devices) + 1_000_000;
    builder
        .env("BASE_URL", base_url)
        .env("FLOW", "DEVICE")
        .env("CLIENT_ID", CLIENT_ID)
        .env("CLIENT_SECRET", enedis.options().client_secret.clone().unwrap_or_default())
        .env("AUTHORIZATION_ENDPOINT", enedis.authorize_url())
        .env("TOKEN_ENDPOINT", enedis.token_url())
        .env("ENEDIS_CALLS_PER_SECOND", calls(quota.per_second))
        .env("ENEDIS_CALLS_PER_HOUR", calls(quota.per_hour))
        .env("LIMIT_REQUESTS_PER_MINUTE", "12")
        .env("CODE_LIFETIME_SECS", "86400")
        .env("MAX_PENDING_SESSIONS", sessions.to_string())
        // What is needed to know that it is ready.
        .env("RUST_LOG", "warn,device_flow_proxy::app=info")
}
