//! The PHP server's PostgreSQL table as the file that the `psql` command of `--help` makes.
//!
//! Read once, from start to end, so that a pipe will do; memory stays at one row. Refuses a file of any other form, such
//! as a dump, before its first row, and a file that is not whole, after the rows until there.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use actors::base::clock::Timestamp;
use csv::Reader;
use serde::Deserialize;

use super::entry::Entry;
use crate::commands::SourceError;

/// The columns that the file has to have.
const COLUMNS: [&[u8]; 3] = [b"key", b"meters", b"expires_at"];

#[derive(Deserialize)]
struct Row {
    key: String,
    meters: String,
    /// Seconds since 1970.
    expires_at: i64,
}

impl From<Row> for Entry {
    fn from(Row { key, meters, expires_at }: Row) -> Self {
        // Before 1970 is expired, as is 1970.
        let ms = u64::try_from(expires_at).unwrap_or_default().saturating_mul(1_000);
        Self { key, value: Some(meters), expires_at: Some(Timestamp::from_millis(ms)) }
    }
}

/// Opens a file, `-` for the standard input.
pub fn open(path: &Path) -> Result<Box<dyn Read>, SourceError> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin()));
    }
    let opened = File::open(path).map_err(|source| SourceError::Open { path: path.into(), source })?;
    Ok(Box::new(opened))
}

/// The entries of a file.
pub fn entries<R: Read>(
    input: R,
) -> Result<impl Iterator<Item = Result<Entry, SourceError>> + use<R>, SourceError> {
    let mut reader = Reader::from_reader(input);
    let header = reader.byte_headers().map_err(SourceError::Read)?;
    if header.is_empty() {
        return Err(SourceError::Empty);
    }
    if COLUMNS.iter().any(|column| header.iter().all(|name| name != *column)) {
        return Err(SourceError::Columns);
    }
    Ok(reader.into_deserialize::<Row>().map(|row| row.map(Entry::from).map_err(SourceError::Read)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keys, meters and expiries of the rows, and the error at the end.
    fn read(text: &[u8]) -> (Vec<(String, String, u64)>, Option<SourceError>) {
        let mut rows = Vec::new();
        let mut read = || {
            for entry in entries(text)? {
                let Entry { key, value, expires_at } = entry?;
                rows.push((key, value.unwrap(), expires_at.unwrap().as_millis()));
            }
            Ok(())
        };
        let end = read().err();
        (rows, end)
    }

    #[test]
    fn what_psql_writes() {
        let expected = ("refresh_token:1".to_owned(), "1,2".to_owned(), 1_835_440_496_000);
        for text in [
            "key,meters,expires_at\nrefresh_token:1,\"1,2\",1835440496\n",
            "key,meters,expires_at\r\nrefresh_token:1,\"1,2\",1835440496",
            "\u{feff}\"expires_at\",\"meters\",\"key\",\"more\"\n\n1835440496,\"1,2\",refresh_token:1,x\n",
        ] {
            let (rows, end) = read(text.as_bytes());
            assert!(rows == [expected.clone()] && end.is_none(), "{text}: {end:?}");
        }
        assert_eq!(read(b"key,meters,expires_at\nk,,-1\n").0, [("k".to_owned(), String::new(), 0)]);
    }

    #[test]
    fn a_file_that_is_another_or_not_whole_says_so_after_the_rows_until_there() {
        let columns: fn(&SourceError) -> bool = |error| matches!(error, SourceError::Columns);
        let reading: fn(&SourceError) -> bool = |error| matches!(error, SourceError::Read(_));
        for (text, count, expected) in [
            (&b"--\n-- PostgreSQL database dump\n--\n"[..], 0, columns),
            (b"COPY public.cache (key, value, expire_at) FROM stdin;\n", 0, columns),
            (b"PGDMP\x01\0", 0, columns),
            (b"\x1f\x8b\x08\0\xff", 0, columns),
            (b"key,value,expire_at\nrefresh_token:1,\"s:3:\"\"1,2\"\";\",2028-01-01 00:00:00\n", 0, columns),
            (b"refresh_token:1,\"1,2\",1835440496\n", 0, columns),
            (b"", 0, |error| matches!(error, SourceError::Empty)),
            (b"key,meters,expires_at\n\xff,\xfe,1\n", 0, reading),
            (b"key,meters,expires_at\nk,1,1\nref", 1, reading),
            (b"key,meters,expires_at\nk,1,1\nk,\"1\n", 1, reading),
            (b"key,meters,expires_at\nk,1,1\nk,1,\"1835440496\n", 1, reading),
            (b"key,meters,expires_at\nk,1,1\nk,1,183x\n", 1, reading),
            (b"key,meters,expires_at\nk,1,1\nk,1,2,3\n", 1, reading),
            (b"key,meters,expires_at\nk,1,1\nk,\"1,2,1835440496\n\n", 1, reading),
        ] {
            let (rows, end) = read(text);
            let is_expected = rows.len() == count && end.as_ref().is_some_and(expected);
            assert!(is_expected, "{}: {end:?}", text.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>, text in "[a,\"\n\r]{0,40}") {
            read(&bytes);
            read(format!("key,meters,expires_at\n{text}").as_bytes());
        }
    }
}
