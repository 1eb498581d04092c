//! `sessions`, beside a server that goes on.

use std::process::Output;

use serde_json::Value;
use testkit::enedis::{GeneratedMeters, Meters, Options};
use testkit::person::{Choice, Person};

use crate::fixture::{PATIENCE, Plan, Store, World};
use crate::journey::on_both_stores;

on_both_stores!(a_session_is_found_shown_and_ended, tokens_that_wait_end_with_their_session);

fn run(world: &World, arguments: &[&str]) -> Output {
    world.builder.run(["sessions"].iter().chain(arguments)).unwrap()
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// One JSON object a line.
fn json(output: Output) -> Vec<Value> {
    text(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// That it is refused with exit status 1.
#[track_caller]
fn refused(world: &World, session: &str, reason: &str) {
    let output = run(world, &["revoke", session]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains(reason), "{said}");
}

async fn a_session_is_found_shown_and_ended(store: Store) {
    let mut world = World::start(store).await;
    let (waiting, opened, linked) = (world.device().await, world.device().await, world.device().await);
    let owner = Person::new();
    let page = owner.open(opened.code().link()).await.unwrap();
    owner.click(&page, "Continuer").await.unwrap();
    world.link(&linked).await;

    let listed = json(run(&world, &["list", "--json"]));
    let mut states: Vec<_> = listed.iter().map(|one| one["state"].as_str().unwrap()).collect();
    states.sort_unstable();
    assert_eq!(states, ["at Enedis", "delivered", "waiting"]);
    assert!(text(run(&world, &["list"])).contains("3 sessions"));
    // By its code, by its id, and in the log and the audit record: one name.
    let shown = json(run(&world, &["show", &linked.code().user_code, "--json"])).remove(0);
    let id = shown["id"].as_str().unwrap();
    assert_eq!(json(run(&world, &["show", id, "--json"]))[0], shown);
    assert_eq!(shown["acts"][0]["act"], "grant", "{shown}");
    assert!(world.server.logs().iter().any(|line| line.contains("\"grant\"") && line.contains(id)));
    let steps = |id: &str| {
        let lines =
            world.server.logs().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        let own = lines.filter(|line| line["target"] == "session" && line["fields"]["session"] == id);
        own.map(|line| line["fields"]["phase"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(steps(id), ["confirmed", "exchanging", "approved", "delivered"]);
    let shown = text(run(&world, &["show", &waiting.code().user_code]));
    assert!(shown.contains("state         waiting") && shown.contains("127.0.0."), "{shown}");

    for device in [&waiting, &opened] {
        assert!(text(run(&world, &["revoke", &device.code().user_code])).contains("access_denied"));
        // The server has it in memory, and hears of it.
        assert_eq!(world.final_answer(device).await.error(), Some("access_denied"));
        refused(&world, &device.code().user_code, "has ended already");
    }
    assert_eq!(Person::new().open_once(waiting.code().link()).await.unwrap().status, 400);
    refused(&world, id, "has its token already");
    refused(&world, "00000000", "no session has this");
    assert_eq!(run(&world, &["show", "nobody"]).status.code(), Some(64));
    world.server.end(PATIENCE).await.unwrap();
    world.restart().await;
    assert_eq!(world.final_answer(&waiting).await.error(), Some("access_denied"));
    let acts = world.builder.run(["audit", "--json"]).unwrap();
    assert_eq!(text(acts).matches("by the operator").count(), 2);
}

async fn tokens_that_wait_end_with_their_session(store: Store) {
    let options = Options { meters: Meters::Generated(GeneratedMeters::consumers(9)), ..Options::default() };
    let world = Plan::metering(store, options, 2).await.start().await;
    let device = world.device().await;
    assert_eq!(world.consent(&device, Choice::Allow).await.status, 200);
    let grants = || text(world.builder.run(["tokens", "list", "--json"]).unwrap()).lines().count();
    assert_eq!(grants(), 1);
    let id = json(run(&world, &["list", "--json"]))[0]["id"].as_str().unwrap().to_owned();
    text(run(&world, &["revoke", &id]));
    assert_eq!(grants(), 0);
    assert_eq!(world.final_answer(&device).await.error(), Some("access_denied"));
}
