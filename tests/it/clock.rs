//! A machine whose wall clock jumps: nothing waits for hours, nothing that lives is called ended, nothing is deleted.

use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::device::Tokens;
use testkit::enedis::{Endpoint, Fault, Options};
use testkit::person::Choice;

use crate::fixture::{CLIENT, PATIENCE, Plan, Store, World, eventually};
use crate::journey::on_both_stores;

on_both_stores!(a_start_years_ahead_ends_nothing, a_jump_while_serving_stops_nothing);

const FOUR_YEARS: &str = "126230400";

/// Moves `CLOCK_REALTIME` of a process by the seconds that stand in the file `STEP_FILE`.
const STEPS: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    char text[32] = {0};
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int told = real(id, at);
    if (told != 0 || id != CLOCK_REALTIME) return told;
    int file = open(getenv("STEP_FILE"), O_RDONLY | O_CLOEXEC);
    if (file >= 0 && read(file, text, sizeof text - 1) > 0) at->tv_sec += atol(text);
    if (file >= 0) close(file);
    return told;
}
"#;

/// Builds it in `dir`.
fn steps(dir: &Path) -> PathBuf {
    let (source, library) = (dir.join("steps.c"), dir.join("steps.so"));
    std::fs::write(&source, STEPS).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
    assert!(compiler.status().expect("a C compiler").success());
    library
}

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
    let dir = plan.builder().data_path().to_owned();
    let steps_file = dir.with_file_name("step");
    let library = steps(steps_file.parent().unwrap());
    let step = |secs: &str| std::fs::write(&steps_file, secs).unwrap();
    let plan = plan.env("LD_PRELOAD", library.to_str().unwrap());
    let world = plan.env("STEP_FILE", steps_file.to_str().unwrap()).start().await;
    let device = world.device().await;
    // The circuit breaker opens, for some seconds.
    world.enedis.script(Endpoint::Token, vec![Fault::server_error(); 5]);
    eventually("the breaker opens", || async {
        (device.refresh("some-token", &[]).await.unwrap().status == 503).then_some(())
    })
    .await;
    step("-7200");
    eventually("Enedis is asked again", || async {
        (device.refresh("some-token", &[]).await.unwrap().status != 503).then_some(())
    })
    .await;
    eventually("the jump is noticed", || async { jumps(&world).await.filter(|jumps| *jumps >= 1.0) }).await;
    step("7200");
    eventually("and the other", || async { jumps(&world).await.filter(|jumps| *jumps >= 2.0) }).await;
    assert_eq!(device.poll_once().await.unwrap().error(), Some("authorization_pending"), "two hours later");
    assert_eq!(world.consent(&device, Choice::Allow).await.status, 200);
    assert_eq!(world.final_answer(&device).await.status, 200);
}
