//! `cargo faults`: see [`testkit::faults`]. Exit status 0: every guarantee held; 1: one did not, or there is no report;
//! 130: Ctrl-C.

use std::process::ExitCode;

use clap::Parser as _;
use testkit::faults::{Plan, run};
use testkit::report::Judged as _;
use testkit::world::tell_error;

#[tokio::main]
async fn main() -> ExitCode {
    let ended = tokio::select! {
        ended = run(Plan::parse()) => ended,
        // What runs is stopped as it is dropped.
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
    };
    match ended {
        Ok(report) => {
            print!("{report}");
            ExitCode::from(u8::from(!report.passed()))
        }
        Err(error) => {
            tell_error("faults", &error);
            ExitCode::FAILURE
        }
    }
}
