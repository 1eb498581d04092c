//! `cargo fleet`: see [`testkit::fleet`] and [`testkit::load`]. Exit status 0: every requirement is met; 1: one is not, or
//! there is no report; 130: Ctrl-C.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use testkit::report::{Judged as _, RunError};
use testkit::world::tell_error;
use testkit::{fleet, load};

/// Boxes of the field, or load, against the real server in front of a simulated Enedis.
///
/// Without a command: the same as `plugin`. Every run prints a table and a verdict per requirement; the exit status is 1 if
/// one is not met.
#[derive(Debug, Parser)]
#[command(name = "fleet", args_conflicts_with_subcommands = true)]
struct Fleet {
    #[command(subcommand)]
    mode: Option<Mode>,
    #[command(flatten)]
    plugin: fleet::Plan,
}

/// The loads differ by their defaults.
#[derive(Debug, Subcommand)]
enum Mode {
    Plugin(fleet::Plan),
    /// Devices that poll over connections kept alive, on a schedule that no answer delays; people who consent beside them.
    Polling(load::Plan),
    /// Whole device flows, from the code to the token, on a schedule that no answer delays.
    #[command(mut_arg("devices", |devices| devices.default_value("0")))]
    #[command(mut_arg("consents", |consents| consents.default_value("50")))]
    Consenting(load::Plan),
    /// Devices that poll over a new connection each time, on a schedule that no answer delays.
    #[command(mut_arg("devices", |devices| devices.default_value("20000")))]
    Reconnecting(load::Plan),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Fleet::parse();
    let ended = tokio::select! {
        ended = run(arguments.mode.unwrap_or(Mode::Plugin(arguments.plugin))) => ended,
        // What runs is stopped as it is dropped.
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
    };
    match ended {
        Ok((told, passed)) => {
            print!("{told}");
            ExitCode::from(u8::from(!passed))
        }
        Err(error) => {
            tell_error("fleet", &error);
            ExitCode::FAILURE
        }
    }
}

/// What a run came to: in words, and whether every requirement is met.
async fn run(mode: Mode) -> Result<(String, bool), RunError> {
    let plan = match mode {
        Mode::Plugin(plugin) => {
            let report = fleet::run(plugin).await?;
            return Ok((report.to_string(), report.passed()));
        }
        Mode::Polling(plan) | Mode::Consenting(plan) => plan,
        Mode::Reconnecting(plan) => load::Plan { reconnects: true, ..plan },
    };
    let report = load::run(&plan).await?;
    Ok((report.to_string(), report.passed()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn mode(arguments: &[&str]) -> Option<Mode> {
        let all = ["fleet"].iter().chain(arguments);
        Fleet::try_parse_from(all).expect("arguments").mode
    }

    #[test]
    fn the_plugin_is_played_unless_load_is_wanted() {
        Fleet::command().debug_assert();
        assert!(mode(&["--boxes", "3"]).is_none());
        assert!(matches!(mode(&["plugin", "--boxes", "3"]), Some(Mode::Plugin(plugin)) if plugin.boxes == 3));
        assert!(Fleet::try_parse_from(["fleet", "--boxes", "3", "polling"]).is_err());
    }

    #[test]
    fn loads_have_defaults_that_fit_each_other() {
        let Some(Mode::Polling(plan)) = mode(&["polling", "--set", "WORKERS=1"]) else { panic!("polling") };
        assert_eq!((plan.devices, plan.rate, plan.connections), (200_000, None, 1_000));
        assert_eq!((plan.consents, plan.p99_ms, plan.length.as_secs()), (0.0, Some(50.0), 60));
        assert_eq!(plan.settings, [("WORKERS".to_owned(), "1".to_owned())]);
        let Some(Mode::Reconnecting(plan)) = mode(&["reconnecting"]) else { panic!("reconnecting") };
        assert_eq!((plan.devices, plan.rate), (20_000, None));
        let Some(Mode::Consenting(plan)) = mode(&["consenting"]) else { panic!("consenting") };
        assert_eq!((plan.devices, plan.consents), (0, 50.0));
        assert!(Fleet::try_parse_from(["fleet", "polling", "--set", "WORKERS"]).is_err());
    }
}
