//! Who is at the other end: the client's address behind trusted proxies.

use std::net::IpAddr;

use actix_web::HttpRequest;
use ipnet::IpNet;

/// The client's address: the peer, or the nearest hop in `X-Forwarded-For` that is no trusted proxy.
pub fn client_address(request: &HttpRequest, trusted: &[IpNet]) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip().to_canonical();
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));
    if !is_trusted(&peer) {
        return Some(peer);
    }
    let mut nearest = peer;
    let hops = request.headers().get_all("x-forwarded-for").filter_map(|value| value.to_str().ok());
    let hops: Vec<_> = hops.flat_map(|value| value.split(',')).collect();
    for hop in hops.into_iter().rev() {
        let Some(ip) = parse_hop(hop.trim()) else { break };
        nearest = ip.to_canonical();
        if !is_trusted(&nearest) {
            break;
        }
    }
    Some(nearest)
}

/// The peer, if it hands on other people's requests and is no trusted proxy.
pub fn unknown_proxy(request: &HttpRequest, trusted: &[IpNet]) -> Option<IpAddr> {
    request.headers().get("x-forwarded-for")?;
    let peer = request.peer_addr()?.ip().to_canonical();
    (!trusted.iter().any(|net| net.contains(&peer))).then_some(peer)
}

/// Whether whoever connected is a trusted proxy.
pub fn trusted_peer(request: &HttpRequest, trusted: &[IpNet]) -> bool {
    let peer = request.peer_addr().map(|peer| peer.ip().to_canonical());
    peer.is_some_and(|peer| trusted.iter().any(|net| net.contains(&peer)))
}

fn parse_hop(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_start_matches('[');
    bare.parse().ok().or_else(|| {
        let (host, _port) = bare.rsplit_once(':')?;
        host.trim_end_matches(']').parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn address(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut request = TestRequest::get().peer_addr(peer.parse().unwrap());
        for value in forwarded {
            request = request.append_header(("x-forwarded-for", *value));
        }
        let trusted: Vec<_> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        client_address(&request.to_http_request(), &trusted).unwrap().to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let proxies = ["10.0.0.0/8"];
        assert_eq!(address("192.0.2.1:1", &["198.51.100.7"], &proxies), "192.0.2.1");
        assert_eq!(address("10.0.0.1:1", &["198.51.100.7"], &proxies), "198.51.100.7");
        // What the client wrote itself stands left of what our proxies added.
        assert_eq!(address("10.0.0.1:1", &["1.1.1.1, 198.51.100.7, 10.9.9.9"], &proxies), "198.51.100.7");
        assert_eq!(address("10.0.0.1:1", &["1.1.1.1", "198.51.100.7"], &proxies), "198.51.100.7");
        assert_eq!(address("10.0.0.1:1", &["garbage"], &proxies), "10.0.0.1");
        assert_eq!(address("10.0.0.1:1", &["[2001:db8::1]:99"], &proxies), "2001:db8::1");
        assert_eq!(address("[::ffff:10.0.0.1]:1", &["198.51.100.7:80"], &proxies), "198.51.100.7");
    }
}
