//! The gateway, the data services and the consent of version 2, over real sockets.

use super::super::values::{Direction, daily, half_hour, max_power};
use super::*;

/// The same simulator, where client 0 has consented.
async fn start(change: impl FnOnce(&mut Options)) -> Simulator {
    let sim = super::start(change).await;
    sim.grant(POINT);
    sim
}

fn point(client: u8) -> &'static str {
    usage_points(client).expect("a meter")
}

async fn token(sim: &Simulator) -> String {
    let answer = send(posted(sim, &[("grant_type", "client_credentials")])).await;
    answer.text("access_token").expect("a token").to_owned()
}

async fn get_as(sim: &Simulator, token: &str, path: &str) -> Answer {
    let url = sim.base_url() + path;
    send(plain().get(url).bearer_auth(token).header("Content-Type", "application/json")).await
}

async fn get(sim: &Simulator, path: &str) -> Answer {
    get_as(sim, &token(sim).await, path).await
}

/// The path and query of a question about the days from `start` to `end`, on either API.
fn v5_path(resource: Resource, point: &str, start: &str, end: &str) -> String {
    format!("{}?usage_point_id={point}&start={start}&end={end}", resource.v5_path())
}

fn path_2026(resource: Resource, point: &str, start: &str, end: &str) -> String {
    let more = if resource == Resource::MaxPower { "&mesuresPas=P1D&grandeurPhysique=PMA" } else { "" };
    format!("{}?pointId={point}&dateDebut={start}&dateFin={end}{more}", resource.path_2026())
}

async fn v5(sim: &Simulator, resource: Resource, point: &str, start: &str, end: &str) -> Answer {
    get(sim, &v5_path(resource, point, start, end)).await
}

async fn of_2026(sim: &Simulator, resource: Resource, point: &str, start: &str, end: &str) -> Answer {
    get(sim, &path_2026(resource, point, start, end)).await
}

/// The status of a question about one day, on either API.
async fn asked(sim: &Simulator, api: Endpoint) -> u16 {
    let path = if api == Endpoint::DataV5 { v5_path } else { path_2026 };
    get(sim, &path(Resource::MaxPower, POINT, "2026-11-20", "2026-11-21")).await.status
}

fn services_url(sim: &Simulator) -> String {
    sim.base_url() + SERVICES_PATH
}

async fn services(sim: &Simulator, body: &Value) -> Answer {
    send(plain().post(services_url(sim)).bearer_auth(token(sim).await).json(body)).await
}

/// Presses the button that says `label` on the page of version 2 and returns the parameters of the redirection.
async fn consent_v2(sim: &Simulator, label: &str) -> Vec<(String, String)> {
    let url = format!("{}?response_type=code&client_id=simulated-client&state=abc", sim.authorize_v2_url());
    press(sim, &url, label).await
}

#[tokio::test]
async fn a_curve_has_a_point_per_half_hour_whose_date_is_its_end() {
    let sim = start(|_| {}).await;
    let answer = v5(&sim, Resource::ConsumptionCurve, POINT, "2026-11-20", "2026-11-22").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let reading = &answer.json["meter_reading"];
    assert_eq!(reading["usage_point_id"], POINT);
    assert_eq!((&reading["start"], &reading["end"]), (&json!("2026-11-20"), &json!("2026-11-22")));
    let kind = json!({"measurement_kind": "power", "unit": "W", "aggregate": "average"});
    assert_eq!(reading["reading_type"], kind);
    let points = reading["interval_reading"].as_array().expect("points");
    assert_eq!(points.len(), 96);
    let first = half_hour(POINT, Direction::Consumption, day("2026-11-20"), 0).to_string();
    let first = json!({"value": first, "date": "2026-11-20 00:30:00", "interval_length": "PT30M", "measure_type": "B"});
    assert_eq!(points[0], first);
    assert_eq!(points[95]["date"], "2026-11-22 00:00:00");
}

#[tokio::test]
async fn values_of_a_day_have_the_shape_of_either_api() {
    let sim = start(|_| {}).await;
    let energy = |text| daily(POINT, Direction::Consumption, day(text)).to_string();
    let answer = v5(&sim, Resource::DailyConsumption, POINT, "2026-11-01", "2026-11-03").await;
    let reading = &answer.json["meter_reading"];
    assert_eq!(reading["interval_reading"][1], json!({"value": energy("2026-11-02"), "date": "2026-11-02"}));
    assert_eq!(reading["reading_type"]["measuring_period"], "P1D");
    let answer = v5(&sim, Resource::MaxPower, POINT, "2026-11-01", "2026-11-02").await;
    let point = &answer.json["meter_reading"]["interval_reading"][0];
    assert_eq!(point["value"], max_power(POINT, day("2026-11-01")).0.to_string());
    assert!(point["date"].as_str().is_some_and(|date| date.len() == 19 && date.starts_with("2026-11-01 ")));

    let answer = of_2026(&sim, Resource::DailyConsumption, POINT, "2026-11-20", "2026-11-22").await;
    let expected = json!({"idPrm": POINT, "etapeMetier": "BRUT", "typeValeur": "GLOBALE", "modeCalcul": "DIFF.INDEX",
        "pas": "P1D", "periode": {"dateDebut": "2026-11-20", "dateFin": "2026-11-22"}, "contexte": [],
        "grandeur": [{"grandeurMetier": "CONS", "grandeurPhysique": "EA", "unite": "Wh", "calendrier": [],
            "points": [{"v": energy("2026-11-20"), "d": "2026-11-20"}, {"v": energy("2026-11-21"), "d": "2026-11-21"}]}]});
    assert_eq!(answer.json, expected);
    let full = path_2026(Resource::MaxPower, POINT, "2026-11-20", "2026-11-21");
    let (short, _) = full.split_once("&mesuresPas").expect("a parameter");
    assert_eq!(get(&sim, short).await.status, 400, "mesuresPas is required");
    assert_eq!(
        get(&sim, &format!("{full}&usage_point_id={POINT}")).await.status,
        500,
        "an unknown parameter"
    );
}

#[tokio::test]
async fn quirks_are_written_by_the_api_of_2026() {
    let sim = start(|options| options.quirks = true).await;
    let answer = of_2026(&sim, Resource::ConsumptionCurve, POINT, "2026-11-10", "2026-11-17").await;
    let quantities = answer.json["grandeur"].as_array().expect("quantities");
    let kinds: Vec<_> = quantities.iter().map(|each| (&each["grandeurPhysique"], &each["unite"])).collect();
    assert_eq!(
        kinds,
        [(&json!("PRI"), &json!("VAr")), (&json!("PA"), &json!("kW")), (&json!("PA"), &json!("kW"))]
    );
    assert!(answer.body.contains("\"v\":null"));
}

#[tokio::test]
async fn questions_are_refused_as_enedis_does() {
    let sim = start(|_| {}).await;
    for client in [1, 2, 4, 5] {
        sim.grant(point(client));
    }
    let clc = Resource::ConsumptionCurve;
    let cases = [
        (clc, POINT, "2026-11-10", "2026-11-18", 400, "ADAM-ERR0126"),
        (clc, POINT, "2024-11-07", "2024-11-10", 400, "ADAM-ERR0125"),
        (Resource::DailyConsumption, POINT, "2023-11-07", "2023-11-10", 400, "ADAM-ERR0125"),
        (Resource::ProductionCurve, POINT, "2026-11-10", "2026-11-11", 400, "ADAM-ERR0069"),
        (clc, point(5), "2026-11-10", "2026-11-11", 400, "ADAM-ERR0069"),
        (clc, point(2), "2026-11-10", "2026-11-11", 404, "no_data_found"),
        (clc, point(4), "2026-11-17", "2026-11-19", 404, "no_data_found"),
        (clc, "99999999999999", "2026-11-10", "2026-11-11", 403, "ADAM-DC-0007"),
        (clc, point(6), "2026-11-10", "2026-11-11", 403, "ADAM-DC-0008"),
        (clc, POINT, "2026-11-11", "2026-11-11", 400, "invalid_request"),
        (clc, POINT, "2026-11-22", "2026-11-24", 400, "invalid_request"),
        (clc, POINT, "2026-11-1", "2026-11-11", 400, "invalid_request"),
        (clc, "123", "2026-11-10", "2026-11-11", 400, "invalid_request"),
    ];
    for (resource, point, start, end, status, error) in cases {
        let old = v5(&sim, resource, point, start, end).await;
        assert_eq!((old.status, old.error()), (status, Some(error)), "{point} {start}");
        let new = of_2026(&sim, resource, point, start, end).await;
        assert_eq!(new.status, status, "{point} {start}");
        assert_eq!(new.error(), Some(error).filter(|error| error.starts_with("ADAM-ERR")), "{}", new.body);
    }
    let old = v5(&sim, Resource::DailyConsumption, point(2), "2026-11-10", "2026-11-11").await;
    assert_eq!(old.status, 200, "only the curve is missing");
    sim.set_today(Some(day("2020-01-01")));
    let old = v5(&sim, clc, point(1), "2019-08-26", "2019-08-28").await;
    assert_eq!(old.error(), Some("ADAM-ERR0123"));
    assert_eq!(v5(&sim, clc, point(1), "2019-08-27", "2019-08-28").await.status, 200);
}

#[tokio::test]
async fn the_gateway_wants_a_live_token_and_json() {
    let sim = start(|_| {}).await;
    let path = v5_path(Resource::ConsumptionCurve, POINT, "2026-11-20", "2026-11-21");
    let live = token(&sim).await;
    assert_eq!(get_as(&sim, &live, &path).await.status, 200);
    let unknown = get_as(&sim, "x", &path).await;
    assert_eq!((unknown.status, unknown.text("code")), (401, Some("900901")));
    assert_eq!(send(plain().get(sim.base_url() + &path).bearer_auth(&live)).await.status, 500);
    assert_eq!(get_as(&sim, &live, "/metering_data_clc/v5/other").await.status, 404);
    assert_eq!(sim.seen().unknown_paths, ["/metering_data_clc/v5/other"]);
}

#[tokio::test]
async fn each_api_has_its_quota_and_refusals_are_counted() {
    let sim = start(|options| options.quota = Quota { per_hour: Some(2), ..Quota::UNLIMITED }).await;
    for expected in [200, 200, 429] {
        assert_eq!(asked(&sim, Endpoint::DataV5).await, expected);
    }
    assert_eq!(asked(&sim, Endpoint::Data2026).await, 200);
    let counts = sim.counts();
    assert_eq!((counts.requests(Endpoint::DataV5), counts.throttled(Endpoint::DataV5)), (3, 1));
    assert_eq!((counts.data_requests(), counts.throttled_in_all()), (4, 1));
    assert_eq!(counts.of_meter(POINT, Resource::MaxPower), 4);
    sim.reset_counts();
    assert_eq!(sim.counts(), Counts::default());
}

#[tokio::test]
async fn a_consent_of_version_2_names_an_authorisation_and_the_service_its_meter() {
    let sim = start(|options| options.meters = Meters::Client(7)).await;
    sim.set_services_empty_first(1);
    let meter = "63695879465986";
    let back = consent_v2(&sim, &format!("Autoriser {meter}")).await;
    let id = sim.authorisation(meter);
    let expected = [("autorisation_id".to_owned(), id.to_string()), ("state".to_owned(), "abc".to_owned())];
    assert_eq!(back, expected);
    assert_ne!(id, sim.authorisation(POINT));
    let ask = json!({"autorisationId": id, "comptage": false, "etatCode": ["ACTIF", "DEMANDE"], "serviceType": "ACCES"});
    assert_eq!(services(&sim, &ask).await.json, json!({"nbTotalServices": 0, "serviceSouscrit": []}));
    let url = services_url(&sim);
    let listed = plain().post(url.trim_end_matches('/')).bearer_auth(token(&sim).await).json(&ask);
    let listed = send(listed).await;
    assert_eq!(listed.json["nbTotalServices"], 3);
    let row = &listed.json["serviceSouscrit"][0];
    assert_eq!((&row["pointId"], &row["etatCode"]), (&json!(meter), &json!("ACTIF")));
    assert_eq!(row["autorisation"]["autorisationId"], id);
    assert_eq!((&row["dateDebut"], &row["dateFin"]), (&json!("2026-11-23"), &json!("2029-11-22")));
    assert_eq!(v5(&sim, Resource::MaxPower, meter, "2026-11-20", "2026-11-21").await.status, 200);
    sim.revoke(meter);
    assert_eq!(services(&sim, &ask).await.json["nbTotalServices"], 0);
    let over = json!({"autorisationId": id, "comptage": true, "etatCode": ["TERMINE"]});
    assert_eq!(services(&sim, &over).await.json, json!({"nbTotalServices": 3}));
    let refused = v5(&sim, Resource::MaxPower, meter, "2026-11-20", "2026-11-21").await;
    assert_eq!((refused.status, refused.error()), (403, Some("ADAM-DC-0008")));
    assert_eq!(sim.seen().authorize_requests[0].endpoint, Endpoint::AuthorizeV2);
}

#[tokio::test]
async fn questions_about_authorisations_are_checked() {
    let sim = start(|_| {}).await;
    let id = sim.authorisation(POINT);
    let cases = [
        (json!({"autorisationId": id}), 400),
        (json!({"autorisationId": id, "comptage": "false"}), 400),
        (json!({"comptage": false}), 400),
        (json!({"autorisationId": id, "comptage": false, "etatCode": "ACTIF"}), 400),
        (json!({"autorisationId": id, "comptage": false, "foo": 1}), 400),
        (json!([id]), 400),
        (json!({"autorisationId": FOREIGN_AUTHORISATION, "comptage": false}), 403),
        (json!({"autorisationId": 1, "comptage": false}), 404),
        (json!({"autorisationId": id, "comptage": false}), 200),
    ];
    for (body, status) in cases {
        let answer = services(&sim, &body).await;
        assert_eq!(answer.status, status, "{body}");
        assert!(status == 200 || answer.json["message"].is_string());
    }
    assert_eq!(send(plain().post(services_url(&sim)).json(&json!({}))).await.status, 401);
}

#[tokio::test]
async fn directions_are_refused_and_activated_apart() {
    let sim = start(|_| {}).await;
    let asked = async |resource, api| {
        let path = if api == Endpoint::DataV5 { v5_path } else { path_2026 };
        get(&sim, &path(resource, POINT, "2026-11-20", "2026-11-21")).await.status
    };
    let (consumption, production) = (Resource::DailyConsumption, Resource::DailyProduction);
    sim.refuse(POINT, consumption, &[Endpoint::DataV5]);
    assert_eq!(asked(consumption, Endpoint::DataV5).await, 403);
    assert_eq!(asked(consumption, Endpoint::Data2026).await, 200);
    sim.refuse(POINT, consumption, &[]);
    assert_eq!(asked(consumption, Endpoint::DataV5).await, 200);
    assert_eq!(asked(production, Endpoint::DataV5).await, 400, "it has none");
    sim.activate(POINT, production, day("2026-11-20"));
    assert_eq!(asked(production, Endpoint::DataV5).await, 200);
    let before = v5(&sim, production, POINT, "2026-11-19", "2026-11-21").await;
    assert_eq!(before.outcome(), (400, Some("ADAM-ERR0123")));
}
