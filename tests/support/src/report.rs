//! Owns what the reports of runs and benches share: verdicts, tables, and where and of what was measured.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use crate::server::workspace_root;

/// A report that says whether each requirement is met.
pub trait Judged: Serialize {
    /// Every requirement that the run can be judged by.
    fn verdicts(&self) -> Vec<Verdict>;

    /// Every requirement is met.
    fn passed(&self) -> bool {
        self.verdicts().iter().all(|verdict| verdict.pass)
    }

    /// The report with its verdicts, for a program.
    fn to_json(&self) -> Value {
        let mut report = json!(self);
        report["verdicts"] = json!(self.verdicts());
        report["passed"] = self.passed().into();
        report
    }
}

/// Whether a requirement is met. Its [`fmt::Display`] is a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// It is.
    pub pass: bool,
    /// What is required.
    pub requirement: &'static str,
    /// What was found.
    pub found: String,
}

impl Verdict {
    /// `found` meets the requirement if `pass`.
    pub fn new(requirement: &'static str, pass: bool, found: impl Into<String>) -> Self {
        Self { pass, requirement, found: found.into() }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.pass { "pass" } else { "FAIL" };
        writeln!(f, "{word}  {}: {}", self.requirement, self.found)
    }
}

/// Rows of a label and cells; columns are as wide as they must be.
#[derive(Clone, Debug, Default)]
pub struct Table(Vec<(String, Vec<String>)>);

impl Table {
    /// Adds a row.
    pub fn row(&mut self, label: impl Into<String>, cells: impl IntoIterator<Item = impl ToString>) {
        self.0.push((label.into(), cells.into_iter().map(|cell| cell.to_string()).collect()));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.0.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
        let mut widths = Vec::new();
        for (_, cells) in &self.0 {
            widths.resize(widths.len().max(cells.len()), 0);
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = cell.chars().count().max(*width);
            }
        }
        for (label, cells) in &self.0 {
            write!(f, "{label:<first$}")?;
            cells.iter().zip(&widths).try_for_each(|(cell, width)| write!(f, "  {cell:>width$}"))?;
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The machine, and the state of the sources. What is not to be found out is left out.
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
        let commit = git(&["describe", "--always", "--abbrev=10", "--exclude=*", "--dirty=+"]);
        Self { cores: std::thread::available_parallelism().map_or(1, Into::into), cpu, commit }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [cpu, commit] = [&self.cpu, &self.commit].map(|text| text.as_deref().unwrap_or("unknown"));
        write!(f, "{} cores of {cpu}, commit {commit}", self.cores)
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    command.args(arguments).current_dir(workspace_root()).stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// What an option is called on the command line.
pub fn name(option: &impl ValueEnum) -> String {
    option.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Writes `json` to `path`, for people to read too; an error names the path.
pub fn write_json(path: &Path, json: &Value) -> io::Result<()> {
    let written = std::fs::write(path, format!("{json:#}\n"));
    written.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let mut table = Table::default();
        table.row("", ["one", "µs"]);
        table.row("a label", [1]);
        table.row("b", [12_345, 6]);
        assert_eq!(table.to_string(), "           one  µs\na label      1\nb        12345   6\n");
    }

    #[test]
    fn this_machine_has_processors() {
        assert!(Machine::this().cores > 0);
        assert_eq!(Machine::default().to_string(), "0 cores of unknown, commit unknown");
    }
}
