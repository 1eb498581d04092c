//! The PHP server's PostgreSQL table as the file that the `psql` command of `--help` makes.
//!
//! Read once, from start to end, so that a pipe will do; memory stays at one row. Refuses a file of any other form, such
//! as a dump, before its first row, and a file that is not whole, after the rows until there.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use actors::base::clock::Timestamp;
use actors::metering::civil::PARIS_RULE;
use csv::Reader;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::commands::SourceError;
use crate::php::entry::Entry;

/// The columns that the file has to have.
const COLUMNS: [&[u8]; 3] = [b"key", b"meters", b"expires_at"];

#[derive(Deserialize)]
struct Row {
    key: String,
    meters: String,
    /// Seconds since 1970 on a clock of the zone, as if it were UTC.
    expires_at: i64,
}

impl Row {
    fn entry(self, zone: &TimeZone) -> Entry {
        let Self { key, meters, expires_at } = self;
        let shown = jiff::Timestamp::from_second(expires_at).unwrap_or(jiff::Timestamp::MAX);
        let expires_at = zone.to_timestamp(TimeZone::UTC.to_datetime(shown)).unwrap_or(jiff::Timestamp::MAX);
        // Before 1970 is expired, as is 1970.
        let ms = u64::try_from(expires_at.as_millisecond()).unwrap_or_default();
        Entry { key, value: Some(meters), expires_at: Some(Timestamp::from_millis(ms)) }
    }
}

/// Reads `UTC`, `Europe/Paris` or a rule as POSIX writes it, such as `EST5EDT,M3.2.0,M11.1.0`.
pub fn zone(text: &str) -> Result<TimeZone, jiff::Error> {
    match text {
        "UTC" => Ok(TimeZone::UTC),
        "Europe/Paris" => TimeZone::posix(PARIS_RULE),
        rule => TimeZone::posix(rule),
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

/// The entries of a file whose times are of `zone`.
pub fn entries<R: Read>(
    input: R,
    zone: TimeZone,
) -> Result<impl Iterator<Item = Result<Entry, SourceError>> + use<R>, SourceError> {
    let mut reader = Reader::from_reader(input);
    let header = reader.byte_headers().map_err(SourceError::Read)?;
    if header.is_empty() {
        return Err(SourceError::Empty);
    }
    if COLUMNS.iter().any(|column| header.iter().all(|name| name != *column)) {
        return Err(SourceError::Columns);
    }
    let entry = move |row: csv::Result<Row>| row.map(|row| row.entry(&zone)).map_err(SourceError::Read);
    Ok(reader.into_deserialize().map(entry))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keys, meters and expiries of the rows, and the error at the end.
    fn read(text: &[u8]) -> (Vec<(String, String, u64)>, Option<SourceError>) {
        let mut rows = Vec::new();
        let mut read = || {
            for entry in entries(text, TimeZone::UTC)? {
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
    fn times_are_those_of_the_zone() {
        // 2028-02-29 10:54:56 and 2028-07-01 12:00:00, as the clock there shows.
        let text = b"key,meters,expires_at\nwinter,1,1835434496\nsummer,1,1846065600\nold,1,0\nlast,1,9223372036854775807\n";
        for (zone_text, behind) in [("UTC", [0, 0]), ("Europe/Paris", [3_600, 7_200]), ("EST5", [-18_000; 2])]
        {
            let read = entries(&text[..], zone(zone_text).unwrap()).unwrap();
            let read: Vec<i64> = read
                .map(|entry| i64::try_from(entry.unwrap().expires_at.unwrap().as_secs()).unwrap())
                .collect();
            assert_eq!(read[..2], [1_835_434_496 - behind[0], 1_846_065_600 - behind[1]], "{zone_text}");
            assert!(read[2] <= 18_000 && read[3] > 200_000_000_000, "{read:?}");
        }
        assert!(zone("Paris").is_err() && zone("").is_err());
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
