use std::cell::RefCell;
use std::collections::BTreeSet;

use jiff::civil::date;
use proptest::prelude::*;

use super::*;
use crate::testing::{meter, question};

const HOUR: Duration = Duration::from_secs(3_600);
const MIN: Duration = Duration::from_secs(60);
const FOREVER: Timestamp = Timestamp::from_millis(u64::MAX);
const CURVE: Resource = Resource::ConsumptionCurve;

/// So long after midnight in France on 30 November 2026.
fn at(hours: u64) -> Timestamp {
    Timestamp::from_millis(1_795_993_200_000) + HOUR * u32::try_from(hours).unwrap()
}

const TODAY: Date = date(2026, 11, 30);

fn of(n: u64, resource: Resource, lacks: Date, today: Date) -> Question {
    let request = MeterRequest { meter: meter(n), ..question(resource, lacks, today) };
    Question { request, consented: Timestamp::EPOCH, ends: FOREVER, is_proven: true, changed_since: None }
}

/// Boxes of these meters asked yesterday, and were given what they asked for.
fn of_yesterday(meters: std::ops::Range<u64>) -> Prefetch {
    let mut prefetch = Prefetch::new(true);
    for n in meters {
        let asked = of(n, CURVE, plus(TODAY, -2), plus(TODAY, -1));
        assert!(prefetch.asked(asked, plus(TODAY, -1)));
        prefetch.has(asked.request, plus(TODAY, -2));
        assert!(prefetch.given(asked.request, plus(TODAY, -2)));
    }
    assert!(matches!(prefetch.next(at(0), at(0)), Next::Restore));
    prefetch
}

/// What is asked at `now`, all at once.
fn asked(prefetch: &mut Prefetch, now: Timestamp) -> Vec<Want> {
    let mut wants = Vec::new();
    loop {
        match prefetch.next(now, now) {
            Next::Ask(want) if want.is_week => prefetch.ended(now, &want, End::Came),
            Next::Ask(want) => wants.push(want),
            Next::Claim(turn) => prefetch.claimed(now, turn, Some(true)),
            Next::Restore => {}
            Next::Wait(at) => {
                assert!(at.is_none_or(|at| at > now), "{at:?}");
                return wants;
            }
        }
    }
}

/// Lets time pass until `end`, answers every question at once, and tells which days were asked for, if it is on, else which
/// weeks, and when, in minutes since `begin`.
fn run(
    prefetch: &mut Prefetch,
    begin: Timestamp,
    end: Timestamp,
    answer: impl Fn(&Want, Timestamp) -> End,
) -> Vec<(u64, Want)> {
    let (mut now, mut log) = (begin, Vec::new());
    loop {
        let wake = match prefetch.next(now, now) {
            Next::Ask(want) => {
                if want.is_week == prefetch.is_on() {
                    prefetch.ended(now, &want, End::Came);
                    continue;
                }
                log.push((now.since(begin).as_secs() / 60, want));
                let end = answer(&want, now);
                prefetch.ended(now, &want, end);
                continue;
            }
            Next::Claim(turn) => {
                prefetch.claimed(now, turn, Some(true));
                continue;
            }
            Next::Restore => continue,
            Next::Wait(at) => at,
        };
        let Some(wake) = wake.filter(|wake| *wake < end) else { return log };
        assert!(wake > now);
        now = wake;
    }
}

#[test]
fn scouts_learn_the_hour_and_then_everybody_is_asked_once() {
    for published in [6, 7, 8, 10] {
        let mut prefetch = of_yesterday(0..200);
        let answer = |_: &Want, now| if now >= at(published) { End::Came } else { End::NotYet };
        let log = run(&mut prefetch, at(0), at(24), answer);
        let (early, rest): (Vec<_>, Vec<_>) = log.iter().partition(|(min, _)| *min < published * 60);
        assert!(early.iter().all(|(min, _)| *min >= 6 * 60), "not before six: {early:?}");
        assert_eq!(early.len() as u64, (published - 6) * 12, "one in five minutes");
        let mut meters: Vec<_> = rest.iter().map(|(_, want)| want.question.request.meter).collect();
        meters.sort_unstable();
        meters.dedup();
        assert_eq!((meters.len(), rest.len()), (200, 200), "each once");
        assert!(
            rest.iter().all(|(min, _)| *min <= published * 60 + 70),
            "none waits longer than a scout rests"
        );
        assert!(rest.iter().all(|(_, want)| want.day() == plus(TODAY, -1)));
    }
}

#[test]
fn what_is_known_without_a_call_is_no_scout() {
    let mut prefetch = of_yesterday(0..20);
    let knows = |want: &Want| want.question.request.meter.modulo(2) == 0;
    let answer = |want: &Want, _| if knows(want) { End::Known } else { End::NotYet };
    let log = run(&mut prefetch, at(0), at(7), answer);
    let asked: Vec<_> = log.iter().filter(|(_, want)| !knows(want)).map(|(min, _)| *min).collect();
    assert_eq!(asked, (0..10).map(|n| 360 + n * 5).collect::<Vec<_>>(), "one in five minutes");
}

#[test]
fn a_lone_meter_is_its_own_scout_and_late_ones_are_asked_again() {
    let mut prefetch = of_yesterday(0..1);
    let log = run(&mut prefetch, at(0), at(24), |_, now| if now >= at(9) { End::Came } else { End::NotYet });
    assert_eq!(log.iter().map(|(min, _)| *min / 60).collect::<Vec<_>>(), [6, 7, 8, 9]);
    let mut prefetch = of_yesterday(0..40);
    let late = |want: &Want| want.question.request.meter == meter(7);
    let log = run(&mut prefetch, at(0), at(30), |want, _| if late(want) { End::NotYet } else { End::Came });
    let tries: Vec<_> = log.iter().filter(|(_, want)| late(want)).map(|(min, _)| *min / 60).collect();
    assert_eq!(log.len() - tries.len(), 39);
    assert!((3..=5).contains(&tries.len()) && tries[0] == 6, "hours apart: {tries:?}");
}

#[test]
fn who_has_gone_without_is_first_and_then_who_was_refused() {
    let mut prefetch = of_yesterday(0..100);
    // This one's box was not given the day before yesterday, although it is there by now.
    let behind = of(100, CURVE, plus(TODAY, -3), plus(TODAY, -1));
    prefetch.asked(behind, plus(TODAY, -1));
    assert!(prefetch.refused(behind.request) && !prefetch.refused(behind.request));
    let night = run(&mut prefetch, at(0), at(5), |_, _| End::Came);
    let ranges: Vec<_> = night.iter().map(|(_, want)| want.question.request.range).collect();
    assert_eq!(ranges, [DayRange::new(plus(TODAY, -3), plus(TODAY, -1)).unwrap()], "both days of a night");
    prefetch.refused(of(50, CURVE, plus(TODAY, -1), TODAY).request);
    let morning = run(&mut prefetch, at(5), at(7), |_, _| End::Came);
    let meters: Vec<_> = morning.iter().map(|(_, want)| want.question.request.meter).take(2).collect();
    assert_eq!(meters, [meter(100), meter(50)]);
    assert!(prefetch.given(of(50, CURVE, plus(TODAY, -1), TODAY).request, plus(TODAY, -1)));
    assert!(!prefetch.given(of(50, CURVE, plus(TODAY, -1), TODAY).request, plus(TODAY, -1)), "once a day");
}

#[test]
fn a_box_gives_way_to_those_who_went_without_of_anything() {
    let mut prefetch = of_yesterday(0..4);
    // This one's box has its curve, and not its largest power, of which it asked for two days.
    let power = of(0, Resource::DailyMaxPower, plus(TODAY, -3), plus(TODAY, -1));
    prefetch.asked(power, plus(TODAY, -1));
    let of_today = |n| of(n, CURVE, plus(TODAY, -1), TODAY).request;
    // By night both days come, to a box that sleeps.
    run(&mut prefetch, at(0), at(5), |_, _| End::Came);
    assert!(!prefetch.gives_way(at(5), of_today(1)), "nobody has the new day");
    let overdue = RefCell::new(Vec::new());
    let answer = |want: &Want, now| {
        overdue.borrow_mut().push((want.is_overdue, want.question.request.meter));
        if now >= at(8) { End::Came } else { End::NotYet }
    };
    run(&mut prefetch, at(5), at(7) + MIN * 59, answer);
    prefetch.lines.publish();
    prefetch.lines.sort(|_| true);
    let morning = at(7) + MIN * 59;
    assert!(prefetch.gives_way(morning, of_today(1)) && prefetch.gives_way(morning, of_today(3)));
    assert!(!prefetch.gives_way(morning, of_today(0)), "its own curve neither waits");
    assert!(!prefetch.gives_way(morning, of_today(9)), "nor who is not known");
    prefetch.share(2);
    assert!(!prefetch.gives_way(morning, of_today(1)), "it is another's turn to fetch them");
    prefetch.share(1);
    overdue.take();
    run(&mut prefetch, at(8), at(9), answer);
    let overdue = overdue.into_inner();
    assert_eq!(overdue.len(), 5, "nobody rests who was tried before it was there: {overdue:?}");
    assert!(overdue.iter().all(|(is_overdue, of)| *is_overdue == (*of == meter(0))));
    assert!(overdue[..2].iter().all(|(is_overdue, _)| *is_overdue), "first: {overdue:?}");
    assert!(!prefetch.gives_way(at(8), of_today(1)), "nothing is left to be fetched before");
}

#[test]
fn who_does_not_ask_or_has_no_consent_is_not_asked_about() {
    let mut prefetch = of_yesterday(0..3);
    let ended = of(1, CURVE, plus(TODAY, -2), plus(TODAY, -1));
    prefetch.asked(Question { ends: at(5), ..ended }, plus(TODAY, -1));
    prefetch.forget(meter(2));
    let log = run(&mut prefetch, at(0), at(23), |_, _| End::Came);
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].1.question.request.meter, meter(0));
    // Nobody has asked for days.
    let log = run(&mut prefetch, at(24), at(24 * 9), |_, _| End::Came);
    assert!((2..=4).contains(&log.len()), "{log:?}");
    assert_eq!(prefetch.counts(), (0, 0));
    // The store says that it has gone.
    let mut prefetch = of_yesterday(0..1);
    assert_eq!(run(&mut prefetch, at(0), at(23), |_, _| End::Gone).len(), 1);
    assert_eq!(prefetch.counts(), (0, 0));
}

#[test]
fn trouble_of_one_meter_is_its_own_and_that_of_the_quota_everybodys() {
    let mut prefetch = of_yesterday(0..30);
    let until = |at| End::Later { until: at, is_own: true };
    let log = run(&mut prefetch, at(0), at(7), |want, now| {
        if want.question.request.meter == meter(3) { until(now + HOUR * 5) } else { End::Came }
    });
    assert_eq!(log.len(), 30);
    let mut prefetch = of_yesterday(0..30);
    let log = run(&mut prefetch, at(0), at(8), |_, now| {
        if now < at(7) { End::Later { until: at(7), is_own: false } } else { End::Came }
    });
    assert!(log.iter().filter(|(min, _)| *min < 7 * 60).count() <= 6, "not asked again and again");
    assert_eq!(log.iter().filter(|(min, _)| *min >= 7 * 60).count(), 30);
}

#[test]
fn a_restart_knows_who_asked() {
    let mut prefetch = Prefetch::new(true);
    let mut last = LastAsked::default();
    assert!(last.note(CURVE, plus(TODAY, -1)) && !last.note(CURVE, plus(TODAY, -1)));
    assert!(last.note(Resource::DailyMaxPower, plus(TODAY, -9)));
    let stored = serde_json::to_vec(&last).unwrap();
    assert_eq!(serde_json::from_slice::<LastAsked>(&stored).unwrap(), last);
    prefetch.restore(of(1, CURVE, plus(TODAY, -1), TODAY), &last, at(1));
    let wants = run(&mut prefetch, at(1), at(8), |_, _| End::Came);
    let days: Vec<_> = wants.iter().map(|(_, want)| (want.question.request.resource, want.day())).collect();
    assert_eq!(days, [(CURVE, plus(TODAY, -2)), (CURVE, plus(TODAY, -1))], "what is not asked for is not");
}

#[test]
fn one_of_several_instances_asks() {
    let mut instances = [of_yesterday(0..30), of_yesterday(0..30), of_yesterday(0..30)];
    let (mut taken, mut askers) = (BTreeSet::new(), Vec::new());
    for minute in 0..120 {
        for (n, prefetch) in instances.iter_mut().enumerate() {
            prefetch.share(3);
            let now = at(6) + MIN * minute + Duration::from_secs(20 * n as u64);
            // The first one is killed.
            if n == 0 && minute >= 45 {
                continue;
            }
            loop {
                match prefetch.next(now, now) {
                    Next::Ask(want) => {
                        askers.push((minute, n));
                        prefetch.ended(now, &want, End::NotYet);
                    }
                    Next::Claim(turn) => prefetch.claimed(now, turn, Some(taken.insert(turn))),
                    Next::Restore => {}
                    Next::Wait(_) => break,
                }
            }
        }
    }
    assert!(askers.windows(2).all(|two| two[0].0 != two[1].0 || two[0].1 == two[1].1), "{askers:?}");
    let first: BTreeSet<_> = askers.iter().filter(|(minute, _)| *minute < 45).map(|(_, n)| n).collect();
    assert_eq!(first.len(), 1, "who has the turn keeps it: {askers:?}");
    assert!(askers.iter().any(|(minute, n)| *minute > 60 && *n > 0), "another goes on: {askers:?}");
}

#[test]
fn switched_off_only_weeks_are_asked_for_once_more() {
    let mut prefetch = Prefetch::new(false);
    for n in 0..14 {
        prefetch.asked(of(n, CURVE, plus(TODAY, -1), TODAY), TODAY);
    }
    assert_eq!(asked(&mut prefetch, at(12)).len(), 0);
    let log = run(&mut prefetch, at(12), at(23), |_, _| End::Came);
    assert!(log.iter().all(|(_, want)| want.is_week && want.day() < plus(TODAY, -25)), "{log:?}");
    assert_eq!(log.len(), 2, "every seventh meter");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes: no meter is asked about twice at a time, none before its day can be there, none again that has it, and
    /// few at once; all that Enedis has is fetched by the evening.
    #[test]
    fn every_day_that_is_there_is_fetched_once(
        count in 1_u64..60, published in 6_u64..12, late in 0_u64..5, busy in 0_u64..4, ask in 0_u64..60,
    ) {
        let mut prefetch = of_yesterday(0..count);
        let (mut now, mut out, mut done) = (at(0), Vec::<Want>::new(), BTreeSet::new());
        let mut serial = 0;
        while now < at(23) {
            if now.since(at(9)) < MIN && ask < count {
                prefetch.asked(of(ask, CURVE, plus(TODAY, -1), TODAY), TODAY);
            }
            for want in asked(&mut prefetch, now) {
                let meter = want.question.request.meter;
                prop_assert!(now >= at(6) && want.day() == plus(TODAY, -1));
                prop_assert!(!done.contains(&meter), "{meter:?} is there");
                prop_assert!(out.iter().all(|other| other.question.request.meter != meter));
                out.push(want);
            }
            prop_assert!(out.len() <= AT_A_TIME);
            for want in std::mem::take(&mut out) {
                serial += 1;
                let n = want.question.request.meter;
                let is_late = n.modulo(5) < late && now < at(published + 4);
                let end = match () {
                    () if serial % 4 < busy => End::Later { until: now + MIN, is_own: serial % 2 == 0 },
                    () if now < at(published) || is_late => End::NotYet,
                    () => End::Came,
                };
                if end == End::Came {
                    done.insert(n);
                }
                prefetch.ended(now, &want, end);
            }
            now = now + MIN;
        }
        if busy == 0 {
            prop_assert_eq!(done.len() as u64, count);
        }
    }
}
