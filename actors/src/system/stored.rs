//! What the store holds at the start, for the shards to begin with.
//!
//! Several chains of pages are read at once: one is put into place while the store fetches others. Nothing is kept
//! besides the tables, so that a start takes no more memory than the sessions do.

use std::cell::RefCell;

use futures_util::future::try_join_all;

use crate::base::clock::Timestamp;
use crate::base::keyring::DeviceHash;
use crate::base::store::StoreError;
use crate::device_flow::registry::{CodeRegistryHandle, SessionCount, Table};
use crate::device_flow::session::{Phase, Session};
use crate::device_flow::store::SessionStore;

/// Chains of pages.
const READERS: u8 = 4;

/// Reads every session into the table of its shard.
pub(super) async fn read_all(
    store: &dyn SessionStore,
    registry: &CodeRegistryHandle,
    now: Timestamp,
) -> Result<Vec<Table>, StoreError> {
    let count = SessionCount::default();
    let tables =
        RefCell::new((0..registry.shards()).map(|_| Table::counting(count.clone())).collect::<Vec<_>>());
    let put = |mut session: Session| {
        if !store.is_shared()
            && let Phase::Exchanging { until, .. } = &mut session.phase
        {
            // Whoever was exchanging ended with the process before.
            *until = (*until).min(now);
        }
        tables.borrow_mut()[registry.shard_of(session.device.slot())].put(session);
    };
    try_join_all((0..READERS).map(|reader| read_part(store, reader, now, &put))).await?;
    Ok(tables.into_inner())
}

/// Reads one of [`READERS`] parts of the sessions, by their key.
async fn read_part(
    store: &dyn SessionStore,
    reader: u8,
    now: Timestamp,
    put: impl Fn(Session),
) -> Result<(), StoreError> {
    // The first part has no beginning and the last no end; the others end where the next begins.
    let mut after = reader.checked_sub(1).map(end_of_part);
    let end = Some(end_of_part(reader)).filter(|_| reader + 1 < READERS);
    let beyond = |device: DeviceHash| end.is_some_and(|end| device > end);
    loop {
        let page = store.page(after, now).await?;
        page.sessions.into_iter().filter(|session| !beyond(session.device)).for_each(&put);
        match page.next {
            Some(next) if !beyond(next) => after = Some(next),
            _ => return Ok(()),
        }
    }
}

fn end_of_part(reader: u8) -> DeviceHash {
    let mut key = [u8::MAX; 16];
    key[0] = (reader + 1) * (u8::MAX / READERS) - 1;
    DeviceHash::from(key)
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::device_flow::store::{SessionKey, Write};
    use crate::testing::sessions::model::Model;
    use crate::testing::{NOW, Samples};

    #[tokio::test]
    async fn every_session_is_read_once_and_to_its_shard() {
        let (store, mut samples) = (Model::new(), Samples::new(7));
        let mut sessions = samples.pendings(500);
        // The ends of the parts, and their neighbours.
        for (session, key) in sessions.iter_mut().zip([0, 62, 63, 125, 126, 188, 189, 255]) {
            let mut device = [u8::MAX; 16];
            device[0] = key;
            session.device = DeviceHash::from(device);
        }
        store.commit(sessions.iter().cloned().map(Write::Insert).collect()).await;
        let registry = CodeRegistryHandle::new(3);
        let tables = read_all(&store, &registry, NOW).await.unwrap();
        assert_eq!(tables.iter().map(Table::len).sum::<usize>(), sessions.len());
        for session in &sessions {
            let table = &tables[registry.shard_of(session.device.slot())];
            assert_eq!(table.find(&SessionKey::Device(session.device)), Some(session));
        }
    }
}
