//! Metering data: the same values from either API, and how few calls they cost.

use std::time::Duration;

use serde_json::Value;
use testkit::enedis::{Endpoint, Fault, Meters, Options, Quota, Resource};

use super::{Linked, METER, get, link, question, world, yesterday};
use crate::fixture::{PATIENCE, Plan, Store, World, eventually};
use crate::journey::on_both_stores;

on_both_stores!(a_day_asked_again_costs_nothing, a_restart_forgets_nothing);

async fn on_api(mode: &str, options: Options) -> (World, Linked) {
    let world = Plan::metering(Store::Sqlite, options, 1).await.env("ENEDIS_API_MODE", mode).start().await;
    let linked = link(&world).await;
    (world, linked)
}

/// Test client 6 has both directions.
fn self_consumption() -> Options {
    Options { meters: Meters::Client(6), quirks: true, ..Options::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_apis_give_the_same_answers() {
    let (new, boxed_new) = on_api("new", self_consumption()).await;
    let (legacy, boxed_legacy) = on_api("legacy", self_consumption()).await;
    for resource in Resource::ALL {
        let start = yesterday(&new.enedis).plus(-6);
        let answers = [
            boxed_new.read(&new, resource, start, 7).await,
            boxed_legacy.read(&legacy, resource, start, 7).await,
        ];
        for answer in &answers {
            assert_eq!(answer.status, 200, "{resource:?} {}", answer.body);
            assert_eq!(answer.json["meter_reading"]["usage_point_id"], boxed_new.meters.as_str());
            assert_eq!(answer.json["meter_reading"]["start"], start.to_string());
            assert!(!answer.json["meter_reading"]["interval_reading"].as_array().unwrap().is_empty());
            assert!(answer.header("via").unwrap().starts_with("1.1 "), "as the original");
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            let length: usize = answer.header("content-length").unwrap().parse().unwrap();
            assert_eq!(length, answer.body.len());
        }
        let values = |answer: &testkit::http::Answer| -> Vec<(String, String)> {
            let points = answer.json["meter_reading"]["interval_reading"].as_array().unwrap();
            let text = |point: &Value, name: &str| point[name].as_str().unwrap().to_owned();
            points.iter().map(|point| (text(point, "date"), text(point, "value"))).collect()
        };
        assert_eq!(values(&answers[0]), values(&answers[1]), "{resource:?}");
        assert_eq!(
            answers[0].json["meter_reading"]["reading_type"],
            answers[1].json["meter_reading"]["reading_type"]
        );
    }
    assert_eq!(new.enedis.counts().requests(Endpoint::DataV5), 0);
    assert_eq!(legacy.enedis.counts().requests(Endpoint::Data2026), 0);
}

async fn a_day_asked_again_costs_nothing(store: Store) {
    let world = world(store, 1).await;
    let linked = link(&world).await;
    let day = yesterday(&world.enedis);
    for resource in [Resource::ConsumptionCurve, Resource::MaxPower] {
        let first = linked.read(&world, resource, day.plus(-6), 7).await;
        assert_eq!(first.status, 200, "{}", first.body);
        assert_eq!(linked.read(&world, resource, day.plus(-6), 7).await.body, first.body);
        assert_eq!(linked.read(&world, resource, day, 1).await.status, 200);
        // Today is not over, which Enedis need not be asked.
        assert_eq!(linked.read(&world, resource, day.plus(-3), 4).await.status, 200);
        assert_eq!(linked.read(&world, resource, day.plus(1), 1).await.status, 404);
        assert_eq!(world.enedis.counts().of_meter(METER, resource), 1, "{resource:?}");
    }
    // That there are no panels is an answer that is remembered as well.
    for _ in 0..3 {
        let none = linked.read(&world, Resource::ProductionCurve, day.plus(-6), 7).await;
        assert_eq!(none.outcome(), (400, Some("ADAM-ERR0069")), "Enedis' own words");
    }
    assert_eq!(world.enedis.counts().of_meter(METER, Resource::ProductionCurve), 1);
    // Only the days that are missing are asked for.
    assert_eq!(linked.read(&world, Resource::ConsumptionCurve, day.plus(-13), 14).await.status, 200);
    let asked = world.enedis.seen();
    let asked: Vec<_> =
        asked.api_requests.iter().filter(|r| r.path.contains("courbe_de_charge_conso")).collect();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].param("dateFin"), Some(day.plus(-6).to_string().as_str()));
}

async fn a_restart_forgets_nothing(store: Store) {
    let mut world = world(store, 1).await;
    let linked = link(&world).await;
    let day = yesterday(&world.enedis);
    let before = linked.read(&world, Resource::ConsumptionCurve, day.plus(-6), 7).await;
    linked.read(&world, Resource::ProductionCurve, day, 1).await;
    assert_eq!(before.status, 200);
    // What is remembered is written in its own time: an orderly stop leaves nothing out.
    world.server.stop(PATIENCE).await.unwrap();
    world.restart().await;
    let calls = world.enedis.counts().data_requests();
    assert_eq!(linked.read(&world, Resource::ConsumptionCurve, day.plus(-6), 7).await.body, before.body);
    let none = linked.read(&world, Resource::ProductionCurve, day, 1).await;
    assert_eq!(none.error(), Some("ADAM-ERR0069"));
    assert_eq!(world.enedis.counts().data_requests(), calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_requests_at_once_are_one_call() {
    let world = world(Store::Sqlite, 1).await;
    let linked = link(&world).await;
    world.enedis.script(Endpoint::Data2026, [Fault::Delay(Duration::from_millis(300))]);
    let day = yesterday(&world.enedis);
    let asks = (0..10).map(|_| linked.read(&world, Resource::ConsumptionCurve, day.plus(-6), 7));
    let answers = futures_util::future::join_all(asks).await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == answers[0].body));
    assert_eq!(world.enedis.counts().data_requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_requests_are_split_and_joined() {
    let world = world(Store::Sqlite, 1).await;
    let linked = link(&world).await;
    let start = yesterday(&world.enedis).plus(-29);
    let answer = linked.read(&world, Resource::ConsumptionCurve, start, 30).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let points = answer.json["meter_reading"]["interval_reading"].as_array().unwrap();
    let dates: Vec<&str> = points.iter().map(|point| point["date"].as_str().unwrap()).collect();
    assert_eq!(dates.len(), 30 * 48);
    assert!(dates.is_sorted());
    assert_eq!(world.enedis.counts().data_requests(), 5);
    let years = linked.read(&world, Resource::MaxPower, start.plus(-1_060), 1_090).await;
    assert_eq!(years.status, 200, "{}", years.body);
    assert_eq!(years.json["meter_reading"]["interval_reading"].as_array().unwrap().len(), 1_090);
    assert_eq!(world.enedis.counts().of_meter(METER, Resource::MaxPower), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_before_the_activation_are_remembered() {
    let options = Options { meters: Meters::Client(1), ..Options::default() };
    let world = Plan::metering(Store::Sqlite, options, 1).await.start().await;
    // In service since 27 August 2019, which Enedis no longer keeps: Enedis is taken back in time.
    let day = testkit::calendar::Day::parse("2019-08-25").unwrap();
    world.enedis.set_today(testkit::calendar::Day::parse("2020-08-25"));
    let linked = link(&world).await;
    for _ in 0..3 {
        let early = linked.read(&world, Resource::MaxPower, day, 4).await;
        assert_eq!(early.outcome(), (400, Some("ADAM-ERR0123")), "{}", early.body);
    }
    assert_eq!(world.enedis.counts().data_requests(), 1);
    assert_eq!(linked.read(&world, Resource::MaxPower, day.plus(2), 4).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_widened_call_hands_on_no_error_of_days_nobody_asked_for() {
    let world = world(Store::Sqlite, 1).await;
    let linked = link(&world).await;
    let day = yesterday(&world.enedis);
    assert_eq!(linked.read(&world, Resource::ConsumptionCurve, day.plus(-20), 7).await.status, 200);
    let early =
        serde_json::json!({"error": "ADAM-ERR0123", "error_description": "anterior to the activation"});
    world.enedis.script(Endpoint::Data2026, [Fault::json(400, &early)]);
    let answer = linked.read(&world, Resource::ConsumptionCurve, day, 1).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let seen = world.enedis.seen();
    let begins: Vec<_> =
        seen.api_requests.iter().rev().take(2).map(|r| r.param("dateDebut").unwrap()).collect();
    assert_eq!(begins, [day.to_string(), day.plus(-6).to_string()], "the week first, then what was asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_there_is_no_production_is_learnt_whatever_enedis_calls_it() {
    // Panels that never gave anything: 404 "no measure", where other meters have ADAM-ERR0069.
    let options = Options { meters: Meters::Client(6), ..Options::default() };
    let plan = Plan::metering(Store::Sqlite, options, 1).await.env("ENEDIS_API_MODE", "new");
    let mut world = plan.start().await;
    let linked = link(&world).await;
    world.enedis.set_published_until(testkit::calendar::Day::parse("2014-01-01"));
    let today = world.enedis.today();
    let mut calls = Vec::new();
    let mut token = linked.tokens.access.clone();
    for n in 0..24_u32 {
        let day = today.plus(i64::from(n));
        if n > 0 {
            let ahead = Duration::from_secs(u64::from(n) * 86_400);
            world.server.stop(PATIENCE).await.unwrap();
            world.enedis.set_clock_ahead(ahead);
            world.enedis.set_today(Some(day));
            let builder = world.builder.clone().env("CLOCK_OFFSET_SECS", ahead.as_secs().to_string());
            world.server = builder.start().await.unwrap_or_else(|error| panic!("{error}"));
            linked.refresh().await.text("access_token").unwrap().clone_into(&mut token);
        }
        let before = world.enedis.counts().data_requests();
        let (back, days) = if n == 0 { (7, 7) } else { (1, 1) };
        let target = question(Resource::ProductionCurve, &linked.meters, day.plus(-back), days);
        assert_eq!(get(&world, &target, Some(&token)).await.error(), Some("no_data_found"));
        calls.push(world.enedis.counts().data_requests() - before);
    }
    assert_eq!(calls[0], 1);
    // After a week, three days and two weeks.
    assert!(calls[1..].iter().sum::<u64>() <= 3, "{calls:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_does_not_keep_others_waiting() {
    // Two years of load curve of one box are 105 calls, 21 seconds of the quota; another box asks meanwhile. Enedis'
    // own limit is wider here: on a busy machine a call arrives in a later second than it was counted in.
    let quota = Quota { per_second: Some(20), ..Quota::ENEDIS };
    let world = Plan::metering(Store::Sqlite, Options { quota, ..Options::default() }, 1).await.start().await;
    let linked = link(&world).await;
    let day = yesterday(&world.enedis);
    let history = async { linked.read(&world, Resource::ConsumptionCurve, day.plus(-720), 721).await };
    let other = async {
        eventually("the history is under way", || async {
            (world.enedis.counts().data_requests() >= 6).then_some(())
        })
        .await;
        let answer = linked.read(&world, Resource::MaxPower, day, 1).await;
        (answer.status, world.enedis.counts().of_meter(METER, Resource::ConsumptionCurve))
    };
    let (history, (status, calls)) = tokio::join!(history, other);
    assert_eq!(status, 200);
    assert!(matches!(history.status, 200 | 429), "{}", history.body);
    assert!(calls < 60, "it did not wait for the history's hundred calls: {calls}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_server_needs_no_token() {
    let plan = Plan::metering(Store::Sqlite, Options::default(), 1).await;
    let world = plan.env("DISABLE_DATA_ENPOINT_AUTH", "true").start().await;
    world.enedis.grant(METER);
    let ask = question(Resource::MaxPower, METER, yesterday(&world.enedis), 1);
    assert_eq!(get(&world, &ask, None).await.status, 200);
}
