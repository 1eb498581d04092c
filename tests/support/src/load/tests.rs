use std::time::Duration;

use serde_json::json;

use super::flows::FlowTally;
use super::report::{Consents, Ending, Enedis, Polls, Report, Setup, Use};
use super::tally::{Tally, Times};
use super::world::{Cpu, Taken, quota};
use super::{LATE, LoadError, Mode, Plan, page};
use crate::enedis::{Counts, Endpoint};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Ten polls a second for two seconds, and a consent in each.
fn plan() -> Plan {
    Plan {
        devices: 50,
        rate: 10.0,
        consents: 1.0,
        length: Duration::from_secs(2),
        p99: Some(ms(50)),
        ..Plan::new("server", Mode::Polling)
    }
}

/// Every poll is answered within `latency`.
fn tally(latency: Duration) -> Tally {
    let mut tally = Tally::new(5);
    for slot in (0..20).map(|number| ms(100 * number)) {
        tally.send(slot + ms(1), ms(1), LATE);
        tally.answer(slot, slot + latency);
    }
    tally
}

fn flows() -> FlowTally {
    let mut times = Times::new();
    times.record(ms(5_000));
    let seconds = vec![[1, 0], [1, 0], [0, 2], [0, 0]];
    FlowTally { started: 2, completed: 2, whole: times.clone(), code: times, seconds, ..FlowTally::default() }
}

fn report(tally: &Tally, flows: &FlowTally, counts: &Counts) -> Report {
    let polls = Polls::new(&plan(), tally);
    let cpu = Cpu { server: ms(1), own: ms(2), machine: ms(1_003) };
    let taken = Taken { length: plan().length, resident: 12_000_000, cpu, seconds: vec![cpu; 2] };
    Report {
        setup: Some(Setup::new(50, ms(500), 50_000)),
        used: Use::new(&taken, Some(&polls)),
        polls: Some(polls),
        consents: Some(Consents::new(flows)),
        enedis: Enedis::new(&plan(), counts),
        ending: Ending { well: true, how: "exit status: 0".into() },
        ..Report::new(&plan())
    }
}

fn failed(report: &Report) -> Vec<&'static str> {
    report.verdicts().into_iter().filter(|verdict| !verdict.pass).map(|verdict| verdict.requirement).collect()
}

#[test]
fn each_requirement_is_judged() {
    let good = report(&tally(ms(5)), &flows(), &Counts::default());
    assert!(good.passed() && good.verdicts().len() == 7, "{good}");

    let slow = report(&tally(ms(60)), &flows(), &Counts::default());
    assert_eq!(failed(&slow), ["the p99 of polls is low"]);

    let mut wrong = tally(ms(5));
    wrong.fail(ms(70), "HTTP 503", || "HTTP 503: busy".into());
    assert_eq!(
        failed(&report(&wrong, &flows(), &Counts::default())),
        ["every poll is answered as it must be"]
    );

    let mut hasty = tally(ms(5));
    hasty.slow_down = 1;
    assert_eq!(
        failed(&report(&hasty, &flows(), &Counts::default())),
        ["every poll is answered as it must be"]
    );

    let mut closed = tally(ms(5));
    closed.reopened = 1;
    assert_eq!(failed(&report(&closed, &flows(), &Counts::default())), ["connections are kept"]);

    let mut asleep = tally(ms(5));
    asleep.lag.record(ms(500));
    assert_eq!(failed(&report(&asleep, &flows(), &Counts::default())), ["the load was really offered"]);

    let mut behind = tally(ms(5));
    behind.late = 1;
    assert_eq!(failed(&report(&behind, &flows(), &Counts::default())), ["the load was really offered"]);

    let mut crashed = report(&tally(ms(5)), &flows(), &Counts::default());
    crashed.ending = Ending { well: false, how: "signal: 6".into() };
    assert_eq!(failed(&crashed), ["the server ends when it is told to"]);

    let mut unfinished = flows();
    unfinished.completed = 1;
    let refused = Counts { throttled: [(Endpoint::Token, 1)].into(), ..Counts::default() };
    let failed = failed(&report(&tally(ms(5)), &unfinished, &refused));
    assert_eq!(failed, ["every consent ends with a token", "Enedis' quota is never exceeded"]);
}

#[test]
fn figures_are_those_of_the_time_that_load_was_offered() {
    let report = report(&tally(ms(5)), &flows(), &Counts::default());
    let polls = report.polls.as_ref().expect("polls");
    assert!((polls.rate_answered - 10.0).abs() < 1e-9);
    assert_eq!(polls.series.iter().map(|second| second.answered).collect::<Vec<_>>(), [10, 10]);
    assert_eq!(report.used.server_us_per_poll.map(f64::round), Some(50.0));
    assert!((report.used.other_cores - 0.5).abs() < 1e-9);
    assert_eq!(report.consents.as_ref().expect("consents").series, [[1, 0], [1, 0], [0, 2]]);
    let setup = report.setup.expect("a setup");
    assert!((setup.per_second - 100.0).abs() < 1e-9 && (setup.bytes_per_session - 1e3).abs() < 1e-9);
}

#[test]
fn answers_of_the_grace_count_for_no_rate() {
    // The last ten are answered in the third second, after the load.
    let late = report(&tally(ms(1_000)), &flows(), &Counts::default());
    let polls = late.polls.as_ref().expect("polls");
    assert_eq!(polls.series.iter().map(|second| second.answered).collect::<Vec<_>>(), [0, 10, 10]);
    assert!((polls.rate_answered - 5.0).abs() < 1e-9 && polls.answered == 20);
    assert_eq!(late.used.server_us_per_poll.map(f64::round), Some(100.0));
}

#[test]
fn a_report_is_read_by_people_and_programs() {
    let mut tally = tally(ms(5));
    tally.fail(ms(70), "HTTP 503", || "HTTP 503: <busy>".into());
    let mut report = report(&tally, &flows(), &Counts::default());
    report.server_said = [("WARN slow".to_owned(), 4)].into();
    let text = report.to_string();
    for part in
        ["first: HTTP 503: <busy>", "4 times: WARN slow", "50 devices offer 10 polls", "pass  ", "FAIL  "]
    {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let json = report.to_json();
    assert_eq!((&json["passed"], &json["polls"]["errors"]["kinds"]["HTTP 503"]), (&json!(false), &json!(1)));
    assert_eq!(json["polls"]["series"][1]["latency_ms"]["count"], 10);
    let html = page::page(&report).expect("a page");
    assert_eq!((html.matches("<svg").count(), html.matches("</svg>").count()), (6, 6));
    assert!(html.contains("&lt;busy&gt;") && !html.contains("<busy>"));
    // Nothing was answered: no plot of latencies, but still a page.
    report.polls = Some(Polls::new(&plan(), &Tally::new(2)));
    assert!(page::page(&report).is_ok());
}

#[test]
fn the_quota_has_room_for_the_consents() {
    let quota = |consents| quota(&Plan { consents, ..plan() });
    assert_eq!((quota(50.0).per_second, quota(50.0).per_hour), (Some(60), Some(1_920)));
    assert_eq!((quota(0.0).per_second, quota(0.0).per_hour), (Some(5), Some(1_000)));
}

#[test]
fn more_connections_than_descriptors_are_refused() {
    let plan = Plan { devices: 30_000, connections: 20_000, ..plan() };
    let told = plan.check_descriptors(Some(20_000)).expect_err("too many").to_string();
    assert!(told.contains("20000 connections are wanted, and 19500"), "{told}");
    assert!(plan.check_descriptors(Some(20_500)).is_ok() && plan.check_descriptors(None).is_ok());
    assert!(Plan { devices: 10, ..plan }.check_descriptors(Some(1_000)).is_ok());
    let checked = Plan { rate: 0.0, ..self::plan() }.check();
    assert!(matches!(checked, Err(LoadError::Plan(_))));
}
