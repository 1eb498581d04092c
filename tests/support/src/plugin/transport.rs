//! Owns one connection as Domoticz makes it: HTTP/1.1 over a new socket per request, which stays open afterwards.
//!
//! It reads answers as strictly as Domoticz does: a header field needs `: ` and a value, a body is handed on only when
//! it is exactly as long as `Content-Length` says. Anything else is no answer at all; nor is a chunked body, which
//! Domoticz reads unreliably and the proxy never sends.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Reply, Request};

const BUFFER: usize = 4096;

/// Sends `request` and reads the answer.
pub(super) async fn exchange(stream: &mut TcpStream, request: &Request) -> io::Result<Reply> {
    stream.write_all(&written(request)).await?;
    let mut received = Vec::new();
    let mut buffer = [0; BUFFER];
    loop {
        if let Some(reply) = parse(&received)? {
            return Ok(reply);
        }
        match stream.read(&mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => received.extend_from_slice(&buffer[..length]),
        }
    }
}

/// Tells whether the other side has kept `stream` open.
pub(super) fn is_open(stream: &TcpStream) -> bool {
    let mut byte = [0];
    match stream.try_read(&mut byte) {
        Ok(length) => length > 0,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

fn written(request: &Request) -> Vec<u8> {
    let line = format!("{} {} HTTP/1.1", request.method, request.target);
    let length = request.body.as_ref().map(|body| format!("Content-Length: {}", body.len()));
    let headers = request.headers.iter().map(|(name, value)| format!("{name}: {value}"));
    let head: Vec<_> = [line].into_iter().chain(headers).chain(length).collect();
    let body = request.body.as_deref().unwrap_or_default();
    format!("{}\r\n\r\n{body}", head.join("\r\n")).into_bytes()
}

/// The answer in `received`; `None`: not all of it has come yet.
fn parse(received: &[u8]) -> io::Result<Option<Reply>> {
    let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let (head, body) = (String::from_utf8_lossy(&received[..end]), &received[end + 4..]);
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| unreadable("status line"))?;
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").ok_or_else(|| unreadable(line))?;
            if value.is_empty() { Err(unreadable(line)) } else { Ok((name.to_owned(), value.to_owned())) }
        })
        .collect::<io::Result<Vec<_>>>()?;
    let header = |wanted: &str| {
        headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.as_str())
    };
    let length: usize = header("content-length")
        .and_then(|length| length.parse().ok())
        .ok_or_else(|| unreadable("no Content-Length"))?;
    if body.len() > length {
        return Err(unreadable("more than Content-Length"));
    }
    let whole = (body.len() == length).then(|| String::from_utf8_lossy(body).into_owned());
    Ok(whole.map(|body| Reply { status, headers, body }))
}

fn unreadable(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("Domoticz cannot read this answer: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> io::Result<Option<Reply>> {
        parse(text.as_bytes())
    }

    #[test]
    fn answers_are_read_when_they_are_whole() {
        let whole = "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\nX: y\r\n\r\n{}";
        for end in 0..whole.len() {
            assert!(matches!(read(&whole[..end]), Ok(None)), "{end}");
        }
        let reply = read(whole).expect("readable").expect("whole");
        assert_eq!((reply.status, reply.body.as_str()), (400, "{}"));
        assert_eq!(reply.headers[1], ("X".to_owned(), "y".to_owned()));
    }

    #[test]
    fn what_domoticz_cannot_read_is_no_answer() {
        for text in [
            "HTTP/1.1 200 OK\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nContent-Length:2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: \r\n\r\n{}",
            "HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
