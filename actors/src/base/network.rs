//! Where a stranger comes from, as limits count it: an IPv4 address, or the IPv6 network of 64 bits that one household has.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU64;

/// An IPv4 address or an IPv6 /64, in 64 bits: an IPv4 address has 32 zeros in front, as no IPv6 network in use does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network(NonZeroU64);

impl Network {
    /// This machine. Not zero, as the compiler finds.
    pub const LOCALHOST: Self = Self(NonZeroU64::new(Ipv4Addr::LOCALHOST.to_bits() as u64).unwrap());

    /// The network of an address. One that is IPv4 inside IPv6 counts as IPv4; what is no network of anybody, as `::1` and
    /// 0.0.0.0, counts as this machine.
    pub const fn of(address: IpAddr) -> Self {
        Self::from_bits(match address.to_canonical() {
            IpAddr::V4(v4) => v4.to_bits() as u64,
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
        })
    }

    const fn from_bits(bits: u64) -> Self {
        match NonZeroU64::new(bits) {
            Some(bits) => Self(bits),
            None => Self::LOCALHOST,
        }
    }

    /// The stored form.
    pub const fn number(self) -> i64 {
        self.0.get().cast_signed()
    }

    /// From the stored form.
    pub const fn from_number(number: i64) -> Self {
        Self::from_bits(number.cast_unsigned())
    }

    /// Whether it is an IPv4 address.
    pub const fn is_v4(self) -> bool {
        self.0.get() >> 32 == 0
    }

    /// The /56 and the /48 around an IPv6 network: what providers hand to a site. `None` of an IPv4 address.
    pub fn wider(self) -> Option<[Self; 2]> {
        (!self.is_v4()).then_some([!0xff, !0xffff].map(|mask| Self::from_bits(self.0.get() & mask)))
    }

    /// The widest network that one holder is sure to have: the /48, or the IPv4 address.
    #[must_use]
    pub fn widest(self) -> Self {
        self.wider().map_or(self, |[_, widest]| widest)
    }

    /// What a provider has around it, or nearly: the IPv6 /32, the IPv4 /16.
    #[must_use]
    pub const fn provider(self) -> Self {
        let host = if self.is_v4() { 0xffff } else { 0xffff_ffff };
        Self::from_bits(self.0.get() & !host)
    }

    /// As a person who has nothing to do with it may see it: without the last number of an IPv4 address, and the first
    /// 48 bits of IPv6.
    pub fn shown(self) -> String {
        if self.is_v4() {
            let [a, b, c, _] = self.v4().octets();
            format!("{a}.{b}.{c}.…")
        } else {
            format!("{}/48", Ipv6Addr::from_bits(u128::from(self.widest().0.get()) << 64))
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the upper half is zero")]
    const fn v4(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.0.get() as u32)
    }
}

/// Whole, for the operator's logs.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_v4() {
            self.v4().fmt(f)
        } else {
            write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(self.0.get()) << 64))
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_addresses() {
        let of = |text: &str| Network::of(text.parse().unwrap());
        for (address, whole, shown, widest) in [
            ("203.0.113.7", "203.0.113.7", "203.0.113.…", "203.0.113.7"),
            ("::ffff:203.0.113.7", "203.0.113.7", "203.0.113.…", "203.0.113.7"),
            ("::1", "127.0.0.1", "127.0.0.…", "127.0.0.1"),
            ("2001:db8:1:23ff::9", "2001:db8:1:23ff::/64", "2001:db8:1::/48", "2001:db8:1::/64"),
        ] {
            let network = of(address);
            assert_eq!((network.to_string().as_str(), network.shown().as_str()), (whole, shown));
            assert_eq!(network.widest().to_string(), widest);
            assert_eq!(Network::from_number(network.number()), network);
        }
        assert_eq!(of("2001:db8::1"), of("2001:db8::2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("2001:db8:0:1::").wider(), of("2001:db8:0:ff::").wider());
        assert_eq!(of("10.0.0.1").wider(), None);
        assert_eq!(of("198.51.7.1").provider(), of("198.51.0.0"));
        assert_eq!(of("2001:db8:1::").provider(), of("2001:db8:2::").provider());
        assert_ne!(of("2001:db8::").provider(), of("2001:db9::").provider());
    }
}
