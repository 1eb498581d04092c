//! How a command lists: a table for a person, or one JSON object a line for a program.

use std::borrow::Cow;
use std::io::{self, Write};

use actors::base::clock::Timestamp;
use serde::Serialize;

/// What is listed, a row each; its fields are those of the JSON object.
pub trait Row: Serialize {
    /// Head and least width of each column.
    const COLUMNS: &'static [(&'static str, usize)];

    /// What stands in each column. What a stranger may have chosen goes through [`printable`].
    fn cells(&self) -> Vec<Cow<'_, str>>;
}

/// A listing under way.
pub struct Listing<'a, W> {
    json: bool,
    out: &'a mut W,
}

impl<'a, W: Write> Listing<'a, W> {
    /// Begins it, with the heads of the columns.
    pub fn begin<R: Row>(json: bool, out: &'a mut W) -> io::Result<Self> {
        let mut listing = Self { json, out };
        if !json {
            listing.line::<R>(R::COLUMNS.iter().map(|(head, _)| Cow::Borrowed(*head)))?;
        }
        Ok(listing)
    }

    /// Adds a row.
    pub fn row<R: Row>(&mut self, row: &R) -> io::Result<()> {
        if self.json {
            serde_json::to_writer(&mut *self.out, row)?;
            return writeln!(self.out);
        }
        self.line::<R>(row.cells())
    }

    /// Adds a remark for a person.
    pub fn remark(&mut self, text: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { writeln!(self.out, "{text}") }
    }

    fn line<'c, R: Row>(&mut self, cells: impl IntoIterator<Item = Cow<'c, str>>) -> io::Result<()> {
        let padded = cells.into_iter().zip(R::COLUMNS).map(|(cell, (_, width))| format!("{cell:width$}"));
        writeln!(self.out, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())
    }
}

/// `2026-11-24T07:08:09Z`; the last second of the calendar for what lies beyond it.
pub fn iso(at: Timestamp) -> String {
    let secs = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(secs).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// A stranger may have chosen the text: what would steer a terminal is written out.
pub fn printable(text: &str) -> String {
    let plain = |c: char| c == '"' || c == '\'' || c == '\\';
    text.chars().flat_map(|c| if plain(c) { vec![c] } else { c.escape_debug().collect() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_iso_dates() {
        assert_eq!(iso(Timestamp::from_millis(1_835_440_496_789)), "2028-02-29T12:34:56Z");
        assert_eq!(iso(Timestamp::EPOCH), "1970-01-01T00:00:00Z");
        assert!(iso(Timestamp::from_millis(u64::MAX)).starts_with("9999-12-30T"));
    }

    #[test]
    fn no_text_steers_the_terminal() {
        assert_eq!(printable("d198fd52-é \"x\""), "d198fd52-é \"x\"");
        assert_eq!(printable("a\u{1b}[2J\r\n\u{9b}\u{202e}"), "a\\u{1b}[2J\\r\\n\\u{9b}\\u{202e}");
    }
}
