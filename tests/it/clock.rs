//! A machine whose wall clock jumps: nothing waits for hours, nothing that lives is called ended, nothing is deleted.

use testkit::device::Tokens;
use testkit::enedis::{Endpoint, Fault, Options, Resource};
use testkit::person::Choice;

use crate::fixture::{CLIENT, PATIENCE, Plan, Store, World, eventually};
use crate::journey::on_both_stores;
use crate::metering;

on_both_stores!(
    a_start_years_ahead_ends_nothing,
    a_jump_while_serving_stops_nothing,
    a_calendar_of_the_past_refuses_no_day,
    what_is_given_up_on_a_wrong_day_stays_so,
);

const FOUR_YEARS: &str = "126230400";

async fn jumps(world: &World) -> Option<f64> {
    world.metric("dfp_clock_jumps_total").await
}

async fn a_start_years_ahead_ends_nothing(store: Store) {
    let mut world = Plan::metering(store, Options::default(), 1).await.start().await;
    let linked = world.device().await;
    let tokens = Tokens::read(&world.link(&linked).await.json).unwrap();
    let form =
        [("grant_type", "refresh_token"), ("client_id", CLIENT), ("refresh_token", tokens.refresh.as_str())];
    let refresh = async || linked.post_form("/device/token", &form).await.unwrap();
    assert_eq!(refresh().await.status, 200);
    let pending = world.device().await;
    assert_eq!(jumps(&world).await, Some(0.0));
    world.server.end(PATIENCE).await.unwrap();

    let right = world.builder.clone();
    world.builder = right.clone().env("CLOCK_OFFSET_SECS", FOUR_YEARS);
    world.restart().await;
    assert_eq!(jumps(&world).await, Some(1.0));
    assert_eq!(world.metric("dfp_clock_reliable").await, Some(0.0));
    // Its consent has ended by this clock. That is nothing to erase tokens for.
    let answer = refresh().await;
    assert_eq!(answer.outcome(), (503, Some("temporarily_unavailable")));
    assert!(answer.retry_after().is_some());
    assert_eq!(pending.poll_once().await.unwrap().error(), Some("authorization_pending"));
    world.server.end(PATIENCE).await.unwrap();

    world.builder = right;
    world.restart().await;
    assert_eq!(jumps(&world).await, Some(1.0), "back is a jump as well");
    assert_eq!(refresh().await.status, 200);
    assert_eq!(world.consent(&pending, Choice::Allow).await.status, 200);
    assert_eq!(world.final_answer(&pending).await.status, 200);
}

async fn a_jump_while_serving_stops_nothing(store: Store) {
    let plan = Plan::new(store).await.env("ENEDIS_TIMEOUT_SECS", "2");
    let (machine, plan) = plan.on_machine();
    let mut world = plan.start().await;
    let device = world.device().await;
    // The circuit breaker opens, for some seconds.
    world.enedis.script(Endpoint::Token, vec![Fault::server_error(); 5]);
    eventually("the breaker opens", || async {
        (device.refresh("some-token", &[]).await.unwrap().status == 503).then_some(())
    })
    .await;
    machine.step(-7_200).unwrap();
    eventually("Enedis is asked again", || async {
        (device.refresh("some-token", &[]).await.unwrap().status != 503).then_some(())
    })
    .await;
    eventually("the jump is noticed", || async { jumps(&world).await.filter(|jumps| *jumps >= 1.0) }).await;
    machine.step(7_200).unwrap();
    eventually("and the other", || async { jumps(&world).await.filter(|jumps| *jumps >= 2.0) }).await;
    assert_eq!(device.poll_once().await.unwrap().error(), Some("authorization_pending"), "two hours later");
    let pending = world.device().await;
    assert_eq!(world.consent(&device, Choice::Allow).await.status, 200);
    assert_eq!(world.final_answer(&device).await.status, 200);
    // The next process has not been away for these hours.
    world.server.kill9().unwrap();
    world.restart().await;
    assert_eq!(pending.poll_once().await.unwrap().error(), Some("authorization_pending"));
}

async fn a_calendar_of_the_past_refuses_no_day(store: Store) {
    let (machine, plan) = Plan::metering(store, Options::default(), 1).await.on_machine();
    let world = plan.start().await;
    let linked = metering::link(&world).await;
    let day = metering::yesterday(&world.enedis);
    machine.step(-126_230_400).unwrap();
    let answer = linked.read(&world, Resource::DailyConsumption, day, 1).await;
    assert_eq!(answer.outcome(), (503, Some("temporarily_unavailable")), "{}", answer.body);
    machine.step(0).unwrap();
    assert_eq!(linked.read(&world, Resource::DailyConsumption, day, 1).await.status, 200);
}

async fn what_is_given_up_on_a_wrong_day_stays_so(store: Store) {
    let (machine, plan) = Plan::metering(store, Options::default(), 1).await.on_machine();
    let world = plan.start().await;
    let linked = metering::link(&world).await;
    machine.step(126_230_400).unwrap();
    let form = [("token", linked.tokens.refresh.as_str()), ("client_id", CLIENT)];
    assert_eq!(linked.device.post_form("/device/revoke", &form).await.unwrap().status, 200);
    machine.step(0).unwrap();
    assert_eq!(linked.refresh().await.outcome(), (400, Some("invalid_grant")));
}
