//! The public address, as a box or a browser finds it: TLS, who the reverse proxy says that it is, and how long it keeps a
//! connection on which nothing is sent.

use std::fs::File;
use std::io::{self, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actors::base::keyring::Keyring;
use indicatif::{ProgressBar, ProgressStyle};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::{Instant, timeout};
use url::Url;

use super::check::Check;
use super::line::{Certificate, Line, Unreached};
use crate::config::ServerConfig;
use crate::http::seen::{self, Seen};

const URL: &str = "BASE_URL";
const TLS: &str = "TLS";
const PROXY: &str = "TRUSTED_PROXIES";
const FORWARDED: &str = "X-Forwarded-For";
const PROTO: &str = "X-Forwarded-Proto";
const IDLE: &str = "idle time";
/// What a client may write of itself (RFC 5737): a proxy adds to it, or replaces it.
const INVENTED: &str = "192.0.2.1";
/// How a proxy says who is at the other end.
const SAY: &str = "nginx: proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; HAProxy: option forwardfor; Caddy \
                   and Apache httpd do it by themselves";
/// How a proxy keeps connections for long enough.
const KEEP: &str = "keep idle connections for 90 s: nginx keepalive_timeout 90s; Caddy timeouts { idle 90s }; HAProxy \
                    timeout client 90s and timeout http-keep-alive 90s; a load balancer of a cloud: its idle timeout";
/// What boxes need: the server itself keeps connections so long.
pub const NEEDED: Duration = Duration::from_secs(75);

/// The authorities that are trusted with the public address: the usual ones, and those in a file.
pub fn roots(more: Option<&Path>) -> io::Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = more {
        for certificate in CertificateDer::pem_reader_iter(BufReader::new(File::open(path)?)) {
            roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
    }
    Ok(Arc::new(roots))
}

/// Everything about the public address; the wait for an idle connection takes `patience` at most.
pub async fn look(
    server: &ServerConfig,
    keys: &Keyring,
    nonce: [u8; 16],
    roots: &Arc<RootCertStore>,
    patience: Duration,
) -> Vec<Check> {
    let Ok(base) = Url::parse(&server.base_url) else { return Vec::new() };
    let mut line = match Line::open(&base, roots).await {
        Ok(line) => line,
        Err(error) => return vec![unreached(&error)],
    };
    let mut checks: Vec<_> = line.certificate.iter().map(judge_certificate).collect();
    let path = |path: &str| format!("{}{path}", base.path().trim_end_matches('/'));
    let authorization = seen::authorization(keys, nonce);
    let headers = format!("authorization: {authorization}\r\nx-forwarded-for: {INVENTED}\r\n");
    let answer = match line.ask("GET", &path(seen::PATH), &headers).await {
        Ok(answer) => answer,
        Err(error) => {
            checks.push(unreached(&error));
            return checks;
        }
    };
    let told = serde_json::from_slice::<Seen>(&answer.body).ok().filter(|_| answer.status == 200);
    let Some(told) = told else {
        checks.push(astray(server, answer.status));
        return checks;
    };
    checks.extend(judge(&told, line.local, &base, server));
    if is_direct(&told, line.local) {
        checks.push(Check::good(IDLE, format!("{} s, by the server itself", NEEDED.as_secs())));
    } else if patience.is_zero() {
        checks.push(Check::skipped(IDLE, "not waited for"));
    } else {
        checks.push(idle(&base, &path("/device/token"), roots, patience).await);
    }
    checks
}

fn unreached(error: &Unreached) -> Check {
    let mend = match error {
        Unreached::Name(_) => "give the name an address in the DNS, or correct BASE_URL",
        Unreached::Connect(..) => {
            "start the reverse proxy, open the port; if the router does not lead its own public address back inside, run this \
             from elsewhere, or add the name to /etc/hosts"
        }
        Unreached::Tls(..) => {
            "BASE_URL says https: give the proxy a certificate, or the server TLS_CERT and TLS_KEY"
        }
        Unreached::Answer(..) => "BASE_URL may say http where https is spoken; else look at the proxy's log",
    };
    Check::failed(URL, error.to_string(), mend)
}

fn judge_certificate(certificate: &Certificate) -> Check {
    const RENEW: &str = "renew it (certbot, lego), and see that the proxy reads the new one";
    match certificate {
        Certificate::Good => Check::good(TLS, "a good certificate is shown"),
        Certificate::EndsSoon => Check::warning(TLS, "the certificate ends within two weeks", RENEW),
        Certificate::Bad(why) => Check::failed(
            TLS,
            format!("the certificate {why}: browsers and boxes turn away"),
            format!(
                "{RENEW}; send the certificates in between as well; --ca trusts an authority of your own"
            ),
        ),
    }
}

/// Somebody answers who is not this server.
fn astray(server: &ServerConfig, status: u16) -> Check {
    let listen = server.listen;
    match status {
        502..=504 => Check::failed(
            URL,
            format!("the reverse proxy says {status}: it does not reach the server"),
            format!("have it connect to {listen}, where LISTEN is; start the server"),
        ),
        _ => Check::failed(
            URL,
            format!("it leads to something else than this server, which says {status}"),
            format!(
                "have the proxy pass every path below BASE_URL, and Authorization, to {listen}; if another server of yours \
                 answers there, it has another SECRET_KEY"
            ),
        ),
    }
}

/// Whether nobody stands between.
fn is_direct(told: &Seen, local: SocketAddr) -> bool {
    (told.peer.ip().to_canonical(), told.peer.port()) == (local.ip().to_canonical(), local.port())
}

/// What is to be said of the headers that came through.
fn judge(told: &Seen, local: SocketAddr, base: &Url, server: &ServerConfig) -> Vec<Check> {
    if is_direct(told, local) {
        return vec![Check::good(URL, "leads to this server, with no reverse proxy between")];
    }
    let peer = told.peer.ip().to_canonical();
    let through = Check::good(URL, format!("leads to this server, through a reverse proxy at {peer}"));
    let proxy = if told.is_trusted {
        Check::good(PROXY, format!("{peer} is in it"))
    } else {
        let names = server.trusted_proxies.iter().map(ToString::to_string);
        let all: Vec<_> = names.chain([peer.to_string()]).collect();
        Check::failed(
            PROXY,
            format!("{peer} is not in it: all who come through it count as one"),
            format!("TRUSTED_PROXIES={}", all.join(",")),
        )
    };
    let forwarded = match told.forwarded_for.last() {
        None => {
            Check::failed(FORWARDED, "the reverse proxy drops it: all who come through it count as one", SAY)
        }
        Some(last) if last == INVENTED => Check::failed(
            FORWARDED,
            "the reverse proxy passes on what a client writes: anybody is whoever he likes",
            SAY,
        ),
        Some(last) => Check::good(FORWARDED, format!("the reverse proxy says that this is {last}")),
    };
    let proto = match told.forwarded_proto.as_deref() {
        Some(proto) if proto == base.scheme() => Check::good(PROTO, proto),
        // BASE_URL says it.
        None => Check::good(PROTO, "not said, and not needed"),
        Some(_) => Check::warning(
            PROTO,
            format!("not {}, as BASE_URL has it", base.scheme()),
            "correct BASE_URL, or the proxy that ends TLS; nginx: proxy_set_header X-Forwarded-Proto $scheme",
        ),
    };
    vec![through, proxy, forwarded, proto]
}

/// Waits with a connection over which a poll was refused, as boxes wait between two.
async fn idle(base: &Url, path: &str, roots: &Arc<RootCertStore>, patience: Duration) -> Check {
    let mut line = match Line::open(base, roots).await {
        Ok(line) => line,
        Err(error) => return unreached(&error),
    };
    let headers = "content-type: application/x-www-form-urlencoded\r\ncontent-length: 0\r\n";
    let answer = match line.ask("POST", path, headers).await {
        Ok(answer) => answer,
        Err(error) => return unreached(&error),
    };
    if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
        return Check::failed(
            IDLE,
            "the connection is closed after each pending poll, on which the plugin gives up",
            "take nginx, Caddy or HAProxy: Apache httpd closes it after every answer of status 400",
        );
    }
    let bar = ProgressBar::new(patience.as_secs()).with_message("how long an idle connection is kept");
    bar.set_style(
        ProgressStyle::with_template("{msg} {bar:30} {pos} of {len} s")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let begun = Instant::now();
    let tick = async {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        loop {
            second.tick().await;
            bar.set_position(begun.elapsed().as_secs());
        }
    };
    let ended = tokio::select! {
        ended = timeout(patience, line.ended()) => ended.is_ok(),
        () = tick => false,
    };
    bar.finish_and_clear();
    let lived = begun.elapsed().as_secs_f64().round();
    match ended {
        true if begun.elapsed() < NEEDED => Check::failed(
            IDLE,
            format!("an idle connection is closed after {lived} s, on which the plugin gives up"),
            KEEP,
        ),
        _ if patience > NEEDED => {
            Check::good(IDLE, format!("an idle connection lives for more than {} s", NEEDED.as_secs()))
        }
        _ => Check::skipped(
            IDLE,
            format!("an idle connection was kept for {lived} s; it has to be for {} s", NEEDED.as_secs()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::State;
    use super::*;
    use crate::config::{Config, EnvSource};

    #[test]
    fn what_the_headers_tell() {
        let server = Config::read(&EnvSource::default()).unwrap().server;
        let (base, local) =
            (Url::parse("https://linky.example.org").unwrap(), "198.51.100.7:4711".parse().unwrap());
        let states = |peer: &str, is_trusted, forwarded: &[&str], proto: Option<&str>| {
            let told = Seen {
                peer: peer.parse().unwrap(),
                is_trusted,
                forwarded_for: forwarded.iter().map(|&hop| hop.to_owned()).collect(),
                forwarded_proto: proto.map(str::to_owned),
                host: None,
            };
            judge(&told, local, &base, &server).into_iter().map(|check| check.state).collect::<Vec<_>>()
        };
        let (good, bad) = (State::Good, State::Failed);
        assert_eq!(states("[::ffff:198.51.100.7]:4711", false, &[INVENTED], None), [good]);
        let proxy = "10.0.0.1:80";
        assert_eq!(states(proxy, true, &[INVENTED, "198.51.100.7"], Some("https")), [good; 4]);
        assert_eq!(states(proxy, true, &["198.51.100.7"], None), [good; 4]);
        assert_eq!(states(proxy, true, &[], Some("http")), [good, good, bad, State::Warning]);
        assert_eq!(states(proxy, true, &[INVENTED], None), [good, good, bad, good]);
        assert_eq!(states(proxy, false, &["198.51.100.7"], None), [good, bad, good, good]);
    }
}
