//! The key changes while boxes go on, and another key than the installation's stops the start.

use serde_json::Value;
use testkit::device::{Device, Tokens};
use testkit::enedis::{Options, Resource};
use testkit::http::Answer;
use testkit::person::Choice;
use testkit::server::Builder;

use crate::fixture::{CLIENT, PATIENCE, Plan, Store, World};
use crate::journey::on_both_stores;

on_both_stores!(
    boxes_go_on_under_another_key,
    sessions_go_on_under_another_key,
    another_key_stops_the_start_and_every_command,
);

/// What `keys` with these arguments counts.
fn keys(builder: &Builder, arguments: &[&str]) -> Value {
    let output = builder.run(["keys"].iter().chain(arguments).chain(&["--json"])).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn count(keys: &Value, state: &str, what: &str) -> u64 {
    let of = keys["keys"].as_array().unwrap().iter().filter(|key| key["state"] == state);
    of.map(|key| key[what].as_u64().unwrap()).sum()
}

fn key(digits: &str) -> String {
    digits.repeat(32)
}

/// Reads a week of values, which is remembered.
async fn read(world: &World, access: &str, meter: &str) -> Answer {
    let (day, path) = (world.enedis.today().plus(-8), Resource::ConsumptionCurve.v5_path());
    let query = format!("start={day}&end={}&usage_point_id={meter}", day.plus(7));
    let request = testkit::http::client().get(world.url(&format!("/data/proxy{path}?{query}")));
    Answer::read(request.bearer_auth(access).send().await.unwrap()).await.unwrap()
}

async fn refresh(device: &Device, tokens: &Tokens) -> Tokens {
    let answer = device.refresh(&tokens.refresh, &[]).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    Tokens::read(&answer.json).unwrap()
}

async fn boxes_go_on_under_another_key(store: Store) {
    let plan = Plan::metering(store, Options::default(), 2).await;
    let mut world = plan.env("SECRET_KEY", &key("a1")).start().await;
    let device = world.device().await;
    let answer = world.link(&device).await;
    let (mut tokens, meter) = (Tokens::read(&answer.json).unwrap(), answer.text("usage_points_id").unwrap());
    let values = read(&world, &tokens.access, meter).await;
    assert_eq!(values.status, 200, "{}", values.body);
    // Whatever is remembered is written before the end.
    world.server.end(PATIENCE).await.unwrap();
    let asked = world.enedis.counts().data_requests();

    world.builder = world.builder.clone().env("SECRET_KEY", key("b2")).env("SECRET_KEYS_OLD", key("a1"));
    world.restart().await;
    for access in [tokens.access.clone(), refresh(&device, &tokens).await.access] {
        assert_eq!(read(&world, &access, meter).await.body, values.body);
    }
    let before = keys(&world.builder, &["status"]);
    assert_eq!(count(&before, "old", "grants"), 1, "{before}");
    assert!(count(&before, "old", "values") >= 7, "{before}");
    assert!(before["left"].as_u64().unwrap() >= 8, "{before}");
    // Under way, the server answers.
    let (after, read_meanwhile) =
        tokio::join!(async { keys(&world.builder, &["reseal"]) }, read(&world, &tokens.access, meter));
    assert_eq!(read_meanwhile.body, values.body);
    assert_eq!((&after["left"], count(&after, "current", "grants")), (&0.into(), 1), "{after}");
    assert!(count(&after, "current", "values") >= 7, "{after}");

    world.server.end(PATIENCE).await.unwrap();
    world.builder = world.builder.clone().env("SECRET_KEYS_OLD", "");
    world.restart().await;
    assert_eq!(keys(&world.builder, &["status"])["left"], 0);
    tokens = refresh(&device, &tokens).await;
    assert_eq!(read(&world, &tokens.access, meter).await.body, values.body);
    assert_eq!(world.enedis.counts().data_requests(), asked, "all of it was remembered");
    let listed = world.builder.run(["tokens", "list", "--meter", meter]).unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("1 live grant"), "{listed:?}");
}

/// A session with all that is sealed in one: its device's own secret, a PKCE verifier, a token.
async fn sessions_go_on_under_another_key(store: Store) {
    let plan =
        Plan::new(store).await.env("PKCE", "true").without("CLIENT_SECRET").env("SECRET_KEY", &key("a1"));
    let mut world = plan.start().await;
    let ask = async || {
        let mut device = world.client(CLIENT).with_secret(crate::fixture::SECRET);
        device.request_code(&[]).await.unwrap();
        device
    };
    let (pending, approved) = (ask().await, ask().await);
    assert_eq!(world.consent(&approved, Choice::Allow).await.status, 200);
    world.server.end(PATIENCE).await.unwrap();
    world.builder = world.builder.clone().env("SECRET_KEY", key("b2")).env("SECRET_KEYS_OLD", key("a1"));
    world.restart().await;
    let status = keys(&world.builder, &["status"]);
    assert_eq!(
        (count(&status, "old", "sessions"), count(&status, "current", "sessions")),
        (0, 4),
        "{status}"
    );
    world.server.end(PATIENCE).await.unwrap();
    // Nor does the server that has started need the old key any more.
    world.builder = world.builder.clone().env("SECRET_KEYS_OLD", "");
    world.restart().await;
    assert_eq!(world.final_answer(&approved).await.status, 200);
    world.link(&pending).await;
}

async fn another_key_stops_the_start_and_every_command(store: Store) {
    for flow in ["DEVICE", "CLIENT_CREDENTIALS"] {
        let plan = Plan::metering(store, Options::default(), 2).await.env("FLOW", flow);
        let world = plan.env("SECRET_KEY", &key("a1")).start().await;
        let device = world.device().await;
        world.server.end(PATIENCE).await.unwrap();
        let wrong = world.builder.clone().env("SECRET_KEY", key("b2")).env("SECRET_KEYS_OLD", key("c3"));
        let refused = wrong.start().await.map(drop).unwrap_err().to_string();
        assert!(refused.contains("another SECRET_KEY") && refused.contains("exit status: 64"), "{refused}");
        let table = wrong.data_path().join("cache.csv");
        std::fs::write(&table, "key,meters,expires_at\nclient_credentials,x,1893456000\n").unwrap();
        let import = ["import-php", "--file", table.to_str().unwrap()];
        for command in [&["tokens", "list"][..], &import, &["keys", "status"], &["keys", "reseal"]] {
            let refused = wrong.run(command).unwrap();
            assert_eq!(refused.status.code(), Some(64));
            assert!(
                String::from_utf8_lossy(&refused.stderr).contains("SECRET_KEY"),
                "{command:?} {refused:?}"
            );
        }
        // Nothing was touched.
        let mut world = world;
        world.restart().await;
        assert_eq!(device.poll_once().await.unwrap().error(), Some("authorization_pending"), "{flow}");
    }
}
