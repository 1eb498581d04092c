//! `cargo demo`: see [`testkit::demo`].

use std::error::Error;
use std::process::ExitCode;

use clap::Parser as _;
use testkit::demo::{Arguments, run};

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = run(Arguments::parse()).await else { return ExitCode::SUCCESS };
    eprintln!("demo: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprintln!("  because: {cause}");
        source = cause.source();
    }
    ExitCode::FAILURE
}
