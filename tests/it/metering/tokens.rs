//! Tokens of our own: their shape, their refresh, and what a kill leaves of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use ::mongodb::Client;
use ::mongodb::bson::{DateTime, Document, doc};
use testkit::device::Tokens;
use testkit::enedis::{Options, Resource};
use testkit::http::Answer;
use testkit::person::Choice;

use super::{Linked, METER, deliver, get, link, question, world, yesterday};
use crate::fixture::{CLIENT, PATIENCE, Plan, Store, each};
use crate::journey::on_both_stores;

on_both_stores!(
    the_answers_have_all_the_plugin_reads,
    a_kill_between_consent_and_delivery_costs_nothing,
    a_kill_between_refresh_and_its_answer_costs_nothing,
    a_token_of_the_php_server_goes_on_working,
    a_box_may_give_its_tokens_up,
    what_is_remembered_goes_with_the_last_grant,
);

async fn what_is_remembered_goes_with_the_last_grant(store: Store) {
    let mut world = Plan::metering(store, Options::default(), 1).await.start().await;
    let (one, other) = (link(&world).await, link(&world).await);
    let day = yesterday(&world.enedis).plus(-9);
    let resource = Resource::DailyConsumption;
    let asked = async |world: &crate::fixture::World, linked: &Linked| {
        let before = world.enedis.counts().data_requests();
        assert_eq!(linked.read(world, resource, day, 1).await.status, 200);
        world.enedis.counts().data_requests() - before
    };
    assert_eq!((asked(&world, &one).await, asked(&world, &other).await), (1, 0));
    let revoke_first = async |world: &crate::fixture::World| {
        let listed = world.builder.run(["tokens", "list", "--json"]).unwrap();
        let line: serde_json::Value =
            serde_json::from_slice(listed.stdout.split(|b| *b == b'\n').next().unwrap()).unwrap();
        let revoked = world.builder.run(["tokens", "revoke", line["id"].as_str().unwrap()]).unwrap();
        assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stderr));
    };
    let forget = |world: &crate::fixture::World| {
        let forgot = world.builder.run(["meters", "forget", METER]).unwrap();
        assert!(forgot.status.success(), "{}", String::from_utf8_lossy(&forgot.stderr));
        String::from_utf8(forgot.stdout).unwrap()
    };
    // One of two: what is remembered stays.
    revoke_first(&world).await;
    world.server.stop(PATIENCE).await.unwrap();
    world.restart().await;
    let alive = if one.read(&world, resource, day, 1).await.status == 200 { &one } else { &other };
    assert_eq!(asked(&world, alive).await, 0);
    // By the operator's wish.
    assert_ne!(forget(&world), "deleted 0 values\n");
    world.server.stop(PATIENCE).await.unwrap();
    world.restart().await;
    assert_eq!(asked(&world, alive).await, 1);
    world.server.stop(PATIENCE).await.unwrap();
    // The last of them.
    revoke_first(&world).await;
    assert_eq!(forget(&world), "deleted 0 values\n", "there is nothing left to delete");
}

async fn a_box_may_give_its_tokens_up(store: Store) {
    let world = world(store, 2).await;
    let linked = link(&world).await;
    let day = yesterday(&world.enedis);
    let read = || linked.read(&world, Resource::DailyConsumption, day, 1);
    assert_eq!(read().await.status, 200);
    let give_up = async |token: &str, client: &str| {
        let form = [("token", token), ("client_id", client), ("token_type_hint", "refresh_token")];
        linked.device.post_form("/device/revoke", &form).await.unwrap()
    };
    assert_eq!(give_up("never-issued", CLIENT).await.status, 200, "there is nothing left to end");
    assert_eq!(give_up(&linked.tokens.refresh, "another").await.outcome(), (400, Some("invalid_client")));
    assert_eq!(give_up("", CLIENT).await.outcome(), (400, Some("invalid_request")));
    assert_eq!(read().await.status, 200, "none of them ended anything");
    let asked = world.enedis.counts().data_requests();
    for _ in 0..2 {
        let answer = give_up(&linked.tokens.refresh, CLIENT).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    }
    assert_eq!(read().await.status, 401);
    assert_eq!(linked.refresh().await.outcome(), (400, Some("invalid_grant")));
    // Nor is anything of the meter remembered.
    world.enedis.set_today(Some(world.enedis.today().plus(1)));
    let owner = link(&world).await;
    assert_eq!(owner.read(&world, Resource::DailyConsumption, day, 1).await.status, 200);
    assert!(world.enedis.counts().data_requests() > asked);
    let metadata = testkit::http::client()
        .get(world.url("/.well-known/oauth-authorization-server"))
        .send()
        .await
        .unwrap();
    let metadata = Answer::read(metadata).await.unwrap();
    assert_eq!(metadata.json["revocation_endpoint"], world.url("/device/revoke"));
}

async fn the_answers_have_all_the_plugin_reads(store: Store) {
    let plan = Plan::metering(store, Options::default(), 1).await.env("ALLOWED_CLIENT_IDS", "second");
    let world = plan.start().await;
    let device = world.device().await;
    world.consent(&device, Choice::Allow).await;
    let answer = device.poll_once().await.unwrap();
    assert_eq!(answer.status, 200);
    let tokens = Tokens::read(&answer.json).unwrap();
    for token in [&tokens.access, &tokens.refresh] {
        assert_eq!(token.len(), 64);
        assert!(token.bytes().all(|b| b.is_ascii_hexdigit()));
    }
    assert_ne!(tokens.access, tokens.refresh);
    assert_eq!(answer.text("token_type"), Some("Bearer"));
    let left = answer.json["expires_in"].as_u64().unwrap();
    assert!((12_500..=12_600).contains(&left), "{left}");
    assert_eq!(answer.text("usage_points_id"), Some(METER));
    assert_eq!(answer.text("scope"), Some(""));
    // A lost answer is repeated, byte for byte.
    assert_eq!(device.poll_once().await.unwrap().body, answer.body);
    // Neither opens the other's door.
    let ask = question(Resource::MaxPower, METER, yesterday(&world.enedis), 1);
    assert_eq!(get(&world, &ask, Some(&tokens.refresh)).await.status, 401);
    let linked = Linked { device, tokens, meters: METER.into() };
    for (token, meters) in [
        (linked.tokens.access.as_str(), METER),
        ("never-issued", METER),
        (&linked.tokens.refresh, "64975835695673"),
        (&linked.tokens.refresh, "x"),
    ] {
        let refused = linked.refresh_as(token, Some(meters)).await;
        assert_eq!(refused.outcome(), (400, Some("invalid_grant")), "{meters}");
    }
    // A client that knows no meters may leave them out; the oldest plugins refresh elsewhere.
    let form = [("usage_points_id", METER)];
    for answer in [
        linked.refresh().await,
        linked.refresh_as(&linked.tokens.refresh, None).await,
        linked.device.refresh(&linked.tokens.refresh, &form).await.unwrap(),
    ] {
        assert_eq!(answer.status, 200, "{}", answer.body);
        let fresh = Tokens::read(&answer.json).unwrap();
        assert!(fresh.access != linked.tokens.access && fresh.refresh == linked.tokens.refresh);
        assert_eq!(answer.json["expires_in"], 12_600);
        for token in [&linked.tokens.access, &fresh.access] {
            assert_eq!(get(&world, &ask, Some(token)).await.status, 200, "the one before stays good");
        }
    }
    // It belongs to the client it was issued to.
    let form =
        [("grant_type", "refresh_token"), ("client_id", "second"), ("refresh_token", &linked.tokens.refresh)];
    let refused = linked.device.post_form("/device/token", &form).await.unwrap();
    assert_eq!(refused.outcome(), (400, Some("invalid_grant")));
    assert_eq!(world.enedis.seen().token_requests_of("refresh_token").count(), 0);
}

async fn a_kill_between_consent_and_delivery_costs_nothing(store: Store) {
    let mut world = world(store, 2).await;
    let device = world.device().await;
    assert_eq!(world.consent(&device, Choice::Allow).await.status, 200);
    world.server.kill9().unwrap();
    world.restart().await;
    let linked = deliver(device).await;
    assert_eq!(linked.read(&world, Resource::MaxPower, yesterday(&world.enedis), 1).await.status, 200);
    assert_eq!(world.enedis.seen().consents_allowed, 1);
}

async fn a_kill_between_refresh_and_its_answer_costs_nothing(store: Store) {
    let mut world = world(store, 1).await;
    let linked = link(&world).await;
    // Many refreshes, and a kill among them: whichever answers were lost, the box asks again with what it has.
    let refreshes = (0..8).map(|_| {
        let client = world.client(CLIENT);
        let (token, meters) = (linked.tokens.refresh.clone(), linked.meters.clone());
        async move {
            let form = [("usage_points_id", meters.as_str())];
            client.refresh(&token, &form).await.is_ok()
        }
    });
    let (_, killed) = tokio::join!(futures_util::future::join_all(refreshes), async { world.server.kill9() });
    killed.unwrap();
    world.restart().await;
    let again = linked.refresh().await;
    assert_eq!(again.status, 200, "{}", again.body);
    let access = again.text("access_token").unwrap();
    let ask = question(Resource::MaxPower, METER, yesterday(&world.enedis), 1);
    assert_eq!(get(&world, &ask, Some(access)).await.status, 200);
    assert_eq!(get(&world, &ask, Some(&linked.tokens.access)).await.status, 200);
    assert_eq!(world.enedis.seen().consents_allowed, 1);
}

/// Imports from a MongoDB that the PHP server has filled, then lives on as the box does.
async fn a_token_of_the_php_server_goes_on_working(store: Store) {
    let php = Store::Mongodb.open();
    let client = Client::with_uri_str(php.uri().unwrap()).await.unwrap();
    let (refresh, access) = ("5a".repeat(32), "c3".repeat(32));
    let entry = |key: String, hours| doc! { "key": key, "value": METER, "expireAt": in_hours(hours) };
    let entries =
        [entry(format!("refresh_token:{refresh}"), 20_000), entry(format!("access_token:{access}"), 1)];
    client.default_database().unwrap().collection::<Document>("cache").insert_many(entries).await.unwrap();

    let world = Plan::metering(store, Options::default(), 1)
        .await
        .env("IMPORT_MONGODB_URI", php.uri().unwrap())
        .start()
        .await;
    world.enedis.grant(METER);
    let imported = world.builder.run(["import-php"]).unwrap();
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    // The server was running all the while.
    let device = world.client(CLIENT);
    let linked = Linked { device, tokens: Tokens { access, refresh }, meters: METER.into() };
    let day = yesterday(&world.enedis);
    assert_eq!(linked.read(&world, Resource::MaxPower, day, 1).await.status, 200);
    let answer = linked.refresh().await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.text("refresh_token"), Some(linked.tokens.refresh.as_str()));
    let ask = question(Resource::ConsumptionCurve, METER, day, 1);
    assert_eq!(get(&world, &ask, answer.text("access_token")).await.status, 200);
    // What was taken over can be revoked, and counts at once.
    let revoked = world.builder.run(["tokens", "revoke", "--meter", METER]).unwrap();
    assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stderr));
    for token in [Some(linked.tokens.access.as_str()), answer.text("access_token")] {
        assert_eq!(get(&world, &ask, token).await.error(), Some("invalid_token"));
    }
    assert_eq!(linked.refresh().await.error(), Some("invalid_grant"));
}

fn in_hours(hours: i64) -> DateTime {
    DateTime::from_millis(DateTime::now().timestamp_millis() + hours * 3_600_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_access_tokens_are_looked_up_so_often() {
    let world = world(Store::Sqlite, 1).await;
    let linked = link(&world).await;
    let ask = question(Resource::MaxPower, METER, yesterday(&world.enedis), 1);
    let refused = AtomicUsize::new(0);
    each(0..1_500, async |n| {
        let answer = get(&world, &ask, Some(&format!("{n:064x}"))).await;
        assert!(matches!(answer.status, 401 | 503), "never final: {}", answer.body);
        refused.fetch_add(usize::from(answer.status == 503), Ordering::Relaxed);
    })
    .await;
    let looked_up = 1_500 - refused.into_inner();
    assert!((600..1_400).contains(&looked_up), "{looked_up}");
    // Whoever comes from elsewhere is served.
    let request = testkit::http::client().get(world.url(&format!("/data/proxy{ask}")));
    let request = request.bearer_auth(&linked.tokens.access).header("x-forwarded-for", "192.0.2.2");
    assert_eq!(request.send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_box_in_a_loop_is_told_to_wait_and_not_to_give_up() {
    let world = world(Store::Sqlite, 1).await;
    let linked = link(&world).await;
    let mut last = linked.refresh().await;
    for _ in 0..25 {
        last = linked.refresh().await;
    }
    assert_eq!(last.outcome(), (429, Some("temporarily_unavailable")));
    assert!(last.retry_after().is_some());
}
