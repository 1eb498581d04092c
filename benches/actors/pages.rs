//! Enedis' answers of 2026 on their way to a box: read, taken apart into days, packed, put together again.

use std::hint::black_box;

use actors::metering::api_choice::Api;
use actors::metering::day::{Day, days_of};
use actors::metering::request::Resource;
use actors::metering::resource_server::Verdict;
use actors::metering::split::{Merged, merge};
use criterion::{Criterion, Throughput};
use device_flow_proxy::enedis::data::judge;

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
        let answer = Ok(json(body.clone().into_bytes()));
        let Verdict::Values(reading) = judge(Api::New, request, &answer, START) else { panic!("no values") };
        group.bench_function("read", |b| {
            b.iter(|| judge(Api::New, request, black_box(&answer), START));
        });
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
            b.iter(|| match merge(request, black_box(&days), &[], &[]) {
                Merged::Answer(answer) => answer.to_body().len(),
                Merged::Error(_) | Merged::Trouble(_) => 0,
            });
        });
        group.finish();
    }
}
