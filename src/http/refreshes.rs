//! Refreshes of Enedis' tokens (`FLOW=DEVICE`), each as one exchange whoever asks how often.
//!
//! ```text
//!   refresh ──▶ by client, secret, scope and token ──▶ none: an exchange begins ──▶ its answer ──▶ all who wait
//!                                                   └─▶ under way: its answer      └─▶ sealed, for the redelivery window
//!                                                   └─▶ done lately: its answer
//! ```
//!
//! A refresh token of Enedis' v1 page is good once: a box whose answer was lost asks again with the old one, and must not be
//! told that it is unknown, on which it erases its tokens. An exchange that nobody waits for any more is not sent; one
//! that was sent goes on, and its answer is kept. In memory only: a restart within the window loses it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actors::base::clock::Timestamp;
use actors::base::keyring::{Keyring, TokenHash};
use actors::base::sealed::{Purpose, Sealed};
use actors::enedis::port::RawAnswer;
use rand::Rng;
use tokio::sync::watch;

use super::error::ApiError;

/// Exchanges that are under way or remembered. Enedis' quota allows far fewer in a window.
const EXCHANGES_MAX: usize = 10_000;

/// How an exchange ended. What came is sealed.
#[derive(Clone, Debug)]
pub enum Ended {
    /// Enedis answered.
    Answered {
        /// HTTP status.
        status: u16,
        /// `Content-Type`, as sent.
        content_type: Option<String>,
        /// Body.
        body: Sealed,
    },
    /// It did not, or was not asked.
    Not(ApiError),
}

/// Whoever waits for an exchange.
pub type Waiter = watch::Receiver<Option<Ended>>;

/// The exchange itself, held by whoever carries it out.
#[derive(Clone)]
pub struct Exchange {
    ended: Arc<watch::Sender<Option<Ended>>>,
    key: TokenHash,
}

/// All exchanges.
pub struct Refreshes {
    window: Duration,
    exchanges: Mutex<HashMap<TokenHash, Kept>>,
}

struct Kept {
    ended: Arc<watch::Sender<Option<Ended>>>,
    /// When it is forgotten; `None` while it is under way.
    until: Option<Timestamp>,
}

impl Refreshes {
    /// Answers are repeated for `window`.
    pub fn new(window: Duration) -> Self {
        Self { window, exchanges: Mutex::default() }
    }

    /// Joins the exchange of a key; the exchange itself for whoever has to carry it out, because there is none yet.
    pub fn join(&self, key: TokenHash, now: Timestamp) -> Result<(Waiter, Option<Exchange>), ApiError> {
        let mut exchanges = self.exchanges();
        exchanges.retain(|_, kept| kept.until.is_none_or(|until| now < until));
        if let Some(kept) = exchanges.get(&key) {
            return Ok((kept.ended.subscribe(), None));
        }
        if exchanges.len() >= EXCHANGES_MAX {
            return Err(ApiError::unavailable());
        }
        let (ended, waiter) = watch::channel(None);
        let ended = Arc::new(ended);
        exchanges.insert(key, Kept { ended: Arc::clone(&ended), until: None });
        Ok((waiter, Some(Exchange { ended, key })))
    }

    /// Ends an exchange for all who wait. Tokens are repeated to whoever asks within the window, anything else is not.
    pub fn end(&self, exchange: &Exchange, ended: Ended, now: Timestamp) {
        let is_kept = matches!(ended, Ended::Answered { status: 200, .. });
        let mut exchanges = self.exchanges();
        // While no other can join.
        exchange.ended.send_replace(Some(ended));
        match exchanges.get_mut(&exchange.key) {
            Some(kept) if is_kept => kept.until = Some(now + self.window),
            _ => drop(exchanges.remove(&exchange.key)),
        }
    }

    fn exchanges(&self) -> MutexGuard<'_, HashMap<TokenHash, Kept>> {
        self.exchanges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exchange {
    /// Whether anybody waits for it.
    pub fn is_wanted(&self) -> bool {
        self.ended.receiver_count() > 0
    }

    /// Seals an answer.
    pub fn seal(&self, keys: &Keyring, rng: &mut impl Rng, answer: RawAnswer) -> Ended {
        let RawAnswer { status, content_type, body } = answer;
        Ended::Answered { status, content_type, body: keys.seal(rng, Purpose::Delivered, &self.key, &body) }
    }
}

/// Waits for the end of an exchange; its body is opened.
pub async fn wait(mut waiter: Waiter, key: TokenHash, keys: &Keyring) -> Result<RawAnswer, ApiError> {
    let ended = waiter.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
    match ended {
        Some(Ended::Answered { status, content_type, body }) => {
            let body = keys.open(Purpose::Delivered, &key, &body).ok_or_else(ApiError::unavailable)?;
            Ok(RawAnswer { status, content_type, body })
        }
        Some(Ended::Not(error)) => Err(error),
        None => Err(ApiError::unavailable()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000);
    const WINDOW: Duration = Duration::from_secs(60);

    fn answer(status: u16) -> Ended {
        Ended::Answered { status, content_type: None, body: Sealed::from_bytes(vec![1]) }
    }

    fn key(n: u8) -> TokenHash {
        TokenHash::from([n; 16])
    }

    #[test]
    fn equal_ones_are_one_and_tokens_are_repeated_for_a_while() {
        let refreshes = Refreshes::new(WINDOW);
        let join = |n, at| refreshes.join(key(n), at).expect("room");
        for (status, is_repeated) in [(200, true), (400, false), (500, false)] {
            let n = u8::try_from(status / 100).expect("a digit");
            let (first, exchange) = join(n, NOW);
            let exchange = exchange.expect("the first");
            let (second, none) = join(n, NOW + WINDOW * 2);
            assert!(none.is_none(), "under way for as long as it takes");
            assert!(join(n + 10, NOW).1.is_some(), "another's");
            drop((first, second));
            assert!(!exchange.is_wanted());
            let (third, _) = join(n, NOW);
            assert!(exchange.is_wanted(), "whoever comes back joins");
            refreshes.end(&exchange, answer(status), NOW);
            assert!(third.borrow().is_some());
            let (again, exchange) = join(n, NOW + WINDOW.saturating_sub(Duration::from_millis(1)));
            assert_eq!(
                (again.borrow().is_some(), exchange.is_none()),
                (is_repeated, is_repeated),
                "{status}"
            );
        }
        assert!(join(2, NOW + WINDOW).1.is_some(), "over");
    }

    #[test]
    fn they_are_bounded() {
        let refreshes = Refreshes::new(WINDOW);
        let hash = |n: u64| TokenHash::from(u128::from(n).to_be_bytes());
        let held: Vec<_> = (0..EXCHANGES_MAX as u64).map(|n| refreshes.join(hash(n), NOW)).collect();
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(refreshes.join(hash(1 << 40), NOW).err(), Some(ApiError::unavailable()));
        assert!(refreshes.join(hash(5), NOW).is_ok(), "whoever joins takes no room");
    }
}
