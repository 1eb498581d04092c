//! The hour's quota is everybody's: what strangers and large questions can take of it, and of memory.

use testkit::enedis::{GeneratedMeters, Meters, Options, Resource};

use super::consent::at_enedis;
use super::{deliver, get, link, question, world, yesterday};
use crate::fixture::{Plan, Store, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn meters_that_never_consented_have_a_share_of_the_hour() {
    let options = Options { meters: Meters::Generated(GeneratedMeters::consumers(9)), ..Options::default() };
    let plan = Plan::metering(Store::Sqlite, options, 1).await.at_half_past();
    let plan = plan.env("ENEDIS_CALLS_PER_HOUR", "40").env("ENEDIS_API_MODE", "new");
    let world = plan.start().await;
    let day = yesterday(&world.enedis);
    let proven = link(&world).await;
    assert_eq!(proven.read(&world, Resource::MaxPower, day, 1).await.status, 200);

    let stranger = at_enedis(&world).await;
    let meters: Vec<_> = (0..20).map(|number| format!("999999990000{number:02}")).collect();
    assert_eq!(stranger.back(&format!("code=x&usage_point_id={}", meters.join(";"))).await, 200);
    let forged = deliver(stranger.device).await;

    let before = world.enedis.counts().data_requests();
    for meter in &meters {
        let answer = forged.get(&world, &question(Resource::MaxPower, meter, day, 1)).await;
        assert!(matches!(answer.status, 429 | 503), "{meter} {}", answer.body);
    }
    assert_eq!(world.enedis.counts().data_requests(), before + 10, "a quarter of the hour, and no more");
    assert_eq!(proven.read(&world, Resource::ConsumptionCurve, day, 1).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_meter_costs_few_calls_however_much_is_asked() {
    let world = world(Store::Sqlite, 1).await;
    let linked = link(&world).await;
    world.enedis.revoke(&linked.meters);
    let day = yesterday(&world.enedis);
    let answer = linked.read(&world, Resource::ConsumptionCurve, day.plus(-399), 400).await;
    assert!(matches!(answer.status, 429 | 503), "{}", answer.body);
    // Those that were under way together, of the 58 it would take.
    let calls = world.enedis.counts().data_requests();
    assert!(calls <= 10, "{calls}");
    assert_eq!(linked.read(&world, Resource::MaxPower, day, 1).await.status, 503);
    assert_eq!(world.enedis.counts().data_requests(), calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_answers_at_once_are_not_made() {
    let world = world(Store::Sqlite, 1).await;
    let linked = link(&world).await;
    let day = yesterday(&world.enedis);
    let large = question(Resource::ConsumptionCurve, &linked.meters, day.plus(-62), 63);
    let asked = (0..12).map(|_| get(&world, &large, Some(&linked.tokens.access)));
    let statuses: Vec<_> =
        futures_util::future::join_all(asked).await.iter().map(|answer| answer.status).collect();
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
    assert!(statuses.iter().filter(|status| **status == 200).count() >= 2, "{statuses:?}");
    assert!(statuses.contains(&429), "{statuses:?}");
    // And when they have been read, there is room again; small ones are never in their way.
    let again = eventually("there is room again", || async {
        let answer = get(&world, &large, Some(&linked.tokens.access)).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert!(again.body.len() > 100_000);
    assert_eq!(linked.read(&world, Resource::ConsumptionCurve, day, 1).await.status, 200);
    assert!(world.enedis.counts().data_requests() <= 12);
}
