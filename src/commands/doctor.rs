//! `doctor`: looks at everything that a server needs, says what it found and how to mend it. Changes nothing.
//!
//! A server may run meanwhile; where none does, what the public address leads to is this command.

mod check;
mod enedis;
mod line;
mod outside;
mod stored;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actors::base::clock::SharedClock;
use actors::base::keyring::Keyring;

use self::check::{Check, Report};
use super::{CommandError, Format, chain};
use crate::app;
use crate::config::{Config, ConfigErrors, Warning};
use crate::healthcheck::{self, Unhealthy};
use crate::http::seen;
use crate::secret;
use crate::tls::Certificate;

const CONFIGURATION: &str = "configuration";
const SERVER: &str = "server";

const ABOUT: &str = "\
Looks at the configuration, the store and its key, Enedis with its certificate, the clock (by Enedis' time),
and at the public address BASE_URL as it is seen from outside, through the reverse proxy: TLS, headers, and how
long an idle connection is kept. Says of each what was found and how to mend it.

Changes nothing. A server may run meanwhile or not. Run it as the server's user, with its settings.
Exit status 0: nothing is wrong; 1: something is; 64: the configuration is.";

const EXAMPLES: &str = "\
Examples:
  device-flow-proxy doctor
  device-flow-proxy doctor --idle-secs 0 --json
  device-flow-proxy doctor --ca /etc/ssl/our-authority.pem";

/// Look at all that a server needs, and say how to mend what is wrong
#[derive(Clone, clap::Args)]
#[command(long_about = ABOUT, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    format: Format,
    /// Wait so many seconds at most for an idle connection to be closed; 0: do not look
    #[arg(long, value_name = "SECS", default_value_t = outside::NEEDED.as_secs() + 1,
        value_parser = clap::value_parser!(u64).range(..=600))]
    idle_secs: u64,
    /// Trust these authorities (PEM) with the public address besides the usual ones
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// Says what is wrong with a configuration that cannot be read.
pub fn refuse(
    arguments: &Arguments,
    faults: &ConfigErrors,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let faults = faults.0.iter().map(|fault| {
        Check::failed(
            CONFIGURATION,
            format!("{} is not as it has to be", fault.name),
            format!("give {}", fault.expected),
        )
    });
    Ok(Report::of(faults.collect()).write(arguments.format.json, out)?)
}

/// Looks at everything and writes to `out` what was found.
pub async fn run(
    arguments: &Arguments,
    config: &Config,
    clock: SharedClock,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let roots = outside::roots(arguments.ca.as_deref())
        .map_err(|_| CommandError::Usage("--ca names a file of certificates in PEM"))?;
    let mut checks = configuration(config, &clock);
    let keys = config.storage.find_keys();
    let stored = stored::look(&config.storage, &keys).await;
    checks.extend(stored);
    let server = healthcheck::ask(&config.server).await;
    // Without a key there is no server that would know another.
    let secret = keys.ok().flatten().and_then(|keys| keys.into_iter().next());
    let secret = secret.map_or_else(secret::random, |key| Ok(*key))?;
    let keyring = Arc::new(Keyring::new(&secret));
    let (check, stand_in) = in_place_of(config, server, &keyring);
    checks.push(check);
    let mut nonce = [0; 16];
    nonce.copy_from_slice(&secret::random()?[..16]);
    let patience = Duration::from_secs(arguments.idle_secs);
    let (of_enedis, of_outside) = futures_util::future::join(
        enedis::look(&config.enedis, clock.as_ref()),
        outside::look(&config.server, &keyring, nonce, &roots, patience),
    )
    .await;
    if let Some(server) = stand_in {
        server.stop(false).await;
    }
    checks.extend(of_enedis.into_iter().chain(of_outside));
    let report = Report::of(checks);
    report.write(arguments.format.json, out)?;
    if report.healthy { Ok(()) } else { Err(CommandError::Unhealthy) }
}

fn configuration(config: &Config, clock: &SharedClock) -> Vec<Check> {
    let warnings = config.warnings(clock.wall()).into_iter();
    let warnings = warnings.map(|Warning { name, danger }| Check::warning(CONFIGURATION, name, danger));
    [Check::good(CONFIGURATION, "every setting can be used")].into_iter().chain(warnings).collect()
}

/// Serves in place of a server that does not run.
fn in_place_of(
    config: &Config,
    server: Result<(), Unhealthy>,
    keys: &Arc<Keyring>,
) -> (Check, Option<ServerHandle>) {
    let listen = config.server.listen;
    let error = match server {
        Ok(()) => return (Check::good(SERVER, format!("is ready at {listen}")), None),
        Err(error @ Unhealthy::NotReady { .. }) => {
            let mend = "GET /health/ready says what works; its log says why (docs/operations.md, Readiness)";
            return (Check::failed(SERVER, error.to_string(), mend), None);
        }
        Err(error @ Unhealthy::Silent { .. }) => error,
    };
    let listening = app::listen(listen).map_err(|error| chain(&error));
    let stand_in = listening.and_then(|listener| {
        let tls = match config.server.tls.clone() {
            None => None,
            Some(files) => {
                let certificate = Arc::new(Certificate::load(files).map_err(|error| error.to_string())?);
                Some(certificate.server().map_err(|error| error.to_string())?)
            }
        };
        let trusted = config.server.trusted_proxies.clone();
        seen::stand_in(listener, tls, &config.server.base_url, Arc::clone(keys), trusted)
            .map_err(|error| error.to_string())
    });
    match stand_in {
        Ok(server) => {
            let handle = server.handle();
            actix_rt::spawn(server);
            (
                Check::good(SERVER, format!("does not run; this command answered at {listen} in its place")),
                Some(handle),
            )
        }
        Err(reason) => {
            let mend =
                "see who listens there (ss -ltnp), or whether the port may be used; then start the server";
            (Check::failed(SERVER, format!("{error}; nor can it be stood in for: {reason}"), mend), None)
        }
    }
}
