//! What devices and people ask, beside a bare channel: asks that touch no store, asks whose answer is durable, and a device's
//! whole journey: it asks for a code and polls, a person confirms and comes back from Enedis, which answers at once, and the
//! next poll brings the token, which is repeated once.

use std::cell::{Cell, LazyCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Actor;
use actors::base::admission::Admission;
use actors::base::clock::{Clock, ManualClock};
use actors::base::code::{BrowserToken, DeviceCode, UserCode};
use actors::base::keyring::{BrowserHash, DeviceHash, Keyring, StateHash};
use actors::base::network::Network;
use actors::base::store::Written;
use actors::base::token_set::TokenSet;
use actors::device_flow::consent::{AuthorizationReturn, ConsentOutcome, Returned};
use actors::device_flow::poll::{AuthStyle, PollAnswer};
use actors::device_flow::poll_interval::PollInterval;
use actors::device_flow::registry::{BeginAnswer, DenyAnswer, FindAnswer, FinishAnswer, Outcome, Refusal};
use actors::device_flow::session::Presentation;
use actors::device_flow::store::Write;
use actors::device_flow::throttler::{PacePoll, PollThrottler};
use criterion::{BatchSize, Criterion, Throughput};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{OnceCell, oneshot};

use crate::fakes::PRM;
use crate::running::{INTERVAL, LIFE, PAUSE, Plan, Running, START, ask, request, runner, sized};
use crate::upstream::next_meter;

/// Time that passes between two polls: each of ten thousand devices has then left its interval.
const BETWEEN: Duration = Duration::from_millis(1);
/// Device codes asked for at once.
const TOGETHER: usize = 500;
const CODE: &str = "qLuJBCWkyHAHpvTPAOECBsiQpSivvQ";

fn with_pending(count: usize) -> Running {
    Running::start(&Plan { pending: sized(count), ..Plan::default() })
}

/// Channels and polls.
pub fn polls(c: &mut Criterion) {
    let runner = runner();
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
    group.bench_function("an admission that lets in", |b| {
        let admission = Admission::new(10, INTERVAL);
        assert_eq!(runner.block_on(admission.ask(|reply| reply.send(1))), Ok(1));
        b.iter(|| runner.block_on(admission.ask(|reply| reply.send(1))));
    });
    group.bench_function("a throttler's decision", |b| {
        let clock = Arc::new(ManualClock::new(START));
        let shared = Arc::clone(&clock) as Arc<dyn Clock>;
        let interval = PollInterval::new(INTERVAL, &LIFE);
        let throttler = runner.block_on(async { PollThrottler::new(shared, interval, false).start() });
        let admission = Admission::new(10, INTERVAL);
        let device = Keyring::new(&[1; 32]).device(&DeviceCode::generate(&mut StdRng::seed_from_u64(1)));
        b.iter(|| {
            clock.advance(INTERVAL);
            let (at, style) = (clock.now(), AuthStyle::Body);
            let asked = admission.ask(|reply| throttler.do_send(PacePoll { device, style, at, reply }));
            let answer = runner.block_on(asked);
            assert!(matches!(answer, Ok(PollAnswer::Pending { .. })));
        });
    });
    for (name, pending) in [("10 000", 10_000), ("100 000", 100_000)] {
        let running = LazyCell::new(|| with_pending(pending));
        let turn = Cell::new(0);
        ask(&mut group, &format!("a pending poll, {name} sessions"), &running, async |running| {
            // Fewer sessions have to wait longer for their turn.
            running
                .clock
                .advance(BETWEEN * u32::try_from(10_000 / running.pending.len().min(10_000)).unwrap_or(1));
            turn.set((turn.get() + 1) % running.pending.len());
            let device = running.keys.device(&running.pending[turn.get()].0);
            assert!(matches!(running.poll(device).await, PollAnswer::Pending { .. }));
        });
        let early = OnceCell::new();
        ask(&mut group, &format!("a poll too early, {name} sessions"), &running, async |running| {
            let first = || async {
                let device = running.keys.device(&running.pending[0].0);
                running.poll(device).await;
                device
            };
            let device = *early.get_or_init(first).await;
            assert!(matches!(running.poll(device).await, PollAnswer::SlowDown { .. }));
        });
        ask(&mut group, &format!("an unknown poll, {name} sessions"), &running, async |running| {
            let device = running.keys.device(&running.draw(DeviceCode::generate));
            assert_eq!(running.poll(device).await, PollAnswer::Invalid);
        });
    }
    group.finish();
}

/// A pending poll while devices wait for codes that the store does not take: the file is locked, and the store waits for it.
pub fn stalled(c: &mut Criterion) {
    let runner = runner();
    let mut group = c.benchmark_group("ask, with a store that does not answer");
    // The store gives a group of writes up after two seconds.
    group.sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    for waiting in [0, 1_000, 5_000, 20_000] {
        let running = Rc::new(with_pending(10_000));
        let devices = || running.keys.device(&running.draw(DeviceCode::generate));
        let asking: Vec<_> = (0..sized(waiting)).map(|_| devices()).collect();
        let lock = running.lock();
        runner.block_on(async {
            let asking = asking.into_iter().map(|device| {
                let running = Rc::clone(&running);
                actix_rt::spawn(async move { running.system.registry.issue(device, request()).await })
            });
            let asking: Vec<_> = asking.collect();
            while running.system.registry.waiting() < asking.len() {
                tokio::task::yield_now().await;
            }
        });
        let turn = Cell::new(0);
        ask(&mut group, &format!("a pending poll, {waiting} codes waiting"), &running, async |running| {
            running.clock.advance(BETWEEN);
            turn.set((turn.get() + 1) % running.pending.len());
            let device = running.keys.device(&running.pending[turn.get()].0);
            assert!(matches!(running.poll(device).await, PollAnswer::Pending { .. }));
        });
        drop(lock);
    }
    group.finish();
}

/// A person types a code.
pub fn people(c: &mut Criterion) {
    let running = LazyCell::new(|| with_pending(10_000));
    let mut group = c.benchmark_group("ask");
    let turn = Cell::new(0);
    ask(&mut group, "a code looked up", &running, async |running| {
        turn.set((turn.get() + 1) % running.pending.len());
        let user = running.keys.user(&running.pending[turn.get()].1);
        assert!(matches!(running.system.registry.find_code(user).await, Ok(FindAnswer::Open(_))));
    });
    // One code for all: of a million that are drawn, one may well be pending.
    let code = LazyCell::new(|| running.draw(UserCode::generate));
    ask(&mut group, "an unknown code looked up", &running, async |running| {
        let user = running.keys.user(&code);
        assert!(matches!(running.system.registry.find_code(user).await, Ok(FindAnswer::Unknown)));
    });
    group.finish();
}

/// One write at a time.
pub fn writes(c: &mut Criterion) {
    let runner = runner();
    let running = LazyCell::new(|| with_pending(10_000));
    let mut group = c.benchmark_group("durable ask");
    group.sample_size(10);
    ask(&mut group, "a write", &running, async |running| {
        let written = running.system.writer.commit(Write::Insert(running.unasked())).await;
        assert!(matches!(written, Ok(Written::Applied)));
    });
    ask(&mut group, "a device code", &running, async |running| _ = running.issue().await);
    // The browser that has confirmed a code keeps it, and may confirm it again.
    let browser = LazyCell::new(|| running.keys.browser(&running.draw(BrowserToken::generate)));
    ask(&mut group, "a code confirmed", &running, async |running| {
        running.confirm(&running.pending[0].1, *browser).await;
    });
    let one = OnceCell::new();
    ask(&mut group, "an exchange begun and failed", &running, async |running| {
        let session = *one.get_or_init(|| confirmed(running)).await;
        exchange(running, session, Outcome::Failed { consumed: false }).await;
    });
    let confirmed = || runner.block_on(confirmed(&running));
    group.bench_function("an exchange begun and finished with a token", |b| {
        let token = TokenSet::own([("access_token", "oNOmvxyCQZSwjXYQJZST".into())]);
        b.iter_batched(
            || (confirmed(), Outcome::Token(token.clone())),
            |(session, outcome)| runner.block_on(exchange(&running, session, outcome)),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("a consent refused", |b| {
        b.iter_batched(
            confirmed,
            |(state, browser)| {
                let answer =
                    runner.block_on(running.system.registry.deny(Refusal::AtEnedis { state, browser }));
                assert!(matches!(answer, Ok(DenyAnswer::Denied(Some(_)))));
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

async fn confirmed(running: &Running) -> (StateHash, BrowserHash) {
    let (_, browser, confirmed) = running.confirmed().await;
    (running.keys.state(&confirmed.state), running.keys.browser(&browser))
}

async fn exchange(running: &Running, (state, browser): (StateHash, BrowserHash), outcome: Outcome) {
    let grant = running.keys.grant(CODE);
    let presentation = Presentation { grant, until: START + Duration::from_secs(60), repeatable: false };
    let lease = match running.system.registry.begin(state, browser, presentation).await {
        Ok(BeginAnswer::Go(lease)) => lease,
        other => panic!("not begun: {other:?}"),
    };
    let finished = running.system.registry.finish(lease.device, lease.grant, outcome).await;
    assert_eq!(finished, Ok(FinishAnswer::Recorded));
}

/// Many writes at once, with and without groups.
pub fn together(c: &mut Criterion) {
    let together = sized(TOGETHER);
    let mut group = c.benchmark_group(format!("{TOGETHER} device codes, asked for together"));
    group.throughput(Throughput::Elements(together as u64)).sample_size(10);
    for write_batch_max in [1, 512] {
        let running = LazyCell::new(|| Running::start(&Plan { write_batch_max, ..Plan::default() }));
        ask(&mut group, &format!("groups of at most {write_batch_max}"), &running, async |running| {
            running.issue_together(together).await;
        });
    }
    group.finish();
}

/// Both flows, and the part of them that comes after the token.
pub fn journeys(c: &mut Criterion) {
    let mut group = c.benchmark_group("journey");
    group.sample_size(10);
    let code = |usage_point_id| Returned::Code { code: CODE.into(), usage_point_id };
    let running = LazyCell::new(|| with_pending(10_000));
    ask(&mut group, "to Enedis' token", &running, async |running| {
        journey(running, code(Some(PRM.into()))).await;
    });
    let metering = LazyCell::new(|| Running::start(&Plan { metering: true, ..Plan::default() }));
    ask(&mut group, "to a token of our own", &metering, async |metering| {
        let returned = Returned::Meters { code: CODE.into(), meters: vec![next_meter()] };
        journey(metering, returned).await;
    });
    group.sample_size(100);
    let device = OnceCell::new();
    ask(&mut group, "the token once more", &running, async |running| {
        let device = *device.get_or_init(|| journey(running, code(None))).await;
        assert!(matches!(running.poll(device).await, PollAnswer::Token(_)));
    });
    group.finish();
}

async fn journey(running: &Running, returned: Returned) -> DeviceHash {
    running.clock.advance(PAUSE);
    let (device, user) = running.issue().await;
    assert!(matches!(running.poll(device).await, PollAnswer::Pending { .. }));
    let found = running.system.registry.find_code(running.keys.user(&user)).await;
    assert!(matches!(found, Ok(FindAnswer::Open(_))));
    let browser = running.draw(BrowserToken::generate);
    let confirmed = running.confirm(&user, running.keys.browser(&browser)).await;
    let came = AuthorizationReturn { state: confirmed.state, browser, network: Network::LOCALHOST, returned };
    assert_eq!(running.system.consent.complete(came).await, ConsentOutcome::Approved);
    let token = running.poll(device).await;
    assert!(matches!(token, PollAnswer::Token(_)));
    assert_eq!(running.poll(device).await, token, "the same body once more");
    device
}
