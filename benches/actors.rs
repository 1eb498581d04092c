//! What an answer costs inside the process: the pure cores, then each ask beside a bare channel.
//!
//! `cargo bench --bench actors` measures; the actors run on the embedded store in a directory of their own. Compare
//! lines of one run with each other, not runs with runs.

use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actors::clock::{Clock, ManualClock, Timestamp};
use actors::code::{DeviceCode, UserCode};
use actors::consent::Application;
use actors::exchanger::ExchangerSettings;
use actors::exchanger::quota::QuotaSettings;
use actors::keys::Keyring;
use actors::poll::AuthStyle;
use actors::registry::{IssueAnswer, IssueCode, Poll};
use actors::session::{Lifetimes, Request};
use actors::system::{Ports, Settings, System};
use actors::upstream::{Answer, AuthorizationServer, Call, CallError};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use device_flow_proxy::store::sqlite::SqliteStore;
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, join_all};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::oneshot;

/// Sessions pending while polls are measured.
const PENDING: usize = 10_000;
/// Device codes asked for at once.
const TOGETHER: usize = 500;

/// Nobody consents in these benches.
struct Nowhere;

impl AuthorizationServer for Nowhere {
    fn call(&self, _: Call, _: Duration) -> LocalBoxFuture<'static, Result<Answer, CallError>> {
        async { Err(CallError::NotSent("nobody is asked here".into())) }.boxed_local()
    }
}

struct Running {
    system: System,
    keys: Arc<Keyring>,
    rng: StdRng,
    _dir: tempfile::TempDir,
}

impl Running {
    async fn start(write_batch_max: usize) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let keys = Arc::new(Keyring::new(&[3; 32]));
        let ports = Ports {
            store: Arc::new(SqliteStore::open(dir.path()).expect("a store")),
            metering: None,
            authorization_server: Box::new(|| Rc::new(Nowhere)),
            clock: Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000))) as Arc<dyn Clock>,
            keys: Arc::clone(&keys),
            entropy: Arc::new(|| [5; 32]),
        };
        let settings = Settings {
            life: Lifetimes::default(),
            interval: Duration::from_secs(5),
            workers: 1,
            shards: 1,
            sessions_max: 10_000_000,
            write_batch_max,
            exchanger: ExchangerSettings {
                in_flight: 1,
                quota: QuotaSettings { per_second: 5, per_hour: 1_000 },
                attempt: Duration::from_secs(1),
                deadline: Duration::from_secs(2),
            },
            application: Application::default(),
        };
        let system = System::start(ports, settings).await.expect("the actors start");
        system.launcher.start_here();
        Self { system, keys, rng: StdRng::seed_from_u64(1), _dir: dir }
    }

    async fn issue(&mut self, count: usize) -> Vec<DeviceCode> {
        let codes: Vec<_> = (0..count).map(|_| DeviceCode::generate(&mut self.rng)).collect();
        let asks = codes.iter().map(|code| {
            let request = Request { client_id: "c".into(), client_secret: None, scope: None, agent: None };
            self.system.registry.issue(IssueCode { device: self.keys.device(code), request })
        });
        for answer in join_all(asks).await {
            assert!(matches!(answer, Ok(IssueAnswer::Issued(_))));
        }
        codes
    }
}

fn pure(c: &mut Criterion) {
    let mut rng = StdRng::seed_from_u64(7);
    let keys = Keyring::new(&[1; 32]);
    let code = DeviceCode::generate(&mut rng);
    let owner = keys.device(&code);
    let text = code.expose();
    c.bench_function("pure/device code parsed and hashed", |b| {
        b.iter(|| DeviceCode::parse(black_box(&text)).map(|code| keys.device(&code)));
    });
    c.bench_function("pure/user code drawn and hashed", |b| {
        b.iter(|| keys.user(&UserCode::generate(&mut rng)));
    });
    let mut rng = StdRng::seed_from_u64(8);
    c.bench_function("pure/token sealed and opened", |b| {
        b.iter(|| keys.open(&owner, &keys.seal(&mut rng, &owner, black_box(&[7; 400]))));
    });
}

/// An actix system that is never taken down: as it goes, actix polls each actor once more, without a runtime.
fn runner() -> &'static actix_rt::SystemRunner {
    Box::leak(Box::new(actix_rt::System::new()))
}

fn asks(c: &mut Criterion) {
    let runner = runner();
    let mut running = runner.block_on(Running::start(512));
    let codes = runner.block_on(async {
        let mut codes = Vec::new();
        while codes.len() < PENDING {
            codes.extend(running.issue(TOGETHER).await);
        }
        codes
    });
    let mut group = c.benchmark_group("ask");
    group.bench_function("a bare channel there and back", |b| {
        b.iter(|| {
            runner.block_on(async {
                let (ask, asked) = oneshot::channel::<oneshot::Sender<u8>>();
                actix_rt::spawn(async move { asked.await.map(|reply| reply.send(1)) });
                let (reply, answer) = oneshot::channel();
                ask.send(reply).ok();
                answer.await
            })
        });
    });
    let mut turn = 0;
    group.bench_function("a pending poll", |b| {
        b.iter(|| {
            turn = (turn + 1) % codes.len();
            let poll = Poll {
                device: running.keys.device(&codes[turn]),
                client_id: "c".into(),
                client_secret: None,
                style: AuthStyle::Body,
            };
            runner.block_on(running.system.registry.poll(poll))
        });
    });
    group.finish();
}

fn durable(c: &mut Criterion) {
    let runner = runner();
    let mut group = c.benchmark_group("durable device codes, asked for together");
    group.throughput(Throughput::Elements(TOGETHER as u64)).sample_size(10);
    for batch in [1, 512] {
        let mut running = runner.block_on(Running::start(batch));
        group.bench_function(format!("groups of at most {batch}"), |b| {
            b.iter(|| runner.block_on(running.issue(TOGETHER)));
        });
    }
    group.finish();
}

criterion_group!(benches, pure, asks, durable);
criterion_main!(benches);
