//! The key: its file is made private, and refused where others could have read or chosen it; no memory dump has it.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use testkit::server::{Server, StartError};

use crate::fixture::BINARY;

/// Puts a good key at `path` with this mode.
fn put(path: &Path, mode: u32) {
    fs::write(path, "ab".repeat(32)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Asserts that neither the server nor a command works with what `prepare` does to `DATA_DIR/secret.key`, and that both
/// say the file's name and `why`.
async fn refused(why: &str, prepare: impl FnOnce(&Path)) {
    let builder = Server::builder(BINARY).env("ADMIN_LISTEN", "off");
    let path = builder.data_path().join("secret.key");
    prepare(&path);
    let error = builder.start().await.expect_err(why);
    let StartError::Exited { status, output } = error else { panic!("{why}: {error}") };
    let command = builder.run(["tokens", "list"]).unwrap();
    let told = String::from_utf8_lossy(&command.stderr).into_owned();
    assert_eq!((status.code(), command.status.code()), (Some(1), Some(1)), "{output:?} {told}");
    for told in [output.join("\n"), told] {
        assert!(told.contains(path.to_str().unwrap()) && told.contains(why), "{why}: {told}");
        assert!(!told.contains("abab"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_others_could_read_is_refused() {
    for mode in [0o640, 0o604, 0o620, 0o602, 0o644] {
        refused(&format!("has mode {mode:04o}"), |path| put(path, mode)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_behind_a_link_is_neither_read_nor_made() {
    for exists in [true, false] {
        let elsewhere = tempfile::tempdir().unwrap();
        let target = elsewhere.path().join("chosen.key");
        if exists {
            put(&target, 0o600);
        }
        refused("is a symbolic link", |path| symlink(&target, path).unwrap()).await;
        assert_eq!(target.exists(), exists, "nothing is written through a link");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_another_user_is_refused() {
    let own = tempfile::NamedTempFile::new().unwrap();
    if chown(own.path(), Some(65_534), None).is_err() {
        // Past the test runner, which hides what a test that passes writes.
        writeln!(std::io::stderr(), "NOT RUN: only root can make a file another user's").unwrap();
        return;
    }
    refused("belongs to user 65534", |path| {
        put(path, 0o600);
        chown(path, Some(65_534), None).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_key_is_taken_and_a_fresh_one_is_private() {
    let builder = Server::builder(BINARY);
    let path = builder.data_path().join("secret.key");
    let server = builder.start().await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_to_string(&path).unwrap().trim().len(), 64);
    drop(server);
    let made = fs::read(&path).unwrap();
    // Read-only is as private.
    fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    drop(builder.start().await.unwrap());
    assert_eq!(fs::read(&path).unwrap(), made);
    let drafts = fs::read_dir(builder.data_path()).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<_> = drafts.filter(|name| name.to_string_lossy().starts_with("secret")).collect();
    assert_eq!(names, ["secret.key"], "nothing is left beside it");
}

/// Orchestrators hand secrets over behind links, and readable for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_handed_over_is_taken_as_it_is() {
    let builder = Server::builder(BINARY);
    put(&builder.cwd_path().join("handed-over"), 0o644);
    symlink("handed-over", builder.cwd_path().join("key")).unwrap();
    let builder = builder.env("SECRET_KEY_FILE", "key");
    drop(builder.start().await.unwrap());
    assert!(!builder.data_path().join("secret.key").exists(), "no other key is made");
    let both = builder.env("SECRET_KEY", "ab".repeat(32)).run(["check-config"]).unwrap();
    let told = String::from_utf8_lossy(&both.stderr);
    assert_eq!(both.status.code(), Some(64), "{told}");
    assert!(told.contains("SECRET_KEY_FILE: expected nothing, since SECRET_KEY is set"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(target_os = "linux")]
async fn memory_is_not_dumped() {
    let server = Server::builder(BINARY).start().await.unwrap();
    let path = format!("/proc/{}/limits", server.pid());
    let limits = fs::read_to_string(&path).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..], ["0", "0", "bytes"], "{core}");
    // What the kernel tells of a process that cannot be dumped is root's. A unit test asks it directly, as these tests
    // may run as root themselves.
    assert_eq!(fs::metadata(&path).unwrap().uid(), 0);
}
