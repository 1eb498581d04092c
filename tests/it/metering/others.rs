//! Whoever has shown by the v2 page whose meter it is sees which boxes read it, and ends those that they do not want.

use testkit::enedis::Options;
use testkit::person::{Choice, Person, Visit};

use super::{Linked, deliver, link};
use crate::fixture::{Plan, Store, World};
use crate::journey::on_both_stores;

on_both_stores!(a_household_ends_a_box_that_it_does_not_want);

const LIST: &str = "Autres appareils qui lisent ce compteur";

/// A box that was linked ten days ago, and the last page of a consent of today, which lists it.
async fn two_boxes(world: &World) -> (Linked, Linked, Person, Visit) {
    let today = world.enedis.today();
    world.enedis.set_today(Some(today.plus(-10)));
    let old = link(world).await;
    assert_eq!(old.refresh().await.status, 200);
    world.enedis.set_today(Some(today));
    let (device, person) = (world.device().await, Person::new());
    let page = person.link(device.code().link(), Choice::Allow).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.html);
    (old, deliver(device).await, person, page)
}

async fn a_household_ends_a_box_that_it_does_not_want(store: Store) {
    let plan = Plan::metering(store, Options::default(), 2).await;
    let world = plan.env("CLIENT_NAMES", "simulated-client=La box de Paul").start().await;
    let (old, new, person, page) = two_boxes(&world).await;
    for told in [LIST, "La box de Paul", "le même que vous", "à l’instant"] {
        assert!(page.html.contains(told), "{told}: {}", page.html);
    }
    assert_eq!(page.html.matches("name=\"box\"").count(), 1, "not the one that was linked just now");
    let page = person.click(&page, "Retirer").await.unwrap();
    assert_eq!((page.status, page.html.contains(LIST)), (200, false), "{}", page.html);
    assert_eq!(page.chain[0].status, 303, "a reload ends nothing again");
    assert_eq!(old.refresh().await.error(), Some("invalid_grant"));
    assert_eq!(new.refresh().await.status, 200);
    let audit = String::from_utf8(world.builder.run(["audit", "--json"]).unwrap().stdout).unwrap();
    assert_eq!(audit.matches("by the owner").count(), 1, "{audit}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_ends_a_box() {
    let world = Plan::metering(Store::Sqlite, Options::default(), 2).await.start().await;
    let (old, new, person, page) = two_boxes(&world).await;
    let field = |name: &str| {
        let found = page.document.forms[0].fields.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone()).unwrap()
    };
    let (id, proof) = (field("box"), field("proof"));
    let zeros = "0".repeat(32);
    // Without the proof, with another's, or of another box.
    for forged in [
        [("proof", ""), ("box", &*id)],
        [("proof", &zeros), ("box", &id)],
        [("proof", &proof), ("box", &zeros)],
    ] {
        assert_eq!(person.submit(&page, 0, &forged).await.unwrap().status, 400, "{forged:?}");
    }
    assert_eq!(person.submit(&page, 0, &[("box", "x")]).await.unwrap().status, 400);
    // Another browser, with all that this one was shown.
    let stranger = Person::new();
    stranger.open(&world.url("/device")).await.unwrap();
    assert_eq!(stranger.submit(&page, 0, &[]).await.unwrap().status, 400);
    // One that has a fresh consent of its own, with this one's button.
    let (device, other) = (world.device().await, Person::new());
    world.enedis.set_today(Some(world.enedis.today().plus(1)));
    let theirs = other.link(device.code().link(), Choice::Allow).await.unwrap();
    assert_eq!(theirs.status, 200, "{}", theirs.html);
    let forged = [("box", &*id), ("proof", &*proof)];
    assert_eq!(other.submit(&theirs, 0, &forged).await.unwrap().status, 400);
    // A link does nothing, and a state that is nobody's neither.
    let link = format!("{}&box={id}&proof={proof}", page.url);
    assert_eq!(person.open(&link).await.unwrap().status, 200);
    let mut elsewhere = page.clone();
    elsewhere.url.set_query(Some("state=0123456789abcdef0123456789abcdef"));
    assert_eq!(person.submit(&elsewhere, 0, &[]).await.unwrap().status, 400);
    for linked in [&old, &new] {
        assert_eq!(linked.refresh().await.status, 200);
    }
}

/// What the v1 page returns shows nothing of whose meter it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_v1_page_lists_nothing() {
    let world = Plan::metering(Store::Sqlite, Options::default(), 1).await.start().await;
    let (_, _, _, page) = two_boxes(&world).await;
    assert!(!page.html.contains(LIST) && !page.html.contains("name=\"box\""), "{}", page.html);
}
