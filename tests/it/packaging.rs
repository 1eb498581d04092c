//! What `deploy/` has besides proxies: the unit of systemd, the container file, the composition of containers.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Command;

use device_flow_proxy::config::{Config, EnvSource, StoreConfig};
use yaml_rust2::{Yaml, YamlLoader};

use crate::fixture::{Store, World};
use crate::settings;

const SERVICE: &str = include_str!("../../deploy/device-flow-proxy.service");
const SOCKET: &str = include_str!("../../deploy/device-flow-proxy.socket");
const CONTAINER: &str = include_str!("../../deploy/Containerfile");
const COMPOSE: &str = include_str!("../../deploy/compose.yaml");

/// The configuration that these settings make, with secrets in `/secrets`. Each has to be one that there is.
fn read<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Config {
    let secrets = tempfile::tempdir().unwrap();
    for name in ["client_secret", "secret_key"] {
        std::fs::write(secrets.path().join(name), "0".repeat(64)).unwrap();
    }
    let known: Vec<_> = settings::settings().into_iter().map(|(name, _)| name).collect();
    let secrets = secrets.path().to_str().unwrap();
    let source: EnvSource = pairs
        .into_iter()
        .inspect(|(name, _)| assert!(known.iter().any(|known| known == name), "no setting is {name}"))
        .map(|(name, value)| (name, value.replace("/secrets", secrets)))
        .collect();
    Config::read(&source).unwrap_or_else(|error| panic!("{error}"))
}

fn pairs<'a>(words: impl IntoIterator<Item = &'a str>) -> BTreeMap<&'a str, &'a str> {
    words.into_iter().map(|word| word.split_once('=').unwrap()).collect()
}

#[test]
fn the_unit_sets_what_there_is() {
    let lines = SERVICE.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix("Environment="));
    let text: Vec<_> = lines.map(|line| line.replace("%S", "/var/lib").replace("%d", "/secrets")).collect();
    let config = read(pairs(text.iter().flat_map(|line| line.split(' '))));
    assert_eq!(config.storage.data_dir.to_str(), Some("/var/lib/device-flow-proxy"));
    assert!(config.enedis.client.client_secret.is_some() && config.storage.secret_key.is_some());
    let listens = SOCKET.lines().find_map(|line| line.strip_prefix("ListenStream="));
    assert_eq!(listens, Some(config.server.listen.to_string().as_str()));
    let patience = SERVICE.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
    let patience: u64 = patience.parse().unwrap();
    assert!(patience > (config.server.shutdown_delay + config.server.shutdown).as_secs());
}

#[test]
fn the_unit_is_hardened() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/device-flow-proxy.service");
    let mut command = Command::new("systemd-analyze");
    let Ok(output) = command.args(["security", "--no-pager", "--offline=true", unit]).output() else {
        // Past the test runner, which hides what a test that passes writes.
        writeln!(std::io::stderr(), "NOT RUN: there is no systemd-analyze").unwrap();
        return;
    };
    let told = String::from_utf8_lossy(&output.stdout);
    let level = told.split("Overall exposure level").nth(1).unwrap_or_else(|| panic!("{told}"));
    let exposure: f64 = level.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    assert!(exposure <= 2.0, "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_container_asks_for_its_health_as_the_program_has_it() {
    let line = |word: &str| CONTAINER.lines().find_map(|line| line.strip_prefix(word)).unwrap();
    let config = read(pairs(line("ENV ").split(' ')));
    assert!(config.server.listen.ip().is_unspecified(), "others reach it");
    assert_eq!(line("VOLUME "), config.storage.data_dir.to_str().unwrap());
    let check = line("HEALTHCHECK ").split_once("CMD ").unwrap().1;
    let check: Vec<String> = serde_json::from_str(check).unwrap();
    assert_eq!(line("ENTRYPOINT "), serde_json::to_string(&check[..1]).unwrap());
    let world = World::start(Store::Sqlite).await;
    assert!(world.builder.run(&check[1..]).unwrap().status.success());
}

#[test]
fn the_composition_is_one_set_of_three_members_and_good_settings() {
    let parsed = YamlLoader::load_from_str(COMPOSE).unwrap();
    let file = &parsed[0];
    let environment = file["x-server"]["environment"].as_hash().unwrap();
    let environment =
        environment.iter().map(|(name, value)| (name.as_str().unwrap(), value.as_str().unwrap()));
    let environment: Vec<_> = environment.map(|(name, value)| (name, value.replace("/run/", "/"))).collect();
    let config = read(environment.iter().map(|(name, value)| (*name, value.as_str())));
    let StoreConfig::Mongo { uri, .. } = &config.storage.store else { panic!("not MongoDB") };
    let hosts = uri.trim_start_matches("mongodb://").split('/').next().unwrap();
    let services = file["services"].as_hash().unwrap();
    let founded = file["services"]["mongo1"]["healthcheck"]["test"][4].as_str().unwrap();
    for host in hosts.split(',') {
        assert!(
            services.contains_key(&Yaml::from_str(host)) && founded.contains(&format!("\"{host}\"")),
            "{host}"
        );
    }
    assert_eq!(hosts.split(',').count(), 3);
    let secrets = file["secrets"].as_hash().unwrap();
    for secret in file["x-server"]["secrets"].as_vec().unwrap() {
        let named = format!("/secrets/{}", secret.as_str().unwrap());
        assert!(
            secrets.contains_key(secret) && environment.iter().any(|(_, value)| *value == named),
            "{named}"
        );
    }
}
