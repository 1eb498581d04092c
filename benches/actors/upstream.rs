//! Asks of what stands before Enedis, which answers at once: the exchanger, the relay of metering data, and the desk of our
//! own tokens.

use std::cell::LazyCell;
use std::sync::atomic::{AtomicU64, Ordering};

use actors::base::clock::Clock;
use actors::base::code::{BearerToken, BrowserToken, StateSuffix, StateToken};
use actors::base::meter::Meter;
use actors::base::network::Network;
use actors::enedis::exchanger::{Acquired, Exchanged};
use actors::enedis::port::{Grant, TokenCall};
use actors::metering::relay::Relayed;
use actors::metering::request::{MeterRequest, Resource};
use actors::metering::tokens::Origin;
use actors::metering::tokens::service::{Consented, Given, Opened, Refresh, Refreshed};
use criterion::Criterion;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::fakes::{PRM, about, week};
use crate::running::{PAUSE, Plan, Running, ask, runner};

const CLIENT: &str = "ha4uh-4568_tr";

fn start() -> Running {
    Running::start(&Plan { metering: true, ..Plan::default() })
}

/// Calls of the token endpoint.
pub fn exchanger(c: &mut Criterion) {
    let running = LazyCell::new(start);
    let mut group = c.benchmark_group("ask of the exchanger");
    ask(&mut group, "the application's token, held", &running, async |running| {
        let acquired = running.system.exchanger.acquire(None).await;
        assert!(matches!(acquired, Acquired::Bearer(_)), "no token: {acquired:?}");
    });
    ask(&mut group, "a refresh", &running, async |running| {
        running.clock.advance(PAUSE);
        let grant = Grant::RefreshToken { refresh_token: "ijRNFTbbRLEGbyyW".to_owned().into(), scope: None };
        let call = TokenCall { client_id: CLIENT.into(), client_secret: None, is_devices_own: false, grant };
        assert!(matches!(
            running.system.exchanger.refresh(Network::LOCALHOST, call, || true).await,
            Exchanged::Answered(_)
        ));
    });
    group.finish();
}

/// A week of load curve.
pub fn relay(c: &mut Criterion) {
    let (runner, running) = (runner(), LazyCell::new(start));
    let read = |running: &Running, request: MeterRequest| {
        let now = running.clock.now();
        match runner.block_on(running.metering().relay.read(request, now)) {
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
        let snapshot = runner.block_on(running.metering().relay.snapshot()).expect("the relay answers");
        assert!(snapshot.from_memory > 0);
        b.iter(|| read(running, request));
    });
    group.sample_size(20);
    // Each meter asks for the first time; what is remembered is written meanwhile.
    group.bench_function("from Enedis", |b| {
        b.iter(|| {
            running.clock.advance(PAUSE);
            let meter = next_meter();
            read(&running, MeterRequest { meter, ..about(Resource::ConsumptionCurve, week()) })
        });
    });
    group.finish();
}

/// A meter that nobody has asked for yet.
pub fn next_meter() -> Meter {
    static SERIAL: AtomicU64 = AtomicU64::new(20_000_000_000_000);
    Meter::parse(&SERIAL.fetch_add(1, Ordering::Relaxed).to_string()).expect("14 digits")
}

/// Gives tokens for a new meter: an access token, a refresh token, the meter.
async fn give(running: &Running) -> (BearerToken, Option<BearerToken>, Meter) {
    let meter = next_meter();
    let state = running.draw(|rng| StateToken::generate(rng, &StateSuffix::default()));
    let consented = Consented {
        asked_at: running.clock.now(),
        state: running.keys.state(&state),
        grant: running.keys.grant("qLuJBCWkyHAHpvTPAOECBsiQpSivvQ"),
        client_id: CLIENT.into(),
        meters: vec![meter],
        origin: Origin::ConsentV2,
        browser: running.keys.browser(&running.draw(BrowserToken::generate)),
        network: Network::LOCALHOST,
        authorised: None,
    };
    let given = running.metering().tokens.give(&consented).await;
    let Ok(Given::Tokens(given)) = given else { panic!("no tokens: {given:?}") };
    let given: Value = serde_json::from_slice(&given.to_bytes()).expect("JSON");
    let [access, refresh] =
        ["access_token", "refresh_token"].map(|name| given[name].as_str().and_then(BearerToken::parse));
    (access.expect("an access token"), refresh, meter)
}

/// Tokens of our own.
pub fn tokens(c: &mut Criterion) {
    let running = LazyCell::new(start);
    let given = OnceCell::new();
    let mut group = c.benchmark_group("ask of the token desk");
    ask(&mut group, "an access token checked", &running, async |running| {
        let (access, _, meter) = given.get_or_init(|| give(running)).await;
        assert!(matches!(running.metering().tokens.open(access, *meter).await, Opened::Meter { .. }));
    });
    ask(&mut group, "an unknown access token checked", &running, async |running| {
        let (token, meter) = (running.draw(BearerToken::generate), Meter::parse(PRM).expect("14 digits"));
        assert_eq!(running.metering().tokens.open(&token, meter).await, Opened::Nothing);
    });
    group.sample_size(10);
    ask(&mut group, "tokens given, durable", &running, async |running| _ = give(running).await);
    ask(&mut group, "a token refreshed, durable", &running, async |running| {
        let (_, token, _) = given.get_or_init(|| give(running)).await;
        let refresh = Refresh {
            token: token.clone(),
            client_id: CLIENT.into(),
            meters: None,
            network: Network::LOCALHOST,
        };
        assert!(matches!(running.metering().tokens.refresh(refresh).await, Refreshed::Token(_)));
    });
    group.finish();
}
