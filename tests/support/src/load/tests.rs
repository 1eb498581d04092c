use serde_json::json;

use super::flows::Consents;
use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Ten polls a second for two seconds, and a consent in each.
fn plan() -> Plan {
    Plan {
        devices: 50,
        rate: Some(10.0),
        consents: 1.0,
        length: Duration::from_secs(2),
        p99_ms: Some(50.0),
        ..Plan::new("server")
    }
}

/// Every poll is answered within `latency`.
fn tally(latency: Duration) -> Tally {
    let mut tally = Tally::new(Duration::from_secs(5));
    for slot in (0..20).map(|number| ms(100 * number)) {
        tally.send(slot + ms(1), ms(1));
        tally.receive(slot, slot + latency, &Answer::Pending);
    }
    tally
}

fn wrong(kind: &str, text: &str) -> Answer {
    Answer::Wrong(kind.into(), text.into())
}

fn consents() -> Consents {
    let mut times = Times::default();
    times.record(ms(5_000));
    let series = vec![[1, 0], [1, 0], [0, 2], [0, 0]];
    Consents {
        started: 2,
        completed: 2,
        whole_ms: times.clone(),
        code_ms: times,
        series,
        ..Consents::default()
    }
}

fn report(tally: Tally, consents: Consents, throttled: u64) -> Report {
    let polls = Polls::new(&plan(), tally);
    let cpu = Cpu { server: ms(1), own: ms(2), machine: ms(1_003) };
    Report {
        setup: Some(Setup::new(50, ms(500), 50_000)),
        used: Use::new((cpu, 12_000_000), plan().length, Some(&polls)),
        polls: Some(polls),
        consents: Some(consents.finished()),
        enedis: Enedis { calls: 2, throttled },
        ..Report::new(&plan())
    }
}

fn good() -> Report {
    report(tally(ms(5)), consents(), 0)
}

fn failed(report: &Report) -> Vec<&'static str> {
    report.verdicts().into_iter().filter(|verdict| !verdict.pass).map(|verdict| verdict.requirement).collect()
}

/// What makes a good run bad.
type Change = fn(&mut Tally);

#[test]
fn each_requirement_is_judged() {
    assert!(good().passed() && good().verdicts().len() == 6, "{}", good());
    let kept = "connections are kept";
    let answered = "every poll is answered as it must be";
    let offered = "the load was really offered";
    let polls: [(&str, Change); 6] = [
        ("the p99 of polls is low", |polls| *polls = tally(ms(60))),
        (answered, |polls| polls.receive(ms(0), ms(70), &wrong("HTTP 503", "busy"))),
        (answered, |polls| polls.slow_down = 1),
        (kept, |polls| polls.reopened = 1),
        (offered, |polls| polls.generator_lag_ms.record(ms(500))),
        (offered, |polls| polls.sent_late_by_generator = 1),
    ];
    for (requirement, change) in polls {
        let mut tally = tally(ms(5));
        change(&mut tally);
        assert_eq!(failed(&report(tally, consents(), 0)), [requirement]);
    }
    let unfinished = report(tally(ms(5)), Consents { completed: 1, ..consents() }, 1);
    assert_eq!(failed(&unfinished), ["every consent ends with a token", "Enedis' quota is never exceeded"]);
}

#[test]
fn figures_are_those_of_the_time_that_load_was_offered() {
    let good = good();
    assert_eq!(good.used.server_us_per_poll.map(f64::round), Some(50.0));
    assert!((good.used.other_cores - 0.5).abs() < 1e-9);
    assert_eq!(good.consents.as_ref().expect("consents").series, [[1, 0], [1, 0], [0, 2]]);
    let setup = good.setup.expect("a setup");
    assert!((setup.per_second - 100.0).abs() < 1e-9 && (setup.bytes_per_session - 1e3).abs() < 1e-9);
    // The last ten are answered in the third second, after the load, and count for no rate.
    let late = report(tally(ms(1_000)), consents(), 0);
    for (report, rate, series) in [(good, 10.0, vec![10, 10]), (late, 5.0, vec![0, 10, 10])] {
        let polls = report.polls.as_ref().expect("polls");
        assert!((polls.rate_answered - rate).abs() < 1e-9 && polls.tally.answered == 20);
        assert_eq!(polls.tally.series.iter().map(|second| second.answered).collect::<Vec<_>>(), series);
    }
}

#[test]
fn a_report_is_read_by_people_and_programs() {
    let mut tally = tally(ms(5));
    tally.receive(ms(0), ms(70), &wrong("HTTP 503", "busy"));
    let mut report = report(tally, consents(), 0);
    report.server_said = [("WARN slow".to_owned(), 4)].into();
    let text = report.to_string();
    for part in
        ["error: HTTP 503: busy", "4 times: WARN slow", "50 devices offer 10 polls", "pass  ", "FAIL  "]
    {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let json = report.to_json();
    assert_eq!((&json["passed"], &json["polls"]["errors"]["kinds"]["HTTP 503"]), (&json!(false), &json!(1)));
    assert_eq!(json["polls"]["series"][1]["latency_ms"]["count"], 10);
}

#[test]
fn the_quota_has_room_for_the_consents() {
    let quota = |consents| quota(&Plan { consents, ..plan() });
    assert_eq!((quota(50.0).per_second, quota(50.0).per_hour), (Some(60), Some(1_920)));
    assert_eq!((quota(0.0).per_second, quota(0.0).per_hour), (Some(5), Some(1_000)));
}
