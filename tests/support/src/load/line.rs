//! Owns one connection, the devices that poll over it, and the verdict on every answer.
//!
//! It promises one request at a time, and a request written in place: a device is 32 bytes. A connection that the server
//! closed between two requests is opened anew, once per request, as clients do.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use crate::plugin::CLIENT_ID;
use crate::wire::{self, Connection};

/// Digits of a device code.
const CODE_DIGITS: usize = 64;
/// Times that codes are asked for again when the server refuses, and the time between.
const TRIES: usize = 20;
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// A connection and its devices.
pub(super) struct Line {
    address: SocketAddr,
    source: Option<IpAddr>,
    connection: Option<Connection>,
    /// Each poll has a connection of its own.
    reconnects: bool,
    /// A poll; the last [`CODE_DIGITS`] bytes are the device code.
    request: Vec<u8>,
    codes: Vec<[u8; CODE_DIGITS / 2]>,
    /// A body found good, to know the next one by.
    known: Vec<u8>,
}

/// What an answer came to.
pub(super) enum Answer {
    /// `authorization_pending`.
    Pending,
    /// `slow_down`.
    SlowDown,
    /// Anything else: what kind, in which words.
    Wrong(String, String),
}

/// Why there are no device codes to poll with.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// The connection failed.
    #[error("a device cannot reach the server")]
    Io(#[from] io::Error),
    /// The server refused again and again, the last time with this answer.
    #[error("no device code in the answer: HTTP {0} {1}")]
    Refused(u16, String),
}

impl Line {
    pub(super) fn new(address: SocketAddr, source: Option<IpAddr>, reconnects: bool) -> Self {
        let request = wire::poll(CLIENT_ID, &"0".repeat(CODE_DIGITS));
        let (connection, codes, known) = (None, Vec::new(), Vec::new());
        Self { address, source, connection, reconnects, request, codes, known }
    }

    /// Asks for `count` device codes, one after the other; `done` is called after each.
    pub(super) async fn fill(&mut self, count: u32, done: impl Fn()) -> Result<(), FillError> {
        let request = wire::ask_for_code(CLIENT_ID);
        self.codes.reserve_exact(count as usize);
        let mut connection = self.open().await?;
        for _ in 0..count {
            let mut tries = 0;
            let code = loop {
                let (status, body) = connection.ask(&request).await?;
                match device_code(body) {
                    Some(code) => break code,
                    None if tries < TRIES => tries += 1,
                    None => return Err(FillError::Refused(status, words(body))),
                }
                tokio::time::sleep(TRY_AGAIN).await;
            };
            self.codes.push(code);
            done();
        }
        if !self.reconnects {
            self.connection = Some(connection);
        }
        Ok(())
    }

    /// Polls once for device number `device` of this line; also whether a closed connection was opened anew.
    pub(super) async fn poll(&mut self, device: usize) -> (Answer, bool) {
        let hole = self.request.len() - CODE_DIGITS;
        let Some(code) = self.codes.get(device) else {
            return (Answer::Wrong("no such device".into(), device.to_string()), false);
        };
        // The hole is as long as the digits.
        let _ = hex::encode_to_slice(code, &mut self.request[hole..]);
        let kept = self.connection.is_some();
        match self.ask().await {
            Ok(answer) => (answer, false),
            Err(error) if kept && is_closed(&error) => match self.ask().await {
                Ok(answer) => (answer, true),
                Err(error) => (failed(&error), true),
            },
            Err(error) => (failed(&error), false),
        }
    }

    /// Sends the request, on a new connection unless there is one; a connection that failed is not kept.
    async fn ask(&mut self) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open().await?,
        };
        let (status, body) = connection.ask(&self.request).await?;
        let answer = judge(status, body, &mut self.known);
        if !self.reconnects {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    async fn open(&self) -> io::Result<Connection> {
        match self.source {
            Some(source) => Connection::open_from(source, self.address).await,
            None => Connection::new(tokio::net::TcpStream::connect(self.address).await?),
        }
    }
}

/// A poll must be told to wait: 400 and `authorization_pending` (RFC 8628 section 3.5). `known` is a body that was.
fn judge(status: u16, body: &[u8], known: &mut Vec<u8>) -> Answer {
    if status == 400 && !known.is_empty() && body == known.as_slice() {
        return Answer::Pending;
    }
    let error = serde_json::from_slice::<Value>(body).ok();
    let error = error.as_ref().and_then(|answer| answer.get("error")?.as_str());
    match (status, error) {
        (400, Some("authorization_pending")) => {
            body.clone_into(known);
            Answer::Pending
        }
        (400, Some("slow_down")) => Answer::SlowDown,
        _ => Answer::Wrong(
            format!("HTTP {status} {}", error.unwrap_or_default()).trim_end().to_owned(),
            words(body),
        ),
    }
}

/// The connection ended, or had ended, as a server ends idle ones.
fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
}

fn failed(error: &io::Error) -> Answer {
    Answer::Wrong(format!("connection: {}", error.kind()), error.to_string())
}

fn device_code(body: &[u8]) -> Option<[u8; CODE_DIGITS / 2]> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let mut code = [0; CODE_DIGITS / 2];
    hex::decode_to_slice(answer.get("device_code")?.as_str()?, &mut code).ok()?;
    Some(code)
}

/// A body to be shown, not too long.
pub(super) fn words(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_are_judged() {
        let mut known = Vec::new();
        let mut told = |status, body: &str| match judge(status, body.as_bytes(), &mut known) {
            Answer::Pending => "pending".to_owned(),
            Answer::SlowDown => "slow down".to_owned(),
            Answer::Wrong(kind, _) => kind,
        };
        let pending = r#"{"error":"authorization_pending"}"#;
        assert_eq!(told(400, pending), "pending");
        assert_eq!(told(400, pending), "pending");
        assert_eq!(told(403, pending), "HTTP 403 authorization_pending");
        assert_eq!(told(400, r#"{"error":"slow_down"}"#), "slow down");
        assert_eq!(told(400, r#"{"error":"expired_token"}"#), "HTTP 400 expired_token");
        assert_eq!(told(503, "busy"), "HTTP 503");
    }

    #[test]
    fn a_code_is_64_hex_digits() {
        let code = |text: &str| device_code(format!(r#"{{"device_code":"{text}"}}"#).as_bytes());
        assert_eq!(code(&"0f".repeat(32)), Some([15; 32]));
        assert_eq!(code("0f"), None);
        assert_eq!(device_code(b"{}"), None);
    }

    #[test]
    fn the_code_is_at_the_end_of_a_poll() {
        let poll = wire::poll(CLIENT_ID, &"a".repeat(CODE_DIGITS));
        assert!(poll.ends_with("a".repeat(CODE_DIGITS).as_bytes()));
    }
}
