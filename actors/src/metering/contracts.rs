//! Contracts of meters, kept a day: asked of Enedis through the exchanger, where their services have a quota and a breaker of
//! their own, as they fail alone for weeks.
//!
//! No actor: what is remembered lies in the store, and one question of a meter is under way at a time. Promises: nothing but
//! the permitted fields of [`Contract`] is kept or told; an error says nothing about the consent, whatever its words; a
//! contract that is known is told while Enedis cannot tell a newer one, for a month; what is kept goes with the consent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use super::cache::{CacheEntry, MeterCache, Subject, key_text, owner_text};
use super::relay::{COME_BACK, Consent, Relayed};
use super::resource_server::DataError;
use crate::base::clock::{SharedClock, Timestamp};
use crate::base::keyring::Keyring;
use crate::base::meter::Meter;
use crate::base::network::Network;
use crate::enedis::contract::Contract;
use crate::enedis::exchanger::{Acquired, Exchanged, NotDone, TokenExchangerHandle};
use crate::enedis::port::{Bearer, ContractCall, NoContract};

/// How long a contract is told without asking again: off-peak hours change now and then.
const FRESH: Duration = Duration::from_secs(86_400);
/// When a contract is asked for again that Enedis did not tell, or not whole.
const AGAIN: Duration = Duration::from_secs(3_600);
/// The same after trouble, which may be this meter's alone.
const TROUBLE: Duration = Duration::from_secs(300);
/// How long a contract is kept that cannot be asked for again.
const KEPT: Duration = Duration::from_secs(31 * 86_400);
/// Longest wait for the stored cache.
const CACHE_PATIENCE: Duration = Duration::from_secs(2);
/// Questions under way at a time: meters share their turns.
const TURNS: usize = 64;

/// Tells contracts.
pub struct Contracts {
    cache: Arc<dyn MeterCache>,
    exchanger: TokenExchangerHandle,
    keys: Arc<Keyring>,
    clock: SharedClock,
    rng: Mutex<StdRng>,
    turns: [tokio::sync::Mutex<()>; TURNS],
}

/// What is remembered of a meter's contract.
#[derive(Serialize, Deserialize)]
struct Kept {
    contract: Option<Contract>,
    /// Enedis does not tell it, in these words.
    not_told: Option<String>,
    /// When it is asked for again.
    due: Timestamp,
    /// Until when it is told in place of a newer one.
    until: Timestamp,
}

impl Contracts {
    /// A service on this cache.
    pub fn new(
        cache: Arc<dyn MeterCache>,
        exchanger: TokenExchangerHandle,
        keys: Arc<Keyring>,
        clock: SharedClock,
        seed: [u8; 32],
    ) -> Arc<Self> {
        let (rng, turns) =
            (Mutex::new(StdRng::from_seed(seed)), [const { tokio::sync::Mutex::const_new(()) }; TURNS]);
        Arc::new(Self { cache, exchanger, keys, clock, rng, turns })
    }

    /// The contract of `meter` in the form of v5, for a box at `from` with this consent of its owner.
    pub async fn read(&self, meter: Meter, consent: Consent, from: Network) -> Relayed {
        let known = self.look(meter, consent).await;
        if let Some(kept) = known.filter(|kept| self.clock.wall() < kept.due) {
            return self.tell(meter, &kept);
        }
        let turn = usize::try_from(meter.modulo(TURNS as u64)).unwrap_or_default();
        let _turn = self.turns[turn].lock().await;
        // Another may have asked meanwhile.
        let before = self.look(meter, consent).await;
        if let Some(kept) = before.as_ref().filter(|kept| self.clock.wall() < kept.due) {
            return self.tell(meter, kept);
        }
        let (asked, now) = (self.ask(meter, from).await, self.clock.wall());
        let before = before.filter(|kept| now < kept.until);
        let until = before.as_ref().map_or(now, |kept| kept.until);
        let before = before.and_then(|kept| kept.contract);
        let kept = match asked {
            Ok(Ok(contract)) => {
                let life = if contract.is_partial { AGAIN } else { FRESH };
                let contract =
                    if contract.is_partial { contract.or(before.unwrap_or_default()) } else { contract };
                Kept { contract: Some(contract), not_told: None, due: now + life, until: now + KEPT }
            }
            Ok(Err(words)) => Kept { contract: before, not_told: Some(words), due: now + AGAIN, until },
            Err(busy @ Relayed::Busy { .. }) if before.is_none() => return busy,
            Err(_) => Kept { contract: before, not_told: None, due: now + TROUBLE, until },
        };
        self.keep(meter, consent, &kept).await;
        self.tell(meter, &kept)
    }

    fn tell(&self, meter: Meter, kept: &Kept) -> Relayed {
        match kept {
            Kept { contract: Some(contract), .. } => Relayed::Answer(contract.body(meter)),
            Kept { not_told: Some(words), .. } => {
                Relayed::Error(DataError { description: words.clone(), ..DataError::no_data() })
            }
            Kept { due, .. } => {
                Relayed::Unavailable { retry_after: due.since(self.clock.wall()).max(Duration::from_secs(1)) }
            }
        }
    }

    /// The contract, or in which words Enedis does not tell it; else the trouble a box is told.
    async fn ask(&self, meter: Meter, from: Network) -> Result<Result<Contract, String>, Relayed> {
        let trouble = |why, retry_after| match why {
            NotDone::Busy => Relayed::Busy { retry_after },
            NotDone::Down | NotDone::NotAccepted => Relayed::Unavailable { retry_after },
        };
        let mut rejected: Option<Bearer> = None;
        loop {
            let is_second = rejected.is_some();
            let bearer = match self.exchanger.acquire(rejected.take()).await {
                Acquired::Bearer(bearer) => bearer,
                Acquired::NotDone { why, retry_after } => return Err(trouble(why, retry_after)),
            };
            let call = ContractCall { meter, bearer: bearer.clone() };
            match self.exchanger.contract(from, call).await {
                Exchanged::Answered(Ok(contract)) => return Ok(Ok(contract)),
                Exchanged::Answered(Err(NoContract::NotTold(words))) => return Ok(Err(words)),
                Exchanged::Answered(Err(NoContract::TokenRejected)) if !is_second => rejected = Some(bearer),
                Exchanged::Answered(Err(NoContract::TokenRejected)) | Exchanged::Lost => {
                    return Err(Relayed::Unavailable { retry_after: COME_BACK });
                }
                Exchanged::NotDone { why, retry_after } => return Err(trouble(why, retry_after)),
            }
        }
    }

    /// What is remembered, unless it is of before the consent. A store that does not answer costs a call, no more.
    async fn look(&self, meter: Meter, consent: Consent) -> Option<Kept> {
        let key = self.keys.cache(&key_text(meter, Subject::Contract));
        let found = self.cache.get(vec![key], self.clock.wall());
        let entries = match tokio::time::timeout(CACHE_PATIENCE, found).await {
            Ok(Ok(entries)) => entries,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the meter cache cannot be read");
                return None;
            }
            Err(_) => return None,
        };
        let entry = entries.into_iter().find(|entry| entry.fetched >= consent.given)?;
        serde_json::from_slice(&entry.open(&self.keys)?).ok()
    }

    async fn keep(&self, meter: Meter, consent: Consent, kept: &Kept) {
        let now = self.clock.wall();
        let names =
            [key_text(meter, Subject::Contract), owner_text(meter)].map(|text| self.keys.cache(&text));
        // Plain data: writing it cannot fail.
        let plain = serde_json::to_vec(kept).unwrap_or_default();
        let times = [now, kept.until.max(kept.due).min(consent.ends)];
        let entry = {
            let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
            CacheEntry::seal(&self.keys, &mut *rng, names, times, &plain)
        };
        if let Ok(Err(error)) = tokio::time::timeout(CACHE_PATIENCE, self.cache.put(vec![entry])).await {
            tracing::warn!(%error, "the meter cache could not be written; a contract will be asked for again");
        }
    }
}
