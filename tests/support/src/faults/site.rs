//! Owns the instances of one scenario with what is around them, and carries out what goes wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;

use super::scenario::{Scenario, Strike, Trouble};
use super::{Measured, Plan, locked};
use crate::cutter::Cutter;
use crate::enedis::{Endpoint, GeneratedMeters, Meters, Options, Quota};
use crate::mongod::{Kind, Mongod, ReplicaSet};
use crate::net::free_port;
use crate::preload::Machine;
use crate::report::RunError;
use crate::server::{Builder, Server, StartError};
use crate::world::{StoreKind, World, complaints};

/// Time an instance may take to start once the store is well.
const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// Time between two looks, and two tries to start.
const AGAIN: Duration = Duration::from_millis(20);
/// A disk that is full: no file may become longer.
const FULL: u64 = 4_096;
/// The key that instances share.
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// What all scenarios of a run share: the store's servers.
pub(super) enum Stores {
    Sqlite,
    Mongod(Arc<Mongod>),
    ReplicaSet(Arc<ReplicaSet>),
}

pub(super) struct Instance {
    builder: Builder,
    machine: Machine,
    line: Option<Cutter>,
    server: Mutex<Option<Server>>,
    /// Odd while it is killed or stands still; it grows. Changed by who holds the server.
    disturbed: AtomicU64,
}

pub(super) struct Site<'a> {
    pub(super) world: World,
    pub(super) instances: Vec<Instance>,
    stores: &'a Stores,
    database: String,
    /// See [`Scenario::page`].
    pub(super) page: u8,
    pub(super) measured: std::sync::Mutex<Measured>,
}

impl Instance {
    fn disturb(&self, now: bool) {
        let disturbed = self.disturbed.load(Ordering::SeqCst);
        if disturbed.is_multiple_of(2) == now {
            self.disturbed.store(disturbed + 1, Ordering::SeqCst);
        }
    }
}

impl Stores {
    pub(super) async fn start(plan: &Plan) -> Self {
        match plan.store {
            StoreKind::Sqlite => Self::Sqlite,
            StoreKind::Mongodb if plan.replica_set => Self::ReplicaSet(Arc::new(ReplicaSet::start().await)),
            StoreKind::Mongodb => Self::Mongod(blocking(|| Mongod::shared(Kind::Standalone)).await),
        }
    }
}

impl<'a> Site<'a> {
    pub(super) async fn start(
        plan: &Plan,
        scenario: &Scenario,
        stores: &'a Stores,
    ) -> Result<Self, RunError> {
        let meters = Meters::Generated(GeneratedMeters::consumers(1_000_000));
        let options = Options { meters, quota: Quota::UNLIMITED, ..Options::default() };
        let binary = plan.binary.clone().unwrap_or_default();
        let world = World::new(binary, options, StoreKind::Sqlite).await;
        let page = match scenario.page {
            2 => world.enedis.authorize_v2_url(),
            _ => world.enedis.authorize_url(),
        };
        let flow = if scenario.page == 0 { "DEVICE" } else { "CLIENT_CREDENTIALS" };
        let (token, data) = (world.enedis.token_url(), world.enedis.base_url());
        let world = world.with([
            ("FLOW", flow.to_owned()),
            ("AUTHORIZATION_ENDPOINT", page),
            ("TOKEN_ENDPOINT_V3", token),
            ("DATA_ENDPOINT", data),
            ("SECRET_KEY", KEY.to_owned()),
            ("CODE_LIFETIME_SECS", scenario.life.to_string()),
            // What was told must be told again to the end of the scenario.
            ("TOKEN_REDELIVERY_SECS", "3600".to_owned()),
            ("LIMIT_REQUESTS_PER_MINUTE", "1200".to_owned()),
            ("ENEDIS_CALLS_PER_SECOND", "1000".to_owned()),
            ("ENEDIS_CALLS_PER_HOUR", "1000000".to_owned()),
            ("ENEDIS_IN_FLIGHT", "4".to_owned()),
            ("ENEDIS_TIMEOUT_SECS", "1".to_owned()),
            ("ENEDIS_DEADLINE_SECS", "3".to_owned()),
            ("WORKERS", "2".to_owned()),
        ]);
        world.enedis.set_callback(format!("{}/auth/redirect", world.builder.base_url()));
        let database = format!("faults_{}_{}", std::process::id(), scenario.seed);
        let mut instances = Vec::new();
        for number in 0..plan.instances {
            let mut builder = world.builder.clone().before("trap '' XFSZ").ready_within(START_WITHIN);
            if number > 0 {
                // People only ever see the first one's address, as behind a load balancer.
                let (base, data) =
                    (builder.base_url(), builder.data_path().with_file_name(number.to_string()));
                builder = builder.port(free_port()?).env("BASE_URL", base).data_dir(data);
            }
            let line = match stores {
                Stores::Mongod(mongod) => Some((Cutter::start(mongod.addr()).await?, mongod)),
                _ => None,
            };
            builder = match (&line, stores) {
                (Some((line, mongod)), _) => {
                    builder.env("MONGODB_URI", mongod.uri_through(line.addr(), &database))
                }
                (None, Stores::ReplicaSet(set)) => builder.env("MONGODB_URI", set.uri(&database)),
                (None, _) => builder,
            };
            let (machine, builder) = Machine::under(builder);
            let server = Mutex::new(Some(builder.start().await?));
            let line = line.map(|(line, _)| line);
            instances.push(Instance { builder, machine, line, server, disturbed: AtomicU64::new(0) });
        }
        Ok(Self {
            world,
            instances,
            stores,
            database,
            page: scenario.page,
            measured: std::sync::Mutex::default(),
        })
    }

    /// Lets `strike` happen, and heals what it left.
    pub(super) async fn suffer(&self, strike: &Strike) -> Result<(), RunError> {
        let Some(instance) = self.instances.get(strike.whom % self.instances.len()) else { return Ok(()) };
        let machine = &instance.machine;
        match strike.trouble {
            Trouble::Kill => self.kill(instance, &mut instance.server.lock().await).await?,
            Trouble::Pause => {
                let server = instance.server.lock().await;
                let Some(server) = server.as_ref() else { return Ok(()) };
                instance.disturb(true);
                server.pause()?;
                sleep(strike.lasts()).await;
                server.resume()?;
                instance.disturb(false);
            }
            Trouble::Clock => {
                // Over a restart a step of less than a day looks like a server that was away for so long, and one back
                // like a day that was not yet.
                let stays = strike.amount < 86_400;
                let _server = if stays { Some(instance.server.lock().await) } else { None };
                machine.step(strike.amount)?;
                sleep(strike.lasts()).await;
                machine.step(0)?;
            }
            Trouble::FullDisk => {
                let server = instance.server.lock().await;
                let Some(server) = server.as_ref() else { return Ok(()) };
                server.limit_files(Some(FULL))?;
                sleep(strike.lasts()).await;
                server.limit_files(None)?;
            }
            Trouble::SlowDisk => {
                machine.sync(strike.amount)?;
                sleep(strike.lasts()).await;
                machine.sync(0)?;
            }
            Trouble::LostSync => {
                let mut server = instance.server.lock().await;
                instance.disturb(true);
                machine.sync(-1)?;
                if let Some(server) = server.as_ref() {
                    // It ends by itself once it writes.
                    let _ = server.wait(strike.lasts()).await;
                }
                machine.sync(0)?;
                self.kill(instance, &mut server).await?;
            }
            Trouble::Enedis => {
                let (door, faults) = strike.at_enedis();
                self.world.enedis.script(door, faults);
            }
            Trouble::Cut | Trouble::Stall => {
                let Some(line) = &instance.line else { return Ok(()) };
                if strike.trouble == Trouble::Cut {
                    line.cut();
                } else {
                    line.hold();
                }
                sleep(strike.lasts()).await;
                line.restore();
            }
            _ => self.suffer_member(strike).await?,
        }
        Ok(())
    }

    async fn suffer_member(&self, strike: &Strike) -> Result<(), RunError> {
        let Stores::ReplicaSet(set) = self.stores else { return Ok(()) };
        let Some(first) = primary(set).await else { return Ok(()) };
        let number = (first + strike.whom) % set.members().len();
        let member = &set.members()[number];
        match strike.trouble {
            Trouble::MemberKill => member.mongod().kill()?,
            Trouble::MemberFullDisk => member.mongod().limit_files(Some(FULL))?,
            Trouble::MemberPause => member.mongod().pause()?,
            _ => member.line.cut(),
        }
        let began = Instant::now();
        let mut elected = strike.whom != 0;
        while began.elapsed() < strike.lasts() {
            // One that is cut off may hold itself for the primary for a while; another must have taken over.
            if !elected && primary(set).await.is_some_and(|now| now != first) {
                elected = true;
                locked(&self.measured).elections.push(began.elapsed());
            }
            sleep(AGAIN).await;
        }
        match strike.trouble {
            Trouble::MemberKill | Trouble::MemberFullDisk => {
                let set = Arc::clone(set);
                blocking(move || set.members()[number].mongod().restart()).await?;
            }
            Trouble::MemberPause => member.mongod().resume()?,
            _ => member.line.restore(),
        }
        Ok(())
    }

    /// Kills the instance, and starts it again, as often as its store lets it wait.
    async fn kill(
        &self,
        instance: &Instance,
        server: &mut MutexGuard<'_, Option<Server>>,
    ) -> Result<(), RunError> {
        instance.disturb(true);
        if let Some(server) = server.take() {
            server.kill9()?;
            self.remember(&server);
        }
        let deadline = Instant::now() + START_WITHIN;
        let started = loop {
            let began = Instant::now();
            match instance.builder.start().await {
                Ok(started) => {
                    locked(&self.measured).restarts.push(began.elapsed());
                    break started;
                }
                Err(StartError::Exited { .. }) if Instant::now() < deadline => sleep(AGAIN).await,
                Err(error) => return Err(error.into()),
            }
        };
        **server = Some(started);
        instance.disturb(false);
        Ok(())
    }

    fn remember(&self, server: &Server) {
        let mut measured = locked(&self.measured);
        for (message, count) in complaints(server) {
            *measured.server_said.entry(message).or_default() += count;
        }
    }

    /// Nothing is wrong any more, and every instance says that it is ready.
    pub(super) async fn heal(&self) -> Result<(), RunError> {
        for endpoint in Endpoint::ALL {
            self.world.enedis.clear_script(endpoint);
        }
        let deadline = Instant::now() + START_WITHIN;
        let client = crate::http::client();
        for number in 0..self.instances.len() {
            let url = self.url(number) + "/health/ready";
            let ready = async || Ok::<_, crate::http::Fault>(client.get(&url).send().await?.status());
            while !ready().await.is_ok_and(|status| status == 200) {
                if Instant::now() > deadline {
                    return Err(RunError::Plan(
                        format!("instance {number} is not ready after all has healed").into(),
                    ));
                }
                sleep(AGAIN).await;
            }
        }
        Ok(())
    }

    /// Ends all, and deletes what was stored.
    pub(super) async fn end(self) -> Result<Measured, RunError> {
        for instance in &self.instances {
            if let Some(server) = instance.server.lock().await.take() {
                server.end(STOP_WITHIN).await?;
                self.remember(&server);
            }
        }
        // A replica set ends with the run.
        if let Stores::Mongod(mongod) = self.stores {
            let (mongod, database) = (Arc::clone(mongod), self.database);
            blocking(move || mongod.drop_database(&database)).await?;
        }
        Ok(self.measured.into_inner().unwrap_or_default())
    }

    /// Where instance `number` is reached. The name is that of `BASE_URL`, as cookies want it.
    pub(super) fn url(&self, number: usize) -> String {
        let port = self.instances[number].builder.listen_port();
        format!("http://localhost:{port}")
    }

    /// The same number as before if instance `number` was neither killed nor stood still since; `None`: it is or does.
    pub(super) fn undisturbed(&self, number: usize) -> Option<u64> {
        let disturbed = self.instances[number].disturbed.load(Ordering::SeqCst);
        disturbed.is_multiple_of(2).then_some(disturbed)
    }
}

/// The boxes go on while `work` blocks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("work that does not panic")
}

async fn primary(set: &Arc<ReplicaSet>) -> Option<usize> {
    let set = Arc::clone(set);
    blocking(move || set.primary()).await
}
