//! Enedis' quota of a clock hour: kept by all instances together, and by whoever comes after a kill.

use std::time::{SystemTime, UNIX_EPOCH};

use testkit::device::Device;
use testkit::person::Choice;
use testkit::server::Server;

use crate::fixture::{CLIENT, Plan, Store, World};
use crate::journey::on_both_stores;

on_both_stores!(an_hour_is_one_for_all_instances_and_after_a_kill);

/// The key that instances share.
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

async fn an_hour_is_one_for_all_instances_and_after_a_kill(store: Store) {
    // All in one clock hour.
    let (used, after_kill, with_consents) = loop {
        let begun = hour();
        let counts = counts(store).await;
        if hour() == begun {
            break counts;
        }
    };
    // A tenth of 60 is kept for consents. An instance may hold one call that it has no use for.
    assert_eq!((used, after_kill), (54, 54));
    assert!((59..=60).contains(&with_consents), "{with_consents}");
}

fn hour() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "Enedis' hours are those of the clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs() / 3_600
}

/// Calls when refreshes have used up their part, when they have tried again after a kill, and when consents have used up
/// the rest.
async fn counts(store: Store) -> (usize, usize, usize) {
    let plan = Plan::new(store).await.env("SECRET_KEY", KEY);
    let mut world =
        plan.env("ENEDIS_CALLS_PER_HOUR", "60").env("ENEDIS_CALLS_PER_SECOND", "50").start().await;
    let second = if store == Store::Mongodb { Some(world.second(&[]).await) } else { None };
    let device = world.device().await;
    let mut token = world.link(&device).await.text("refresh_token").unwrap().to_owned();
    use_up(&world.server, second.as_ref(), &mut token).await;
    let used = calls(&world);
    world.server.kill9().unwrap();
    world.restart().await;
    use_up(&world.server, second.as_ref(), &mut token).await;
    let after_kill = calls(&world);
    loop {
        let device = world.device().await;
        match world.consent(&device, Choice::Allow).await.status {
            200 => {}
            status => {
                assert_eq!(status, 503);
                return (used, after_kill, calls(&world));
            }
        }
    }
}

fn calls(world: &World) -> usize {
    world.enedis.seen().token_requests.len()
}

/// Refreshes at all instances in turn until each refuses.
async fn use_up(first: &Server, second: Option<&Server>, token: &mut String) {
    let boxes: Vec<_> = [Some(first), second].into_iter().flatten().map(via).collect();
    let mut refused = vec![false; boxes.len()];
    for turn in (0..boxes.len()).cycle() {
        if refused.iter().all(|refused| *refused) {
            return;
        }
        let answer = boxes[turn].refresh(token, &[]).await.unwrap();
        match answer.status {
            200 => answer.text("refresh_token").unwrap().clone_into(token),
            429 | 503 => refused[turn] = true,
            _ => panic!("{}", answer.body),
        }
    }
}

fn via(server: &Server) -> Device {
    Device::new(format!("http://{}", server.listen()), CLIENT)
}
