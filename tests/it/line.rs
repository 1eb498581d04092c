//! One connection, byte by byte, and whether it stays open.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

use crate::fixture::PATIENCE;

/// A connection that stays open.
pub struct Line<S = TcpStream>(BufReader<S>)
where
    S: Read + Write;

/// The same with TLS.
pub type TlsLine = Line<StreamOwned<ClientConnection, TcpStream>>;

impl Line {
    /// One from `source` to `server`, over which nothing has come.
    pub fn open(source: &str, server: &str) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(source.parse().unwrap(), 0).into()).unwrap();
        socket.connect(&server.parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(socket.into()))
    }
}

impl TlsLine {
    /// One to `localhost`, which is at `server`; the handshake comes with the first request.
    pub fn open_tls(server: &str) -> Self {
        let config = Arc::new(testkit::tls::client());
        let tls = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
        let socket = Line::open("127.0.0.1", server).0.into_inner();
        Self(BufReader::new(StreamOwned::new(tls, socket)))
    }

    /// The certificate it began with.
    pub fn certificate(&self) -> Vec<u8> {
        self.0.get_ref().conn.peer_certificates().unwrap()[0].to_vec()
    }
}

impl<S: Read + Write> Line<S> {
    /// Asks whether the server lives: the status, and whether the connection stays open. `None`: it is closed.
    pub fn ask(&mut self) -> Option<(u16, bool)> {
        self.send("GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
    }

    /// The same after any request.
    pub fn send(&mut self, request: &str) -> Option<(u16, bool)> {
        self.0.get_mut().write_all(request.as_bytes()).ok()?;
        let (mut status, mut length, mut stays) = (String::new(), 0, true);
        self.0.read_line(&mut status).ok().filter(|read| *read > 0)?;
        loop {
            let mut header = String::new();
            self.0.read_line(&mut header).ok()?;
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            length = header.strip_prefix("content-length: ").map_or(length, |value| value.parse().unwrap());
            stays &= header != "connection: close";
        }
        self.0.read_exact(&mut vec![0; length]).ok()?;
        Some((status.split(' ').nth(1)?.parse().ok()?, stays))
    }

    /// Waits until the other end closes it, with nothing more to say: whether it did so in time.
    pub fn ends(&mut self) -> bool {
        match self.0.read(&mut [0]) {
            Ok(read) => read == 0,
            // Without the farewell of TLS.
            Err(error) => error.kind() == std::io::ErrorKind::UnexpectedEof,
        }
    }
}
