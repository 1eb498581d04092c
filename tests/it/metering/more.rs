//! What clients other than the plugin ask for: contracts, tables, late days; and what nobody is told.

use reqwest::header::ACCEPT;
use serde_json::{Value, json};
use testkit::enedis::{Endpoint, Fault, Options, Resource};
use testkit::http::Answer;

use super::{Linked, METER, get, link, question, world, yesterday};
use crate::fixture::{PATIENCE, Plan, Store, World};
use crate::journey::on_both_stores;

on_both_stores!(a_contract_is_told_without_its_owner_and_kept_a_day, days_that_came_late_are_told_apart);

const V5: &str = "/customers_upc/v5/usage_points/contracts";

fn new(api: &str) -> String {
    format!("/{api}/v1/{METER}")
}

async fn contract(world: &World, of: &Linked) -> Answer {
    of.get(world, &format!("{V5}?usage_point_id={METER}")).await
}

/// What Enedis has of a contract in 2026, with its owner.
pub fn put_new(world: &World) {
    let situation = json!([{"usage_point_id": METER, "contract_type": "Contrat GRD-F", "segment": "C5",
        "distribution_tariff": "Tarif BT<=36kVA", "subscribed_power": {"unit": "kVA", "value": "9"},
        "contact_data": {"email": "owner@example.org"}, "person": {"lastname": "DURAND"},
        "customer": {"customer": {"adress": {"line1": "12 RUE DES LILAS"}}}}]);
    let summary = json!({"segments": [{"segment": "C5"}], "consumption_last_activation_date": "2019-03-04"});
    let metering = json!({"dispositifComptage": {"typeComptage": {"code": "LINKY"},
        "compteurs": [{"numeroSerie": "012345678901"}], "relais": {"plageHeuresCreuses": "HC (22H30-6H30)"}}});
    for (api, body) in
        [("situation_contrat_auto", situation), ("synth_contrat_auto", summary), ("comptage_auto", metering)]
    {
        world.enedis.set_page(new(api), 200, &body);
    }
}

fn v5_contract() -> Value {
    json!({"customer": {"customer_id": "-1234567890", "usage_points": [{
        "usage_point": {"usage_point_id": METER, "usage_point_status": "com", "meter_type": "AMM"},
        "contracts": {"segment": "C5", "subscribed_power": "6 kVA", "last_activation_date": "2018-02-01+01:00",
            "distribution_tariff": "BTINFCUST", "offpeak_hours": null, "contract_type": "Contrat GRD-F",
            "contract_status": "SERVC", "last_distribution_tariff_change_date": "2021-08-01+02:00"}}]}})
}

async fn a_contract_is_told_without_its_owner_and_kept_a_day(store: Store) {
    let mut world = world(store, 2).await;
    let linked = link(&world).await;
    put_new(&world);
    let answer = contract(&world, &linked).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let point = &answer.json["customer"]["usage_points"][0];
    assert_eq!(point["usage_point"]["usage_point_id"], METER);
    let told = &point["contracts"];
    assert_eq!(
        (&told["subscribed_power"], &told["offpeak_hours"]),
        (&json!("9 kVA"), &json!("HC (22H30-6H30)"))
    );
    assert_eq!(told["last_activation_date"], "2019-03-04+01:00");
    for secret in ["DURAND", "owner@example.org", "LILAS", "012345678901"] {
        assert!(!answer.body.contains(secret), "{secret}");
    }
    let asked = world.enedis.seen().pages;
    assert_eq!(asked.len(), 3, "each of 2026 once, and v5 not: {asked:?}");
    // Not asked again that day, by a restarted server either; trouble later is not told while there is one.
    world.enedis.set_outage_everywhere(Some(&Fault::unavailable()));
    world.server.stop(PATIENCE).await.unwrap();
    world.restart().await;
    assert_eq!(contract(&world, &linked).await.body, answer.body);
    assert_eq!(world.enedis.seen().pages.len(), 3);
    // A table of it.
    let request = testkit::http::client().get(world.url(&format!("/data/proxy{V5}?usage_point_id={METER}")));
    let request = request.bearer_auth(&linked.tokens.access).header(ACCEPT, "text/csv");
    let table = request.send().await.unwrap().text().await.unwrap();
    let lines: Vec<&str> = table.split_terminator("\r\n").collect();
    assert!(
        lines.len() == 2 && lines[1].starts_with(&format!("{METER},,AMM,C5,9 kVA,2019-03-04+01:00,")),
        "{table}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_generation_tells_contracts() {
    for (mode, with_new, with_v5, expected) in [
        ("legacy", true, true, Some("6 kVA")),
        ("new", true, true, Some("9 kVA")),
        ("new", false, true, None),
        ("auto", false, true, Some("6 kVA")),
        ("auto", false, false, None),
    ] {
        let plan = Plan::metering(Store::Sqlite, Options::default(), 2).await;
        let world = plan.env("ENEDIS_API_MODE", mode).start().await;
        let linked = link(&world).await;
        if with_new {
            put_new(&world);
        }
        if with_v5 {
            world.enedis.set_page(V5, 200, &v5_contract());
        }
        let answer = contract(&world, &linked).await;
        match expected {
            Some(power) => {
                assert_eq!(answer.status, 200, "{mode}: {}", answer.body);
                let told = &answer.json["customer"]["usage_points"][0]["contracts"];
                assert_eq!(told["subscribed_power"], power, "{mode}");
                assert!(!answer.body.contains("1234567890"), "the customer's number");
            }
            None => assert_eq!(answer.outcome(), (404, Some("no_data_found")), "{mode}: {}", answer.body),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_about_contracts_says_nothing_about_the_consent() {
    for (status, body, expected) in [
        (
            403,
            json!({"error": "ADAM-DC-0008", "error_description": "no consent"}),
            (404, Some("no_data_found")),
        ),
        (403, json!({"code": "900908", "message": "Resource forbidden "}), (404, Some("no_data_found"))),
        (404, json!({"error": "STM-ERR-0000019", "error_description": "none"}), (404, Some("no_data_found"))),
        (500, json!({"error": "technical_error"}), (503, Some("temporarily_unavailable"))),
    ] {
        let world = Plan::metering(Store::Sqlite, Options::default(), 2)
            .await
            .env("ENEDIS_DEADLINE_SECS", "3")
            .env("ENEDIS_TIMEOUT_SECS", "2")
            .start()
            .await;
        let linked = link(&world).await;
        for api in ["situation_contrat_auto", "synth_contrat_auto", "comptage_auto"]
            .map(new)
            .into_iter()
            .chain([V5.to_owned()])
        {
            world.enedis.set_page(api, status, &body);
        }
        for _ in 0..3 {
            let answer = contract(&world, &linked).await;
            assert_eq!(answer.outcome(), expected, "{body}: {}", answer.body);
        }
        let asked = world.enedis.seen().pages.len();
        assert!(asked <= 4 * 4, "remembered for a while: {asked}");
        let values = linked.read(&world, Resource::MaxPower, yesterday(&world.enedis), 1).await;
        assert_eq!(values.status, 200, "values are not concerned: {}", values.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_the_owner_is_nobody_hears() {
    let world = world(Store::Sqlite, 2).await;
    let linked = link(&world).await;
    for path in
        ["customers_i/v5/identity", "customers_cd/v5/contact_data", "customers_upa/v5/usage_points/addresses"]
    {
        let answer = linked.get(&world, &format!("/{path}?usage_point_id={METER}")).await;
        assert_eq!(answer.outcome(), (404, Some("not_relayed")));
    }
    for (query, expected) in [
        ("", (400, Some("invalid_request"))),
        ("?usage_point_id=1", (400, Some("invalid_request"))),
        ("?usage_point_id=22516914714270&start=2026-01-01", (400, Some("invalid_request"))),
        ("?usage_point_id=22516914714270&usage_point_id=22516914714270", (400, Some("invalid_request"))),
        ("?usage_point_id=10284856584123", (404, Some("unknown_usage_point"))),
    ] {
        assert_eq!(linked.get(&world, &format!("{V5}{query}")).await.outcome(), expected, "{query}");
    }
    assert_eq!(
        get(&world, &format!("{V5}?usage_point_id={METER}"), None).await.error(),
        Some("invalid_token")
    );
    let seen = world.enedis.seen();
    assert!(seen.pages.is_empty() && seen.unknown_paths.is_empty(), "{:?}", seen.unknown_paths);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_a_table_for_whoever_prefers_one() {
    let world = world(Store::Sqlite, 2).await;
    let linked = link(&world).await;
    let ask = question(Resource::ConsumptionCurve, METER, yesterday(&world.enedis).plus(-1), 2);
    let json = linked.get(&world, &ask).await;
    let values = json.json["meter_reading"]["interval_reading"].as_array().unwrap();
    let request = testkit::http::client().get(world.url(&format!("/data/proxy{ask}")));
    let request =
        request.bearer_auth(&linked.tokens.access).header(ACCEPT, "application/json;q=0.5, text/csv");
    let answer = request.send().await.unwrap();
    for (name, expected) in [
        ("content-type", "text/csv; charset=utf-8; header=present"),
        ("vary", "accept"),
        ("cache-control", "no-store"),
    ] {
        assert!(
            answer.headers()[name].to_str().unwrap().eq_ignore_ascii_case(expected),
            "{name}: {:?}",
            answer.headers()
        );
    }
    let text = answer.text().await.unwrap();
    let lines: Vec<&str> = text.split_terminator("\r\n").collect();
    assert_eq!(lines[0], "usage_point_id,date,value,unit,interval_length,measure_type,quality");
    assert_eq!(lines.len(), values.len() + 1);
    for (line, value) in lines[1..].iter().zip(values) {
        let of = |name: &str| value[name].as_str().unwrap_or_default();
        let expected =
            [METER, of("date"), of("value"), "W", of("interval_length"), of("measure_type"), "BRUT"];
        assert_eq!(*line, expected.join(","));
    }
    // Errors are JSON, and say too that they depend on the header.
    let request =
        testkit::http::client().get(world.url(&format!("/data/proxy{ask}"))).header(ACCEPT, "text/csv");
    let error = request.send().await.unwrap();
    assert!(error.headers().contains_key("vary") && error.headers()["content-type"] == "application/json");
}

async fn days_that_came_late_are_told_apart(store: Store) {
    let mut world = world(store, 2).await;
    let linked = link(&world).await;
    let day = yesterday(&world.enedis);
    let changed = async |world: &World, since: &str| {
        let ask = question(Resource::MaxPower, METER, day.plus(-2), 3);
        let answer = linked.get(world, &format!("{ask}&changed_since={since}")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json["meter_reading"]["interval_reading"].as_array().unwrap().len()
    };
    let before = jiff::Timestamp::now().to_string();
    assert_eq!(
        linked.read(&world, Resource::MaxPower, day.plus(-2), 1).await.status,
        200,
        "two days are not there yet"
    );
    // Two days more come by the next question.
    let between = jiff::Timestamp::now().to_string();
    assert_eq!(changed(&world, &between).await, 2, "the first day is known");
    world.server.stop(PATIENCE).await.unwrap();
    world.restart().await;
    assert_eq!(changed(&world, &before).await, 3);
    assert_eq!(changed(&world, &between).await, 2);
    assert_eq!(changed(&world, &jiff::Timestamp::now().to_string()).await, 0);
    let counts = world.enedis.counts();
    assert_eq!(counts.requests(Endpoint::Data2026), 2);
    for bad in ["yesterday", "2026-11-23", "", "2026-11-23T08:00:00Z&changed_since=2026-11-23T08:00:00Z"] {
        let ask = question(Resource::MaxPower, METER, day, 1);
        let answer = linked.get(&world, &format!("{ask}&changed_since={bad}")).await;
        assert_eq!(answer.outcome(), (400, Some("invalid_request")), "{bad}");
    }
}
