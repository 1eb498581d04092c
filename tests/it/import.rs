//! `import-php` and `tokens`: the real binary, on what the PHP server leaves in its databases.

use std::ffi::OsStr;
use std::process::Output;

use ::mongodb::bson::{Bson, DateTime, Document, doc};
use ::mongodb::{Client, Database};
use serde_json::Value;
use testkit::server::{Builder, Server};
use testkit::world::Store as Place;
use url::Url;

use crate::fixture::{BINARY, Store};
use crate::journey::on_both_stores;

on_both_stores!(the_php_servers_tokens_are_taken_over);

const METER: &str = "12345678901234";
const METERS: &str = "10284856584123,30001610071843";
/// An hour, in milliseconds.
const HOUR: i64 = 3_600_000;

/// A database of the PHP server, and a command line to import it.
struct World {
    php: Place,
    builder: Builder,
    _own: Place,
}

impl World {
    fn new(store: Store) -> Self {
        let (php, own) = (Store::Mongodb.open(), store.open());
        let builder = own.used_by(Server::builder(BINARY)).env("IMPORT_MONGODB_URI", php.uri().unwrap());
        Self { php, builder, _own: own }
    }

    async fn php(&self) -> Database {
        let client = Client::with_uri_str(self.php.uri().unwrap()).await.unwrap();
        client.default_database().unwrap()
    }

    /// The collection `cache`, as the PHP server fills it (its `Cache.php`), with the index that it makes.
    async fn fill(&self) {
        let database = self.php().await;
        let index = doc! { "key": { "expireAt": 1 }, "name": "expireAt_1", "expireAfterSeconds": 0 };
        database.run_command(doc! { "createIndexes": "cache", "indexes": [index] }).await.unwrap();
        database.collection::<Document>("cache").insert_many(entries()).await.unwrap();
    }

    fn run<const N: usize>(&self, arguments: [&str; N], status: i32) -> Output {
        run(&self.builder, arguments, status)
    }

    /// The counts of `import-php`: found, taken over, already here, expired, not understood; refresh, access.
    fn import<const N: usize>(&self, arguments: [&str; N]) -> [Vec<u64>; 2] {
        counts(&run(&self.builder, ["import-php"].into_iter().chain(arguments), 0))
    }

    fn list<const N: usize>(&self, arguments: [&str; N]) -> Vec<Value> {
        let listed = run(&self.builder, ["tokens", "list", "--json"].into_iter().chain(arguments), 0);
        let line = |line: &str| serde_json::from_str(line).unwrap();
        String::from_utf8(listed.stdout).unwrap().lines().map(line).collect()
    }
}

/// Runs a command that has to end with `status` and to tell no secret.
fn run<S: AsRef<OsStr>>(builder: &Builder, arguments: impl IntoIterator<Item = S>, status: i32) -> Output {
    let output = builder.run(arguments).unwrap();
    assert_eq!(output.status.code(), Some(status), "{}", text(&output));
    assert_no_secret(&output);
    output
}

fn hex_token(n: u32) -> String {
    // As `bin2hex(random_bytes(32))`.
    hex::encode([n.to_le_bytes(); 8].concat().iter().map(|b| b.wrapping_mul(37) ^ 0x5c).collect::<Vec<_>>())
}

fn now() -> i64 {
    DateTime::now().timestamp_millis()
}

/// What the collection of a PHP server in use holds: two live refresh tokens, one live access token, expired ones, and
/// everything else it keeps there.
fn entries() -> Vec<Document> {
    let now = now();
    let entry = |key: String, value: Bson, at: i64| {
        doc! { "key": key, "value": value, "expireAt": DateTime::from_millis(at) }
    };
    let text = |value: &str| Bson::String(value.to_owned());
    let pending = Bson::Document(doc! { "timestamp": now / 1000, "status": "pending" });
    let login = Bson::Document(doc! {
        "client_id": "a-client", "client_secret": "a-secret-of-a-box", "scope": "", "device_code": hex_token(90),
        "pkce_verifier": hex_token(91),
    });
    let past = now - 60;
    let mut entries = vec![
        entry(format!("refresh_token:{}", hex_token(1)), text(METER), now + 1_000 * HOUR),
        entry(format!("refresh_token:{}", hex_token(2)), text(METERS), now + 30_000 * HOUR),
        entry(format!("access_token:{}", hex_token(3)), text(METERS), now + 3 * HOUR),
        entry("refresh_token:not-a-token".to_owned(), text(METER), now + HOUR),
        entry(format!("refresh_token:{}", hex_token(5)), text("not-a-meter"), now + HOUR),
        entry(format!("access_token:{}", hex_token(6)), Bson::Int32(7), now + HOUR),
        entry("BCDFGHJK".to_owned(), login, now + HOUR),
        entry(hex_token(90), pending, now + HOUR),
        entry(
            "state:0123456789abcdef0123456789abcdef3".to_owned(),
            Bson::Document(doc! { "user_code": "BCDFGHJK" }),
            now + HOUR,
        ),
        entry(
            "client_credentials".to_owned(),
            Bson::Document(doc! { "access_token": "enedis-token" }),
            now + HOUR,
        ),
        entry("ratelimit-29000000-ip-192.0.2.1".to_owned(), Bson::Int32(3), now + HOUR),
    ];
    for n in 10..13 {
        entries.push(entry(format!("refresh_token:{}", hex_token(n)), text(METER), past));
    }
    entries.push(entry(format!("access_token:{}", hex_token(13)), text(METER), past));
    entries
}

fn counts(output: &Output) -> [Vec<u64>; 2] {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ["refresh tokens", "access tokens"].map(|name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let line = line.unwrap_or_else(|| panic!("no line {name}: {text}"));
        line.split_whitespace().map(|n| n.parse().unwrap()).collect()
    })
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn assert_no_secret(output: &Output) {
    let text = text(output);
    let tokens = (0..100).map(hex_token);
    let others = ["a-secret-of-a-box", "enedis-token", "not-a-token", "not-a-meter", "p4ssw0rd", METER];
    for secret in tokens.chain(others.map(str::to_owned)) {
        assert!(!text.contains(&secret), "{secret}: {text}");
    }
}

async fn the_php_servers_tokens_are_taken_over(store: Store) {
    let world = World::new(store);
    world.fill().await;
    // The TTL index deletes what has expired, sooner or later.
    let live = |[refresh, access]: [Vec<u64>; 2]| {
        assert!(refresh[3] <= 3 && access[3] <= 1, "{refresh:?} {access:?}");
        ([refresh[1], refresh[2], refresh[4]], [access[1], access[2], access[4]])
    };
    assert_eq!(live(world.import(["--dry-run"])), ([2, 0, 2], [1, 0, 1]));
    assert!(!world.builder.data_path().join("secret.key").exists(), "a dry run makes no key");
    let imported = world.run(["import-php"], 0);
    assert_eq!(live(counts(&imported)), ([2, 0, 2], [1, 0, 1]));
    for line in [
        "taken over",
        "1 × the token is not 64 hex digits",
        "1 × the value is not a text",
        "left out: 3 of logins under way",
    ] {
        assert!(text(&imported).contains(line), "{line}: {}", text(&imported));
    }
    assert_eq!(live(world.import(["--dry-run"])), ([0, 2, 2], [0, 1, 1]));
    assert_eq!(live(world.import([])), ([0, 2, 2], [0, 1, 1]));

    let grants = world.list([]);
    assert_eq!(grants.len(), 3);
    assert!(grants.iter().all(|grant| grant["origin"] == "imported" && grant["client_id"].is_null()));
    let mut meters: Vec<String> = grants.iter().map(|grant| grant["meters"].to_string()).collect();
    meters.sort();
    assert_eq!(meters, [r#"["…1234"]"#, r#"["…4123","…1843"]"#, r#"["…4123","…1843"]"#]);
    // Exactly what is left: the expiry is that of the PHP server, to the second.
    let cache = world.php().await.collection::<Document>("cache");
    let key = format!("refresh_token:{}", hex_token(1));
    let original = cache.find_one(doc! { "key": key }).await.unwrap().unwrap();
    let expiry = original.get_datetime("expireAt").unwrap().try_to_rfc3339_string().unwrap();
    let grant = grants.iter().find(|grant| grant["meter_count"] == 1).unwrap();
    assert_eq!(grant["expires_at"].as_str().unwrap()[..19], expiry[..19]);

    let id = grant["id"].as_str().unwrap();
    world.run(["tokens", "revoke", &id[..7]], 64);
    let revoked = text(&world.run(["tokens", "revoke", id], 0));
    assert!(revoked.contains("revoked 1 grant"), "{revoked}");
    world.run(["tokens", "revoke", id], 1);
    let meter = METERS.split(',').next().unwrap();
    assert_eq!(world.list(["--meter", meter]).len(), 2);
    let revoked = text(&world.run(["tokens", "revoke", "--meter", meter], 0));
    assert!(revoked.contains("revoked 2 grants"), "{revoked}");
    assert!(world.list([]).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mongodb_of_the_php_servers_own_settings_is_read_unless_another_is_named() {
    let mut world = World::new(Store::Sqlite);
    world.fill().await;
    let named = world.php.uri().unwrap().to_owned();
    let address = Url::parse(&named).unwrap();
    world.builder = world.builder.env_remove("IMPORT_MONGODB_URI").envs([
        ("DB_TYPE", "mongodb"),
        ("DB_ADDRESS", address.host_str().unwrap()),
        ("DB_PORT", &address.port().unwrap().to_string()),
        ("DB_NAME", address.path().trim_start_matches('/')),
    ]);
    // One database for both: the PHP server's collection stays as it was.
    let [refresh, access] = world.import([]);
    assert_eq!((refresh[1], access[1]), (2, 1));
    assert_eq!(world.list([]).len(), 3);
    let [refresh, access] = world.import(["--from-mongodb", &named]);
    assert_eq!((refresh[2], access[2]), (2, 1));
    let elsewhere = Store::Mongodb.open();
    let output = text(&world.run(["import-php", "--from-mongodb", elsewhere.uri().unwrap()], 1));
    assert!(output.contains("nothing in it"), "{output}");
}

#[test]
fn a_file_of_the_php_servers_postgresql_is_taken_over() {
    let builder = Server::builder(BINARY);
    let (path, expiry) = (builder.cwd_path().join("tokens.csv"), (now() + HOUR) / 1_000);
    let (one, two) = (hex_token(1), hex_token(2));
    let csv = format!(
        "key,meters,expires_at\n\
         refresh_token:{one},{METER},{expiry}\n\
         access_token:{two},\"{METERS}\",{expiry}\n\
         refresh_token:{two},\"{METERS}\",1577836800\n"
    );
    std::fs::write(&path, csv).unwrap();
    for expected in [[vec![2, 1, 0, 1, 0], vec![1, 1, 0, 0, 0]], [vec![2, 0, 1, 1, 0], vec![1, 0, 1, 0, 0]]] {
        let output = run(&builder, ["import-php".as_ref(), "--file".as_ref(), path.as_os_str()], 0);
        assert_eq!(counts(&output), expected);
    }
}

#[test]
fn what_cannot_be_read_is_exit_1() {
    let builder = Server::builder(BINARY);
    let write = |name: &str, text: &str| {
        let path = builder.cwd_path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let empty = write("empty", "");
    let packed = write("packed", "PGDMP\u{1}");
    let dump =
        format!("COPY public.cache (key, value, expire_at) FROM stdin;\nrefresh_token:{}", hex_token(1));
    let dump = write("cache.sql", &dump);
    let cut =
        write("cut.csv", &format!("key,meters,expires_at\nrefresh_token:{},1577836800\n", hex_token(1)));
    let closed = format!(
        "mongodb://proxy:p4ssw0rd@{}/php",
        testkit::net::loopback(testkit::net::free_port().unwrap())
    );
    for (arguments, reason) in [
        (["--file", "/nowhere/cache.csv"], "/nowhere/cache.csv"),
        (["--file", &empty], "nothing in it"),
        (["--file", "-"], "nothing in it"),
        (["--file", &packed], "`import-php --help` says how"),
        (["--file", &dump], "`import-php --help` says how"),
        (["--file", &cut], "line: 2"),
        (["--from-mongodb", &closed], "MongoDB does not answer"),
    ] {
        let output = builder.run(["import-php"].iter().chain(&arguments)).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains(reason), "{arguments:?}: {}", text(&output));
        assert_no_secret(&output);
    }
    let listed = run(&builder, ["tokens", "list"], 1);
    assert!(text(&listed).contains("no server has run"), "{}", text(&listed));
    assert_eq!(std::fs::read_dir(builder.data_path()).unwrap().count(), 0, "a failure makes no installation");
}

#[test]
fn what_is_called_wrongly_is_exit_64() {
    let builder = Server::builder(BINARY).env("SECRET_KEY", "0f".repeat(32));
    let token = hex_token(1);
    for arguments in [
        &["import-php"][..],
        &["import-php", "--from-mongodb", "mongodb://proxy:p4ssw0rd@127.0.0.1:1"],
        &["import-php", "--from-mongodb", "mongodb://127.0.0.1/php", "--file", "cache.csv"],
        &["import-php", "--from-mongodb"],
        &["tokens"],
        &["tokens", "list", "--meter", "123"],
        &["tokens", "revoke"],
        &["tokens", "revoke", "0123"],
        &["tokens", "revoke", &token],
        &["tokens", "revoke", "01234567", "--meter", METER],
    ] {
        run(&builder, arguments, 64);
    }
    run(&builder.env("LISTEN", "nowhere"), ["tokens", "list"], 64);
}

#[test]
fn help_names_every_option_and_is_exit_0() {
    let builder = Server::builder(BINARY);
    for (arguments, words) in [
        (&["--help"][..], &["import-php", "tokens"][..]),
        (
            &["import-php", "--help"],
            &[
                "--from-mongodb <URI>",
                "IMPORT_MONGODB_URI",
                "--file <FILE>",
                "copy (",
                "with csv header",
                "--dry-run",
            ],
        ),
        (&["tokens", "--help"], &["list", "revoke", "accept-store"]),
        (&["keys", "--help"], &["status", "reseal", "SECRET_KEYS_OLD"]),
        (&["tokens", "list", "--help"], &["--meter <PRM>", "--json", "--show-meters"]),
        (&["tokens", "revoke", "--help"], &["[ID]", "--meter <PRM>"]),
    ] {
        let output = builder.run(arguments).unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        let help = text(&output);
        for word in words {
            assert!(help.contains(word), "{word}: {help}");
        }
        assert!(help.lines().all(|line| line.chars().count() <= 120), "{help}");
    }
}
