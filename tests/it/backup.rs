//! `backup` and `check-store`, and what of a restored directory is refused.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use rusqlite::Connection;
use serde_json::Value;
use testkit::device::Tokens;
use testkit::enedis::Options;
use testkit::person::Choice;
use testkit::server::{Builder, Server};

use crate::fixture::{BINARY, CLIENT, PATIENCE, Plan, Store, World};

/// The exit status, and everything that was printed.
fn run(builder: &Builder, arguments: &[&str]) -> (Option<i32>, String) {
    let output = builder.run(arguments).unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code(), out + &err)
}

/// What is in a directory, by name.
fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

fn copy(from: &Path, to: &Path) {
    for (name, bytes) in content(from) {
        fs::write(to.join(&name), bytes).unwrap();
        fs::set_permissions(to.join(&name), fs::metadata(from.join(&name)).unwrap().permissions()).unwrap();
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_running_server_can_be_put_to_use() {
    let world = Plan::metering(Store::Sqlite, Options::default(), 1).await.start().await;
    let linked = world.device().await;
    let tokens = Tokens::read(&world.link(&linked).await.json).unwrap();
    let (pending, approved) = (world.device().await, world.device().await);
    assert_eq!(world.consent(&approved, Choice::Allow).await.status, 200);
    let elsewhere = tempfile::tempdir().unwrap();
    let dir = elsewhere.path().join("backup");
    // It is taken while codes are written.
    let busy = async {
        for _ in 0..50 {
            world.device().await;
        }
    };
    let (builder, name) = (world.builder.clone(), dir.to_str().unwrap().to_owned());
    let taken = tokio::task::spawn_blocking(move || run(&builder, &["backup", &name]));
    let ((), taken) = futures_util::future::join(busy, taken).await;
    let (status, told) = taken.unwrap();
    assert_eq!(status, Some(0), "{told}");
    assert!(told.starts_with("5 files"), "{told}");
    assert_eq!(mode(&dir), 0o700);
    assert!(content(&dir).keys().all(|name| mode(&dir.join(name)) == 0o600));
    let before = content(&dir);
    assert_eq!(run(&world.builder, &["backup", dir.to_str().unwrap()]).0, Some(1), "never over another");
    let restored = world.builder.clone().data_dir(&dir);
    let (status, told) = run(&restored, &["check-store", "--json"]);
    assert_eq!(status, Some(0), "{told}");
    assert!(content(&dir) == before, "a look changes nothing");

    world.server.kill9().unwrap();
    let World { builder, enedis, store, .. } = world;
    let server = restored.start().await.unwrap();
    let world = World { server, builder, enedis, store };
    assert_eq!(pending.poll_once().await.unwrap().error(), Some("authorization_pending"));
    assert_eq!(world.final_answer(&approved).await.status, 200);
    let refresh =
        [("grant_type", "refresh_token"), ("client_id", CLIENT), ("refresh_token", &tokens.refresh)];
    assert_eq!(linked.post_form("/device/token", &refresh).await.unwrap().status, 200);
    assert!(!dir.join("backup.json").exists(), "it is in use now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mongodb_is_left_to_its_own_tools() {
    let world = World::start(Store::Mongodb).await;
    world.device().await;
    let dir = world.builder.data_path().join("backup");
    let (status, told) = run(&world.builder, &["backup", dir.to_str().unwrap()]);
    assert_eq!(status, Some(69), "{told}");
    assert!(told.contains("nothing was done") && told.contains("mongodump"), "{told}");
    assert!(!dir.exists());
    let (status, told) = run(&world.builder, &["check-store", "--json"]);
    let found: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((status, &found["sound"], &found["key"]), (Some(0), &true.into(), &"right".into()), "{told}");
    assert_eq!(found["rows"]["device_sessions"], 1, "{told}");
}

/// A directory in which a server has run, and its key.
async fn installation() -> Builder {
    let builder = Server::builder(BINARY);
    builder.start().await.unwrap().end(PATIENCE).await.unwrap();
    builder
}

fn update(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

/// What is done to a copy of a directory.
type Break<'a> = Box<dyn Fn(&Path) + 'a>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_belong_together_is_refused_by_name_and_left_alone() {
    let (one, other) = (installation().await, installation().await);
    let backup = tempfile::tempdir().unwrap();
    assert_eq!(run(&one, &["backup", backup.path().join("it").to_str().unwrap()]).0, Some(0));
    let (one, other, backup) = (one.data_path(), other.data_path(), backup.path().join("it"));
    let cases: [(&Path, &str, &str, Break<'_>); 8] = [
        (
            one,
            "sessions.sqlite",
            "another installation",
            Box::new(|dir| {
                fs::copy(other.join("tokens.sqlite"), dir.join("tokens.sqlite")).map(drop).unwrap();
            }),
        ),
        (
            one,
            "sessions.sqlite",
            "another installation",
            Box::new(|dir| {
                for name in ["tokens.sqlite", "secret.key"] {
                    fs::copy(other.join(name), dir.join(name)).unwrap();
                }
            }),
        ),
        (
            one,
            "sessions.sqlite",
            "that is missing",
            Box::new(|dir| fs::remove_file(dir.join("tokens.sqlite")).unwrap()),
        ),
        (
            one,
            "sessions.sqlite",
            "damaged",
            Box::new(|dir| fs::write(dir.join("sessions.sqlite"), [7; 8192]).unwrap()),
        ),
        (
            one,
            "tokens.sqlite",
            "newer version",
            Box::new(|dir| update(&dir.join("tokens.sqlite"), "PRAGMA user_version = 99")),
        ),
        (
            &backup,
            "tokens.sqlite",
            "backup is not whole",
            Box::new(|dir| {
                File::options().write(true).open(dir.join("tokens.sqlite")).unwrap().set_len(4096).unwrap();
            }),
        ),
        (
            &backup,
            "audit.sqlite",
            "backup is not whole",
            Box::new(|dir| fs::remove_file(dir.join("audit.sqlite")).unwrap()),
        ),
        (
            &backup,
            "sessions.sqlite-wal",
            "backup is not whole",
            Box::new(|dir| {
                fs::write(dir.join("sessions.sqlite-wal"), "of another database").unwrap();
            }),
        ),
    ];
    for (from, file, why, break_it) in cases {
        let dir = tempfile::tempdir().unwrap();
        copy(from, dir.path());
        break_it(dir.path());
        let (before, builder) = (content(dir.path()), Server::builder(BINARY).data_dir(dir.path()));
        for arguments in [&["serve"][..], &["tokens", "list"]] {
            let (status, told) = run(&builder, arguments);
            assert_eq!(status, Some(1), "{why}: {told}");
            assert!(
                told.contains(dir.path().join(file).to_str().unwrap()) && told.contains(why),
                "{why}: {told}"
            );
            let mut after = content(dir.path());
            after.retain(|name, _| name != "sessions.lock");
            let names = |content: &BTreeMap<String, _>| content.keys().cloned().collect::<Vec<_>>();
            let mut before = before.clone();
            before.retain(|name, _| name != "sessions.lock");
            assert!(after == before, "{why}: {:?} became {:?}", names(&before), names(&after));
        }
        let (status, told) = run(&builder, &["check-store"]);
        assert_eq!(status, Some(1), "{why}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_finds_what_is_wrong() {
    let world = World::start(Store::Sqlite).await;
    world.device().await;
    let (status, told) = run(&world.builder, &["check-store", "--json"]);
    let found: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((status, &found["sound"], &found["key"]), (Some(0), &true.into(), &"right".into()), "{told}");
    let sessions = &found["files"][0];
    assert_eq!(
        (&sessions["file"], &sessions["rows"]["session"]),
        (&"sessions.sqlite".into(), &1.into()),
        "{told}"
    );
    assert_eq!(sessions["layout"], sessions["known"]);
    let other_key = world.builder.clone().env("SECRET_KEY", "ab".repeat(32));
    let (status, told) = run(&other_key, &["check-store"]);
    assert_eq!(status, Some(1), "{told}");
    assert!(told.contains("key: another"), "{told}");
    world.server.end(PATIENCE).await.unwrap();
    // A page in the middle of the file, where no start looks.
    let path = world.builder.data_path().join("tokens.sqlite");
    File::options().write(true).open(&path).unwrap().write_all_at(&[0x5a; 4096], 2 * 4096).unwrap();
    let (status, told) = run(&world.builder, &["check-store"]);
    assert_eq!(status, Some(1), "{told}");
    assert!(
        told.lines().any(|line| line.starts_with("tokens.sqlite: ") && !line.contains("whole")),
        "{told}"
    );
}
