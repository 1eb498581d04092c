//! The command line: every command with its help, and what is made of it for shells and for `man`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::commands::{audit, backup, check_store, doctor, import_php, keys, meters, sessions, tokens};

const NAME: &str = "device-flow-proxy";

const EXAMPLES: &str = "\
Examples:
  device-flow-proxy                    run the server, with the settings of ./.env and of the environment
  device-flow-proxy check-config       look at the settings, and say what would run
  device-flow-proxy doctor             look at everything around as well
  device-flow-proxy help tokens        what a command does, with examples";

/// OAuth 2.0 device flow in front of Enedis Data Connect, for boxes without a browser.
///
/// Settings come from the environment and from an `.env` file in the current directory; .env.example documents each.
#[derive(Parser)]
#[command(name = NAME, version, after_help = EXAMPLES)]
pub struct Arguments {
    /// What to do; none: serve.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const SERVE: &str = "\
Examples:
  device-flow-proxy serve
  FLOW=DEVICE LISTEN=127.0.0.1:8080 BASE_URL=https://linky.example.org device-flow-proxy serve";
const CHECK_CONFIG: &str = "\
Examples:
  device-flow-proxy check-config
  device-flow-proxy check-config && systemctl restart device-flow-proxy";
const HEALTHCHECK: &str = "\
Examples:
  device-flow-proxy healthcheck
  device-flow-proxy healthcheck || echo \"it takes no work\"";
const COMPLETIONS: &str = "\
Examples:
  device-flow-proxy completions bash > /etc/bash_completion.d/device-flow-proxy
  device-flow-proxy completions zsh > \"${fpath[1]}/_device-flow-proxy\"
  device-flow-proxy completions fish > ~/.config/fish/completions/device-flow-proxy.fish";
const MAN: &str = "\
Examples:
  device-flow-proxy man | man -l -
  device-flow-proxy man --dir /usr/local/share/man/man1";

/// One command.
#[derive(Clone, Subcommand)]
#[expect(missing_docs, reason = "the commands' own help documents them")]
pub enum Command {
    /// Run the server until SIGTERM or Ctrl-C (default)
    #[command(after_help = SERVE)]
    Serve,
    /// Check the configuration, report every fault, say what would run, and exit
    #[command(after_help = CHECK_CONFIG)]
    CheckConfig,
    Doctor(doctor::Arguments),
    /// Ask the server at LISTEN whether it is ready; exit status 0 if so
    #[command(after_help = HEALTHCHECK)]
    Healthcheck,
    ImportPhp(import_php::Arguments),
    Sessions(sessions::Arguments),
    Tokens(tokens::Arguments),
    Meters(meters::Arguments),
    Audit(audit::Arguments),
    Keys(keys::Arguments),
    Backup(backup::Arguments),
    CheckStore(check_store::Arguments),
    /// Print what a shell needs to complete commands and options
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write that of each command to a directory
    #[command(after_help = MAN)]
    Man {
        /// The directory, which must be there
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

/// Writes what `shell` needs to complete.
pub fn completions(shell: Shell, out: &mut impl Write) -> io::Result<()> {
    // Made first: the generator would panic at a pipe that is closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), NAME, &mut script);
    out.write_all(&script)
}

/// Writes the manual page to `out`, or one for each command to `dir`.
pub fn man(dir: Option<&Path>, out: &mut impl Write) -> io::Result<()> {
    let command = Arguments::command();
    match dir {
        None => Man::new(command).render(out),
        Some(dir) => clap_mangen::generate_to(command, dir),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(command: &clap::Command, path: &str, look: &mut impl FnMut(&clap::Command, &str)) {
        look(command, path);
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            each(below, &format!("{path} {}", below.get_name()), look);
        }
    }

    #[test]
    fn every_command_says_what_it_does_and_has_examples_that_are_read() {
        let mut all = Arguments::command();
        all.build();
        let mut read = 0;
        for command in all.get_subcommands().filter(|below| below.get_name() != "help") {
            let mut told = false;
            each(command, command.get_name(), &mut |below, path| {
                assert!(below.get_about().is_some(), "{path}");
                told |= below.get_after_help().is_some();
            });
            assert!(told, "{} has no examples", command.get_name());
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in examples.lines().filter(|line| line.contains(NAME)) {
                let called = line.split(NAME).nth(1).unwrap_or_default();
                let words =
                    called.split(['>', '|', '&', ';', '#']).next().unwrap_or_default().split_whitespace();
                let parsed = Arguments::try_parse_from([NAME].into_iter().chain(words));
                assert!(
                    parsed.is_ok(),
                    "{line}: {}",
                    parsed.err().map(|error| error.to_string()).unwrap_or_default()
                );
                read += 1;
            }
        }
        assert!(read > 12, "{read}");
    }

    #[test]
    fn the_nearest_command_is_suggested() {
        for (typed, meant) in [("docter", "doctor"), ("session", "sessions"), ("check-confg", "check-config")]
        {
            let error = Arguments::try_parse_from([NAME, typed]).err().map(|error| error.to_string());
            assert!(error.as_ref().is_some_and(|text| text.contains(&format!("'{meant}'"))), "{error:?}");
        }
    }

    #[test]
    fn pages_and_completions_name_every_command() {
        let dir = tempfile::tempdir().unwrap();
        man(Some(dir.path()), &mut Vec::new()).unwrap();
        let page = std::fs::read_to_string(dir.path().join("device-flow-proxy-tokens-revoke.1")).unwrap();
        assert!(page.contains("revoke") && page.contains("PRM"), "{page}");
        let mut one = Vec::new();
        man(None, &mut one).unwrap();
        let mut script = Vec::new();
        completions(Shell::Bash, &mut script).unwrap();
        let (one, script) = (String::from_utf8(one).unwrap(), String::from_utf8(script).unwrap());
        for command in Arguments::command().get_subcommands() {
            let name = command.get_name();
            assert!(one.contains(&name.replace('-', "\\-")) && script.contains(name), "{name}");
            assert!(dir.path().join(format!("{NAME}-{name}.1")).exists(), "{name}");
        }
    }
}
