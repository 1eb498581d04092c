//! A little of everything that can go wrong, see [`testkit::faults`]; `cargo faults` has more of it.

use std::time::Duration;

use testkit::faults::{Guarantee, Plan, Scenario, Trouble, run};
use testkit::report::{Judged as _, RunError};
use testkit::world::StoreKind;

use crate::fixture::BINARY;

fn plan() -> Plan {
    Plan {
        scenarios: 4,
        length: Duration::from_secs(3),
        boxes: 6,
        waiters: 2,
        at_once: 4,
        ..Plan::new(BINARY)
    }
}

/// Plays `plan`, and expects every guarantee to hold, and to have been tried.
async fn nothing_is_lost(plan: Plan) {
    let report = run(plan).await.unwrap();
    assert!(report.passed(), "\n{report}");
    let tried: Vec<_> = report.guarantees.iter().filter(|(_, [looked, _])| *looked > 0).collect();
    assert!(tried.len() >= Guarantee::ALL.len() - 1, "\n{report}");
    assert!(!report.troubles.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_on_sqlite() {
    nothing_is_lost(plan()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_by_two_instances_on_mongodb() {
    nothing_is_lost(Plan { store: StoreKind::Mongodb, instances: 2, ..plan() }).await;
}

#[test]
fn a_seed_is_a_scenario() {
    let draw = |seed| Scenario::draw(&plan(), seed);
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
    assert!((3..=8).contains(&draw(7).strikes.len()));
}

#[tokio::test]
async fn plans_that_cannot_be_played_are_refused() {
    for wrong in [
        Plan { scenarios: 0, ..plan() },
        Plan { instances: 2, ..plan() },
        Plan { only: vec![Trouble::Cut], ..plan() },
        Plan { store: StoreKind::Mongodb, only: vec![Trouble::MemberCut], ..plan() },
    ] {
        assert!(matches!(run(wrong).await, Err(RunError::Plan(_))));
    }
}
