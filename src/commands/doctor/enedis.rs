//! Enedis as seen from here: each of its hosts, its certificate, and the time that it tells.

use std::sync::Arc;

use actors::base::clock::{Clock, Timestamp};
use futures_util::future::join_all;
use rustls::RootCertStore;
use url::Url;

use super::check::Check;
use super::line::{Certificate, Line, Unreached};
use crate::config::{EnedisConfig, Flow};

const ENEDIS: &str = "Enedis";
const CERTIFICATE: &str = "Enedis' TLS";
const CLOCK: &str = "clock";
/// Milliseconds that the clock may be off: `Date` has seconds, and comes a moment late.
const OFF_MAX: i64 = 30_000;

/// What one host told.
struct Told {
    checks: Vec<Check>,
    /// How far this machine's clock is ahead of it, in milliseconds.
    ahead: Option<i64>,
}

/// Every host of Enedis that is called, then the clock. A browser opens the first, this server the others.
pub async fn look(enedis: &EnedisConfig, clock: &dyn Clock) -> Vec<Check> {
    let roots = Arc::new(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    let mut urls = vec![&enedis.upstream.token];
    if let Flow::ClientCredentials(metering) = &enedis.flow {
        urls.push(&metering.data);
    }
    urls.push(&enedis.upstream.authorize);
    let mut hosts: Vec<&Url> = Vec::new();
    for url in urls {
        if !hosts.iter().any(|known| known.origin() == url.origin()) {
            hosts.push(url);
        }
    }
    let told = join_all(hosts.into_iter().map(|url| ask(url, &roots, clock))).await;
    let ahead = told.iter().find_map(|told| told.ahead);
    let mut checks: Vec<_> = told.into_iter().flat_map(|told| told.checks).collect();
    checks.push(ahead.map_or_else(|| Check::skipped(CLOCK, "Enedis tells no time"), judge_clock));
    checks
}

async fn ask(url: &Url, roots: &Arc<RootCertStore>, clock: &dyn Clock) -> Told {
    let name = url.host_str().unwrap_or_default();
    let mut told = Told { checks: Vec::new(), ahead: None };
    let mut line = match Line::open(url, roots).await {
        Ok(line) => line,
        Err(error) => {
            told.checks.push(unreached(&error));
            return told;
        }
    };
    let before = clock.wall();
    let answer = line.ask("GET", url.path(), "accept: application/json\r\nconnection: close\r\n").await;
    match answer {
        Err(error) => told.checks.push(unreached(&error)),
        Ok(answer) => {
            told.ahead = answer.header("date").and_then(|date| ahead(date, before, clock.wall()));
            // Without a code or a token it refuses, by whatever status.
            told.checks.push(if answer.status >= 500 {
                let found = format!("{name} answers, and says {}: it is in trouble", answer.status);
                Check::warning(ENEDIS, found, "wait: boxes are told to come again; /status says since when")
            } else {
                Check::good(ENEDIS, format!("{name} answers"))
            });
        }
    }
    told.checks.extend(line.certificate.map(|certificate| judge_certificate(name, &certificate)));
    told
}

fn unreached(error: &Unreached) -> Check {
    let mend = match error {
        Unreached::Name(_) => {
            "see that this machine resolves names (/etc/resolv.conf), and that the endpoint is spelt right"
        }
        Unreached::Connect(..) => {
            "let this machine connect there (firewall, egress rules of a container); if others cannot either, it is Enedis: wait"
        }
        Unreached::Tls(..) => {
            "something on the way speaks in Enedis' place (a proxy, a firewall that inspects): let it through"
        }
        Unreached::Answer(..) => "it is Enedis, or something on the way: wait, then look at firewalls",
    };
    Check::failed(ENEDIS, error.to_string(), mend)
}

fn judge_certificate(name: &str, certificate: &Certificate) -> Check {
    match certificate {
        Certificate::Good => Check::good(CERTIFICATE, format!("{name} shows a good certificate")),
        Certificate::EndsSoon => {
            Check::good(CERTIFICATE, format!("{name} shows a good certificate, which ends within two weeks"))
        }
        Certificate::Bad(why) => Check::failed(
            CERTIFICATE,
            format!("the certificate of {name} {why}: nothing is sent there"),
            "look at the clock first; then at what stands between (a proxy or firewall that inspects TLS); the authorities \
             are those of this version's build: a new one may know more",
        ),
    }
}

/// How far the clock is ahead of a `Date` that came between two moments.
fn ahead(date: &str, before: Timestamp, after: Timestamp) -> Option<i64> {
    let at = httpdate::parse_http_date(date).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    // It was cut to the second.
    let told = i64::try_from(at.as_millis()).ok()? + 500;
    let middle = (before.as_millis() / 2 + after.as_millis() / 2).cast_signed();
    Some(middle - told)
}

fn judge_clock(ahead: i64) -> Check {
    let secs = ahead.unsigned_abs() / 1000;
    if ahead.abs() <= OFF_MAX {
        return Check::good(CLOCK, format!("within {} s of Enedis'", secs + 1));
    }
    let side = if ahead > 0 { "ahead of" } else { "behind" };
    Check::failed(
        CLOCK,
        format!("{secs} s {side} Enedis': tokens and days end at the wrong time"),
        "let the machine follow NTP (timedatectl set-ntp true, or chrony), then restart the server",
    )
}

#[cfg(test)]
mod tests {
    use super::super::check::State;
    use super::*;

    #[test]
    fn a_date_is_compared_with_the_middle_of_the_wait() {
        let at = |secs: u64| Timestamp::from_millis(1_795_996_800_000 + secs * 1_000);
        let date = "Mon, 30 Nov 2026 00:00:00 GMT";
        assert_eq!(ahead(date, at(0), at(1)), Some(0));
        assert_eq!(ahead(date, at(3_600), at(3_601)), Some(3_600_000));
        assert_eq!(ahead("yesterday", at(0), at(0)), None);
        for (off, state) in
            [(0, State::Good), (-30_000, State::Good), (30_001, State::Failed), (-3_600_000, State::Failed)]
        {
            assert_eq!(judge_clock(off).state, state, "{off}");
        }
    }
}
