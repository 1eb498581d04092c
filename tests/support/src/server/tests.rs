//! The fixture around stand-ins written in shell.

use super::*;

/// A builder for a shell that runs `text`. The shell is the binary: a script that was just written may not run
/// while another thread, forking, holds it open.
fn shell(text: &str) -> Builder {
    Server::builder("/bin/sh").arg("-c").arg(text).arg("server")
}

const READY: &str = r#"printf '{"level":"INFO","fields":{"message":"ready","listen":"%s","admin":"127.0.0.1:99"}}\n' "$LISTEN" >&2"#;

#[tokio::test]
async fn a_server_is_ready_stops_and_starts_again_on_the_same_port_and_data() {
    let text = format!(
        "echo \"secret=$CLIENT_SECRET home=$HOME\"; echo x >> \"$DATA_DIR/starts\"; trap 'echo bye; exit 3' TERM; {READY}
         while :; do sleep 0.05; done"
    );
    let builder = shell(&text).env("CLIENT_SECRET", "s1");
    let server = builder.start().await.expect("a server");
    assert_eq!(server.base_url(), builder.base_url());
    assert!(server.base_url().starts_with("http://localhost:"));
    assert_eq!(server.listen(), server.base_url().replace("http://localhost", "127.0.0.1"));
    assert_eq!(server.admin_url(), "http://127.0.0.1:99");
    let status = server.stop(Duration::from_secs(5)).await.expect("an end");
    assert_eq!(status.code(), Some(3));
    let mut said = server.logs();
    said.retain(|line| !line.contains("ready"));
    assert_eq!(said, ["secret=s1 home=", "bye"], "the environment is cleared");
    assert!(server.terminate().is_err());

    let again = builder.start().await.expect("a server");
    assert_eq!(again.base_url(), server.base_url());
    assert_eq!(again.kill9().expect("an end").code(), None);
    let starts = std::fs::read_to_string(builder.data_path().join("starts")).expect("the data");
    assert_eq!(starts, "x\nx\n");
}

#[tokio::test]
async fn an_early_end_is_told_with_its_output() {
    let builder = shell("echo CLIENT_ID is missing >&2; exit 64");
    match builder.start().await {
        Err(StartError::Exited { status, output }) => {
            assert_eq!(status.code(), Some(64));
            assert_eq!(output, ["CLIENT_ID is missing"]);
        }
        other => panic!("{other:?}"),
    }
    let missing = Server::builder("/nonexistent/server").start().await;
    assert!(matches!(missing, Err(StartError::Spawn { .. })));
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let builder = shell("exec sleep 60");
    let started = builder.ready_within(Duration::from_millis(200)).start().await;
    assert!(matches!(started, Err(StartError::NotReady { .. })));
}
