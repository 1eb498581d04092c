//! Enedis in trouble, over the wire: what the person sees, what the device learns, and what Enedis is asked again.

use serde_json::{Value, json};
use testkit::device::Tokens;
use testkit::enedis::{Endpoint, Fault};
use testkit::http::Answer;
use testkit::person::{Choice, Person};

use crate::fixture::{CLIENT, Plan, Store, World, each, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_that_enedis_may_have_taken_is_never_presented_again() {
    let cases = [
        (Fault::CutAfter, 504, ""),
        (Fault::CutBefore, 504, ""),
        (Fault::Hang, 504, ""),
        (Fault::server_error(), 502, ""),
        (Fault::NotJson, 502, ""),
        (Fault::Html, 502, ""),
        (Fault::oauth_error("unauthorized_client"), 502, "unauthorized_client"),
    ];
    each(cases, async |(fault, status, word)| {
        let plan = Plan::new(Store::Sqlite).await.env("ENEDIS_TIMEOUT_SECS", "1");
        let world = plan.env("ENEDIS_DEADLINE_SECS", "6").start().await;
        let shown = format!("{fault:?}");
        world.enedis.script(Endpoint::Token, [fault]);
        let device = world.device().await;
        let person = Person::new();
        let page = person.link(device.code().link(), Choice::Allow).await.unwrap();
        assert_eq!(page.status, status, "{shown}: {}", page.html);
        assert!(page.html.contains(word), "{shown}: {}", page.html);
        let reload = person.open(page.url.as_str()).await.unwrap();
        assert!((502..=504).contains(&reload.status), "{shown}: {}", reload.status);
        assert_eq!(device.poll_once().await.unwrap().error(), Some("authorization_pending"), "{shown}");
        let presented = world.enedis.seen().presentations_per_code();
        assert!(presented.iter().all(|(_, times)| *times == 1), "{shown}: {presented:?}");
        // The same person may try again while the code lives.
        let page = person.link(device.code().link(), Choice::Allow).await.unwrap();
        assert_eq!(page.status, 200, "{shown}: {}", page.html);
        assert_eq!(world.final_answer(&device).await.status, 200, "{shown}");
        assert_eq!(world.enedis.seen().codes_presented_after_success(), Vec::<String>::new());
    })
    .await;
}

/// What Enedis returns to the browser instead of a code, or answers to a code: each has a page that says what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_error_has_a_page_of_its_own() {
    let world = Plan::new(Store::Sqlite).await.env("CONTACT", "https://example.org/help").start().await;
    let setup = ("Ce service est mal réglé", Some("https://example.org/help"));
    let unfinished = ("La demande chez Enedis n’est pas terminée", Some("Réessayer"));
    let failed = ("Panne chez Enedis", Some("Réessayer"));
    for (error, description, status, (heading, action)) in [
        ("demande_non_aboutie", "", 502, unfinished),
        ("invalid_request", "demande_non_aboutie", 502, unfinished),
        ("invalid_request", "missing_parameter", 502, setup),
        ("invalid_request", "maximum_duration_exceeded", 502, setup),
        ("unauthorized_client", "", 502, setup),
        ("invalid_client", "", 502, setup),
        ("invalid_scope", "", 502, setup),
        ("redirect_uri_mismatch", "", 502, setup),
        ("server_error", "lincs-internal-server-error", 502, failed),
        ("temporarily_unavailable", "", 503, ("Enedis est très sollicité", Some("Réessayer"))),
        ("503", "", 503, ("Enedis est très sollicité", Some("Réessayer"))),
        ("something_new", "", 502, ("Enedis n’a pas accepté la demande", Some("Réessayer"))),
        ("access_denied", "", 200, ("Vous avez refusé l’accès", None)),
    ] {
        let (device, person) = (world.device().await, Person::new());
        let confirm = person.open(device.code().link()).await.unwrap();
        let enedis = person.click(&confirm, "Oui").await.unwrap();
        let state = enedis.chain.iter().find_map(|hop| hop.query("state")).unwrap();
        let query = format!("error={error}&error_description={description}&state={state}");
        let page = person.open(&world.url(&format!("/auth/redirect?{query}"))).await.unwrap();
        assert_eq!(page.status, status, "{error}");
        assert!(page.html.contains(&format!("<h1>{heading}</h1>")), "{error}: {}", page.html);
        assert!(action.is_none_or(|action| page.html.contains(action)), "{error}: {}", page.html);
        let wanted = if status == 200 { "access_denied" } else { "authorization_pending" };
        assert_eq!(device.poll_once().await.unwrap().error(), Some(wanted), "{error}");
    }
    for (error, heading) in [
        ("invalid_client", setup.0),
        ("invalid_scope", setup.0),
        ("invalid_grant", "Votre accord est arrivé trop tard"),
    ] {
        world.enedis.script(Endpoint::Token, [Fault::oauth_error(error)]);
        let page = world.consent(&world.device().await, Choice::Allow).await;
        assert!(page.html.contains(&format!("<h1>{heading}</h1>")), "{error}: {}", page.html);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enedis_that_is_not_there_is_no_final_answer() {
    let gone = testkit::net::free_port().expect("a free port");
    let plan = Plan::new(Store::Sqlite)
        .await
        .env("TOKEN_ENDPOINT", &format!("http://127.0.0.1:{gone}/token"))
        .env("ENEDIS_TIMEOUT_SECS", "1")
        .env("ENEDIS_DEADLINE_SECS", "3");
    let world = plan.start().await;
    let device = world.device().await;
    let page = world.consent(&device, Choice::Allow).await;
    assert_eq!(page.status, 503);
    assert!(page.header("retry-after").is_some());
    let refresh = device.refresh("some-token", &[]).await.unwrap();
    assert_eq!(refresh.outcome(), (503, Some("temporarily_unavailable")));
    assert!(refresh.retry_after().is_some());
    // Once the breaker is open, the answer comes at once and Enedis is left alone.
    eventually("the breaker opens", || async {
        assert_eq!(device.refresh("some-token", &[]).await.unwrap().status, 503);
        world.metric("dfp_enedis_breaker_open{api=\"token\"}").await.filter(|open| *open > 0.0)
    })
    .await;
    // Whoever wonders whose fault it is can see.
    let status: Value =
        testkit::http::client().get(world.url("/status.json")).send().await.unwrap().json().await.unwrap();
    assert_eq!(
        (&status["status"], &status["enedis"][0]["state"]),
        (&json!("ok"), &json!("silent")),
        "{status}"
    );
    let page = Person::new().open(&world.url("/status")).await.unwrap();
    assert!(page.html.contains("fonctionne") && page.html.contains("ne répond pas, depuis"), "{}", page.html);
    let attempts =
        world.metric("dfp_enedis_call_duration_seconds_count{api=\"token\",result=\"down\"}").await;
    assert_eq!(device.refresh("some-token", &[]).await.unwrap().status, 503);
    assert_eq!(
        world.metric("dfp_enedis_call_duration_seconds_count{api=\"token\",result=\"down\"}").await,
        attempts
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_comes_back_as_enedis_sent_it() {
    let world = World::start(Store::Sqlite).await;
    let device = world.device().await;
    let html = [("content-type", "text/html; charset=utf-8")];
    let fault = Fault::answer(500, &html, "<b>trouble</b>");
    world.enedis.script(Endpoint::Token, [fault, Fault::too_many(1)]);
    let answer = device.refresh("x", &[]).await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (500, "<b>trouble</b>"));
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    // A throttled refresh is tried again by us.
    let answer = device.refresh("x", &[]).await.unwrap();
    assert_eq!(answer.outcome(), (400, Some("invalid_grant")));
    assert_eq!(world.enedis.seen().token_requests_of("refresh_token").count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_refreshes_leave_room_for_consents() {
    let plan = Plan::new(Store::Sqlite).await.env("ENEDIS_CALLS_PER_HOUR", "40");
    let world = plan.env("ENEDIS_CALLS_PER_SECOND", "1000").start().await;
    let honest = world.device().await;
    let tokens = Tokens::read(&world.link(&honest).await.json).unwrap();
    let before = world.enedis.counts().requests(Endpoint::Token);
    let client = testkit::http::client();
    for n in 0..40_u32 {
        // The same address, and others.
        let form = [("grant_type", "refresh_token"), ("client_id", CLIENT), ("refresh_token", "garbage")];
        let request = client.post(world.url("/device/proxy")).form(&form);
        let request = request.header("x-forwarded-for", format!("192.0.2.{}", n / 4));
        let answer = Answer::read(request.send().await.unwrap()).await.unwrap();
        assert!(matches!(answer.status, 400 | 429), "{}", answer.body);
        let wrong = honest.refresh("garbage", &[]).await.unwrap();
        assert!(matches!(wrong.status, 400 | 429), "{}", wrong.body);
    }
    let refused = world.enedis.counts().requests(Endpoint::Token) - before;
    assert!((1..=10).contains(&refused), "{refused} of 40 calls");
    // A token that was given here is known, whatever else comes from its address; and people consent.
    let refreshed = honest.refresh(&tokens.refresh, &[]).await.unwrap();
    assert_eq!(refreshed.status, 200, "{}", refreshed.body);
    let device = world.device().await;
    assert_eq!(world.consent(&device, Choice::Allow).await.status, 200);
}
