//! Whether what is in `DATA_DIR` is sound, and belongs together.

use std::collections::BTreeMap;
use std::path::Path;

use actors::metering::tokens::installation::Installation;
use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;

use super::backup::{self, Backup};
use super::schema::{Schema, failed};
use super::{audit, meters, sessions, tokens};
use crate::store::OpenError;

/// Says in each file but that of the tokens, which has the record, whose it is.
const MINE: &str = "CREATE TABLE IF NOT EXISTS belongs_to (installation BLOB NOT NULL) STRICT";
const WHOSE: &str = "SELECT installation FROM belongs_to";

/// What was found in a file.
#[derive(Debug, Serialize)]
pub struct FileReport {
    /// Its name.
    pub file: &'static str,
    /// What is wrong with it, by SQLite's own check or ours.
    pub faults: Vec<String>,
    /// Its layout.
    pub layout: u32,
    /// The newest layout that this version knows.
    pub known: u32,
    /// Rows by table.
    pub rows: BTreeMap<String, u64>,
}

/// Everything in a `DATA_DIR`.
#[derive(Debug)]
pub struct Report {
    /// Each file that is there.
    pub files: Vec<FileReport>,
    /// The installation's record, if there is one.
    pub installation: Option<Installation>,
    /// Why the files do not belong together, or a backup is not whole.
    pub fault: Option<OpenError>,
}

/// Looks at every file, beside a server that runs or not; changes nothing.
pub fn check(dir: &Path) -> Report {
    if let Err(fault) = Backup::look(dir) {
        // A log that does not belong to its file would change it.
        return Report { files: Vec::new(), installation: None, fault: Some(fault) };
    }
    let files = backup::found(dir).map(|(file, path)| check_file(file, &path)).collect();
    let installation = backup::open(&dir.join(tokens::FILE)).and_then(|db| tokens::installation(&db));
    Report { files, installation: installation.ok().flatten(), fault: belong_together(dir).err() }
}

/// Has each file take a write that changes nothing, beside a server that runs or not. Answers each with its layout, and the
/// installation's record.
pub fn probe(dir: &Path) -> Result<(Vec<String>, Option<Installation>), OpenError> {
    Backup::look(dir)?;
    belong_together(dir)?;
    let (mut files, mut installation) = (Vec::new(), None);
    for (file, path) in backup::found(dir) {
        let mut touch = || {
            let db = backup::open(&path)?;
            db.execute_batch("BEGIN IMMEDIATE")?;
            let layout: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
            db.pragma_update(None, "user_version", layout)?;
            db.execute_batch("COMMIT")?;
            if file == tokens::FILE {
                installation = tokens::installation(&db)?;
            }
            files.push(format!("{file} (layout {layout} of {})", schema_of(file).steps.len()));
            Ok(())
        };
        touch().map_err(|error| failed(&path, error))?;
    }
    Ok((files, installation))
}

fn check_file(file: &'static str, path: &Path) -> FileReport {
    let schema = schema_of(file);
    let known = u32::try_from(schema.steps.len()).unwrap_or(u32::MAX);
    let mut report = FileReport { file, faults: Vec::new(), layout: 0, known, rows: BTreeMap::new() };
    let look = |report: &mut FileReport| -> rusqlite::Result<()> {
        let db = backup::open(path)?;
        let id: i32 = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
        report.layout = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if id != schema.application_id {
            report.faults.push("a file of another program".to_owned());
        }
        if report.layout > known {
            report.faults.push("written by a newer version".to_owned());
        }
        db.pragma_query(None, "integrity_check", |row| {
            let said: String = row.get(0)?;
            report.faults.extend(Some(said).filter(|said| said != "ok"));
            Ok(())
        })?;
        let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'";
        let tables = db
            .prepare(tables)?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<String>>>()?;
        for table in tables.into_iter().filter(|table| table != "belongs_to") {
            let rows =
                db.query_row(&format!("SELECT count(*) FROM \"{table}\""), [], |row| row.get::<_, i64>(0))?;
            report.rows.insert(table, rows.unsigned_abs());
        }
        Ok(())
    };
    if let Err(error) = look(&mut report) {
        report.faults.push(error.to_string());
    }
    report
}

fn schema_of(file: &str) -> &'static Schema {
    match file {
        sessions::FILE => &sessions::SCHEMA,
        tokens::FILE => &tokens::SCHEMA,
        meters::FILE => &meters::SCHEMA,
        _ => &audit::SCHEMA,
    }
}

/// Refuses files that are damaged, of a newer version or of two installations, and files whose tokens are gone, before any
/// of them is opened for good.
pub(super) fn belong_together(dir: &Path) -> Result<(), OpenError> {
    let mut installation = None;
    let mut owners = Vec::new();
    for (name, path) in backup::found(dir) {
        match judge(name, &path) {
            Ok(owner) if name == tokens::FILE => installation = owner,
            Ok(owner) => owners.extend(owner.map(|owner| (path, owner))),
            // A cache that cannot be read is begun anew when it is opened.
            Err(OpenError::Damaged { .. } | OpenError::Newer { .. }) if name == meters::FILE => {}
            Err(error) => return Err(error),
        }
    }
    match owners.into_iter().find(|(_, owner)| Some(*owner) != installation) {
        Some((path, _)) => Err(OpenError::OtherInstallation(path)),
        None => Ok(()),
    }
}

/// The installation that a file of a layout we know belongs to.
fn judge(name: &str, path: &Path) -> Result<Option<[u8; 16]>, OpenError> {
    let broken = |error| failed(path, error);
    let mut db = backup::open(path).map_err(broken)?;
    schema_of(name).judge(&mut db, path)?;
    let table = if name == tokens::FILE { "installation" } else { "belongs_to" };
    // Else of a version that did not note it.
    if !db.table_exists(None, table).map_err(broken)? {
        return Ok(None);
    }
    let owner = if name == tokens::FILE {
        tokens::installation(&db).map(|record| record.map(|record| record.id))
    } else {
        db.query_row(WHOSE, [], |row| row.get(0)).optional()
    };
    owner.map_err(broken)
}

/// Notes in each file that does not say whose it is that it belongs to this installation; refuses another's.
pub fn belongs_to(dir: &Path, installation: [u8; 16]) -> Result<(), OpenError> {
    for (name, path) in backup::found(dir).filter(|(name, _)| *name != tokens::FILE) {
        let owner = judge(name, &path)?;
        if owner.is_some_and(|owner| owner != installation) {
            return Err(OpenError::OtherInstallation(path));
        }
        if owner.is_none() {
            let note = |db: Connection| {
                db.execute_batch(MINE)?;
                db.execute("INSERT INTO belongs_to (installation) VALUES (?1)", [installation])
            };
            backup::open(&path).and_then(note).map_err(|error| failed(&path, error))?;
        }
    }
    Ok(())
}
