//! The curl session of the README, start to end, on both stores.

use testkit::device::Tokens;
use testkit::person::{Choice, Person};

use crate::fixture::{Plan, Store, World};

/// Runs a test on both stores, each with a server of its own.
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        mod sqlite {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(crate::fixture::Store::Sqlite).await }
        )*}
        mod mongo {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(crate::fixture::Store::Mongodb).await }
        )*}
    };
}
pub(crate) use on_both_stores;

on_both_stores!(
    code_page_consent_token_refresh,
    a_refusal_reaches_the_device,
    a_code_nobody_enters_expires,
    a_lost_answer_is_repeated_for_a_while,
    a_person_may_type_the_code,
);

async fn code_page_consent_token_refresh(store: Store) {
    let world = World::start(store).await;
    let device = world.device().await;
    let code = device.code();
    let base = world.server.base_url();
    assert_eq!(code.device_code.len(), 64);
    assert!(code.device_code.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(code.user_code.len(), 9);
    assert_eq!(code.verification_uri, format!("{base}/device"));
    let complete = format!("{base}/device?code={}", code.user_code);
    assert_eq!(code.verification_uri_complete.as_deref(), Some(complete.as_str()));
    assert_eq!((code.expires_in, code.interval), (300, 1));

    let pending = device.poll_once().await.unwrap();
    assert_eq!(pending.outcome(), (400, Some("authorization_pending")));
    assert_eq!(pending.json["interval"], 1);
    assert_eq!(pending.header("cache-control"), Some("no-store"));
    let early = device.poll_once().await.unwrap();
    assert_eq!(early.outcome(), (400, Some("slow_down")));
    assert_eq!(early.json["interval"], 6);

    let answer = world.link(&device).await;
    assert_eq!(answer.json["token_type"], "Bearer");
    assert_eq!(answer.json["usage_point_id"], "22516914714270");
    let left = answer.json["expires_in"].as_u64().unwrap();
    assert!((12_500..=12_600).contains(&left), "{left}");
    let tokens = Tokens::read(&answer.json).unwrap();

    let refreshed = device.refresh(&tokens.refresh, &[]).await.unwrap();
    assert_eq!(refreshed.status, 200, "{}", refreshed.body);
    assert_ne!(refreshed.text("access_token"), Some(tokens.access.as_str()));
    let seen = world.enedis.seen();
    assert_eq!(seen.token_requests_of("authorization_code").count(), 1);
    let refresh = seen.token_requests_of("refresh_token").next().unwrap();
    assert_eq!(refresh.field("client_secret"), Some("simulated-secret"), "the secret is added on the way");
    let authorize = &seen.authorize_requests[0];
    assert_eq!(authorize.param("duration"), Some("P3Y"));
    assert_eq!(authorize.param("redirect_uri"), None);

    // A refresh token that Enedis does not know: its answer comes back as it is.
    let refused = device.refresh("never-issued", &[]).await.unwrap();
    assert_eq!(refused.outcome(), (400, Some("invalid_grant")));
}

async fn a_refusal_reaches_the_device(store: Store) {
    let world = World::start(store).await;
    let device = world.device().await;
    let page = world.consent(&device, Choice::Refuse).await;
    assert_eq!(page.status, 200);
    for _ in 0..3 {
        let answer = device.poll_once().await.unwrap();
        assert_eq!(answer.outcome(), (400, Some("access_denied")));
    }
    // The code is of no more use to anybody.
    let again = world.consent(&device, Choice::Allow).await;
    assert_eq!(again.status, 400);
}

async fn a_code_nobody_enters_expires(store: Store) {
    let mut world = Plan::new(store).await.env("CODE_LIFETIME_SECS", "2").start().await;
    let device = world.device().await;
    let answer = world.final_answer(&device).await;
    assert_eq!(answer.outcome(), (400, Some("expired_token")));
    let page = world.consent(&device, Choice::Allow).await;
    assert_eq!(page.status, 400);
    // The tombstone survives a restart.
    let code = device.code().device_code.clone();
    world.server.kill9().unwrap();
    world.restart().await;
    let answer = device.poll_code(&code).await.unwrap();
    assert_eq!(answer.error(), Some("expired_token"));
}

async fn a_lost_answer_is_repeated_for_a_while(store: Store) {
    let world = Plan::new(store).await.env("TOKEN_REDELIVERY_SECS", "2").start().await;
    let device = world.device().await;
    world.consent(&device, Choice::Allow).await;
    let first = device.poll_once().await.unwrap();
    assert_eq!(first.status, 200);
    let mut repeated = 0;
    let last = loop {
        let again = device.poll_once().await.unwrap();
        if again.status != 200 {
            break again;
        }
        repeated += 1;
        assert_eq!(again.body, first.body, "byte for byte the same");
    };
    assert!(repeated > 0);
    assert_eq!(last.outcome(), (400, Some("invalid_grant")));
    // Another client never sees it.
    let refused = world.client("somebody-else").poll_code(&device.code().device_code).await.unwrap();
    assert_eq!(refused.outcome(), (400, Some("invalid_client")));
}

async fn a_person_may_type_the_code(store: Store) {
    let world = World::start(store).await;
    let device = world.device().await;
    let code = device.code();
    let typed = format!("  {} ", code.user_code.to_lowercase().replace('-', " "));
    let person = Person::with_header("accept-language", "en-GB,en;q=0.8");
    let page = person.link_by_code(&code.verification_uri, &typed, Choice::Allow).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.html);
    assert!(page.html.contains("lang=\"en\""));
    assert_eq!(world.final_answer(&device).await.status, 200);
}
