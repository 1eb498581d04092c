//! Where the server is, how many threads it has, and how it ends.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use actors::base::keyring::SLOTS;
use ipnet::IpNet;
use zeroize::Zeroizing;

use super::parse::Reader;
use crate::tls::{Files, TlsFaults};

/// Shortest `ADMIN_PASSWORD`: a few guesses a minute are allowed.
const PASSWORD_MIN: usize = 12;

/// What opens the operator's listener. `Debug` does not show it.
#[derive(Clone, derive_more::Debug)]
#[debug("AdminPassword(…)")]
pub struct AdminPassword(Zeroizing<String>);

impl AdminPassword {
    /// Whether these bytes are the password. How long that takes says nothing of where they differ, nor of its length.
    pub fn is(&self, given: &[u8]) -> bool {
        // Hashes of the crate compare in constant time.
        blake3::hash(self.0.as_bytes()) == blake3::hash(given)
    }
}

impl From<&str> for AdminPassword {
    fn from(text: &str) -> Self {
        Self(text.to_owned().into())
    }
}

impl PartialEq for AdminPassword {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.0.as_bytes())
    }
}

impl Eq for AdminPassword {}

/// Where the server is, and its threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// `LISTEN`.
    pub listen: SocketAddr,
    /// `ADMIN_LISTEN`; `None` if off.
    pub admin_listen: Option<SocketAddr>,
    /// `ADMIN_PASSWORD`; there is one wherever `ADMIN_LISTEN` is reached from other machines.
    pub admin_password: Option<AdminPassword>,
    /// `BASE_URL`, without a trailing slash.
    pub base_url: String,
    /// `TLS_CERT` and `TLS_KEY`, which can be used; `None`: plain HTTP.
    pub tls: Option<Files>,
    /// `REDIRECT_LISTEN`.
    pub redirect_listen: Option<SocketAddr>,
    /// `TRUSTED_PROXIES`.
    pub trusted_proxies: Vec<IpNet>,
    /// `MAX_CONNECTIONS_PER_IP`; 0: half of all.
    pub connections_per_ip: usize,
    /// `WORKERS`.
    pub workers: usize,
    /// `SHARDS`.
    pub shards: usize,
    /// `SHUTDOWN_DELAY_SECS`.
    pub shutdown_delay: Duration,
    /// `SHUTDOWN_SECS`.
    pub shutdown: Duration,
}

impl ServerConfig {
    /// `consent_max`: how long a consent may be under way.
    pub(super) fn read(r: &mut Reader<'_>, consent_max: Duration) -> Self {
        let cpus = std::thread::available_parallelism().map_or(2, usize::from);
        let workers = r.number("WORKERS", cpus, 1..=256);
        let base_url = r.url("BASE_URL", "http://localhost:8080", true);
        let tls = tls(r);
        let redirect_listen =
            r.value("REDIRECT_LISTEN", "an address and port", None, |text| text.parse().ok().map(Some));
        if (tls.is_some() || redirect_listen.is_some()) && base_url.scheme() != "https" {
            r.fault("BASE_URL", "an https:// URL, since TLS_CERT or REDIRECT_LISTEN is set");
        }
        let admin_listen =
            r.value("ADMIN_LISTEN", "an address and port, or off", Some(local(9464)), |text| {
                if text.eq_ignore_ascii_case("off") { Some(None) } else { text.parse().ok().map(Some) }
            });
        Self {
            listen: r.socket("LISTEN", local(8080)),
            admin_listen,
            admin_password: admin_password(r, admin_listen),
            tls,
            redirect_listen,
            base_url: base_url.as_str().trim_end_matches('/').to_owned(),
            trusted_proxies: r.networks("TRUSTED_PROXIES", "127.0.0.0/8,::1"),
            connections_per_ip: r.number("MAX_CONNECTIONS_PER_IP", 0, 0..=1_000_000),
            workers,
            shards: r.number("SHARDS", workers.min(SLOTS), 1..=SLOTS),
            shutdown_delay: r.seconds("SHUTDOWN_DELAY_SECS", 0, 0..=300),
            shutdown: r.seconds("SHUTDOWN_SECS", consent_max.as_secs(), 1..=300),
        }
    }
}

/// `ADMIN_PASSWORD`.
fn admin_password(r: &mut Reader<'_>, listen: Option<SocketAddr>) -> Option<AdminPassword> {
    let long = |text: &str| text.chars().count() >= PASSWORD_MIN;
    let expected = format!("at least {PASSWORD_MIN} characters");
    let password =
        r.value("ADMIN_PASSWORD", expected.as_str(), None, |text| long(text).then(|| Some(text.into())));
    if password.is_none() && listen.is_some_and(|address| !address.ip().is_loopback()) {
        r.fault("ADMIN_PASSWORD", format!("{expected}, since ADMIN_LISTEN is reached from other machines"));
    }
    password
}

/// `TLS_CERT` and `TLS_KEY`: neither or both.
fn tls(r: &mut Reader<'_>) -> Option<Files> {
    let files = match (r.text("TLS_CERT"), r.text("TLS_KEY")) {
        (None, None) => return None,
        (Some(certificate), Some(key)) => Files { certificate: certificate.into(), key: key.into() },
        (one, _) => {
            let missing = if one.is_some() { "TLS_KEY" } else { "TLS_CERT" };
            r.fault(missing, "a file, since the other of the two is set");
            return None;
        }
    };
    if let Err(TlsFaults { certificate, key }) = files.load() {
        for (name, expected) in [("TLS_CERT", certificate), ("TLS_KEY", key)] {
            if let Some(expected) = expected {
                r.fault(name, expected);
            }
        }
    }
    Some(files)
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
