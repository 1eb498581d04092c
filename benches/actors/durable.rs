//! Asks whose answer is durable: each waits for a transaction of the store, or for its share of one.

use std::cell::LazyCell;
use std::time::Duration;

use actors::base::code::BrowserToken;
use actors::base::keyring::{BrowserHash, StateHash};
use actors::base::store::Written;
use actors::base::token_set::TokenSet;
use actors::device_flow::registry::{BeginAnswer, DenyAnswer, FinishAnswer, Outcome};
use actors::device_flow::session::Presentation;
use actors::device_flow::store::Write;
use criterion::{BatchSize, Criterion, Throughput};

use crate::running::{Plan, Running, START, runner, sized};

/// Device codes asked for at once.
const TOGETHER: usize = 500;

/// One write at a time.
pub fn writes(c: &mut Criterion) {
    let runner = runner();
    let running = LazyCell::new(|| Running::start(&Plan { pending: sized(10_000), ..Plan::default() }));
    let mut group = c.benchmark_group("durable ask");
    group.sample_size(10);
    group.bench_function("a write", |b| {
        let running = &*running;
        b.iter(|| {
            let written = runner.block_on(running.system.writer.commit(Write::Insert(running.unasked())));
            assert!(matches!(written, Ok(Written::Applied)));
        });
    });
    group.bench_function("a device code", |b| {
        let running = &*running;
        b.iter(|| runner.block_on(running.issue()));
    });
    // The browser that has confirmed a code keeps it, and may confirm it again.
    let browser = LazyCell::new(|| running.keys.browser(&running.draw(BrowserToken::generate)));
    group.bench_function("a code confirmed", |b| {
        let running = &*running;
        let user = running.pending[0].1;
        b.iter(|| runner.block_on(running.confirm(&user, *browser)));
    });
    group.bench_function("an exchange begun and failed", |b| {
        let running = &*running;
        let (_, browser, confirmed) = runner.block_on(running.confirmed());
        let browser = running.keys.browser(&browser);
        let state = running.keys.state(&confirmed.state);
        let failed = Outcome::Failed { consumed: false };
        b.iter(|| {
            runner.block_on(exchange(running, state, browser, failed.clone()));
        });
    });
    group.bench_function("an exchange begun and finished with a token", |b| {
        let running = &*running;
        let token = TokenSet::own([("access_token", "oNOmvxyCQZSwjXYQJZST".into())]);
        let confirmed = || {
            let (_, browser, confirmed) = runner.block_on(running.confirmed());
            (running.keys.state(&confirmed.state), running.keys.browser(&browser))
        };
        b.iter_batched(
            || (confirmed(), Outcome::Token(token.clone())),
            |((state, browser), outcome)| runner.block_on(exchange(running, state, browser, outcome)),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("a consent refused", |b| {
        let running = &*running;
        b.iter_batched(
            || {
                let (_, browser, confirmed) = runner.block_on(running.confirmed());
                (running.keys.state(&confirmed.state), running.keys.browser(&browser))
            },
            |(state, browser)| {
                let answer = runner.block_on(running.system.registry.deny(state, browser));
                assert_eq!(answer, Ok(DenyAnswer::Denied));
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

async fn exchange(running: &Running, state: StateHash, browser: BrowserHash, outcome: Outcome) {
    let grant = running.keys.grant("qLuJBCWkyHAHpvTPAOECBsiQpSivvQ");
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
    let runner = runner();
    let together = sized(TOGETHER);
    let mut group = c.benchmark_group(format!("{TOGETHER} device codes, asked for together"));
    group.throughput(Throughput::Elements(together as u64)).sample_size(10);
    for write_batch_max in [1, 512] {
        let running = LazyCell::new(|| Running::start(&Plan { write_batch_max, ..Plan::default() }));
        group.bench_function(format!("groups of at most {write_batch_max}"), |b| {
            let running = &*running;
            b.iter(|| runner.block_on(running.issue_together(together)));
        });
    }
    group.finish();
}
