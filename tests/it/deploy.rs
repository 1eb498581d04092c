//! The examples under `deploy/`, as they stand but for names, ports and files.

use std::net::{IpAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use testkit::device::{DEVICE_CODE_GRANT, Device, Tokens};
use testkit::http::Answer;
use testkit::person::Person;
use testkit::process::Process;
use testkit::{net, tls};

use crate::fixture::{CLIENT, Plan, Store, World, each, eventually};
use crate::line::TlsLine;

/// One of Debian's proxies.
pub struct Proxy {
    binary: &'static str,
    example: &'static str,
    /// What the example says of where it listens, and what that becomes in front of a port.
    listens: (&'static str, &'static str),
    /// The file around the example, `%` for a directory of its own.
    around: fn(&str) -> String,
    /// Arguments before the file.
    arguments: &'static [&'static str],
    /// Whether the connection outlives an answer of status 400.
    outlives_400: bool,
}

pub const NGINX: Proxy = Proxy {
    binary: "/usr/sbin/nginx",
    example: include_str!("../../deploy/nginx.conf"),
    listens: ("listen 443", "listen 127.0.0.1:"),
    around: |example| {
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|name| format!("{name}_temp_path %/{name};\n")).concat();
        let alone = "daemon off;\nmaster_process off;\npid %/pid;\nerror_log stderr;\nevents {}\n";
        format!("{alone}http {{\n{temporary}{example}}}\n")
    },
    arguments: &["-e", "stderr", "-c"],
    outlives_400: true,
};

const CADDY: Proxy = Proxy {
    binary: "/usr/bin/caddy",
    example: include_str!("../../deploy/Caddyfile"),
    listens: ("localhost:443", "localhost:"),
    around: |example| example.replacen("\n{\n", "\n{\n\tadmin off\n\tdefault_bind 127.0.0.1\n", 1),
    arguments: &["run", "--adapter", "caddyfile", "--config"],
    outlives_400: true,
};

const APACHE: Proxy = Proxy {
    binary: "/usr/sbin/apache2",
    example: include_str!("../../deploy/apache.conf"),
    listens: ("*:443", "127.0.0.1:"),
    around: |example| {
        let modules = ["mpm_event", "authz_core", "socache_shmcb", "ssl", "proxy", "proxy_http"];
        let load = |name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n");
        let modules: String = modules.map(load).concat();
        let host = example.lines().find_map(|line| line.strip_prefix("<VirtualHost ")).unwrap();
        let host = host.trim_end_matches('>');
        let alone =
            "ServerRoot %\nDefaultRuntimeDir %\nPidFile %/pid\nErrorLog /dev/stderr\nServerName localhost\n";
        format!("{alone}User www-data\nGroup www-data\nListen {host}\n{modules}{example}")
    },
    arguments: &["-X", "-f"],
    outlives_400: false,
};

const HAPROXY: Proxy = Proxy {
    binary: "/usr/sbin/haproxy",
    example: include_str!("../../deploy/haproxy.cfg"),
    listens: ("bind :443", "bind 127.0.0.1:"),
    around: str::to_owned,
    arguments: &["-db", "-f"],
    outlives_400: true,
};

/// A proxy in front of a server.
pub struct Front {
    pub world: World,
    /// The certificate that it shows, with that of its authority.
    pub certificate: PathBuf,
    address: String,
    _process: Process,
    _files: TempDir,
}

impl Front {
    /// In front of a server below `prefix`, closing connections that were idle for `idle`.
    async fn start(proxy: &Proxy, prefix: &str, idle: &str) -> Self {
        Self::altered(proxy, prefix, &[("90s", idle)]).await
    }

    /// The same with these parts of the example in place of others.
    pub async fn altered(proxy: &Proxy, prefix: &str, altered: &[(&str, &str)]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let (directory, port) = (files.path().to_str().unwrap(), net::free_port().unwrap());
        let certificate = tls::issue(files.path()).certificate;
        let plan = Plan::new(Store::Sqlite).await;
        let plan = plan.env("BASE_URL", &format!("https://localhost:{port}{prefix}"));
        // Of this machine only the address that the proxy has, so that others can be clients.
        let plan = plan.env("TRUSTED_PROXIES", "127.0.0.1").env("DEVICE_CODES_PER_MINUTE_PER_IP", "10");
        let world = plan.start().await;
        let (from, to) = proxy.listens;
        let text = [
            ("linky.example.org", "localhost"),
            ("/linky", prefix),
            ("/etc/ssl/private", directory),
            ("127.0.0.1:8080", world.server.listen()),
            (from, &format!("{to}{port}")),
        ];
        let text = text.iter().chain(altered).fold(proxy.example.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from} is not in {}", proxy.example);
            text.replace(from, to)
        });
        let config = files.path().join("proxy.conf");
        std::fs::write(&config, (proxy.around)(&text).replace('%', directory)).unwrap();
        let mut command = Command::new(proxy.binary);
        command.args(proxy.arguments).arg(&config).env("HOME", directory).env_remove("XDG_DATA_HOME");
        let process = Process::spawn(&mut command, Path::new(directory));
        let process = process.unwrap_or_else(|error| panic!("{}: {error}", proxy.binary));
        let address = format!("127.0.0.1:{port}");
        eventually(proxy.binary, || async {
            assert!(process.ended().unwrap().is_none(), "{}", process.lines().join("\n"));
            TcpStream::connect(&address).ok()
        })
        .await;
        Self { world, certificate, address, _process: process, _files: files }
    }

    /// A connection after a pending poll, and whether it stays open.
    fn polled(&self, device: &Device) -> (TlsLine, bool) {
        let mut line = TlsLine::open_tls(&self.address);
        let (status, stays) = line.send(&self.poll(device)).expect("an answer");
        assert_eq!(status, 400);
        (line, stays)
    }

    /// A poll, byte by byte.
    fn poll(&self, device: &Device) -> String {
        let code = &device.code().device_code;
        let form = format!("grant_type={DEVICE_CODE_GRANT}&client_id={CLIENT}&device_code={code}");
        let url = url::Url::parse(&self.world.url("/device/token")).unwrap();
        let type_and_length =
            format!("content-type: application/x-www-form-urlencoded\r\ncontent-length: {}", form.len());
        format!("POST {} HTTP/1.1\r\nhost: localhost\r\n{type_and_length}\r\n\r\n{form}", url.path())
    }

    /// Asks for codes from `source`, with an address that is not its own in the header; the status.
    async fn ask(&self, source: &str, invented: usize) -> u16 {
        let client =
            testkit::http::builder().local_address(source.parse::<IpAddr>().unwrap()).build().unwrap();
        let request = client.post(self.world.url("/device/code")).form(&[("client_id", CLIENT)]);
        let request = request.header("x-forwarded-for", format!("198.51.100.{invented}"));
        request.send().await.unwrap().status().as_u16()
    }
}

/// The whole of it, below a path and on a host of its own.
async fn serves(proxy: Proxy) {
    each(["/linky", ""], async |prefix| {
        let front = Front::start(&proxy, prefix, "90s").await;
        let world = &front.world;
        let device = world.device().await;
        let (mut line, stays) = front.polled(&device);
        assert_eq!(stays, proxy.outlives_400);
        if stays {
            assert_eq!(line.send(&front.poll(&device)), Some((400, true)), "the connection goes on");
        }

        let page = Person::new().open_once(device.code().link()).await.unwrap();
        let cookie = page.headers.get("set-cookie").unwrap().to_str().unwrap();
        let words: Vec<_> = cookie.split("; ").collect();
        assert!(
            words[0].starts_with("__Host-") && words.contains(&"Secure") && words.contains(&"Path=/"),
            "{cookie}"
        );
        let tokens = Tokens::read(&world.link(&device).await.json).unwrap();
        assert_eq!(device.refresh(&tokens.refresh, &[]).await.unwrap().status, 200);

        let metadata =
            format!("https://localhost:{}/.well-known/oauth-authorization-server{prefix}", port(&front));
        let metadata =
            Answer::read(testkit::http::client().get(metadata).send().await.unwrap()).await.unwrap();
        assert_eq!(metadata.text("issuer"), Some(world.server.base_url()), "{}", metadata.body);

        let mut invented = 1..200;
        let refused = async |n| front.ask("127.0.0.2", n).await == 429;
        let mut told = false;
        while let (false, Some(n)) = (told, invented.next()) {
            told = refused(n).await;
        }
        assert!(told, "whatever it says of itself, a client is one address");
        assert_eq!(front.ask("127.0.0.3", 1).await, 200, "another client is another");
    })
    .await;
}

fn port(front: &Front) -> &str {
    front.address.rsplit(':').next().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_serves_boxes_and_people() {
    serves(NGINX).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caddy_serves_boxes_and_people() {
    serves(CADDY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_serves_boxes_and_people() {
    serves(HAPROXY).await;
}

/// All but boxes that want their connection to outlive a pending poll, which the example says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apache_serves_who_opens_a_connection_anew() {
    assert!(APACHE.example.contains("WARNING"));
    serves(APACHE).await;
}

/// The time in the example is the one that counts: with another in its place, the connection ends by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_end_as_the_examples_say() {
    each([NGINX, CADDY, HAPROXY], async |proxy| {
        let front = Front::start(&proxy, "/linky", "3s").await;
        let device = front.world.device().await;
        tokio::task::block_in_place(|| {
            let (mut line, stays) = front.polled(&device);
            assert!(stays && line.ends(), "{}", proxy.binary);
        });
    })
    .await;
}

/// As they stand, with nothing shortened: `cargo test --test it deploy -- --ignored`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes 76 seconds"]
async fn idle_connections_live_for_75_seconds() {
    each([NGINX, CADDY, HAPROXY], async |proxy| {
        let front = Front::start(&proxy, "/linky", "90s").await;
        let device = front.world.device().await;
        let (mut line, _) = front.polled(&device);
        tokio::time::sleep(Duration::from_secs(76)).await;
        assert_eq!(line.send(&front.poll(&device)), Some((400, true)), "{}", proxy.binary);
    })
    .await;
}
