//! Refreshes of Enedis' own tokens: what becomes of them when they are sent at once or again, when whoever sent one has
//! gone, and when Enedis does not accept our client.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use futures_util::future::join_all;
use testkit::device::{Device, Tokens};
use testkit::enedis::{Endpoint, Fault};

use crate::fixture::{CLIENT, Plan, SECRET, Store, World, eventually};

/// A box with tokens of Enedis'.
async fn linked(world: &World) -> (Device, Tokens) {
    let device = world.device().await;
    let tokens = Tokens::read(&world.link(&device).await.json).unwrap();
    (device, tokens)
}

fn asked(world: &World) -> usize {
    world.enedis.seen().token_requests_of("refresh_token").count()
}

async fn is_asked(world: &World) {
    eventually("Enedis is asked", async || (asked(world) == 1).then_some(())).await;
}

async fn is_metric(world: &World, name: &str, value: f64) {
    eventually(name, async || world.metric(name).await.filter(|now| (now - value).abs() < 0.5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_refreshes_are_one_call_and_its_answer_is_repeated() {
    let world = World::start(Store::Sqlite).await;
    let (device, tokens) = linked(&world).await;
    world.enedis.script(Endpoint::Token, [Fault::SlowAnswer(Duration::from_millis(300))]);
    let at_once = join_all((0..8).map(|_| device.refresh(&tokens.refresh, &[]))).await;
    let answers: Vec<_> = at_once.into_iter().map(Result::unwrap).collect();
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == answers[0].body));
    // The box lost it: the old token is good once at Enedis.
    let again = device.refresh(&tokens.refresh, &[]).await.unwrap();
    assert_eq!((again.status, &again.body), (200, &answers[0].body));
    assert_eq!(asked(&world), 1);
    // Not to another question; and the new token is another one.
    let other = device.refresh(&tokens.refresh, &[("scope", "other")]).await.unwrap();
    assert_eq!(other.outcome(), (400, Some("invalid_grant")));
    let next = device.refresh(answers[0].text("refresh_token").unwrap(), &[]).await.unwrap();
    assert_eq!(next.status, 200, "{}", next.body);
    assert_eq!(asked(&world), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_window_nothing_is_repeated() {
    let plan = Plan::new(Store::Sqlite).await.env("TOKEN_REDELIVERY_SECS", "0");
    let world = plan.start().await;
    let (device, tokens) = linked(&world).await;
    assert_eq!(device.refresh(&tokens.refresh, &[]).await.unwrap().status, 200);
    assert_eq!(device.refresh(&tokens.refresh, &[]).await.unwrap().error(), Some("invalid_grant"));
}

/// Sends a refresh over a connection of its own.
fn send(world: &World, token: &str) -> TcpStream {
    let mut socket = TcpStream::connect(world.server.base_url().trim_start_matches("http://")).unwrap();
    let body = format!("grant_type=refresh_token&client_id={CLIENT}&refresh_token={token}");
    let head =
        "POST /device/proxy HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    socket.write_all(request.as_bytes()).unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_enedis_answers_to_one_who_has_gone_is_kept() {
    let world = World::start(Store::Sqlite).await;
    let (device, tokens) = linked(&world).await;
    world.enedis.script(Endpoint::Token, [Fault::SlowAnswer(Duration::from_secs(2))]);
    let socket = send(&world, &tokens.refresh);
    is_asked(&world).await;
    drop(socket);
    is_metric(&world, "dfp_requests_in_flight", 0.0).await;
    let answer = device.refresh(&tokens.refresh, &[]).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(asked(&world), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_callers_who_have_gone_are_not_sent() {
    let world = World::start(Store::Sqlite).await;
    let (device, tokens) = linked(&world).await;
    // One call is under way at a time.
    world.enedis.script(Endpoint::Token, [Fault::SlowAnswer(Duration::from_secs(3))]);
    let first = device.refresh(&tokens.refresh, &[]);
    let others = async {
        is_asked(&world).await;
        let (closed, half_closed) = (send(&world, "gone"), send(&world, "half-gone"));
        is_metric(&world, "dfp_enedis_queue{api=\"token\"}", 2.0).await;
        drop(closed);
        half_closed.shutdown(Shutdown::Write).unwrap();
        is_metric(&world, "dfp_requests_in_flight", 1.0).await;
        half_closed
    };
    let (first, half_closed) = tokio::join!(first, others);
    assert_eq!(first.unwrap().status, 200);
    is_metric(&world, "dfp_enedis_unwanted_total{api=\"token\"}", 2.0).await;
    assert_eq!(asked(&world), 1);
    drop(half_closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_of_ours_that_is_wrong_is_no_boxs_fault() {
    let mut world = World::start(Store::Sqlite).await;
    let (device, tokens) = linked(&world).await;
    world.server.kill9().unwrap();
    world.builder = world.builder.clone().env("CLIENT_SECRET", "wrong");
    world.restart().await;
    let told = device.refresh(&tokens.refresh, &[]).await.unwrap();
    assert_eq!(told.outcome(), (503, Some("temporarily_unavailable")));
    assert!(told.retry_after().is_some());
    is_metric(&world, "dfp_enedis_client_rejected_total{api=\"token\"}", 1.0).await;
    let logs = world.server.logs();
    assert!(logs.iter().any(|line| line.contains("ERROR") && line.contains("CLIENT_SECRET")), "{logs:?}");
    // Nothing was lost: once the operator has put it right, the token is good.
    world.server.kill9().unwrap();
    world.builder = world.builder.clone().env("CLIENT_SECRET", SECRET);
    world.restart().await;
    assert_eq!(device.refresh(&tokens.refresh, &[]).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_of_the_boxs_that_is_wrong_is_told_to_it() {
    let world = Plan::new(Store::Sqlite).await.without("CLIENT_SECRET").start().await;
    let device = world.client(CLIENT).with_secret("wrong");
    let told = device.refresh("some-token", &[]).await.unwrap();
    assert_eq!(told.outcome(), (401, Some("invalid_client")));
}
