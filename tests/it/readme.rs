//! The README, taken at its word: every command in it is run, every answer it shows is compared with a real one, and
//! its settings table names every setting.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::process::Command;

use clap::Parser as _;
use serde_json::Value;
use testkit::demo;
use testkit::enedis::Options;
use testkit::person::{Choice, Person};

use crate::fixture::{BINARY, CLIENT, Plan, SECRET, Store, World};
use crate::journey::on_both_stores;

const README: &str = include_str!("../../README.md");
const DEVICE_CODE: &str = "5cb3a6029c967a7b04f642a5b92b5cca237ec19d41853f55dcce98a4d2aa528f";
const REFRESH_TOKEN: &str = "QcMhancv1wPyi8uwnkzcTNyd397oC7K0La8otPcssYMpXT";

on_both_stores!(the_curl_session);

/// The fenced blocks of one language, in order.
fn blocks(language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    README.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// The commands of all shell blocks, one a line.
fn commands() -> Vec<String> {
    let joined = blocks("sh").join("").replace("\\\n", " ");
    joined.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn curls() -> Vec<String> {
    commands().into_iter().filter(|command| command.starts_with("curl ")).collect()
}

/// Runs one curl command of the README against `world` and returns its JSON.
fn run(command: &str, world: &World, device_code: &str, refresh_token: &str) -> Value {
    let command = command
        .replace("http://localhost:8080", world.server.base_url())
        .replace("client_id=1234567890", &format!("client_id={CLIENT}"))
        .replace("12345678-1234-1234-1234-1234567890ab", SECRET)
        .replace(DEVICE_CODE, device_code)
        .replace(REFRESH_TOKEN, refresh_token)
        .replacen("curl ", "curl --silent --show-error ", 1);
    let output = Command::new("bash").arg("-c").arg(&command).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn members(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

async fn the_curl_session(store: Store) {
    let world = Plan::new(store).await.env("LIMIT_REQUESTS_PER_MINUTE", "12").start().await;
    let shown: Vec<Value> = blocks("json").iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let [codes_shown, pending_shown, token_shown] = &shown[..] else { panic!("{shown:?}") };
    let [ask, ask_with_secret, poll, refresh] = &curls()[..] else { panic!("{:?}", curls()) };

    assert_eq!(members(&run(ask_with_secret, &world, "", "")), members(codes_shown));
    let codes = run(ask, &world, "", "");
    assert_eq!(members(&codes), members(codes_shown));
    for constant in ["expires_in", "interval"] {
        assert_eq!(codes[constant], codes_shown[constant]);
    }
    let device_code = codes["device_code"].as_str().unwrap();
    assert_eq!(run(poll, &world, device_code, ""), *pending_shown);

    let link = codes["verification_uri_complete"].as_str().unwrap();
    let page = Person::new().link(link, Choice::Allow).await.unwrap();
    assert_eq!(page.status, 200);
    let token = run(poll, &world, device_code, "");
    for member in members(token_shown) {
        assert!(
            token.get(member).is_some_and(|m| m.is_string() == token_shown[member].is_string()),
            "{member}: {token}"
        );
    }
    let refreshed = run(refresh, &world, "", token["refresh_token"].as_str().unwrap());
    assert_ne!(refreshed["access_token"], token["access_token"]);
}

/// What Cargo builds for a command is built for the tests already; `.ci/run` builds it as the command does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_the_readme_is_run() {
    let known = BTreeSet::from([
        "cargo demo",
        // Runs this very test.
        "tests/run",
        "cp .env.example .env",
        "cargo run -- check-config",
        "cargo run",
    ]);
    let there: Vec<_> = commands().into_iter().filter(|command| !command.starts_with("curl ")).collect();
    assert_eq!(there.iter().map(String::as_str).collect::<BTreeSet<_>>(), known);

    let told = RefCell::new(String::new());
    let arguments = demo::Arguments::try_parse_from(["demo", "--auto"]).unwrap();
    demo::run(&arguments, BINARY.into(), &|text| told.borrow_mut().push_str(&text)).await.unwrap();
    assert!(told.borrow().contains("\"usage_point_id\""), "{told:?}");

    // The rest, in a directory of its own.
    let plan = Plan::new(Store::Sqlite).await;
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/.env.example");
    std::fs::copy(example, plan.builder().cwd_path().join(".env")).unwrap();
    let check = plan.builder().run(["check-config"]).unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    let world = plan.start().await;
    world.client(CLIENT).request_code(&[]).await.unwrap();
}

#[test]
fn the_settings_table_is_complete() {
    let table = README.split("## Settings").nth(1).unwrap();
    let named: BTreeSet<_> = table.split('`').skip(1).step_by(2).collect();
    let documented = include_str!("../../.env.example")
        .lines()
        .filter_map(|line| line.strip_prefix('#')?.split_once('='))
        .filter(|(name, _)| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
    for (name, default) in documented {
        assert!(named.contains(name), "{name} is missing");
        let shown = default.is_empty()
            || default.starts_with("https://")
            || named.iter().any(|n| n.contains(default));
        assert!(shown, "{name}={default}: another default, or none");
    }
}

/// Every metric that the tuning guide, the alerts and the dashboard name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_that_is_named_is_there() {
    let files = [
        include_str!("../../docs/tuning.md"),
        include_str!("../../deploy/prometheus/rules.yml"),
        include_str!("../../deploy/grafana/device-flow-proxy.json"),
    ];
    let words =
        files.into_iter().flat_map(|file| file.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    let named: BTreeSet<&str> = words
        .filter(|word| word.starts_with("dfp_") || word.starts_with("process_"))
        .filter(|word| !word.ends_with('_'))
        .collect();
    assert!(named.len() > 30, "{named:?}");
    let world = Plan::metering(Store::Sqlite, Options::default(), 2).await.start().await;
    let metrics =
        testkit::http::client().get(format!("{}/metrics", world.server.admin_url())).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for name in named {
        let told = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let is_histogram = metrics.contains(&format!("# TYPE {name} histogram\n"));
        assert!(is_histogram || metrics.lines().any(told), "{name} is not in\n{metrics}");
    }
}
