//! A plain-text dump of PostgreSQL, with `COPY` (the default) or `INSERT` (`--inserts`, `--column-inserts`,
//! `--rows-per-insert`), of the table alone or of the whole database.
//!
//! Promises: a text that a stranger put into the database, in whatever table, is never read as a statement, because
//! quotes, comments and rows are followed as PostgreSQL itself does; memory stays at one row. Refuses a dump that ends
//! in the middle of something, after its rows until then.

mod copy;
mod lexer;

use std::io::BufRead;

use self::lexer::{Lexer, Token};
use super::SourceError;
use super::entry::Row;
use super::table::{self, Columns};

/// Columns of one row that are kept; a row of more is not the table's.
const FIELDS_MAX: usize = 64;

/// Rows of the table `cache` in a dump. Ends after the first error.
pub struct Dump<R> {
    lexer: Lexer<R>,
    state: State,
    /// Whether the dump has rows of the table, or could have.
    seen: bool,
}

#[derive(Clone, Copy)]
enum State {
    /// Between statements.
    Statements,
    /// In the rows of a `COPY`; of another table if there are no columns.
    Copy(Option<Columns>),
    /// Rows alone, up to the end of the file.
    BareRows,
    /// Before a row of an `INSERT`.
    Values(Columns),
    Ended,
}

impl<R: BufRead> Dump<R> {
    /// Begins to read a dump.
    pub fn new(input: R) -> Self {
        Self { lexer: Lexer::new(input), state: State::Statements, seen: false }
    }

    /// Begins to read rows as they stand in a `COPY`, without anything around them.
    pub fn bare_rows(input: R) -> Self {
        Self { lexer: Lexer::new(input), state: State::BareRows, seen: true }
    }

    fn read(&mut self) -> Result<Option<Row>, SourceError> {
        loop {
            match self.state {
                State::Statements => match self.lexer.token()? {
                    Token::End if self.seen => return Ok(None),
                    Token::End => return Err(SourceError::NoTable),
                    Token::Symbol(b';') => {}
                    // A command to psql, such as `\restrict`, takes a line.
                    Token::Symbol(b'\\') => drop(self.lexer.line()?),
                    Token::Word(word) if word == b"copy" => self.begin_copy()?,
                    Token::Word(word) if word == b"insert" => self.begin_insert()?,
                    _ => self.skip_statement()?,
                },
                State::Copy(columns) => {
                    let line = self.lexer.line()?.ok_or(self.lexer.truncated())?;
                    if line.bytes == b"\\." {
                        self.state = State::Statements;
                    } else if let Some(columns) = columns {
                        return Ok(Some(copy::row(&columns, &line)));
                    }
                }
                State::BareRows => match self.lexer.line()? {
                    None => return Ok(None),
                    Some(line) if line.bytes == b"\\." || line.bytes.is_empty() => {}
                    Some(line) => return Ok(Some(copy::row(&Columns::OWN, &line))),
                },
                State::Values(columns) => {
                    let row = self.tuple(&columns)?;
                    match self.lexer.token()? {
                        Token::Symbol(b',') => {}
                        Token::Symbol(b';') => self.state = State::Statements,
                        // ON CONFLICT DO NOTHING.
                        Token::Word(_) => {
                            self.state = State::Statements;
                            self.skip_statement()?;
                        }
                        _ => return Err(self.lexer.malformed()),
                    }
                    return Ok(Some(row));
                }
                State::Ended => return Ok(None),
            }
        }
    }

    /// `COPY name [(columns)] FROM stdin …;`, after its first word.
    fn begin_copy(&mut self) -> Result<(), SourceError> {
        let (columns, mut token) = self.target()?;
        let mut from_stdin = false;
        loop {
            match token {
                Token::Symbol(b';') => break,
                Token::End => return Err(self.lexer.truncated()),
                Token::Word(word) => from_stdin |= word == b"stdin",
                _ => {}
            }
            token = self.lexer.token()?;
        }
        if from_stdin {
            // The rows begin on the next line.
            self.lexer.line()?;
            self.seen |= columns.is_some();
            self.state = State::Copy(columns);
        }
        Ok(())
    }

    /// `INSERT INTO name [(columns)] [OVERRIDING … VALUE] VALUES …;`, after its first word.
    fn begin_insert(&mut self) -> Result<(), SourceError> {
        if !matches!(self.lexer.token()?, Token::Word(word) if word == b"into") {
            return Err(self.lexer.malformed());
        }
        let (columns, mut token) = self.target()?;
        let Some(columns) = columns else { return self.skip_from(&token) };
        loop {
            match token {
                Token::Word(word) if word == b"values" => break,
                Token::Word(word)
                    if [&b"overriding"[..], b"system", b"user", b"value"].contains(&&word[..]) => {}
                other => return self.skip_from(&other),
            }
            token = self.lexer.token()?;
        }
        self.seen = true;
        self.state = State::Values(columns);
        Ok(())
    }

    /// A table's name and its columns, if they are listed; `None` if it is another table. And the token behind.
    fn target(&mut self) -> Result<(Option<Columns>, Token), SourceError> {
        let mut last = self.name()?;
        let mut token = self.lexer.token()?;
        while matches!(token, Token::Symbol(b'.')) {
            last = self.name()?;
            token = self.lexer.token()?;
        }
        let is_cache = last == table::NAME.as_bytes();
        if !matches!(token, Token::Symbol(b'(')) {
            return Ok((is_cache.then_some(Columns::OWN), token));
        }
        let mut names = vec![self.name()?];
        loop {
            match self.lexer.token()? {
                Token::Symbol(b',') => names.push(self.name()?),
                Token::Symbol(b')') => break,
                _ => return Err(self.lexer.malformed()),
            }
            // No more columns fit into a table of PostgreSQL.
            if names.len() > 1_600 {
                return Err(self.lexer.malformed());
            }
        }
        let columns = Columns::named(names.iter().map(Vec::as_slice)).filter(|_| is_cache);
        Ok((columns, self.lexer.token()?))
    }

    fn name(&mut self) -> Result<Vec<u8>, SourceError> {
        match self.lexer.token()? {
            Token::Word(name) | Token::Quoted(name) => Ok(name),
            Token::End => Err(self.lexer.truncated()),
            _ => Err(self.lexer.malformed()),
        }
    }

    /// One row of an `INSERT`, in parentheses.
    fn tuple(&mut self, columns: &Columns) -> Result<Row, SourceError> {
        if !matches!(self.lexer.token()?, Token::Symbol(b'(')) {
            return Err(self.lexer.malformed());
        }
        let mut fields: Vec<Option<Vec<u8>>> = Vec::new();
        let (mut depth, mut tokens, mut field) = (0_usize, 0_usize, None);
        loop {
            let token = self.lexer.token()?;
            match token {
                Token::End => return Err(self.lexer.truncated()),
                Token::Symbol(b';') => return Err(self.lexer.malformed()),
                Token::Symbol(end @ (b',' | b')')) if depth == 0 => {
                    if fields.len() <= FIELDS_MAX {
                        fields.push(field.take());
                    }
                    tokens = 0;
                    if end == b')' {
                        break;
                    }
                }
                other => {
                    match other {
                        Token::Symbol(b'(') => depth += 1,
                        Token::Symbol(b')') => depth -= 1,
                        _ => {}
                    }
                    tokens += 1;
                    // Only a literal by itself is a text; NULL and expressions are not.
                    field = match other {
                        Token::Literal(text) if tokens == 1 => text,
                        _ => None,
                    };
                }
            }
        }
        let fields: Vec<_> = fields.iter().map(Option::as_deref).collect();
        Ok(columns.entry(&fields))
    }

    /// Reads on behind the statement whose next token is `token`.
    fn skip_from(&mut self, token: &Token) -> Result<(), SourceError> {
        match token {
            Token::Symbol(b';') => Ok(()),
            Token::End => Err(self.lexer.truncated()),
            _ => self.skip_statement(),
        }
    }

    fn skip_statement(&mut self) -> Result<(), SourceError> {
        loop {
            match self.lexer.token()? {
                Token::Symbol(b';') => return Ok(()),
                Token::End => return Err(self.lexer.truncated()),
                _ => {}
            }
        }
    }
}

impl<R: BufRead> Iterator for Dump<R> {
    type Item = Result<Row, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.read();
        if !matches!(row, Ok(Some(_))) {
            self.state = State::Ended;
        }
        row.transpose()
    }
}

#[cfg(test)]
mod tests;
