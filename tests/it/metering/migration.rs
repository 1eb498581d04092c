//! A switch from the PHP server, rehearsed: its boxes come here in the middle of everything, and none is lost.

use std::time::Duration;

use ::mongodb::bson::{Bson, DateTime, Document, doc};
use ::mongodb::{Client, Collection};
use testkit::device::Tokens;
use testkit::enedis::{Options, Resource};
use testkit::mongod::{Kind, Mongod};

use super::{Linked, METER, get, question, yesterday};
use crate::fixture::{CLIENT, PATIENCE, Plan, Store, World};
use crate::journey::on_both_stores;

on_both_stores!(a_switch_from_the_php_server_loses_no_box);

/// The PHP server, as its database shows it.
struct Php {
    mongod: Mongod,
    cache: Collection<Document>,
}

impl Php {
    async fn start() -> Self {
        let mongod = Mongod::start(Kind::Standalone);
        let client = Client::with_uri_str(mongod.uri("php")).await.unwrap();
        let cache = client.default_database().unwrap().collection::<Document>("cache");
        Self { mongod, cache }
    }

    async fn set(&self, key: String, value: Bson, secs: i64) {
        let at = DateTime::from_millis(DateTime::now().timestamp_millis() + secs * 1_000);
        let set = doc! { "$set": { "value": value, "expireAt": at } };
        self.cache.update_one(doc! { "key": key }, set).upsert(true).await.unwrap();
    }

    /// What it keeps of the tokens of a box.
    async fn gives(&self, n: u8) -> Tokens {
        let [refresh, access] = [n, n ^ 0x80].map(|n| hex::encode([n; 32]));
        self.set(format!("refresh_token:{refresh}"), METER.into(), 100_000_000).await;
        self.set(format!("access_token:{access}"), METER.into(), 12_600).await;
        Tokens { access, refresh }
    }
}

fn linked(world: &World, tokens: Tokens) -> Linked {
    Linked { device: world.client(CLIENT), tokens, meters: METER.into() }
}

/// What a box does each morning: it refreshes, and reads with the new token.
async fn works(world: &World, of: &Linked) {
    let answer = of.refresh().await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.text("refresh_token"), Some(of.tokens.refresh.as_str()));
    let ask = question(Resource::MaxPower, METER, yesterday(&world.enedis), 1);
    let read = get(world, &ask, answer.text("access_token")).await;
    assert_eq!(read.status, 200, "{}", read.body);
}

async fn a_switch_from_the_php_server_loses_no_box(store: Store) {
    let php = Php::start().await;
    let mut boxes = Vec::new();
    for n in 1..=8 {
        boxes.push(php.gives(n).await);
    }
    let plan = Plan::metering(store, Options::default(), 1).await;
    let mut world = plan.env("IMPORT_MONGODB_URI", &php.mongod.uri("php")).start().await;
    world.enedis.grant(METER);
    let mut boxes: Vec<Linked> = boxes.into_iter().map(|tokens| linked(&world, tokens)).collect();
    let day = yesterday(&world.enedis);

    // Boxes of before, with whichever of their tokens they come first; nothing was imported.
    for n in [0, 1] {
        assert_eq!(boxes[n].read(&world, Resource::MaxPower, day, 1).await.status, 200);
        works(&world, &boxes[n]).await;
    }
    works(&world, &boxes[2]).await;
    assert_eq!(boxes[2].read(&world, Resource::MaxPower, day, 1).await.status, 200, "the token of before");
    let (none, others) = (
        boxes[2].refresh_as(&"0f".repeat(32), None).await,
        boxes[3].refresh_as(&boxes[3].tokens.refresh, Some("10284856584123")).await,
    );
    assert_eq!((none.error(), others.error()), (Some("invalid_grant"), Some("invalid_grant")));

    // The PHP server goes on giving tokens, and boxes with its codes poll here.
    boxes.push(linked(&world, php.gives(9).await));
    works(&world, &boxes[8]).await;
    let code = "7d".repeat(32);
    php.set(code.clone(), Bson::Document(doc! { "timestamp": 1, "status": "pending" }), 300).await;
    let poll = async || world.client(CLIENT).poll_code(&code).await.unwrap();
    assert_eq!(poll().await.error(), Some("authorization_pending"));
    let Tokens { access, refresh } = php.gives(10).await;
    let given = doc! { "access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": 12_600,
    "scope": "", "usage_points_id": METER };
    php.set(code.clone(), Bson::Document(doc! { "status": "complete", "token_response": given }), 120).await;
    let answer = poll().await;
    assert_eq!((answer.status, answer.text("usage_points_id")), (200, Some(METER)), "{}", answer.body);
    boxes.push(linked(&world, Tokens::read(&answer.json).unwrap()));
    works(&world, &boxes[9]).await;

    // What is revoked here stays so, although the PHP server has it still.
    let [gone, gone_too] = [boxes.remove(1), boxes.remove(1)];
    for revoked in [&gone, &gone_too] {
        let form = [("token", revoked.tokens.refresh.as_str()), ("client_id", CLIENT)];
        assert_eq!(revoked.device.post_form("/device/revoke", &form).await.unwrap().status, 200);
        assert_eq!(revoked.refresh().await.error(), Some("invalid_grant"));
    }

    // Its database is away: who is known here is served, nobody else is refused for good.
    php.mongod.pause().unwrap();
    let nobodys = "0f".repeat(32);
    let (refresh, read, unknown) = tokio::join!(
        boxes[4].refresh(),
        boxes[4].read(&world, Resource::MaxPower, day, 1),
        boxes[4].refresh_as(&nobodys, None)
    );
    for answer in [refresh, read, unknown] {
        assert_eq!(answer.outcome(), (503, Some("temporarily_unavailable")));
        assert!(answer.retry_after().is_some_and(|wait| wait > Duration::ZERO));
    }
    works(&world, &boxes[0]).await;
    php.mongod.resume().unwrap();
    works(&world, &boxes[4]).await;

    // The last step takes the rest, and the PHP server goes.
    let imported = world.builder.run(["import-php"]).unwrap();
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    php.mongod.kill().unwrap();
    world.builder = world.builder.clone().env("IMPORT_MONGODB_URI", "off");
    world.server.stop(PATIENCE).await.unwrap();
    world.restart().await;
    for of in &boxes {
        works(&world, of).await;
    }
    assert_eq!(boxes.len(), 8);
    assert_eq!(world.enedis.seen().consents_allowed, 0, "nobody consented again");
}
