//! Enedis' answers of 2026 on their way to a box: translated into v5, taken apart into days, packed, put together again.

use std::hint::black_box;

use actors::metering::api_choice::Api;
use actors::metering::day::{Day, days_of};
use actors::metering::errors::{Verdict, judge};
use actors::metering::request::Resource;
use actors::metering::split::{Settled, settle};
use actors::metering::translate::to_v5;
use criterion::{Criterion, Throughput};

use crate::fakes::{about, curve, daily, json, until_yesterday};
use crate::running::START;

/// Pages of several sizes.
pub fn pages(c: &mut Criterion) {
    for (what, resource, days) in [
        ("a week of load curve", Resource::ConsumptionCurve, 7),
        ("a year of load curve", Resource::ConsumptionCurve, 364),
        ("a year of daily values", Resource::DailyConsumption, 365),
    ] {
        let range = until_yesterday(days);
        let body = if resource.is_curve() { curve(range) } else { daily(range) };
        let request = about(resource, range);
        let mut group = c.benchmark_group(what);
        group.throughput(Throughput::Bytes(body.len() as u64)).sample_size(20);
        group
            .bench_function("translated into v5", |b| b.iter(|| to_v5(resource, black_box(body.as_bytes()))));
        let answer = Ok(json(body.clone().into_bytes()));
        assert!(matches!(judge(Api::New, request, &answer, START), Verdict::Data(_)));
        group.bench_function("judged and translated", |b| {
            b.iter(|| judge(Api::New, request, black_box(&answer), START));
        });
        let reading = to_v5(resource, body.as_bytes()).expect("a page of 2026").meter_reading;
        group.bench_function("taken apart into days", |b| {
            b.iter(|| days_of(resource, range, black_box(&reading)));
        });
        let days = days_of(resource, range, &reading);
        assert!(days.values().all(|day| !day.points.is_empty()));
        group.bench_function("days packed and unpacked", |b| {
            b.iter(|| {
                days.iter().filter(|(date, day)| Day::unpack(&day.pack(**date), **date).is_some()).count()
            });
        });
        group.bench_function("put together and written", |b| {
            b.iter(|| match settle(request, black_box(&days), &[], &[]) {
                Settled::Answer(answer) => answer.to_body().len(),
                Settled::Error(_) | Settled::Trouble(_) => 0,
            });
        });
        group.finish();
    }
}
