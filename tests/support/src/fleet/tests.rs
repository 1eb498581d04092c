//! How a run is judged and told. Boxes and owners are tried against the real server, in `tests/it`.

use serde_json::json;

use super::*;
use crate::report::Judged as _;

fn told(name: &str, calls: u64) -> DayReport {
    DayReport {
        name: name.into(),
        boxes: 10,
        served: 10,
        consumers: 8,
        consumer_calls: calls,
        data_calls: calls,
        requests: [("consumption".to_owned(), 10)].into(),
        ..DayReport::default()
    }
}

fn report(days: Vec<DayReport>) -> Report {
    Report { days, ..Report::new(&Plan::new("none")) }
}

/// What makes a good run bad.
type Change = fn(&mut Report);

#[test]
fn each_requirement_is_judged() {
    let good = || report(vec![told("day 1", 24), told("day 2", 16), told("day 3", 16)]);
    assert!(good().passed(), "{}", good());
    assert_eq!(good().verdicts().len(), 4);
    assert_eq!(report(vec![told("day 1", 99)]).verdicts().len(), 3, "the first day may cost more");
    let cases: [(&str, Change); 5] = [
        ("every box is served, every day", |bad| bad.days[0].served = 9),
        ("no box stops for good", |bad| bad.days[1].disabled = 1),
        ("Enedis never answers 429 for its quota", |bad| bad.days[2].throttled = 1),
        ("at most 2.1 data calls per meter that only consumes, from day 2 on", |bad| {
            bad.days[2].consumer_calls = 17;
        }),
        ("the same day asked again costs no call", |bad| bad.again = Some(told("again", 1))),
    ];
    for (requirement, change) in cases {
        let mut bad = good();
        change(&mut bad);
        let failed = bad.verdicts().into_iter().filter(|verdict| !verdict.pass);
        assert_eq!(failed.map(|verdict| verdict.requirement).collect::<Vec<_>>(), [requirement]);
    }
    let mut enough = good();
    enough.again = Some(told("again", 0));
    enough.days[1].outage = Some(OutageReport { kind: "500".into(), data_calls: 7 });
    assert!(enough.passed(), "{enough}");
}

#[test]
fn a_report_is_read_by_people_and_programs() {
    let mut report = report((1..=7).map(|number| told(&format!("day {number}"), 16)).collect());
    report.days[1].outage = Some(OutageReport { kind: "down".into(), data_calls: 7 });
    report.server_said = [("WARN enedis is slow".to_owned(), 4)].into();
    let text = report.to_string();
    assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
    for part in ["2.00", "meanwhile 7 calls for data", "4 times: WARN enedis is slow"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let json = report.to_json();
    assert_eq!((&json["passed"], json["verdicts"].as_array().map(Vec::len)), (&json!(true), Some(4)));
    assert_eq!(
        (&json["days"][1]["outage"]["data_calls"], &json["days"][0]["served"]),
        (&json!(7), &json!(10))
    );
}

#[tokio::test]
async fn plans_that_cannot_be_judged_are_refused() {
    let plan = || Plan::new("none");
    for wrong in [
        Plan { boxes: 0, ..plan() },
        Plan { days: 0, ..plan() },
        Plan { days: 1, outage: Some(Outage::Down), ..plan() },
        Plan { speed: 0.5, ..plan() },
    ] {
        assert!(matches!(run(wrong).await, Err(RunError::Plan(_))));
    }
}
