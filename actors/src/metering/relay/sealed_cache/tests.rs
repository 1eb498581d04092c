use jiff::civil::date as civil_date;

use super::*;
use crate::metering::request::{Direction, Resource};
use crate::testing::question;

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

fn cache(seed: u8) -> SealedCache {
    SealedCache::new(Arc::new(Keyring::new(&[7; 32])), 1 << 20, [seed; 32])
}

fn request() -> MeterRequest {
    question(Resource::DailyConsumption, civil_date(2026, 9, 1), civil_date(2026, 9, 2))
}

fn at(secs: u64) -> Timestamp {
    NOW + Duration::from_secs(secs)
}

fn asked(consented: Timestamp) -> Question {
    Question {
        request: request(),
        consented,
        ends: Timestamp::from_millis(u64::MAX),
        is_proven: true,
        changed_since: None,
    }
}

/// The history that `cache` has at `now`, given what others have written.
fn history(cache: &mut SealedCache, others: Vec<CacheEntry>, now: Timestamp) -> RefusalHistory {
    let question = asked(Timestamp::EPOCH);
    let (mut remembered, missing) = cache.look(question, false, now);
    let found = others.into_iter().filter(|entry| missing.contains(&entry.key)).collect();
    cache.take_in(found, &mut remembered, question, now);
    remembered.refusals[Direction::Consumption as usize]
}

#[test]
fn refusals_end_with_what_another_instance_was_answered() {
    let (mut one, mut other) = (cache(1), cache(2));
    let mut refused = RefusalHistory::default();
    refused.refused(at(0));
    one.set_history(asked(Timestamp::EPOCH), Direction::Consumption, &refused, at(0));
    let written = one.take_fresh();
    assert_eq!(history(&mut other, written.clone(), at(1)), refused);
    let mut answered = refused;
    answered.answered(at(2));
    other.set_history(asked(Timestamp::EPOCH), Direction::Consumption, &answered, at(2));
    let later = other.take_fresh();
    assert_eq!(history(&mut one, later, at(3)), answered);
    // What is older than what it knows is not news.
    assert_eq!(history(&mut other, written, at(4)), answered);
}

#[test]
fn what_was_kept_before_the_consent_is_as_good_as_absent() {
    let mut cache = cache(1);
    let mut refused = RefusalHistory::default();
    refused.refused(at(0));
    let direction = Direction::Consumption;
    cache.set_history(asked(Timestamp::EPOCH), direction, &refused, at(0));
    cache.set_since(asked(Timestamp::EPOCH), civil_date(2025, 1, 1), at(0));
    for (consented, history, since) in
        [(at(0), refused, Some(civil_date(2025, 1, 1))), (at(5), RefusalHistory::default(), None)]
    {
        assert_eq!(cache.history(asked(consented), direction, at(9)), history);
        assert_eq!(cache.since(asked(consented), at(9)), since);
    }
}

#[test]
fn what_is_kept_ends_with_the_consent_and_leaves_memory_within_the_hour() {
    let mut cache = cache(1);
    let ends = at(100);
    cache.set_since(Question { ends, ..asked(Timestamp::EPOCH) }, civil_date(2025, 1, 1), at(0));
    assert_eq!(cache.take_fresh()[0].expires, ends);
    assert!(cache.since(asked(Timestamp::EPOCH), at(99)).is_some());
    assert!(cache.since(asked(Timestamp::EPOCH), ends).is_none());
    cache.set_since(asked(Timestamp::EPOCH), civil_date(2025, 1, 1), at(0));
    assert!(cache.since(asked(Timestamp::EPOCH), at(3_599)).is_some());
    assert!(cache.since(asked(Timestamp::EPOCH), at(3_600)).is_none());
    assert!(cache.take_fresh()[0].expires > at(86_400 * 1_000));
}
