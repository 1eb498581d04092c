//! Metering data: the same values from either API, and how few calls they cost.

use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use testkit::enedis::{Endpoint, Meters, Options, Resource};

use super::{Linked, METER, get, link, question, world, yesterday};
use crate::fixture::{PATIENCE, Plan, Store, World, eventually};
use crate::journey::on_both_stores;

on_both_stores!(what_is_known_costs_nothing_after_a_restart_either);

async fn on_api(mode: &str, options: Options) -> (World, Linked) {
    let world = Plan::metering(Store::Sqlite, options, 1).await.env("ENEDIS_API_MODE", mode).start().await;
    let linked = link(&world).await;
    (world, linked)
}

/// Test client 6 has both directions.
fn self_consumption() -> Options {
    Options { meters: Meters::Client(6), quirks: true, ..Options::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_apis_give_the_same_answers() {
    let (new, boxed_new) = on_api("new", self_consumption()).await;
    let (legacy, boxed_legacy) = on_api("legacy", self_consumption()).await;
    for resource in Resource::ALL {
        let start = yesterday(&new.enedis).plus(-6);
        let answers = [
            boxed_new.read(&new, resource, start, 7).await,
            boxed_legacy.read(&legacy, resource, start, 7).await,
        ];
        for answer in &answers {
            assert_eq!(answer.status, 200, "{resource:?} {}", answer.body);
            assert_eq!(answer.json["meter_reading"]["usage_point_id"], boxed_new.meters.as_str());
            assert_eq!(answer.json["meter_reading"]["start"], start.to_string());
            assert!(!answer.json["meter_reading"]["interval_reading"].as_array().unwrap().is_empty());
            assert!(answer.header("via").unwrap().starts_with("1.1 "), "as the original");
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            let length: usize = answer.header("content-length").unwrap().parse().unwrap();
            assert_eq!(length, answer.body.len());
        }
        let values = |answer: &testkit::http::Answer| -> Vec<(String, String)> {
            let points = answer.json["meter_reading"]["interval_reading"].as_array().unwrap();
            let text = |point: &Value, name: &str| point[name].as_str().unwrap().to_owned();
            points.iter().map(|point| (text(point, "date"), text(point, "value"))).collect()
        };
        assert_eq!(values(&answers[0]), values(&answers[1]), "{resource:?}");
        assert_eq!(
            answers[0].json["meter_reading"]["reading_type"],
            answers[1].json["meter_reading"]["reading_type"]
        );
    }
    assert_eq!(new.enedis.counts().requests(Endpoint::DataV5), 0);
    assert_eq!(legacy.enedis.counts().requests(Endpoint::Data2026), 0);
}

async fn what_is_known_costs_nothing_after_a_restart_either(store: Store) {
    let mut world = world(store, 1).await;
    let linked = link(&world).await;
    let day = yesterday(&world.enedis);
    for resource in [Resource::ConsumptionCurve, Resource::MaxPower] {
        let first = linked.read(&world, resource, day.plus(-6), 7).await;
        assert_eq!(first.status, 200, "{}", first.body);
        assert_eq!(linked.read(&world, resource, day.plus(-6), 7).await.body, first.body);
        assert_eq!(linked.read(&world, resource, day, 1).await.status, 200);
        // Today is not over, which Enedis need not be asked.
        assert_eq!(linked.read(&world, resource, day.plus(-3), 4).await.status, 200);
        assert_eq!(linked.read(&world, resource, day.plus(1), 1).await.status, 404);
        assert_eq!(world.enedis.counts().of_meter(METER, resource), 1, "{resource:?}");
    }
    // That there are no panels is an answer that is remembered as well.
    for _ in 0..3 {
        let none = linked.read(&world, Resource::ProductionCurve, day.plus(-6), 7).await;
        // Not Enedis' own code, by which the plugin would never ask again; its words.
        assert_eq!(none.outcome(), (404, Some("no_data_found")));
        assert!(none.text("error_description").unwrap().contains("direction"), "{}", none.body);
    }
    assert_eq!(world.enedis.counts().of_meter(METER, Resource::ProductionCurve), 1);
    // Only the days that are missing are asked for.
    assert_eq!(linked.read(&world, Resource::ConsumptionCurve, day.plus(-13), 14).await.status, 200);
    let asked = world.enedis.seen();
    let asked: Vec<_> =
        asked.api_requests.iter().filter(|r| r.path.contains("courbe_de_charge_conso")).collect();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].param("dateFin"), Some(day.plus(-6).to_string().as_str()));
    // What is remembered is written in its own time: an orderly stop leaves nothing out.
    let before = linked.read(&world, Resource::ConsumptionCurve, day.plus(-6), 7).await;
    world.server.stop(PATIENCE).await.unwrap();
    world.restart().await;
    let calls = world.enedis.counts().data_requests();
    assert_eq!(linked.read(&world, Resource::ConsumptionCurve, day.plus(-6), 7).await.body, before.body);
    let none = linked.read(&world, Resource::ProductionCurve, day.plus(-6), 7).await;
    assert_eq!(none.error(), Some("no_data_found"));
    assert_eq!(world.enedis.counts().data_requests(), calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_answers_at_once_are_not_made() {
    let world = world(Store::Sqlite, 1).await;
    let linked = link(&world).await;
    let day = yesterday(&world.enedis);
    let large = question(Resource::ConsumptionCurve, &linked.meters, day.plus(-62), 63);
    let asked = (0..12).map(|_| get(&world, &large, Some(&linked.tokens.access)));
    let statuses: Vec<_> =
        futures_util::future::join_all(asked).await.iter().map(|answer| answer.status).collect();
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
    assert!(statuses.iter().filter(|status| **status == 200).count() >= 2, "{statuses:?}");
    assert!(statuses.contains(&429), "{statuses:?}");
    // And when they have been read, there is room again; small ones are never in their way.
    let again = eventually("there is room again", || async {
        let answer = get(&world, &large, Some(&linked.tokens.access)).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert!(again.body.len() > 100_000);
    assert_eq!(linked.read(&world, Resource::ConsumptionCurve, day, 1).await.status, 200);
    assert!(world.enedis.counts().data_requests() <= 12);
}

/// Two connections hold both places of a meter, and take nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_gives_its_places_back() {
    let world = world(Store::Sqlite, 1).await;
    let linked = link(&world).await;
    let large = question(Resource::ConsumptionCurve, &linked.meters, yesterday(&world.enedis).plus(-62), 63);
    let token = &linked.tokens.access;
    // Nine calls of 5 a second: where two seconds' fall together at Enedis, it says "later".
    eventually("all is remembered", || async {
        let answer = get(&world, &large, Some(token)).await;
        (answer.status == 200).then_some(())
    })
    .await;
    let address = world.server.base_url().trim_start_matches("http://").to_socket_addrs().unwrap();
    let address = address.into_iter().find(SocketAddr::is_ipv4).unwrap();
    let stalled: Vec<_> = (0..2)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            // Small buffers on either side.
            socket.set_recv_buffer_size(2_048).unwrap();
            socket.set_tcp_mss(600).unwrap();
            socket.connect(&address.into()).unwrap();
            let head = format!(
                "GET /data/proxy{large} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
            );
            (&socket).write_all(head.as_bytes()).unwrap();
            socket
        })
        .collect();
    eventually("both places are taken", || async {
        let answer = get(&world, &large, Some(token)).await;
        (answer.status == 429).then_some(())
    })
    .await;
    eventually("there is room again", || async {
        let answer = get(&world, &large, Some(token)).await;
        (answer.status == 200).then_some(())
    })
    .await;
    drop(stalled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_server_needs_no_token() {
    let plan = Plan::metering(Store::Sqlite, Options::default(), 1).await;
    let world = plan.env("DISABLE_DATA_ENPOINT_AUTH", "true").start().await;
    world.enedis.grant(METER);
    let ask = question(Resource::MaxPower, METER, yesterday(&world.enedis), 1);
    assert_eq!(get(&world, &ask, None).await.status, 200);
}
