//! Owns the choice of free loopback ports.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{LazyLock, Mutex, PoisonError};

use rand::RngExt;

/// Ports to choose from: below the range the kernel takes for outgoing connections, which would otherwise grab a
/// chosen port before its owner has started.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// Ports tried before giving up.
const TRIES: usize = 1_000;

/// Ports this process has given out; none is given twice.
static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// Returns a port of 127.0.0.1 that was free a moment ago and that this process has not given out before.
///
/// The port is bound and released; use it only where a port must be known before its owner starts.
pub fn free_port() -> io::Result<u16> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..TRIES {
        #[expect(clippy::disallowed_methods, reason = "where a server listens need not be replayable")]
        let port = rand::rng().random_range(PORTS);
        if !given.contains(&port) && is_free(port) {
            given.insert(port);
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no free loopback port was found"))
}

/// Tells whether `port` of 127.0.0.1 can be bound now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The address 127.0.0.1:`port`.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
