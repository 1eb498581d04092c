//! A text as PHP's `serialize()` writes it: `s:14:"12345678901234";`, the length in bytes.
//!
//! The PHP server keeps every value of its PostgreSQL table so. Only texts are of use here; arrays and objects belong
//! to logins under way.

/// The text of a serialized string; `None` for anything else, and for anything before or behind it.
pub fn text(serialized: &[u8]) -> Option<&[u8]> {
    let rest = serialized.strip_prefix(b"s:")?;
    let colon = rest.iter().position(|b| *b == b':')?;
    let (length, rest) = rest.split_at(colon);
    let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
    let length: usize = std::str::from_utf8(length).ok().filter(|_| is_number)?.parse().ok()?;
    let text = rest.strip_prefix(b":\"")?.strip_suffix(b"\";")?;
    (text.len() == length).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strings_and_nothing_else() {
        assert_eq!(text(b"s:14:\"12345678901234\";"), Some(&b"12345678901234"[..]));
        assert_eq!(text(b"s:0:\"\";"), Some(&b""[..]));
        // Bytes, not characters; quotes inside are not escaped.
        assert_eq!(text("s:2:\"é\";".as_bytes()), Some("é".as_bytes()));
        assert_eq!(text(b"s:3:\"\";\"\";"), Some(&b"\";\""[..]));
        for wrong in [
            "",
            "N;",
            "i:12345678901234;",
            "b:1;",
            "a:1:{i:0;s:14:\"12345678901234\";}",
            "O:8:\"stdClass\":1:{s:6:\"status\";s:7:\"pending\";}",
            "s:13:\"12345678901234\";",
            "s:15:\"12345678901234\";",
            "s:14:\"12345678901234\"",
            "s:14:\"12345678901234\";\n",
            "s:14:12345678901234;",
            "s:+14:\"12345678901234\";",
            "s::\"\";",
            "s:99999999999999999999999:\"\";",
            "s:1:\"",
            "12345678901234",
        ] {
            assert_eq!(text(wrong.as_bytes()), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_php_writes(value: Vec<u8>) {
            let mut serialized = format!("s:{}:\"", value.len()).into_bytes();
            serialized.extend_from_slice(&value);
            serialized.extend_from_slice(b"\";");
            prop_assert_eq!(text(&serialized), Some(&value[..]));
        }

        #[test]
        fn nothing_panics(bytes: Vec<u8>) {
            let _ = text(&bytes);
            let _ = text(&[b"s:", &bytes[..]].concat());
        }
    }
}
