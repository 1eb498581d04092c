//! What Enedis says of single meters: refusals of one direction, better and worse answers, trouble of a meter's own, the day of
//! its activation.

use super::*;

/// The load curve of yesterday, in this direction.
fn yesterday_of(universe: &Universe, resource: Resource) -> MeterRequest {
    let today = today(universe.clock.now());
    MeterRequest { resource, meter: meter(1), range: DayRange::new(plus(today, -1), today).unwrap() }
}

#[test]
fn a_direction_that_is_refused_alone_has_no_data_and_costs_the_box_nothing() {
    let none = Relayed::Error(DataError::no_data());
    let (cons, prod) = (Resource::ConsumptionCurve, Resource::ProductionCurve);
    for (refused, answered) in [(cons, prod), (prod, cons)] {
        universe(async |universe| {
            let flow = Flow::with(universe, RelaySettings { mode: ApiMode::Auto, ..SETTINGS });
            let kind = if refused == cons {
                |r: MeterRequest| !r.resource.is_production()
            } else {
                |r: MeterRequest| r.resource.is_production()
            };
            flow.enedis.to(&Api::ALL, kind, &Verdict::ConsentRefused { code: "ADAM-DC-0008".into() });
            let mut flow = flow;
            for day in 0..12 {
                // The plugin's order, and once more in an hour after a day on which it was told 503.
                for hour in 0..2 {
                    let told = [cons, prod].map(|resource| yesterday_of(universe, resource));
                    let told = [flow.read(told[0]).await, flow.read(told[1]).await];
                    let [told, other] =
                        if refused == cons { told } else { [told[1].clone(), told[0].clone()] };
                    assert!(is_answer(&other, 1), "{answered:?} on day {day}: {other:?}");
                    let early = day == 0 && hour == 0 && refused == cons;
                    assert!(early || told == none, "{refused:?} on day {day}: {told:?}");
                    pass(3_600).await;
                }
                flow = flow.restarted(RelaySettings { mode: ApiMode::Auto, ..SETTINGS }).await;
                pass(22 * 3_600).await;
            }
            // A new consent, which Enedis knows of: the next question of another day is answered.
            flow.enedis.recover();
            pass(24 * 3_600).await;
            assert!(is_answer(&flow.read(yesterday_of(universe, refused)).await, 1));
        });
    }
}

#[test]
fn a_consent_that_is_missing_in_one_api_only_is_no_refusal() {
    universe(async |universe| {
        let flow = Flow::with(universe, RelaySettings { mode: ApiMode::Auto, ..SETTINGS });
        let refused = Verdict::ConsentRefused { code: "ADAM-DC-0007".into() };
        flow.enedis.always(&[Api::New], &refused);
        for day in 0..8 {
            let told = flow.read(yesterday_of(universe, Resource::ConsumptionCurve)).await;
            assert!(is_answer(&told, 1), "day {day}: {told:?}");
            pass(86_400).await;
        }
        // While the other one has trouble, nothing is counted.
        flow.enedis.to(&[Api::Legacy], |_| true, &Verdict::Down { retry_at: None });
        for _ in 0..8 {
            let told = flow.read(yesterday_of(universe, Resource::ConsumptionCurve)).await;
            assert!(matches!(told, Relayed::Busy { .. } | Relayed::Unavailable { .. }), "{told:?}");
            pass(86_400).await;
        }
        flow.enedis.recover();
        flow.enedis.always(&[Api::New], &refused);
        assert!(is_answer(&flow.read(yesterday_of(universe, Resource::ConsumptionCurve)).await, 1));
    });
}

/// Values of a call, as `change` makes them.
fn changed(request: MeterRequest, change: impl FnOnce(&mut Reading)) -> Verdict {
    let mut reading = hourly_reading(request.range);
    change(&mut reading);
    Verdict::Values(reading)
}

#[test]
fn a_worse_answer_never_replaces_a_better_one() {
    let worse: [fn(MeterRequest) -> Verdict; 3] = [
        |_| Verdict::DataError(DataError::no_data()),
        // A curve full of nulls.
        |call| changed(call, |reading| reading.points.clear()),
        // Ten hours of each day.
        |call| {
            changed(call, |reading| {
                let mut n = 0;
                reading.points.retain(|_| {
                    n += 1;
                    (n - 1) % 24 < 10
                });
            })
        },
    ];
    for (case, worse) in worse.into_iter().enumerate() {
        universe(async |universe| {
            let (flow, week) = (Flow::start(universe), days(1, 7));
            assert!(is_answer(&flow.read(week).await, 7));
            for day in 0..4 {
                pass(86_400).await;
                // What is asked anew brings days of that week along.
                let yesterday = yesterday_of(universe, Resource::ConsumptionCurve);
                let range = DayRange::new(plus(yesterday.range.end(), -7), yesterday.range.end()).unwrap();
                flow.enedis.will_say(AT_ONCE, [worse(yesterday.with_range(range))]);
                let told = flow.read(yesterday).await;
                let points = if let Relayed::Answer(body) = &told { body.matches("540").count() } else { 0 };
                assert_eq!(points, if case == 2 { 10 } else { 0 }, "case {case}: {told:?}");
                let calls = flow.calls();
                assert!(is_answer(&flow.read(week).await, 7), "case {case}, day {day}");
                assert_eq!(flow.calls(), calls, "they are known");
            }
        });
    }
}

#[test]
fn a_correction_replaces_but_nothing_raw_replaces_it() {
    universe(async |universe| {
        let flow = Flow::start(universe);
        assert!(is_answer(&flow.read(days(1, 1)).await, 1));
        let mut flow = flow;
        for (quality, value, told) in [("BEST", "541", "541"), ("BRUT", "542", "541")] {
            pass(21 * 3_600).await;
            flow = flow.restarted(SETTINGS).await;
            let request = days(1, 1);
            flow.enedis.will_say(
                AT_ONCE,
                [changed(request, |reading| {
                    reading.quality = quality.to_owned();
                    for point in &mut reading.points {
                        point.value = value.to_owned();
                    }
                })],
            );
            let Relayed::Answer(body) = flow.read(request).await else { panic!("no values") };
            assert_eq!(body.matches(told).count(), 24, "{quality} {value}: {body}");
        }
    });
}

#[test]
fn raw_values_are_asked_for_once_more_after_a_month_at_night() {
    universe(async |universe| {
        let mut flow = Flow::start(universe);
        let first = today(START);
        for _ in 0..38 {
            // A box asks at noon for yesterday, and there is a restart in the evening.
            assert!(is_answer(&flow.read(yesterday_of(universe, Resource::ConsumptionCurve)).await, 1));
            pass(86_400).await;
            flow = flow.restarted(SETTINGS).await;
        }
        let asked: Vec<_> = flow.enedis.asked().into_iter().zip(flow.enedis.asked_at()).collect();
        let again: Vec<_> =
            asked.iter().filter(|(call, at)| plus(call.range.end(), 25) < today(START + *at)).collect();
        assert_eq!(again.len(), 1, "{again:?}");
        let (call, at) = again[0];
        let hour = paris(START + *at).hour();
        assert!(!(6..22).contains(&hour), "{hour}");
        assert!(call.range.start() >= plus(first, -1) && call.range.day_count() <= 7, "{call:?}");
        assert_eq!(asked.len(), 39);
    });
}

#[test]
fn an_answer_without_values_is_remembered_as_none() {
    universe(async |universe| {
        let flow = Flow::start(universe);
        flow.enedis.to(&Api::ALL, |r| r.resource.is_production(), &Verdict::Values(Reading::default()));
        for _ in 0..6 {
            let range = days(1, 7).range;
            let asked = yesterday_of(universe, Resource::ProductionCurve).with_range(range);
            assert_eq!(flow.read(asked).await, Relayed::Error(DataError::no_data()));
            pass(3_600).await;
        }
        assert_eq!(flow.calls(), 1);
    });
}

#[test]
fn one_meters_trouble_is_its_own() {
    for mode in [ApiMode::New, ApiMode::Auto] {
        universe(async |universe| {
            let flow = Flow::with(universe, RelaySettings { mode, ..SETTINGS });
            flow.enedis.to(&Api::ALL, |r| r.meter == meter(1), &Verdict::Down { retry_at: None });
            for n in 0..30 {
                let told = flow.read(days(1, 1)).await;
                assert!(matches!(told, Relayed::Busy { .. } | Relayed::Unavailable { .. }), "{told:?}");
                // Another one is served at once, by the API that is preferred.
                let before = (universe.elapsed(), flow.calls());
                assert!(is_answer(&flow.read(days(2 + n, 1)).await, 1), "{mode:?}");
                assert_eq!((universe.elapsed(), flow.calls()), (before.0, before.1 + 1), "{mode:?}");
                pass(10).await;
            }
            let in_vain = flow.calls() - 30;
            assert!(in_vain <= if mode == ApiMode::New { 5 } else { 10 }, "{mode:?}: {in_vain}");
            // For days: minutes, then hours.
            let before = flow.calls();
            for _ in 0..48 {
                flow.read(days(1, 1)).await;
                pass(3_600).await;
            }
            assert!(flow.calls() - before <= 30, "{mode:?}: {}", flow.calls() - before);
            // It is over within hours of its end.
            flow.enedis.recover();
            pass(6 * 3_600).await;
            assert!(is_answer(&flow.read(days(1, 1)).await, 1), "{mode:?}");
        });
    }
    // Alone as well: nobody else is answered in between.
    universe(async |universe| {
        let flow = Flow::with(universe, RelaySettings { mode: ApiMode::Auto, ..SETTINGS });
        flow.enedis.to(&Api::ALL, |r| r.meter == meter(1), &Verdict::Down { retry_at: None });
        for _ in 0..30 {
            flow.read(days(1, 1)).await;
            flow.read(MeterRequest { resource: Resource::DailyMaxPower, ..days(1, 1) }).await;
        }
        assert!(flow.calls() <= 8, "{}", flow.calls());
        assert!(is_answer(&flow.read(days(2, 1)).await, 1));
        assert_eq!(universe.elapsed(), AT_ONCE);
    });
}

#[test]
fn a_history_longer_than_the_meters_life_ends_with_every_day_there_is() {
    let early = DataError {
        status: 400,
        code: "ADAM-ERR0123".into(),
        cause: Cause::TooEarly,
        ..DataError::no_data()
    };
    for (resource, kind) in [
        (Resource::ConsumptionCurve, (|r| r.range.start() < plus(today(START), -20)) as Kind),
        (Resource::ProductionCurve, |r| r.range.start() < plus(today(START), -1)),
        (Resource::ProductionCurve, |r| r.range.start() < plus(today(START), -14)),
        (Resource::ConsumptionCurve, |_| true),
    ] {
        universe(async |universe| {
            let mut flow = Flow::start(universe);
            flow.enedis.to(&Api::ALL, kind, &Verdict::DataError(early.clone()));
            let mut costs = Vec::new();
            for _ in 0..3 {
                let before = flow.calls();
                let (mut end, mut found) = (today(START), 0);
                // Week by week into the past, as the plugin asks, until it is told that there is nothing.
                loop {
                    let range = DayRange::new(plus(end, -7), end).unwrap();
                    let told = flow.read(MeterRequest { resource, meter: meter(1), range }).await;
                    let Relayed::Answer(body) = told else {
                        let DataError { status, code, .. } = DataError::no_data();
                        assert!(
                            matches!(&told, Relayed::Error(e) if e.status == status && e.code == code),
                            "{told:?}"
                        );
                        break;
                    };
                    found += body.matches("540").count() / 24;
                    end = range.start();
                }
                let there_is = (1..30).filter(|n| !kind(days(1, *n))).count();
                assert_eq!(found, there_is);
                costs.push(flow.calls() - before);
                flow = flow.restarted(SETTINGS).await;
            }
            assert!(costs[0] <= 7 && costs[1..] == [0, 0], "{costs:?}");
            // Another day costs one call, or four where there is nothing.
            pass(86_400 + 3_600).await;
            let before = flow.calls();
            flow.read(yesterday_of(universe, resource)).await;
            assert!(flow.calls() - before <= 1);
        });
    }
}
