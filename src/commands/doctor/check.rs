//! What was found, and how it is said.

use std::io::{self, Write};

use serde::Serialize;

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Good,
    /// It works, and is worth a look.
    Warning,
    /// Something does not work.
    Failed,
    /// It could not be looked at, or need not be.
    Skipped,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How it stands.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Check {
    /// As it should be.
    pub fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Good, found: found.into(), mend: None }
    }

    /// It was not looked at.
    pub fn skipped(name: &'static str, found: impl Into<String>) -> Self {
        Self { state: State::Skipped, ..Self::good(name, found) }
    }

    /// Worth a look.
    pub fn warning(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { state: State::Warning, mend: Some(mend.into()), ..Self::good(name, found) }
    }

    /// It does not work.
    pub fn failed(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { state: State::Failed, ..Self::warning(name, found, mend) }
    }
}

/// Everything that was looked at, in order.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Whether nothing has failed.
    pub healthy: bool,
    /// Each.
    pub checks: Vec<Check>,
}

impl Report {
    /// What was found in all.
    pub fn of(checks: Vec<Check>) -> Self {
        Self { healthy: checks.iter().all(|check| check.state != State::Failed), checks }
    }

    /// For a person, or as one JSON object.
    pub fn write(&self, json: bool, out: &mut impl Write) -> io::Result<()> {
        if json {
            return writeln!(out, "{}", serde_json::to_string(self)?);
        }
        for Check { name, state, found, mend } in &self.checks {
            let state = match state {
                State::Good => "ok",
                State::Warning => "warning",
                State::Failed => "FAILED",
                State::Skipped => "-",
            };
            writeln!(out, "{state:7}  {name:17}  {found}")?;
            if let Some(mend) = mend {
                writeln!(out, "{:7}  {:17}  to mend: {mend}", "", "")?;
            }
        }
        let failed = self.checks.iter().filter(|check| check.state == State::Failed).count();
        match failed {
            0 => writeln!(out, "nothing is wrong"),
            1 => writeln!(out, "1 thing is wrong"),
            _ => writeln!(out, "{failed} things are wrong"),
        }
    }
}
