//! `cargo demo`: see [`testkit::demo`].

use std::process::ExitCode;

use clap::Parser as _;
use testkit::demo::{Arguments, run};
use testkit::http::Fault;
use testkit::server::build_proxy;
use testkit::world::tell_error;

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = demo().await else { return ExitCode::SUCCESS };
    tell_error("demo", &*error);
    ExitCode::FAILURE
}

async fn demo() -> Result<(), Fault> {
    let arguments = Arguments::parse();
    run(&arguments, build_proxy()?, &|text| println!("{text}")).await
}
