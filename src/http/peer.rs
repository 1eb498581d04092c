//! Who is at the other end, and how much of it: the client's address behind trusted proxies, and token buckets
//! for each address.
//!
//! Polls are never counted here: a fleet behind one address polls as its sessions allow. What is counted is what
//! makes state (device codes) and what guesses (wrong user codes).

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use actix_web::HttpRequest;
use actors::base::clock::Timestamp;
use actors::limits::token_bucket::{Rate, TokenBucket};
use dashmap::DashMap;
use ipnet::IpNet;

/// Keys a limiter remembers at a time. Beyond it, those that have recovered are forgotten, then those that have used less
/// than half; only then are new ones refused.
const KEYS_MAX: usize = 100_000;
/// Wrong user codes one browser may try: twenty at once, ten a minute in the long run. A person who mistypes never
/// meets it.
pub const WRONG_CODES_OF_A_BROWSER: Rate = Rate { burst: 20, refill: 10, per: Duration::from_secs(60) };
/// Wrong user codes one address may try, all its browsers together. Wider, because a whole town may share one; in the
/// long run such an address finds one of 1000 live codes in about 600 days.
pub const WRONG_CODES: Rate = Rate { burst: 100, refill: 30, per: Duration::from_secs(60) };
/// Refreshes of one address that are refused: by Enedis, where each costs a call of the quota that all share, or by us,
/// where each is a guess at a token.
pub const REFUSED_REFRESHES: Rate = Rate { burst: 100, refill: 20, per: Duration::from_secs(60) };
/// Authorisations of one address that lead nowhere: each costs some calls to Enedis of the quota that all share. One that
/// Enedis does not list yet is asked for again three times a minute.
pub const AUTHORISATIONS: Rate = Rate { burst: 15, refill: 2, per: Duration::from_secs(60) };
/// Refreshes of one refresh token that are done: a box needs one or two a day, and four where answers are lost.
pub const REFRESHES_OF_A_TOKEN: Rate = Rate { burst: 20, refill: 20, per: Duration::from_secs(3_600) };

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

fn parse_hop(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_start_matches('[');
    bare.parse().ok().or_else(|| {
        let (host, _port) = bare.rsplit_once(':')?;
        host.trim_end_matches(']').parse().ok()
    })
}

/// One bucket for each key.
pub struct Limiter<K> {
    rate: Rate,
    buckets: DashMap<K, TokenBucket>,
}

impl<K: Eq + Hash> Limiter<K> {
    /// Buckets of the given rate, all full.
    pub fn new(rate: Rate) -> Self {
        Self { rate, buckets: DashMap::new() }
    }

    /// Takes a token from the bucket of `key`, or says how long it has to wait.
    pub fn take(&self, key: K, now: Timestamp) -> Result<(), Duration> {
        if self.buckets.len() >= KEYS_MAX && !self.buckets.contains_key(&key) {
            self.make_room(now)?;
        }
        let mut bucket = self.buckets.entry(key).or_insert_with(|| TokenBucket::full(self.rate, now));
        bucket.take(self.rate, now)
    }

    /// Whether a token could be taken from the bucket of `key`; if not, how long it has to wait. Remembers nothing.
    pub fn has_room(&self, key: &K, now: Timestamp) -> Result<(), Duration> {
        self.buckets.get(key).map_or(Ok(()), |bucket| {
            let mut bucket = *bucket;
            bucket.take(self.rate, now)
        })
    }

    /// Forgets keys that have recovered; if those are too few, any that have used little: a crowd of strangers, each
    /// with one try, must not keep everybody else out.
    fn make_room(&self, now: Timestamp) -> Result<(), Duration> {
        let crowded = || self.buckets.len() >= KEYS_MAX;
        self.buckets.retain(|_, bucket| !bucket.is_full(self.rate, now));
        if crowded() {
            self.buckets.retain(|_, bucket| !bucket.is_half_full(self.rate, now));
        }
        if crowded() { Err(self.rate.per) } else { Ok(()) }
    }

    /// Gives a token back: what it was taken for turned out to be harmless.
    pub fn give_back(&self, key: &K) {
        if let Some(mut bucket) = self.buckets.get_mut(key) {
            bucket.give_back(self.rate);
        }
    }
}

/// What counts as one address: an IPv6 network of 64 bits is one household's.
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
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

    #[test]
    fn a_crowd_does_not_keep_others_out() {
        let limiter = Limiter::new(Rate { burst: 20, refill: 1, per: Duration::from_secs(60) });
        let now = Timestamp::from_millis(1_000);
        let address = |number: usize| IpAddr::V4(u32::try_from(number).unwrap().into());
        for _ in 0..20 {
            assert!(limiter.take(address(0), now).is_ok());
        }
        for number in 1..KEYS_MAX + 1_000 {
            assert!(limiter.take(address(number), now).is_ok(), "{number}");
        }
        assert!(limiter.buckets.len() <= KEYS_MAX);
        assert!(limiter.has_room(&address(0), now).is_err(), "who has tried too much is not forgotten");
        assert!(limiter.has_room(&address(KEYS_MAX + 5_000), now).is_ok());
    }

    #[test]
    fn one_bucket_for_each_network() {
        let limiter = Limiter::new(Rate { burst: 2, refill: 1, per: Duration::from_secs(60) });
        let now = Timestamp::from_millis(1_000);
        let take = |text: &str| limiter.take(network(text.parse().unwrap()), now);
        assert!(take("2001:db8::1").is_ok());
        assert!(take("2001:db8::2").is_ok());
        assert!(take("2001:db8::3").is_err());
        assert!(take("2001:db8:0:1::1").is_ok());
        limiter.give_back(&network("2001:db8::9".parse().unwrap()));
        assert!(take("2001:db8::3").is_ok());
        assert!(take("2001:db8::3").is_err());
    }
}
