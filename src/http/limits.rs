//! How much one stranger may cause: token buckets for each address, browser or token.
//!
//! Polls are never counted here: a fleet behind one address polls as its sessions allow. What is counted is what
//! makes state (device codes) and what guesses (user codes, authorisations, refresh tokens). A guess is charged
//! beforehand, so that many at once are no way around the limit, and given back if it was right.

use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use actors::base::clock::Timestamp;
use actors::base::keyring::{BrowserHash, TokenHash};
use actors::limits::token_bucket::{Rate, TokenBucket};
use dashmap::DashMap;

/// Keys a limiter remembers at a time. Beyond it, those that have recovered are forgotten, then those that have used less
/// than half; only then are new ones refused.
const KEYS_MAX: usize = 100_000;

/// Every limit.
pub struct Limits {
    /// Device codes of one address; `None`: any number.
    pub codes: Option<Limiter<IpAddr>>,
    /// Wrong user codes one browser may try: twenty at once, ten a minute in the long run. A person who mistypes never
    /// meets it.
    wrong_codes_of_a_browser: Limiter<BrowserHash>,
    /// Wrong user codes one address may try, all its browsers together. Wider, because a whole town may share one; in
    /// the long run such an address finds one of 1000 live codes in about 600 days.
    wrong_codes: Limiter<IpAddr>,
    /// Authorisations of one address that lead nowhere: each costs some calls to Enedis of the quota that all share. One
    /// that Enedis does not list yet is asked for again three times a minute.
    authorisations: Limiter<IpAddr>,
    /// Refreshes of one address that are refused: by Enedis, where each costs a call of the quota that all share, or by
    /// us, where each is a guess at a token.
    pub refused_refreshes: Limiter<IpAddr>,
    /// Refreshes of one refresh token that are done: a box needs one or two a day, and four where answers are lost.
    pub refreshes_of_a_token: Limiter<TokenHash>,
}

impl Limits {
    /// All buckets full; 0 `codes_per_minute` is no limit.
    pub fn new(codes_per_minute: u32) -> Self {
        let a_minute = |burst, refill| Rate { burst, refill, per: Duration::from_secs(60) };
        let of_a_token = Rate { burst: 20, refill: 20, per: Duration::from_secs(3_600) };
        Self {
            codes: (codes_per_minute > 0).then(|| Limiter::new(a_minute(codes_per_minute, codes_per_minute))),
            wrong_codes_of_a_browser: Limiter::new(a_minute(20, 10)),
            wrong_codes: Limiter::new(a_minute(100, 30)),
            authorisations: Limiter::new(a_minute(15, 2)),
            refused_refreshes: Limiter::new(a_minute(100, 20)),
            refreshes_of_a_token: Limiter::new(of_a_token),
        }
    }

    /// Charges a guess at a user code, or says how long none is looked at.
    pub fn guess_code(
        &self,
        address: IpAddr,
        browser: Option<BrowserHash>,
        now: Timestamp,
    ) -> Result<Guess<'_>, Duration> {
        let address = self.wrong_codes.take(address, now)?;
        match browser.map(|browser| self.wrong_codes_of_a_browser.take(browser, now)).transpose() {
            Ok(browser) => Ok(Guess { address, browser, authorisation: None }),
            Err(wait) => {
                address.give_back();
                Err(wait)
            }
        }
    }

    /// Charges a guess at an authorisation, which costs Enedis' quota as well, or says how long none is looked at.
    pub fn guess_authorisation(
        &self,
        address: IpAddr,
        browser: Option<BrowserHash>,
        now: Timestamp,
    ) -> Result<Guess<'_>, Duration> {
        let guess = self.guess_code(address, browser, now)?;
        match self.authorisations.take(address, now) {
            Ok(authorisation) => Ok(Guess { authorisation: Some(authorisation), ..guess }),
            Err(wait) => {
                guess.give_back();
                Err(wait)
            }
        }
    }
}

/// A guess at something that is not meant to be guessed, charged to the address and to the browser.
pub struct Guess<'l> {
    address: Taken<'l, IpAddr>,
    browser: Option<Taken<'l, BrowserHash>>,
    authorisation: Option<Taken<'l, IpAddr>>,
}

impl Guess<'_> {
    /// It was right, or not looked at.
    pub fn give_back(self) {
        self.address.give_back();
        if let Some(browser) = self.browser {
            browser.give_back();
        }
        if let Some(authorisation) = self.authorisation {
            authorisation.give_back();
        }
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
    pub fn take(&self, key: K, now: Timestamp) -> Result<Taken<'_, K>, Duration> {
        if self.buckets.len() >= KEYS_MAX && !self.buckets.contains_key(&key) {
            self.make_room(now)?;
        }
        let mut bucket = self.buckets.entry(key).or_insert_with(|| TokenBucket::full(self.rate, now));
        bucket.take(self.rate, now).map(|()| Taken { limiter: self, key })
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
}

/// A token that was taken. It stays taken if this is dropped: hanging up early must not be a way around a limit.
pub struct Taken<'l, K: Eq + Hash> {
    limiter: &'l Limiter<K>,
    key: K,
}

impl<K: Eq + Hash> Taken<'_, K> {
    /// What it was taken for turned out to be harmless.
    pub fn give_back(self) {
        if let Some(mut bucket) = self.limiter.buckets.get_mut(&self.key) {
            bucket.give_back(self.limiter.rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::peer::network;

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
        let taken = take("2001:db8::1").ok().unwrap();
        assert!(take("2001:db8::2").is_ok());
        assert!(take("2001:db8::3").is_err());
        assert!(take("2001:db8:0:1::1").is_ok());
        taken.give_back();
        assert!(take("2001:db8::3").is_ok());
        assert!(take("2001:db8::3").is_err());
    }
}
