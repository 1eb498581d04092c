//! Enedis' gateway in trouble: never an answer about the meter, never one on which the plugin draws a lasting conclusion.

use std::time::Duration;

use testkit::enedis::{Endpoint, Fault, Options, Resource};

use super::{link, yesterday};
use crate::fixture::{Plan, Store, each};

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
        let plan = Plan::metering(Store::Sqlite, Options::default(), 1).await.env("ENEDIS_API_MODE", mode);
        let world = plan.env("ENEDIS_TIMEOUT_SECS", "1").env("ENEDIS_DEADLINE_SECS", "4").start().await;
        let linked = link(&world).await;
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
