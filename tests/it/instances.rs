//! Several instances on one MongoDB: any of them answers any request.

use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{DateTime, Document, doc};
use testkit::device::Device;
use testkit::enedis::{Options, Resource};
use testkit::http::Answer;
use testkit::mongod::{Kind, Mongod};
use testkit::person::Choice;
use testkit::server::Server;

use crate::fixture::{CLIENT, Plan, Store, World, each, eventually};

/// The key both instances share.
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// One world and a second instance on the same database, with another number of shards; `per_minute` polls are allowed.
async fn two_instances(per_minute: &str) -> (World, Server) {
    let plan = Plan::new(Store::Mongodb).await.env("SECRET_KEY", KEY).env("SHARDS", "3");
    let world = plan.env("LIMIT_REQUESTS_PER_MINUTE", per_minute).start().await;
    let second = world.second(&[("SHARDS", "5")]).await;
    (world, second)
}

fn via(server: &Server) -> Device {
    Device::new(format!("http://{}", server.listen()), CLIENT)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_taken_on_one_is_seen_by_the_other() {
    let (world, second) = two_instances("60").await;
    for choice in [Choice::Allow, Choice::Refuse] {
        // The code comes from the first, or from the second; the pages are always the first's.
        let mut device = if choice == Choice::Allow { via(&world.server) } else { via(&second) };
        device.request_code(&[]).await.unwrap();
        let code = device.code().device_code.clone();
        let other = if choice == Choice::Allow { via(&second) } else { via(&world.server) };
        assert_eq!(other.poll_code(&code).await.unwrap().error(), Some("authorization_pending"));
        world.consent(&device, choice).await;
        let answer = decided(&other, &code).await;
        match choice {
            Choice::Allow => assert_eq!(answer.status, 200, "{}", answer.body),
            Choice::Refuse => assert_eq!(answer.error(), Some("access_denied")),
        }
        // And the one repeats what the other delivered.
        let repeated = decided(&device, &code).await;
        assert_eq!(repeated.body, answer.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_redeemed_once_across_all() {
    let plan = Plan::new(Store::Mongodb).await.env("SECRET_KEY", KEY).env("TOKEN_REDELIVERY_SECS", "0");
    let world = plan.start().await;
    let second = world.second(&[]).await;
    for _ in 0..5 {
        let device = world.device().await;
        let code = device.code().device_code.clone();
        // Both know the session before it is decided.
        via(&second).poll_code(&code).await.unwrap();
        world.consent(&device, Choice::Allow).await;
        let polls = (0..12).map(|n| {
            let racer = if n % 2 == 0 { via(&world.server) } else { via(&second) };
            let code = code.clone();
            async move { decided(&racer, &code).await }
        });
        let answers = futures_util::future::join_all(polls).await;
        let tokens = answers.iter().filter(|answer| answer.status == 200).count();
        let refused = answers.iter().filter(|answer| answer.error() == Some("invalid_grant")).count();
        assert_eq!((tokens, refused), (1, 11));
    }
}

/// Another instance refuses the one session that is stored, and the others hear of it only by `changed`.
async fn refuse_elsewhere(uri: &str, changed: Option<DateTime>) {
    let client = mongodb::Client::with_uri_str(uri).await.unwrap();
    let sessions = client.default_database().unwrap().collection::<Document>("device_sessions");
    let mut denied = doc! { "phase": 4 };
    denied.extend(changed.map(|at| ("changed".to_owned(), at.into())));
    let update = doc! { "$set": denied, "$inc": { "rev": 1_i64 } };
    assert_eq!(sessions.update_one(doc! {}, update).await.unwrap().matched_count, 1);
}

/// A session that both of two instances know as pending, for `life` seconds, on a server that stands alone or is a
/// replica set: the instances, the server with the database, and the code.
async fn known_to_both(kind: Kind, life: &str) -> (World, Server, (Arc<Mongod>, String), String) {
    let mongod = Mongod::shared(kind);
    let uri = mongod.uri(&format!("stale_{}_{kind:?}_{life}", std::process::id()));
    let plan = Plan::new(Store::Mongodb).await.env("SECRET_KEY", KEY).env("MONGODB_URI", &uri);
    let world = plan.env("CODE_LIFETIME_SECS", life).start().await;
    let second = world.second(&[]).await;
    let device = world.device().await;
    let code = device.code().device_code.clone();
    assert_eq!(via(&second).poll_code(&code).await.unwrap().error(), Some("authorization_pending"));
    (world, second, (mongod, uri), code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_can_be_read_long_after_it_was_stamped_is_found() {
    each([Kind::Standalone, Kind::ReplicaSet], async |kind| {
        let (_world, second, (_mongod, uri), code) = known_to_both(kind, "300").await;
        // Ten minutes ago, as it took so long to reach a majority.
        refuse_elsewhere(&uri, Some(DateTime::from_millis(DateTime::now().timestamp_millis() - 600_000)))
            .await;
        let answer = decided(&via(&second), &code).await;
        assert_eq!(answer.error(), Some("access_denied"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_was_missed_is_found_before_the_code_is_called_expired() {
    each([Kind::Standalone, Kind::ReplicaSet], async |kind| {
        let (_world, second, (_mongod, uri), code) = known_to_both(kind, "3").await;
        refuse_elsewhere(&uri, None).await;
        let answer = decided(&via(&second), &code).await;
        assert_eq!(answer.error(), Some("access_denied"));
    })
    .await;
}

/// The first answer to polls of `code` that is not about waiting.
async fn decided(device: &Device, code: &str) -> Answer {
    eventually("a decision", || async {
        let answer = device.poll_code(code).await.unwrap();
        (!matches!(answer.error(), Some("authorization_pending" | "slow_down"))).then_some(answer)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pacing_is_shared() {
    // An interval of a minute: whatever slows the device down on the second instance was learned from the first.
    let (world, second) = two_instances("1").await;
    let other = via(&second);
    eventually("a poll on one counts on the other", || async {
        // The first poll of a code is always on time; the instances find each other within some seconds.
        let device = world.device().await;
        let code = device.code().device_code.clone();
        assert_eq!(device.poll_once().await.unwrap().error(), Some("authorization_pending"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let answer = other.poll_code(&code).await.unwrap();
        (answer.error() == Some("slow_down")).then_some(())
    })
    .await;
}

/// Two instances with `FLOW=CLIENT_CREDENTIALS`.
async fn two_metering_instances() -> (World, Server) {
    let plan = Plan::metering(Store::Mongodb, Options::default(), 1).await.env("SECRET_KEY", KEY);
    let world = plan.start().await;
    let second = world.second(&[]).await;
    (world, second)
}

/// Asks an instance for a week of a resource.
async fn read(world: &World, server: &Server, resource: Resource, meter: &str, token: &str) -> Answer {
    let day = world.enedis.today().plus(-1);
    let url = format!(
        "http://{}/data/proxy{}?start={}&end={day}&usage_point_id={meter}",
        server.listen(),
        resource.v5_path(),
        day.plus(-7)
    );
    Answer::read(testkit::http::client().get(url).bearer_auth(token).send().await.unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_and_values_of_one_instance_are_good_at_the_other() {
    let (world, second) = two_metering_instances().await;
    let device = world.device().await;
    assert_eq!(world.consent(&device, Choice::Allow).await.status, 200);
    // Codes asked for at the one, tokens fetched at the other.
    let other = via(&second);
    let code = &device.code().device_code;
    let answer = eventually("the other instance knows", || async {
        let answer = other.poll_code(code).await.unwrap();
        (answer.status == 200).then_some(answer)
    })
    .await;
    let meter = answer.text("usage_points_id").unwrap();
    let curve = Resource::ConsumptionCurve;
    let first = read(&world, &world.server, curve, meter, answer.text("access_token").unwrap()).await;
    assert_eq!(first.status, 200, "{}", first.body);
    let form = [("usage_points_id", meter)];
    let refreshed = device.refresh(answer.text("refresh_token").unwrap(), &form).await.unwrap();
    assert_eq!(refreshed.status, 200, "{}", refreshed.body);
    let same = read(&world, &second, curve, meter, refreshed.text("access_token").unwrap()).await;
    assert_eq!((same.status, same.body), (200, first.body));
    assert!(world.enedis.counts().data_requests() <= 2, "the store is shared, and written in its own time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_have_to_agree() {
    let (mut world, second) = two_instances("60").await;
    drop(second);
    for (name, value) in [
        ("FLOW", "CLIENT_CREDENTIALS"),
        ("BASE_URL", "http://elsewhere"),
        ("CLIENT_ID", "another"),
        ("ENEDIS_CALLS_PER_SECOND", "7"),
        ("ENEDIS_CALLS_PER_HOUR", "7"),
    ] {
        let builder = world.builder.clone().env("LISTEN", "127.0.0.1:0").env(name, value);
        let refused = builder.start().await.map(drop).unwrap_err().to_string();
        assert!(refused.contains(&format!("another {name}:")), "{refused}");
        assert!(refused.contains("exit status: 64"), "{refused}");
    }
    // Who stops is gone at once, and nobody has to agree with it.
    world.server.end(crate::fixture::PATIENCE).await.unwrap();
    world.builder = world.builder.clone().env("ENEDIS_CALLS_PER_HOUR", "7");
    eventually("those that were killed are forgotten", || async {
        world.builder.start().await.ok().map(drop)
    })
    .await;
}
