//! A device's whole journey: it asks for a code and polls, a person confirms and comes back from Enedis, and the next poll
//! brings the token, which is repeated once. Enedis answers at once.

use std::cell::{Cell, LazyCell};

use actors::base::code::BrowserToken;
use actors::base::keyring::DeviceHash;
use actors::base::meter::Meter;
use actors::device_flow::consent::{AuthorizationReturn, ConsentOutcome, Returned};
use actors::device_flow::poll::PollAnswer;
use actors::device_flow::registry::FindAnswer;
use criterion::Criterion;

use crate::fakes::PRM;
use crate::running::{PAUSE, Plan, Running, runner, sized};

const CODE: &str = "qLuJBCWkyHAHpvTPAOECBsiQpSivvQ";

/// Both flows, and the part of them that comes after the token.
pub fn journeys(c: &mut Criterion) {
    let runner = runner();
    let mut group = c.benchmark_group("journey");
    group.sample_size(10);
    let running = LazyCell::new(|| Running::start(&Plan { pending: sized(10_000), ..Plan::default() }));
    group.bench_function("to Enedis' token", |b| {
        let running = &*running;
        b.iter(|| {
            let returned = Returned::Code { code: CODE.into(), usage_point_id: Some(PRM.into()) };
            runner.block_on(journey(running, returned))
        });
    });
    let metering = LazyCell::new(|| Running::start(&Plan { metering: true, ..Plan::default() }));
    let serial = Cell::new(20_000_000_000_000_u64);
    group.bench_function("to a token of our own", |b| {
        let metering = &*metering;
        b.iter(|| {
            serial.set(serial.get() + 1);
            let meters = Meter::parse(&serial.get().to_string()).into_iter().collect();
            runner.block_on(journey(metering, Returned::Meters { code: CODE.into(), meters }))
        });
    });
    group.sample_size(100);
    group.bench_function("the token once more", |b| {
        let running = &*running;
        let returned = Returned::Code { code: CODE.into(), usage_point_id: None };
        let device = runner.block_on(journey(running, returned));
        b.iter(|| {
            let answer = runner.block_on(running.poll(device));
            assert!(matches!(answer, PollAnswer::Token(_)));
        });
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
    let came = AuthorizationReturn { state: confirmed.state, browser, returned };
    assert_eq!(running.system.consent.complete(came).await, ConsentOutcome::Approved);
    let token = running.poll(device).await;
    assert!(matches!(token, PollAnswer::Token(_)));
    assert_eq!(running.poll(device).await, token, "the same body once more");
    device
}
