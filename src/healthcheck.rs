//! `healthcheck`: asks a running server whether it takes work.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use awc::Client;

/// Why the server does not count as healthy.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    /// No answer.
    #[error("the server at {address} does not answer: {reason}")]
    Silent {
        /// Where it was asked.
        address: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// An answer other than 200.
    #[error("the server at {address} answers {status}")]
    NotReady {
        /// Where it was asked.
        address: SocketAddr,
        /// What it said.
        status: u16,
    },
}

/// Asks the server that listens on `listen`, on this machine. Needs an actix system.
pub async fn ask(listen: SocketAddr) -> Result<(), Unhealthy> {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let address = SocketAddr::new(ip, listen.port());
    let client = Client::builder().timeout(Duration::from_secs(5)).finish();
    match client.get(format!("http://{address}/health/ready")).send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(Unhealthy::NotReady { address, status: answer.status().as_u16() }),
        Err(error) => Err(Unhealthy::Silent { address, reason: error.to_string() }),
    }
}
