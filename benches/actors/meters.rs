//! The pure core of metering data: a box's question, the calls it takes, and what is remembered of the answers.

use std::hint::black_box;
use std::time::Duration;

use actors::base::keyring::CacheKey;
use actors::base::keyring::Keyring;
use actors::metering::api_choice::Api;
use actors::metering::cache::{HotCache, Subject, key_text};
use actors::metering::civil::{moment_text, parse_date, parse_moment, plus, today};
use actors::metering::day::Fullness;
use actors::metering::policy::{LastingError, day_life};
use actors::metering::request::{MeterRequest, Resource};
use actors::metering::resource_server::DataError;
use actors::metering::split;
use criterion::Criterion;
use device_flow_proxy::enedis::data::question;

use crate::fakes::{PRM, about, until_yesterday, week};
use crate::running::START;

const HOUR: Duration = Duration::from_secs(3_600);

/// Questions, the calls they take, and the dates in them.
pub fn questions(c: &mut Criterion) {
    let day = today(START);
    let mut group = c.benchmark_group("meter question");
    group.bench_function("parsed", |b| {
        let (start, end) = (week().start().to_string(), week().end().to_string());
        let query = [("usage_point_id", PRM), ("start", &start), ("end", &end)];
        let path = Resource::ConsumptionCurve.v5_path();
        assert!(MeterRequest::parse(path, query, day).is_ok());
        b.iter(|| MeterRequest::parse(black_box(path), black_box(query), day));
    });
    for (what, resource, days, calls) in [
        ("a week of load curve", Resource::ConsumptionCurve, 7, 1..=2),
        ("a year of load curve", Resource::ConsumptionCurve, 364, 52..=53),
        ("three years of daily values", Resource::DailyConsumption, 1_095, 3..=4),
    ] {
        let request = about(resource, until_yesterday(days));
        assert!(calls.contains(&split::calls(request, day, |_| false).len()));
        group.bench_function(format!("split: {what}, none known"), |b| {
            b.iter(|| split::calls(black_box(request), day, |_| false));
        });
    }
    let request = about(Resource::ConsumptionCurve, week());
    group.bench_function("asked of the API of 2026", |b| {
        b.iter(|| question(Api::New, black_box(request)));
    });
    group.bench_function("date of today in France", |b| b.iter(|| today(black_box(START))));
    group.bench_function("date parsed", |b| b.iter(|| parse_date(black_box("2026-11-24"))));
    group.bench_function("moment parsed and written", |b| {
        let text = "2026-11-24 00:30:00";
        assert_eq!(parse_moment(text).map(moment_text).as_deref(), Some(text));
        b.iter(|| parse_moment(black_box(text)).map(moment_text));
    });
    group.finish();
}

/// What is remembered, how it is found, and for how long.
pub fn memory(c: &mut Criterion) {
    let (day, keys) = (today(START), Keyring::new(&[1; 32]));
    let request = about(Resource::ConsumptionCurve, week());
    let mut group = c.benchmark_group("meter memory");
    group.bench_function("key of a day", |b| {
        let subject = Subject::Day(request.resource, week().start());
        b.iter(|| keys.cache(&key_text(black_box(request.meter), subject)));
    });
    let key = |n: u32| {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        CacheKey(key)
    };
    let full = || {
        let mut cache = HotCache::new(1 << 20);
        (0..10_000).for_each(|n| cache.put(key(n), n, 300, START + HOUR));
        cache
    };
    group.bench_function("found", |b| {
        let mut cache = full();
        assert_eq!(cache.get(key(9_999), START), Some(&9_999));
        b.iter(|| cache.get(black_box(key(9_999)), START).copied());
    });
    group.bench_function("kept, the oldest gone", |b| {
        let (mut cache, mut n) = (full(), 10_000);
        b.iter(|| {
            n += 1;
            cache.put(key(n), n, 300, START + HOUR);
        });
    });
    group.bench_function("life of a day", |b| {
        let yesterday = plus(day, -1);
        b.iter(|| day_life(black_box(yesterday), Fullness::Complete, day));
    });
    group.bench_function("a lasting error remembered", |b| {
        let error = DataError::no_data();
        let call = about(Resource::DailyProduction, week());
        assert!(LastingError::remember(None, &error, call, false, day).is_some());
        b.iter(|| LastingError::remember(None, black_box(&error), call, false, day));
    });
    group.finish();
}
