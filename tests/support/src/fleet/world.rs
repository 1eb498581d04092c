//! Owns the server, the simulated Enedis and their common clock.
//!
//! The clock is the wall's and some whole seconds, which both are told: the server at its start, by
//! `CLOCK_OFFSET_SECS`. It only goes forward.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::report::OutageReport;
use super::{Authorize, Outage, Plan};
use crate::calendar::{Day, wall_clock};
use crate::enedis::{Endpoint, Fault, Meters, Options, Simulator};
use crate::net::free_port;
use crate::plugin::CLIENT_ID;
use crate::report::{RunError, name};
use crate::server::{Builder, Server, build_proxy};
use crate::world::{self, complaints};

/// Polls of one code that the server takes in a minute.
const POLLS_A_MINUTE: f64 = 12.0;
/// Second of the day at which boxes begin to arrive, and an outage of the night ends.
const MORNING: i64 = 8 * 3_600;
/// How far the clocks of the boxes are ahead of Enedis' when it is closed at night, in seconds.
const AHEAD: i64 = 30;
/// Second of the day from which Enedis may have the day before.
const EARLIEST: i64 = 6 * 3_600 + 5;
/// How long the server may take for what it fetches by itself, and how often it is looked at.
const NIGHT_WITHIN: Duration = Duration::from_secs(1_800);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Length of the other outages.
const OUTAGE: Duration = Duration::from_secs(3_600);
/// Requests to each door that an outage is scripted for; after them it answers 503.
const SCRIPTED: usize = 3_000;
const STOP_WITHIN: Duration = Duration::from_secs(30);

pub(super) struct World {
    ground: world::World,
    /// How instances beside the first are started.
    others: Vec<Builder>,
    servers: Vec<Server>,
    ahead: Duration,
    first_day: Day,
    /// The outage that has not ended, and when it ends, since 1970.
    outage: Option<(Outage, Duration)>,
    over: Option<OutageReport>,
    /// Warnings and errors of the server, by message.
    said: BTreeMap<String, u64>,
}

impl World {
    /// Starts both at 8 o'clock in France, of today if that is yet to come.
    pub(super) async fn start(plan: &Plan) -> Result<Self, RunError> {
        let now = wall_clock();
        let today = Day::in_france(now);
        let first_day = if today.at_in_france(MORNING) > now { today } else { today.plus(1) };
        let meters = Meters::Generated(plan.meters());
        let options = Options { client_id: CLIENT_ID.into(), meters, ..Options::default() };
        let binary = plan.binary.clone().map_or_else(build_proxy, Ok)?;
        let ground = world::World::new(binary, options, plan.store).await;
        let settings = settings(plan, &ground.enedis);
        let ground = ground.with(settings);
        let others = (1..plan.instances).map(|number| {
            let builder = ground.builder.clone();
            // People only ever see the first one's address, as behind a load balancer.
            let (base, data) = (builder.base_url(), builder.data_path().with_file_name(number.to_string()));
            Ok(builder.port(free_port()?).env("BASE_URL", base).data_dir(data))
        });
        let others = others.collect::<io::Result<_>>()?;
        let mut world = Self {
            ground,
            others,
            servers: Vec::new(),
            ahead: Duration::ZERO,
            first_day,
            outage: None,
            over: None,
            said: BTreeMap::new(),
        };
        world.restart_at(first_day.at_in_france(MORNING)).await?;
        Ok(world)
    }

    pub(super) fn enedis(&self) -> &Simulator {
        &self.ground.enedis
    }

    pub(super) fn first_day(&self) -> Day {
        self.first_day
    }

    /// Where the instances are reached.
    pub(super) fn urls(&self) -> Vec<String> {
        let others = self.others.iter().map(|builder| format!("http://localhost:{}", builder.listen_port()));
        std::iter::once(self.ground.builder.base_url()).chain(others).collect()
    }

    /// Starts the server again in the early morning of `day`, and waits until it lacks nothing that boxes will ask for.
    pub(super) async fn night(&mut self, day: Day) -> Result<(), RunError> {
        self.restart_at(day.at_in_france(EARLIEST)).await?;
        let deadline = Instant::now() + NIGHT_WITHIN;
        while !self.has_everything().await {
            if Instant::now() > deadline {
                return Err(RunError::Plan("the server does not come to an end with what it fetches".into()));
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Whether an instance knows of meters, and lacks nothing of them.
    async fn has_everything(&self) -> bool {
        let mut found = false;
        for server in &self.servers {
            let active = server.metric("dfp_prefetch_active").await;
            let lacking = server.metric("dfp_prefetch_lacking").await;
            found |= active.is_some_and(|active| active > 0.0) && lacking == Some(0.0);
        }
        found
    }

    /// Starts the server again in the morning of `day`.
    pub(super) async fn morning(&mut self, day: Day, outage: Option<Outage>) -> Result<(), RunError> {
        let eight = day.at_in_france(MORNING);
        let (at, until) = match outage {
            Some(Outage::Night) => (day.at_in_france(MORNING - AHEAD), eight),
            _ => (eight, eight + OUTAGE),
        };
        self.stop().await?;
        self.put_clock_at(at);
        if let Some(kind) = outage {
            begin(self.enedis(), kind);
            self.outage = Some((kind, until));
        }
        self.launch().await
    }

    /// Puts the clock forward by `wait`, rounded up to whole seconds, and starts the server again.
    pub(super) async fn skip(&mut self, wait: Duration) -> Result<(), RunError> {
        self.restart_at(wall_clock() + self.ahead + wait).await?;
        self.end_outage_if_due();
        Ok(())
    }

    /// Ends the outage if its time is over.
    pub(super) fn end_outage_if_due(&mut self) {
        if self.outage.is_some_and(|(_, until)| self.enedis().now() >= until) {
            self.finish_outage();
        }
    }

    /// Ends the outage if there is one, and tells what reached Enedis during the last one, since when nothing is
    /// counted.
    pub(super) fn end_outage(&mut self) -> Option<OutageReport> {
        self.finish_outage();
        self.over.take()
    }

    pub(super) async fn stop(&mut self) -> Result<(), RunError> {
        for server in std::mem::take(&mut self.servers) {
            let ended = server.end(STOP_WITHIN).await;
            for (message, count) in complaints(&server) {
                *self.said.entry(message).or_default() += count;
            }
            ended?;
        }
        Ok(())
    }

    /// Warnings and errors of the servers stopped so far, by message.
    pub(super) fn said(&self) -> BTreeMap<String, u64> {
        self.said.clone()
    }

    async fn restart_at(&mut self, at: Duration) -> Result<(), RunError> {
        self.stop().await?;
        self.put_clock_at(at);
        self.launch().await
    }

    /// Puts the clock at `at` (since 1970), or leaves it where it is if that has passed.
    fn put_clock_at(&mut self, at: Duration) {
        let ahead = at.saturating_sub(wall_clock()) + Duration::from_millis(999);
        self.ahead = self.ahead.max(Duration::from_secs(ahead.as_secs()));
        self.enedis().set_clock_ahead(self.ahead);
        self.enedis().set_today(Some(Day::in_france(self.enedis().now())));
    }

    async fn launch(&mut self) -> Result<(), RunError> {
        let ahead = self.ahead.as_secs().to_string();
        let ground = &mut self.ground;
        ground.builder = ground.builder.clone().env("CLOCK_OFFSET_SECS", ahead.clone());
        self.servers.push(ground.start().await?);
        for other in &self.others {
            self.servers.push(other.clone().env("CLOCK_OFFSET_SECS", ahead.clone()).start().await?);
        }
        Ok(())
    }

    fn finish_outage(&mut self) {
        let Some((kind, _)) = self.outage.take() else { return };
        for endpoint in Endpoint::ALL {
            self.enedis().clear_script(endpoint);
        }
        self.enedis().set_outage_everywhere(None);
        let counts = self.enedis().counts();
        self.enedis().reset_counts();
        self.over = Some(OutageReport { kind: name(&kind), data_calls: counts.data_requests() });
    }
}

/// What `plan` wants of a server in front of `enedis`.
fn settings(plan: &Plan, enedis: &Simulator) -> [(&'static str, String); 9] {
    let authorize = match plan.authorize {
        Authorize::V1 => enedis.authorize_url(),
        Authorize::V2 => enedis.authorize_v2_url(),
    };
    [
        ("FLOW", "CLIENT_CREDENTIALS".into()),
        ("AUTHORIZATION_ENDPOINT", authorize),
        ("TOKEN_ENDPOINT_V3", enedis.token_url()),
        ("DATA_ENDPOINT", enedis.base_url()),
        ("ENEDIS_API_MODE", name(&plan.api)),
        // Instances share it.
        ("SECRET_KEY", "5a".repeat(32)),
        ("ENEDIS_CALLS_PER_SECOND", "5".into()),
        ("ENEDIS_CALLS_PER_HOUR", "1000".into()),
        ("LIMIT_REQUESTS_PER_MINUTE", format!("{:.0}", (POLLS_A_MINUTE * plan.speed).ceil())),
    ]
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
