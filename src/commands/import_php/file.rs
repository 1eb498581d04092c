//! The table as a file: recognises by its content what it is.
//!
//! | begins with | is read as |
//! |---|---|
//! | a comment, a statement or a backslash | a plain-text dump (`dump.rs`) |
//! | a row whose first tab stands before any comma | rows as psql's `\copy cache to FILE` writes them (`dump.rs`) |
//! | anything else that is text | CSV (`csv.rs`) |
//!
//! Reads once, from start to end, so that a pipe will do, and keeps no more than a row in memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use super::SourceError;
use super::csv::CsvRows;
use super::dump::Dump;
use super::entry::Row;

/// Longest row or literal that is looked at, in bytes. A token's takes some 200, a login's below 10 000.
pub const ROW_MAX: usize = 64 << 10;
/// What is looked at to recognise the format, in bytes.
const HEAD: u64 = 8 << 10;
/// How statements begin, of which a dump may be made up.
const STATEMENTS: [&str; 9] =
    ["SET", "SELECT", "BEGIN", "START", "CREATE", "ALTER", "COPY", "INSERT", "DROP"];

/// What a file was recognised as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `pg_dump`, plain text.
    Dump,
    /// Tab-separated rows, as in a dump, by themselves.
    Rows,
    /// CSV.
    Csv,
}

/// The rows of a file, up to the first error.
pub type Rows = Box<dyn Iterator<Item = Result<Row, SourceError>>>;

/// Opens a file, `-` for the standard input.
pub fn open(path: &Path) -> Result<Rows, SourceError> {
    if path.as_os_str() == "-" {
        return rows(io::stdin());
    }
    let opened = File::open(path).map_err(|source| SourceError::Open { path: path.into(), source })?;
    rows(opened)
}

/// The rows of what `input` holds.
pub fn rows(mut input: impl Read + 'static) -> Result<Rows, SourceError> {
    let mut head = Vec::new();
    input.by_ref().take(HEAD).read_to_end(&mut head).map_err(SourceError::Read)?;
    let format = recognise(&head)?;
    let mut input = Cursor::new(head).chain(BufReader::with_capacity(ROW_MAX, input));
    if input.fill_buf().is_ok_and(|start| start.starts_with(BOM)) {
        input.consume(BOM.len());
    }
    Ok(match format {
        Format::Dump => Box::new(Dump::new(input)),
        Format::Rows => Box::new(Dump::bare_rows(input)),
        Format::Csv => Box::new(CsvRows::new(input)),
    })
}

/// Byte order mark of UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Says what a file is from how it begins.
fn recognise(head: &[u8]) -> Result<Format, SourceError> {
    let head = head.strip_prefix(BOM).unwrap_or(head);
    // A custom-format or compressed dump, or UTF-16.
    if head.starts_with(b"PGDMP") || head.contains(&0) {
        return Err(SourceError::Binary);
    }
    let head = head.trim_ascii_start();
    if head.is_empty() {
        return Err(SourceError::Empty);
    }
    let line = head.split(|b| *b == b'\n').next().unwrap_or_default();
    let word = line.split(|b| !b.is_ascii_alphabetic()).next().unwrap_or_default();
    let is_statement = STATEMENTS.iter().any(|statement| word.eq_ignore_ascii_case(statement.as_bytes()))
        && line.get(word.len()).is_none_or(|next| next.is_ascii_whitespace() || *next == b';');
    let is_rows = line.iter().find(|b| matches!(b, b'\t' | b',')) == Some(&b'\t');
    Ok(
        if is_statement && !is_rows || [&b"--"[..], b"/*", b"\\"].iter().any(|start| line.starts_with(start))
        {
            Format::Dump
        } else if is_rows {
            Format::Rows
        } else {
            Format::Csv
        },
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn formats_are_recognised_by_their_beginning() {
        let is = |text: &str| recognise(text.as_bytes()).ok();
        for dump in [
            "--\n-- PostgreSQL database dump\n--\n",
            "\n\n\u{feff}-- x".trim_start(),
            "SET statement_timeout = 0;",
            "\\restrict abc\n",
            "COPY public.cache (key, value, expire_at) FROM stdin;\n",
            "insert into cache values ('a', 'b', 'c');",
            "BEGIN;\n",
        ] {
            assert_eq!(is(dump), Some(Format::Dump), "{dump}");
        }
        for csv in
            ["key,value,expire_at\n", "\u{feff}\"key\",\"value\"", "SELECTAB,s:1:\"\t\";,x", "x", "BEGIN,a,b"]
        {
            assert_eq!(is(csv), Some(Format::Csv), "{csv}");
        }
        for rows in ["refresh_token:1\ts:3:\"1,2\";\t2028-01-01 00:00:00\n", "COPY\tb\tc"] {
            assert_eq!(is(rows), Some(Format::Rows), "{rows}");
        }
        for empty in ["", "\n \n", "\u{feff}"] {
            assert!(matches!(recognise(empty.as_bytes()), Err(SourceError::Empty)), "{empty:?}");
        }
        for binary in [&b"PGDMP\x01\x0e"[..], b"\x1f\x8b\x08\0\0\0", b"\xff\xfek\0e\0y\0"] {
            assert!(matches!(recognise(binary), Err(SourceError::Binary)));
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_key() {
        let mut rows = rows(Cursor::new("\u{feff}k,v,x\n")).unwrap();
        assert!(matches!(rows.next(), Some(Ok(Row::Entry(raw))) if raw.key == b"k"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = open(Path::new("/nowhere/cache.csv")).err().unwrap();
        assert!(error.to_string().contains("/nowhere/cache.csv"), "{error}");
    }

    proptest! {
        #[test]
        fn no_file_panics(bytes: Vec<u8>) {
            if let Ok(rows) = rows(Cursor::new(bytes)) {
                rows.for_each(drop);
            }
        }
    }
}
