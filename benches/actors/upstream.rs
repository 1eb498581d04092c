//! Asks of what stands before Enedis, which answers at once: the exchanger, the relay of metering data, and the desk of our
//! own tokens.

use std::cell::{Cell, LazyCell};

use actors::base::clock::Clock;
use actors::base::code::{BearerToken, StateSuffix, StateToken};
use actors::base::meter::Meter;
use actors::enedis::exchanger::{Acquired, Exchanged};
use actors::enedis::port::{Grant, TokenCall};
use actors::metering::relay::Relayed;
use actors::metering::request::{MeterRequest, Resource};
use actors::metering::tokens::Origin;
use actors::metering::tokens::service::{Consented, Opened, Refresh, Refreshed};
use actors::system::MeteringHandles;
use criterion::Criterion;
use serde_json::Value;

use crate::fakes::{PRM, about, week};
use crate::running::{PAUSE, Plan, Running, runner};

const CLIENT: &str = "ha4uh-4568_tr";

fn start() -> Running {
    Running::start(&Plan { metering: true, ..Plan::default() })
}

fn handles(running: &Running) -> &MeteringHandles {
    running.system.metering.as_ref().expect("started with metering")
}

/// Calls of the token endpoint.
pub fn exchanger(c: &mut Criterion) {
    let (runner, running) = (runner(), LazyCell::new(start));
    let mut group = c.benchmark_group("ask of the exchanger");
    group.bench_function("the application's token, held", |b| {
        let running = &*running;
        let acquired = runner.block_on(running.system.exchanger.acquire(None));
        assert!(matches!(acquired, Acquired::Bearer(_)), "no token: {acquired:?}");
        b.iter(|| runner.block_on(running.system.exchanger.acquire(None)));
    });
    group.bench_function("a refresh", |b| {
        let running = &*running;
        b.iter(|| {
            running.clock.advance(PAUSE);
            let grant = Grant::RefreshToken { refresh_token: "ijRNFTbbRLEGbyyW".into(), scope: None };
            let call = TokenCall { client_id: CLIENT.into(), client_secret: None, grant };
            let exchanged = runner.block_on(running.system.exchanger.refresh(call));
            assert!(matches!(exchanged, Exchanged::Answered(_)));
        });
    });
    group.finish();
}

/// A week of load curve.
pub fn relay(c: &mut Criterion) {
    let (runner, running) = (runner(), LazyCell::new(start));
    let read = |running: &Running, request: MeterRequest| {
        let now = running.clock.now();
        match runner.block_on(handles(running).relay.read(request, now)) {
            Relayed::Answer(body) => body,
            other => panic!("no answer: {other:?}"),
        }
    };
    let mut group = c.benchmark_group("ask of the relay, a week of load curve");
    group.bench_function("from memory", |b| {
        let running = &*running;
        let request = about(Resource::ConsumptionCurve, week());
        let first = read(running, request);
        assert!(first.contains(PRM));
        runner.block_on(running.system.idle());
        assert_eq!(read(running, request), first);
        let snapshot = runner.block_on(handles(running).relay.snapshot()).expect("the relay answers");
        assert!(snapshot.from_memory > 0);
        b.iter(|| read(running, request));
    });
    group.sample_size(20);
    // Each meter asks for the first time; what is remembered is written meanwhile.
    let serial = Cell::new(20_000_000_000_000_u64);
    group.bench_function("from Enedis", |b| {
        let running = &*running;
        b.iter(|| {
            running.clock.advance(PAUSE);
            serial.set(serial.get() + 1);
            let meter = Meter::parse(&serial.get().to_string()).expect("14 digits");
            read(running, MeterRequest { meter, ..about(Resource::ConsumptionCurve, week()) })
        });
    });
    group.finish();
}

/// Tokens of our own.
pub fn tokens(c: &mut Criterion) {
    let (runner, running) = (runner(), LazyCell::new(start));
    let serial = Cell::new(20_000_000_000_000_u64);
    let give = |running: &Running| {
        serial.set(serial.get() + 1);
        let meter = Meter::parse(&serial.get().to_string()).expect("14 digits");
        let state = running.draw(|rng| StateToken::generate(rng, &StateSuffix::default()));
        let consented = Consented {
            state: running.keys.state(&state),
            grant: running.keys.grant("qLuJBCWkyHAHpvTPAOECBsiQpSivvQ"),
            client_id: CLIENT.into(),
            meters: vec![meter],
            origin: Origin::ConsentV1,
        };
        let given = runner.block_on(handles(running).tokens.give(&consented)).expect("tokens are given");
        let given: Value = serde_json::from_slice(&given.to_bytes()).expect("JSON");
        let [access, refresh] =
            ["access_token", "refresh_token"].map(|name| given[name].as_str().and_then(BearerToken::parse));
        (access.expect("an access token"), refresh, meter)
    };
    let given = LazyCell::new(|| give(&running));
    let mut group = c.benchmark_group("ask of the token desk");
    group.bench_function("an access token checked", |b| {
        let running = &*running;
        let (access, _, meter) = &*given;
        b.iter(|| {
            let opened = runner.block_on(handles(running).tokens.open(access, *meter));
            assert!(matches!(opened, Opened::Meter { .. }));
        });
    });
    group.bench_function("an unknown access token checked", |b| {
        let running = &*running;
        let meter = Meter::parse(PRM).expect("14 digits");
        b.iter(|| {
            let token = running.draw(BearerToken::generate);
            assert_eq!(runner.block_on(handles(running).tokens.open(&token, meter)), Opened::Nothing);
        });
    });
    group.sample_size(10);
    group.bench_function("tokens given, durable", |b| {
        let running = &*running;
        b.iter(|| give(running));
    });
    group.bench_function("a token refreshed, durable", |b| {
        let running = &*running;
        let (_, token, _) = &*given;
        b.iter(|| {
            let refresh = Refresh { token: token.clone(), client_id: CLIENT.into(), meters: None };
            let refreshed = runner.block_on(handles(running).tokens.refresh(refresh));
            assert!(matches!(refreshed, Refreshed::Token(_)));
        });
    });
    group.finish();
}
