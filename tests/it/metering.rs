//! `FLOW=CLIENT_CREDENTIALS`: consents on both of Enedis' pages, tokens of our own, metering data from both of its APIs.

mod altered;
mod asked;
mod consent;
mod data;
mod directions;
mod examples;
mod gateway;
mod migration;
mod more;
mod others;
mod prefetch;
mod refusals;
mod strange_store;
mod tokens;

use reqwest::header::AUTHORIZATION;
use testkit::calendar::Day;
use testkit::device::{Device, Tokens};
use testkit::enedis::{Options, Resource, Simulator};
use testkit::http::Answer;
use testkit::person::Choice;

use crate::fixture::{Plan, Store, World};

/// The one meter of test client 0.
pub(crate) const METER: &str = "22516914714270";

/// A box that has its tokens.
pub(crate) struct Linked {
    pub(crate) device: Device,
    pub(crate) tokens: Tokens,
    meters: String,
}

/// A usual world of this flow.
async fn world(store: Store, version: u8) -> World {
    Plan::metering(store, Options::default(), version).await.start().await
}

/// Links a box: codes, consent, tokens.
pub(crate) async fn link(world: &World) -> Linked {
    let device = world.device().await;
    let page = world.consent(&device, Choice::Allow).await;
    assert_eq!(page.status, 200, "{}", page.html);
    deliver(device).await
}

/// The box of a consent given fetches its tokens.
async fn deliver(device: Device) -> Linked {
    let answer = device.poll_once().await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let tokens = Tokens::read(&answer.json).unwrap();
    let meters = answer.text("usage_points_id").unwrap().to_owned();
    Linked { device, tokens, meters }
}

impl Linked {
    /// Refreshes as the plugin does.
    pub(crate) async fn refresh(&self) -> Answer {
        self.refresh_as(&self.tokens.refresh, Some(&self.meters)).await
    }

    async fn refresh_as(&self, token: &str, meters: Option<&str>) -> Answer {
        let mut form = vec![
            ("grant_type", "refresh_token"),
            ("client_id", crate::fixture::CLIENT),
            ("refresh_token", token),
        ];
        form.extend(meters.map(|meters| ("usage_points_id", meters)));
        self.device.post_form("/device/token", &form).await.unwrap()
    }

    async fn get(&self, world: &World, path_and_query: &str) -> Answer {
        get(world, path_and_query, Some(&self.tokens.access)).await
    }

    /// Asks for days as the plugin does: from `start`, `days` of them.
    pub(crate) async fn read(&self, world: &World, resource: Resource, start: Day, days: i64) -> Answer {
        let meter = self.meters.split(',').next().unwrap();
        self.get(world, &question(resource, meter, start, days)).await
    }
}

/// The path and query of a question.
fn question(resource: Resource, meter: &str, start: Day, days: i64) -> String {
    format!("{}?start={start}&end={}&usage_point_id={meter}", resource.v5_path(), start.plus(days))
}

/// `GET /data/proxy` and `path_and_query`.
async fn get(world: &World, path_and_query: &str, token: Option<&str>) -> Answer {
    let mut request = testkit::http::client().get(world.url(&format!("/data/proxy{path_and_query}")));
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    Answer::read(request.send().await.unwrap()).await.unwrap()
}

/// The day before today, as Enedis sees it.
pub(crate) fn yesterday(enedis: &Simulator) -> Day {
    enedis.today().plus(-1)
}
