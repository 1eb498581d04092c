//! Questions that are refused, and of which Enedis sees nothing.

use reqwest::header::AUTHORIZATION;
use testkit::enedis::{Options, Resource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{METER, get, link, question, world, yesterday};
use crate::fixture::{Plan, Store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enedis_sees_nothing_of_what_is_refused() {
    let world = world(Store::Sqlite, 1).await;
    let linked = link(&world).await;
    let day = yesterday(&world.enedis);
    // Another owner's meter, consented to the application.
    let others = "11453290002823";
    world.enedis.grant(others);
    let range = format!("start={day}&end={}", day.plus(1));
    let ask = |path: &str| format!("{path}?usage_point_id={METER}&{range}");
    let clc = "/metering_data_clc/v5/consumption_load_curve";
    let with = |query: &str| format!("{clc}?{query}");
    let refused = [
        (with(&format!("usage_point_id={others}&{range}")), 404, "unknown_usage_point"),
        // Paths.
        (ask("/customers_upc/v5/usage_points/contracts"), 400, "invalid_request"),
        (ask("//metering_data_clc/v5/consumption_load_curve"), 404, "not_found"),
        (
            ask("/metering_data_clc/v5/../../mesure_synchrone_auto/v2/consommation_quotidienne"),
            404,
            "not_found",
        ),
        (ask("/metering_data_clc%2Fv5%2Fconsumption_load_curve"), 404, "not_found"),
        (ask("/metering_data_clc/v5/consumption_load_curve%3FpointId"), 404, "not_found"),
        (ask("/metering_data_clc/v5/%2e%2e/v5/consumption_load_curve"), 404, "not_found"),
        (ask("/METERING_DATA_CLC/v5/consumption_load_curve"), 404, "not_found"),
        // Parameters.
        (with(&format!("usage_point_id={METER}&usage_point_id={others}&{range}")), 400, "invalid_request"),
        (with(&format!("usage_point_id={METER}&usage%5Fpoint_id={others}&{range}")), 400, "invalid_request"),
        (with(&format!("usage_point_id[]={METER}&{range}")), 400, "invalid_request"),
        (with(&format!("usage_point_id={METER},{others}&{range}")), 400, "invalid_request"),
        (with(&format!("usage_point_id={METER}&pointId={others}&{range}")), 400, "invalid_request"),
        (with(&format!("usage_point_id={METER}&{range}&dateDebut=2026-01-01")), 400, "invalid_request"),
        (with(&format!("usage_point_id={METER}%26pointId={others}&{range}")), 400, "invalid_request"),
        (with(&format!("usage_point_id={METER}&{range}&person_id=a%0d%0ab")), 400, "invalid_request"),
        (with(&format!("usage_point_id={METER}&start={day}&end={}", day.plus(9))), 400, "invalid_request"),
    ];
    for (path, status, error) in &refused {
        // As it stands: a client library would tidy it up.
        let answer = raw(&world.server, &format!("/data/proxy{path}"), &linked.tokens.access).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        assert!(answer.contains(&format!("\"error\":\"{error}\"")), "{path}: {answer}");
        assert!(answer.contains("content-type: application/json"), "{path}: {answer}");
    }
    // Tokens.
    let good = question(Resource::MaxPower, METER, day, 1);
    for token in
        [None, Some("0".repeat(64)), Some("short".into()), Some(format!("{}0", linked.tokens.access))]
    {
        let answer = get(&world, &good, token.as_deref()).await;
        assert_eq!(answer.outcome(), (401, Some("invalid_token")), "{token:?}");
        // One on which the plugin does not stumble, and the error comes first.
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(
            challenge.starts_with("Bearer ") && challenge.contains(",error=\"invalid_token\""),
            "{challenge}"
        );
        assert!(
            challenge.split(',').all(|part| part.contains('=')) && !challenge.contains(", "),
            "{challenge}"
        );
    }
    let twice = testkit::http::client()
        .get(world.url(&format!("/data/proxy{good}")))
        .header(AUTHORIZATION, format!("Bearer {}", linked.tokens.access))
        .header(AUTHORIZATION, "Bearer x");
    assert_eq!(twice.send().await.unwrap().status(), 401);
    let posted = testkit::http::client().post(world.url(&format!("/data/proxy{good}")));
    assert_eq!(posted.send().await.unwrap().status(), 405);
    assert_eq!(world.enedis.counts().data_requests(), 0);
    assert_eq!(world.enedis.seen().unknown_paths, Vec::<String>::new());
    assert_eq!(get(&world, &good, Some(&linked.tokens.access)).await.status, 200);
}

/// Sends a request line as it is, and reads the whole answer.
async fn raw(server: &testkit::server::Server, target: &str, token: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(server.listen()).await.unwrap();
    let head = format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outdated_plugin_is_told_so_at_the_data_endpoint_too() {
    let plan = Plan::metering(Store::Sqlite, Options::default(), 1).await.env("VERSION_MIN", "2.6.0");
    let world = plan.start().await;
    let target = question(Resource::MaxPower, METER, yesterday(&world.enedis), 1);
    let answer = get(&world, &target, None).await;
    assert_eq!(answer.outcome(), (400, Some("version_mismatch")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_flow_relays_nothing() {
    let world = crate::fixture::World::start(Store::Sqlite).await;
    let target = question(Resource::MaxPower, METER, yesterday(&world.enedis), 1);
    let answer = get(&world, &target, Some(&"0".repeat(64))).await;
    assert_eq!(answer.outcome(), (404, Some("not_found")));
    let form =
        [("grant_type", "refresh_token"), ("client_id", crate::fixture::CLIENT), ("refresh_token", "x")];
    let refused = world.device().await.post_form("/device/token", &form).await.unwrap();
    assert_eq!(refused.error(), Some("unsupported_grant_type"));
}
