//! What the relay asks by itself: the day that boxes will ask for, before they do.

use actors::base::clock::SharedClock;
use actors::base::keyring::TokenHash;
use actors::base::meter::Meter;
use actors::metering::cache::owner_text;
use actors::metering::tokens::{Origin, Terms, TokenStore};
use actors::testing::TokenModel;
use jiff::civil::Date;

use super::*;

const ON: RelaySettings = RelaySettings { prefetch: true, ..SETTINGS };
const RESOURCES: [Resource; 2] = [Resource::ConsumptionCurve, Resource::DailyMaxPower];

/// Enedis has the day before from this hour on.
fn publishes_at(flow: &Flow<'_>, hour: i8) {
    flow.enedis.has(move |_: Meter, day: Date, now: Timestamp| {
        let local = paris(now);
        day < plus(local.date(), -1) || local.hour() >= hour
    });
}

async fn until(clock: &SharedClock, days: i64, hour: i8, minute: i8) {
    let at = plus(today(START), days).at(hour, minute, 0, 0);
    while paris(clock.now()) < at {
        pass(30).await;
    }
}

/// Boxes of these meters ask for yesterday; how many questions are answered.
async fn ask(flow: &Flow<'_>, meters: std::ops::Range<u64>) -> usize {
    let today = today(flow.universe.clock.now());
    let range = DayRange::new(plus(today, -1), today).unwrap();
    let questions = meters.flat_map(|n| RESOURCES.map(|resource| (n, resource)));
    let mut answered = 0;
    for (n, resource) in questions {
        let told = flow.read(MeterRequest { resource, meter: meter(n), range }).await;
        answered += usize::from(matches!(told, Relayed::Answer(_)));
    }
    answered
}

#[test]
fn a_day_is_there_before_its_box_asks_unless_that_is_switched_off() {
    for (settings, calls) in [(ON, [2, 2, 5, 5]), (SETTINGS, [2, 2, 2, 4])] {
        universe(async |universe| {
            let flow = Flow::with(universe, settings);
            publishes_at(&flow, 7);
            assert_eq!(ask(&flow, 0..1).await, 2);
            let mut made = vec![flow.calls()];
            for (hour, minute) in [(5, 59), (7, 5)] {
                until(&universe.clock, 1, hour, minute).await;
                made.push(flow.calls());
            }
            assert_eq!(ask(&flow, 0..1).await, 2);
            made.push(flow.calls());
            assert_eq!(made, calls, "one scout in vain at six, and one for each resource at seven");
            let snapshot = flow.relay.snapshot().await.unwrap();
            let (days, active) = if settings.prefetch { ([2, 2, 0], 2) } else { ([0, 0, 0], 0) };
            assert_eq!((snapshot.days, snapshot.active, snapshot.lacking), (days, active, 0));
        });
    }
}

#[test]
fn what_was_refused_is_fetched_at_the_next_quota() {
    universe(async |universe| {
        let quota = QuotaSettings { per_second: 5, per_hour: 10 };
        let flow = Flow::with(universe, RelaySettings { quota, ..ON });
        until(&universe.clock, 0, 23, 30).await;
        assert_eq!(ask(&flow, 0..10).await, 10, "five meters");
        assert_eq!(flow.relay.snapshot().await.unwrap().days, [0, 10, 10]);
        until(&universe.clock, 1, 3, 0).await;
        let calls = flow.calls();
        // The day that was refused is there.
        let day = plus(today(START), -1);
        let range = DayRange::new(day, plus(day, 1)).unwrap();
        for (n, resource) in (5..10).flat_map(|n| RESOURCES.map(|resource| (n, resource))) {
            let told = flow.read(MeterRequest { resource, meter: meter(n), range }).await;
            assert!(matches!(told, Relayed::Answer(_)), "{n} {resource:?} {told:?}");
        }
        assert_eq!(
            (calls, flow.enedis.asked()[10..20].iter().filter(|call| call.range == range).count()),
            (20, 10)
        );
    });
}

/// The store of tokens, with a consent for each of these meters.
async fn consents(universe: &Universe, meters: std::ops::Range<u64>) -> Arc<dyn TokenStore> {
    let store: Arc<dyn TokenStore> = Arc::new(TokenModel::default());
    for n in meters {
        let (consented_at, ends_at) = (LONG_AGO, START + secs(400 * 86_400));
        let refresh = TokenHash::from([u8::try_from(n).unwrap(); 16]);
        let terms = Terms { refresh, client_id: None, consented_at, ends_at, origin: Origin::ConsentV2 };
        let grant = universe.draw(|rng| terms.grant(&universe.keys, rng, &[meter(n)]));
        store.add(grant, None).await.unwrap();
    }
    store
}

#[test]
fn a_restart_knows_who_asked_and_whose_consent_stands() {
    universe(async |universe| {
        let flow = Flow::with(universe, ON);
        publishes_at(&flow, 6);
        assert_eq!(ask(&flow, 0..4).await, 8);
        flow.relay.idle().await;
        // This one's last grant is revoked by a command: both the grant and what is remembered go.
        flow.cache.forget(universe.keys.cache(&owner_text(meter(3)))).await.unwrap();
        let Flow { enedis, cache, relay, .. } = flow;
        drop(relay);
        let grants = consents(universe, 0..3).await;
        let relay = start_with(universe, &enedis, &cache, ON, Some(grants), universe.quota());
        let flow = Flow { universe, enedis, cache, relay };
        until(&universe.clock, 1, 6, 5).await;
        assert_eq!(flow.calls(), 8 + 6);
        assert_eq!(ask(&flow, 0..3).await, 6);
        assert_eq!(flow.calls(), 8 + 6);
        // Another one is revoked while the server runs.
        flow.relay.idle().await;
        flow.cache.forget(universe.keys.cache(&owner_text(meter(0)))).await.unwrap();
        until(&universe.clock, 2, 8, 0).await;
        let of_revoked = flow.enedis.asked().iter().filter(|call| call.meter == meter(0)).count();
        assert_eq!((of_revoked, flow.calls()), (4, 8 + 6 + 4));
    });
}

#[test]
fn two_instances_ask_once() {
    universe(async |universe| {
        let (enedis, cache) = (FakeEnedis::new(universe), MeterModel::default());
        let grants = consents(universe, 0..20).await;
        let quota = universe.quota();
        quota.set_instances(2);
        let mut two = (0..2).map(|_| {
            let relay = start_with(universe, &enedis, &cache, ON, Some(Arc::clone(&grants)), quota.clone());
            Flow { universe, enedis: enedis.clone(), cache: cache.clone(), relay }
        });
        let (one, other) = (two.next().unwrap(), two.next().unwrap());
        publishes_at(&one, 6);
        // Each has its boxes.
        assert_eq!((ask(&one, 0..10).await, ask(&other, 10..20).await), (20, 20));
        until(&universe.clock, 1, 7, 0).await;
        assert_eq!(one.calls(), 80, "whoever asks, asks for all, and nobody else does");
        assert_eq!((ask(&other, 0..10).await, ask(&one, 10..20).await), (20, 20));
        assert_eq!(one.calls(), 80);
        // One of them goes; the other goes on.
        drop(one);
        for day in 2..4 {
            until(&universe.clock, day, 8, 0).await;
            assert_eq!(
                (ask(&other, 0..20).await, other.calls()),
                (40, 40 + 40 * usize::try_from(day).unwrap())
            );
        }
    });
}

#[test]
fn while_the_store_is_away_nothing_is_asked_and_nobody_is_forgotten() {
    universe(async |universe| {
        let flow = Flow::with(universe, ON);
        publishes_at(&flow, 6);
        assert_eq!(ask(&flow, 0..5).await, 10);
        flow.relay.idle().await;
        flow.cache.set_away(true);
        until(&universe.clock, 1, 7, 0).await;
        assert_eq!(flow.calls(), 10);
        flow.cache.set_away(false);
        until(&universe.clock, 1, 7, 30).await;
        assert_eq!(flow.calls(), 20);
    });
}
