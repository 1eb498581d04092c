//! `check-store`: whether what is stored is whole, of a known layout, and opens under the key.

use std::collections::BTreeMap;
use std::io::Write;

use actors::metering::tokens::installation::Installation;
use serde::Serialize;

use super::{CommandError, Format, at_work, keys_of};
use crate::config::{Config, StoreConfig};
use crate::secret::Key;
use crate::store::Stores;
use crate::store::sqlite::{self, FileReport};

const EXAMPLES: &str = "\
Examples:
  device-flow-proxy check-store
  device-flow-proxy check-store --json";

/// Say whether what is stored is whole and opens under the key; exit status 1 if not
///
/// Changes nothing; a server may run meanwhile. Reads every page: a gigabyte takes some seconds.
#[derive(Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    format: Format,
}

/// What was found.
#[derive(Serialize)]
struct Report {
    store: &'static str,
    sound: bool,
    key: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<FileReport>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    rows: BTreeMap<String, u64>,
    fault: Option<String>,
}

/// Looks at everything and writes to `out` what was found.
pub async fn run(arguments: &Arguments, config: &Config, out: &mut impl Write) -> Result<(), CommandError> {
    let storage = &config.storage;
    let secrets = keys_of(config)?;
    let reading = at_work("reading all that is stored");
    let mut report = match storage.store {
        StoreConfig::Embedded => {
            let found = sqlite::check(&storage.data_dir);
            let key = key(found.installation.as_ref(), &secrets);
            let fault = found.fault.map(|error| error.to_string());
            Report { store: "sqlite", sound: true, key, files: found.files, rows: BTreeMap::new(), fault }
        }
        StoreConfig::Mongo { .. } => {
            let stores = Stores::beside(&storage.store, &storage.data_dir).await?;
            stores.sessions.ping().await?;
            let key = key(stores.tokens.installation().await?.as_ref(), &secrets);
            let rows = stores.rows().await?;
            Report { store: "mongodb", sound: true, key, files: Vec::new(), rows, fault: None }
        }
    };
    drop(reading);
    let faultless = report.fault.is_none() && report.files.iter().all(|file| file.faults.is_empty());
    report.sound = faultless && report.key != OTHER;
    if arguments.format.json {
        writeln!(out, "{}", serde_json::to_string(&report).unwrap_or_default())?;
    } else {
        report.write(out)?;
    }
    if report.sound { Ok(()) } else { Err(CommandError::Unsound) }
}

/// The key does not open what is stored.
const OTHER: &str = "another";

fn key(installation: Option<&Installation>, secrets: &[Key]) -> &'static str {
    match installation {
        None => "not recorded yet",
        Some(record) if record.opens_with(secrets) => "right",
        Some(_) => OTHER,
    }
}

impl Report {
    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        for FileReport { file, faults, layout, known, rows } in &self.files {
            let said = if faults.is_empty() { "whole".to_owned() } else { faults.join("; ") };
            writeln!(out, "{file}: {said}; layout {layout} of {known}; {}", listed(rows))?;
        }
        if !self.rows.is_empty() {
            writeln!(out, "{}: {}", self.store, listed(&self.rows))?;
        }
        if let Some(fault) = &self.fault {
            writeln!(out, "{fault}")?;
        }
        writeln!(out, "key: {}", self.key)
    }
}

fn listed(rows: &BTreeMap<String, u64>) -> String {
    let rows: Vec<_> = rows.iter().map(|(table, rows)| format!("{table} {rows}")).collect();
    rows.join(", ")
}
