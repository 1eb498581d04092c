//! How many sessions a registry holds, and which go when there is no room.

use std::rc::Rc;
use std::time::Duration;

use actors::device_flow::poll::PollAnswer;
use actors::device_flow::registry::IssueAnswer;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::universe::{pass, poll, request, universe};

#[test]
fn no_more_sessions_are_held_than_allowed() {
    universe(async |universe| {
        let registry = universe.registry_of(2);
        for _ in 0..2 {
            universe.issue(&registry).await;
        }
        assert!(matches!(registry.issue(universe.device(), request()).await, Ok(IssueAnswer::Full)));
        let snapshot = registry.snapshot().await.unwrap();
        assert_eq!((snapshot.sessions, snapshot.issued, snapshot.refused), (2, 2, 1));
        pass(602).await;
        universe.issue(&registry).await;
    });
}

#[test]
fn when_full_devices_that_never_came_back_go_first() {
    universe(async |universe| {
        let registry = universe.registry_of(3);
        let mut devices = Vec::new();
        for _ in 0..3 {
            devices.push(universe.issue(&registry).await.0);
        }
        assert!(matches!(poll(&registry, devices[0]).await, PollAnswer::Pending { .. }));
        // They may yet come: the first minute is theirs.
        pass(59).await;
        assert!(matches!(registry.issue(universe.device(), request()).await, Ok(IssueAnswer::Full)));
        pass(1).await;
        let mut news = Vec::new();
        for _ in 0..2 {
            news.push(universe.issue(&registry).await.0);
        }
        assert!(matches!(registry.issue(universe.device(), request()).await, Ok(IssueAnswer::Full)));
        assert!(matches!(poll(&registry, devices[0]).await, PollAnswer::Pending { .. }), "it polls");
        for device in news {
            assert!(matches!(poll(&registry, device).await, PollAnswer::Pending { .. }));
        }
        for device in &devices[1..] {
            assert_eq!(poll(&registry, *device).await, PollAnswer::Invalid);
        }
    });
}

#[test]
fn who_cannot_be_given_up_is_no_reason_to_wait() {
    universe(async |universe| {
        let registry = universe.registry_of(1);
        let (first, _) = universe.issue(&registry).await;
        pass(60).await;
        // Many want the same place: one gets it, and the others hear so.
        let wishes = (0..10).map(|_| registry.issue(universe.device(), request()));
        let answers = join_all(wishes).await;
        let issued = answers.iter().filter(|answer| matches!(answer, Ok(IssueAnswer::Issued(_)))).count();
        assert!(issued >= 1, "{answers:?}");
        assert_eq!(poll(&registry, first).await, PollAnswer::Invalid);
    });
}

#[test]
fn three_times_the_codes_that_a_store_takes_are_served_at_its_speed() {
    /// Groups are of 64 writes, one at a time.
    const GROUP: Duration = Duration::from_millis(400);
    const GROUPS: u32 = 150;
    universe(async |universe| {
        universe.store.slow_down(GROUP);
        let registry = Rc::new(universe.registry_of(100_000));
        let capacity = 64 * GROUPS;
        let asked = (0..3 * capacity).map(|n| {
            let (registry, device) = (Rc::clone(&registry), universe.device());
            async move {
                tokio::time::sleep(GROUP * n / (3 * 64)).await;
                let begun = Instant::now();
                (registry.issue(device, request()).await, begun.elapsed())
            }
        });
        let answers = join_all(asked).await;
        let issued = |answer: &_| matches!(answer, Ok(IssueAnswer::Issued(_)));
        let served = u32::try_from(answers.iter().filter(|(answer, _)| issued(answer)).count()).unwrap();
        assert!(served >= capacity * 9 / 10, "{served} of {capacity}");
        // Nobody waits long, and who is refused does not wait at all.
        let most =
            |is: bool| answers.iter().filter(|(answer, _)| issued(answer) == is).map(|(_, time)| *time).max();
        assert!(most(true).unwrap() <= Duration::from_secs(4), "{:?}", most(true));
        assert_eq!(most(false), Some(Duration::ZERO));
    });
}
