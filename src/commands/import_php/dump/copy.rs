//! A row of `COPY` in its text format: fields separated by tabs, backslash escapes, `\N` for NULL.

use super::lexer::Line;
use crate::commands::import_php::entry::Row;
use crate::commands::import_php::table::Columns;

/// A row as an entry.
pub fn row(columns: &Columns, line: &Line) -> Row {
    if line.cut {
        return Row::NotUnderstood;
    }
    let fields: Vec<_> = line.bytes.split(|b| *b == b'\t').map(field).collect();
    let fields: Vec<_> = fields.iter().map(Option::as_deref).collect();
    columns.entry(&fields)
}

/// One field without its escapes; `None` for NULL.
fn field(escaped: &[u8]) -> Option<Vec<u8>> {
    if escaped == b"\\N" {
        return None;
    }
    let mut out = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first != b'\\' {
            out.push(first);
            continue;
        }
        let (byte, behind) = unescape(rest);
        out.push(byte);
        rest = behind;
    }
    Some(out)
}

/// The byte that an escape stands for, read behind its backslash, and the rest.
pub fn unescape(text: &[u8]) -> (u8, &[u8]) {
    let Some((&first, rest)) = text.split_first() else { return (b'\\', text) };
    let number = |digits: &[u8], radix: u32| {
        // As PostgreSQL, which keeps the low byte.
        digits
            .iter()
            .filter_map(|d| char::from(*d).to_digit(radix))
            .fold(0_u32, |n, d| n * radix + d)
            .to_le_bytes()[0]
    };
    let run = |text: &[u8], most: usize, radix: u32| {
        text.iter().take(most).take_while(|b| char::from(**b).is_digit(radix)).count()
    };
    match first {
        b'b' => (8, rest),
        b'f' => (12, rest),
        b'n' => (b'\n', rest),
        b'r' => (b'\r', rest),
        b't' => (b'\t', rest),
        b'v' => (11, rest),
        b'0'..=b'7' => {
            let (digits, rest) = text.split_at(run(text, 3, 8));
            (number(digits, 8), rest)
        }
        b'x' if run(rest, 2, 16) > 0 => {
            let (digits, rest) = rest.split_at(run(rest, 2, 16));
            (number(digits, 16), rest)
        }
        other => (other, rest),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_are_those_of_postgresql() {
        let read =
            |text: &str| field(text.as_bytes()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert_eq!(read("\\N"), None);
        assert_eq!(read("").as_deref(), Some(""));
        assert_eq!(read("s:3:\"1,2\";").as_deref(), Some("s:3:\"1,2\";"));
        assert_eq!(read("a\\tb\\\\N\\n\\r\\b\\f\\v").as_deref(), Some("a\tb\\N\n\r\u{8}\u{c}\u{b}"));
        assert_eq!(read("\\101\\x41\\x4g\\08\\xg\\q").as_deref(), Some("AA\u{4}g\u{0}8xgq"));
        assert_eq!(read("end\\").as_deref(), Some("end\\"));
    }

    proptest! {
        #[test]
        fn reads_what_postgresql_writes(value: Vec<u8>) {
            let mut escaped = Vec::new();
            for byte in &value {
                match byte {
                    b'\\' => escaped.extend(b"\\\\"),
                    b'\t' => escaped.extend(b"\\t"),
                    b'\n' => escaped.extend(b"\\n"),
                    b'\r' => escaped.extend(b"\\r"),
                    other => escaped.push(*other),
                }
            }
            prop_assert_eq!(field(&escaped), Some(value));
        }

        #[test]
        fn nothing_panics(bytes: Vec<u8>, text in "[\\\\x0-9a-f\t]{0,20}") {
            let _ = (field(&bytes), field(text.as_bytes()));
        }
    }
}
