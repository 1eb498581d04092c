//! Logging: one subscriber, to standard error.
//!
//! Our own messages obey `RUST_LOG` down to `trace`. Those of libraries stop at `info`: below it some print whole
//! requests, and with them codes and tokens.

use std::io::stderr;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::Level;
use tracing_subscriber::filter::{dynamic_filter_fn, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

use crate::config::LogConfig;

/// Crates that are ours.
const OURS: [&str; 2] = ["device_flow_proxy", "actors"];

/// The module that accepts connections, which reports a listening socket that was closed on purpose as an error.
const ACCEPT: &str = "actix_server::accept";

/// Whether the listening socket was closed on purpose.
static LISTENER_CLOSED: AtomicBool = AtomicBool::new(false);

/// From now on nothing is reported of connections that cannot be accepted: the server stops.
pub fn listener_is_closed() {
    LISTENER_CLOSED.store(true, Ordering::Relaxed);
}

/// Installs the subscriber for the rest of the process.
pub fn install(config: &LogConfig) -> Result<(), TryInitError> {
    let asked = config.filter();
    let discreet = filter_fn(|metadata| {
        let krate = metadata.target().split("::").next().unwrap_or_default();
        *metadata.level() <= Level::INFO || OURS.contains(&krate)
    });
    let closed = dynamic_filter_fn(|metadata, _| {
        metadata.target() != ACCEPT || !LISTENER_CLOSED.load(Ordering::Relaxed)
    });
    let layer = if config.json {
        fmt::layer().json().with_writer(stderr).boxed()
    } else {
        fmt::layer().with_writer(stderr).with_ansi(std::io::IsTerminal::is_terminal(&stderr())).boxed()
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(discreet).with_filter(closed))
        .with(asked)
        .try_init()
}
