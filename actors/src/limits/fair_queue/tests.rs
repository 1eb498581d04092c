use std::collections::HashSet;

use proptest::prelude::*;

use super::Offered::{Joined, Queued};
use super::Priority::{High, Low};
use super::*;
use crate::limits::quota::{Quota, QuotaSettings};

/// Calls are an owner and a number.
type Queue = FairQueue<u32, (u32, u32), u32>;

const WAIT: Duration = Duration::from_secs(20);

fn new_queue(in_flight: usize, low_share_of: u32) -> Queue {
    Queue::new(QueueSettings {
        wait: WAIT,
        admit: WAIT,
        in_flight,
        calls_max: 256,
        calls_per_owner_max: 200,
        waiters_max: 8,
        high_turns: 3,
        low_share_of,
    })
}

fn start() -> Timestamp {
    Timestamp::from_millis(500_000 * HOUR_MS)
}

fn quota(per_second: u32, per_hour: u32) -> Quota {
    Quota::new(QuotaSettings { per_second, per_hour }, start())
}

impl Queue {
    /// Offers where there is no quota.
    fn add(&mut self, now: Timestamp, call: (u32, u32), priority: Priority, waiter: u32) -> Option<Offered> {
        self.offer(now, &call.0, &call, priority, waiter, |_, _| Duration::ZERO).ok()
    }

    fn offer_to(
        &mut self,
        quota: &Quota,
        now: Timestamp,
        call: (u32, u32),
        priority: Priority,
        waiter: u32,
    ) -> Result<Offered, Duration> {
        self.offer(now, &call.0, &call, priority, waiter, |n, limit| quota.look_ahead(now, n, limit))
    }

    fn next_call(&mut self, now: Timestamp) -> Option<(u32, u32)> {
        match self.next(now, |_| Ok(())) {
            Next::Call(call) => Some(call),
            Next::Wait(..) | Next::Idle => None,
        }
    }

    fn is_empty(&self) -> bool {
        let nothing_waits = self.calls.is_empty() && self.deadlines.is_empty() && self.resting.is_empty();
        nothing_waits && (self.waiting(), self.running()) == (0, 0)
    }
}

#[test]
fn equal_calls_are_one() {
    let (mut queue, now) = (new_queue(2, 1_000), start());
    assert_eq!(queue.add(now, (1, 0), High, 1), Some(Queued));
    assert_eq!(queue.add(now, (1, 0), High, 2), Some(Joined));
    assert_eq!(queue.next_call(now), Some((1, 0)));
    assert_eq!(queue.add(now, (1, 0), High, 3), Some(Joined), "under way");
    assert_eq!(queue.next_call(now), None);
    for waiter in 4..9 {
        queue.add(now, (1, 0), High, waiter).unwrap();
    }
    assert_eq!(queue.add(now, (1, 0), High, 9), None, "bounded");
    assert_eq!(queue.finish(now, &(1, 0)), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(queue.is_empty());
    assert_eq!(queue.finish(now, &(1, 0)), [0_u32; 0], "twice does no harm");
}

#[test]
fn who_cannot_be_served_in_time_hears_it_at_once() {
    let (mut queue, mut now, mut quota) = (new_queue(4, 3), start(), quota(5, 3));
    for owner in 0..3 {
        queue.offer_to(&quota, now, (owner, 0), High, owner).unwrap();
    }
    let retry_after = queue.offer_to(&quota, now, (9, 0), High, 9).unwrap_err();
    assert!(retry_after > Duration::from_secs(3_500), "{retry_after:?}");
    // Three go; the quota is used up behind a fourth that was hopeful.
    let mut sent = 0;
    while sent < 3 {
        match queue.next(now, |_| quota.take(now, 0)) {
            Next::Call(_) => sent += 1,
            Next::Wait(_, wait) => now = now + wait,
            Next::Idle => panic!("not all are under way"),
        }
    }
    assert!(queue.offer_to(&quota, now, (9, 0), High, 9).is_err());
    queue.add(now, (9, 0), High, 9).unwrap();
    let Next::Wait(High, wait) = queue.next(now, |_| quota.take(now, 0)) else { panic!("no quota left") };
    assert_eq!(queue.shed(now + wait, Low), [0_u32; 0]);
    assert_eq!(queue.shed(now + wait, High), [9], "answered now, those under way are not");
    assert_eq!((queue.waiting(), queue.running()), (0, 3));
}

#[test]
fn a_slow_enedis_shortens_the_queue() {
    let (mut queue, mut now) = (new_queue(1, 1_000), start());
    for n in 0..20 {
        queue.add(now, (1, n), High, n).unwrap();
        let call = queue.next_call(now).unwrap();
        now = now + Duration::from_secs(5);
        queue.finish(now, &call);
    }
    let taken = (100..200).filter(|n| queue.add(now, (*n, 0), High, *n).is_some()).count();
    assert!((3..=6).contains(&taken), "{taken}");
}

#[test]
fn low_priority_gives_way_but_is_served() {
    let (mut queue, now) = (new_queue(1, 1_000), start());
    for n in 0..10 {
        queue.add(now, (1, n), Low, n).unwrap();
        queue.add(now, (2 + n, 0), High, n).unwrap();
    }
    let calls = std::iter::from_fn(|| queue.next_call(now).inspect(|call| drop(queue.finish(now, call))));
    let order: String = calls.map(|(owner, _)| if owner == 1 { 'l' } else { 'h' }).collect();
    assert_eq!(order, "hhhlhhhlhhhlhlllllll");
}

#[test]
fn low_priority_leaves_a_part_of_the_hour() {
    let mut queue = new_queue(1, 100);
    let mut sent = 0;
    for second in 0..3_600_u32 {
        let now = start() + Duration::from_secs(second.into());
        queue.add(now, (1, second), Low, second);
        if let Some(call) = queue.next_call(now) {
            sent += 1;
            queue.finish(now, &call);
        }
        queue.expire(now);
        assert!(second > 100 || sent <= 52, "half of it at first");
    }
    assert!((85..=91).contains(&sent), "{sent}");
    let wait = queue.estimate(start() + Duration::from_secs(3_599), &1, Low, |_, _| Duration::ZERO);
    assert!(wait <= Duration::from_secs(1), "the next hour is new");
}

#[test]
fn a_call_put_back_is_the_next_once_it_has_rested() {
    let (mut queue, now) = (new_queue(1, 1_000), start());
    let later = now + Duration::from_secs(3);
    for owner in 1..4 {
        queue.add(now, (owner, 0), High, owner).unwrap();
    }
    assert_eq!(queue.next_call(now), Some((1, 0)));
    queue.put_back(&(1, 0), now);
    assert_eq!((queue.running(), queue.waiting()), (0, 3));
    assert_eq!(queue.next_call(now), Some((1, 0)), "ahead of the others");
    queue.put_back(&(1, 0), later);
    assert_eq!((queue.attempts(&(1, 0)), queue.next_wake()), (2, Some(later)));
    assert_eq!(queue.next_call(now), Some((2, 0)));
    assert_eq!(queue.next_wake(), Some(now + WAIT), "nothing else may begin");
    assert_eq!(queue.finish(now, &(2, 0)), [2]);
    assert_eq!(queue.next_call(later), Some((1, 0)));
    assert_eq!(queue.finish(now, &(1, 0)), [1]);
    // Nobody waits any more, for the one that is under way either.
    assert_eq!(queue.next_call(later), Some((3, 0)));
    assert_eq!(queue.expire(now + WAIT), [3]);
    queue.put_back(&(3, 0), now + WAIT);
    assert!(queue.is_empty());
}

#[test]
fn calls_that_rest_are_given_up_like_others() {
    let (mut queue, now) = (new_queue(9, 1_000), start());
    for owner in 1..4 {
        queue.add(now, (owner, 0), High, owner).unwrap();
        assert_eq!(queue.next_call(now), Some((owner, 0)));
        queue.put_back(&(owner, 0), now + WAIT);
    }
    assert_eq!(queue.cancel(&1, |_| true), [1]);
    queue.retain_waiters(|waiter| *waiter != 2);
    assert_eq!(queue.expire(now + WAIT), [3]);
    assert!(queue.is_empty());
}

#[test]
fn what_an_owner_has_not_been_sent_is_left_out() {
    let (mut queue, now) = (new_queue(1, 1_000), start());
    for n in 0..4 {
        queue.add(now, (1, n), if n < 2 { High } else { Low }, n).unwrap();
    }
    queue.add(now, (1, 3), Low, 9).unwrap();
    queue.add(now, (2, 0), High, 5).unwrap();
    assert_eq!(queue.next_call(now), Some((1, 0)));
    let mut left_out = queue.cancel(&1, |_| true);
    left_out.sort_unstable();
    assert_eq!(left_out, [1, 2, 3, 9]);
    assert_eq!(queue.finish(now, &(1, 0)), [0]);
    assert_eq!(queue.next_call(now), Some((2, 0)));
    assert_eq!(queue.finish(now, &(2, 0)), [5]);
    assert!(queue.is_empty());
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
        failing in 0_u64..5,
    ) {
        let (mut queue, mut quota) = (new_queue(in_flight, per_hour), quota(5, per_hour));
        let mut open: HashMap<u32, Timestamp> = HashMap::new();
        let mut under_way: Vec<(Timestamp, (u32, u32))> = Vec::new();
        let mut sent: Vec<u64> = Vec::new();
        let mut arrivals = arrivals.into_iter();
        let (mut now, mut next_arrival, mut id) = (start(), start(), 0_u32);
        let mut pending = arrivals.next();
        while pending.is_some() || !open.is_empty() || !under_way.is_empty() {
            now = now + Duration::from_millis(50);
            while let Some((step, owner, n, low)) = pending.filter(|_| next_arrival <= now) {
                id += 1;
                let priority = if low { Low } else { High };
                if queue.offer_to(&quota, now, (owner, n), priority, id).is_ok() {
                    open.insert(id, now + WAIT);
                }
                next_arrival = next_arrival + Duration::from_millis(step);
                pending = arrivals.next();
            }
            under_way.retain(|(end, call)| {
                if *end <= now && (now.as_millis() / 50) % 5 < failing && queue.attempts(call) < 3 {
                    queue.put_back(call, now + Duration::from_secs(2));
                } else if *end <= now {
                    for waiter in queue.finish(now, call) {
                        assert!(open.remove(&waiter).is_some_and(|deadline| now <= deadline));
                    }
                }
                *end > now
            });
            loop {
                match queue.next(now, |_| quota.take(now, 0)) {
                    Next::Call(call) => {
                        prop_assert!(!under_way.iter().any(|(_, c)| *c == call), "equal calls at once");
                        under_way.push((now + Duration::from_millis(call_ms), call));
                        sent.push(now.as_millis());
                    }
                    Next::Wait(_, wait) => {
                        for waiter in queue.shed(now + wait, High) {
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
        prop_assert!(queue.is_empty());
    }

    /// However many calls others have waiting, an owner's first call is sent before any other owner's second.
    #[test]
    fn nobody_starves(counts in proptest::collection::vec(1_u32..12, 1..20)) {
        // Enough at a time that nobody is refused for want of time.
        let mut queue = new_queue(8, 1_000);
        let counts: Vec<(u32, u32)> = (0..).zip(counts).collect();
        for (owner, count) in &counts {
            for n in 0..*count {
                queue.add(start(), (*owner, n), High, n).unwrap();
            }
        }
        let mut served: HashMap<u32, u32> = HashMap::new();
        while let Some(call) = queue.next_call(start()) {
            queue.finish(start(), &call);
            *served.entry(call.0).or_default() += 1;
            for (owner, count) in &counts {
                let had = served.get(owner).copied().unwrap_or(0);
                prop_assert!(had == *count || served.values().all(|other| *other <= had + 1));
            }
        }
    }
}
