//! Consumption and production are refused, activated and answered apart.

use testkit::enedis::{Endpoint, Meters, Options, Resource};
use testkit::person::{Choice, Person};
use testkit::plugin::{CLIENT_ID, Clock, FieldBox, Kind, Moment};

use super::{link, yesterday};
use crate::fixture::{PATIENCE, Plan, Store, World};

const APIS: [Endpoint; 2] = [Endpoint::DataV5, Endpoint::Data2026];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direction_that_is_refused_alone_has_no_data() {
    let (consumption, production) = (Resource::ConsumptionCurve, Resource::ProductionCurve);
    for (refused, answered) in [(production, consumption), (consumption, production)] {
        // Test client 6 has both directions.
        let options = Options { meters: Meters::Client(6), ..Options::default() };
        let world = Plan::metering(Store::Sqlite, options, 1).await.start().await;
        let linked = link(&world).await;
        let day = yesterday(&world.enedis);
        world.enedis.refuse(&linked.meters, refused, &APIS);
        assert_eq!(linked.read(&world, answered, day, 1).await.status, 200);
        for start in [day, day.plus(-9)] {
            let none = linked.read(&world, refused, start, 1).await;
            assert_eq!(none.outcome(), (404, Some("no_data_found")), "{refused:?}");
            // Days that are not known yet.
            assert_eq!(linked.read(&world, answered, day.plus(-9), 1).await.status, 200);
        }
        let calls = world.enedis.counts().of_meter(&linked.meters, refused);
        assert_eq!(calls, 2, "each API once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consent_that_one_api_does_not_know_is_served_by_the_other() {
    let world = Plan::metering(Store::Sqlite, Options::default(), 1).await.start().await;
    let linked = link(&world).await;
    let day = yesterday(&world.enedis);
    world.enedis.refuse(&linked.meters, Resource::ConsumptionCurve, &[Endpoint::Data2026]);
    for resource in [Resource::ConsumptionCurve, Resource::MaxPower] {
        assert_eq!(linked.read(&world, resource, day, 1).await.status, 200, "{resource:?}");
    }
    assert_eq!(world.enedis.counts().requests(Endpoint::DataV5), 2);
}

/// A world for boxes of the field, in front of the meter of a test client.
async fn field(client: u8) -> World {
    let options =
        Options { client_id: CLIENT_ID.into(), meters: Meters::Client(client), ..Options::default() };
    Plan::metering(Store::Sqlite, options, 1).await.start().await
}

/// A box of the field that wants so many days, linked by its owner.
async fn linked_box(world: &World, history_days: i64) -> (FieldBox, Clock) {
    let clock = Clock::new(Moment::at(world.enedis.today(), 10, 0), 10.0);
    let mut device =
        FieldBox::new(world.server.base_url(), &clock, |settings| settings.history_days = history_days);
    assert!(device.run_until(PATIENCE, |plugin| plugin.consent_path().is_some()).await);
    let link = world.url(&device.plugin().consent_path().unwrap());
    let page = Person::new().link(&link, Choice::Allow).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.html);
    (device, clock)
}

/// Lets the box go on until it has ended so many cycles well.
async fn served(device: &mut FieldBox, times: u64) {
    let done = |times| {
        move |plugin: &testkit::plugin::Plugin| {
            let outcomes = plugin.outcomes();
            outcomes.served >= times || outcomes.gave_up + outcomes.disabled > 0
        }
    };
    assert!(device.run_until(PATIENCE, done(times)).await, "{:?}", device.plugin().outcomes());
    let outcomes = device.plugin().outcomes();
    assert_eq!((outcomes.served, outcomes.gave_up, outcomes.disabled), (times, 0, 0), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_synchronisation_ends_with_every_day_there_is() {
    let world = field(6).await;
    let (point, day) = ("12655648759651", yesterday(&world.enedis));
    world.enedis.activate(point, Resource::ConsumptionCurve, day.plus(-19));
    world.enedis.activate(point, Resource::ProductionCurve, day.plus(-4));
    let (mut device, clock) = linked_box(&world, 60).await;
    served(&mut device, 1).await;
    let held = [false, true].map(|production| device.plugin().hours_held(point, production));
    assert_eq!(held, [20 * 24, 5 * 24]);
    // What is not there is not asked for again.
    let calls = world.enedis.counts().data_requests();
    device.plugin_mut().restart(clock.now());
    served(&mut device, 2).await;
    assert_eq!(world.enedis.counts().data_requests(), calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_box_never_notes_for_good_that_there_is_nothing() {
    // Only consumption, and only production.
    for (client, point, none) in
        [(0, "22516914714270", Kind::Production), (5, "24880057139941", Kind::Consumption)]
    {
        let world = field(client).await;
        let (mut device, clock) = linked_box(&world, 7).await;
        for cycle in 1..=2 {
            served(&mut device, cycle).await;
            assert_eq!(device.plugin().outcomes().requests[&none], cycle, "{none:?} is asked for each time");
            device.plugin_mut().restart(clock.now());
        }
        assert_eq!(device.plugin().hours_held(point, none == Kind::Consumption), 7 * 24);
    }
}
