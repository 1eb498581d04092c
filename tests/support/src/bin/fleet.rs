//! `cargo fleet`: see [`testkit::fleet`]. Exit status 0: every requirement is met; 1: one is not, or there is no
//! report; 130: Ctrl-C.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser as _;
use testkit::fleet::Arguments;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = tokio::select! {
        ended = arguments.run() => ended,
        // What runs is stopped as it is dropped.
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
    };
    match ended {
        Ok(report) => {
            print!("{report}");
            ExitCode::from(u8::from(!report.passed()))
        }
        Err(error) => {
            eprintln!("fleet: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}
