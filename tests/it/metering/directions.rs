//! Consumption and production are refused, activated and answered apart.

use testkit::enedis::{Endpoint, Meters, Options, Resource};

use super::{link, yesterday};
use crate::fixture::{Plan, Store};

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
