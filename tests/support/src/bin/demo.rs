//! `cargo demo`: see [`testkit::demo`].

use std::error::Error;
use std::process::ExitCode;

use clap::Parser as _;
use testkit::demo::{Arguments, DemoError, run};
use testkit::proxy_build;

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = demo().await else { return ExitCode::SUCCESS };
    eprintln!("demo: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprintln!("  because: {cause}");
        source = cause.source();
    }
    ExitCode::FAILURE
}

async fn demo() -> Result<(), DemoError> {
    let arguments = Arguments::parse();
    run(&arguments, proxy_build::proxy()?, &|text| println!("{text}")).await
}
