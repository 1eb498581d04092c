//! A server on the wrong store, or on an empty one, has no box erase its tokens, and says what is wrong.

use testkit::http::Answer;
use testkit::person::Choice;
use testkit::server::Builder;

use super::{Linked, METER, deliver, link, world};
use crate::fixture::{CLIENT, PATIENCE, Plan, Store, World, eventually};
use crate::journey::on_both_stores;

on_both_stores!(
    a_wrong_store_erases_no_box,
    nor_does_one_whose_key_was_lost_as_well,
    what_was_revoked_or_has_ended_here_is_refused_for_good,
);

/// A world with a linked box and a key of its own.
async fn linked(store: Store) -> (World, Linked) {
    let plan = Plan::metering(store, testkit::enedis::Options::default(), 2).await;
    let world = plan.env("SECRET_KEY", &"a1".repeat(32)).start().await;
    let box_ = link(&world).await;
    (world, box_)
}

/// The server on a store with nothing in it.
async fn elsewhere(world: &mut World, store: Store, change: impl FnOnce(Builder) -> Builder) {
    world.server.end(PATIENCE).await.unwrap();
    let empty = store.open();
    let builder = world.builder.clone().data_dir(world.builder.data_path().with_file_name("elsewhere"));
    world.builder = change(empty.used_by(builder));
    world.store = empty;
    world.restart().await;
}

async fn ready(world: &World) -> (u16, String) {
    let answer = testkit::http::client().get(world.url("/health/ready")).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn complaints(world: &World) -> usize {
    world.server.logs().iter().filter(|line| line.contains("IS NOT IN THIS STORE")).count()
}

/// Brings a refresh token from an address of its own.
async fn bring(world: &World, token: &str, address: &str) -> Answer {
    let form = [("grant_type", "refresh_token"), ("client_id", CLIENT), ("refresh_token", token)];
    let request = testkit::http::client().post(world.url("/device/token")).form(&form);
    Answer::read(request.header("x-forwarded-for", address).send().await.unwrap()).await.unwrap()
}

fn noise(n: u8) -> String {
    format!("{n:02x}").repeat(32)
}

const COME_BACK: (u16, Option<&str>) = (503, Some("temporarily_unavailable"));
const REFUSED: (u16, Option<&str>) = (400, Some("invalid_grant"));

/// The box is told to come back until the operator says otherwise.
async fn is_doubted_until_accepted(world: &World, linked: &Linked) {
    assert_eq!(bring(world, &noise(1), "192.0.2.1").await.outcome(), REFUSED);
    assert_eq!(ready(world).await.0, 200, "noise is nothing to worry about");
    for _ in 0..2 {
        let told = linked.refresh().await;
        assert_eq!(told.outcome(), COME_BACK);
        assert!(told.retry_after().is_some());
    }
    let (status, body) = ready(world).await;
    assert!(status == 503 && body.contains("wrong store"), "{status} {body}");
    assert_eq!(complaints(world), 1, "once, and loud");
    assert_eq!(bring(world, &noise(1), "192.0.2.1").await.outcome(), REFUSED);
    let accepted = world.builder.run(["tokens", "accept-store"]).unwrap();
    assert!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stderr));
    assert_eq!(linked.refresh().await.outcome(), REFUSED);
    assert_eq!(ready(world).await.0, 200);
}

async fn a_wrong_store_erases_no_box(store: Store) {
    let (mut world, linked) = linked(store).await;
    let (right, builder) = (world.server.pid(), world.builder.clone());
    elsewhere(&mut world, store, |builder| builder).await;
    assert_ne!(world.server.pid(), right);
    assert_eq!(linked.refresh().await.outcome(), COME_BACK);
    assert_eq!(ready(&world).await.0, 503);
    // The mistake is found, and no box has lost anything.
    world.server.end(PATIENCE).await.unwrap();
    let wrong = std::mem::replace(&mut world.builder, builder);
    world.restart().await;
    assert_eq!((linked.refresh().await.status, ready(&world).await.0), (200, 200));
    // Or it was none.
    world.server.end(PATIENCE).await.unwrap();
    world.builder = wrong;
    world.restart().await;
    is_doubted_until_accepted(&world, &linked).await;
    // What is given from now on is as good as ever.
    let device = world.device().await;
    assert_eq!(world.consent(&device, Choice::Allow).await.status, 200);
    assert_eq!(deliver(device).await.refresh().await.status, 200);
}

async fn nor_does_one_whose_key_was_lost_as_well(store: Store) {
    let (mut world, linked) = linked(store).await;
    elsewhere(&mut world, store, |builder| builder.env("SECRET_KEY", "b2".repeat(32))).await;
    is_doubted_until_accepted(&world, &linked).await;
    // A token counts as issued at the beginning of its second.
    let second = || ::mongodb::bson::DateTime::now().timestamp_millis() / 1_000;
    let accepted = second();
    eventually("a later second", || async { (second() > accepted).then_some(()) }).await;
    // In a store that is at work, a token of another one only looks like ours.
    let (other, stranger) = self::linked(store).await;
    elsewhere_linked(&world).await;
    assert_eq!(bring(&world, &stranger.tokens.refresh, "192.0.2.9").await.outcome(), COME_BACK);
    assert_eq!(ready(&world).await.0, 200);
    assert_eq!(other.server.logs().iter().filter(|line| line.contains("IS NOT IN THIS STORE")).count(), 0);
}

/// A box is linked on this server.
async fn elsewhere_linked(world: &World) {
    let device = world.device().await;
    assert_eq!(world.consent(&device, Choice::Allow).await.status, 200);
    deliver(device).await;
}

async fn what_was_revoked_or_has_ended_here_is_refused_for_good(store: Store) {
    let mut world = world(store, 1).await;
    let revoked = link(&world).await;
    let output = world.builder.run(["tokens", "revoke", "--meter", METER]).unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("revoked 1 grant"), "{output:?}");
    assert_eq!(revoked.refresh().await.outcome(), REFUSED);
    // A claim of the v1 page for which Enedis never answered, after its week.
    let ended = link(&world).await;
    // Day by day: a clock that jumps is not relied on.
    for days in 1..=9 {
        world.server.end(PATIENCE).await.unwrap();
        world.builder = world.builder.clone().env("CLOCK_OFFSET_SECS", (days * 86_000).to_string());
        world.restart().await;
    }
    for linked in [revoked, ended] {
        assert_eq!(linked.refresh().await.outcome(), REFUSED);
    }
    assert_eq!((ready(&world).await.0, complaints(&world)), (200, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_from_everywhere_is_doubted_only_where_nothing_is_known() {
    let (world, linked) = linked(Store::Sqlite).await;
    let mut told = Vec::new();
    for n in 1..=4 {
        told.push(bring(&world, &noise(n), &format!("192.0.2.{n}")).await.status);
        // However much one of them brings.
        assert_eq!(bring(&world, &noise(n), "192.0.2.1").await.status, if n < 3 { 400 } else { 503 });
    }
    assert_eq!(told, [400, 400, 503, 503]);
    assert_eq!(ready(&world).await.0, 200);
    assert_eq!(linked.refresh().await.status, 200);
    for n in 1..=4 {
        assert_eq!(bring(&world, &noise(n), &format!("192.0.2.{n}")).await.outcome(), REFUSED);
    }
}
