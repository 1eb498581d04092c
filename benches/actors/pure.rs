//! The pure cores, without a runtime: codes and their hashes, sealed secrets, the states of a session; what keeps everybody
//! within bounds; a box's question for data, the calls it takes, Enedis' answers on their way to the box, and what is
//! remembered of them.

use std::hint::black_box;
use std::time::Duration;

use actors::base::code::{BrowserToken, DeviceCode, StateSuffix, StateToken, UserCode};
use actors::base::keyring::{CacheKey, Keyring};
use actors::base::meter::Meter;
use actors::base::sealed::Purpose;
use actors::device_flow::session::{Consent, Presentation, Session};
use actors::limits::fair_queue::{FairQueue, Next, Priority};
use actors::limits::quota::{Quota, QuotaSettings};
use actors::limits::token_bucket::{Rate, TokenBucket};
use actors::metering::answer;
use actors::metering::api_choice::{Api, ApiChooser, ApiMode, Report};
use actors::metering::cache::{HotCache, Subject, key_text};
use actors::metering::civil::today;
use actors::metering::day::{Day, days_of};
use actors::metering::queue;
use actors::metering::refusals::{Judgement, OutageDetector, RefusalHistory};
use actors::metering::request::{MeterRequest, Resource};
use actors::metering::resource_server::Verdict;
use actors::metering::split::{self, Merged, merge};
use criterion::{Criterion, Throughput};
use device_flow_proxy::enedis::data::judge;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::fakes::{PRM, about, curve, response, until_yesterday, week};
use crate::running::{LIFE, PAUSE, START, request};

const QUOTA: QuotaSettings = QuotaSettings { per_second: 5, per_hour: 10_000_000 };
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Codes, hashes and seals.
pub fn codes(c: &mut Criterion) {
    let mut rng = StdRng::seed_from_u64(7);
    let keys = Keyring::new(&[1; 32]);
    let code = DeviceCode::generate(&mut rng);
    let owner = keys.device(&code);
    let text = code.expose();
    let typed = UserCode::generate(&mut rng).expose().to_lowercase().replace('-', " ");
    assert!(UserCode::parse(&typed).is_some());
    let mut group = c.benchmark_group("codes");
    group.bench_function("device code parsed and hashed", |b| {
        b.iter(|| DeviceCode::parse(black_box(&text)).map(|code| keys.device(&code)));
    });
    group.bench_function("user code drawn and hashed", |b| {
        b.iter(|| keys.user(&UserCode::generate(&mut rng)));
    });
    group.bench_function("user code parsed as typed", |b| b.iter(|| UserCode::parse(black_box(&typed))));
    let mut rng = StdRng::seed_from_u64(8);
    group.bench_function("token sealed", |b| {
        b.iter(|| keys.seal(&mut rng, Purpose::Token, &owner, black_box(&[7; 400])));
    });
    let sealed = keys.seal(&mut rng, Purpose::Token, &owner, &[7; 400]);
    assert_eq!(keys.open(Purpose::Token, &owner, &sealed).as_deref(), Some([7; 400].as_slice()));
    group
        .bench_function("token opened", |b| b.iter(|| keys.open(Purpose::Token, &owner, black_box(&sealed))));
    group.finish();
}

/// The states of one session.
pub fn sessions(c: &mut Criterion) {
    let mut rng = StdRng::seed_from_u64(9);
    let keys = Keyring::new(&[1; 32]);
    let device = keys.device(&DeviceCode::generate(&mut rng));
    let pending = Session::open(device, keys.user(&UserCode::generate(&mut rng)), request(), START, &LIFE);
    let consent = Consent {
        browser: keys.browser(&BrowserToken::generate(&mut rng)),
        state: keys.state(&StateToken::generate(&mut rng, &StateSuffix::default())),
        verifier: Some(keys.seal(&mut rng, Purpose::Verifier, &device, &[7; 64])),
        confirmed_at: START,
    };
    let grant = keys.grant("qLuJBCWkyHAHpvTPAOECBsiQpSivvQ");
    let until = START + Duration::from_secs(60);
    let presentation = Presentation { grant, until, repeatable: false };
    let sealed = keys.seal(&mut rng, Purpose::Token, &device, &[7; 400]);
    let walk = || {
        let confirmed = pending.confirm(consent.clone(), START, &LIFE).ok()?;
        let begun = confirmed.begin(&consent.browser, &consent.state, presentation, START, &LIFE).ok()?;
        let approved = begun.approve(&grant, sealed.clone(), START, &LIFE).ok()?;
        approved.claim(sealed.clone(), START, &LIFE)
    };
    assert!(walk().is_some(), "the flow comes to its end");
    let mut group = c.benchmark_group("session");
    group.bench_function("opened", |b| {
        b.iter(|| Session::open(device, pending.user, black_box(request()), START, &LIFE));
    });
    group.bench_function("polled while pending", |b| b.iter(|| black_box(&pending).poll(black_box(START))));
    group.bench_function("confirmed, begun, approved and claimed", |b| b.iter(walk));
    group.finish();
}

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
            chooser.report(START, black_box(route.first), Report::Works, true);
            route
        });
    });
    group.bench_function("refusal history: refused daily until believed", |b| {
        let believed = || {
            let mut history = RefusalHistory::default();
            let mut now = START + 30 * DAY;
            for _ in 0..5 {
                now = now + DAY;
                black_box(&mut history).refused(black_box(now));
            }
            black_box(&history).judge(&RefusalHistory::default(), now, START)
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
    group.bench_function("date of today in France", |b| b.iter(|| today(black_box(START))));
    group.finish();
}

/// What is remembered, how it is found, and for how long.
pub fn memory(c: &mut Criterion) {
    let keys = Keyring::new(&[1; 32]);
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
    group.finish();
}

/// Pages of several sizes.
pub fn pages(c: &mut Criterion) {
    for (what, days) in [("a week of load curve", 7), ("a year of load curve", 364)] {
        let (resource, range) = (Resource::ConsumptionCurve, until_yesterday(days));
        let body = curve(range);
        let request = about(resource, range);
        let mut group = c.benchmark_group(what);
        group.throughput(Throughput::Bytes(body.len() as u64)).sample_size(20);
        let answer = Ok(response(body.clone().into_bytes()));
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
                Merged::Values(reading) => answer::body(request, &reading).len(),
                Merged::Error(_) | Merged::Trouble(_) => 0,
            });
        });
        group.finish();
    }
}
