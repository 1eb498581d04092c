//! What the settings accept, what they refuse, and what a refusal says.

use std::sync::Arc;

use actors::base::clock::Timestamp;
use actors::metering::api_choice::ApiMode;

use super::*;

fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::read(&pairs.iter().copied().collect())
}

fn mongo(pairs: &[(&str, &str)]) -> String {
    match read(pairs).unwrap_or_else(|e| panic!("{e}")).storage.store {
        StoreConfig::Mongo { uri, .. } => uri,
        StoreConfig::Embedded => panic!("embedded"),
    }
}

#[test]
fn an_empty_environment_is_enough() {
    let config = read(&[]).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.base_url, "http://localhost:8080");
    assert_eq!(config.devices.interval, Duration::from_secs(5));
    assert_eq!(config.enedis.upstream.duration.as_deref(), Some("P3Y"));
    assert_eq!(config.storage.store, StoreConfig::Embedded);
    assert!(config.enedis.allowed_clients.is_empty());
    assert_eq!(config.server.admin_listen.unwrap().port(), 9464);
}

#[test]
fn every_fault_is_reported_and_no_value_is_echoed() {
    let bad = [
        ("LISTEN", "nowhere-q"),
        ("ADMIN_LISTEN", "perhaps-q"),
        ("BASE_URL", "ftp://q"),
        ("TLS_CERT", "/nowhere-q"),
        ("TLS_KEY", "/nowhere-q"),
        ("REDIRECT_LISTEN", "there-q"),
        ("FLOW", "WATER-q"),
        ("AUTHORIZATION_ENDPOINT", "q"),
        ("TOKEN_ENDPOINT", "q"),
        ("TOKEN_ENDPOINT_V3", "q"),
        ("DATA_ENDPOINT", "q"),
        ("ENEDIS_API_MODE", "both-q"),
        ("METER_CACHE_MAX_MB", "0"),
        ("PREFETCH", "daily-q"),
        ("DISABLE_DATA_ENDPOINT_AUTH", "oui-q"),
        ("DISABLE_DATA_ENPOINT_AUTH", "oui-q"),
        ("CLOCK_OFFSET_SECS", "-1"),
        ("TOKEN_ENDPOINT_AUTH_METHOD", "magic-q"),
        ("REDIRECT_URI", "q"),
        ("REDIRECT_URI_IN_AUTHORIZE", "si-q"),
        ("DURATION", "3 years-q"),
        ("PKCE", "maybe-q"),
        ("LIMIT_REQUESTS_PER_MINUTE", "0"),
        ("CODE_LIFETIME_SECS", "-1"),
        ("CONSENT_WINDOW_SECS", "x-q"),
        ("TOKEN_REDELIVERY_SECS", "1e9"),
        ("VERSION_MIN", "new-q"),
        ("DEVICE_CODES_PER_MINUTE_PER_IP", "q"),
        ("MAX_PENDING_SESSIONS", "0"),
        ("CONTACT", "somebody-q"),
        ("LEGAL_NOTICE_URL", "q"),
        ("CLIENT_NAMES", "a=b,c-q"),
        ("MAX_CONNECTIONS_PER_IP", "many-q"),
        ("TRUSTED_PROXIES", "10.0.0.0/99-q"),
        ("MONGODB_URI", "postgres://hidden-q"),
        ("SECRET_KEY", "short-q"),
        ("ENEDIS_CALLS_PER_SECOND", "0"),
        ("ENEDIS_CALLS_PER_HOUR", "q"),
        ("ENEDIS_IN_FLIGHT", "0"),
        ("ENEDIS_TIMEOUT_SECS", "0"),
        ("ENEDIS_DEADLINE_SECS", "q"),
        ("WORKERS", "0"),
        ("SHARDS", "65"),
        ("WRITE_BATCH_MAX", "0"),
        ("MONGODB_POOL_SIZE", "0"),
        ("SHUTDOWN_SECS", "0"),
        ("SHUTDOWN_DELAY_SECS", "301"),
        ("RUST_LOG", "a=b=c-q"),
        ("LOG_FORMAT", "xml-q"),
        ("DB_TYPE", "oracle-q"),
    ];
    let text = read(&bad).err().unwrap().to_string();
    for (name, _) in bad {
        assert!(text.contains(&format!("\n  {name}: expected ")), "{name} is missing in {text}");
    }
    for value in ["-q", "hidden", "nowhere"] {
        assert!(!text.contains(value), "{value} is echoed in {text}");
    }
}

#[test]
fn a_secret_may_stand_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let key = file("key", format!("{}\r\n", "ab".repeat(32)).as_bytes());
    let (secret, uri) = (file("secret", b"two words\n"), file("uri", b"mongodb+srv://u:p@db.example/x"));
    let files = [("SECRET_KEY_FILE", &*key), ("CLIENT_SECRET_FILE", &secret), ("MONGODB_URI_FILE", &uri)];
    let config = read(&files).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.storage.secret_key, Some([0xab; 32].into()));
    assert_eq!(config.enedis.client.client_secret, Some("two words".to_owned().into()));
    assert_eq!(mongo(&files), "mongodb+srv://u:p@db.example/x");

    // An address that needs a key, and a flow that needs a client: what is missing because of the file is told once.
    let remote = [
        ("MONGODB_URI", "mongodb://db.example/x"),
        ("FLOW", "CLIENT_CREDENTIALS"),
        ("CLIENT_ID", "a"),
        ("CLIENT_SECRET", "b"),
    ];
    let missing = dir.path().join("missing-q").to_str().unwrap().to_owned();
    let large = file("large", &vec![b'q'; (64 << 10) + 1]);
    for (path, expected) in [
        (missing, "a file that can be read (entity not found)"),
        (dir.path().to_str().unwrap().to_owned(), "a file that can be read (is a directory)"),
        (file("empty", b" \n"), "a file that holds the value, as text"),
        (file("binary", b"\xff-q"), "a file that holds the value, as text"),
        (large, "a file of at most 64 KiB"),
        (file("malformed", b"hidden-q"), "64 hex digits (openssl rand -hex 32)"),
    ] {
        let mut settings = remote.to_vec();
        settings.push(("SECRET_KEY_FILE", &path));
        let faults = read(&settings).err().unwrap();
        let expected = Fault { name: "SECRET_KEY_FILE", expected: expected.to_owned() };
        assert_eq!(faults, ConfigErrors(vec![expected]));
        settings.extend([("SECRET_KEY", "hidden-q"), ("CLIENT_SECRET_FILE", &path)]);
        let told = read(&settings).err().unwrap().to_string();
        for told_once in [
            "\n  SECRET_KEY: expected 64 hex digits",
            "\n  SECRET_KEY_FILE: expected nothing, since SECRET_KEY is set",
            "\n  CLIENT_SECRET_FILE: expected nothing, since CLIENT_SECRET is set",
        ] {
            assert_eq!(told.matches(told_once).count(), 1, "{told}");
        }
        assert!(!told.contains("-q") && !told.contains(&path), "{told}");
    }
    let own = [("FLOW", "CLIENT_CREDENTIALS"), ("CLIENT_ID", "a"), ("CLIENT_SECRET_FILE", "/nowhere")];
    assert_eq!(read(&own).err().unwrap().0.len(), 1);
}

#[test]
fn client_credentials_need_an_application_and_have_their_own_endpoints() {
    let told = read(&[("FLOW", "CLIENT_CREDENTIALS")]).err().unwrap().to_string();
    assert!(told.contains("CLIENT_ID:") && told.contains("CLIENT_SECRET:"), "{told}");
    let flow = [
        ("FLOW", "client_credentials"),
        ("CLIENT_ID", "a"),
        ("CLIENT_SECRET", "b"),
        ("TOKEN_ENDPOINT", "http://127.0.0.1:1/v1"),
        ("TOKEN_ENDPOINT_V3", "http://127.0.0.1:1/v3"),
        ("DISABLE_DATA_ENPOINT_AUTH", "1"),
        ("DURATION", "P1Y6M"),
        ("ENEDIS_API_MODE", "New"),
    ];
    let config = read(&flow).unwrap();
    assert_eq!(config.enedis.upstream.token.path(), "/v3");
    assert_eq!(config.enedis.upstream.auth_method, AuthMethod::Basic);
    let Flow::ClientCredentials(metering) = config.enedis.flow else { panic!("the other flow") };
    assert!(metering.open_to_all);
    assert_eq!(metering.consent_life, Duration::from_secs((365 + 180) * 86_400));
    assert_eq!(metering.relay.mode, ApiMode::New);
    assert_eq!(metering.data.as_str(), "https://gw.ext.prod.api.enedis.fr/");
}

#[test]
fn the_clock_is_moved_in_rehearsals_only() {
    let offset = ("CLOCK_OFFSET_SECS", "86400");
    assert!(read(&[offset]).err().unwrap().to_string().contains("CLOCK_OFFSET_SECS"));
    let mut simulated = vec![
        offset,
        ("AUTHORIZATION_ENDPOINT", "http://localhost:1/a"),
        ("TOKEN_ENDPOINT", "http://127.0.0.1:1/t"),
        ("DATA_ENDPOINT", "http://[::1]:1"),
    ];
    assert_eq!(read(&simulated).unwrap().clock_offset, Duration::from_secs(86_400));
    simulated[3].1 = "http://192.168.1.1";
    assert!(read(&simulated).is_err());
}

#[test]
fn the_originals_mongodb_settings_work_unchanged() {
    let uri = mongo(&[
        ("MONGODB_ADDRESS", "localhost"),
        ("MONGODB_PORT", "27018"),
        ("MONGODB_USER", "linky"),
        ("MONGODB_PASSWORD", "p@ss/word"),
        ("MONGODB_DB", "flow"),
    ]);
    assert_eq!(uri, "mongodb://linky:p%40ss%2Fword@localhost:27018/flow");
    assert!(read(&[("MONGODB_ADDRESS", "127.0.0.1:27017")]).is_err());
    assert_eq!(mongo(&[("MONGODB_ADDRESS", "127.0.0.1")]), "mongodb://127.0.0.1:27017/");
    let later = [("DB_TYPE", "mongodb"), ("DB_ADDRESS", "localhost"), ("DB_NAME", "x")];
    assert_eq!(mongo(&later), "mongodb://localhost:27017/x");
    // Without DB_TYPE the later original meant PostgreSQL.
    assert_eq!(read(&[("DB_ADDRESS", "db"), ("DB_TYPE", "")]).unwrap().storage.store, StoreConfig::Embedded);
}

#[test]
fn a_remote_mongodb_needs_a_key() {
    for (uri, needed) in [
        ("mongodb://localhost/x", false),
        ("mongodb://u:p@127.0.0.1:27017,[::1]:27018/x?w=1", false),
        ("mongodb://127.0.0.1,db.example/x", true),
        ("mongodb+srv://cluster.example/x", true),
    ] {
        let refused = read(&[("MONGODB_URI", uri)]).err().map(|e| e.0);
        assert_eq!(refused.is_some(), needed, "{uri}");
        let key = "0f".repeat(32);
        assert!(read(&[("MONGODB_URI", uri), ("SECRET_KEY", &key)]).is_ok(), "{uri}");
    }
}

#[test]
fn clients_and_durations() {
    let config = read(&[("CLIENT_ID", "a"), ("ALLOWED_CLIENT_IDS", "b, a")]).unwrap();
    assert_eq!(config.enedis.allowed_clients, [Arc::from("b"), Arc::from("a")]);
    assert_eq!(read(&[("DURATION", "")]).unwrap().enedis.upstream.duration, None);
    for good in ["P1095D", "P36M", "P1Y6M", "P2W"] {
        assert!(read(&[("DURATION", good)]).is_ok(), "{good}");
    }
    for bad in ["P", "3Y", "PY", "P3", "PT5M", "P3Y;drop", "P4Y", "P9999Y", "P1YY", "P1D1Y", "P0D", "P1097D"]
    {
        assert!(read(&[("DURATION", bad)]).is_err(), "{bad}");
    }
    assert_eq!(read(&[("LIMIT_REQUESTS_PER_MINUTE", "7")]).unwrap().devices.interval, Duration::from_secs(9));
}

#[test]
fn other_machines_need_a_password_of_the_operator() {
    for (listen, password, good) in [
        ("127.0.0.1:9464", "", true),
        ("off", "", true),
        ("0.0.0.0:9464", "", false),
        ("[::]:9464", "eleven-char", false),
        ("127.0.0.1:9464", "eleven-char", false),
        ("192.0.2.1:9464", "twelve-chars", true),
    ] {
        let read = read(&[("ADMIN_LISTEN", listen), ("ADMIN_PASSWORD", password)]);
        let faults = read.map_err(|errors| errors.0.iter().map(|fault| fault.name).collect::<Vec<_>>()).err();
        assert_eq!(faults, (!good).then(|| vec!["ADMIN_PASSWORD"]), "{listen} {password}");
    }
}

#[test]
fn what_is_dangerous_is_told() {
    let names = |pairs: &[(&str, &str)]| -> Vec<_> {
        read(pairs)
            .unwrap_or_else(|e| panic!("{e}"))
            .warnings(Timestamp::from_millis(0))
            .iter()
            .map(|it| it.name)
            .collect()
    };
    assert_eq!(names(&[]), Vec::<&str>::new());
    let key = ("SECRET_KEY", "11".repeat(32));
    let own = [("FLOW", "CLIENT_CREDENTIALS"), ("CLIENT_ID", "a"), ("CLIENT_SECRET", "b")];
    assert_eq!(names(&own), Vec::<&str>::new(), "the v2 page is the default");
    for (name, value, dangerous) in [
        ("BASE_URL", "http://flow.example", true),
        ("BASE_URL", "https://flow.example", false),
        ("ADMIN_LISTEN", "0.0.0.0:9464", true),
        ("AUTHORIZATION_ENDPOINT", "https://enedis.example/dataconnect/v1/oauth2/authorize", true),
        ("DEVICE_CODES_PER_MINUTE_PER_IP", "0", true),
        ("MONGODB_URI", "mongodb://db.example/x", true),
        ("MONGODB_URI", "mongodb://db.example/x?TLS=true", false),
        ("MONGODB_URI", "mongodb+srv://db.example/x", false),
        ("MONGODB_URI", "mongodb://127.0.0.1/x", false),
        ("DISABLE_DATA_ENDPOINT_AUTH", "true", true),
    ] {
        let mut pairs = own.to_vec();
        pairs.push(("ADMIN_PASSWORD", "twelve letters"));
        pairs.extend([("SECRET_KEY", key.1.as_str()), (name, value)]);
        assert_eq!(names(&pairs), if dangerous { vec![name] } else { vec![] }, "{name}={value}");
    }
}
