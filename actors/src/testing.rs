//! For tests: the contract that every session store passes, and deterministic samples.
//!
//! A backend describes where it keeps its data as a [`Place`] and lists
//! [`session_store_contract!`](crate::session_store_contract) in a module of its tests; each property of
//! [`contract`] becomes one test there.
//!
//! ```text
//! mod sqlite {
//!     actors::session_store_contract!(super::SqlitePlace);
//! }
//! ```

pub mod contract;
mod reference;
mod samples;

use std::sync::Arc;

pub use self::samples::{NOW, Samples};
use crate::store::SessionStore;

/// Where one test keeps its sessions: a directory, a database. Removed when dropped, if that is worth while.
pub trait Place: Sized {
    /// A new place that holds no session.
    fn fresh() -> impl Future<Output = Self>;

    /// Opens the store that lives here. A store that is not shared is opened again only after the earlier handle
    /// was dropped; of a shared one several handles exist at a time.
    fn open(&self) -> impl Future<Output = Arc<dyn SessionStore>>;
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

/// One `#[test]` for each property of [`testing::contract`](crate::testing::contract), run on a
/// [`Place`](crate::testing::Place).
#[macro_export]
macro_rules! session_store_contract {
    ($place:ty) => {
        $crate::session_store_contract! { $place:
            answers_a_ping_and_an_empty_group
            finds_a_session_by_every_key
            refuses_a_taken_device_code
            refuses_a_taken_user_code
            updates_only_the_revision_it_was_decided_on
            never_resurrects_a_session
            ends_each_write_of_a_group_on_its_own_terms
            lets_one_of_many_racing_updates_win
            lets_one_of_many_racing_inserts_win
            returns_every_phase_as_it_was_stored
            returns_strange_text_as_it_was_stored
            hides_a_session_from_its_purge_time_on
            forgets_a_state_that_was_replaced
            visits_every_live_session_once
            purges_only_what_is_purgeable
            keeps_what_it_acknowledged
            reports_changes_to_every_handle
            agrees_with_a_model
        }
    };
    ($place:ty: $($property:ident)*) => {
        $(
            #[test]
            fn $property() {
                $crate::testing::block_on($crate::testing::contract::$property::<$place>());
            }
        )*
    };
}

#[cfg(test)]
mod tests {
    //! The suite itself, on the reference it compares backends with.

    use super::reference::Model;
    use super::*;

    struct Private(Model);

    impl Place for Private {
        async fn fresh() -> Self {
            Self(Model::new())
        }

        async fn open(&self) -> Arc<dyn SessionStore> {
            Arc::new(self.0.clone())
        }
    }

    struct Shared(Model);

    impl Place for Shared {
        async fn fresh() -> Self {
            Self(Model::shared())
        }

        async fn open(&self) -> Arc<dyn SessionStore> {
            Arc::new(self.0.clone())
        }
    }

    mod private {
        crate::session_store_contract!(super::Private);
    }

    mod shared {
        crate::session_store_contract!(super::Shared);
    }
}
