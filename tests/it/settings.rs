//! `.env.example` against the code: every variable it names exists, every default it shows is the default, and it
//! names every variable there is.

use std::collections::BTreeSet;
use std::path::Path;

use device_flow_proxy::config::{Config, EnvSource, StoreConfig};

const EXAMPLE: &str = include_str!("../../.env.example");

/// The `#NAME=value` lines.
pub fn settings() -> Vec<(String, String)> {
    EXAMPLE
        .lines()
        .filter_map(|line| line.strip_prefix('#')?.split_once('='))
        .filter(|(name, _)| name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn the_example_as_it_stands_is_a_good_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".env");
    std::fs::write(&path, EXAMPLE).unwrap();
    assert!(EnvSource::load(&path).is_ok());
    // With every default uncommented it is one too, and means the same.
    let shown: EnvSource = settings().into_iter().collect();
    let shown = Config::read(&shown).unwrap_or_else(|error| panic!("{error}"));
    let default = Config::read(&EnvSource::default()).unwrap_or_else(|error| panic!("{error}"));
    assert!(shown == default, "an example shows another default");
}

#[test]
fn the_example_names_every_setting() {
    let named: BTreeSet<_> = settings().into_iter().map(|(name, _)| name).collect();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sections = std::fs::read_dir(src.join("config")).unwrap().map(|file| file.unwrap().path());
    let source: Vec<_> = sections
        .filter(|path| !path.ends_with("tests.rs"))
        .chain([src.join("config.rs")])
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    // Names stand in quotes in the code that reads them.
    let read: BTreeSet<_> = source
        .iter()
        .flat_map(|text| text.split('"').skip(1).step_by(2))
        .filter(|word| {
            word.len() > 3
                && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_' || b.is_ascii_digit())
                && word.bytes().any(|b| b.is_ascii_uppercase())
        })
        .filter(|word| !["DEVICE", "CLIENT_CREDENTIALS", "PYMWD"].contains(word))
        .map(str::to_owned)
        .collect();
    assert_eq!(named, read);
}

/// An `.env` as the original server's users have it, with what its framework adds.
const ORIGINAL: &str = r#"
# In all environments, the following files are loaded if they exist:
###> symfony/framework-bundle ###
APP_ENV=prod
APP_SECRET=0123456789abcdef0123456789abcdef
###< symfony/framework-bundle ###

BASE_URL=http://localhost:8080
REDIRECT_URI=
LIMIT_REQUESTS_PER_MINUTE=12
AUTHORIZATION_ENDPOINT="https://mon-compte-particulier.enedis.fr/dataconnect/v1/oauth2/authorize"
TOKEN_ENDPOINT='https://gw.ext.prod.api.enedis.fr/oauth2/v3/token'
CLIENT_ID=d198fd52-61c0-4b77-8725-06a1ef90da9f
CLIENT_SECRET=12345678-1234-1234-1234-1234567890ab
#PKCE=true
DURATION=P3Y
FLOW=DEVICE
VERSION_MIN=
TRUSTED_PROXIES=127.0.0.1
MONGODB_ADDRESS=127.0.0.1
MONGODB_PORT=27017
MONGODB_USER=proxy
MONGODB_PASSWORD="pa#ss wrd"
MONGODB_DB=deviceflow
"#;

#[test]
fn an_env_file_of_the_original_works_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".env");
    std::fs::write(&path, ORIGINAL).unwrap();
    let source = EnvSource::load(&path).unwrap_or_else(|error| panic!("{error}"));
    let config = Config::read(&source).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.enedis.allowed_clients, [std::sync::Arc::from("d198fd52-61c0-4b77-8725-06a1ef90da9f")]);
    assert!(config.enedis.client.client_secret.is_some());
    let StoreConfig::Mongo { uri, .. } = &config.storage.store else { panic!("{:?}", config.storage.store) };
    assert_eq!(uri, "mongodb://proxy:pa%23ss%20wrd@127.0.0.1:27017/deviceflow");
    assert_eq!(config.server.trusted_proxies.len(), 1);
}
