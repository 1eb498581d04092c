//! What an operator meets: too few descriptors, a full disk, restarts, backups.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};
use testkit::person::Choice;

use crate::fixture::{PATIENCE, Plan, Store, eventually};

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
