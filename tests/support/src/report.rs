//! Owns what runs and benches share: why there is no report, how far a run is, verdicts, tables, and where and of what
//! was measured.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use crate::server::{StartError, workspace_root};

/// Time between two looks at the work, and between two lines about it.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The plan cannot be carried out, or not be judged.
    #[error("{0}")]
    Plan(Cow<'static, str>),
    /// The server does not start.
    #[error("the server does not start")]
    Start(#[from] StartError),
    /// The server cannot be built, does not stop as it should or gives no codes; or the report cannot be written.
    #[error("the run came to no end")]
    Io(#[from] io::Error),
}

/// Tells on standard error how far a run is, a line now and then.
pub struct Progress {
    wanted: bool,
    told: Instant,
}

impl Progress {
    /// Tells nothing unless `wanted`.
    pub fn new(wanted: bool) -> Self {
        Self { wanted, told: Instant::now() }
    }

    /// It is time for a line.
    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.wanted && self.told.elapsed() >= LINE_EVERY {
            eprintln!("{}", line());
            self.told = Instant::now();
        }
    }

    /// Waits for `work`, telling what `look` sees.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>, look: impl Fn() -> String) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(LOOK_EVERY) => self.tell(&look),
            }
        }
    }
}

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

/// Writes what each of `who` said how often, then the verdicts: the end of a report.
pub fn write_end(
    f: &mut fmt::Formatter<'_>,
    who: &[(&str, &BTreeMap<String, u64>)],
    verdicts: &[Verdict],
) -> fmt::Result {
    for (who, said) in who {
        said.iter().try_for_each(|(message, count)| writeln!(f, "{who} said {count} times: {message}"))?;
        if !said.is_empty() {
            writeln!(f)?;
        }
    }
    verdicts.iter().try_for_each(|verdict| write!(f, "{verdict}"))
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
}
