use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::limits::quota::QuotaSettings;

type Queue = FairQueue<u32, (u32, u32), u32>;

const WAIT: Duration = Duration::from_secs(20);

fn settings(in_flight: usize, per_hour: u32) -> QueueSettings {
    QueueSettings {
        wait: WAIT,
        admit: WAIT,
        in_flight,
        calls_max: 256,
        calls_per_meter_max: 200,
        waiters_max: 8,
        per_hour,
    }
}

fn start() -> Timestamp {
    Timestamp::from_millis(500_000 * HOUR_MS)
}

fn quota(per_second: u32, per_hour: u32) -> Quota {
    Quota::new(QuotaSettings { per_second, per_hour }, start())
}

/// No limit at all.
#[derive(Clone)]
struct Free;

impl Budget for Free {
    fn take(&mut self, _: Timestamp) -> Result<(), Duration> {
        Ok(())
    }
}

#[test]
fn a_greedy_box_waits_behind_itself() {
    let (mut queue, now) = (Queue::new(settings(1, 1_000)), start());
    for n in 0..30 {
        queue.offer(now, &1, &(1, n), Class::Recent, n, &Free).unwrap();
    }
    for meter in 2..6 {
        queue.offer(now, &meter, &(meter, 0), Class::Recent, 100, &Free).unwrap();
    }
    let mut order = Vec::new();
    while let Next::Call(key) = queue.next(now, &mut Free) {
        order.push(key.0);
        assert_eq!(queue.next(now, &mut Free), Next::Idle, "one at a time");
        assert_eq!(queue.finish(now, &key).len(), 1);
    }
    assert_eq!(order[..6], [1, 2, 3, 4, 5, 1]);
    assert_eq!(order.len(), 34);
}

#[test]
fn equal_calls_are_one() {
    let (mut queue, now) = (Queue::new(settings(2, 1_000)), start());
    assert_eq!(queue.offer(now, &1, &(1, 0), Class::Recent, 1, &Free).unwrap(), Place::Queued);
    assert_eq!(queue.offer(now, &1, &(1, 0), Class::Recent, 2, &Free).unwrap(), Place::Joined);
    assert_eq!(queue.next(now, &mut Free), Next::Call((1, 0)));
    assert_eq!(queue.offer(now, &1, &(1, 0), Class::Recent, 3, &Free).unwrap(), Place::Joined, "under way");
    assert_eq!(queue.next(now, &mut Free), Next::Idle);
    for waiter in 4..9 {
        queue.offer(now, &1, &(1, 0), Class::Recent, waiter, &Free).unwrap();
    }
    assert!(queue.offer(now, &1, &(1, 0), Class::Recent, 9, &Free).is_err(), "bounded");
    assert_eq!(queue.finish(now, &(1, 0)), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(queue.jobs.is_empty() && queue.deadlines.is_empty());
    assert_eq!(queue.finish(now, &(1, 0)), [0_u32; 0], "twice does no harm");
}

#[test]
fn who_cannot_be_served_in_time_hears_it_at_once() {
    let (mut queue, now, mut quota) = (Queue::new(settings(4, 3)), start(), quota(5, 3));
    for meter in 0..3 {
        queue.offer(now, &meter, &(meter, 0), Class::Recent, meter, &quota).unwrap();
    }
    let refused = queue.offer(now, &9, &(9, 0), Class::Recent, 9, &quota).unwrap_err();
    assert_eq!(refused.waiter, 9);
    assert!(refused.retry_after > Duration::from_secs(3_500), "{:?}", refused.retry_after);
    // Three go; the quota is used up behind a fourth that was hopeful.
    let mut at = now;
    let mut sent = 0;
    while sent < 3 {
        match queue.next(at, &mut quota) {
            Next::Call(_) => sent += 1,
            Next::Wait(wait) => at = at + wait,
            Next::Idle => panic!("lanes are free"),
        }
    }
    assert!(queue.offer(at, &9, &(9, 0), Class::Recent, 9, &quota).is_err());
    queue.offer(at, &9, &(9, 0), Class::Recent, 9, &Free).unwrap();
    let Next::Wait(wait) = queue.next(at, &mut quota) else { panic!("no quota left") };
    assert_eq!(queue.shed(at + wait), [9], "answered now, those under way are not");
    assert_eq!((queue.waiting(), queue.running()), (0, 3));
}

#[test]
fn a_slow_enedis_shortens_the_queue() {
    let (mut queue, mut now) = (Queue::new(settings(1, 1_000)), start());
    for n in 0..20 {
        queue.offer(now, &1, &(1, n), Class::Recent, n, &Free).unwrap();
        let Next::Call(key) = queue.next(now, &mut Free) else { panic!() };
        now = now + Duration::from_secs(5);
        queue.finish(now, &key);
    }
    let taken =
        (100..200).filter(|n| queue.offer(now, n, &(*n, 0), Class::Recent, *n, &Free).is_ok()).count();
    assert!((3..=6).contains(&taken), "{taken}");
}

#[test]
fn history_gives_way_but_is_served() {
    let (mut queue, now) = (Queue::new(settings(1, 1_000)), start());
    for n in 0..10 {
        queue.offer(now, &1, &(1, n), Class::History, n, &Free).unwrap();
        queue.offer(now, &(2 + n), &(2 + n, 0), Class::Recent, n, &Free).unwrap();
    }
    let mut order = String::new();
    while let Next::Call(key) = queue.next(now, &mut Free) {
        order.push(if key.0 == 1 { 'h' } else { 'r' });
        queue.finish(now, &key);
    }
    assert_eq!(order, "rrrhrrrhrrrhrhhhhhhh");
}

#[test]
fn history_leaves_a_part_of_the_hour() {
    let mut queue = Queue::new(settings(1, 100));
    let mut sent = 0;
    for second in 0..3_600_u32 {
        let now = start() + Duration::from_secs(second.into());
        let _ = queue.offer(now, &1, &(1, second), Class::History, second, &Free);
        if let Next::Call(key) = queue.next(now, &mut Free) {
            sent += 1;
            queue.finish(now, &key);
        }
        queue.expire(now);
        assert!(second > 100 || sent <= 52, "half of it at first");
    }
    assert!((85..=91).contains(&sent), "{sent}");
    let wait = queue.estimate(start() + Duration::from_secs(3_599), &1, Class::History, &Free);
    assert!(wait <= Duration::from_secs(1), "the next hour is new");
}

#[test]
fn classes() {
    use jiff::civil::date;

    use crate::base::meter::Meter;
    use crate::metering::request::{DayRange, Resource};
    let (meter, resource) = (Meter::parse("12345678901234").unwrap(), Resource::ConsumptionCurve);
    let class = |start, end| {
        let range = DayRange::new(start, end).unwrap();
        Class::of(MeterRequest { resource, meter, range }, date(2026, 11, 23))
    };
    assert_eq!(class(date(2026, 11, 22), date(2026, 11, 23)), Class::Recent);
    assert_eq!(class(date(2023, 11, 24), date(2026, 11, 23)), Class::Recent);
    assert_eq!(class(date(2026, 11, 9), date(2026, 11, 16)), Class::History);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever arrives and however slow Enedis is: every caller has one answer by its deadline, the quota is
    /// kept, nothing is left behind, and no bound is passed.
    #[test]
    fn everyone_is_answered_and_the_quota_is_kept(
        arrivals in proptest::collection::vec((0_u64..3_000, 0_u32..12, 0_u32..6, any::<bool>()), 1..150),
        in_flight in 1_usize..4,
        call_ms in 50_u64..9_000,
        per_hour in 5_u32..200,
    ) {
        let (mut queue, mut quota) = (Queue::new(settings(in_flight, per_hour)), quota(5, per_hour));
        let mut open: HashMap<u32, Timestamp> = HashMap::new();
        let mut under_way: Vec<(Timestamp, (u32, u32))> = Vec::new();
        let mut sent: Vec<u64> = Vec::new();
        let mut arrivals = arrivals.into_iter();
        let (mut now, mut next_arrival, mut id) = (start(), start(), 0_u32);
        let mut pending = arrivals.next();
        while pending.is_some() || !open.is_empty() || !under_way.is_empty() {
            now = now + Duration::from_millis(50);
            while let Some((step, meter, n, history)) = pending.filter(|_| next_arrival <= now) {
                id += 1;
                let class = if history { Class::History } else { Class::Recent };
                if queue.offer(now, &meter, &(meter, n), class, id, &quota).is_ok() {
                    open.insert(id, now + WAIT);
                }
                next_arrival = next_arrival + Duration::from_millis(step);
                pending = arrivals.next();
            }
            under_way.retain(|(end, key)| {
                if *end <= now {
                    for waiter in queue.finish(now, key) {
                        assert!(open.remove(&waiter).is_some_and(|deadline| now <= deadline));
                    }
                }
                *end > now
            });
            loop {
                match queue.next(now, &mut quota) {
                    Next::Call(key) => {
                        prop_assert!(!under_way.iter().any(|(_, k)| *k == key), "equal calls at once");
                        under_way.push((now + Duration::from_millis(call_ms), key));
                        sent.push(now.as_millis());
                    }
                    Next::Wait(wait) => {
                        for waiter in queue.shed(now + wait) {
                            prop_assert!(open.remove(&waiter).is_some());
                        }
                        break;
                    }
                    Next::Idle => break,
                }
            }
            for waiter in queue.expire(now) {
                let late = open.remove(&waiter).map(|deadline| now.since(deadline));
                prop_assert!(late.is_some_and(|late| late <= Duration::from_millis(50)));
            }
            prop_assert!(queue.running() <= in_flight && queue.waiting() <= 256);
            prop_assert_eq!(queue.running(), under_way.len());
        }
        for window in sent.windows(6) {
            prop_assert!(window[5] - window[0] >= 1_000);
        }
        let hours: HashSet<u64> = sent.iter().map(|ms| ms / HOUR_MS).collect();
        for hour in hours {
            prop_assert!(sent.iter().filter(|ms| *ms / HOUR_MS == hour).count() <= per_hour as usize);
        }
        prop_assert!(queue.jobs.is_empty() && queue.deadlines.is_empty() && queue.waiting() == 0);
    }

    /// However many calls others have waiting, a meter's first call is sent before any other meter's second.
    #[test]
    fn nobody_starves(lanes in proptest::collection::vec(1_u32..12, 1..20)) {
        // Enough at a time that nobody is refused for want of time.
        let mut queue = Queue::new(settings(8, 1_000));
        for (meter, count) in lanes.iter().enumerate() {
            let meter = u32::try_from(meter).unwrap();
            for n in 0..*count {
                queue.offer(start(), &meter, &(meter, n), Class::Recent, n, &Free).unwrap();
            }
        }
        let mut served: HashMap<u32, u32> = HashMap::new();
        while let Next::Call(key) = queue.next(start(), &mut Free) {
            queue.finish(start(), &key);
            *served.entry(key.0).or_default() += 1;
            for (meter, count) in lanes.iter().enumerate() {
                let had = served.get(&u32::try_from(meter).unwrap()).copied().unwrap_or(0);
                prop_assert!(had == *count || served.values().all(|other| *other <= had + 1));
            }
        }
    }
}

#[test]
fn a_call_is_put_back_once_and_is_the_next() {
    let (mut queue, now) = (Queue::new(settings(1, 1_000)), start());
    for meter in 1..4 {
        queue.offer(now, &meter, &(meter, 0), Class::Recent, meter, &Free).unwrap();
    }
    assert_eq!(queue.next(now, &mut Free), Next::Call((1, 0)));
    assert!(queue.put_back(&(1, 0)));
    assert_eq!((queue.running(), queue.waiting()), (0, 3));
    assert_eq!(queue.next(now, &mut Free), Next::Call((1, 0)), "ahead of the others");
    assert!(!queue.put_back(&(1, 0)), "once");
    assert_eq!(queue.finish(now, &(1, 0)), [1]);
    assert_eq!(queue.next(now, &mut Free), Next::Call((2, 0)));
    // Nobody waits any more.
    assert_eq!(queue.expire(now + WAIT).len(), 2);
    assert!(queue.put_back(&(2, 0)));
    assert!(queue.jobs.is_empty() && queue.running() == 0 && queue.waiting() == 0);
}

#[test]
fn what_a_meter_has_not_been_sent_is_left_out() {
    let (mut queue, now) = (Queue::new(settings(1, 1_000)), start());
    for n in 0..4 {
        queue.offer(now, &1, &(1, n), if n < 2 { Class::Recent } else { Class::History }, n, &Free).unwrap();
    }
    queue.offer(now, &1, &(1, 3), Class::History, 9, &Free).unwrap();
    queue.offer(now, &2, &(2, 0), Class::Recent, 5, &Free).unwrap();
    assert_eq!(queue.next(now, &mut Free), Next::Call((1, 0)));
    let mut left_out = queue.cancel(&1);
    left_out.sort_unstable();
    assert_eq!(left_out, [1, 2, 3, 9]);
    assert_eq!(queue.finish(now, &(1, 0)), [0]);
    assert_eq!(queue.next(now, &mut Free), Next::Call((2, 0)));
    assert_eq!(queue.finish(now, &(2, 0)), [5]);
    assert!(queue.jobs.is_empty() && queue.deadlines.is_empty() && queue.waiting() == 0);
}
