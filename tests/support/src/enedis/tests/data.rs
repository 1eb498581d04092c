//! The gateway, the data services and the consent of version 2, over real sockets.

use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};

use super::super::*;
use crate::http::Answer;
use crate::person::Person;

const POINT: &str = "22516914714270";
const CALLBACK: &str = "http://127.0.0.1:9/auth/redirect";

fn day(text: &str) -> Day {
    Day::parse(text).expect("a day")
}

/// A simulator on 23 November 2026 without a quota, where client 0 has consented.
async fn start(change: impl FnOnce(&mut Options)) -> Simulator {
    let mut options = Options {
        callback: Some(CALLBACK.into()),
        quota: Quota::UNLIMITED,
        today: Some(day("2026-11-23")),
        ..Options::default()
    };
    change(&mut options);
    let sim = Simulator::start(options).await;
    sim.grant(POINT);
    sim
}

fn client() -> Client {
    Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().expect("a client")
}

async fn token(sim: &Simulator) -> String {
    let request = client()
        .post(sim.token_url())
        .basic_auth("simulated-client", Some("simulated-secret"))
        .form(&[("grant_type", "client_credentials")]);
    let answer = Answer::read(request.send().await.expect("an answer")).await.expect("a body");
    answer.text("access_token").expect("a token").to_owned()
}

async fn get_as(sim: &Simulator, token: &str, path: &str) -> Answer {
    let request = client()
        .get(format!("{}{path}", sim.base_url()))
        .bearer_auth(token)
        .header("Content-Type", "application/json");
    Answer::read(request.send().await.expect("an answer")).await.expect("a body")
}

async fn get(sim: &Simulator, path: &str) -> Answer {
    get_as(sim, &token(sim).await, path).await
}

async fn v5(sim: &Simulator, resource: Resource, point: &str, start: &str, end: &str) -> Answer {
    get(sim, &format!("{}?usage_point_id={point}&start={start}&end={end}", resource.v5_path())).await
}

async fn of_2026(sim: &Simulator, resource: Resource, point: &str, start: &str, end: &str) -> Answer {
    let more = if resource == Resource::MaxPower { "&mesuresPas=P1D&grandeurPhysique=PMA" } else { "" };
    let query = format!("?pointId={point}&dateDebut={start}&dateFin={end}{more}");
    get(sim, &format!("{}{query}", resource.path_2026())).await
}

async fn services(sim: &Simulator, slash: bool, body: &Value) -> Answer {
    let url = sim.services_url();
    let url = if slash { url.as_str() } else { url.trim_end_matches('/') };
    let request = client().post(url).bearer_auth(token(sim).await).json(body);
    Answer::read(request.send().await.expect("an answer")).await.expect("a body")
}

/// Presses the button that says `label` on the page of version 2 and returns the parameters of the redirection.
async fn consent_v2(sim: &Simulator, label: &str) -> Vec<(String, String)> {
    let url = format!("{}?response_type=code&client_id=simulated-client&state=abc", sim.authorize_v2_url());
    let page = Person::new().open(&url).await.expect("the page");
    let says = |form: &&crate::html::Form| form.buttons.iter().any(|button| button.label.starts_with(label));
    let form = page.document.forms.iter().find(says).expect("the button");
    let url = format!("{}{}", sim.base_url(), form.action);
    let answer = client().post(url).form(&form.fields).send().await.expect("the redirection");
    let Some(location) = answer.headers().get("location") else {
        return vec![("status".into(), answer.status().as_u16().to_string())];
    };
    let location = url::Url::parse(location.to_str().expect("text")).expect("a URL");
    location.query_pairs().into_owned().collect()
}

fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

#[tokio::test]
async fn a_curve_has_a_point_per_half_hour_whose_date_is_its_end() {
    let sim = start(|_| {}).await;
    let answer = v5(&sim, Resource::ConsumptionCurve, POINT, "2026-11-20", "2026-11-22").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let reading = &answer.json["meter_reading"];
    assert_eq!(reading["usage_point_id"], POINT);
    assert_eq!((&reading["start"], &reading["end"]), (&json!("2026-11-20"), &json!("2026-11-22")));
    assert_eq!(
        reading["reading_type"],
        json!({"measurement_kind": "power", "unit": "W", "aggregate": "average"})
    );
    let points = reading["interval_reading"].as_array().expect("points");
    assert_eq!(points.len(), 96);
    let first = half_hour(POINT, Direction::Consumption, day("2026-11-20"), 0).to_string();
    let first = json!({"value": first, "date": "2026-11-20 00:30:00", "interval_length": "PT30M", "measure_type": "B"});
    assert_eq!(points[0], first);
    assert_eq!(points[95]["date"], "2026-11-22 00:00:00");
}

#[tokio::test]
async fn values_of_a_day_have_the_shape_of_v5() {
    let sim = start(|_| {}).await;
    let answer = v5(&sim, Resource::DailyConsumption, POINT, "2026-11-01", "2026-11-03").await;
    let energy = daily(POINT, Direction::Consumption, day("2026-11-02")).to_string();
    assert_eq!(
        answer.json["meter_reading"]["interval_reading"][1],
        json!({"value": energy, "date": "2026-11-02"})
    );
    assert_eq!(answer.json["meter_reading"]["reading_type"]["measuring_period"], "P1D");
    let answer = v5(&sim, Resource::MaxPower, POINT, "2026-11-01", "2026-11-02").await;
    let point = &answer.json["meter_reading"]["interval_reading"][0];
    assert_eq!(point["value"], max_power(POINT, day("2026-11-01")).0.to_string());
    assert!(point["date"].as_str().is_some_and(|date| date.len() == 19 && date.starts_with("2026-11-01 ")));
}

/// (date, value as a number) of both answers, nulls left out, in the order of dates.
fn pairs(v5: &Answer, other: &Answer, wanted: &str) -> [Vec<(String, f64)>; 2] {
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
    let read = |points: &Value, date: &str, name: &str, factor: f64| -> Vec<(String, f64)> {
        let points = points.as_array().expect("points").iter();
        points
            .filter_map(|each| {
                Some((each[date].as_str()?.to_owned(), (number(&each[name])? * factor).round()))
            })
            .collect()
    };
    let old = read(&v5.json["meter_reading"]["interval_reading"], "date", "value", 1.0);
    let quantities = other.json["grandeur"].as_array().expect("quantities").iter();
    let mut new = quantities
        .filter(|each| each["grandeurPhysique"] == wanted)
        .flat_map(|each| {
            let kilo = each["unite"].as_str().is_some_and(|unit| unit.starts_with('k'));
            read(&each["points"], "d", "v", if kilo { 1_000.0 } else { 1.0 })
        })
        .collect::<Vec<_>>();
    new.sort_by(|one, other| one.0.cmp(&other.0));
    [old, new]
}

#[tokio::test]
async fn both_apis_give_the_same_values_whatever_the_quirks() {
    let all = Quirks {
        null_values: true,
        unsorted: true,
        several_grandeurs: true,
        split_grandeur: true,
        kilo: true,
    };
    for quirks in [Quirks::default(), all] {
        let sim = start(|options| options.quirks = quirks).await;
        let self_consumption = usage_points(6).expect("a meter");
        sim.grant(self_consumption);
        for (resource, physical) in Resource::ALL.into_iter().zip(["PA", "PA", "EA", "EA", "PMA"]) {
            let old = v5(&sim, resource, self_consumption, "2026-11-10", "2026-11-17").await;
            let new = of_2026(&sim, resource, self_consumption, "2026-11-10", "2026-11-17").await;
            assert_eq!((old.status, new.status), (200, 200), "{resource:?} {}", new.body);
            let [old, translated] = pairs(&old, &new, physical);
            assert!(!old.is_empty());
            assert_eq!(old, translated, "{resource:?}");
            let curve = resource.is_curve();
            assert!(quirks != all || !curve || new.body.contains("\"v\":null"), "{resource:?}");
        }
    }
}

#[tokio::test]
async fn the_api_of_2026_has_its_own_shape() {
    let sim = start(|_| {}).await;
    let answer = of_2026(&sim, Resource::DailyConsumption, POINT, "2026-11-20", "2026-11-22").await;
    let energy = |text| daily(POINT, Direction::Consumption, day(text)).to_string();
    let expected = json!({"idPrm": POINT, "etapeMetier": "BRUT", "typeValeur": "GLOBALE", "modeCalcul": "DIFF.INDEX",
        "pas": "P1D", "periode": {"dateDebut": "2026-11-20", "dateFin": "2026-11-22"}, "contexte": [],
        "grandeur": [{"grandeurMetier": "CONS", "grandeurPhysique": "EA", "unite": "Wh", "calendrier": [],
            "points": [{"v": energy("2026-11-20"), "d": "2026-11-20"}, {"v": energy("2026-11-21"), "d": "2026-11-21"}]}]});
    assert_eq!(answer.json, expected);
    let path =
        format!("{}?pointId={POINT}&dateDebut=2026-11-20&dateFin=2026-11-21", Resource::MaxPower.path_2026());
    assert_eq!(get(&sim, &path).await.status, 400, "mesuresPas is required");
    let extra = format!("{path}&mesuresPas=P1D&grandeurPhysique=PMA&usage_point_id={POINT}");
    assert_eq!(get(&sim, &extra).await.status, 500, "an unknown parameter");
}

#[tokio::test]
async fn questions_are_refused_as_enedis_does() {
    let sim = start(|_| {}).await;
    for client in [1, 2, 4, 5] {
        sim.grant(usage_points(client).expect("a meter"));
    }
    let clc = Resource::ConsumptionCurve;
    let point = |client| usage_points(client).expect("a meter");
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
async fn data_comes_out_day_by_day() {
    let sim = start(|_| {}).await;
    sim.set_published_until(Some(day("2026-11-22")));
    let clc = Resource::ConsumptionCurve;
    let partial = v5(&sim, clc, POINT, "2026-11-21", "2026-11-23").await;
    assert_eq!(partial.json["meter_reading"]["interval_reading"].as_array().map(Vec::len), Some(48));
    assert_eq!(v5(&sim, clc, POINT, "2026-11-22", "2026-11-23").await.status, 404);
    sim.set_published_until(None);
    assert_eq!(v5(&sim, clc, POINT, "2026-11-22", "2026-11-23").await.status, 200);
}

#[tokio::test]
async fn the_gateway_wants_a_live_token_a_subscription_and_json() {
    let sim = start(|options| options.unsubscribed = vec![Api::Data2026]).await;
    let path = format!(
        "{}?usage_point_id={POINT}&start=2026-11-20&end=2026-11-21",
        Resource::ConsumptionCurve.v5_path()
    );
    let live = token(&sim).await;
    assert_eq!(get_as(&sim, &live, &path).await.status, 200);
    let unknown = get_as(&sim, "x", &path).await;
    assert_eq!((unknown.status, unknown.text("code")), (401, Some("900901")));
    let bare =
        client().get(format!("{}{path}", sim.base_url())).bearer_auth(&live).send().await.expect("an answer");
    assert_eq!(bare.status(), 500);
    let other = of_2026(&sim, Resource::ConsumptionCurve, POINT, "2026-11-20", "2026-11-21").await;
    assert_eq!((other.status, other.text("code")), (403, Some("900908")));
    sim.set_subscribed(Api::Data2026, true);
    let other = of_2026(&sim, Resource::ConsumptionCurve, POINT, "2026-11-20", "2026-11-21").await;
    assert_eq!(other.status, 200);
    sim.expire_application_tokens();
    assert_eq!(get_as(&sim, &live, &path).await.status, 401);
    assert_eq!(get_as(&sim, &token(&sim).await, "/metering_data_clc/v5/other").await.status, 404);
    assert_eq!(sim.seen().unknown_paths, ["/metering_data_clc/v5/other"]);
    assert_eq!(sim.counts().application_tokens, 4);
}

#[tokio::test]
async fn application_tokens_expire() {
    let sim = start(|options| options.token_lifetime = Duration::ZERO).await;
    assert_eq!(v5(&sim, Resource::MaxPower, POINT, "2026-11-20", "2026-11-21").await.status, 401);
}

#[tokio::test]
async fn each_api_has_its_quota_and_refusals_are_counted() {
    let quota = Quota { per_second: None, per_hour: Some(2), ..Quota::ENEDIS };
    let sim = start(|options| options.quota = quota).await;
    let clc = Resource::ConsumptionCurve;
    for expected in [200, 200, 429] {
        assert_eq!(v5(&sim, clc, POINT, "2026-11-20", "2026-11-21").await.status, expected);
    }
    let refused = v5(&sim, clc, POINT, "2026-11-20", "2026-11-21").await;
    assert_eq!((refused.status, refused.text("code")), (429, Some("900804")));
    assert!(
        refused.text("nextAccessTime").is_some_and(|time| time.ends_with(":00:00+0000 UTC")),
        "{}",
        refused.body
    );
    assert_eq!(of_2026(&sim, clc, POINT, "2026-11-20", "2026-11-21").await.status, 200);
    let counts = sim.counts();
    assert_eq!(
        (counts.requests(Api::DataV5), counts.served(Api::DataV5), counts.throttled(Api::DataV5)),
        (4, 2, 2)
    );
    assert_eq!((counts.data_requests(), counts.throttled_in_all(), counts.of_meter(POINT, clc)), (5, 2, 5));
    assert_eq!(
        sim.seen().api_requests_of(Api::DataV5).filter(|request| request.status == Some(429)).count(),
        2
    );
    sim.reset_counts();
    assert_eq!(sim.counts(), Counts::default());
}

#[tokio::test]
async fn the_clock_can_be_put_ahead() {
    let quota = Quota { per_second: None, per_hour: Some(1), ..Quota::ENEDIS };
    let sim = start(|options| (options.quota, options.today) = (quota, None)).await;
    let (began, hour) = (sim.now(), Duration::from_secs(3_600));
    let (yesterday, today) = (sim.today().plus(-1).to_string(), sim.today().to_string());
    let token = token(&sim).await;
    let clc = Resource::ConsumptionCurve.v5_path();
    let question = format!("{clc}?usage_point_id={POINT}&start={yesterday}&end={today}");
    let ask = async || get_as(&sim, &token, &question).await;
    assert_eq!(ask().await.status, 200);
    // A new window of the quota, whose end is told by the new clock.
    sim.set_clock_ahead(2 * hour);
    assert_eq!(ask().await.status, 200);
    let refused = ask().await;
    let ends = |ahead| {
        let hours = (began.as_secs() + ahead) / 3_600 + 1;
        next_access_time(Duration::from_secs(hours * 3_600))
    };
    let told = refused.text("nextAccessTime").expect("a time").to_owned();
    assert!([ends(7_200), ends(7_230)].contains(&told), "{told}");
    assert_eq!((sim.counts().busiest_second() > 0, sim.counts().throttled_in_all()), (true, 1));
    // Tokens age by it, and days pass.
    sim.set_clock_ahead(24 * hour);
    assert_eq!(ask().await.status, 401);
    assert_eq!(sim.today().to_string(), Day::in_france(sim.now()).to_string());
    assert!(sim.now() >= began + 24 * hour);
}

#[tokio::test]
async fn outages_stand_until_they_are_cleared() {
    let sim = start(|_| {}).await;
    sim.set_outage(Endpoint::DataV5, Some(Fault::server_error()));
    sim.script(Endpoint::DataV5, [Fault::unavailable()]);
    for expected in [503, 500, 500] {
        assert_eq!(v5(&sim, Resource::MaxPower, POINT, "2026-11-20", "2026-11-21").await.status, expected);
    }
    assert_eq!(of_2026(&sim, Resource::MaxPower, POINT, "2026-11-20", "2026-11-21").await.status, 200);
    sim.set_outage_everywhere(Some(&Fault::unavailable()));
    assert_eq!(client().post(sim.token_url()).send().await.expect("an answer").status(), 503);
    sim.set_outage_everywhere(None);
    assert_eq!(v5(&sim, Resource::MaxPower, POINT, "2026-11-20", "2026-11-21").await.status, 200);
    assert_eq!(sim.counts().requests(Api::DataV5), 4, "refused ones are counted as well");
}

#[tokio::test]
async fn a_consent_of_version_2_names_an_authorisation_and_the_service_its_meter() {
    let sim = start(|options| (options.meters, options.services_empty_first) = (Meters::Client(7), 1)).await;
    let back = consent_v2(&sim, "Autoriser 63695879465986").await;
    let id = sim.authorisation("63695879465986");
    assert_eq!(
        back,
        [("autorisation_id".to_owned(), id.to_string()), ("state".to_owned(), "abc".to_owned())]
    );
    let ask = json!({"autorisationId": id, "comptage": false, "etatCode": ["ACTIF", "DEMANDE"], "serviceType": "ACCES"});
    let empty = services(&sim, true, &ask).await;
    assert_eq!(empty.json, json!({"nbTotalServices": 0, "serviceSouscrit": []}));
    let listed = services(&sim, false, &ask).await;
    assert_eq!(listed.json["nbTotalServices"], 3);
    let row = &listed.json["serviceSouscrit"][0];
    assert_eq!((&row["pointId"], &row["etatCode"]), (&json!("63695879465986"), &json!("ACTIF")));
    assert_eq!(row["autorisation"]["autorisationId"], id);
    assert_eq!((&row["dateDebut"], &row["dateFin"]), (&json!("2026-11-23"), &json!("2029-11-22")));
    assert_eq!(v5(&sim, Resource::MaxPower, "63695879465986", "2026-11-20", "2026-11-21").await.status, 200);
    sim.revoke("63695879465986");
    assert_eq!(services(&sim, true, &ask).await.json["nbTotalServices"], 0);
    let over = json!({"autorisationId": id, "comptage": true, "etatCode": ["TERMINE"]});
    assert_eq!(services(&sim, true, &over).await.json, json!({"nbTotalServices": 3}));
    let refused = v5(&sim, Resource::MaxPower, "63695879465986", "2026-11-20", "2026-11-21").await;
    assert_eq!((refused.status, refused.error()), (403, Some("ADAM-DC-0008")));
    assert_eq!(sim.seen().authorize_requests[0].version, 2);
}

#[tokio::test]
async fn a_consent_of_version_2_can_fail() {
    let sim = start(|options| options.reshare_fails = true).await;
    let refused = consent_v2(&sim, "Refuser").await;
    assert_eq!((value(&refused, "error"), value(&refused, "state")), (Some("access_denied"), Some("abc")));
    assert_eq!(value(&consent_v2(&sim, "Abandonner").await, "error"), Some("demande_non_aboutie"));
    assert_eq!(value(&consent_v2(&sim, "Autoriser").await, "status"), Some("409"), "shared already");
    sim.revoke(POINT);
    assert!(value(&consent_v2(&sim, "Autoriser").await, "autorisation_id").is_some());
    let short = format!("{}?client_id=simulated-client&state=abc", sim.authorize_v2_url());
    let page = Person::new().open_once(&short).await.expect("a page");
    assert!(page.location().is_some_and(|url| url.as_str().contains("error=invalid_request")));
    sim.script(Endpoint::AuthorizeV2, [Fault::unavailable()]);
    assert_eq!(Person::new().open_once(&short).await.expect("a page").status, 503);
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
        let answer = services(&sim, true, &body).await;
        assert_eq!(answer.status, status, "{body}");
        assert!(status == 200 || answer.json["message"].is_string());
    }
    let unknown = client().post(sim.services_url()).json(&json!({})).send().await.expect("an answer");
    assert_eq!(unknown.status(), 401);
}

#[tokio::test]
async fn a_revoking_holder_is_listed_but_gives_no_data() {
    let sim = start(|options| options.meters = Meters::Client(8)).await;
    let back = consent_v2(&sim, "Autoriser").await;
    let id: i64 = value(&back, "autorisation_id").and_then(|id| id.parse().ok()).expect("an id");
    let listed = services(&sim, true, &json!({"autorisationId": id, "comptage": false})).await;
    let point = listed.json["serviceSouscrit"][0]["pointId"].as_str().expect("a meter").to_owned();
    assert_eq!(v5(&sim, Resource::MaxPower, &point, "2026-11-20", "2026-11-21").await.status, 403);
}
