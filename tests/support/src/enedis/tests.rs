//! The simulator against the promises of its module doc, over real sockets, with a person at the consent page.

mod data;

use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use super::*;
use crate::http::Answer;
use crate::person::{Choice, Person, Visit};

/// The callback answers nothing: tests read where the browser is sent.
const CALLBACK: &str = "http://127.0.0.1:9/auth/redirect";
const POINT: &str = "22516914714270";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
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
    let client = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
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

/// What a token request comes to: its status, and its OAuth error or nothing.
async fn post(sim: &Simulator, fields: &[(&str, &str)]) -> (u16, String) {
    let answer = send(posted(sim, fields)).await;
    (answer.status, answer.error().unwrap_or_default().to_owned())
}

fn exchanged(sim: &Simulator, code: &str) -> RequestBuilder {
    posted(sim, &[("grant_type", "authorization_code"), ("code", code)])
}

fn invalid_grant() -> (u16, String) {
    (400, "invalid_grant".into())
}

async fn open(url: &str) -> Visit {
    Person::new().open_once(url).await.expect("a page")
}

#[tokio::test]
async fn a_consent_leads_to_tokens_once() {
    let sim = start(|_| {}).await;
    let back = consent(&sim, "abc", "", "Autoriser").await;
    assert_eq!((value(&back, "state"), value(&back, "usage_point_id")), (Some("abc"), Some(POINT)));
    let code = value(&back, "code").expect("a code");
    let first = send(exchanged(&sim, code)).await;
    assert_eq!(first.status, 200, "{}", first.body);
    assert_eq!((first.text("token_type"), &first.json["expires_in"]), (Some("Bearer"), &json!(12_600)));
    assert!(first.text("refresh_token_issued_at").is_some_and(|ms| ms.parse::<u64>().is_ok()));
    let second = send(exchanged(&sim, code)).await;
    assert_eq!((second.status, second.error()), (400, Some("invalid_grant")));

    let seen = sim.seen();
    assert_eq!((seen.authorize_requests.len(), seen.consents_allowed, seen.consents_refused), (1, 1, 0));
    assert_eq!(seen.authorize_requests[0].param("duration"), Some("P3Y"));
    assert_eq!(seen.presentations_per_code(), [(code.to_owned(), 2)]);
    assert_eq!(seen.codes_presented_after_success(), [code.to_owned()]);
    let statuses: Vec<_> = seen.token_requests.iter().map(|request| request.status).collect();
    assert_eq!(statuses, [Some(200), Some(400)]);
    assert!(seen.secrets().contains(&first.text("access_token").expect("a token").to_owned()));
    assert_eq!(seen.max_token_requests_within(Duration::from_secs(60)), 2);
}

#[tokio::test]
async fn a_refusal_goes_back_as_access_denied() {
    let sim = start(|_| {}).await;
    let back = consent(&sim, "abc", "", "Refuser").await;
    assert_eq!(value(&back, "error"), Some("access_denied"));
    assert_eq!((value(&back, "state"), value(&back, "code")), (Some("abc"), None));
    assert_eq!(sim.seen().consents_refused, 1);
}

#[tokio::test]
async fn codes_expire() {
    let sim = start(|options| options.code_lifetime = Duration::ZERO).await;
    let code = code(&sim, "abc").await;
    assert_eq!(send(exchanged(&sim, &code)).await.error(), Some("invalid_grant"));
    assert!(sim.seen().codes_presented_after_success().is_empty());
}

#[tokio::test]
async fn the_challenge_is_verified() {
    let sim = start(|options| options.require_pkce = true).await;
    let challenge = format!("&code_challenge={CHALLENGE}&code_challenge_method=S256");
    let back = consent(&sim, "abc", &challenge, "Autoriser").await;
    let grant = [("grant_type", "authorization_code"), ("code", value(&back, "code").expect("a code"))];
    assert_eq!(post(&sim, &grant).await, invalid_grant());
    for (verifier, status) in [("x".repeat(43), 400), (VERIFIER.into(), 200)] {
        let form = [grant[0], grant[1], ("code_verifier", verifier.as_str())];
        assert_eq!(post(&sim, &form).await.0, status);
    }
    let page = open(&authorize(&sim, "abc", "")).await;
    assert!(page.location().is_some_and(|url| url.as_str().contains("error=invalid_request")));
}

#[tokio::test]
async fn refresh_tokens_rotate_and_work_once() {
    let sim = start(|_| {}).await;
    let first = send(exchanged(&sim, &code(&sim, "abc").await)).await;
    let token = first.text("refresh_token").expect("a token");
    let refresh = [("grant_type", "refresh_token"), ("refresh_token", token)];
    let second = send(posted(&sim, &refresh)).await;
    assert_eq!(second.status, 200);
    assert_ne!(second.text("refresh_token"), Some(token));
    assert_eq!(post(&sim, &refresh).await, invalid_grant());
    let seen = sim.seen();
    assert_eq!(seen.token_requests_of("refresh_token").filter(|request| request.after_success).count(), 1);
}

#[tokio::test]
async fn the_sandbox_clients_are_picked_by_the_state() {
    let sim = start(|options| options.meters = Meters::ByState).await;
    let three = consent(&sim, "abc7", "", "Autoriser").await;
    assert_eq!(value(&three, "usage_point_id"), usage_points(7));
    let refused = consent(&sim, "abc9", "", "Autoriser").await;
    assert_eq!(value(&refused, "error"), Some("access_denied"));
    let revoked = send(exchanged(&sim, &code(&sim, "abc8").await)).await;
    let token = revoked.text("refresh_token").expect("one");
    assert_eq!(
        post(&sim, &[("grant_type", "refresh_token"), ("refresh_token", token)]).await,
        invalid_grant()
    );
}

#[tokio::test]
async fn credentials_are_checked_and_not_taken_from_the_url() {
    let sim = start(|_| {}).await;
    let grant = ("grant_type", "client_credentials");
    let basic = async |secret| {
        send(plain().post(sim.token_url()).basic_auth("simulated-client", Some(secret)).form(&[grant])).await
    };
    let right = basic("simulated-secret").await;
    assert_eq!((&right.json["expires_in"], right.text("scope")), (&json!("12600"), Some("")));
    let wrong = basic("no").await;
    assert_eq!((wrong.status, wrong.error()), (401, Some("invalid_client")));
    let url = format!("{}?client_id=simulated-client&client_secret=simulated-secret", sim.token_url());
    assert_eq!(send(plain().post(url).form(&[grant])).await.status, 401);
    assert_eq!(post(&sim, &[grant, ("grant_type", "refresh_token")]).await.1, "invalid_request");
    assert_eq!(post(&sim, &[("grant_type", "password")]).await.1, "unsupported_grant_type");
}

#[tokio::test]
async fn the_consent_page_refuses_what_enedis_refuses() {
    let sim = start(|_| {}).await;
    let cases = [
        (authorize(&sim, "abc", "&redirect_uri=http%3A%2F%2Fx"), 404, ""),
        (authorize(&sim, &"a".repeat(101), ""), 400, ""),
        (authorize(&sim, &"a".repeat(100), ""), 200, ""),
        (authorize(&sim, "abc", "&state=def"), 400, ""),
        (authorize(&sim, "abc", "").replace("simulated-client", "stranger"), 400, ""),
        (authorize(&sim, "abc", "").replace("P3Y", "P4Y"), 302, "maximum_duration_exceeded"),
        (authorize(&sim, "abc", "").replace("P3Y", "3Y"), 302, "invalid_duration_format"),
        (authorize(&sim, "abc", "").replace("P3Y", "P36M"), 200, ""),
        (authorize(&sim, "abc", "").replace("P3Y", "P1095D"), 200, ""),
        (authorize(&sim, "abc", "").replace("P3Y", "P156W"), 200, ""),
    ];
    for (url, status, error) in cases {
        let page = open(&url).await;
        assert_eq!(page.status, status, "{url}");
        assert!(page.location().is_none_or(|location| location.as_str().contains(error)), "{url}");
    }
}

#[tokio::test]
async fn a_redirect_uri_sent_to_the_consent_page_must_be_repeated() {
    let sim = start(|options| options.allow_redirect_uri = true).await;
    let more = "&redirect_uri=http%3A%2F%2F127.0.0.1%3A9%2Fauth%2Fredirect";
    let back = consent(&sim, "abc", more, "Autoriser").await;
    let grant = [("grant_type", "authorization_code"), ("code", value(&back, "code").expect("a code"))];
    assert_eq!(post(&sim, &grant).await, invalid_grant());
    assert_eq!(post(&sim, &[grant[0], grant[1], ("redirect_uri", CALLBACK)]).await.0, 200);
}

#[tokio::test]
async fn faults_come_in_order_and_then_end() {
    let sim = start(|_| {}).await;
    let code = code(&sim, "abc").await;
    let faults = [
        Fault::too_many(7),
        Fault::quota_for(Duration::from_secs(2)),
        Fault::unavailable(),
        Fault::server_error(),
        Fault::Html,
        Fault::CutBefore,
        Fault::Pass,
    ];
    sim.script(Endpoint::Token, faults);
    let throttled = send(exchanged(&sim, &code)).await;
    assert_eq!((throttled.status, throttled.retry_after()), (429, Some(Duration::from_secs(7))));
    let quota = send(exchanged(&sim, &code)).await;
    assert_eq!((quota.status, quota.text("code")), (429, Some("900804")));
    assert!(quota.text("nextAccessTime").is_some_and(|time| time.ends_with("+0000 UTC")));
    assert_eq!(send(exchanged(&sim, &code)).await.status, 503);
    assert_eq!(send(exchanged(&sim, &code)).await.status, 500);
    assert_eq!(send(exchanged(&sim, &code)).await.json, Value::Null);
    assert!(exchanged(&sim, &code).send().await.is_err());
    assert_eq!(sim.faults_left(Endpoint::Token), 1);
    assert_eq!(send(exchanged(&sim, &code)).await.status, 200, "no fault had an effect");
    assert!(sim.seen().codes_presented_after_success().is_empty());
    assert_eq!(sim.seen().presentations_per_code(), [(code, 7)]);
}

#[test]
fn the_gateway_names_the_time_of_the_next_access_twice() {
    for (until, text) in [
        (1_784_264_399.2, "2026-Jul-17 05:00:00+0000 UTC"),
        (1_709_164_800.0, "2024-Feb-29 00:00:00+0000 UTC"),
        (1_798_761_599.0, "2026-Dec-31 23:59:59+0000 UTC"),
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
        sim.script(Endpoint::Token, [fault]);
        let _ = exchanged(&sim, &code).send().await;
        assert_eq!(send(exchanged(&sim, &code)).await.error(), Some("invalid_grant"));
    }
    assert_eq!(sim.seen().codes_presented_after_success().len(), 3);
}

/// Waits until `count` token requests are being handled.
async fn in_flight(sim: &Simulator, count: usize) {
    let reached = async {
        while sim.token_requests_in_flight() != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reached).await.expect("as many requests");
}

#[tokio::test]
async fn hanging_requests_are_counted_and_end_when_the_client_leaves() {
    let sim = start(|_| {}).await;
    sim.script(Endpoint::Token, [Fault::Hang, Fault::Hang, Fault::Hang]);
    tokio::select! {
        _ = async { tokio::join!(exchanged(&sim, "a").send(), exchanged(&sim, "b").send(), exchanged(&sim, "c").send()) } => {
            panic!("answered")
        }
        () = in_flight(&sim, 3) => {}
    }
    in_flight(&sim, 0).await;
    let seen = sim.seen();
    assert_eq!(seen.max_concurrent_token_requests, 3);
    assert!(seen.token_requests.iter().all(|request| request.status.is_none()));
}

#[tokio::test]
async fn the_page_can_fail_too_and_needs_a_callback() {
    let sim = start(|options| options.callback = None).await;
    sim.script(Endpoint::Authorize, [Fault::unavailable(), Fault::CutBefore]);
    assert_eq!(open(&authorize(&sim, "abc", "")).await.status, 503);
    assert!(Person::new().open(&authorize(&sim, "abc", "")).await.is_err());
    let person = Person::new();
    let page = person.open(&authorize(&sim, "abc", "")).await.expect("the page");
    assert_eq!(person.answer_consent(&page, Choice::Allow).await.expect("a page").status, 500);
    sim.set_callback(CALLBACK);
    assert!(person.answer_consent(&page, Choice::Allow).await.is_err(), "nobody listens at the callback");
    assert_eq!(sim.seen().consents_allowed, 1);
}

#[tokio::test]
async fn a_dropped_simulator_closes_its_port() {
    let sim = start(|_| {}).await;
    let url = authorize(&sim, "abc", "");
    drop(sim);
    let closed = async {
        while Person::new().open(&url).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), closed).await.expect("the port closes");
}
