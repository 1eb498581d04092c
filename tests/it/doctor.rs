//! `doctor`, with what it looks at well and broken.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use testkit::enedis::{Endpoint, Fault, GeneratedMeters, Meters, Options};
use testkit::server::Builder;

use crate::deploy::{Front, NGINX};
use crate::fixture::{PATIENCE, Plan, Store, World};
use crate::journey::on_both_stores;

/// What `doctor --json` finds, and its exit status.
fn doctor(builder: &Builder, more: &[&str]) -> (Option<i32>, Value) {
    let ran = builder.run(["doctor", "--json"].iter().chain(more)).unwrap();
    let Output { status, stdout, stderr } = &ran;
    let found = serde_json::from_slice(stdout);
    (status.code(), found.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(stderr))))
}

/// State, what was found and how to mend it, of each that has this name.
fn of<'a>(found: &'a Value, check: &str) -> Vec<[&'a str; 3]> {
    let checks = found["checks"].as_array().unwrap().iter().filter(|one| one["name"] == check);
    checks.map(|one| ["state", "found", "mend"].map(|name| one[name].as_str().unwrap_or_default())).collect()
}

/// The names of what is wrong.
fn wrong(found: &Value) -> Vec<&str> {
    let checks = found["checks"].as_array().unwrap().iter().filter(|one| one["state"] == "failed");
    checks.map(|one| one["name"].as_str().unwrap()).collect()
}

/// That one thing is wrong, which says `text` and how to mend it by `mend`.
#[track_caller]
fn finds((status, found): &(Option<i32>, Value), check: &str, text: &str, mend: &str) {
    assert_eq!((*status, wrong(found)), (Some(1), vec![check]), "{found:#}");
    let all = of(found, check);
    let [_, says, how] = all.iter().find(|one| one[0] == "failed").unwrap();
    assert!(says.contains(text) && how.contains(mend), "{found:#}");
}

on_both_stores!(all_is_well_while_a_server_runs_and_while_none_does);

async fn all_is_well_while_a_server_runs_and_while_none_does(store: Store) {
    // Each consent is of another household.
    let options = Options { meters: Meters::Generated(GeneratedMeters::consumers(9)), ..Options::default() };
    let world = Plan::metering(store, options, 2).await.start().await;
    let device = world.device().await;
    world.link(&device).await;
    let (status, found) = doctor(&world.builder, &[]);
    assert_eq!((status, wrong(&found)), (Some(0), Vec::new()), "{found:#}");
    assert!(of(&found, "server")[0][1].contains("is ready"), "{found:#}");
    assert!(of(&found, "store")[0][1].contains("takes writes"), "{found:#}");
    assert_eq!(of(&found, "key")[0][1], "opens what is stored");
    assert!(of(&found, "clock")[0][1].contains("of Enedis'"), "{found:#}");
    assert!(of(&found, "BASE_URL")[0][1].contains("no reverse proxy"), "{found:#}");
    // Nothing was changed: who waits goes on waiting, and the store is as it was.
    let other = world.device().await;
    doctor(&world.builder, &[]);
    world.link(&other).await;
    world.server.end(PATIENCE).await.unwrap();
    let (status, found) = doctor(&world.builder, &[]);
    assert_eq!((status, wrong(&found)), (Some(0), Vec::new()), "{found:#}");
    assert!(of(&found, "server")[0][1].contains("does not run"), "{found:#}");
    assert!(of(&found, "BASE_URL")[0][1].contains("no reverse proxy"), "{found:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_first_start_it_makes_nothing() {
    let plan = Plan::new(Store::Sqlite).await;
    let dir = plan.builder().data_path().join("not/yet");
    let builder = plan.builder().clone().data_dir(&dir);
    let (status, found) = doctor(&builder, &[]);
    assert_eq!((status, wrong(&found)), (Some(0), Vec::new()), "{found:#}");
    assert!(of(&found, "DATA_DIR")[0][1].contains("can be made"), "{found:#}");
    assert!(!dir.exists());
    let told = builder.run(["doctor"]).unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("ok       configuration") && told.ends_with("nothing is wrong\n"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_cannot_be_used() {
    let plan = Plan::new(Store::Sqlite).await.env("LISTEN", "nowhere").env("PKCE", "perhaps");
    let (status, found) = doctor(plan.builder(), &[]);
    assert_eq!(status, Some(64));
    assert_eq!(wrong(&found), ["configuration"; 2], "{found:#}");
    assert!(of(&found, "configuration").iter().any(|one| one[1].contains("LISTEN")), "{found:#}");
    let odd = plan.builder().clone().env("LISTEN", "127.0.0.1:1").env("PKCE", "");
    assert_eq!(odd.run(["doctor", "--ca", "/nowhere"]).unwrap().status.code(), Some(64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enedis_down() {
    let world = World::start(Store::Sqlite).await;
    let World { enedis, builder, server: _server, .. } = world;
    enedis.set_outage(Endpoint::Authorize, Some(Fault::unavailable()));
    enedis.set_outage(Endpoint::Token, Some(Fault::unavailable()));
    let (status, found) = doctor(&builder, &[]);
    assert_eq!(status, Some(0), "{found:#}");
    drop(enedis);
    finds(&doctor(&builder, &[]), "Enedis", "cannot be reached", "firewall");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_off_by_an_hour() {
    let (machine, plan) = Plan::new(Store::Sqlite).await.on_machine();
    let world = plan.start().await;
    let hour = Duration::from_secs(3_600);
    world.enedis.set_clock_ahead(hour);
    finds(&doctor(&world.builder, &[]), "clock", "s behind Enedis'", "NTP");
    world.enedis.set_clock_ahead(Duration::ZERO);
    machine.step(3_600).unwrap();
    finds(&doctor(&world.builder, &[]), "clock", "s ahead of Enedis'", "NTP");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_certificate_at_enedis() {
    // Of an authority that this program does not know, as a firewall that inspects shows one.
    let other = Front::altered(&NGINX, "", &[]).await;
    let url = other.world.url("");
    let world = Plan::new(Store::Sqlite).await.env("TOKEN_ENDPOINT", &url).start().await;
    finds(&doctor(&world.builder, &[]), "Enedis' TLS", "of no authority that is trusted", "inspects TLS");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_dir_that_is_read_only() {
    let world = World::start(Store::Sqlite).await;
    world.server.end(PATIENCE).await.unwrap();
    let dir = world.builder.data_path().to_owned();
    let builder = if rustix::process::geteuid().is_root() {
        // Rights do not stop this user: the file system is read-only for this one process.
        let path = dir.to_str().unwrap();
        let mount = format!("mount --bind {path} {path} && mount -o remount,ro,bind {path}");
        let inside = format!(r#"exec unshare --mount sh -c '{mount} && exec "$0" "$@"' "$0" "$@""#);
        world.builder.clone().before(&inside)
    } else {
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o500)).unwrap();
        world.builder.clone()
    };
    let found = doctor(&builder, &[]);
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mend = if rustix::process::geteuid().is_root() { "mount it for writing" } else { "chown it" };
    finds(&found, "DATA_DIR", "cannot be written to", mend);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_key_and_a_newer_layout() {
    let world = Plan::new(Store::Sqlite).await.env("SECRET_KEY", &"a1".repeat(32)).start().await;
    world.server.end(PATIENCE).await.unwrap();
    let other = world.builder.clone().env("SECRET_KEY", "b2".repeat(32));
    finds(&doctor(&other, &[]), "key", "sealed under another key", "SECRET_KEYS_OLD");
    let file = rusqlite::Connection::open(world.builder.data_path().join("sessions.sqlite")).unwrap();
    file.pragma_update(None, "user_version", 99).unwrap();
    finds(&doctor(&world.builder, &[]), "store", "written by a newer version", "run the newer version");
    // Nor is what it cannot read changed.
    assert_eq!(file.pragma_query_value(None, "user_version", |row| row.get(0)), Ok(99));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mongodb_that_does_not_answer() {
    let world = World::start(Store::Sqlite).await;
    let port = testkit::net::free_port().unwrap();
    let uri = format!("mongodb://127.0.0.1:{port}/x?serverSelectionTimeoutMS=500&connectTimeoutMS=500");
    let (status, found) = doctor(&world.builder.clone().env("MONGODB_URI", uri), &[]);
    assert_eq!((status, wrong(&found)), (Some(1), vec!["store"]), "{found:#}");
    assert!(of(&found, "store")[0][2].contains("start MongoDB"), "{found:#}");
}

/// What it finds behind nginx, altered so.
async fn behind(altered: &[(&str, &str)], more: &[&str]) -> ((Option<i32>, Value), Front) {
    let front = Front::altered(&NGINX, "/linky", altered).await;
    let ca = ["--ca", front.certificate.to_str().unwrap()];
    (doctor(&front.world.builder, &[&ca, more].concat()), front)
}

const SHORT: [&str; 2] = ["--idle-secs", "2"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reverse_proxy_as_the_example_has_it() {
    let ((status, found), front) = behind(&[], &SHORT).await;
    assert_eq!((status, wrong(&found)), (Some(0), Vec::new()), "{found:#}");
    assert!(of(&found, "BASE_URL")[0][1].contains("through a reverse proxy at 127.0.0.1"), "{found:#}");
    assert!(of(&found, "X-Forwarded-For")[0][1].contains("this is 127.0.0.1"), "{found:#}");
    assert_eq!(of(&found, "idle time")[0][0], "skipped", "two seconds tell nothing");
    // An authority that nobody knows.
    let strangers = doctor(&front.world.builder, &SHORT);
    finds(&strangers, "TLS", "of no authority", "--ca");
    let listed = front.world.builder.clone().env("TRUSTED_PROXIES", "10.0.0.1");
    front.world.server.end(PATIENCE).await.unwrap();
    // It stands in for the server behind the same proxy.
    let ca = ["--ca", front.certificate.to_str().unwrap()];
    let alone = doctor(&listed, &[ca, SHORT].concat());
    finds(&alone, "TRUSTED_PROXIES", "127.0.0.1 is not in it", "TRUSTED_PROXIES=10.0.0.1/32,127.0.0.1");
    let elsewhere = listed.port(testkit::net::free_port().unwrap()).env("BASE_URL", front.world.url(""));
    let elsewhere = doctor(&elsewhere, &[ca, SHORT].concat());
    finds(&elsewhere, "BASE_URL", "it does not reach the server", "LISTEN");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reverse_proxy_that_drops_who_is_at_the_other_end() {
    const SET: &str = "X-Forwarded-For $proxy_add_x_forwarded_for";
    let (found, _front) = behind(&[(SET, "X-Forwarded-For \"\"")], &SHORT).await;
    finds(&found, "X-Forwarded-For", "drops it", "proxy_set_header X-Forwarded-For");
    let (found, _front) = behind(&[(SET, "X-Forwarded-For $http_x_forwarded_for")], &SHORT).await;
    finds(&found, "X-Forwarded-For", "passes on what a client writes", "proxy_set_header X-Forwarded-For");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reverse_proxy_that_closes_idle_connections_after_ten_seconds() {
    let (found, _front) = behind(&[("90s", "10s")], &[]).await;
    finds(&found, "idle time", "is closed after", "keepalive_timeout 90s");
}

/// The whole wait: `cargo test --test it doctor -- --ignored`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes 76 seconds"]
async fn an_idle_connection_that_lives_long_enough() {
    let ((status, found), _front) = behind(&[], &[]).await;
    assert_eq!((status, of(&found, "idle time")[0][0]), (Some(0), "good"), "{found:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_operator_is_told_what_came_through() {
    let world = World::start(Store::Sqlite).await;
    let ask = async |authorization: &str| {
        let request = testkit::http::client().get(world.url("/health/seen"));
        request.header("authorization", authorization).send().await.unwrap().status().as_u16()
    };
    for stranger in ["", "Bearer ", "Bearer 00", &format!("Bearer {}", "0".repeat(64))] {
        assert_eq!(ask(stranger).await, 404, "{stranger}");
    }
}
