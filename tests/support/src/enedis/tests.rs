//! The simulator against the promises of its module doc, over real sockets, with a person at the consent page.

mod data;

use std::time::Duration;

use reqwest::Client;
use serde_json::Value;

use super::*;
use crate::http::Answer;
use crate::person::{Choice, Person, Visit};

/// The callback answers nothing: tests read where the browser is sent.
const CALLBACK: &str = "http://127.0.0.1:9/auth/redirect";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

async fn start(change: impl FnOnce(&mut Options)) -> Simulator {
    let mut options = Options { callback: Some(CALLBACK.into()), ..Options::default() };
    change(&mut options);
    Simulator::start(options).await
}

fn authorize(sim: &Simulator, state: &str, more: &str) -> String {
    format!(
        "{}?response_type=code&client_id=simulated-client&state={state}&duration=P3Y{more}",
        sim.authorize_url()
    )
}

/// Opens the consent page and presses a button; returns the parameters of the redirection.
async fn consent(sim: &Simulator, state: &str, more: &str, choice: Choice) -> Vec<(String, String)> {
    let person = Person::new();
    let page = person.open(&authorize(sim, state, more)).await.expect("the consent page");
    assert_eq!(page.status, 200, "{}", page.document.text);
    assert_eq!(page.document.forms.len(), 2);
    let form = usize::from(choice == Choice::Refuse);
    let form = &page.document.forms[form];
    let url = format!("{}{}", sim.base_url(), form.action);
    let answer = plain().post(url).form(&form.fields).send().await.expect("the redirection");
    assert_eq!(answer.status(), 302);
    let location = answer.headers()["location"].to_str().expect("text");
    assert!(location.starts_with(&format!("{CALLBACK}?")));
    url::Url::parse(location).expect("a URL").query_pairs().into_owned().collect()
}

async fn code(sim: &Simulator, state: &str) -> String {
    value(&consent(sim, state, "", Choice::Allow).await, "code").expect("a code").to_owned()
}

fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn plain() -> Client {
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .build()
        .expect("a client")
}

async fn post(sim: &Simulator, fields: &[(&str, &str)]) -> Result<Answer, reqwest::Error> {
    let credentials = [("client_id", "simulated-client"), ("client_secret", "simulated-secret")];
    let form: Vec<_> = credentials.iter().chain(fields).collect();
    Answer::read(plain().post(sim.token_url()).form(&form).send().await?).await
}

async fn exchange(sim: &Simulator, code: &str) -> Result<Answer, reqwest::Error> {
    post(sim, &[("grant_type", "authorization_code"), ("code", code)]).await
}

async fn open(url: &str) -> Visit {
    Person::new().open_once(url).await.expect("a page")
}

#[tokio::test]
async fn a_consent_leads_to_tokens_once() {
    let sim = start(|_| {}).await;
    let back = consent(&sim, "abc", "", Choice::Allow).await;
    assert_eq!(value(&back, "state"), Some("abc"));
    assert_eq!(value(&back, "usage_point_id"), Some("22516914714270"));
    let code = value(&back, "code").expect("a code");
    let first = exchange(&sim, code).await.expect("an answer");
    assert_eq!(first.status, 200, "{}", first.body);
    assert_eq!(first.text("token_type"), Some("Bearer"));
    assert_eq!(first.json["expires_in"], 12_600);
    assert!(first.text("refresh_token_issued_at").is_some_and(|ms| ms.parse::<u64>().is_ok()));
    assert_eq!(first.json.get("usage_points_id"), None);
    let second = exchange(&sim, code).await.expect("an answer");
    assert_eq!((second.status, second.error()), (400, Some("invalid_grant")));

    let seen = sim.seen();
    assert_eq!((seen.authorize_requests.len(), seen.consents_allowed, seen.consents_refused), (1, 1, 0));
    assert_eq!(seen.authorize_requests[0].param("duration"), Some("P3Y"));
    assert_eq!(seen.presentations_per_code(), [(code.to_owned(), 2)]);
    assert_eq!(seen.codes_presented_after_success(), [code.to_owned()]);
    assert_eq!(seen.token_requests[0].outcome, Outcome::Granted);
    assert_eq!(seen.token_requests[1].outcome, Outcome::Refused("invalid_grant".into()));
    assert!(seen.secrets().contains(&first.text("access_token").expect("a token").to_owned()));
    assert!(seen.min_token_spacing().is_some());
    assert_eq!(seen.max_token_requests_within(Duration::from_secs(60)), 2);
}

#[tokio::test]
async fn a_refusal_goes_back_as_access_denied() {
    let sim = start(|_| {}).await;
    let back = consent(&sim, "abc", "", Choice::Refuse).await;
    assert_eq!(value(&back, "error"), Some("access_denied"));
    assert_eq!((value(&back, "state"), value(&back, "code")), (Some("abc"), None));
    assert_eq!(sim.seen().consents_refused, 1);
}

#[tokio::test]
async fn codes_expire() {
    let sim = start(|options| options.code_lifetime = Duration::ZERO).await;
    let code = code(&sim, "abc").await;
    let answer = exchange(&sim, &code).await.expect("an answer");
    assert_eq!(answer.error(), Some("invalid_grant"));
    assert!(sim.seen().codes_presented_after_success().is_empty());
}

#[tokio::test]
async fn the_challenge_is_verified() {
    let sim = start(|options| options.require_pkce = true).await;
    let challenge = format!("&code_challenge={CHALLENGE}&code_challenge_method=S256");
    let back = consent(&sim, "abc", &challenge, Choice::Allow).await;
    let code = value(&back, "code").expect("a code");
    let grant = [("grant_type", "authorization_code"), ("code", code)];
    assert_eq!(post(&sim, &grant).await.expect("an answer").error(), Some("invalid_grant"));
    let wrong = "x".repeat(43);
    let with = |verifier| [grant[0], grant[1], ("code_verifier", verifier)];
    assert_eq!(post(&sim, &with(&wrong)).await.expect("an answer").error(), Some("invalid_grant"));
    assert_eq!(post(&sim, &with(VERIFIER)).await.expect("an answer").status, 200);
    let page = open(&authorize(&sim, "abc", "")).await;
    assert!(page.location().is_some_and(|url| url.as_str().contains("error=invalid_request")));
}

#[tokio::test]
async fn refresh_tokens_rotate_and_work_once() {
    let sim = start(|options| options.usage_point_field = Some("usage_points_id".into())).await;
    let first = exchange(&sim, &code(&sim, "abc").await).await.expect("an answer");
    let token = first.text("refresh_token").expect("a token");
    let refresh = [("grant_type", "refresh_token"), ("refresh_token", token)];
    let second = post(&sim, &refresh).await.expect("an answer");
    assert_eq!(second.status, 200);
    assert_eq!(second.text("usage_points_id"), Some("22516914714270"));
    assert_ne!(second.text("refresh_token"), Some(token));
    assert_eq!(post(&sim, &refresh).await.expect("an answer").error(), Some("invalid_grant"));
    assert_eq!(
        sim.seen().token_requests_of("refresh_token").filter(|request| request.after_success).count(),
        1
    );
}

#[tokio::test]
async fn the_sandbox_clients_are_picked_by_the_state() {
    let sim = start(|options| options.meters = Meters::ByState).await;
    let three = consent(&sim, "abc7", "", Choice::Allow).await;
    assert_eq!(value(&three, "usage_point_id"), usage_points(7));
    let refused = consent(&sim, "abc9", "", Choice::Allow).await;
    assert_eq!(value(&refused, "error"), Some("access_denied"));
    let revoked = exchange(&sim, &code(&sim, "abc8").await).await.expect("an answer");
    assert_eq!(revoked.status, 200);
    let refresh =
        [("grant_type", "refresh_token"), ("refresh_token", revoked.text("refresh_token").expect("one"))];
    assert_eq!(post(&sim, &refresh).await.expect("an answer").error(), Some("invalid_grant"));
}

#[tokio::test]
async fn the_application_gets_a_token_of_its_own() {
    let sim = start(|_| {}).await;
    let request = plain()
        .post(sim.token_url())
        .basic_auth("simulated-client", Some("simulated-secret"))
        .form(&[("grant_type", "client_credentials")]);
    let answer = Answer::read(request.send().await.expect("an answer")).await.expect("a body");
    assert_eq!(answer.json["expires_in"], Value::from("12600"));
    assert_eq!(answer.text("scope"), Some(""));
}

#[tokio::test]
async fn credentials_are_checked_and_not_taken_from_the_url() {
    let sim = start(|_| {}).await;
    let grant = ("grant_type", "client_credentials");
    let url = format!("{}?client_id=simulated-client&client_secret=simulated-secret", sim.token_url());
    let in_url = plain().post(url).form(&[grant]).send().await.expect("an answer");
    assert_eq!(in_url.status(), 401);
    let wrong = plain().post(sim.token_url()).basic_auth("simulated-client", Some("no")).form(&[grant]);
    let wrong = Answer::read(wrong.send().await.expect("an answer")).await.expect("a body");
    assert_eq!((wrong.status, wrong.error()), (401, Some("invalid_client")));
    let both = post(&sim, &[grant, ("grant_type", "refresh_token")]).await.expect("an answer");
    assert_eq!(both.error(), Some("invalid_request"));
    let other = post(&sim, &[("grant_type", "password")]).await.expect("an answer");
    assert_eq!(other.error(), Some("unsupported_grant_type"));
}

#[tokio::test]
async fn the_consent_page_refuses_what_enedis_refuses() {
    let sim = start(|_| {}).await;
    assert_eq!(open(&authorize(&sim, "abc", "&redirect_uri=http%3A%2F%2Fx")).await.status, 404);
    assert_eq!(open(&authorize(&sim, &"a".repeat(101), "")).await.status, 400);
    assert_eq!(open(&authorize(&sim, &"a".repeat(100), "")).await.status, 200);
    assert_eq!(open(&authorize(&sim, "abc", "&state=def")).await.status, 400);
    let url = authorize(&sim, "abc", "").replace("simulated-client", "stranger");
    assert_eq!(open(&url).await.status, 400);
    for (duration, error) in [("P4Y", "maximum_duration_exceeded"), ("3Y", "invalid_duration_format")] {
        let page = open(&authorize(&sim, "abc", "").replace("P3Y", duration)).await;
        assert!(page.location().is_some_and(|url| url.as_str().contains(error)), "{duration}");
    }
    for duration in ["P36M", "P1095D", "P156W"] {
        assert_eq!(
            open(&authorize(&sim, "abc", "").replace("P3Y", duration)).await.status,
            200,
            "{duration}"
        );
    }
}

#[tokio::test]
async fn a_redirect_uri_sent_to_the_consent_page_must_be_repeated() {
    let sim = start(|options| options.allow_redirect_uri = true).await;
    let more = "&redirect_uri=http%3A%2F%2F127.0.0.1%3A9%2Fauth%2Fredirect";
    let back = consent(&sim, "abc", more, Choice::Allow).await;
    let code = value(&back, "code").expect("a code");
    assert_eq!(exchange(&sim, code).await.expect("an answer").error(), Some("invalid_grant"));
    let grant = [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", CALLBACK)];
    assert_eq!(post(&sim, &grant).await.expect("an answer").status, 200);
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
    let throttled = exchange(&sim, &code).await.expect("an answer");
    assert_eq!((throttled.status, throttled.retry_after()), (429, Some(Duration::from_secs(7))));
    let quota = exchange(&sim, &code).await.expect("an answer");
    assert_eq!((quota.status, quota.text("code")), (429, Some("900804")));
    assert!(quota.text("nextAccessTime").is_some_and(|time| time.ends_with("+0000 UTC")));
    assert_eq!(exchange(&sim, &code).await.expect("an answer").status, 503);
    assert_eq!(exchange(&sim, &code).await.expect("an answer").status, 500);
    assert_eq!(exchange(&sim, &code).await.expect("an answer").json, Value::Null);
    assert!(exchange(&sim, &code).await.is_err());
    assert_eq!(sim.faults_left(Endpoint::Token), 1);
    assert_eq!(exchange(&sim, &code).await.expect("an answer").status, 200, "no fault had an effect");
    assert!(sim.seen().codes_presented_after_success().is_empty());
    assert_eq!(sim.seen().presentations(&code), 7);
}

#[tokio::test]
async fn some_faults_come_after_the_effect() {
    let sim = start(|_| {}).await;
    for fault in [Fault::CutAfter, Fault::NotJson, Fault::SlowAnswer(Duration::from_millis(1))] {
        let code = code(&sim, "abc").await;
        sim.script(Endpoint::Token, [fault]);
        let _ = exchange(&sim, &code).await;
        assert_eq!(exchange(&sim, &code).await.expect("an answer").error(), Some("invalid_grant"));
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
        _ = async { tokio::join!(exchange(&sim, "a"), exchange(&sim, "b"), exchange(&sim, "c")) } => panic!("answered"),
        () = in_flight(&sim, 3) => {}
    }
    in_flight(&sim, 0).await;
    let seen = sim.seen();
    assert_eq!(seen.max_concurrent_token_requests, 3);
    assert!(seen.token_requests.iter().all(|request| request.outcome == Outcome::None));
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
