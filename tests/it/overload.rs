//! More than the store can do: what need not be begun is refused at once, and the rest goes on.

use futures_util::future::join_all;
use rusqlite::Connection;
use testkit::device::Device;
use testkit::http::{Answer, client};
use testkit::mongod::{Kind, Mongod};

use crate::fixture::{CLIENT, Plan, Store, World, eventually};

/// Devices that ask for codes at once, and devices that have theirs.
const ASKING: usize = 100;
const PENDING: usize = 20;

async fn plan() -> Plan {
    Plan::new(Store::Sqlite).await.env("DEVICE_CODES_PER_MINUTE_PER_IP", "0")
}

async fn devices(world: &World, count: usize) -> Vec<Device> {
    join_all((0..count).map(|_| world.device())).await
}

/// Asks for a code: the status, and whether the answer says when to come back.
async fn ask(world: &World) -> (u16, bool) {
    let ask = client().post(world.url("/device/code")).form(&[("client_id", CLIENT)]);
    let answer = Answer::read(ask.send().await.unwrap()).await.unwrap();
    (answer.status, answer.retry_after().is_some())
}

/// The store stalls while codes are asked for: those are refused, and devices that have theirs notice nothing.
async fn a_stall_is_the_stores_alone<T>(world: World, stall: impl FnOnce() -> T, go_on: impl FnOnce(T)) {
    let pending = devices(&world, PENDING).await;
    let stalled = stall();
    let polls = async {
        eventually("codes wait for the store", || async {
            (world.metric("dfp_writer_queue").await? > 1.0).then_some(())
        })
        .await;
        for device in &pending {
            assert_eq!(device.poll_once().await.unwrap().error(), Some("authorization_pending"));
        }
    };
    let (refused, ()) = tokio::join!(join_all((0..ASKING).map(|_| ask(&world))), polls);
    assert_eq!(refused, [(503, true); ASKING]);
    go_on(stalled);
    eventually("codes are issued again", || async { (ask(&world).await.0 == 200).then_some(()) }).await;
    world.link(&pending[0]).await;
    world.link(&world.device().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_file_is_the_stores_alone() {
    let world = plan().await.start().await;
    let file = world.builder.data_path().join("sessions.sqlite");
    let lock = || {
        let lock = Connection::open(&file).unwrap();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        lock
    };
    a_stall_is_the_stores_alone(world, lock, drop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_mongodb_is_the_stores_alone() {
    let mongod = Mongod::start(Kind::Standalone);
    let world = plan().await.env("MONGODB_URI", &mongod.uri("overload")).start().await;
    a_stall_is_the_stores_alone(world, || mongod.pause().unwrap(), |()| mongod.resume().unwrap()).await;
}
