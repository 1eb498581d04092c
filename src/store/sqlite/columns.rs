//! A record as a row: one list of its columns serves every statement on its table.

use std::sync::LazyLock;

use rusqlite::{Connection, Params, Row, Statement};

/// A statement made of a list of columns.
pub(super) type Sql = LazyLock<String>;

/// A record that is kept in a table of its own, one column a field. [`columns!`] writes this.
pub(super) trait Columns: Sized {
    /// The table.
    const TABLE: &'static str;
    /// Its columns, the primary key first.
    const NAMES: &'static [&'static str];

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
}

/// Lists the fields of a record in the order of its table's columns; a column may have another name.
macro_rules! columns {
    ($record:ty as $table:literal: $($field:ident $(= $column:literal)?),* $(,)?) => {
        impl $crate::store::sqlite::columns::Columns for $record {
            const TABLE: &'static str = $table;
            const NAMES: &'static [&'static str] = &[$(columns!(@name $field $($column)?)),*];

            fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
                let mut column = 0..;
                // A range without an end has a next number.
                let mut next = || column.next().unwrap_or_default();
                Ok(Self { $($field: row.get::<usize, _>(next())?),* })
            }

            fn execute(&self, statement: &mut rusqlite::Statement<'_>) -> rusqlite::Result<usize> {
                statement.execute(rusqlite::params![$(self.$field),*])
            }
        }
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $column:literal) => { $column };
}
pub(super) use columns;
