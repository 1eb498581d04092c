//! Start, stop, and what survives either.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use testkit::device::Device;
use testkit::enedis::{Endpoint, Fault};
use testkit::person::Choice;
use testkit::server::Server;

use crate::fixture::{BINARY, CLIENT, PATIENCE, Plan, Store, World, eventually};
use crate::journey::on_both_stores;

on_both_stores!(
    kill_9_loses_nothing_that_was_answered,
    sigterm_under_load_answers_what_is_in_flight,
    a_consent_under_way_is_finished_before_the_end,
);

async fn kill_9_loses_nothing_that_was_answered(store: Store) {
    let mut world = World::start(store).await;
    let pending = world.device().await;
    let approved = world.device().await;
    assert_eq!(world.consent(&approved, Choice::Allow).await.status, 200);
    let denied = world.device().await;
    world.consent(&denied, Choice::Refuse).await;
    let delivered = world.device().await;
    world.consent(&delivered, Choice::Allow).await;
    let first = delivered.poll_once().await.unwrap();
    assert_eq!(first.status, 200);

    world.server.kill9().unwrap();
    world.restart().await;

    assert_eq!(pending.poll_once().await.unwrap().error(), Some("authorization_pending"));
    assert_eq!(approved.poll_once().await.unwrap().status, 200);
    assert_eq!(denied.poll_once().await.unwrap().error(), Some("access_denied"));
    assert_eq!(delivered.poll_once().await.unwrap().body, first.body);
    // And the pending one can still be completed.
    world.consent(&pending, Choice::Allow).await;
    assert_eq!(world.final_answer(&pending).await.status, 200);
    assert_eq!(world.enedis.seen().token_requests_of("authorization_code").count(), 3);
}

async fn sigterm_under_load_answers_what_is_in_flight(store: Store) {
    let world = World::start(store).await;
    let base = world.server.base_url().to_owned();
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    // Sixteen clients that ask for codes and poll as fast as they are answered.
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (base, stop, answered) = (base.clone(), Arc::clone(&stop), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut device = Device::new(base, CLIENT);
                let mut unanswered = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    match device.request_code(&[]).await {
                        Ok(_) => answered.fetch_add(1, Ordering::SeqCst),
                        Err(error) => {
                            unanswered.push(error);
                            break;
                        }
                    };
                    match device.poll_once().await {
                        Ok(answer) => assert!(answer.status < 500, "{}", answer.body),
                        Err(error) => {
                            unanswered.push(error);
                            break;
                        }
                    }
                }
                unanswered
            })
        })
        .collect();
    eventually("load", || async { (answered.load(Ordering::SeqCst) > 200).then_some(()) }).await;
    world.server.terminate().unwrap();
    let status = world.server.wait(PATIENCE).await.unwrap();
    stop.store(true, Ordering::SeqCst);
    assert_eq!(status.code(), Some(0), "{:?}", world.server.logs().last());
    for client in clients {
        for error in client.await.unwrap() {
            // A connection that could no longer be made is fine; a request that was taken and not answered is not.
            let text = format!("{error:?}");
            assert!(text.contains("Connect"), "{text}");
        }
    }
}

async fn a_consent_under_way_is_finished_before_the_end(store: Store) {
    let mut world = World::start(store).await;
    world.enedis.script(Endpoint::Token, [Fault::SlowAnswer(std::time::Duration::from_secs(1))]);
    let device = world.device().await;
    let consent = world.consent(&device, Choice::Allow);
    let terminate = async {
        eventually("Enedis is asked", || async {
            (world.enedis.token_requests_in_flight() > 0).then_some(())
        })
        .await;
        world.server.terminate().unwrap();
        world.server.wait(PATIENCE).await.unwrap()
    };
    let (page, status) = futures_util::future::join(consent, terminate).await;
    assert_eq!((page.status, status.code()), (200, Some(0)));
    world.restart().await;
    assert_eq!(device.poll_once().await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_serves_one_process() {
    let plan = Plan::new(Store::Sqlite).await;
    let second = plan.builder().clone().port(testkit::net::free_port().expect("a free port"));
    let world = plan.start().await;
    let error = second.start().await.expect_err("the second process must not start");
    assert!(
        matches!(&error, testkit::server::StartError::Exited { status, .. } if status.code() == Some(1)),
        "{error}"
    );
    drop(world);
}

#[test]
fn bad_settings_stop_the_start_with_64_and_all_their_names() {
    let builder = Server::builder(BINARY)
        .env("LISTEN", "somewhere")
        .env("DURATION", "forever-and-a-day")
        .env("SECRET_KEY", "my-secret-value")
        .env("WORKERS", "many");
    for command in [&["check-config"][..], &["serve"], &[]] {
        let output = builder.run(command).unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{text}");
        for name in ["LISTEN", "DURATION", "SECRET_KEY", "WORKERS"] {
            assert!(text.contains(name), "{name}: {text}");
        }
        assert!(!text.contains("my-secret-value") && !text.contains("forever"), "{text}");
    }
    let output = Server::builder(BINARY).run(["check-config"]).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(Server::builder(BINARY).run(["--nonsense"]).unwrap().status.code(), Some(64));
}

#[test]
fn a_port_in_use_is_exit_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output =
        Server::builder(BINARY).env("LISTEN", &address).env("ADMIN_LISTEN", "off").run(["serve"]).unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn healthcheck_tells_ready_from_gone() {
    let world = World::start(Store::Sqlite).await;
    let check = || world.builder.run(["healthcheck"]).unwrap().status.code();
    assert_eq!(check(), Some(0));
    world.server.terminate().unwrap();
    world.server.wait(PATIENCE).await.unwrap();
    assert_eq!(check(), Some(1));
    let alarms: Vec<_> = world
        .server
        .logs()
        .into_iter()
        .filter(|line| line.contains("ERROR") || line.contains("WARN"))
        .collect();
    assert_eq!(alarms, Vec::<String>::new(), "an orderly stop is no alarm");
}
