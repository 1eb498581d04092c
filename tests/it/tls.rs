//! HTTPS by the server itself: `TLS_CERT`, `TLS_KEY` and `REDIRECT_LISTEN`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use testkit::device::{Device, Tokens};
use testkit::person::Person;
use testkit::server::Server;
use testkit::tls::{issue, issue_until};

use crate::fixture::{BINARY, PATIENCE, Plan, Store, World, eventually};
use crate::line::{Line, TlsLine};

/// A server with a certificate in `files`.
async fn start(files: &Path, more: &[(&str, &str)]) -> World {
    let issued = issue(files);
    let plan = Plan::new(Store::Sqlite).await;
    let base = plan.builder().base_url().replace("http:", "https:");
    let plan = plan.env("BASE_URL", &base);
    let plan = plan.env("TLS_CERT", issued.certificate.to_str().unwrap());
    let plan = plan.env("TLS_KEY", issued.key.to_str().unwrap());
    more.iter().fold(plan, |plan, (name, value)| plan.env(name, value)).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_flow_over_https() {
    let files = tempfile::tempdir().unwrap();
    let port = testkit::net::free_port().unwrap();
    let world = start(files.path(), &[("REDIRECT_LISTEN", &format!("127.0.0.1:{port}"))]).await;
    let device = world.device().await;
    assert!(device.code().link().starts_with("https://"));
    assert_eq!(device.poll_once().await.unwrap().error(), Some("authorization_pending"));
    let page = Person::new().open_once(device.code().link()).await.unwrap();
    let cookie = page.headers.get("set-cookie").unwrap().to_str().unwrap();
    assert!(cookie.starts_with("__Host-") && cookie.contains("; Secure"), "{cookie}");
    let tokens = Tokens::read(&world.link(&device).await.json).unwrap();
    assert_eq!(device.refresh(&tokens.refresh, &[]).await.unwrap().status, 200);
    let health = world.builder.run(["healthcheck"]).unwrap();
    assert!(health.status.success(), "{}", String::from_utf8_lossy(&health.stderr));

    // Port 80 sends everybody on, whatever they ask.
    let plain = Device::new(format!("http://127.0.0.1:{port}"), "any");
    for (asked, to) in
        [("/device?code=BCDF-GHJK", "/device?code=BCDF-GHJK"), ("//evil.example/", "//evil.example/")]
    {
        let answer = plain.get(asked).await.unwrap();
        assert_eq!(answer.status, 308);
        assert_eq!(answer.header("location"), Some(world.url(to).as_str()));
    }
    let answer = plain.post_form("/device/token", &[("client_id", "any")]).await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (308, ""), "nothing that a box takes for final");
    world.server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_shown_and_no_connection_ends() {
    let files = tempfile::tempdir().unwrap();
    let world = start(files.path(), &[]).await;
    let open = || {
        let mut line = TlsLine::open_tls(world.server.listen());
        assert_eq!(line.ask(), Some((200, true)));
        line
    };
    let logged = async |text: &str| {
        let told = || async { world.server.logs().iter().any(|line| line.contains(text)).then_some(()) };
        eventually(text, told).await;
    };
    let mut before = open();
    let first = before.certificate();
    // As a renewal that was interrupted: the key does not belong to the certificate.
    let renewed = tempfile::tempdir().unwrap();
    let next = issue(renewed.path());
    std::fs::copy(&next.certificate, files.path().join("tls.crt")).unwrap();
    logged("the key of the certificate in TLS_CERT; this is another's").await;
    assert_eq!(open().certificate(), first);
    std::fs::copy(&next.key, files.path().join("tls.key")).unwrap();
    logged("the certificate was replaced").await;
    let second = open().certificate();
    assert_ne!(second, first);

    issue_until(files.path(), 2020);
    world.server.hangup().unwrap();
    logged("SIGHUP: the certificate is read again").await;
    logged("the certificate has ended").await;
    assert_eq!(before.ask(), Some((200, true)), "the connection of before goes on");
    assert!(TlsLine::open_tls(world.server.listen()).ask().is_none(), "nobody believes the new one");
}

/// What `check-config` says with these files and settings, and its exit status.
fn told(certificate: &Path, key: &Path, base_url: &str) -> (Option<i32>, String) {
    let builder = Server::builder(BINARY).env("BASE_URL", base_url);
    let builder =
        builder.env("TLS_CERT", certificate.to_str().unwrap()).env("TLS_KEY", key.to_str().unwrap());
    let output = builder.run(["check-config"]).unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn files_that_cannot_be_used_are_refused_by_name() {
    let [one, other] = [0; 2].map(|_| tempfile::tempdir().unwrap());
    let (good, another) = (issue(one.path()), issue(other.path()));
    let (https, nothing) = ("https://localhost", one.path().join("nothing"));
    let (status, text) = told(&good.certificate, &good.key, https);
    assert!(status == Some(0) && text.starts_with("the configuration is good"), "{text}");
    for (certificate, key, faults) in [
        (&nothing, &good.key, &["TLS_CERT: expected a file that can be read"][..]),
        (&nothing, &nothing, &["TLS_CERT: expected a file that", "TLS_KEY: expected a file that"]),
        (&good.certificate, &nothing, &["TLS_KEY: expected a file that can be read"]),
        (&good.certificate, &another.key, &["TLS_KEY: expected the key of the certificate in TLS_CERT"]),
        (
            &good.key,
            &good.certificate,
            &["TLS_CERT: expected certificates in PEM", "TLS_KEY: expected a private key"],
        ),
    ] {
        let (status, text) = told(certificate, key, https);
        assert!(
            status == Some(64) && faults.iter().all(|fault| text.contains(fault)),
            "{faults:?} in {text}"
        );
    }
    let (status, text) = told(&nothing, &good.key, "http://localhost");
    assert!(
        status == Some(64) && text.contains("TLS_CERT: ") && text.contains("BASE_URL: "),
        "all at once: {text}"
    );

    let (status, text) = told(&good.certificate, &good.key, "https://linky.example.org");
    assert!(
        status == Some(0) && text.contains("warning: TLS_CERT: the certificate is not for the host"),
        "{text}"
    );
    let old = issue_until(one.path(), 2020);
    let (status, text) = told(&old.certificate, &old.key, https);
    assert!(status == Some(0) && text.contains("warning: TLS_CERT: the certificate has ended"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_gets_nothing_that_looks_final() {
    let files = tempfile::tempdir().unwrap();
    let world = start(files.path(), &[]).await;
    let mut plain = TcpStream::connect(world.server.listen()).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(b"POST /device/token HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // A reset is no answer either.
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP") && answer.len() < 16, "{answer:?}");
    assert_eq!(world.device().await.poll_once().await.unwrap().status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_shake_hands_is_not_waited_for() {
    let files = tempfile::tempdir().unwrap();
    let world = start(files.path(), &[("WORKERS", "1")]).await;
    let mut silent: Vec<_> = (0..300).map(|_| Line::open("127.0.0.1", world.server.listen())).collect();
    world.device().await;
    assert!(silent.iter_mut().all(Line::ends));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_has_its_share_of_connections_over_tls() {
    let files = tempfile::tempdir().unwrap();
    let settings = [("TRUSTED_PROXIES", "none"), ("MAX_CONNECTIONS_PER_IP", "2")];
    let world = start(files.path(), &settings).await;
    let open = || {
        let mut line = TlsLine::open_tls(world.server.listen());
        (line.ask(), line)
    };
    let held = [open(), open()];
    assert!(held.iter().all(|(answer, _)| *answer == Some((200, true))));
    assert!(matches!(open().0, None | Some((503, false))));
    assert_eq!(world.metric("dfp_connections_refused_total").await, Some(1.0));
}
