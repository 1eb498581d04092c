//! The audit record of a running server: what it says after each act, and after a kill.

use serde_json::Value;
use testkit::enedis::{Endpoint, Fault, GeneratedMeters, Meters, Options};
use testkit::person::{Choice, Person};

use crate::fixture::{Plan, Store, World, eventually};
use crate::journey::on_both_stores;

on_both_stores!(an_act_that_was_answered_is_in_the_record, with_enedis_own_tokens_too);

/// What `audit --json` prints.
fn lines(world: &World, more: &[&str]) -> Vec<Value> {
    let printed = world.builder.run(["audit", "--json"].iter().chain(more)).unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let text = String::from_utf8(printed.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn words(lines: &[Value]) -> Vec<String> {
    let word = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    lines.iter().map(|line| format!("{}: {}", word(line, "act"), word(line, "how"))).collect()
}

async fn an_act_that_was_answered_is_in_the_record(store: Store) {
    // Each consent is of another household.
    let options = Options { meters: Meters::Generated(GeneratedMeters::consumers(9)), ..Options::default() };
    let mut world = Plan::metering(store, options, 2).await.start().await;
    let no = world.device().await;
    world.consent(&no, Choice::Refuse).await;
    let (first, second) = (world.device().await, world.device().await);
    let given = world.link(&first).await;
    let other = world.link(&second).await;
    let token = given.text("refresh_token").unwrap();
    let gone =
        first.post_form("/device/revoke", &[("client_id", crate::fixture::CLIENT), ("token", token)]).await;
    assert_eq!(gone.unwrap().status, 200);
    // Whoever was answered finds the line, also if that was the last thing that the server did.
    world.server.kill9().unwrap();
    let meter = other.text("usage_points_id").unwrap();
    let revoked = world.builder.run(["tokens", "revoke", "--meter", meter]).unwrap();
    assert!(revoked.status.success());
    let all = lines(&world, &[]);
    assert_eq!(
        words(&all),
        [
            "refusal: by the owner",
            "claim: first",
            "grant: tokens given",
            "claim: first",
            "grant: tokens given",
            "revocation: by the box",
            "revocation: by the operator",
        ]
    );
    for line in &all[1..] {
        assert_eq!(
            (line["meters"].as_u64(), line["id"].as_str().map(str::len)),
            (Some(1), Some(8)),
            "{line}"
        );
        assert_eq!(line["client_id"], crate::fixture::CLIENT);
    }
    assert_eq!(all[2]["id"], all[5]["id"], "the grant of the one is the grant that was ended");
    assert_eq!(all[0]["network"], "127.0.0.…");
    assert!(lines(&world, &["--since", "2100-01-01"]).is_empty());
    assert_eq!(lines(&world, &["--since", "2020-01-01"]).len(), all.len());
    let log = world.server.logs();
    let logged = |line: &&String| line.contains(r#""target":"audit""#);
    assert_eq!(log.iter().filter(logged).count(), 6, "all but the command's");
    world.restart().await;
    assert_eq!(lines(&world, &[]), all);
}

async fn with_enedis_own_tokens_too(store: Store) {
    let world = World::start(store).await;
    let device = world.device().await;
    world.enedis.script(Endpoint::Token, [Fault::oauth_error("invalid_grant")]);
    let owner = Person::new();
    for status in [502, 200] {
        assert_eq!(owner.link(device.code().link(), Choice::Allow).await.unwrap().status, status);
    }
    // "No, this is not me", and once more.
    let other = world.device().await;
    let person = Person::new();
    let shown = person.open(other.code().link()).await.unwrap();
    for status in [200, 400] {
        assert_eq!(person.click(&shown, "Non").await.unwrap().status, status);
    }
    let all = lines(&world, &[]);
    assert_eq!(words(&all), ["refusal: by Enedis", "grant: tokens given", "refusal: by the owner"]);
    assert_eq!(all[0]["id"], all[1]["id"]);
    assert_eq!(all[1]["meters"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_cannot_be_written_fails_nothing() {
    let world = World::start(Store::Sqlite).await;
    let file = world.builder.data_path().join("audit.sqlite");
    let intruder = rusqlite::Connection::open(&file).unwrap();
    intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let device = world.device().await;
    world.link(&device).await;
    assert_eq!(world.metric("dfp_audit_unwritten").await, Some(1.0));
    intruder.execute_batch("ROLLBACK").unwrap();
    eventually("the line is written", async || Some(lines(&world, &[])).filter(|all| all.len() == 1)).await;
}
