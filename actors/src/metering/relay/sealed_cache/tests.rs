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

/// The history that `cache` has at `now`, given what others have written.
fn history(cache: &mut SealedCache, others: Vec<CacheEntry>, now: Timestamp) -> RefusalHistory {
    let question = Question { request: request(), consented: Timestamp::EPOCH };
    let (mut remembered, missing) = cache.look(question, now);
    let found = others.into_iter().filter(|entry| missing.contains(&entry.key)).collect();
    cache.take_in(found, &mut remembered, question, now);
    remembered.refusals[Direction::Consumption as usize]
}

#[test]
fn refusals_end_with_what_another_instance_was_answered() {
    let (mut one, mut other) = (cache(1), cache(2));
    let meter = request().meter;
    let mut refused = RefusalHistory::default();
    refused.refused(at(0));
    one.set_history(meter, Direction::Consumption, &refused, at(0));
    let written = one.take_fresh();
    assert_eq!(history(&mut other, written.clone(), at(1)), refused);
    let mut answered = refused;
    answered.answered(at(2));
    other.set_history(meter, Direction::Consumption, &answered, at(2));
    let later = other.take_fresh();
    assert_eq!(history(&mut one, later, at(3)), answered);
    // What is older than what it knows is not news.
    assert_eq!(history(&mut other, written, at(4)), answered);
}

#[test]
fn what_was_kept_before_the_consent_is_as_good_as_absent() {
    let (mut cache, call) = (cache(1), request());
    let mut refused = RefusalHistory::default();
    refused.refused(at(0));
    let direction = Direction::Consumption;
    cache.set_history(call.meter, direction, &refused, at(0));
    cache.set_since(call, civil_date(2025, 1, 1), at(0));
    for (consented, history, since) in
        [(at(0), refused, Some(civil_date(2025, 1, 1))), (at(5), RefusalHistory::default(), None)]
    {
        assert_eq!(cache.history(call.meter, direction, consented, at(9)), history);
        assert_eq!(cache.since(Question { request: call, consented }, at(9)), since);
    }
}
