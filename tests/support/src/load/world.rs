//! Owns the server under load and the simulated Enedis behind it, and the settings that make both fit a plan.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::report::Ending;
use super::{LoadError, Plan, schedule};
use crate::enedis::{GeneratedMeters, Meters, Options, Quota, Simulator};
use crate::plugin::CLIENT_ID;
use crate::process;
use crate::server::Server;
use crate::world::{self, complaints};

/// Calls to Enedis allowed for each consent offered.
const CALLS_PER_CONSENT: f64 = 1.2;
/// Time the server may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// The server and the simulated Enedis.
pub(super) struct World {
    ground: world::World,
    server: Server,
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
        let ground = world::World::new(
            &plan.binary,
            Options {
                client_id: CLIENT_ID.into(),
                meters: Meters::Generated(meters),
                token_quota: Some(quota),
                ..Options::default()
            },
            plan.store,
        )
        .await;
        // A name would have to be looked up for each person.
        let base_url = ground.builder.base_url().replace("localhost", "127.0.0.1");
        let ground =
            ground.with(settings(plan, &quota)).with([("BASE_URL", base_url)]).with(plan.settings.clone());
        let server = ground.start().await?;
        Ok(Self { ground, server })
    }

    pub(super) fn enedis(&self) -> &Simulator {
        &self.ground.enedis
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
        let said = complaints(&self.server);
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
fn settings(plan: &Plan, quota: &Quota) -> [(&'static str, String); 7] {
    let calls = |limit: Option<u32>| limit.unwrap_or(u32::MAX).to_string();
    let sessions = u64::from(plan.devices) + 1_000_000;
    [
        ("FLOW", "DEVICE".into()),
        ("ENEDIS_CALLS_PER_SECOND", calls(quota.per_second)),
        ("ENEDIS_CALLS_PER_HOUR", calls(quota.per_hour)),
        ("LIMIT_REQUESTS_PER_MINUTE", "12".into()),
        ("CODE_LIFETIME_SECS", "86400".into()),
        ("MAX_PENDING_SESSIONS", sessions.to_string()),
        // What is needed to know that it is ready.
        ("RUST_LOG", "warn,device_flow_proxy::app=info".into()),
    ]
}
