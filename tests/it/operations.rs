//! What an operator meets: too few descriptors, a full disk, restarts, backups.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use testkit::cutter::Cutter;
use testkit::device::Device;
use testkit::mongod::{Kind, Mongod};
use testkit::person::Choice;
use testkit::server::Server;

use crate::fixture::{BINARY, CLIENT, PATIENCE, Plan, Store, World, eventually};
use crate::journey::on_both_stores;

/// A connection that stays open.
struct Line(BufReader<TcpStream>);

impl Line {
    /// One from `source` to `server`, over which nothing has come.
    fn open(source: &str, server: &str) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(source.parse().unwrap(), 0).into()).unwrap();
        socket.connect(&server.parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(socket.into()))
    }

    /// Asks whether the server lives: the status, and whether the connection stays open. `None`: it is closed.
    fn ask(&mut self) -> Option<(u16, bool)> {
        self.0.get_mut().write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").ok()?;
        let (mut status, mut length, mut stays) = (String::new(), 0, true);
        self.0.read_line(&mut status).ok().filter(|read| *read > 0)?;
        loop {
            let mut header = String::new();
            self.0.read_line(&mut header).ok()?;
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            length = header.strip_prefix("content-length: ").map_or(length, |value| value.parse().unwrap());
            stays &= header != "connection: close";
        }
        self.0.read_exact(&mut vec![0; length]).ok()?;
        Some((status.split(' ').nth(1)?.parse().ok()?, stays))
    }
}

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
        let answer = reqwest::get(world.url("/health/ready")).await.ok()?;
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

/// No file of the process may become longer than `bytes`, as on a disk that is full.
fn limit_files(server: &Server, bytes: Option<u64>) {
    let pid = Pid::from_raw(server.pid().try_into().unwrap());
    prlimit(pid, Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_not_ready() {
    // Without the trap the kernel would end the process, which no full disk does.
    let world = Plan::new(Store::Sqlite).await.before("trap '' XFSZ").start().await;
    let pending = world.device().await;
    says(&world, 200, "ok").await;
    limit_files(&world.server, Some(4_096));
    is_degraded(&world, &pending).await;
    limit_files(&world.server, None);
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
