//! Owns the three commands that starting a server takes, in MongoDB's wire protocol (`OP_MSG` with BSON), so that
//! the kit needs no driver. Promises a bounded wait for each. Refuses to be used for anything else: answers are
//! searched for single members and not parsed.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Time one command may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(2);
/// Time to found a replica set, which writes to disk.
const INITIATE_WITHIN: Duration = Duration::from_secs(30);
const OP_MSG: i32 = 2013;
/// Longest answer read, in bytes.
const ANSWER_MAX: usize = 1024 * 1024;

/// What a server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    /// It takes writes.
    pub(super) writable: bool,
}

/// Asks the server at `address` how it is.
pub(super) fn hello(address: SocketAddr) -> io::Result<Hello> {
    let command = Document::default().int("hello", 1).text("$db", "admin").build();
    let answer = run(address, &command, COMMAND_WITHIN)?;
    Ok(Hello { writable: contains(&answer, b"\x08isWritablePrimary\0\x01") })
}

/// Founds replica set `name` with the server at `address` as its one member.
pub(super) fn initiate(address: SocketAddr, name: &str) -> io::Result<()> {
    let member = Document::default().int("_id", 0).text("host", &address.to_string()).build();
    let members =
        Document::default().nested(0x04, "members", &Document::default().nested(0x03, "0", &member).build());
    let config = members.text("_id", name).build();
    let command = Document::default().nested(0x03, "replSetInitiate", &config).text("$db", "admin").build();
    run(address, &command, INITIATE_WITHIN).map(drop)
}

/// Sends `command` over a connection of its own and returns the answer, if the answer says `ok: 1`.
fn run(address: SocketAddr, command: &[u8], within: Duration) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, within)?;
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(within))?;
    let mut message = Vec::new();
    // Header: length, request id, id answered, operation; then no flags, one section of kind 0.
    for number in [length(16 + 4 + 1 + command.len()), 1, 0, OP_MSG, 0] {
        message.extend(number.to_le_bytes());
    }
    message.push(0);
    message.extend(command);
    stream.write_all(&message)?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let size = usize::try_from(i32::from_le_bytes(size)).unwrap_or(0);
    if !(4..=ANSWER_MAX).contains(&size) {
        return Err(io::Error::other("not an answer of MongoDB"));
    }
    let mut answer = vec![0; size - 4];
    stream.read_exact(&mut answer)?;
    let ok = [b"\x01ok\0".as_slice(), &1.0_f64.to_le_bytes()].concat();
    if contains(&answer, &ok) {
        Ok(answer)
    } else {
        Err(io::Error::other(format!("MongoDB refused: {}", String::from_utf8_lossy(&answer))))
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("a command of a few bytes")
}

/// A BSON document under construction: elements only, without the length before and the zero after them.
#[derive(Default)]
struct Document(Vec<u8>);

impl Document {
    fn element(mut self, kind: u8, name: &str, value: &[u8]) -> Self {
        self.0.push(kind);
        self.0.extend(name.as_bytes());
        self.0.push(0);
        self.0.extend(value);
        self
    }

    fn int(self, name: &str, value: i32) -> Self {
        self.element(0x10, name, &value.to_le_bytes())
    }

    fn text(self, name: &str, value: &str) -> Self {
        let mut bytes = length(value.len() + 1).to_le_bytes().to_vec();
        bytes.extend(value.as_bytes());
        bytes.push(0);
        self.element(0x02, name, &bytes)
    }

    /// `kind` is 3 for a document and 4 for an array; `document` comes from [`Document::build`].
    fn nested(self, kind: u8, name: &str, document: &[u8]) -> Self {
        self.element(kind, name, document)
    }

    fn build(self) -> Vec<u8> {
        let mut bytes = length(self.0.len() + 5).to_le_bytes().to_vec();
        bytes.extend(self.0);
        bytes.push(0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_built_as_the_bson_specification_shows() {
        let bytes = Document::default().text("hello", "world").build();
        assert_eq!(bytes, b"\x16\x00\x00\x00\x02hello\x00\x06\x00\x00\x00world\x00\x00");
    }
}
