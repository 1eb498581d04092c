//! Enedis in trouble: what the person sees, what the device learns, and what Enedis is asked again.

use std::time::Duration;

use testkit::enedis::{Endpoint, Fault};
use testkit::person::{Choice, Person};

use crate::fixture::{Plan, Store, World, each, eventually};
use crate::journey::on_both_stores;

on_both_stores!(busy_then_well, html_is_an_error_page_and_another_try_works, a_hang_is_an_error_page_in_time);

/// A world whose patience with Enedis is short.
async fn impatient(store: Store) -> World {
    Plan::new(store)
        .await
        .env("ENEDIS_TIMEOUT_SECS", "1")
        .env("ENEDIS_DEADLINE_SECS", "6")
        .env("CODE_LIFETIME_SECS", "30")
        .start()
        .await
}

async fn busy_then_well(store: Store) {
    let world = World::start(store).await;
    world.enedis.script(Endpoint::Token, [Fault::unavailable(), Fault::too_many(1)]);
    let device = world.device().await;
    world.link(&device).await;
    let seen = world.enedis.seen();
    assert_eq!(
        seen.token_requests_of("authorization_code").count(),
        3,
        "two refused attempts and the good one"
    );
    assert_eq!(seen.codes_presented_after_success(), Vec::<String>::new());
}

async fn html_is_an_error_page_and_another_try_works(store: Store) {
    let world = impatient(store).await;
    world.enedis.script(Endpoint::Token, [Fault::NotJson]);
    let device = world.device().await;
    let person = Person::new();
    let page = person.link(device.code().link(), Choice::Allow).await.unwrap();
    assert_eq!(page.status, 502, "{}", page.html);
    // A reload does not present the code again.
    let again = person.open(page.url.as_str()).await.unwrap();
    assert_eq!(again.status, 502);
    assert_eq!(device.poll_once().await.unwrap().error(), Some("authorization_pending"));
    // The same person may try again while the code lives.
    let page = person.link(device.code().link(), Choice::Allow).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.html);
    assert_eq!(world.final_answer(&device).await.status, 200);
    assert_eq!(world.enedis.seen().codes_presented_after_success(), Vec::<String>::new());
}

async fn a_hang_is_an_error_page_in_time(store: Store) {
    let world = impatient(store).await;
    world.enedis.script(Endpoint::Token, [Fault::Hang]);
    let device = world.device().await;
    let page = world.consent(&device, Choice::Allow).await;
    assert_eq!(page.status, 504, "{}", page.html);
    assert_eq!(device.poll_once().await.unwrap().error(), Some("authorization_pending"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_learns_of_a_failed_consent_when_its_code_ends() {
    let world = Plan::new(Store::Sqlite)
        .await
        .env("CODE_LIFETIME_SECS", "2")
        .env("CONSENT_WINDOW_SECS", "4")
        .start()
        .await;
    world.enedis.script(Endpoint::Token, [Fault::NotJson]);
    let device = world.device().await;
    assert_eq!(world.consent(&device, Choice::Allow).await.status, 502);
    assert_eq!(world.final_answer(&device).await.error(), Some("expired_token"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_that_enedis_may_have_taken_is_never_presented_again() {
    let faults = [Fault::CutAfter, Fault::CutBefore, Fault::server_error(), Fault::NotJson, Fault::Html];
    each(faults, async |fault| {
        let world = impatient(Store::Sqlite).await;
        let shown = format!("{fault:?}");
        world.enedis.script(Endpoint::Token, [fault]);
        let device = world.device().await;
        let person = Person::new();
        let page = person.link(device.code().link(), Choice::Allow).await.unwrap();
        assert!((502..=504).contains(&page.status), "{shown}: {}", page.status);
        let reload = person.open(page.url.as_str()).await.unwrap();
        assert!((502..=504).contains(&reload.status), "{shown}: {}", reload.status);
        let presented = world.enedis.seen().presentations_per_code();
        assert!(presented.iter().all(|(_, times)| *times == 1), "{shown}: {presented:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_code_shows_enedis_word() {
    let world = World::start(Store::Sqlite).await;
    world.enedis.script(Endpoint::Token, [Fault::oauth_error("unauthorized_client")]);
    let device = world.device().await;
    let page = world.consent(&device, Choice::Allow).await;
    assert_eq!(page.status, 502);
    assert!(page.html.contains("unauthorized_client"));
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
    let attempts = world.metric("dfp_enedis_attempts_total{api=\"token\"}").await;
    assert_eq!(device.refresh("some-token", &[]).await.unwrap().status, 503);
    assert_eq!(world.metric("dfp_enedis_attempts_total{api=\"token\"}").await, attempts);
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
async fn calls_to_enedis_come_one_at_a_time_and_within_the_quota() {
    let world = World::start(Store::Sqlite).await;
    let devices = (0..12).map(|_| {
        let device = world.client(crate::fixture::CLIENT);
        async move { device.refresh("x", &[]).await.unwrap().status }
    });
    let statuses = futures_util::future::join_all(devices).await;
    assert!(statuses.iter().all(|status| *status == 400), "{statuses:?}");
    let seen = world.enedis.seen();
    assert_eq!(seen.max_concurrent_token_requests, 1);
    assert!(seen.max_token_requests_within(Duration::from_secs(1)) <= 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_attempt_is_begun_that_cannot_be_waited_for() {
    let plan =
        Plan::new(Store::Sqlite).await.env("ENEDIS_TIMEOUT_SECS", "2").env("ENEDIS_DEADLINE_SECS", "4");
    let world = plan.start().await;
    // One slow refresh keeps the only lane until less than an attempt's time is left for the consent behind it.
    world.enedis.script(Endpoint::Token, [(); 2].map(|()| Fault::Delay(Duration::from_millis(1_900))));
    let slow = (0..2).map(|_| {
        let device = world.client(crate::fixture::CLIENT);
        async move { device.refresh("x", &[]).await.unwrap() }
    });
    let slow = tokio::spawn(futures_util::future::join_all(slow.collect::<Vec<_>>()));
    eventually("both refreshes wait", || async {
        let (queued, flying) = (
            world.metric("dfp_enedis_queue{api=\"token\"}").await?,
            world.metric("dfp_enedis_in_flight{api=\"token\"}").await?,
        );
        (queued + flying >= 2.0).then_some(())
    })
    .await;
    let device = world.device().await;
    let page = world.consent(&device, Choice::Allow).await;
    // Ahead of the waiting refresh, or told to come back; but never burnt.
    assert!(matches!(page.status, 200 | 503), "{}", page.status);
    for answer in slow.await.unwrap() {
        assert!(matches!(answer.status, 400 | 503), "{}", answer.status);
    }
    let page = world.consent(&device, Choice::Allow).await;
    assert!(matches!(page.status, 200 | 400), "{}", page.status);
    assert_eq!(world.final_answer(&device).await.status, 200);
    assert_eq!(world.enedis.seen().codes_presented_after_success(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_refreshes_leave_room_for_consents() {
    let plan = Plan::new(Store::Sqlite).await.env("ENEDIS_CALLS_PER_HOUR", "30");
    let world = plan.env("ENEDIS_CALLS_PER_SECOND", "1000").start().await;
    let device = world.device().await;
    let mut refused = Vec::new();
    for _ in 0..40 {
        refused.push(device.refresh("garbage", &[]).await.unwrap());
    }
    assert_eq!(refused[0].status, 400);
    let last = refused.last().unwrap();
    assert_eq!(last.outcome(), (503, Some("temporarily_unavailable")));
    // The last tenth of the hour is for people (unless an hour began just now, when there is room anyway).
    assert_eq!(world.consent(&device, Choice::Allow).await.status, 200);
}
