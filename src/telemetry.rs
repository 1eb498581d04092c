//! Logging: one subscriber, to standard error.
//!
//! Our own messages obey `RUST_LOG` down to `trace`. Those of libraries stop at `info`: below it some print whole
//! requests, and with them codes and tokens.

use std::io::stderr;

use tracing::Level;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::config::LogConfig;

/// Crates that are ours.
const OURS: [&str; 2] = ["device_flow_proxy", "actors"];

/// Installs the subscriber for the rest of the process.
pub fn install(config: &LogConfig) -> Result<(), TryInitError> {
    let asked = EnvFilter::new(&config.filter);
    let discreet = filter_fn(|metadata| {
        let krate = metadata.target().split("::").next().unwrap_or_default();
        *metadata.level() <= Level::INFO || OURS.contains(&krate)
    });
    let layer = if config.json {
        fmt::layer().json().with_writer(stderr).boxed()
    } else {
        fmt::layer().with_writer(stderr).with_ansi(std::io::IsTerminal::is_terminal(&stderr())).boxed()
    };
    tracing_subscriber::registry().with(layer.with_filter(discreet)).with(asked).try_init()
}
