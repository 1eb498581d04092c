//! Any sequence of operations ends as it does on the reference.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::model::Model;
use super::{Store, Trial, by_device, find_at, live};
use crate::base::clock::Timestamp;
use crate::base::keyring::{BrowserHash, DeviceHash, StateHash, UserHash};
use crate::device_flow::session::{Consent, Session};
use crate::device_flow::store::record::PhaseTag;
use crate::device_flow::store::{SessionKey, Write};
use crate::testing::{NOW, Place, Samples, drain, same};

/// Device codes in play.
const DEVICES: u8 = 12;
/// User codes in play: fewer, so that they clash.
const USERS: u8 = 8;
/// Steps of the random walk.
const STEPS: usize = 600;

/// One step of [`walk`] as three numbers, so that any generator can draw it and shrink it: what to do, with which
/// session, and how.
pub type Step = (u8, u8, u8);

/// Random sequences of operations end as they do on a model.
pub async fn agrees_with_a_model<P: Place>((_, store, _): Trial<P>) {
    let mut rng = StdRng::seed_from_u64(1);
    let steps: Vec<Step> = (0..STEPS).map(|_| rng.random()).collect();
    walk(&store, &steps).await;
}

/// Takes `steps` on an empty `store` and on a model, and compares every answer and what is stored in the end.
pub async fn walk(store: &Store, steps: &[Step]) {
    let model: Store = Arc::new(Model::new());
    let mut samples = Samples::new(17);
    let mut now = NOW;
    for (n, &(what, slot, how)) in steps.iter().enumerate() {
        match what % 10 {
            0..=6 => {
                let group = group(&model, &mut samples, what % 7, slot, how, now).await;
                let (got, want) = (store.commit(group.clone()).await, model.commit(group).await);
                let outcomes = |all: Vec<Result<_, _>>| all.into_iter().map(Result::ok).collect::<Vec<_>>();
                assert_eq!(outcomes(got), outcomes(want), "outcomes at step {n}");
            }
            7 | 8 => {
                for key in [
                    SessionKey::Device(device(slot)),
                    SessionKey::User(user(slot)),
                    SessionKey::State(state(slot, how)),
                ] {
                    same!(n, [store, model].find(key, now));
                }
            }
            _ if how % 4 > 0 => now = now + Duration::from_millis(u64::from(how) * 500),
            _ => {
                let gone = drain(async || store.purge(now).await).await;
                // A store that deletes by itself does so in its own time.
                if gone > 0 {
                    assert_eq!(model.purge(now).await.ok(), Some(gone), "purged at step {n}");
                }
            }
        }
    }
    assert_eq!(by_device(live(store, now).await), by_device(live(&model, now).await));
}

/// Writes about different sessions and different user codes, so that their order does not matter.
async fn group(
    model: &Store,
    samples: &mut Samples,
    last: u8,
    slot: u8,
    how: u8,
    now: Timestamp,
) -> Vec<Write> {
    let (mut group, mut codes) = (Vec::new(), BTreeSet::new());
    for n in 0..=last {
        let slot = slot.wrapping_add(n) % DEVICES;
        if !codes.insert(user(slot)) {
            continue;
        }
        let fresh =
            || Session { device: device(slot), user: user(slot), ..Samples::new(u64::from(how)).pending() };
        if how >> (n) & 1 == 0 {
            let born = Session { purge_at: now + Duration::from_secs(90), ..fresh() };
            group.push(Write::Insert(born));
            continue;
        }
        let held = find_at(model, SessionKey::Device(device(slot)), Timestamp::EPOCH).await;
        let from = held.unwrap_or_else(fresh);
        let phases = [PhaseTag::Confirmed, PhaseTag::Exchanging, PhaseTag::Approved, PhaseTag::Denied];
        let consent = (!how.is_multiple_of(3)).then(|| Consent {
            browser: BrowserHash::from([how; 16]),
            state: state(slot, how),
            verifier: None,
            confirmed_at: now,
        });
        let mut to = samples.next(&from, phases[usize::from(how % 4)], consent);
        to.purge_at = now + Duration::from_secs(60 + u64::from(how));
        // Some decisions come too late.
        to.rev += u32::from(how.is_multiple_of(5));
        group.push(Write::Update { to });
    }
    group
}

fn device(slot: u8) -> DeviceHash {
    DeviceHash::from([slot % DEVICES; 16])
}

fn user(slot: u8) -> UserHash {
    UserHash::from([slot % DEVICES % USERS; 16])
}

fn state(slot: u8, how: u8) -> StateHash {
    let mut bytes = [slot % DEVICES; 16];
    bytes[15] = how % 3;
    StateHash::from(bytes)
}
