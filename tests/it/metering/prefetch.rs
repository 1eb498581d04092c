//! The day that a box will ask for is fetched before it does: at night, by one of all instances.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use testkit::calendar::Day;
use testkit::enedis::{GeneratedMeters, Meters, Options, Resource};
use testkit::person::{Choice, Person};

use super::{Linked, deliver, yesterday};
use crate::fixture::{PATIENCE, Plan, Store, World, eventually};
use crate::journey::on_both_stores;

on_both_stores!(a_day_is_there_before_its_box_asks);

const RESOURCES: [Resource; 2] = [Resource::ConsumptionCurve, Resource::MaxPower];
/// The key that instances share.
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const NOON: i64 = 12 * 3_600;
/// Just after the earliest hour.
const EARLY: i64 = 6 * 3_600 + 5;

/// Stops the server and starts it again when it is this second of `day` in France, for Enedis as well.
async fn go_to(world: &mut World, day: Day, second: i64, prefetch: &str) {
    world.server.stop(PATIENCE).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "the clocks are put ahead of the machine's")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let ahead = Duration::from_secs(day.at_in_france(second).saturating_sub(now).as_secs());
    world.enedis.set_clock_ahead(ahead);
    let builder = world.builder.clone().env("PREFETCH", prefetch);
    world.builder = builder.env("CLOCK_OFFSET_SECS", ahead.as_secs().to_string());
    world.restart().await;
}

/// A world of so many meters, with a box for each.
async fn boxes(store: Store, count: u32, day: Day) -> (World, Vec<Linked>) {
    let meters = Meters::Generated(GeneratedMeters::consumers(count));
    let options = Options { meters, ..Options::default() };
    let mut world = Plan::metering(store, options, 2).await.env("SECRET_KEY", KEY).start().await;
    go_to(&mut world, day, NOON, "on").await;
    let mut boxes = Vec::new();
    for n in 0..count {
        let device = world.device().await;
        let link = format!("{}&state=m{n}", device.code().link());
        assert_eq!(Person::new().link(&link, Choice::Allow).await.unwrap().status, 200);
        boxes.push(deliver(device).await);
    }
    (world, boxes)
}

/// Every box asks for yesterday.
async fn all_ask(world: &World, boxes: &mut [Linked]) {
    for linked in boxes {
        let refreshed = linked.refresh().await;
        refreshed.text("access_token").unwrap().clone_into(&mut linked.tokens.access);
        for resource in RESOURCES {
            let answer = linked.read(world, resource, yesterday(&world.enedis), 1).await;
            assert_eq!(answer.status, 200, "{resource:?} {}", answer.body);
        }
    }
}

fn calls(world: &World, boxes: &[Linked]) -> Vec<u64> {
    let counts = world.enedis.counts();
    let of = |linked: &Linked| RESOURCES.map(|resource| counts.of_meter(&linked.meters, resource));
    boxes.iter().flat_map(of).collect()
}

async fn a_day_is_there_before_its_box_asks(store: Store) {
    let day = Day::today().plus(1);
    let (mut world, mut boxes) = boxes(store, 1, day).await;
    all_ask(&world, &mut boxes).await;
    assert_eq!(calls(&world, &boxes), [1, 1]);
    // The process that asked then is another one than that which knows of it.
    go_to(&mut world, day.plus(1), EARLY, "on").await;
    eventually("the day is fetched", || async { (calls(&world, &boxes) == [2, 2]).then_some(()) }).await;
    eventually("it is there", || async { world.metric("dfp_prefetch_lacking").await.filter(|n| *n == 0.0) })
        .await;
    all_ask(&world, &mut boxes).await;
    assert_eq!(calls(&world, &boxes), [2, 2]);
    assert_eq!(world.metric("dfp_prefetch_days_total{by=\"memory\"}").await, Some(2.0));
    go_to(&mut world, day.plus(2), EARLY, "off").await;
    all_ask(&world, &mut boxes).await;
    assert_eq!(calls(&world, &boxes), [3, 3]);
    assert_eq!(world.metric("dfp_prefetch_calls_total").await, Some(0.0), "switched off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_instances_one_asks_about_each_meter() {
    let day = Day::today().plus(1);
    let (mut world, mut boxes) = boxes(Store::Mongodb, 6, day).await;
    all_ask(&world, &mut boxes).await;
    assert_eq!(calls(&world, &boxes), [1; 12]);
    go_to(&mut world, day.plus(1), EARLY, "on").await;
    let second = world.second(&[]).await;
    eventually("all is fetched", || async { calls(&world, &boxes).iter().all(|n| *n >= 2).then_some(()) })
        .await;
    all_ask(&world, &mut boxes).await;
    assert_eq!(calls(&world, &boxes), [2; 12]);
    drop(second);
}
