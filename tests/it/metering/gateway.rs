//! Enedis' gateway in trouble: never an answer about the meter, never one on which the plugin draws a lasting conclusion.

use std::collections::BTreeMap;
use std::time::Duration;

use testkit::enedis::{Endpoint, Fault, GeneratedMeters, Meters, Options, Quota, Resource};

use super::{Linked, get, link, question, yesterday};
use crate::fixture::{Plan, Store, World, each, eventually};

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
        ("504", Fault::answer(504, &[], ""), 429),
        ("cut", Fault::CutBefore, 429),
        ("html", Fault::Html, 429),
        ("hang", Fault::Hang, 429),
        ("not subscribed", Fault::not_subscribed(), 503),
        ("403 in html", Fault::answer(403, &[], "<html>"), 429),
        ("404 in html", Fault::answer(404, &[], "<html>"), 503),
        ("400 ADAM-DC-0007", json(400, r#"{"error":"ADAM-DC-0007","error_description":"x"}"#), 429),
        ("403 ADAM-DC-0008", json(403, r#"{"error":"ADAM-DC-0008","error_description":"x"}"#), 429),
        ("quota", Fault::quota_for(Duration::from_secs(1)), 429),
        ("too many", Fault::too_many(1), 429),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_trouble_looks_like_an_answer_about_the_meter() {
    let apis = [(Endpoint::Data2026, "new"), (Endpoint::DataV5, "legacy")];
    let cases = apis.into_iter().flat_map(|api| troubles().into_iter().map(move |trouble| (api, trouble)));
    each(cases, async |((endpoint, mode), (name, fault, status))| {
        let (world, linked) = impatient(mode).await;
        let day = yesterday(&world.enedis);
        world.enedis.script(endpoint, [fault]);
        let answer = linked.read(&world, Resource::ConsumptionCurve, day, 1).await;
        let told = answer.outcome();
        assert_eq!(told, (status, Some("temporarily_unavailable")), "{mode} {name}");
        assert!(answer.retry_after().is_some(), "{name}");
        // After a quota answer it waits until the time Enedis named.
        let other = linked.read(&world, Resource::MaxPower, day, 1).await;
        // An unsure answer about the consent holds this meter back for a while; everything else is over.
        let expected = if name.contains("ADAM") { 503 } else { 200 };
        assert_eq!(other.status, expected, "{mode} {name} {}", other.body);
    })
    .await;
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
    assert_eq!(young.outcome(), (429, Some("temporarily_unavailable")));
    assert_eq!(world.enedis.counts().application_tokens, 1);
    eventually("the token is replaced", || async {
        (linked.read(&world, Resource::ConsumptionCurve, day, 1).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(world.enedis.counts().application_tokens, 2);
}

/// A server that takes no tokens, in front of as many meters.
async fn crowded(meters: u32, mode: &str) -> World {
    let fleet = Meters::Generated(GeneratedMeters::consumers(meters));
    let plan = Plan::metering(Store::Sqlite, Options { meters: fleet, ..Options::default() }, 1).await;
    let plan = plan.env("ENEDIS_API_MODE", mode).env("DISABLE_DATA_ENDPOINT_AUTH", "true");
    let world = plan.start().await;
    for n in 0..meters {
        world.enedis.grant(&GeneratedMeters::point(n));
    }
    world
}

/// Every meter of `range` asks once, all at the same time; how many were answered with each status.
async fn crowd(world: &World, range: std::ops::Range<u32>) -> BTreeMap<u16, usize> {
    let day = yesterday(&world.enedis);
    let asks = range.map(|n| {
        let target = question(Resource::MaxPower, &GeneratedMeters::point(n), day, 1);
        async move { get(world, &target, None).await.status }
    });
    let mut tally = BTreeMap::new();
    for status in futures_util::future::join_all(asks).await {
        *tally.entry(status).or_default() += 1;
    }
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_replaced_however_much_waits() {
    let world = crowded(500, "new").await;
    assert_eq!(crowd(&world, 0..1).await, BTreeMap::from([(200, 1)]));
    world.enedis.set_outage(Endpoint::Data2026, Some(Fault::Delay(Duration::from_millis(400))));
    // A crowd every second, so that there is never a free place in the quota, until the token has been replaced.
    let (mut crowds, mut n) = (Vec::new(), 1);
    let replaced = eventually("the token is replaced", || {
        let next = n..(n + 8).min(500);
        n = next.end;
        crowds.push(tokio::spawn({
            let targets: Vec<_> = next
                .map(|n| {
                    question(Resource::MaxPower, &GeneratedMeters::point(n), yesterday(&world.enedis), 1)
                })
                .collect();
            let base = world.server.base_url().to_owned();
            async move {
                let asks = targets.iter().map(|target| reqwest::get(format!("{base}/data/proxy{target}")));
                futures_util::future::join_all(asks).await.len()
            }
        }));
        world.enedis.expire_application_tokens();
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            (world.enedis.counts().application_tokens > 1).then_some(())
        }
    });
    replaced.await;
    drop(crowds);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kind_of_outage_costs_a_call_for_each_question() {
    let faults = [Fault::invalid_credentials(), Fault::not_subscribed(), Fault::server_error()];
    let cases = faults.into_iter().flat_map(|fault| ["new", "auto"].map(|mode| (fault.clone(), mode)));
    each(cases, async |(fault, mode)| {
        let world = crowded(40, mode).await;
        for endpoint in [Endpoint::Data2026, Endpoint::DataV5] {
            world.enedis.set_outage(endpoint, Some(fault.clone()));
        }
        let told = crowd(&world, 0..40).await;
        assert!(told.keys().all(|status| matches!(status, 429 | 503)), "{mode} {fault:?} {told:?}");
        let calls = world.enedis.counts().data_requests();
        assert!(calls <= 24, "{mode} {fault:?}: {calls}");
        assert!(world.enedis.counts().application_tokens <= 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enedis_is_left_alone_as_long_as_it_asks() {
    let (world, linked) = impatient("new").await;
    let day = yesterday(&world.enedis);
    world.enedis.script(Endpoint::Data2026, [Fault::unavailable().with_header("Retry-After", "600")]);
    for resource in [Resource::MaxPower, Resource::ConsumptionCurve] {
        let busy = linked.read(&world, resource, day, 1).await;
        assert_eq!(busy.outcome(), (429, Some("temporarily_unavailable")));
    }
    assert_eq!(world.enedis.counts().data_requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_words_about_one_meter_close_no_api() {
    let (world, linked) = impatient("auto").await;
    let day = yesterday(&world.enedis);
    world.enedis.set_outage(Endpoint::DataV5, Some(Fault::unavailable()));
    let odd =
        Fault::json(404, &serde_json::json!({"code": "404", "message": "Aucun point pour cette demande"}));
    world.enedis.script(Endpoint::Data2026, [odd.clone(), odd]);
    for back in 1..=2 {
        assert_eq!(linked.read(&world, Resource::MaxPower, day.plus(-10 * back), 1).await.status, 429);
    }
    eventually("the new API is asked again", || async {
        (linked.read(&world, Resource::MaxPower, day, 1).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_does_not_begin_the_hours_quota_anew() {
    let quota = Quota { per_hour: Some(10), ..Quota::ENEDIS };
    let plan = Plan::metering(Store::Sqlite, Options { quota, ..Options::default() }, 1).await;
    let plan = plan.env("ENEDIS_CALLS_PER_HOUR", "10").env("ENEDIS_API_MODE", "new");
    let mut world = plan.at_half_past().start().await;
    let linked = link(&world).await;
    let day = yesterday(&world.enedis);
    let resources = [Resource::MaxPower, Resource::ConsumptionCurve, Resource::DailyConsumption];
    for (resource, back) in resources.into_iter().flat_map(|resource| [(resource, 5), (resource, 3)]) {
        assert_eq!(linked.read(&world, resource, day.plus(-back), 1).await.status, 200);
    }
    world.server.kill9().unwrap();
    world.restart().await;
    let mut told = Vec::new();
    for (resource, back) in
        resources.into_iter().flat_map(|resource| [(resource, 6), (resource, 4), (resource, 2)])
    {
        told.push(linked.read(&world, resource, day.plus(-back), 1).await.status);
    }
    assert_eq!(told.iter().filter(|status| **status == 200).count(), 4, "{told:?}");
    assert_eq!(told.iter().filter(|status| **status == 429).count(), 5, "{told:?}");
    assert_eq!(world.enedis.counts().throttled_in_all(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auto_prefers_the_new_api_and_falls_back_on_the_old() {
    let (world, linked) = impatient("auto").await;
    let day = yesterday(&world.enedis);
    world.enedis.set_subscribed(Endpoint::Data2026, false);
    for back in 1..=6 {
        let answer = linked.read(&world, Resource::MaxPower, day.plus(-20 * back), 1).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let counts = world.enedis.counts();
    assert_eq!(counts.requests(Endpoint::DataV5), 6);
    assert_eq!(counts.requests(Endpoint::Data2026), 2, "then it is remembered that this one is closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_takes_no_token_does_not_stop_the_other() {
    let (world, linked) = impatient("auto").await;
    let day = yesterday(&world.enedis);
    world.enedis.set_outage(Endpoint::Data2026, Some(Fault::invalid_credentials()));
    for back in 1..=4 {
        let answer = linked.read(&world, Resource::MaxPower, day.plus(-20 * back), 1).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    assert_eq!(world.enedis.counts().application_tokens, 1, "a new one would fare no better");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auto_never_falls_back_on_an_error_about_data() {
    let (world, linked) = impatient("auto").await;
    let answer = linked.read(&world, Resource::ProductionCurve, yesterday(&world.enedis), 1).await;
    assert_eq!(answer.error(), Some("ADAM-ERR0069"));
    assert_eq!(world.enedis.counts().requests(Endpoint::DataV5), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_no_data_and_no_harm() {
    let (world, linked) = impatient("auto").await;
    world.enedis.set_outage(Endpoint::Token, Some(Fault::oauth_error("invalid_client")));
    let answer = linked.read(&world, Resource::MaxPower, yesterday(&world.enedis), 1).await;
    assert_eq!(answer.outcome(), (429, Some("temporarily_unavailable")));
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
        assert_eq!(answer.outcome(), (429, Some("temporarily_unavailable")), "{}", answer.body);
    }
    let calls = world.enedis.counts().data_requests();
    assert!(calls <= 16, "{calls}");
    world.enedis.set_outage_everywhere(None);
    eventually("the breaker lets a probe through", || async {
        (linked.read(&world, Resource::MaxPower, day, 1).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hours_quota_is_told_at_once_and_costs_nothing() {
    let plan = Plan::metering(Store::Sqlite, Options::default(), 1).await.env("ENEDIS_CALLS_PER_HOUR", "2");
    let world = plan.at_half_past().start().await;
    let linked = link(&world).await;
    let day = yesterday(&world.enedis);
    for resource in [Resource::ConsumptionCurve, Resource::MaxPower] {
        assert_eq!(linked.read(&world, resource, day, 1).await.status, 200);
    }
    let busy = linked.read(&world, Resource::DailyConsumption, day, 1).await;
    assert_eq!(busy.outcome(), (429, Some("temporarily_unavailable")), "{}", busy.body);
    let wait = busy.retry_after().unwrap();
    assert!((1_700..=1_800).contains(&wait.as_secs()), "until the hour is over: {wait:?}");
    assert_eq!(
        linked.read(&world, Resource::MaxPower, day, 1).await.status,
        200,
        "what is known costs nothing"
    );
    assert_eq!(world.enedis.counts().data_requests(), 2);
}
