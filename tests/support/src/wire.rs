//! HTTP/1.1 for load: requests written beforehand, answers read no further than needed, so that the machine's time
//! goes to the server and not to its clients.
//!
//! Owns one connection at a time. It promises that an answer is read whole before the next request is sent, and refuses
//! what the proxy's device endpoints never send: a chunked body, an answer of over [`ANSWER_MAX`] bytes.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Longest answer that is understood, in bytes.
pub const ANSWER_MAX: usize = 16 * 1_024;

/// A poll (RFC 8628 section 3.4) of `device_code`, as bytes.
pub fn poll(client_id: &str, device_code: &str) -> Vec<u8> {
    let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code";
    post("/device/token", &format!("grant_type={grant}&client_id={client_id}&device_code={device_code}"))
}

/// A device authorization request (RFC 8628 section 3.1), as bytes.
pub fn ask_for_code(client_id: &str) -> Vec<u8> {
    post("/device/code", &format!("client_id={client_id}"))
}

/// A form sent to `path`, as bytes. Everything is sent as it is given.
pub fn post(path: &str, form: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{form}",
        form.len()
    )
    .into_bytes()
}

/// One connection, kept alive.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects to `address`, an IP address with a port.
    pub async fn open(address: &str) -> io::Result<Self> {
        Self::new(TcpStream::connect(address).await?)
    }

    /// Connects to `address` from `source`, an IPv4 address of this machine. Each source has ports of its own, so that
    /// more connections are to be had from several.
    pub async fn open_from(source: IpAddr, address: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(source, 0))?;
        Self::new(socket.connect(address).await?)
    }

    /// Takes over a connected stream.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(512) })
    }

    /// Sends one whole request and returns its answer's status and body.
    pub async fn ask(&mut self, request: &[u8]) -> io::Result<(u16, &[u8])> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let head = loop {
            self.read("the connection ended within an answer's head").await?;
            if let Some(head) = Head::parse(&self.buffer)? {
                break head;
            }
        };
        let end = head.length + head.body;
        if end > ANSWER_MAX {
            return Err(malformed("an answer is too long"));
        }
        while self.buffer.len() < end {
            self.read("the connection ended within an answer's body").await?;
        }
        if self.buffer.len() > end {
            return Err(malformed("more than one answer came for one request"));
        }
        Ok((head.status, &self.buffer[head.length..end]))
    }

    async fn read(&mut self, ended: &str) -> io::Result<()> {
        if self.buffer.len() > ANSWER_MAX {
            return Err(malformed("an answer is too long"));
        }
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, ended.to_owned()));
        }
        Ok(())
    }
}

/// What is needed of an answer's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Bytes of the head, its last line included.
    length: usize,
    /// Bytes of the body.
    body: usize,
}

impl Head {
    /// `None` until the head is there whole.
    fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
        let length = end + 4;
        let text = std::str::from_utf8(&bytes[..length]).map_err(|_| malformed("a head is not text"))?;
        let status = text.get(9..12).and_then(|status| status.parse().ok());
        let body = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        match (status, body) {
            (Some(status), Some(body)) => Ok(Some(Self { status, length, body })),
            _ => Err(malformed("a head has no status or no Content-Length")),
        }
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\nabc";
        assert_eq!(Head::parse(answer).unwrap(), Some(Head { status: 400, length: 47, body: 3 }));
        assert_eq!(Head::parse(&answer[..40]).unwrap(), None);
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(Head::parse(b"nonsense\r\n\r\n").is_err());
    }
}
