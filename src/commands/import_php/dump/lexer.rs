//! The tokens of a dump, and its bare lines.
//!
//! Follows comments, quotes and dollar quotes as PostgreSQL does with `standard_conforming_strings`, which every dump
//! sets or does not depend on. Promises memory below [`ROW_MAX`]: what is longer is followed to its end and left out.

use std::io::{self, BufRead};

use super::copy::unescape;
use crate::commands::import_php::SourceError;
use crate::commands::import_php::file::ROW_MAX;

/// Longest word or name that is kept whole, in bytes; PostgreSQL keeps 63 of a name.
const WORD_MAX: usize = 256;

/// A piece of a statement.
#[derive(Debug, PartialEq, Eq)]
pub enum Token {
    /// A word or number, in lower case.
    Word(Vec<u8>),
    /// A name in double quotes, as it stands.
    Quoted(Vec<u8>),
    /// A text in quotes; `None` if it is too long to be kept.
    Literal(Option<Vec<u8>>),
    /// Any other character.
    Symbol(u8),
    /// The end of the file.
    End,
}

/// A line without its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// What stands in it, at most [`ROW_MAX`] bytes.
    pub bytes: Vec<u8>,
    /// Whether it was longer.
    pub cut: bool,
}

/// Reads tokens or lines, whichever is asked for.
pub struct Lexer<R> {
    input: R,
    line: u64,
}

impl<R: BufRead> Lexer<R> {
    /// Begins at the first line.
    pub fn new(input: R) -> Self {
        Self { input, line: 1 }
    }

    /// The next token.
    pub fn token(&mut self) -> Result<Token, SourceError> {
        loop {
            let Some(byte) = self.bump()? else { return Ok(Token::End) };
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | 11 | 12 => {}
                b'-' if self.peek()? == Some(b'-') => self.skip_line()?,
                b'/' if self.peek()? == Some(b'*') => self.skip_comment()?,
                b'\'' => return self.quoted(b'\'', false).map(Token::Literal),
                b'"' => return self.quoted(b'"', false).map(|name| Token::Quoted(name.unwrap_or_default())),
                b'$' => {
                    if let Some(text) = self.dollar()? {
                        return Ok(text);
                    }
                    return Ok(Token::Symbol(b'$'));
                }
                first if is_word(first) => {
                    let word = self.word(first)?;
                    if word == b"e" && self.peek()? == Some(b'\'') {
                        self.bump()?;
                        return self.quoted(b'\'', true).map(Token::Literal);
                    }
                    return Ok(Token::Word(word));
                }
                other => return Ok(Token::Symbol(other)),
            }
        }
    }

    /// The rest of this line, without its end; `None` at the end of the file.
    pub fn line(&mut self) -> Result<Option<Line>, SourceError> {
        let mut line = Line::default();
        let mut any = false;
        loop {
            let chunk = fill(&mut self.input)?;
            if chunk.is_empty() {
                return Ok(any.then_some(line));
            }
            any = true;
            let end = chunk.iter().position(|b| *b == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            let room = ROW_MAX - line.bytes.len();
            line.cut |= part.len() > room;
            line.bytes.extend_from_slice(&part[..part.len().min(room)]);
            let used = end.map_or(chunk.len(), |end| end + 1);
            self.input.consume(used);
            if end.is_some() {
                self.line += 1;
                // A dump that was made on Windows; in a row of COPY this character is escaped.
                line.bytes.pop_if(|last| *last == b'\r' && !line.cut);
                return Ok(Some(line));
            }
        }
    }

    /// The file ends where more must follow.
    pub fn truncated(&self) -> SourceError {
        SourceError::Truncated { line: self.line }
    }

    /// What stands here is not what a dump has.
    pub fn malformed(&self) -> SourceError {
        SourceError::Malformed { line: self.line }
    }

    fn peek(&mut self) -> Result<Option<u8>, SourceError> {
        Ok(fill(&mut self.input)?.first().copied())
    }

    fn bump(&mut self) -> Result<Option<u8>, SourceError> {
        let byte = self.peek()?;
        if let Some(byte) = byte {
            self.input.consume(1);
            self.line += u64::from(byte == b'\n');
        }
        Ok(byte)
    }

    /// The next byte of something that has an end of its own.
    fn within(&mut self) -> Result<u8, SourceError> {
        self.bump()?.ok_or(self.truncated())
    }

    fn skip_line(&mut self) -> Result<(), SourceError> {
        while !matches!(self.bump()?, None | Some(b'\n')) {}
        Ok(())
    }

    /// From the second character of `/*` to the matching `*/`; comments nest.
    fn skip_comment(&mut self) -> Result<(), SourceError> {
        let mut depth = 0_usize;
        let mut before = b'/';
        loop {
            let byte = self.within()?;
            match (before, byte) {
                (b'/', b'*') => depth += 1,
                (b'*', b'/') => depth -= 1,
                _ => {
                    before = byte;
                    continue;
                }
            }
            if depth == 0 {
                return Ok(());
            }
            // Neither character counts twice, as in `/*/`.
            before = 0;
        }
    }

    fn word(&mut self, first: u8) -> Result<Vec<u8>, SourceError> {
        let mut word = vec![first.to_ascii_lowercase()];
        while let Some(byte) = self.peek()?.filter(|b| is_word(*b) || *b == b'$') {
            self.bump()?;
            if word.len() < WORD_MAX {
                word.push(byte.to_ascii_lowercase());
            }
        }
        Ok(word)
    }

    /// Up to the closing `quote`; a doubled one stands for itself. `None` if it is too long to be kept.
    fn quoted(&mut self, quote: u8, escapes: bool) -> Result<Option<Vec<u8>>, SourceError> {
        let mut text = Bounded::default();
        loop {
            match self.within()? {
                byte if byte == quote => {
                    if self.peek()? != Some(quote) {
                        return Ok(text.finish());
                    }
                    self.bump()?;
                    text.push(quote);
                }
                b'\\' if escapes => {
                    let byte = self.escaped()?;
                    text.push(byte);
                }
                byte => text.push(byte),
            }
        }
    }

    /// Behind the backslash of an `E''` text.
    fn escaped(&mut self) -> Result<u8, SourceError> {
        let first = self.within()?;
        let (most, radix) = match first {
            b'0'..=b'7' => (3, 8),
            b'x' => (3, 16),
            _ => (1, 0),
        };
        let mut escape = vec![first];
        while escape.len() < most {
            match self.peek()?.filter(|b| char::from(*b).is_digit(radix)) {
                Some(digit) => escape.push(digit),
                None => break,
            }
            self.bump()?;
        }
        Ok(unescape(&escape).0)
    }

    /// Behind a `$`: a dollar-quoted text, which ends with the tag it began with. `None` if it is not one.
    fn dollar(&mut self) -> Result<Option<Token>, SourceError> {
        let mut tag = vec![b'$'];
        while let Some(byte) = self.peek()?.filter(|b| is_word(*b)) {
            if tag.len() > WORD_MAX {
                return Err(self.malformed());
            }
            tag.push(byte);
            self.bump()?;
        }
        if self.peek()? != Some(b'$') || tag.get(1).is_some_and(u8::is_ascii_digit) {
            return Ok(None);
        }
        self.bump()?;
        tag.push(b'$');
        let mut matched = 0;
        let mut text = Bounded::default();
        while matched < tag.len() {
            let byte = self.within()?;
            text.push(byte);
            // The tag has no dollar inside, so that a failed match can only begin anew with this byte.
            matched = if tag[matched] == byte { matched + 1 } else { usize::from(byte == b'$') };
        }
        Ok(Some(Token::Literal(text.finish().map(|mut text| {
            text.truncate(text.len() - tag.len());
            text
        }))))
    }
}

/// A text of which at most [`ROW_MAX`] bytes are kept.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    cut: bool,
}

impl Bounded {
    fn push(&mut self, byte: u8) {
        if self.bytes.len() < ROW_MAX {
            self.bytes.push(byte);
        } else {
            self.cut = true;
        }
    }

    fn finish(self) -> Option<Vec<u8>> {
        (!self.cut).then_some(self.bytes)
    }
}

/// A function of its own, because the borrow of what it returns would otherwise be that of the whole lexer.
fn fill(input: &mut impl BufRead) -> Result<&[u8], SourceError> {
    loop {
        match input.fill_buf() {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(SourceError::Read(error)),
        }
    }
    // Filled a moment ago: this answers the same again; at the end of the file it asks once more, and gets nothing.
    input.fill_buf().map_err(SourceError::Read)
}

/// Letters, digits, the underscore, and everything outside ASCII.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(text: &[u8]) -> Result<Vec<Token>, SourceError> {
        let mut lexer = Lexer::new(text);
        let mut tokens = Vec::new();
        loop {
            match lexer.token()? {
                Token::End => return Ok(tokens),
                token => tokens.push(token),
            }
        }
    }

    fn literals(text: &str) -> Vec<String> {
        let literal = |token| match token {
            Token::Literal(Some(text)) => Some(String::from_utf8(text).unwrap()),
            _ => None,
        };
        tokens(text.as_bytes()).unwrap().into_iter().filter_map(literal).collect()
    }

    #[test]
    fn texts_end_where_postgresql_ends_them() {
        assert_eq!(literals("'it''s' 'a\\' 'b'"), ["it's", "a\\", "b"]);
        assert_eq!(literals("E'a\\'b' e'\\\\' E'\\x41\\101\\n\\q'"), ["a'b", "\\", "AA\nq"]);
        assert_eq!(literals("'--' -- 'no'\n'/*' /* 'no' /* 'no' */ ' */ 'yes'"), ["--", "/*", "yes"]);
        assert_eq!(literals("/*/ 'no' */ 'yes' /**/ 'too'"), ["yes", "too"]);
        assert_eq!(literals("$$a'b$$ $x$ $$ $y$ $x$ $1 'c'"), ["a'b", " $$ $y$ ", "c"]);
        assert_eq!(literals("a$b$c 'd' \"e'f\" 'g'"), ["d", "g"]);
    }

    #[test]
    fn words_names_and_symbols() {
        let word = |text: &str| Token::Word(text.into());
        assert_eq!(
            tokens(b"INSERT Into\"Ca\"\"che\" (key_1);").unwrap(),
            [
                word("insert"),
                word("into"),
                Token::Quoted(b"Ca\"che".to_vec()),
                Token::Symbol(b'('),
                word("key_1"),
                Token::Symbol(b')'),
                Token::Symbol(b';')
            ]
        );
    }

    #[test]
    fn what_does_not_end_is_told() {
        for text in ["\n'a", "\n\"a", "\n/* a", "\n/*/", "\n$a$ b", "\nE'\\'"] {
            assert!(matches!(tokens(text.as_bytes()), Err(SourceError::Truncated { line: 2 })), "{text}");
        }
    }

    #[test]
    fn long_texts_and_lines_cost_no_memory() {
        let long = "x".repeat(ROW_MAX + 1);
        assert_eq!(tokens(format!("'{long}'").as_bytes()).unwrap(), [Token::Literal(None)]);
        let text = format!("{long}\nshort\r\n\nlast");
        let mut lexer = Lexer::new(text.as_bytes());
        let first = lexer.line().unwrap().unwrap();
        assert!(first.cut && first.bytes.len() == ROW_MAX);
        let rest: Vec<_> = std::iter::from_fn(|| lexer.line().unwrap()).map(|line| line.bytes).collect();
        assert_eq!(rest, [&b"short"[..], b"", b"last"]);
    }

    proptest! {
        #[test]
        fn every_text_can_be_quoted(text: Vec<u8>) {
            let doubled: Vec<u8> = text.iter().flat_map(|b| vec![*b; if *b == b'\'' { 2 } else { 1 }]).collect();
            let quoted = [b"'", &doubled[..], b"';"].concat();
            prop_assert_eq!(tokens(&quoted).unwrap(), [Token::Literal(Some(text)), Token::Symbol(b';')]);
        }

        #[test]
        fn nothing_panics(bytes: Vec<u8>, text in "[-a$E'\"/*\\\\;\n]{0,40}") {
            let _ = (tokens(&bytes), tokens(text.as_bytes()));
        }
    }
}
