//! Asks that touch no store, beside a bare channel: a poll, and a person who looks a code up.

use std::cell::{Cell, LazyCell};
use std::sync::Arc;
use std::time::Duration;

use actix::Actor;
use actors::base::admission::Admission;
use actors::base::clock::{Clock, ManualClock};
use actors::base::code::{DeviceCode, UserCode};
use actors::base::keyring::Keyring;
use actors::device_flow::poll::{AuthStyle, PollAnswer};
use actors::device_flow::registry::FindAnswer;
use actors::device_flow::throttler::{PacePoll, PollThrottler};
use criterion::Criterion;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::oneshot;

use crate::running::{INTERVAL, Plan, Running, START, runner, sized};

/// Time that passes between two polls: each of ten thousand devices has then left its interval.
const BETWEEN: Duration = Duration::from_millis(1);

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
        let throttler = runner.block_on(async { PollThrottler::new(shared, INTERVAL, false).start() });
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
        let running = LazyCell::new(|| Running::start(&Plan { pending: sized(pending), ..Plan::default() }));
        let turn = Cell::new(0);
        group.bench_function(format!("a pending poll, {name} sessions"), |b| {
            let running = &*running;
            // Fewer sessions have to wait longer for their turn.
            let between = BETWEEN * u32::try_from(10_000 / running.pending.len().min(10_000)).unwrap_or(1);
            b.iter(|| {
                running.clock.advance(between);
                turn.set((turn.get() + 1) % running.pending.len());
                let device = running.keys.device(&running.pending[turn.get()].0);
                let answer = runner.block_on(running.poll(device));
                assert!(matches!(answer, PollAnswer::Pending { .. }));
            });
        });
        group.bench_function(format!("a poll too early, {name} sessions"), |b| {
            let running = &*running;
            let device = running.keys.device(&running.pending[0].0);
            runner.block_on(running.poll(device));
            b.iter(|| {
                let answer = runner.block_on(running.poll(device));
                assert!(matches!(answer, PollAnswer::SlowDown { .. }));
            });
        });
        group.bench_function(format!("an unknown poll, {name} sessions"), |b| {
            let running = &*running;
            b.iter(|| {
                let device = running.keys.device(&running.draw(DeviceCode::generate));
                assert_eq!(runner.block_on(running.poll(device)), PollAnswer::Invalid);
            });
        });
    }
    group.finish();
}

/// A person types a code.
pub fn people(c: &mut Criterion) {
    let runner = runner();
    let running = LazyCell::new(|| Running::start(&Plan { pending: sized(10_000), ..Plan::default() }));
    let mut group = c.benchmark_group("ask");
    group.bench_function("a code looked up", |b| {
        let running = &*running;
        let mut turn = 0;
        b.iter(|| {
            turn = (turn + 1) % running.pending.len();
            let user = running.keys.user(&running.pending[turn].1);
            let answer = runner.block_on(running.system.registry.find_code(user));
            assert!(matches!(answer, Ok(FindAnswer::Open(_))));
        });
    });
    group.bench_function("an unknown code looked up", |b| {
        let running = &*running;
        // One code for all: of a million that are drawn, one may well be pending.
        let code = running.draw(UserCode::generate);
        b.iter(|| {
            let user = running.keys.user(&code);
            let answer = runner.block_on(running.system.registry.find_code(user));
            assert!(matches!(answer, Ok(FindAnswer::Unknown)));
        });
    });
    group.finish();
}
