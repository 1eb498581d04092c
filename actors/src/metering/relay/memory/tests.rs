use async_trait::async_trait;
use jiff::civil::date as civil_date;

use super::*;
use crate::metering::request::{DayRange, Resource};

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

/// What is written is handed over by the tests.
struct Nowhere;

#[async_trait]
impl MeterCache for Nowhere {
    async fn get(&self, _: Vec<CacheKey>, _: Timestamp) -> Result<Vec<CacheEntry>, StoreError> {
        Ok(Vec::new())
    }

    async fn put(&self, _: Vec<CacheEntry>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn evict(&self, _: Timestamp, _: u64) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn forget(&self, _: CacheKey) -> Result<u64, StoreError> {
        Ok(0)
    }
}

fn memory(seed: u8) -> Memory {
    Memory::new(Arc::new(Nowhere), Arc::new(Keyring::new(&[7; 32])), 1 << 20, [seed; 32])
}

fn request() -> MeterRequest {
    let range = DayRange::new(civil_date(2026, 9, 1), civil_date(2026, 9, 2)).unwrap();
    MeterRequest {
        resource: Resource::DailyConsumption,
        meter: Meter::parse("12345678901234").unwrap(),
        range,
    }
}

fn at(secs: u64) -> Timestamp {
    NOW + Duration::from_secs(secs)
}

fn moment(now: Timestamp, consented: Timestamp) -> Moment {
    Moment { now, today: today(now), consented }
}

/// What `memory` knows at `now`, given what others have written.
fn known(memory: &mut Memory, others: Vec<CacheEntry>, now: Timestamp) -> Known {
    let Look { mut known, missing } = memory.look(request(), Timestamp::EPOCH, now);
    let found = others.into_iter().filter(|entry| missing.contains(&entry.key)).collect();
    memory.take_in(found, &mut known, request(), Timestamp::EPOCH, now);
    known
}

#[test]
fn a_doubt_ends_with_what_another_instance_was_answered() {
    let (mut one, mut other) = (memory(1), memory(2));
    let meter = request().meter;
    let mut doubt = ConsentDoubt::default();
    doubt.refused(at(0), Timestamp::EPOCH);
    one.set_doubt(meter, Some(doubt), at(0));
    let written = std::mem::take(&mut one.fresh);
    assert_eq!(known(&mut other, written.clone(), at(1)).doubt, doubt);
    other.set_doubt(meter, None, at(2));
    let answered = std::mem::take(&mut other.fresh);
    assert_eq!(known(&mut one, answered, at(3)).doubt, ConsentDoubt::default());
    // What is older than what it knows is not news.
    assert_eq!(known(&mut other, written, at(4)).doubt, ConsentDoubt::default());
}

#[test]
fn what_was_kept_before_the_consent_is_as_good_as_absent() {
    let (mut memory, call) = (memory(1), request());
    let mut doubt = ConsentDoubt::default();
    doubt.refused(at(0), Timestamp::EPOCH);
    memory.set_doubt(call.meter, Some(doubt), at(0));
    memory.set_since(call, civil_date(2025, 1, 1), at(0));
    assert_eq!(memory.doubt(call.meter, moment(at(9), at(0))), doubt);
    assert_eq!(memory.doubt(call.meter, moment(at(9), at(5))), ConsentDoubt::default());
    assert_eq!(memory.since(call, moment(at(9), at(0))), Some(civil_date(2025, 1, 1)));
    assert_eq!(memory.since(call, moment(at(9), at(5))), None);
}
