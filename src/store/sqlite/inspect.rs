//! For tests: looks behind a store, at its file and its statements.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;

/// What the pragmas of these names say.
pub(super) fn pragmas(db: &Connection, names: &[&str]) -> rusqlite::Result<Vec<String>> {
    let text = |name: &&str| {
        let value = db.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))?;
        Ok(format!("{value:?}"))
    };
    names.iter().map(text).collect()
}

/// The permissions of a file.
pub(super) fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

/// How a statement is carried out.
pub(super) fn plan(db: &Connection, sql: &str) -> rusqlite::Result<String> {
    let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
    let steps = statement.raw_query().mapped(|row| row.get::<_, String>(3)).collect::<Result<Vec<_>, _>>()?;
    Ok(steps.join("; "))
}
