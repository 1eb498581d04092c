//! The operator's console: who gets in, what it finds and ends, and that its figures are those of the metrics.

use std::collections::BTreeMap;

use reqwest::header::{CONTENT_TYPE, HOST, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use testkit::enedis::{Options, Resource};
use testkit::person::Choice;

use crate::browser::Browser;
use crate::fixture::{CLIENT, Plan, Store, World, each, eventually};
use crate::journey::on_both_stores;
use crate::metering::{METER, link, yesterday};

const PASSWORD: &str = "correct horse: battery";

on_both_stores!(sessions_are_found_and_ended, tokens_are_found_and_ended);

fn ask(world: &World, method: Method, path: &str) -> RequestBuilder {
    testkit::http::client().request(method, format!("{}{path}", world.server.admin_url()))
}

/// A question of the console's page, and its answer.
async fn question(world: &World, path: &str, body: Value) -> (u16, Value) {
    let answer = ask(world, Method::POST, path).json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_asked_for_and_may_be_guessed_a_few_times() {
    let world = Plan::new(Store::Sqlite).await.env("ADMIN_PASSWORD", PASSWORD).start().await;
    for (method, path) in [
        (Method::GET, "/"),
        (Method::GET, "/metrics"),
        (Method::GET, "/console.js"),
        (Method::GET, "/nothing"),
    ] {
        let answer = ask(&world, method.clone(), path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert!(answer.headers()[WWW_AUTHENTICATE].to_str().unwrap().starts_with("Basic "), "{path}");
        let known = ask(&world, method, path).basic_auth("admin", Some(PASSWORD)).send().await.unwrap();
        assert_eq!(known.status().as_u16(), if path == "/nothing" { 404 } else { 200 }, "{path}");
    }
    let page = ask(&world, Method::GET, "/").basic_auth("admin", Some(PASSWORD)).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    let guess = |password: String| {
        let request = ask(&world, Method::GET, "/metrics").basic_auth("admin", Some(password));
        async move { request.send().await.unwrap() }
    };
    for n in 0..10 {
        assert_eq!(guess(format!("guess number {n}")).await.status(), StatusCode::UNAUTHORIZED);
    }
    for password in ["another guess", PASSWORD] {
        let limited = guess(password.to_owned()).await;
        assert_eq!(limited.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(limited.headers().contains_key(RETRY_AFTER));
    }
    let logs = world.server.logs().join("\n");
    assert!(
        logs.contains("a wrong password") && !logs.contains("guess number") && !logs.contains(PASSWORD),
        "{logs}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_machines_are_never_let_in_without_one() {
    let plan = Plan::new(Store::Sqlite).await.env("ADMIN_LISTEN", "0.0.0.0:0");
    let ended = plan.builder().run(["serve"]).unwrap();
    assert_eq!(ended.status.code(), Some(64));
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(told.contains("ADMIN_PASSWORD"), "{told}");
    let short = plan.env("ADMIN_PASSWORD", "short");
    assert_eq!(short.builder().run(["check-config"]).unwrap().status.code(), Some(64));
    let long = short.env("ADMIN_PASSWORD", PASSWORD);
    assert!(long.builder().run(["check-config"]).unwrap().status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_other_sites_change_nothing() {
    let world = World::start(Store::Sqlite).await;
    let device = world.device().await;
    let body = json!({ "code": device.code().user_code }).to_string();
    let post = || ask(&world, Method::POST, "/api/session/end").body(body.clone());
    let json = "application/json";
    let forged = [
        post().header(CONTENT_TYPE, "text/plain"),
        post().header(CONTENT_TYPE, json).header(ORIGIN, "https://elsewhere.example"),
        post().header(CONTENT_TYPE, json).header("sec-fetch-site", "cross-site"),
        // A name of theirs that leads here.
        post().header(CONTENT_TYPE, json).header(HOST, "elsewhere.example"),
        ask(&world, Method::GET, "/").header(HOST, "elsewhere.example"),
    ];
    for request in forged {
        assert_eq!(request.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    }
    assert_eq!(device.poll_once().await.unwrap().error(), Some("authorization_pending"));
    let own = post().header(CONTENT_TYPE, json).header(ORIGIN, world.server.admin_url());
    assert_eq!(own.send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(world.final_answer(&device).await.error(), Some("access_denied"));
}

async fn sessions_are_found_and_ended(store: Store) {
    let world = World::start(store).await;
    let device = world.device().await;
    let code = json!({ "code": device.code().user_code });
    let (status, session) = question(&world, "/api/session", code.clone()).await;
    assert_eq!((status, &session["state"], &session["client_id"]), (200, &json!("waiting"), &json!(CLIENT)));
    assert!(!session.to_string().contains(&device.code().device_code), "{session}");
    assert_eq!(question(&world, "/api/session/end", code.clone()).await.0, 200);
    assert_eq!(world.final_answer(&device).await.error(), Some("access_denied"));
    let (_, session) = question(&world, "/api/session", code.clone()).await;
    assert_eq!(
        (&session["state"], &session["audit"][0]["how"]),
        (&json!("refused"), &json!("by the operator"))
    );
    assert_eq!(question(&world, "/api/session/end", code).await.0, 409, "it has ended");
    assert_eq!(question(&world, "/api/session", json!({ "code": "BCDF-GHJK" })).await.0, 404);

    let linked = world.device().await;
    world.link(&linked).await;
    let code = json!({ "code": linked.code().user_code });
    assert_eq!(question(&world, "/api/session", code.clone()).await.1["state"], "delivered");
    assert_eq!(question(&world, "/api/session/end", code).await.0, 409);
}

async fn tokens_are_found_and_ended(store: Store) {
    let world = Plan::metering(store, Options::default(), 2).await.start().await;
    let linked = link(&world).await;
    let search = async |sought: &str| {
        let (status, page) =
            question(&world, "/api/tokens", json!({ "sought": sought, "after": null })).await;
        assert_eq!(status, 200, "{page}");
        page["grants"].as_array().unwrap().clone()
    };
    let all = search("").await;
    let grant = &all[0];
    assert_eq!((all.len(), &grant["meters"]), (1, &json!([format!("…{}", &METER[10..])])));
    assert!(!grant.to_string().contains(&linked.tokens.refresh), "{grant}");
    for sought in [METER, CLIENT, grant["id"].as_str().unwrap()] {
        assert_eq!(search(sought).await, all, "{sought}");
    }
    assert!(search("nobody's").await.is_empty());
    let key = json!({ "key": grant["key"] });
    assert_eq!(question(&world, "/api/tokens/revoke", key.clone()).await.0, 200);
    assert_eq!(question(&world, "/api/tokens/revoke", key).await.0, 404);
    assert!(search("").await.is_empty());
    let day = yesterday(&world.enedis);
    assert_eq!(linked.read(&world, Resource::DailyConsumption, day, 1).await.status, 401);
    assert_eq!(linked.refresh().await.outcome(), (400, Some("invalid_grant")));
    let (_, record) = question(&world, "/api/audit", json!({})).await;
    assert_eq!(
        (&record["lines"][0]["act"], &record["lines"][0]["how"]),
        (&json!("revocation"), &json!("by the operator"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_instance_is_not_ready_and_goes_on_answering() {
    let world = World::start(Store::Sqlite).await;
    let ready =
        async || testkit::http::client().get(world.url("/health/ready")).send().await.unwrap().status();
    for (drain, status) in [(true, 503), (false, 200)] {
        assert_eq!(question(&world, "/api/drain", json!({ "drain": drain })).await.0, 200);
        assert_eq!(ready().await, status);
        assert_eq!(world.metric("dfp_draining").await, Some(f64::from(u8::from(drain))));
        let device = world.device().await;
        assert_eq!(world.link(&device).await.status, 200);
    }
}

/// One browser for all, as starting one takes longer than any scenario.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_gets_on_with_a_real_browser() {
    let mut browser = Browser::with("console.mjs");
    let mut scene = async |world: &World, scenario: &str, mut settings: Value| {
        settings["scenario"] = scenario.into();
        settings["admin"] = world.server.admin_url().into();
        settings["password"] = PASSWORD.into();
        browser.script.tell(&settings).await;
        let said = browser.script.next().await;
        assert_eq!(said["done"], scenario);
        said
    };

    let world = Plan::new(Store::Sqlite).await.env("ADMIN_PASSWORD", PASSWORD).start().await;
    let (linked, device) = (world.device().await, world.device().await);
    world.link(&linked).await;
    let said = scene(&world, "session", json!({ "code": device.code().user_code })).await;
    assert_eq!(world.final_answer(&device).await.error(), Some("access_denied"));
    let text = ask(&world, Method::GET, "/metrics").basic_auth("admin", Some(PASSWORD)).send().await.unwrap();
    let text = text.text().await.unwrap();
    let figure = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap().to_owned()
    };
    let event = |event: &str| figure(&format!("dfp_session_events_total{{event=\"{event}\"}}"));
    let told: BTreeMap<String, String> = serde_json::from_value(said["funnel"].clone()).unwrap();
    let counted = [
        ("codes issued", figure("dfp_device_codes_total{result=\"issued\"}")),
        ("pages opened", event("opened")),
        ("confirmed", event("confirmed")),
        ("consented", event("approved")),
        ("delivered", event("redeemed")),
    ];
    assert_eq!(told, counted.map(|(stage, count)| (stage.to_owned(), count)).into());
    assert_eq!((told["codes issued"].as_str(), told["delivered"].as_str()), ("2", "1"));

    let plan = Plan::metering(Store::Sqlite, Options::default(), 2).await;
    let world = plan.env("ADMIN_PASSWORD", PASSWORD).start().await;
    let linked = link(&world).await;
    scene(&world, "token", json!({ "meter": METER })).await;
    assert_eq!(linked.refresh().await.outcome(), (400, Some("invalid_grant")));
    eventually("it is drained", || async {
        let ready = testkit::http::client().get(world.url("/health/ready")).send().await.unwrap();
        (ready.status() == 503).then_some(())
    })
    .await;
    let lines = under_load(&mut scene).await;
    for plot in ["polls", "requests", "store"] {
        assert!(lines[plot].as_u64() > Some(0), "{lines}");
    }
    browser.script.finish().await;
}

/// What the plots show while boxes ask for codes, poll, consent and read their data.
async fn under_load(scene: &mut impl AsyncFnMut(&World, &str, Value) -> Value) -> Value {
    let plan = Plan::metering(Store::Sqlite, Options::default(), 1).await.env("ADMIN_PASSWORD", PASSWORD);
    let world = plan.env("DEVICE_CODES_PER_MINUTE_PER_IP", "0").start().await;
    let day = yesterday(&world.enedis);
    let linked = link(&world).await;
    let boxes = async {
        loop {
            each(0..12, async |number| {
                let device = world.device().await;
                for _ in 0..4 {
                    device.poll_once().await.unwrap();
                }
                if number % 4 == 0 {
                    // Beyond a dozen from one address it is refused, which is to be seen as well.
                    world.consent(&device, Choice::Allow).await;
                    device.poll_once().await.unwrap();
                    linked.read(&world, Resource::DailyConsumption, day, 1).await;
                }
            })
            .await;
        }
    };
    let said = tokio::select! {
        said = scene(&world, "watch", json!({})) => said,
        () = boxes => unreachable!("they never end"),
    };
    said["lines"].clone()
}
