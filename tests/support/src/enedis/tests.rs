//! The simulator against the promises of its module doc, over real sockets, with a person at the consent page.

mod data;

use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use super::*;
use crate::http::Answer;
use crate::person::{Person, Visit};

/// The callback answers nothing: tests read where the browser is sent.
const CALLBACK: &str = "http://127.0.0.1:9/auth/redirect";
const POINT: &str = "22516914714270";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// The answer to a code or a refresh token that does not count (any more).
const INVALID_GRANT: (u16, Option<&str>) = (400, Some("invalid_grant"));
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

fn day(text: &str) -> Day {
    Day::parse(text).expect("a day")
}

/// A simulator on 23 November 2026 without a quota.
async fn start(change: impl FnOnce(&mut Options)) -> Simulator {
    let mut options = Options {
        callback: Some(CALLBACK.into()),
        quota: Quota::UNLIMITED,
        today: Some(day("2026-11-23")),
        ..Options::default()
    };
    change(&mut options);
    Simulator::start(options).await
}

fn plain() -> Client {
    let client = crate::http::builder().redirect(reqwest::redirect::Policy::none());
    client.pool_max_idle_per_host(0).build().expect("a client")
}

async fn send(request: RequestBuilder) -> Answer {
    Answer::read(request.send().await.expect("an answer")).await.expect("a body")
}

fn authorize(sim: &Simulator, state: &str, more: &str) -> String {
    let query = format!("response_type=code&client_id=simulated-client&state={state}&duration=P3Y{more}");
    format!("{}?{query}", sim.authorize_url())
}

/// Presses the button that says `label` on the consent page at `url`; the parameters of the redirection, or the status.
async fn press(sim: &Simulator, url: &str, label: &str) -> Vec<(String, String)> {
    let page = Person::new().open(url).await.expect("the consent page");
    assert_eq!(page.status, 200, "{}", page.document.text);
    let says = |form: &&crate::html::Form| form.buttons.iter().any(|button| button.label.starts_with(label));
    let form = page.document.forms.iter().find(says).expect("the button");
    let answer = send(plain().post(sim.base_url() + &form.action).form(&form.fields)).await;
    let Some(location) = answer.header("location") else {
        return vec![("status".into(), answer.status.to_string())];
    };
    assert!(location.starts_with(&format!("{CALLBACK}?")));
    url::Url::parse(location).expect("a URL").query_pairs().into_owned().collect()
}

async fn consent(sim: &Simulator, state: &str, more: &str, label: &str) -> Vec<(String, String)> {
    press(sim, &authorize(sim, state, more), label).await
}

async fn code(sim: &Simulator, state: &str) -> String {
    value(&consent(sim, state, "", "Autoriser").await, "code").expect("a code").to_owned()
}

fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn posted(sim: &Simulator, fields: &[(&str, &str)]) -> RequestBuilder {
    let credentials = [("client_id", "simulated-client"), ("client_secret", "simulated-secret")];
    plain().post(sim.token_url()).form(&credentials.iter().chain(fields).collect::<Vec<_>>())
}

fn exchanged(sim: &Simulator, code: &str) -> RequestBuilder {
    posted(sim, &[("grant_type", "authorization_code"), ("code", code)])
}

async fn open(url: &str) -> Visit {
    Person::new().open_once(url).await.expect("a page")
}

/// A grant, as form fields.
fn grant<'a>(kind: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("grant_type", kind)], more].concat()
}

#[tokio::test]
async fn codes_and_refresh_tokens_work_once() {
    let sim = start(|_| {}).await;
    let back = consent(&sim, "abc", "", "Autoriser").await;
    assert_eq!((value(&back, "state"), value(&back, "usage_point_id")), (Some("abc"), Some(POINT)));
    let code = value(&back, "code").expect("a code");
    let first = send(exchanged(&sim, code)).await;
    assert_eq!((first.status, first.text("token_type")), (200, Some("Bearer")), "{}", first.body);
    assert_eq!(first.json["expires_in"], 12_600);
    assert!(first.text("refresh_token_issued_at").is_some_and(|ms| ms.parse::<u64>().is_ok()));
    assert_eq!(send(exchanged(&sim, code)).await.outcome(), INVALID_GRANT);
    let refresh = grant("refresh_token", &[("refresh_token", first.text("refresh_token").expect("a token"))]);
    let second = send(posted(&sim, &refresh)).await;
    assert_eq!((second.status, second.text("refresh_token") == first.text("refresh_token")), (200, false));
    assert_eq!(send(posted(&sim, &refresh)).await.outcome(), INVALID_GRANT);

    let seen = sim.seen();
    assert_eq!((seen.authorize_requests.len(), seen.consents_allowed), (1, 1));
    assert_eq!(seen.presentations_per_code(), [(code.to_owned(), 2)]);
    assert_eq!(seen.codes_presented_after_success(), [code.to_owned()]);
    let statuses: Vec<_> = seen.token_requests.iter().map(|request| request.status).collect();
    assert_eq!(statuses, [200, 400, 200, 400].map(Some));
    assert!(seen.secrets().contains(&first.text("access_token").expect("a token").to_owned()));
}

#[tokio::test]
async fn a_code_is_bound_to_its_consent() {
    let pkce = format!("&code_challenge={CHALLENGE}&code_challenge_method=S256");
    let stranger = "x".repeat(43);
    // What the consent page is told, what comes with the code, and whether a token comes back.
    let cases = [
        (pkce.as_str(), vec![], false),
        (&pkce, vec![("code_verifier", stranger.as_str())], false),
        (&pkce, vec![("code_verifier", VERIFIER)], true),
        ("", vec![("code_verifier", VERIFIER)], false),
        ("", vec![("redirect_uri", CALLBACK)], true),
        ("", vec![("redirect_uri", "http://127.0.0.1:9/")], false),
    ];
    let sim = start(|_| {}).await;
    for (more, fields, works) in cases {
        let back = consent(&sim, "abc", more, "Autoriser").await;
        let code = ("code", value(&back, "code").expect("a code"));
        let fields = [vec![code], fields].concat();
        let answer = send(posted(&sim, &grant("authorization_code", &fields))).await;
        assert_eq!(answer.status == 200, works, "{more} {fields:?}: {}", answer.body);
    }
}

#[tokio::test]
async fn the_sandbox_clients_are_picked_by_the_state() {
    let sim = start(|options| options.meters = Meters::ByState).await;
    let three = consent(&sim, "abc7", "", "Autoriser").await;
    assert_eq!(value(&three, "usage_point_id"), usage_points(7));
    assert_eq!(value(&consent(&sim, "abc9", "", "Autoriser").await, "error"), Some("access_denied"));
    let revoked = send(exchanged(&sim, &code(&sim, "abc8").await)).await;
    let token = ("refresh_token", revoked.text("refresh_token").expect("one"));
    assert_eq!(send(posted(&sim, &grant("refresh_token", &[token]))).await.outcome(), INVALID_GRANT);
}

#[tokio::test]
async fn credentials_are_checked_and_not_taken_from_the_url() {
    let sim = start(|_| {}).await;
    let form = [("grant_type", "client_credentials")];
    let basic = async |secret| {
        send(plain().post(sim.token_url()).basic_auth("simulated-client", Some(secret)).form(&form)).await
    };
    let right = basic("simulated-secret").await;
    assert_eq!((&right.json["expires_in"], right.text("scope")), (&json!("12600"), Some("")));
    assert_eq!(basic("no").await.outcome(), (401, Some("invalid_client")));
    let url = format!("{}?client_id=simulated-client&client_secret=simulated-secret", sim.token_url());
    assert_eq!(send(plain().post(url).form(&form)).await.status, 401);
    let twice = posted(&sim, &[form[0], ("grant_type", "refresh_token")]);
    assert_eq!(send(twice).await.error(), Some("invalid_request"));
    assert_eq!(send(posted(&sim, &grant("password", &[]))).await.error(), Some("unsupported_grant_type"));
}

#[tokio::test]
async fn the_consent_page_refuses_what_enedis_refuses() {
    let sim = start(|_| {}).await;
    let strict = start(|options| options.require_pkce = true).await;
    let plain = authorize(&sim, "abc", "");
    let v2 = |query| format!("{}?client_id=simulated-client&state=abc{query}", sim.authorize_v2_url());
    let cases = [
        (authorize(&sim, "abc", "&redirect_uri=http%3A%2F%2Fx"), 404, ""),
        (authorize(&sim, &"a".repeat(101), ""), 400, ""),
        (authorize(&sim, &"a".repeat(100), ""), 200, ""),
        (authorize(&sim, "abc", "&state=def"), 400, ""),
        (plain.replace("simulated-client", "stranger"), 400, ""),
        (plain.replace("P3Y", "P4Y"), 302, "maximum_duration_exceeded"),
        (plain.replace("P3Y", "3Y"), 302, "invalid_duration_format"),
        (plain.replace("P3Y", "P36M"), 200, ""),
        (plain.replace("P3Y", "P1095D"), 200, ""),
        (plain.replace("P3Y", "P156W"), 200, ""),
        (authorize(&strict, "abc", ""), 302, "error=invalid_request"),
        (v2("&response_type=code"), 200, ""),
        (v2(""), 302, "error=invalid_request"),
    ];
    for (url, status, error) in cases {
        let page = open(&url).await;
        assert_eq!(page.status, status, "{url}");
        assert!(page.location().is_none_or(|location| location.as_str().contains(error)), "{url}");
    }
}

#[tokio::test]
async fn faults_come_in_order_and_then_end() {
    let sim = start(|_| {}).await;
    let code = code(&sim, "abc").await;
    // Status, and the code of the gateway; no status: no answer.
    let faults = [
        (Fault::too_many(7), Some(429), None),
        (Fault::quota_for(Duration::from_secs(2)), Some(429), Some("900804")),
        (Fault::unavailable(), Some(503), None),
        (Fault::server_error(), Some(500), None),
        (Fault::Html, Some(200), None),
        (Fault::CutBefore, None, None),
        (Fault::Pass, Some(200), None),
    ];
    sim.script(Endpoint::Token, faults.iter().map(|(fault, ..)| fault.clone()));
    for (fault, status, error) in &faults {
        let Ok(response) = exchanged(&sim, &code).send().await else {
            assert_eq!(*status, None, "{fault:?}");
            continue;
        };
        let answer = Answer::read(response).await.expect("a body");
        assert_eq!(Some(answer.status), *status, "{fault:?}");
        assert!(error.is_none() || answer.text("code") == *error, "{fault:?}: {}", answer.body);
        assert_eq!(answer.text("access_token").is_some(), *fault == Fault::Pass, "{fault:?}");
    }
    assert!(sim.seen().codes_presented_after_success().is_empty(), "no fault had an effect");
}

#[test]
fn the_gateway_names_the_time_of_the_next_access_twice() {
    for (until, text) in [
        (1_784_264_399.2, "2026-Jul-17 05:00:00+0000 UTC"),
        (1_709_164_800.0, "2024-Feb-29 00:00:00+0000 UTC"),
    ] {
        let Fault::Answer(response) = Fault::quota_until(Duration::from_secs_f64(until)) else {
            panic!("a quota is an answer")
        };
        assert_eq!((response.status, response.body.matches(text).count()), (429, 2), "{}", response.body);
    }
}

#[tokio::test]
async fn some_faults_come_after_the_effect() {
    let sim = start(|_| {}).await;
    for fault in [Fault::CutAfter, Fault::NotJson, Fault::SlowAnswer(Duration::from_millis(1))] {
        let code = code(&sim, "abc").await;
        sim.script(Endpoint::Token, [fault.clone()]);
        let _ = exchanged(&sim, &code).send().await;
        assert_eq!(send(exchanged(&sim, &code)).await.outcome(), INVALID_GRANT, "{fault:?}");
    }
}
