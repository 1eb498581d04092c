//! Connections: how many there are, of how many, and of whom.
//!
//! There is room for so many ([`crate::descriptors`]); beyond, the kernel lets them wait. Most of it is for connections that
//! stay open between requests. When that is used up, a new one is closed after its first answer, so that whoever comes is
//! served while others do nothing with what they hold. One network has a share; what it opens beyond is refused.

use std::any::Any;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use actors::base::network::Network;
use dashmap::DashMap;
use ipnet::IpNet;
use socket2::SockRef;

use crate::metrics::ConnectionCounts;

/// Longest that a peer takes nothing of what is sent to it: then its connection ends. Its own buffers are full, or it is no
/// longer there.
pub const STALLED: Duration = Duration::from_secs(20);

/// All connections of devices and people.
#[derive(Debug)]
pub struct Connections {
    max: usize,
    kept_max: usize,
    of_a_network_max: usize,
    trusted: Vec<IpNet>,
    open: AtomicUsize,
    refused: AtomicU64,
    networks: DashMap<Network, usize>,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terms {
    /// It stays open between requests.
    Kept,
    /// It is closed after its first answer.
    Once,
    /// Nothing is done for it.
    Refused,
}

/// One connection, as long as it is open.
#[derive(Debug)]
pub struct Connection {
    /// What becomes of it.
    pub terms: Terms,
    network: Option<Network>,
    connections: Arc<Connections>,
}

impl Connections {
    /// None so far, of at most `max`. One network has `of_a_network_max`, 0 for half of all; proxies in `trusted` bring
    /// other people's requests and have all.
    pub fn new(max: usize, of_a_network_max: usize, trusted: Vec<IpNet>) -> Arc<Self> {
        Arc::new(Self {
            max,
            kept_max: max - max / 4,
            of_a_network_max: if of_a_network_max == 0 { max.div_ceil(2) } else { of_a_network_max },
            trusted,
            open: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            networks: DashMap::new(),
        })
    }

    /// How many may be open.
    pub fn max(&self) -> usize {
        self.max
    }

    /// How many there are, and were.
    pub fn counts(&self) -> ConnectionCounts {
        let (open, refused) = (self.open.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed));
        ConnectionCounts { open, max: self.max, refused }
    }

    /// Takes a connection that was just accepted, its handshake done; the server puts it beside each request that comes over it.
    pub fn accept(self: &Arc<Self>, io: &dyn Any, beside: &mut Extensions) {
        let tls = || Some(io.downcast_ref::<TlsStream<TcpStream>>()?.get_ref().0);
        let Some(stream) = io.downcast_ref::<TcpStream>().or_else(tls) else { return };
        // It may be gone already; then there is nobody to count.
        let Ok(peer) = stream.peer_addr() else { return };
        let ip = peer.ip().to_canonical();
        let is_proxy = self.trusted.iter().any(|net| net.contains(&ip));
        #[cfg(target_os = "linux")]
        if let Err(error) = SockRef::from(stream).set_tcp_user_timeout(Some(STALLED)) {
            tracing::debug!(%error, "a connection has no limit to how long its peer takes nothing");
        }
        let connection = self.enter((!is_proxy).then(|| Network::of(ip)));
        if connection.terms == Terms::Refused {
            // Who sent a request hears that; who did not is not waited for.
            let _ = SockRef::from(stream).shutdown(Shutdown::Read);
        }
        beside.insert(connection);
    }

    fn enter(self: &Arc<Self>, network: Option<Network>) -> Connection {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        let connection = |terms, network| Connection { terms, network, connections: Arc::clone(self) };
        if let Some(network) = network {
            let mut of_it = self.networks.entry(network).or_insert(0);
            if *of_it >= self.of_a_network_max {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return connection(Terms::Refused, None);
            }
            *of_it += 1;
        }
        connection(if open > self.kept_max { Terms::Once } else { Terms::Kept }, network)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(network) = self.network {
            let networks = &self.connections.networks;
            if let Some(mut of_it) = networks.get_mut(&network) {
                *of_it -= 1;
            }
            networks.remove_if(&network, |_, of_it| *of_it == 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_share_and_the_last_quarter_is_not_held() {
        let connections = Connections::new(8, 0, Vec::new());
        let network = |text: &str| Some(Network::of(text.parse().unwrap()));
        let open = |network, times| -> Vec<_> { (0..times).map(|_| connections.enter(network)).collect() };
        let terms = |held: &[Connection]| held.iter().map(|held| held.terms).collect::<Vec<_>>();
        let one = open(network("2001:db8::1"), 4);
        assert_eq!(terms(&one), [Terms::Kept; 4]);
        let same = open(network("2001:db8::2"), 1);
        assert_eq!(terms(&same), [Terms::Refused], "the same /64");
        drop(same);
        let others = open(network("192.0.2.1"), 2);
        assert_eq!(terms(&others), [Terms::Kept; 2]);
        let proxy = open(None, 6);
        assert_eq!(terms(&proxy), [Terms::Once; 6], "a proxy is not counted by its network");
        assert_eq!(connections.counts(), ConnectionCounts { open: 12, max: 8, refused: 1 });
        drop((one, others, proxy));
        assert_eq!((connections.counts().open, connections.networks.len()), (0, 0));
        assert_eq!(terms(&open(network("2001:db8::2"), 1)), [Terms::Kept]);
    }
}
