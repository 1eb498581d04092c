//! For tests: the contract that every backend of a storage port passes, and deterministic samples.
//!
//! A backend describes where it keeps its data as a [`Place`] and lists [`store_contract!`](crate::store_contract) in a
//! module of its tests; each property of [`sessions`], [`tokens`], [`meters`] or
//! [`audit`] becomes one test there.
//!
//! ```text
//! mod sqlite {
//!     actors::store_contract!(sessions on super::SqlitePlace);
//! }
//! ```

pub mod audit;
mod ledger;
pub mod meters;
mod samples;
pub mod sessions;
pub mod tokens;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;

pub use self::audit::Model as AuditModel;
pub use self::ledger::Model as LedgerModel;
pub use self::meters::model::Model as MeterModel;
pub use self::samples::{CONSENT_LIFE, ENTRY_LIFE, NOW, Samples, hourly_reading, meter, question};
pub use self::sessions::model::Model as SessionModel;
pub use self::tokens::model::Model as TokenModel;
use crate::base::clock::Timestamp;
use crate::base::store::{StoreError, Written};
use crate::device_flow::store::SessionStore;

/// Where one test keeps what goes through `Port`: a directory, a database. Removed when dropped, if that is worth
/// while.
pub trait Place<Port: ?Sized = dyn SessionStore>: Sized {
    /// A new place that holds nothing.
    fn fresh() -> impl Future<Output = Self>;

    /// Opens the store that lives here. A session store that is not shared, and a meter cache, is opened again only
    /// after the earlier handle was dropped; of a shared one, of a token store and of an audit log, several handles exist at
    /// a time.
    fn open(&self) -> impl Future<Output = Arc<Port>>;
}

/// What a property begins with: a fresh place, the store that lives there, and samples.
pub type Trial<P, Port> = (P, Arc<Port>, Samples);

/// Begins a property.
pub async fn begin<P: Place<Port>, Port: ?Sized>() -> Trial<P, Port> {
    let place = P::fresh().await;
    let store = place.open().await;
    (place, store, Samples::new(1))
}

/// Runs one property on a runtime of its own with two threads, so that races are real.
///
/// # Panics
/// If the property does not hold.
pub fn block_on<T>(property: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts")
        .block_on(property)
}

/// What a model keeps, behind a lock. While it is away there is nothing but errors.
#[derive(Debug, Default)]
struct Kept<T> {
    state: Mutex<T>,
    is_away: AtomicBool,
}

impl<T> Kept<T> {
    fn lock(&self) -> Result<MutexGuard<'_, T>, StoreError> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(StoreError::Aborted("away".into()));
        }
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }
}

/// Asks a store and its model the same at step `$n`, and compares the answers.
macro_rules! same {
    ($n:expr, [$store:expr, $model:expr].$ask:ident($($argument:expr),*)) => {{
        let (got, want) = tokio::join!($store.$ask($($argument.clone()),*), $model.$ask($($argument.clone()),*));
        assert_eq!(got.ok(), want.ok(), "{} at step {}", stringify!($ask), $n);
    }};
}
use same;

/// Calls something until it answers 0; answers the sum.
async fn drain<E: std::fmt::Debug>(mut some: impl AsyncFnMut() -> Result<u64, E>) -> u64 {
    let mut all = 0;
    while let more @ 1.. = some().await.expect("the store deletes") {
        all += more;
    }
    all
}

/// Runs each piece of work in a task of its own, on the handles in turn.
async fn race<Port: ?Sized, W, T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    stores: &[Arc<Port>],
    work: impl IntoIterator<Item = W>,
    run: impl Fn(Arc<Port>, W) -> F,
) -> Vec<T> {
    let handles = stores.iter().cycle().cloned();
    let tasks = work.into_iter().zip(handles).map(|(work, store)| tokio::spawn(run(store, work)));
    join_all(tasks).await.into_iter().map(|outcome| outcome.expect("no panic")).collect()
}

fn only_winner(outcomes: &[Written]) -> usize {
    let winners: Vec<_> = (0..outcomes.len()).filter(|n| outcomes[*n] == Written::Applied).collect();
    let [winner] = winners[..] else { panic!("one wins: {outcomes:?}") };
    winner
}

fn before(t: Timestamp) -> Timestamp {
    Timestamp::from_millis(t.as_millis() - 1)
}

/// One `#[test]` for each property of a kind of store, run on a [`Place`](crate::testing::Place).
#[macro_export]
macro_rules! store_contract {
    (sessions on $place:ty) => {
        $crate::store_contract! { sessions, dyn $crate::device_flow::store::SessionStore, $place:
            answers_a_ping_and_an_empty_group
            updates_only_the_revision_it_was_decided_on
            ends_each_write_of_a_group_on_its_own_terms
            lets_one_of_many_racing_updates_win
            lets_one_of_many_racing_inserts_win
            returns_every_phase_as_it_was_stored
            returns_strange_text_as_it_was_stored
            hides_a_session_from_its_purge_time_on
            visits_every_live_session_once
            purges_only_what_is_purgeable
            keeps_what_it_acknowledged
            reports_changes_to_every_handle
            agrees_with_a_model
        }
    };
    (tokens on $place:ty) => {
        $crate::store_contract! { tokens, dyn $crate::metering::tokens::TokenStore, $place:
            hides_what_has_expired
            ends_the_oldest_access_tokens
            revokes_a_grant_with_all_its_tokens
            finds_the_grants_of_a_meter
            returns_every_grant_as_it_was_stored
            visits_every_live_grant_once
            purges_only_what_has_expired
            keeps_what_it_acknowledged
            lets_one_of_many_racing_adds_win
            bounds_racing_issues
            leaves_no_token_of_a_revoked_grant
            agrees_with_a_model
        }
    };
    (meters on $place:ty) => {
        $crate::store_contract! { meters, dyn $crate::metering::cache::MeterCache, $place:
            keeps_the_last_of_racing_entries
            forgets_all_of_one_owner
            takes_the_largest_batch
            takes_values_of_every_size
            evicts_what_has_expired_then_the_oldest
            evicts_many_in_steps
            keeps_entries_when_opened_again
            agrees_with_a_model
        }
    };
    (audit on $place:ty) => {
        $crate::store_contract! { audit, dyn $crate::base::audit::AuditLog, $place:
            returns_every_line_in_order
            keeps_a_line_as_it_was_appended
            keeps_what_it_acknowledged
            purges_only_what_is_old
        }
    };
    ($kind:ident, $port:ty, $place:ty: $($property:ident)*) => {
        $(
            #[test]
            fn $property() {
                $crate::testing::block_on(async {
                    let trial = $crate::testing::begin::<$place, $port>().await;
                    $crate::testing::$kind::$property(trial).await;
                });
            }
        )*
    };
}

#[cfg(test)]
mod tests;
