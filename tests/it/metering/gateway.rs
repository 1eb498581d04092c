//! Enedis' gateway in trouble: never an answer about the meter, never one on which the plugin draws a lasting conclusion.

use std::time::Duration;

use actors::clock::{Clock, SystemClock};
use testkit::enedis::{Api, Endpoint, Fault, Options, Resource};

use super::{Linked, link, yesterday};
use crate::fixture::{Plan, Store, World};

/// A world whose patience is short, with one API or both.
async fn impatient(mode: &str) -> (World, Linked) {
    let plan = Plan::metering(Store::Sqlite, Options::default(), 1).await.env("ENEDIS_API_MODE", mode);
    let plan = plan.env("ENEDIS_TIMEOUT_SECS", "1").env("ENEDIS_DEADLINE_SECS", "4");
    let world = plan.start().await;
    let linked = link(&world).await;
    (world, linked)
}

fn troubles() -> Vec<(&'static str, Fault, u16)> {
    let json = |code, body: &str| Fault::json(code, &serde_json::from_str(body).unwrap());
    vec![
        // Trouble that has just begun is 429: the plugin asks again at once, and not in an hour.
        ("500", Fault::server_error(), 429),
        ("500 of 2026", json(500, r#"{"code":"500","message":"Erreur technique"}"#), 429),
        ("nested 500", json(500, r#"{"error":{"code":500,"message":"Erreur Technique - 500"}}"#), 429),
        ("503", Fault::unavailable(), 429),
        ("504", Fault::Status { code: 504, headers: vec![], body: String::new() }, 429),
        ("cut", Fault::CutBefore, 429),
        ("html", Fault::Html, 429),
        ("hang", Fault::Hang, 429),
        ("not subscribed", Fault::not_subscribed(), 503),
        ("403 in html", Fault::Status { code: 403, headers: vec![], body: "<html>".into() }, 429),
        ("404 in html", Fault::Status { code: 404, headers: vec![], body: "<html>".into() }, 503),
        ("400 ADAM-DC-0007", json(400, r#"{"error":"ADAM-DC-0007","error_description":"x"}"#), 429),
        ("403 ADAM-DC-0008", json(403, r#"{"error":"ADAM-DC-0008","error_description":"x"}"#), 429),
        ("quota", Fault::quota_for(Duration::from_secs(1)), 429),
        ("too many", Fault::too_many(1), 429),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_trouble_looks_like_an_answer_about_the_meter() {
    for (endpoint, mode) in [(Endpoint::Data2026, "new"), (Endpoint::DataV5, "legacy")] {
        for (name, fault, status) in troubles() {
            let (world, linked) = impatient(mode).await;
            let day = yesterday(&world.enedis);
            world.enedis.script(endpoint, [fault]);
            let answer = linked.read(&world, Resource::ConsumptionCurve, day, 1).await;
            assert_eq!(
                (answer.status, answer.error()),
                (status, Some("temporarily_unavailable")),
                "{mode} {name}"
            );
            assert!(answer.retry_after().is_some(), "{name}");
            // After a quota answer it waits until the time Enedis named.
            let other = linked.read(&world, Resource::MaxPower, day, 1).await;
            // A rumour about the consent holds this meter back for a while; everything else is over.
            let expected = if name.contains("ADAM") { 503 } else { 200 };
            assert_eq!(other.status, expected, "{mode} {name} {}", other.body);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_enedis_no_longer_accepts_is_replaced() {
    let (world, linked) = impatient("new").await;
    let day = yesterday(&world.enedis);
    assert_eq!(linked.read(&world, Resource::MaxPower, day, 1).await.status, 200);
    assert_eq!(world.enedis.counts().application_tokens, 1);
    world.enedis.expire_application_tokens();
    // As long as it is young it is not: another one would fare no better, and the token endpoint has a quota too.
    let young = linked.read(&world, Resource::ConsumptionCurve, day, 1).await;
    assert_eq!((young.status, young.error()), (429, Some("temporarily_unavailable")));
    assert_eq!(world.enedis.counts().application_tokens, 1);
    crate::fixture::eventually("the token is replaced", || async {
        (linked.read(&world, Resource::ConsumptionCurve, day, 1).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(world.enedis.counts().application_tokens, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auto_prefers_the_new_api_and_falls_back_on_the_old() {
    let (world, linked) = impatient("auto").await;
    let day = yesterday(&world.enedis);
    world.enedis.set_subscribed(Api::Data2026, false);
    for back in 1..=6 {
        let answer = linked.read(&world, Resource::MaxPower, day.plus(-20 * back), 1).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let counts = world.enedis.counts();
    assert_eq!(counts.requests(Api::DataV5), 6);
    assert_eq!(counts.requests(Api::Data2026), 2, "then it is remembered that this one is closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auto_never_falls_back_on_an_error_about_data() {
    let (world, linked) = impatient("auto").await;
    let answer = linked.read(&world, Resource::ProductionCurve, yesterday(&world.enedis), 1).await;
    assert_eq!(answer.error(), Some("ADAM-ERR0069"));
    assert_eq!(world.enedis.counts().requests(Api::DataV5), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_no_data_and_no_harm() {
    let (world, linked) = impatient("auto").await;
    world.enedis.set_outage(Endpoint::Token, Some(Fault::oauth_error("invalid_client")));
    let answer = linked.read(&world, Resource::MaxPower, yesterday(&world.enedis), 1).await;
    assert_eq!((answer.status, answer.error()), (429, Some("temporarily_unavailable")));
    assert_eq!(world.enedis.counts().data_requests(), 0);
    assert_eq!(linked.refresh().await.status, 200, "our own tokens have nothing to do with it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_outage_costs_few_calls_and_ends_by_itself() {
    let (world, linked) = impatient("auto").await;
    let day = yesterday(&world.enedis);
    world.enedis.set_outage_everywhere(Some(&Fault::server_error()));
    let asks = (1..=60).map(|back| linked.read(&world, Resource::MaxPower, day.plus(-10 * back), 1));
    for answer in futures_util::future::join_all(asks).await {
        assert_eq!(
            (answer.status, answer.error()),
            (429, Some("temporarily_unavailable")),
            "{}",
            answer.body
        );
    }
    let calls = world.enedis.counts().data_requests();
    assert!(calls <= 16, "{calls}");
    world.enedis.set_outage_everywhere(None);
    crate::fixture::eventually("the breaker lets a probe through", || async {
        (linked.read(&world, Resource::MaxPower, day, 1).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hours_quota_is_told_at_once_and_costs_nothing() {
    // The server's clock stands at half past, whenever this runs.
    let into_hour = SystemClock.now().as_secs() % 3_600;
    let plan = Plan::metering(Store::Sqlite, Options::default(), 1).await.env("ENEDIS_CALLS_PER_HOUR", "2");
    let world = plan.env("CLOCK_OFFSET_SECS", &((5_400 - into_hour) % 3_600).to_string()).start().await;
    let linked = link(&world).await;
    let day = yesterday(&world.enedis);
    for resource in [Resource::ConsumptionCurve, Resource::MaxPower] {
        assert_eq!(linked.read(&world, resource, day, 1).await.status, 200);
    }
    let begun = std::time::Instant::now();
    let busy = linked.read(&world, Resource::DailyConsumption, day, 1).await;
    assert_eq!((busy.status, busy.error()), (429, Some("temporarily_unavailable")), "{}", busy.body);
    let wait = busy.retry_after().unwrap();
    assert!((1_700..=1_800).contains(&wait.as_secs()), "until the hour is over: {wait:?}");
    assert!(begun.elapsed() < crate::fixture::PATIENCE);
    assert_eq!(
        linked.read(&world, Resource::MaxPower, day, 1).await.status,
        200,
        "what is known costs nothing"
    );
    assert_eq!(world.enedis.counts().data_requests(), 2);
}
