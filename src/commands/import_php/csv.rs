//! The table as CSV (RFC 4180), as psql's `\copy cache to FILE csv` writes it, with or without a header.

use std::io::Read;

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::SourceError;
use super::entry::Row;
use super::file::ROW_MAX;
use super::table::Columns;

/// Rows of a CSV file. Ends after the first error.
pub struct CsvRows<R> {
    reader: Reader<R>,
    record: ByteRecord,
    /// Unknown until the first row was seen.
    columns: Option<Columns>,
    ended: bool,
}

impl<R: Read> CsvRows<R> {
    /// Begins to read.
    pub fn new(input: R) -> Self {
        let reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(input);
        Self { reader, record: ByteRecord::new(), columns: None, ended: false }
    }

    fn read(&mut self) -> Result<Option<Row>, SourceError> {
        loop {
            if !self
                .reader
                .read_byte_record(&mut self.record)
                .map_err(|error| SourceError::Read(error.into()))?
            {
                return Ok(None);
            }
            // A quote that is not closed makes one row of all that follows: what is behind it would be lost silently.
            if self.record.as_slice().len() > ROW_MAX {
                let line = self.record.position().map_or(0, csv::Position::line);
                return Err(SourceError::RowTooLong { line });
            }
            if self.columns.is_none()
                && let Some(header) = Columns::named(&self.record)
            {
                self.columns = Some(header);
                continue;
            }
            let columns = *self.columns.get_or_insert(Columns::OWN);
            let fields: Vec<_> = self.record.iter().map(Some).collect();
            return Ok(Some(columns.entry(&fields)));
        }
    }
}

impl<R: Read> Iterator for CsvRows<R> {
    type Item = Result<Row, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let row = self.read();
        self.ended = !matches!(row, Ok(Some(_)));
        row.transpose()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &[u8]) -> Vec<Option<Shown>> {
        let shown = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let row = |row| match row {
            Row::Entry(raw) => Some((shown(raw.key), raw.value.map(shown), raw.expires_at.is_some())),
            Row::NotUnderstood => None,
        };
        CsvRows::new(text).map(|read| row(read.unwrap_or_else(|error| panic!("{error}")))).collect()
    }

    type Shown = (String, Option<String>, bool);

    fn row(key: &str, value: &str) -> Shown {
        (key.to_owned(), Some(value.to_owned()), true)
    }

    #[test]
    fn with_and_without_a_header() {
        let rows = "refresh_token:1,\"s:5:\"\"1,2,3\"\";\",2028-01-01 00:00:00\r\naccess_token:2,s:1:\"4\";,2028-01-01 00:00:00\r\n";
        let expected = [Some(row("refresh_token:1", "1,2,3")), Some(row("access_token:2", "4"))];
        assert_eq!(read(rows.as_bytes()), expected);
        assert_eq!(read(format!("key,value,expire_at\r\n{rows}").as_bytes()), expected);
        assert_eq!(
            read(format!("\"key\",\"value\",\"expire_at\"\n\n{}", rows.replace('\r', "")).as_bytes()),
            expected
        );
        assert_eq!(
            read(b"expire_at,key,value\n2028-01-01 00:00:00,k,\"s:1:\"\"4\"\";\"\n"),
            [Some(row("k", "4"))]
        );
    }

    #[test]
    fn a_line_break_in_a_value_begins_no_row() {
        // A client secret of the PHP server's is any text that a stranger chose.
        let text = "k,\"O:8:\"\"stdClass\"\":1:{s:1:\"\"c\"\";s:9:\"\"\nrefresh_token:1,\"\"s:1:\"\"4\"\";\"\",2028-01-01\n\"\";}\",2028-01-01\n";
        assert_eq!(read(text.as_bytes()), [Some(("k".to_owned(), None, true))]);
    }

    #[test]
    fn rows_of_another_width_are_not_understood() {
        assert_eq!(
            read(b"a,b\nk,\"s:1:\"\"4\"\";\",2028-01-01\na\na,b,c,d\n"),
            [None, Some(row("k", "4")), None, None]
        );
        assert_eq!(read(b"\xff,\xfe,\xfd\n"), [Some(("\u{fffd}".to_owned(), None, false))]);
    }

    #[test]
    fn a_quote_that_is_not_closed_is_an_error() {
        let text = format!("a,b,c\nk,\"{}", "x,y,z\n".repeat(ROW_MAX));
        let rows: Vec<_> = CsvRows::new(text.as_bytes()).collect();
        assert!(matches!(&rows[..], [Ok(Row::Entry(_)), Err(SourceError::RowTooLong { line: 2 })]));
    }

    proptest! {
        #[test]
        fn reads_what_a_writer_writes(fields in prop::collection::vec(any::<[Vec<u8>; 3]>(), 0..8)) {
            let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
            for row in &fields {
                writer.write_record(row).unwrap();
            }
            let written = writer.into_inner().unwrap();
            let header = fields.first().is_some_and(|row| Columns::named(row.iter().map(Vec::as_slice)).is_some());
            let keys: Vec<_> = read(&written).into_iter().map(|row| row.unwrap().0).collect();
            let expected: Vec<_> = fields
                .iter()
                .skip(usize::from(header))
                .map(|row| String::from_utf8_lossy(&row[0]).into_owned())
                .collect();
            prop_assert_eq!(keys, expected);
        }

        #[test]
        fn nothing_panics(bytes: Vec<u8>, text in "[a,\"\n\r]{0,40}") {
            CsvRows::new(&bytes[..]).for_each(drop);
            CsvRows::new(text.as_bytes()).for_each(drop);
        }
    }
}
