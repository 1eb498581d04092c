//! Where a grant's refreshes come from, and whether it is held in two places: then they come now from here, now from there.
//!
//! A household's address may change as often as it likes, behind CGNAT with each connection, and so may its IPv6 prefix:
//! what is compared is the provider's network ([`Network::provider`]), of IPv4 and of IPv6 each for itself, as a box may
//! use both. Nor is another provider a sign: only coming back to the one before within a day, and that again.

use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::base::network::Network;
use crate::base::store::{millis, timestamp};

/// Longest time between refreshes from two places that counts. Boxes refresh once a day, at a time that drifts.
const WINDOW: Duration = Duration::from_secs(26 * 3_600);
/// Returns from which on a grant is in two places.
const RETURNS: u8 = 2;
/// How long it counts as being there.
const REMEMBERED: Duration = Duration::from_secs(30 * 86_400);
/// Bytes of one trace: two networks, a time, a count.
const TRACE: usize = 25;

/// Where a grant was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    last: Option<Network>,
    /// By IPv4, and by IPv6.
    traces: [Trace; 2],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Trace {
    /// The last provider's network, and the one before.
    places: [Option<Network>; 2],
    /// When the last was come to.
    since: Timestamp,
    /// How often in a row the one before was come back to.
    returns: u8,
}

impl Places {
    /// A refresh came from `network`. Whether that is the first sign of two places.
    pub fn used_from(&mut self, network: Network, now: Timestamp) -> bool {
        let (was_double, place) = (self.is_double(now), Some(network.provider()));
        self.last = Some(network.widest());
        let trace = &mut self.traces[usize::from(!network.is_v4())];
        let [here, before] = trace.places;
        if here != place {
            let has_returned = before == place && now.since(trace.since) < WINDOW;
            let returns = if has_returned { trace.returns.saturating_add(1) } else { 0 };
            *trace = Trace { places: [place, here], since: now, returns };
        }
        self.is_double(now) && !was_double
    }

    /// Whether the grant is held in two places, as far as can be told.
    pub fn is_double(&self, now: Timestamp) -> bool {
        self.traces.iter().any(|trace| trace.returns >= RETURNS && now.since(trace.since) < REMEMBERED)
    }

    /// The widest network of the last refresh.
    pub const fn last(&self) -> Option<Network> {
        self.last
    }

    /// The stored form; `None` if it was never used.
    pub fn to_bytes(self) -> Option<Vec<u8>> {
        let number = |network: Option<Network>| network.map_or(0, Network::number).to_be_bytes();
        let trace = |Trace { places: [here, before], since, returns }: Trace| {
            [&number(here)[..], &number(before), &millis(since).to_be_bytes(), &[returns]].concat()
        };
        let [v4, v6] = self.traces.map(trace);
        self.last.is_some().then(|| [&number(self.last)[..], &v4, &v6].concat())
    }

    /// From the stored form; what is not understood was not seen.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let number = |at: usize| Some(i64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let network = |at| number(at).filter(|number| *number != 0).map(Network::from_number);
        let trace = |at| {
            let (since, returns) = (timestamp(number(at + 16)?), *bytes.get(at + 24)?);
            Some(Trace { places: [network(at), network(at + 8)], since, returns })
        };
        let traces = [8, 8 + TRACE].map(|at| trace(at).unwrap_or_default());
        Self { last: network(0), traces }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refreshes from these addresses, so many hours apart; whether one of them shows two places.
    fn is_double(hours: u64, addresses: &[&str]) -> bool {
        let (mut places, mut now, mut found) = (Places::default(), Timestamp::from_millis(1 << 40), false);
        for address in addresses {
            now = now + Duration::from_secs(hours * 3_600);
            found |= places.used_from(Network::of(address.parse().unwrap()), now);
            let stored = places.to_bytes().unwrap();
            assert_eq!(Places::from_bytes(&stored), places);
            assert_eq!(places.is_double(now), found);
        }
        assert!(!places.is_double(now + REMEMBERED));
        found
    }

    #[test]
    fn two_boxes_are_told_from_a_household() {
        const HERE: &str = "198.51.100.7";
        const THERE: &str = "203.0.113.9";
        assert!(is_double(12, &[HERE, THERE, HERE, THERE]));
        assert!(is_double(5, &["2001:db8::1", "2001:db9::1", "2001:db8::1", "2001:db9::1"]));
        for household in [
            &[HERE, HERE, HERE][..],
            // Another provider; and a modem of the one before tried once more.
            &[HERE, THERE, THERE, THERE],
            &[HERE, THERE, HERE, HERE, HERE, THERE],
            // CGNAT, and a prefix that changes.
            &[HERE, "198.51.1.1", HERE, "198.51.1.1", HERE],
            &["2001:db8:1::", "2001:db8:2::", "2001:db8:1::", "2001:db8:2::"],
            // Now by IPv4, now by IPv6.
            &[HERE, "2001:db8::1", HERE, "2001:db8::1", HERE],
        ] {
            assert!(!is_double(12, household), "{household:?}");
        }
        assert!(!is_double(30, &[HERE, THERE, HERE, THERE]), "a box that is carried about");
        assert_eq!(Places::from_bytes(&[7; 3]), Places::default());
        assert_eq!(Places::default().to_bytes(), None);
    }
}
