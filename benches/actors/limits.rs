//! What keeps everybody within bounds: the bucket of the rate limits, Enedis' quota, the queue in front of it, the choice
//! of the API, and how much Enedis' refusals are believed.

use std::hint::black_box;
use std::time::Duration;

use actors::base::meter::Meter;
use actors::limits::fair_queue::{FairQueue, Next, Priority};
use actors::limits::quota::{Quota, QuotaSettings};
use actors::limits::token_bucket::{Rate, TokenBucket};
use actors::metering::api_choice::{Api, ApiChooser, ApiMode, Report};
use actors::metering::queue;
use actors::metering::refusals::{Judgement, OutageDetector, RefusalHistory};
use criterion::Criterion;

use crate::fakes::PRM;
use crate::running::{PAUSE, START};

const QUOTA: QuotaSettings = QuotaSettings { per_second: 5, per_hour: 10_000_000 };
const DAY: Duration = Duration::from_secs(86_400);

/// All of them.
pub fn limits(c: &mut Criterion) {
    let mut group = c.benchmark_group("limits");
    group.bench_function("bucket: one taken", |b| {
        let rate = Rate { burst: 10, refill: 10, per: Duration::from_secs(1) };
        let (mut bucket, mut now) = (TokenBucket::full(rate, START), START);
        b.iter(|| {
            now = now + PAUSE;
            bucket.take(black_box(rate), now)
        });
    });
    group.bench_function("bucket: refused", |b| {
        let rate = Rate { burst: 1, refill: 1, per: Duration::from_secs(3_600) };
        let mut bucket = TokenBucket::full(rate, START);
        assert_eq!(bucket.take(rate, START), Ok(()));
        assert!(bucket.take(rate, START).is_err());
        b.iter(|| bucket.take(black_box(rate), START));
    });
    group.bench_function("quota: one call taken", |b| {
        let (mut quota, mut now) = (Quota::new(QUOTA, START), START);
        b.iter(|| {
            now = now + PAUSE;
            quota.take(black_box(now), 0)
        });
    });
    for waiting in [0, 50, 200] {
        group.bench_function(format!("queue: a call in and out, {waiting} waiting"), |b| {
            let mut queue: FairQueue<u64, u64, u64> = FairQueue::new(queue::settings(QUOTA));
            let (mut quota, mut now, mut serial) = (Quota::new(QUOTA, START), START, 0);
            let offer = |queue: &mut FairQueue<u64, u64, u64>, quota: &Quota, now, meter| {
                let look_ahead = |ahead, limit| quota.look_ahead(now, ahead, limit);
                assert!(queue.offer(now, &meter, &meter, Priority::High, meter, look_ahead).is_ok());
            };
            for meter in 0..waiting {
                offer(&mut queue, &quota, now, meter);
                serial += 1;
            }
            b.iter(|| {
                now = now + PAUSE;
                serial += 1;
                offer(&mut queue, &quota, now, serial);
                let Next::Call(call) = queue.next(now, |_| quota.take(now, 0)) else { return Vec::new() };
                queue.finish(now, &call)
            });
        });
    }
    group.bench_function("chooser: a call routed and reported", |b| {
        let mut chooser = ApiChooser::new(ApiMode::Auto);
        b.iter(|| {
            let route = black_box(&mut chooser).route(black_box(START));
            chooser.report(START, black_box(route.first), Report::Works);
            route
        });
    });
    group.bench_function("chooser: the new API pauses", |b| {
        let mut chooser = ApiChooser::new(ApiMode::Auto);
        for _ in 0..10 {
            chooser.report(START, Api::New, Report::NotThere);
        }
        assert_eq!(chooser.preferred(START), Api::Legacy);
        b.iter(|| black_box(&chooser).preferred(black_box(START)));
    });
    group.bench_function("refusal history: refused daily until believed", |b| {
        let believed = || {
            let mut history = RefusalHistory::default();
            let mut now = START + 30 * DAY;
            for _ in 0..5 {
                now = now + DAY;
                black_box(&mut history).refused(black_box(now));
            }
            black_box(&history).judge(now, START)
        };
        assert_eq!(believed(), Judgement::Withdrawn);
        b.iter(believed);
    });
    group.bench_function("outage detector: an answer counted", |b| {
        let mut outages = OutageDetector::default();
        let meter = Meter::parse(PRM).expect("14 digits");
        b.iter(|| {
            outages.answered(meter, black_box(START));
            outages.is_outage(START)
        });
    });
    group.finish();
}
