//! How much one stranger may cause: token buckets for each network, browser or token, and for all of them together.
//!
//! Polls are never counted here: a fleet behind one address polls as its sessions allow. What is counted is what
//! makes state (device codes), what guesses (user codes, authorisations, tokens), and what spends Enedis' quota in vain. A
//! guess is charged beforehand, so that many at once are no way around the limit, and given back if it was right.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actors::base::clock::{Clock, Timestamp};
use actors::base::keyring::{BrowserHash, TokenHash};
use actors::base::network::Network;
use actors::limits::token_bucket::{Rate, TokenBucket};
use dashmap::DashMap;

/// Keys a limiter remembers at a time. Beyond it, those that have recovered are forgotten, then those that have used less
/// than half; only then are new ones refused.
const KEYS_MAX: usize = 100_000;
/// Calls to Enedis' services that one authorisation can cost.
const CALLS_OF_AN_AUTHORISATION: u32 = 3;
/// Wrong codes that a right one makes up for in [`Limits::is_guessed_at`].
const WRONG_FOR_A_RIGHT: u32 = 3;

/// Every limit.
pub struct Limits {
    /// Device codes of one network; `None`: any number.
    pub codes: Option<NetworkLimiter>,
    /// Wrong user codes one browser may try: twenty at once, ten a minute in the long run. A person who mistypes never
    /// meets it.
    wrong_codes_of_a_browser: Limiter<BrowserHash>,
    /// Wrong user codes of one network, all its browsers together. Wider, because a whole town may share one; in
    /// the long run such an address finds one of 1000 live codes in about 600 days.
    wrong_codes: NetworkLimiter,
    /// Wrong user codes of everybody. It shuts nobody out: see [`Limits::is_guessed_at`].
    wrong_codes_of_all: Limiter<()>,
    /// Returns of one network that lead nowhere. One that Enedis does not list yet is asked for again three times a
    /// minute.
    returns: NetworkLimiter,
    /// What Enedis refused to everybody. It is a part of the hour's quota.
    refused_to_all: Limiter<Part>,
    /// Refreshes of one network that Enedis refused.
    refused_refreshes: NetworkLimiter,
    /// Tokens and codes of one network that nobody knows: each is a look-up.
    pub unknown: NetworkLimiter,
    /// Passwords of one network at the operator's listener that are wrong.
    pub logins: NetworkLimiter,
    /// Refreshes of one refresh token that are done: a box needs one or two a day, and four where answers are lost.
    pub refreshes_of_a_token: Limiter<TokenHash>,
}

/// A part of what Enedis may refuse in an hour.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Part {
    /// Of consents, or of refreshes: neither can have the other refused.
    consent: bool,
    /// For networks to which nothing was refused lately, or for all: one stranger cannot have everybody else refused.
    clean: bool,
}

/// What presents something to Enedis that may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented {
    /// An authorisation, whose meter Enedis' services are asked for.
    Authorisation,
    /// An authorization code.
    Code,
    /// A refresh token.
    RefreshToken,
}

impl Limits {
    /// All buckets full; 0 `codes_per_minute` is no limit. `calls_per_hour` is Enedis' quota for each API; where refreshes
    /// are ours, they cost nothing of it.
    pub fn new(codes_per_minute: u32, calls_per_hour: u32, refreshes_are_ours: bool) -> Self {
        let rate = |burst, refill, secs| Rate { burst, refill, per: Duration::from_secs(secs) };
        let a_minute = |burst, refill| rate(burst, refill, 60);
        // Two parts of each kind, with as much at once as comes back in an hour: a quarter in any clock hour.
        let part = (calls_per_hour / if refreshes_are_ours { 16 } else { 32 }).max(1);
        Self {
            codes: (codes_per_minute > 0)
                .then(|| NetworkLimiter::new(a_minute(codes_per_minute, codes_per_minute))),
            wrong_codes_of_a_browser: Limiter::new(a_minute(20, 10)),
            wrong_codes: NetworkLimiter::new(a_minute(100, 30)),
            wrong_codes_of_all: Limiter::new(a_minute(1_000, 300)),
            returns: NetworkLimiter::new(a_minute(15, 2)),
            refused_to_all: Limiter::new(rate(part, part, 3_600)),
            refused_refreshes: NetworkLimiter::new(rate(20, 20, 3_600)),
            unknown: NetworkLimiter::new(a_minute(600, 600)),
            logins: NetworkLimiter::new(a_minute(10, 5)),
            refreshes_of_a_token: Limiter::new(rate(20, 20, 3_600)),
        }
    }

    /// Charges a guess at a user code, or says how long none is looked at.
    pub fn guess_code(
        &self,
        network: Network,
        browser: Option<BrowserHash>,
        now: Timestamp,
    ) -> Result<Charge<'_>, Duration> {
        let charge = self.wrong_codes.take(network, now)?;
        match browser {
            Some(browser) => charge.and(self.wrong_codes_of_a_browser.take(browser, now)),
            None => Ok(charge),
        }
    }

    /// A code was right.
    pub fn right_code(&self, charge: Charge<'_>) {
        charge.give_back();
        self.wrong_codes_of_all.credit((), WRONG_FOR_A_RIGHT);
    }

    /// A code was wrong; what was charged stays so.
    pub fn wrong_code(&self, now: Timestamp) {
        // Nobody is refused for it.
        let _ = self.wrong_codes_of_all.take((), now);
    }

    /// Whether so many wrong codes come from all over that a code is looked at only after a second step. Right codes make
    /// room for wrong ones: what is usual on a busy day is no attack.
    pub fn is_guessed_at(&self, now: Timestamp) -> bool {
        self.wrong_codes_of_all.has_room(&(), now).is_err()
    }

    /// Charges a browser's return, or says how long none is looked at. `presented` is what of it goes to Enedis.
    pub fn take_return(
        &self,
        presented: Option<Presented>,
        network: Network,
        browser: Option<BrowserHash>,
        now: Timestamp,
    ) -> Result<Charge<'_>, Duration> {
        let guess = self.guess_code(network, browser, now)?;
        guess.and(match presented {
            Some(what) => self.present(what, network, now),
            None => self.returns.take(network, now),
        })
    }

    /// Charges something that is presented to Enedis and may be refused, or says how long nothing is.
    pub fn present(&self, what: Presented, network: Network, now: Timestamp) -> Result<Charge<'_>, Duration> {
        let (own, calls) = match what {
            Presented::Authorisation => (&self.returns, CALLS_OF_AN_AUTHORISATION),
            Presented::Code => (&self.returns, 1),
            Presented::RefreshToken => (&self.refused_refreshes, 1),
        };
        let consent = what != Presented::RefreshToken;
        let clean = own.is_full(network, now);
        let mut charge = own.take(network, now)?;
        for _ in 0..calls {
            let take = |clean| self.refused_to_all.take(Part { consent, clean }, now);
            charge = charge.and(take(false).or_else(|wait| if clean { take(true) } else { Err(wait) }))?;
        }
        Ok(charge)
    }
}

/// What was charged beforehand. It stays charged if this is dropped: hanging up early must not be a way around a limit.
#[derive(Default)]
pub struct Charge<'l>(Vec<Box<dyn Taken + 'l>>);

impl<'l> Charge<'l> {
    /// Adds what else is charged; if that is refused, nothing is.
    fn and(mut self, taken: Result<Charge<'l>, Duration>) -> Result<Self, Duration> {
        match taken {
            Ok(Charge(more)) => {
                self.0.extend(more);
                Ok(self)
            }
            Err(wait) => {
                self.give_back();
                Err(wait)
            }
        }
    }

    /// What it was taken for turned out to be harmless.
    pub fn give_back(self) {
        for taken in self.0 {
            taken.give_back();
        }
    }
}

/// A token taken from a bucket.
trait Taken {
    fn give_back(self: Box<Self>);
}

/// Buckets for networks and for what is around them: who holds a /48 has 65 536 of /64.
pub struct NetworkLimiter {
    networks: Limiter<Network>,
    /// The /56 and the /48, with four and sixteen times as much.
    wider: [Limiter<Network>; 2],
    /// Until when some network may have no token left, in milliseconds.
    spent_until: AtomicU64,
}

impl NetworkLimiter {
    fn new(rate: Rate) -> Self {
        let times = |n| Limiter::new(Rate { burst: rate.burst * n, refill: rate.refill * n, ..rate });
        Self { networks: times(1), wider: [times(4), times(16)], spent_until: AtomicU64::new(0) }
    }

    /// Takes a token of the network and of those around it, or says how long they have to wait.
    pub fn take(&self, network: Network, now: Timestamp) -> Result<Charge<'_>, Duration> {
        let mut charge = self.networks.take(network, now)?;
        for (limiter, network) in self.wider.iter().zip(network.wider().into_iter().flatten()) {
            charge = charge.and(limiter.take(network, now))?;
        }
        Ok(charge)
    }

    /// Whether a token could be taken; if not, how long it has to wait. Remembers nothing.
    pub fn has_room(&self, network: Network, now: Timestamp) -> Result<(), Duration> {
        self.networks.has_room(&network, now)?;
        let mut wider = self.wider.iter().zip(network.wider().into_iter().flatten());
        wider.try_for_each(|(limiter, network)| limiter.has_room(&network, now))
    }

    /// Takes a token if there is one, and notes whether another is left.
    pub fn charge(&self, network: Network, now: Timestamp) {
        let _ = self.take(network, now);
        if let Err(wait) = self.has_room(network, now) {
            self.spent_until.fetch_max((now + wait).as_millis(), Ordering::Relaxed);
        }
    }

    /// Whether every network has a token left. Costs next to nothing.
    pub fn is_unspent(&self, clock: &dyn Clock) -> bool {
        let until = self.spent_until.load(Ordering::Relaxed);
        until == 0 || clock.now().as_millis() >= until
    }

    fn is_full(&self, network: Network, now: Timestamp) -> bool {
        self.networks.is_full(&network, now)
    }
}

/// One bucket for each key.
pub struct Limiter<K> {
    rate: Rate,
    buckets: DashMap<K, TokenBucket>,
}

impl<K: Copy + Eq + Hash> Limiter<K> {
    /// Buckets of the given rate, all full.
    fn new(rate: Rate) -> Self {
        Self { rate, buckets: DashMap::new() }
    }

    /// Takes a token from the bucket of `key`, or says how long it has to wait.
    pub fn take(&self, key: K, now: Timestamp) -> Result<Charge<'_>, Duration> {
        if self.buckets.len() >= KEYS_MAX && !self.buckets.contains_key(&key) {
            self.make_room(now)?;
        }
        let mut bucket = self.buckets.entry(key).or_insert_with(|| TokenBucket::full(self.rate, now));
        bucket.take(self.rate, now).map(|()| Charge(vec![Box::new(TakenFrom { limiter: self, key })]))
    }

    /// Whether a token could be taken from the bucket of `key`; if not, how long it has to wait. Remembers nothing.
    pub fn has_room(&self, key: &K, now: Timestamp) -> Result<(), Duration> {
        self.buckets.get(key).map_or(Ok(()), |bucket| {
            let mut bucket = *bucket;
            bucket.take(self.rate, now)
        })
    }

    /// Whether nothing was taken lately.
    fn is_full(&self, key: &K, now: Timestamp) -> bool {
        self.buckets.get(key).is_none_or(|bucket| {
            let mut bucket = *bucket;
            bucket.is_full(self.rate, now)
        })
    }

    /// Whether a token of this key was taken and is remembered.
    pub fn knows(&self, key: &K) -> bool {
        self.buckets.contains_key(key)
    }

    /// Remembers a key from which nothing was taken yet.
    pub fn note(&self, key: K, now: Timestamp) {
        if self.buckets.len() < KEYS_MAX || self.make_room(now).is_ok() {
            self.buckets.entry(key).or_insert_with(|| TokenBucket::full(self.rate, now));
        }
    }

    /// Forgets a key and what was taken from it.
    pub fn forget(&self, key: &K) {
        self.buckets.remove(key);
    }

    /// Puts tokens into the bucket of `key`, up to its bound.
    fn credit(&self, key: K, tokens: u32) {
        if let Some(mut bucket) = self.buckets.get_mut(&key) {
            for _ in 0..tokens {
                bucket.give_back(self.rate);
            }
        }
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
}

struct TakenFrom<'l, K: Eq + Hash> {
    limiter: &'l Limiter<K>,
    key: K,
}

impl<K: Copy + Eq + Hash> Taken for TakenFrom<'_, K> {
    fn give_back(self: Box<Self>) {
        self.limiter.credit(self.key, 1);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn network(text: &str) -> Network {
        Network::of(text.parse().unwrap())
    }

    #[test]
    fn a_crowd_does_not_keep_others_out() {
        let limiter = Limiter::new(Rate { burst: 20, refill: 1, per: MINUTE });
        let address =
            |number: usize| Network::of(IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap())));
        for _ in 0..20 {
            assert!(limiter.take(address(0), NOW).is_ok());
        }
        for number in 1..KEYS_MAX + 1_000 {
            assert!(limiter.take(address(number), NOW).is_ok(), "{number}");
        }
        assert!(limiter.buckets.len() <= KEYS_MAX);
        assert!(limiter.has_room(&address(0), NOW).is_err(), "who has tried too much is not forgotten");
        assert!(limiter.has_room(&address(KEYS_MAX + 5_000), NOW).is_ok());
    }

    #[test]
    fn one_bucket_for_each_network_and_for_those_around_it() {
        let limiter = NetworkLimiter::new(Rate { burst: 2, refill: 1, per: MINUTE });
        let take = |text: &str| limiter.take(network(text), NOW);
        let taken = take("2001:db8::1").ok().unwrap();
        assert!(take("2001:db8::2").is_ok());
        assert!(take("2001:db8::3").is_err());
        assert!(take("2001:db8:0:1::1").is_ok());
        taken.give_back();
        assert!(take("2001:db8::3").is_ok());
        assert!(take("2001:db8::3").is_err());
        // A /48 full of networks has sixteen times what one has.
        let tried = (1..256).filter(|n| take(&format!("2001:db8:0:{n:x}00::1")).is_ok()).count();
        assert_eq!(tried, 32 - 3);
        assert!(take("2001:db8:1::1").is_ok(), "another holder's");
        assert!(take("192.0.2.1").is_ok() && take("192.0.2.2").is_ok());
    }

    #[test]
    fn strangers_spend_a_quarter_of_the_hour_together() {
        let limits = Limits::new(0, 3_200, false);
        let refused = |network: Network, times: usize| {
            let present = |_: &usize| limits.present(Presented::RefreshToken, network, NOW).is_ok();
            (0..times).filter(present).count()
        };
        let one = |n: u32| Network::of(IpAddr::V4(Ipv4Addr::from_bits(n)));
        assert_eq!(refused(one(1), 500), 20, "one network's");
        let others: usize = (2..400).map(|n| refused(one(n), 1)).sum();
        assert_eq!(20 + others, 200);
        let consents = |what| (1_000..2_000).filter(|n| limits.present(what, one(*n), NOW).is_ok()).count();
        assert_eq!(consents(Presented::Authorisation), 66, "three calls each");
        // 400 calls at once, and as many come back in the hour: a quarter.
        assert_eq!(consents(Presented::Code), 2);
    }

    #[test]
    fn right_codes_make_room_for_wrong_ones() {
        let limits = Limits::new(0, 1_000, true);
        let right = || limits.right_code(Charge::default());
        assert!(!limits.is_guessed_at(NOW));
        for _ in 0..3_000 {
            limits.wrong_code(NOW);
            right();
        }
        assert!(!limits.is_guessed_at(NOW));
        for _ in 0..1_000 {
            limits.wrong_code(NOW);
        }
        assert!(limits.is_guessed_at(NOW));
        assert!(!limits.is_guessed_at(NOW + MINUTE));
    }
}
