//! Owns what a report says about where and of what it was measured. Promises to fail at nothing: what is not to be
//! found out is left out.

use std::process::{Command, Stdio};

use serde::Serialize;

use crate::server::workspace_root;

/// The machine, and the state of the sources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Processors this process may use; server, devices and Enedis share them.
    pub cores: usize,
    /// What the processor calls itself.
    pub cpu: Option<String>,
    /// The commit that is checked out, with `+` if files differ from it.
    pub commit: Option<String>,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        let commit = git(&["rev-parse", "--short=10", "HEAD"]).map(|commit| {
            let differs =
                git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|said| !said.is_empty());
            if differs { commit + "+" } else { commit }
        });
        Self { cores: std::thread::available_parallelism().map_or(1, Into::into), cpu, commit }
    }
}

/// Files and sockets this process may have open at a time, if the system tells.
pub fn descriptors() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn git(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    command.args(arguments).current_dir(workspace_root()).stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_processors_and_descriptors() {
        assert!(Machine::this().cores > 0);
        assert!(descriptors().is_none_or(|count| count > 10));
    }
}
