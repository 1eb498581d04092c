//! A small fleet of boxes as they are in the field, over days: see [`testkit::fleet`]. `cargo fleet` runs a large one.
//! And a little load of each kind, see [`testkit::load`]: what is counted is tried here, not how long it takes.

use std::time::Duration;

use futures_util::future::join_all;
use testkit::fleet::{ApiMode, Authorize, Outage, Plan, Report, StoreKind, run};
use testkit::load;
use testkit::report::{Judged as _, RunError};

use crate::fixture::BINARY;

/// Ten boxes that arrive within five seconds on two days, and ask the second one again.
fn plan() -> Plan {
    Plan {
        boxes: 10,
        days: 2,
        arrive_within: Duration::from_secs(5),
        producer_every: 5,
        again: true,
        speed: 4.0,
        round_within: Duration::from_secs(120),
        ..Plan::new(BINARY)
    }
}

/// Runs all of `plans` at once, each with a server of its own, and expects every requirement to be met.
async fn all_pass(plans: Vec<Plan>) -> Vec<Report> {
    let reports = join_all(plans.into_iter().map(run)).await;
    let reports: Vec<_> = reports.into_iter().map(|report| report.unwrap()).collect();
    for report in &reports {
        assert!(report.passed(), "\n{report}");
    }
    reports
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boxes_are_served_on_both_apis_after_both_consent_pages_from_both_stores() {
    let variants = [
        (ApiMode::New, Authorize::V1, StoreKind::Sqlite),
        (ApiMode::New, Authorize::V2, StoreKind::Mongodb),
        (ApiMode::Legacy, Authorize::V1, StoreKind::Sqlite),
        (ApiMode::Legacy, Authorize::V2, StoreKind::Sqlite),
    ];
    let plans = variants.into_iter().map(|(api, authorize, store)| Plan { api, authorize, store, ..plan() });
    for report in all_pass(plans.collect()).await {
        let [first, second] = report.days.as_slice() else { panic!("two days") };
        assert_eq!(first.requests["device code"], 10, "codes are asked once:\n{report}");
        assert!(!second.requests.contains_key("poll") && second.requests["refresh"] >= 10, "\n{report}");
        assert_eq!((first.gave_up, second.gave_up, second.stuck), (0, 0, 0), "\n{report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boxes_outlive_an_enedis_out_of_order() {
    let outages = [Outage::Down, Outage::Errors, Outage::Night];
    let plans = outages.map(|outage| Plan { boxes: 6, again: false, outage: Some(outage), ..plan() });
    for report in all_pass(plans.to_vec()).await {
        let outage = report.days[1].outage.as_ref().unwrap();
        // Six boxes with three questions, each sent four times, are 72 questions; the server spares Enedis most.
        assert!(outage.data_calls <= 36, "\n{report}");
        assert!(report.owners_said.is_empty(), "\n{report}");
    }
}

/// 200 devices for three seconds, each polling every five, and four consents in them.
fn load() -> load::Plan {
    load::Plan {
        devices: 200,
        rate: Some(40.0),
        connections: 20,
        consents: 4.0 / 3.0,
        length: Duration::from_secs(3),
        ..load::Plan::new(BINARY)
    }
}

fn polled(report: &load::Report) {
    let polls = report.polls.as_ref().unwrap();
    let load::Tally { sent, answered, errors, slow_down, reopened, series, latency_ms, .. } = &polls.tally;
    assert_eq!((polls.offered, *sent, *answered), (120, 120, 120), "\n{report}");
    assert_eq!((errors.total(), *slow_down, *reopened), (0, 0, 0), "\n{report}");
    assert_eq!(series.iter().map(|second| second.answered).sum::<u64>(), 120);
    assert_eq!((latency_ms.count(), report.setup.unwrap().codes), (120, 200));
}

fn consented(report: &load::Report) {
    let consents = report.consents.as_ref().unwrap();
    assert_eq!((consents.started, consents.completed), (4, 4), "\n{report}");
    assert_eq!((consents.errors.total(), consents.whole_ms.count()), (0, 4), "\n{report}");
    assert_eq!((report.enedis.calls, report.enedis.throttled), (4, 0), "\n{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_poll_while_people_consent() {
    let report = load::run(&load()).await.unwrap();
    polled(&report);
    consented(&report);
    let json = report.to_json();
    assert_eq!((&json["polls"]["answered"], &json["consents"]["completed"]), (&120.into(), &4.into()));
    assert!(report.server_said.is_empty(), "\n{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_consent_on_mongodb() {
    let plan = load::Plan { devices: 0, store: StoreKind::Mongodb, ..load() };
    let report = load::run(&plan).await.unwrap();
    assert!(report.polls.is_none() && report.setup.is_none());
    consented(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_reconnect_for_each_poll() {
    let plan = load::Plan { consents: 0.0, reconnects: true, ..load() };
    let report = load::run(&plan).await.unwrap();
    polled(&report);
    assert!(report.consents.is_none());
}

#[tokio::test]
async fn loads_that_cannot_be_offered_are_refused() {
    for plan in [
        load::Plan { devices: 0, consents: 0.0, ..load() },
        load::Plan { connections: 0, ..load() },
        load::Plan { consents: -1.0, ..load() },
        load::Plan { length: Duration::ZERO, ..load() },
    ] {
        assert!(matches!(load::run(&plan).await, Err(RunError::Plan(_))));
    }
}
