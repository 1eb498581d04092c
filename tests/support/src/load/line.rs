//! Owns one connection, the devices that poll over it, and the verdict on every answer.
//!
//! It promises one request at a time, and a request written in place: a device is 32 bytes. A connection that the server
//! closed between two requests is opened anew, once per request, as clients do.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};

use super::locked;
use super::schedule::Pace;
use super::tally::{Answer, Tally};
use super::wire::{self, Connection};
use crate::plugin::CLIENT_ID;

/// A device code, which is written as hex digits.
pub(super) type Code = [u8; 32];
const CODE_DIGITS: usize = 2 * size_of::<Code>();
/// Times that codes are asked for again when the server refuses, and the time between.
const TRIES: usize = 20;
const TRY_AGAIN: Duration = Duration::from_millis(100);
/// Source addresses of polls that have a connection each: a port is occupied for a while after its connection is closed.
const SOURCES: u32 = 256;
/// Bodies that are known without being parsed: `interval` makes some twenty of them.
const KNOWN_MAX: usize = 32;

pub(super) struct Line {
    pub(super) number: u32,
    address: SocketAddr,
    /// Number of the address that connections come from; 0: the system's choice.
    source: u32,
    connection: Option<Connection>,
    /// Each poll has a connection of its own.
    reconnects: bool,
    /// A poll; the last [`CODE_DIGITS`] bytes are the device code.
    request: Vec<u8>,
    pub(super) codes: Vec<Code>,
    /// Bodies found good, to know the next ones by.
    known: Vec<(Vec<u8>, Answer)>,
}

impl Line {
    pub(super) fn new(number: u32, address: SocketAddr, source: u32, reconnects: bool) -> Self {
        let request = wire::poll(CLIENT_ID, &"0".repeat(CODE_DIGITS));
        let (connection, codes, known) = (None, Vec::new(), Vec::new());
        Self { number, address, source, connection, reconnects, request, codes, known }
    }

    /// Asks for `count` device codes, one after the other.
    pub(super) async fn fill(&mut self, count: u32) -> io::Result<()> {
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
                    None => {
                        let what = format!("no device code in the answer: HTTP {status} {}", words(body));
                        return Err(io::Error::other(what));
                    }
                }
                sleep(TRY_AGAIN).await;
            };
            self.codes.push(code);
        }
        self.keep(connection);
        Ok(())
    }

    /// Polls at `pace` from `start` on. A poll is sent when it is due, or as soon after as the connection is free.
    pub(super) async fn poll_at(&mut self, pace: Pace, start: Instant, tally: &Mutex<Tally>) {
        let mut free = start;
        let mut timer = std::pin::pin!(sleep_until(start));
        timer.as_mut().await;
        for slot in pace.of_connection(self.number, self.codes.len()) {
            let due = slot.at.map_or(free, |at| start + at);
            let mut now = free;
            if due > free {
                timer.as_mut().reset(due);
                timer.as_mut().await;
                now = Instant::now();
            } else if free >= start + pace.length() && slot.at.is_none() {
                return;
            }
            {
                let mut tally = locked(tally);
                tally.send(now - start, now - due.max(free));
            }
            let (answer, reopened) = self.poll(slot.device).await;
            free = Instant::now();
            let mut tally = locked(tally);
            tally.receive(due - start, free - start, &answer);
            tally.reopened += u64::from(reopened);
        }
    }

    /// Polls once for device number `device` of this line; also whether a closed connection was opened anew.
    async fn poll(&mut self, device: usize) -> (Answer, bool) {
        let hole = self.request.len() - CODE_DIGITS;
        hex::encode_to_slice(self.codes[device], &mut self.request[hole..])
            .expect("as many digits as there is room");
        let kept = self.connection.is_some();
        let (mut asked, mut reopened) = (self.ask().await, false);
        if kept && asked.as_ref().is_err_and(is_closed) {
            (asked, reopened) = (self.ask().await, true);
        }
        let failed =
            |error: io::Error| Answer::Wrong(format!("connection: {}", error.kind()), error.to_string());
        (asked.unwrap_or_else(failed), reopened)
    }

    /// Sends the request, on a new connection unless there is one; a connection that failed is not kept.
    async fn ask(&mut self) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open().await?,
        };
        let (status, body) = connection.ask(&self.request).await?;
        let answer = judge(status, body, &mut self.known);
        self.keep(connection);
        Ok(answer)
    }

    fn keep(&mut self, connection: Connection) {
        self.connection = Some(connection).filter(|_| !self.reconnects);
    }

    async fn open(&mut self) -> io::Result<Connection> {
        if self.reconnects {
            self.source = self.source % SOURCES + 1;
        }
        Connection::open(self.source, self.address).await
    }
}

/// A poll must be told to wait: 400 and `authorization_pending` (RFC 8628 section 3.5). `known` are bodies that were good.
fn judge(status: u16, body: &[u8], known: &mut Vec<(Vec<u8>, Answer)>) -> Answer {
    if let Some((_, answer)) = known.iter().find(|(known, _)| status == 400 && known == body) {
        return answer.clone();
    }
    let error = serde_json::from_slice::<Value>(body).ok();
    let error = error.as_ref().and_then(|answer| answer.get("error")?.as_str());
    let answer = match (status, error) {
        (400, Some("authorization_pending")) => Answer::Pending,
        (400, Some("slow_down")) => Answer::SlowDown,
        _ => {
            let kind = format!("HTTP {status} {}", error.unwrap_or_default());
            return Answer::Wrong(kind.trim_end().to_owned(), words(body));
        }
    };
    if known.len() < KNOWN_MAX {
        known.push((body.to_owned(), answer.clone()));
    }
    answer
}

/// The connection ended, or had ended, as a server ends idle ones.
fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
}

fn device_code(body: &[u8]) -> Option<Code> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let mut code = Code::default();
    hex::decode_to_slice(answer.get("device_code")?.as_str()?, &mut code).ok()?;
    Some(code)
}

/// A body to be shown, not too long.
fn words(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_are_judged() {
        let mut known = Vec::new();
        let mut told = |status, body: &str| match judge(status, body.as_bytes(), &mut known) {
            Answer::Wrong(kind, _) => kind,
            good => format!("{good:?}"),
        };
        let pending = r#"{"error":"authorization_pending"}"#;
        let slow_down = r#"{"error":"slow_down"}"#;
        for _ in 0..2 {
            assert_eq!(told(400, pending), "Pending");
            assert_eq!(told(403, pending), "HTTP 403 authorization_pending");
            assert_eq!(told(400, slow_down), "SlowDown");
        }
        assert_eq!(told(400, r#"{"error":"expired_token"}"#), "HTTP 400 expired_token");
        assert_eq!(told(503, "busy"), "HTTP 503");
        assert_eq!(known.len(), 2);
    }

    #[test]
    fn a_code_is_64_hex_digits_at_the_end_of_a_poll() {
        let code = |text: &str| device_code(format!(r#"{{"device_code":"{text}"}}"#).as_bytes());
        let digits = "0f".repeat(32);
        assert_eq!((code(&digits), code("0f"), device_code(b"{}")), (Some([15; 32]), None, None));
        assert!(wire::poll(CLIENT_ID, &digits).ends_with(digits.as_bytes()));
    }
}
