//! `meters`: what is remembered of a meter, and how it is deleted.
//!
//! Promises: a running server answers nothing of it any more within the hour; the grants that cover the meter stay. What
//! is deleted can be fetched again, as far back as Enedis keeps it.

use std::io::Write;

use actors::base::clock::SharedClock;

use super::tokens::parse_meter;
use super::{CommandError, Installation};
use crate::config::Config;

const ABOUT: &str = "\
Deletes what is remembered of a meter.

Works on this server's store (MongoDB if configured, else DATA_DIR), while the server runs; what that
has in memory it leaves unanswered within the hour. Tokens stay: `tokens revoke` ends those, and
deletes what is remembered of meters that no other grant covers.";

const EXAMPLES: &str = "\
Examples:
  device-flow-proxy meters forget 01234567890123";

/// Delete what is remembered of a meter
#[derive(Clone, clap::Args)]
#[command(long_about = ABOUT, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, clap::Subcommand)]
enum Action {
    /// Delete every value and all else that is remembered of a meter
    Forget {
        /// Its number, of 14 digits
        #[arg(value_name = "PRM")]
        meter: String,
    },
}

/// Deletes, and writes to `out` how much.
pub async fn run(
    arguments: &Arguments,
    config: &Config,
    clock: SharedClock,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let Action::Forget { meter } = &arguments.action;
    let meter = parse_meter(meter)?;
    let installation = Installation::of_server(config, clock).await?;
    let count = installation.forget(meter).await?;
    Ok(writeln!(out, "deleted {count} values")?)
}
