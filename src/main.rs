//! The command line. Decides exit codes and nothing else: 0 drained or done, 1 could not start or do what was asked, 64
//! bad configuration or usage.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use actors::base::clock::machine::MachineClock;
use actors::base::clock::{Clock, Timestamp};
use clap::Parser;
use clap::error::ErrorKind;
use device_flow_proxy::app::Application;
use device_flow_proxy::cli::{self, Arguments, Command};
use device_flow_proxy::commands::{
    CommandError, audit, backup, chain, check_store, doctor, import_php, keys, meters, sessions, tokens,
};
use device_flow_proxy::config::{Config, EnvSource, Warning};
use device_flow_proxy::systemd::Sockets;
use device_flow_proxy::{descriptors, healthcheck, secret, shutdown, telemetry};
use mimalloc::MiMalloc;
use zeroizing_alloc::ZeroAlloc;

// Cheaper for the many small pieces of a request than the system's; what is given back is overwritten.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

/// Bad configuration or usage (sysexits `EX_USAGE`).
const USAGE: u8 = 64;

/// Nothing was done (sysexits `EX_UNAVAILABLE`).
const UNAVAILABLE: u8 = 69;

fn main() -> ExitCode {
    if let Err(error) = secret::keep_out_of_dumps() {
        return fail(&format!("memory dumps cannot be turned off: {error}"), 1);
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A terminal that was closed changes no exit code.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(USAGE) };
        }
    };
    let out = &mut std::io::stdout();
    match &arguments.command {
        Some(Command::Completions { shell }) => return written(cli::completions(*shell, out)),
        Some(Command::Man { dir }) => return written(cli::man(dir.as_deref(), out)),
        _ => {}
    }
    let environment = match EnvSource::load(Path::new(".env")) {
        Ok(environment) => environment,
        Err(error) => return fail(&error.to_string(), USAGE),
    };
    let config = match Config::read(&environment) {
        Ok(config) => config,
        Err(faults) => {
            if let Some(Command::Doctor(arguments)) = &arguments.command
                && let Err(error) = doctor::refuse(arguments, &faults, out)
            {
                return done(Err(error));
            }
            return fail(&faults.to_string(), USAGE);
        }
    };
    // The server's clock: what has ended for it has ended for a command.
    let clock = Arc::new(MachineClock::new(config.clock_offset));
    match arguments.command.unwrap_or(Command::Serve) {
        Command::CheckConfig => {
            for Warning { name, danger } in config.warnings(clock.wall()) {
                println!("warning: {name}: {danger}");
            }
            println!("the configuration is good; what will run:");
            for (what, how) in config.summary() {
                println!("  {what:14}  {how}");
            }
            ExitCode::SUCCESS
        }
        Command::Healthcheck => match actix_rt::System::new().block_on(healthcheck::ask(&config.server)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string(), 1),
        },
        Command::Doctor(arguments) => {
            done(actix_rt::System::new().block_on(doctor::run(&arguments, &config, clock, out)))
        }
        Command::ImportPhp(arguments) => {
            done(actix_rt::System::new().block_on(import_php::run(&arguments, &config, clock, out)))
        }
        Command::Sessions(arguments) => {
            done(actix_rt::System::new().block_on(sessions::run(&arguments, &config, clock, out)))
        }
        Command::Tokens(arguments) => {
            done(actix_rt::System::new().block_on(tokens::run(&arguments, &config, clock, out)))
        }
        Command::Meters(arguments) => {
            done(actix_rt::System::new().block_on(meters::run(&arguments, &config, clock, out)))
        }
        Command::Audit(arguments) => {
            done(actix_rt::System::new().block_on(audit::run(&arguments, &config, out)))
        }
        Command::Keys(arguments) => {
            done(actix_rt::System::new().block_on(keys::run(&arguments, &config, clock, out)))
        }
        Command::Backup(arguments) => done(backup::run(&arguments, &config, out)),
        Command::CheckStore(arguments) => {
            done(actix_rt::System::new().block_on(check_store::run(&arguments, &config, out)))
        }
        Command::Serve => serve(config, clock.wall()),
        // They need no configuration.
        Command::Completions { .. } | Command::Man { .. } => ExitCode::SUCCESS,
    }
}

fn serve(config: Config, now: Timestamp) -> ExitCode {
    let sockets = match Sockets::take() {
        Ok(sockets) => sockets,
        Err(error) => return fail(&format!("the sockets that were handed over cannot be used: {error}"), 1),
    };
    if let Err(error) = telemetry::install(&config.log) {
        return fail(&error.to_string(), 1);
    }
    for Warning { name, danger } in config.warnings(now) {
        tracing::warn!(setting = name, "{danger}");
    }
    if let Err(error) = descriptors::raise_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    shutdown::abort_on_panic();
    let runner = actix_rt::System::new();
    let code = runner.block_on(async {
        let stop = match shutdown::signal() {
            Ok(stop) => stop,
            Err(error) => return fail(&error.to_string(), 1),
        };
        let application = match Application::bind(config, sockets).await {
            Ok(application) => application,
            Err(error) => return fail(&chain(&error), if error.is_usage() { USAGE } else { 1 }),
        };
        if application.run_until(stop).await { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    });
    // Everything is drained. Dropping the runtime would make actix poll each actor once more, without a runtime for
    // its timers; the process ends here anyway.
    std::mem::forget(runner);
    code
}

fn written(result: std::io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("the output cannot be written: {error}"), 1),
    }
}

fn done(result: Result<(), CommandError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_usage() => fail(&chain(&error), USAGE),
        Err(error) if error.is_unavailable() => fail(&chain(&error), UNAVAILABLE),
        Err(error) => fail(&chain(&error), 1),
    }
}

fn fail(reason: &str, code: u8) -> ExitCode {
    eprintln!("device-flow-proxy: {reason}");
    ExitCode::from(code)
}
