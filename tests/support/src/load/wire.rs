//! HTTP/1.1 for load: requests written beforehand, answers read no further than needed, so that the machine's time
//! goes to the server and not to its clients.
//!
//! Owns one connection at a time. It promises that an answer is read whole before the next request is sent, and refuses
//! what the proxy's device endpoints never send: a chunked body, an answer of over [`ANSWER_MAX`] bytes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Longest answer that is understood, in bytes.
const ANSWER_MAX: usize = 16 * 1_024;

/// A poll (RFC 8628 section 3.4) of `device_code`, as bytes that end with it.
pub(super) fn poll(client_id: &str, device_code: &str) -> Vec<u8> {
    let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code";
    post("/device/token", &format!("grant_type={grant}&client_id={client_id}&device_code={device_code}"))
}

/// A device authorization request (RFC 8628 section 3.1), as bytes.
pub(super) fn ask_for_code(client_id: &str) -> Vec<u8> {
    post("/device/code", &format!("client_id={client_id}"))
}

fn post(path: &str, form: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{form}",
        form.len()
    )
    .into_bytes()
}

/// One connection, kept alive.
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects to `address`. A `source` above 0 names one of this machine's addresses, which each have ports of their
    /// own, so that more connections are to be had from several; 0: the system chooses.
    pub(super) async fn open(source: u32, address: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if source > 0 {
            let [_, high, middle, low] = source.to_be_bytes();
            socket.bind(SocketAddr::from((Ipv4Addr::new(127, high, middle, low), 0)))?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(512) })
    }

    /// Sends one whole request and returns its answer's status and body.
    pub(super) async fn ask(&mut self, request: &[u8]) -> io::Result<(u16, &[u8])> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the connection ended within an answer",
                ));
            }
            if self.buffer.len() > ANSWER_MAX {
                return Err(malformed("an answer is too long"));
            }
            let Some((status, head, body)) = parse(&self.buffer)? else { continue };
            match self.buffer.len().cmp(&head.saturating_add(body)) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Ok((status, &self.buffer[head..])),
                std::cmp::Ordering::Greater => {
                    return Err(malformed("more than one answer came for one request"));
                }
            }
        }
    }
}

/// An answer's status, and how many bytes its head and its body have; `None` until the head is there whole.
fn parse(bytes: &[u8]) -> io::Result<Option<(u16, usize, usize)>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = str::from_utf8(&bytes[..end]).map_err(|_| malformed("a head is not text"))?;
    let status = head.get(9..12).and_then(|status| status.parse().ok());
    let body = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    match (status, body) {
        (Some(status), Some(body)) => Ok(Some((status, end + 4, body))),
        _ => Err(malformed("a head has no status or no Content-Length")),
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\nabc";
        assert_eq!(parse(answer).unwrap(), Some((400, 47, 3)));
        assert_eq!(parse(&answer[..40]).unwrap(), None);
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(parse(b"nonsense\r\n\r\n").is_err());
    }
}
