//! What an operator meets: too few descriptors, a full disk, restarts, backups.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use testkit::cutter::Cutter;
use testkit::device::Device;
use testkit::mongod::{Kind, Mongod};
use testkit::person::Choice;
use testkit::server::Server;

use crate::fixture::{BINARY, CLIENT, PATIENCE, Plan, Store, World, eventually};
use crate::journey::on_both_stores;
use crate::line::Line;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_boxes_leave_descriptors_for_enedis() {
    let world = Plan::new(Store::Sqlite).await.before("ulimit -n 256").start().await;
    let server = world.server.listen();
    let device = world.device().await;
    // Some say nothing, the others are answered and stay.
    let silent: Vec<_> = (0..50).map(|_| Line::open("127.0.0.1", server)).collect();
    let mut idle: Vec<_> = (0..300).map(|_| Line::open("127.0.0.1", server)).collect();
    let stay: Vec<_> = idle.iter_mut().map(|line| line.ask().expect("an answer")).collect();
    assert!(stay.iter().all(|(status, _)| *status == 200), "{stay:?}");
    assert!(stay[0].1 && !stay[299].1, "{stay:?}");
    assert_eq!(world.consent(&device, Choice::Allow).await.status, 200);
    assert_eq!(world.final_answer(&device).await.status, 200);
    let max = world.metric("dfp_connections_max").await.unwrap();
    let open = world.metric("dfp_connections").await.unwrap();
    assert!(50.0 < open && open <= max && max < 200.0, "{open} of {max}");
    drop((silent, idle));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_has_its_share_of_connections() {
    let plan = Plan::new(Store::Sqlite).await.env("TRUSTED_PROXIES", "none");
    let world = plan.env("MAX_CONNECTIONS_PER_IP", "3").start().await;
    let server = world.server.listen();
    let open = |source| {
        let mut line = Line::open(source, server);
        (line.ask(), line)
    };
    let mut held: Vec<_> = (0..3).map(|_| open("127.0.0.2")).collect();
    assert!(held.iter().all(|(answer, _)| *answer == Some((200, true))));
    for _ in 0..10 {
        assert!(matches!(open("127.0.0.2").0, None | Some((503, false))));
    }
    assert_eq!(world.metric("dfp_connections_refused_total").await, Some(10.0));
    assert_eq!(open("127.0.0.3").0, Some((200, true)), "another address");
    assert_eq!(held[0].1.ask(), Some((200, true)));
    held.pop();
    eventually("there is room again", || async { (open("127.0.0.2").0? == (200, true)).then_some(()) }).await;
    proxies_have_any_number().await;
}

async fn proxies_have_any_number() {
    let world = Plan::new(Store::Sqlite).await.env("MAX_CONNECTIONS_PER_IP", "3").start().await;
    let mut lines: Vec<_> = (0..20).map(|_| Line::open("127.0.0.1", world.server.listen())).collect();
    assert!(lines.iter_mut().all(|line| line.ask() == Some((200, true))));
}

on_both_stores!(a_server_that_is_about_to_go_says_so_and_goes_on);

/// What the server says of itself, once it says that.
async fn says(world: &World, code: u16, status: &str) -> Value {
    let ask = || async {
        let answer = testkit::http::client().get(world.url("/health/ready")).send().await.ok()?;
        let (told, body): (u16, Value) = (answer.status().as_u16(), answer.json().await.ok()?);
        (told == code && body["status"] == status).then_some(body)
    };
    eventually(status, ask).await
}

/// Asserts that the server, whose store takes no writes, answers what it can.
async fn is_degraded(world: &World, pending: &Device) {
    let told = says(world, 503, "degraded").await;
    assert_eq!(told, json!({ "status": "degraded", "pending_polls": true, "codes_and_tokens": false }));
    assert_eq!(world.builder.run(["healthcheck"]).unwrap().status.code(), Some(1));
    assert_eq!(pending.poll_once().await.unwrap().error(), Some("authorization_pending"));
    let refused = world.client(CLIENT).request_code(&[]).await.unwrap_err();
    assert!(format!("{refused:?}").contains("503"), "{refused:?}");
}

async fn is_well_again(world: &World, pending: &Device) {
    let told = says(world, 200, "ok").await;
    assert_eq!(told, json!({ "status": "ok", "pending_polls": true, "codes_and_tokens": true }));
    world.link(pending).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_not_ready() {
    // Without the trap the kernel would end the process, which no full disk does.
    let world = Plan::new(Store::Sqlite).await.before("trap '' XFSZ").start().await;
    let pending = world.device().await;
    says(&world, 200, "ok").await;
    world.server.limit_files(Some(4_096)).unwrap();
    is_degraded(&world, &pending).await;
    world.server.limit_files(None).unwrap();
    is_well_again(&world, &pending).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_is_not_ready() {
    let mongod = Mongod::shared(Kind::Standalone);
    let cutter = Cutter::start(mongod.addr()).await.unwrap();
    let uri = mongod.uri_through(cutter.addr(), &format!("cut_{}", std::process::id()));
    let world = Plan::new(Store::Sqlite).await.env("MONGODB_URI", &uri).start().await;
    let pending = world.device().await;
    says(&world, 200, "ok").await;
    cutter.cut();
    is_degraded(&world, &pending).await;
    cutter.restore();
    is_well_again(&world, &pending).await;
}

async fn a_server_that_is_about_to_go_says_so_and_goes_on(store: Store) {
    let world = Plan::new(store).await.env("SHUTDOWN_DELAY_SECS", "5").start().await;
    let pending = world.device().await;
    world.server.terminate().unwrap();
    let told = says(&world, 503, "stopping").await;
    assert_eq!(told, json!({ "status": "stopping", "pending_polls": true, "codes_and_tokens": true }));
    world.device().await;
    assert_eq!(pending.poll_once().await.unwrap().error(), Some("authorization_pending"));
    assert_eq!(world.server.wait(PATIENCE).await.unwrap().code(), Some(0));
}

#[test]
fn a_disk_without_room_is_named_at_the_start() {
    let builder = Server::builder(BINARY).before("trap '' XFSZ && ulimit -f 1");
    let output = builder.run(["serve"]).unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("sessions.sqlite") && told.contains("have room"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_refuses_nobody_where_the_socket_outlives_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let builder = Server::builder(BINARY).port(address.rsplit(':').next().unwrap().parse().unwrap());
    let builder = builder.listener(listener);
    let mut server = builder.start().await.unwrap();
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                threads.spawn(|| {
                    while !stop.load(Ordering::SeqCst) {
                        let answer = Line::open("127.0.0.1", &address).ask();
                        assert!(answer.is_some_and(|(status, _)| status == 200), "{answer:?}");
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let restart = async {
            for _ in 0..3 {
                let so_far = answered.load(Ordering::SeqCst);
                eventually("answers", || async {
                    (answered.load(Ordering::SeqCst) > so_far + 50).then_some(())
                })
                .await;
                server.end(PATIENCE).await.unwrap();
                server = builder.start().await.unwrap();
            }
            stop.store(true, Ordering::SeqCst);
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(restart));
        for client in clients {
            client.join().unwrap();
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_is_told_how_the_server_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let told = UnixDatagram::bind(&path).unwrap();
    told.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut message = [0; 1_024];
        let length = told.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    let builder = Server::builder(BINARY).env("NOTIFY_SOCKET", path.to_str().unwrap());
    let server = builder.env("WATCHDOG_USEC", "300000").start().await.unwrap();
    assert_eq!(next(), format!("READY=1\nSTATUS=serving on {}\n", server.listen()));
    assert_eq!((next(), next()), ("WATCHDOG=1\n".to_owned(), "WATCHDOG=1\n".to_owned()));
    server.terminate().unwrap();
    let mut last = next();
    while last == "WATCHDOG=1\n" {
        last = next();
    }
    assert!(last.starts_with("STOPPING=1\nSTATUS="), "{last}");
    assert_eq!(server.wait(PATIENCE).await.unwrap().code(), Some(0));
}

/// What `serve` says that does not start.
fn refused(builder: &testkit::server::Builder) -> String {
    let output = builder.run(["serve"]).unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    told
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    let builder = Server::builder(BINARY);
    if chown(builder.data_path(), Some(65_534), None).is_err() {
        // Past the test runner, which hides what a test that passes writes.
        writeln!(std::io::stderr(), "NOT RUN: only root can make a directory another user's").unwrap();
        return;
    }
    let told = refused(&builder);
    assert!(
        told.contains(builder.data_path().to_str().unwrap()) && told.contains("belongs to user 65534"),
        "{told}"
    );
    assert_eq!(std::fs::read_dir(builder.data_path()).unwrap().count(), 0, "nothing is made in it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_without_their_key_are_left_alone() {
    let builder = Server::builder(BINARY);
    builder.start().await.unwrap().end(PATIENCE).await.unwrap();
    let key = builder.data_path().join("secret.key");
    let content = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let told = refused(&builder);
    assert!(told.contains("secret.key is missing"), "{told}");
    assert!(!key.exists(), "no other key is made");
    std::fs::write(&key, content).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    builder.start().await.unwrap().end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(target_os = "linux")]
async fn a_disk_that_loses_what_it_was_handed_ends_the_process() {
    let (machine, plan) = Plan::new(Store::Sqlite).await.on_machine();
    let mut world = plan.start().await;
    let pending = world.device().await;
    machine.sync(-1).unwrap();
    // It is answered by nobody, rather than by a promise that the disk did not make.
    assert!(world.client(CLIENT).request_code(&[]).await.is_err());
    let status = world.server.wait(PATIENCE).await.unwrap();
    assert!(!status.success(), "{status}");
    let logs = world.server.logs().join("\n");
    assert!(
        logs.contains("the disk may have lost what was written") && logs.contains("sessions.sqlite"),
        "{logs}"
    );
    machine.sync(0).unwrap();
    world.restart().await;
    world.link(&pending).await;
}
