//! Owns the server, the simulated Enedis and their common clock.
//!
//! The clock is the wall's and some whole seconds, which both are told: the server at its start, by
//! `CLOCK_OFFSET_SECS`. It only goes forward.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::report::{OutageReport, name};
use super::{Authorize, FleetError, Outage, Plan, StoreKind};
use crate::calendar::{Day, wall_clock};
use crate::enedis::{Api, Endpoint, Fault, GeneratedMeters, Meters, Options, Simulator};
use crate::mongod::Mongod;
use crate::plugin::CLIENT_ID;
use crate::server::{Builder, Server};

/// Polls of one code that the server takes in a minute.
const POLLS_A_MINUTE: f64 = 12.0;
/// Second of the day at which boxes begin to arrive, and an outage of the night ends.
const MORNING: i64 = 8 * 3_600;
/// How far the clocks of the boxes are ahead of Enedis' when it is closed at night, in seconds.
const AHEAD: i64 = 30;
/// Length of the other outages.
const OUTAGE: Duration = Duration::from_secs(3_600);
/// Requests to each door that an outage is scripted for; after them it answers 503.
const SCRIPTED: usize = 3_000;
/// Time the server may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// Databases of this process so far: each run has one of its own.
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// The server and the simulated Enedis.
pub(super) struct World {
    pub(super) enedis: Simulator,
    builder: Builder,
    server: Option<Server>,
    ahead: Duration,
    first_day: Day,
    outage: Option<Standing>,
    over: Option<OutageReport>,
    /// Warnings and errors of the server, by message.
    said: BTreeMap<String, u64>,
    // Runs as long as the server may use it.
    _mongod: Option<Arc<Mongod>>,
}

/// An outage that has not ended.
struct Standing {
    kind: Outage,
    /// When it ends, since 1970.
    until: Duration,
    /// Requests to the token service before it.
    tokens_before: usize,
}

impl World {
    /// Starts both at 8 o'clock in France, of today if that is yet to come.
    pub(super) async fn start(plan: &Plan) -> Result<Self, FleetError> {
        let now = wall_clock();
        let today = Day::in_france(now);
        let first_day = if today.at_in_france(MORNING) > now { today } else { today.plus(1) };
        let meters = GeneratedMeters { count: plan.boxes, producer_every: plan.producer_every };
        let enedis = Simulator::start(Options {
            client_id: CLIENT_ID.into(),
            meters: Meters::Generated(meters),
            ..Options::default()
        })
        .await;
        let mongod = (plan.store == StoreKind::Mongodb).then(Mongod::shared);
        let mut builder = configured(plan, &enedis);
        if let Some(mongod) = &mongod {
            builder = builder.env("MONGODB_URI", own_database(mongod));
        }
        enedis.set_callback(format!("{}/auth/redirect", builder.base_url()));
        let mut world = Self {
            enedis,
            builder,
            server: None,
            ahead: Duration::ZERO,
            first_day,
            outage: None,
            over: None,
            said: BTreeMap::new(),
            _mongod: mongod,
        };
        world.restart_at(first_day.at_in_france(MORNING)).await?;
        Ok(world)
    }

    /// The day it began with.
    pub(super) fn first_day(&self) -> Day {
        self.first_day
    }

    /// Where the server is found.
    pub(super) fn base_url(&self) -> String {
        self.builder.base_url()
    }

    /// Starts the server again in the morning of `day`, with nothing counted yet at Enedis.
    pub(super) async fn morning(&mut self, day: Day, outage: Option<Outage>) -> Result<(), FleetError> {
        let eight = day.at_in_france(MORNING);
        let (at, until) = match outage {
            Some(Outage::Night) => (day.at_in_france(MORNING - AHEAD), eight),
            _ => (eight, eight + OUTAGE),
        };
        self.stop().await?;
        self.put_clock_at(at);
        self.enedis.reset_counts();
        if let Some(kind) = outage {
            let tokens_before = self.enedis.seen().token_requests.len();
            begin(&self.enedis, kind);
            self.outage = Some(Standing { kind, until, tokens_before });
        }
        self.launch().await
    }

    /// Puts the clock forward by `wait`, rounded up to whole seconds, and starts the server again; returns by how much.
    pub(super) async fn skip(&mut self, wait: Duration) -> Result<Duration, FleetError> {
        let before = self.ahead;
        self.restart_at(wall_clock() + before + wait).await?;
        self.end_outage_if_due();
        Ok(self.ahead.saturating_sub(before))
    }

    /// Ends the outage if its time is over.
    pub(super) fn end_outage_if_due(&mut self) {
        if self.outage.as_ref().is_some_and(|standing| self.enedis.now() >= standing.until) {
            self.over = self.finish_outage();
        }
    }

    /// Ends the outage if there is one, and tells what reached Enedis during the last one, since when nothing is
    /// counted.
    pub(super) fn end_outage(&mut self) -> Option<OutageReport> {
        let ended = self.finish_outage();
        self.over.take().or(ended)
    }

    /// Stops the server.
    pub(super) async fn stop(&mut self) -> Result<(), FleetError> {
        let Some(server) = self.server.take() else { return Ok(()) };
        let stopped = server.stop(STOP_WITHIN).await;
        for message in server.logs().iter().filter_map(|line| complaint(line)) {
            *self.said.entry(message).or_default() += 1;
        }
        match stopped {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(FleetError::Status(status)),
            Err(error) => Err(FleetError::Stop(error)),
        }
    }

    /// Warnings and errors of the servers stopped so far, by message.
    pub(super) fn said(&self) -> BTreeMap<String, u64> {
        self.said.clone()
    }

    async fn restart_at(&mut self, at: Duration) -> Result<(), FleetError> {
        self.stop().await?;
        self.put_clock_at(at);
        self.launch().await
    }

    /// Puts the clock at `at` (since 1970), or leaves it where it is if that has passed.
    fn put_clock_at(&mut self, at: Duration) {
        let ahead = at.saturating_sub(wall_clock()) + Duration::from_millis(999);
        self.ahead = self.ahead.max(Duration::from_secs(ahead.as_secs()));
        self.enedis.set_clock_ahead(self.ahead);
        self.enedis.set_today(Some(Day::in_france(self.enedis.now())));
    }

    async fn launch(&mut self) -> Result<(), FleetError> {
        let offset = self.ahead.as_secs().to_string();
        self.server = Some(self.builder.clone().env("CLOCK_OFFSET_SECS", offset).start().await?);
        Ok(())
    }

    fn finish_outage(&mut self) -> Option<OutageReport> {
        let Standing { kind, tokens_before, .. } = self.outage.take()?;
        for endpoint in Endpoint::ALL {
            self.enedis.clear_script(endpoint);
        }
        self.enedis.set_outage_everywhere(None);
        let counts = self.enedis.counts();
        self.enedis.reset_counts();
        Some(OutageReport {
            kind: name(&kind),
            data_calls: counts.data_requests(),
            service_calls: counts.requests(Api::SubscribedServices),
            token_calls: self.enedis.seen().token_requests.len().saturating_sub(tokens_before),
        })
    }
}

/// The address of a database that no other run uses.
pub(crate) fn own_database(mongod: &Mongod) -> String {
    let number = DATABASES.fetch_add(1, Ordering::Relaxed);
    mongod.uri(&format!("fleet_{}_{number}", std::process::id()))
}

/// A server in front of `enedis`, as `plan` wants it.
fn configured(plan: &Plan, enedis: &Simulator) -> Builder {
    let authorize = match plan.authorize {
        Authorize::V1 => enedis.authorize_url(),
        Authorize::V2 => enedis.authorize_v2_url(),
    };
    let secret = enedis.options().client_secret.clone().unwrap_or_default();
    Server::builder(&plan.binary)
        .env("FLOW", "CLIENT_CREDENTIALS")
        .env("CLIENT_ID", CLIENT_ID)
        .env("CLIENT_SECRET", secret)
        .env("AUTHORIZATION_ENDPOINT", authorize)
        // Not used in this flow, but a clock with an offset wants every door of Enedis on this machine.
        .env("TOKEN_ENDPOINT", enedis.token_url())
        .env("TOKEN_ENDPOINT_V3", enedis.token_url())
        .env("DATA_ENDPOINT", enedis.base_url())
        .env("ENEDIS_API_MODE", name(&plan.api))
        .env("ENEDIS_CALLS_PER_SECOND", "5")
        .env("ENEDIS_CALLS_PER_HOUR", "1000")
        .env("LIMIT_REQUESTS_PER_MINUTE", format!("{:.0}", (POLLS_A_MINUTE * plan.speed).ceil()))
}

fn begin(enedis: &Simulator, kind: Outage) {
    match kind {
        Outage::Down => {
            let faults = [Fault::CutBefore, Fault::unavailable(), Fault::Hang];
            for endpoint in Endpoint::ALL {
                enedis.script(endpoint, faults.iter().cloned().cycle().take(SCRIPTED));
            }
            enedis.set_outage_everywhere(Some(&Fault::unavailable()));
        }
        Outage::Errors => enedis.set_outage_everywhere(Some(&Fault::server_error())),
        Outage::Night => enedis.set_outage_everywhere(Some(&Fault::unavailable())),
    }
}

/// The message of a log line that warns.
pub(crate) fn complaint(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let level = line.get("level")?.as_str().filter(|level| matches!(*level, "WARN" | "ERROR"))?;
    Some(format!("{level} {}", line.get("fields")?.get("message")?.as_str()?))
}
