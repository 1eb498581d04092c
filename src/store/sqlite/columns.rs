//! A record as a row: one list of its columns serves every statement on its table.

use std::sync::LazyLock;

use actors::base::clock::Timestamp;
use actors::base::store::millis;
use rusqlite::{Connection, Params, Row, Statement, params};

/// Rows of one page: some hundred kilobytes, some milliseconds.
const PAGE: u32 = 1000;

/// A statement made of a list of columns.
pub(super) type Sql = LazyLock<String>;

/// A record that is kept in a table of its own, one column a field. [`columns!`] writes this.
pub(super) trait Columns: Sized {
    /// The table.
    const TABLE: &'static str;
    /// Its columns, the primary key first.
    const NAMES: &'static [&'static str];

    /// The primary key.
    fn key(&self) -> &[u8];

    /// Reads a row whose columns are [`Self::NAMES`].
    fn read(row: &Row<'_>) -> rusqlite::Result<Self>;

    /// Carries a statement out whose parameters are the columns, `?1` the first; answers how many rows it changed.
    fn execute(&self, statement: &mut Statement<'_>) -> rusqlite::Result<usize>;

    /// The statement that inserts a row.
    fn insert(unless: &str) -> String {
        let places: Vec<_> = (1..=Self::NAMES.len()).map(|n| format!("?{n}")).collect();
        let (table, names, places) = (Self::TABLE, Self::NAMES.join(", "), places.join(", "));
        format!("INSERT INTO {table} ({names}) VALUES ({places}) {unless}")
    }

    /// The statement that reads rows of the table, which `rest` may call `t`.
    fn select(rest: &str) -> String {
        let names: Vec<_> = Self::NAMES.iter().map(|name| format!("t.{name}")).collect();
        format!("SELECT {} FROM {rest}", names.join(", "))
    }

    /// The rows that a [`Self::select`] finds.
    fn find(db: &Connection, sql: &str, of: impl Params) -> rusqlite::Result<Vec<Self>> {
        db.prepare_cached(sql)?.query_map(of, Self::read)?.collect()
    }

    /// The row that a [`Self::select`] by a key `?1` finds, if it is live at the time `?2`.
    fn find_one(db: &Connection, sql: &str, key: &[u8], now: Timestamp) -> rusqlite::Result<Option<Self>> {
        Self::find(db, sql, params![key, millis(now)]).map(|mut found| found.pop())
    }

    /// The live rows that a [`Self::select`] finds behind a key `?1`, at most `?3`; and the last key, if there may be more.
    fn page<K: AsRef<[u8]>>(
        db: &Connection,
        sql: &str,
        after: Option<K>,
        now: Timestamp,
    ) -> rusqlite::Result<(Vec<Self>, Option<Vec<u8>>)> {
        // An empty key is below every other.
        let after = after.as_ref().map_or(&[][..], AsRef::as_ref);
        let found = Self::find(db, sql, params![after, millis(now), PAGE])?;
        let next = found.last().filter(|_| found.len() == PAGE as usize).map(|last| last.key().to_vec());
        Ok((found, next))
    }
}

/// Lists the fields of a record in the order of its table's columns; a column may have another name.
macro_rules! columns {
    ($record:ty as $table:literal: $key:ident $(, $field:ident $(= $column:literal)?)* $(,)?) => {
        impl $crate::store::sqlite::columns::Columns for $record {
            const TABLE: &'static str = $table;
            const NAMES: &'static [&'static str] = &[stringify!($key) $(, columns!(@name $field $($column)?))*];

            fn key(&self) -> &[u8] {
                &self.$key
            }

            fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
                let mut column = 0..;
                // A range without an end has a next number.
                let mut next = || column.next().unwrap_or_default();
                Ok(Self { $key: row.get::<usize, _>(next())? $(, $field: row.get::<usize, _>(next())?)* })
            }

            fn execute(&self, statement: &mut rusqlite::Statement<'_>) -> rusqlite::Result<usize> {
                statement.execute(rusqlite::params![self.$key $(, self.$field)*])
            }
        }
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $column:literal) => { $column };
}
pub(super) use columns;
