//! What a box, its owner and whoever wonders can see of the questions that were asked.

use reqwest::header::{ACCEPT_LANGUAGE, AUTHORIZATION};
use serde_json::{Value, json};
use testkit::enedis::{Endpoint, Fault, GeneratedMeters, Meters, Options, Resource};
use testkit::http::Answer;
use testkit::person::{Choice, Person};

use super::{Linked, link, world, yesterday};
use crate::fixture::{Plan, Store, World};

/// `GET /data/status`.
async fn asked(world: &World, token: &str, language: &str) -> Answer {
    let request = testkit::http::client().get(world.url("/data/status")).header(ACCEPT_LANGUAGE, language);
    let request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    Answer::read(request.send().await.unwrap()).await.unwrap()
}

fn ends(answer: &Answer) -> Vec<&str> {
    let questions = answer.json["meters"][0]["questions"].as_array().unwrap();
    questions.iter().map(|asked| asked["ended"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_box_learns_how_its_last_questions_ended() {
    let options = Options { meters: Meters::Generated(GeneratedMeters::consumers(9)), ..Options::default() };
    let world = Plan::metering(Store::Sqlite, options, 2).await.start().await;
    let day = yesterday(&world.enedis);
    let (first, other): (Linked, Linked) = (link(&world).await, link(&world).await);
    assert_eq!(ends(&asked(&world, &first.tokens.access, "fr").await), [""; 0]);
    assert_eq!(first.read(&world, Resource::ConsumptionCurve, day, 1).await.status, 200);
    // A fresh consent is refused, while others are answered.
    let refused = r#"{"error":"ADAM-DC-0007","error_description":"Le client n'est pas titulaire du point"}"#;
    let refuse = Fault::answer(403, &[("content-type", "application/json")], refused);
    for endpoint in [Endpoint::Data2026, Endpoint::DataV5] {
        world.enedis.script(endpoint, vec![refuse.clone(); 4]);
    }
    let refused = first.read(&world, Resource::MaxPower, day, 1).await;
    assert!(matches!(refused.status, 429 | 503), "{}", refused.body);
    let answer = asked(&world, &first.tokens.access, "en").await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(ends(&answer), ["not_ready", "values"], "{}", answer.body);
    let meter = &answer.json["meters"][0];
    assert_eq!(meter["usage_point_id"], *first.meters);
    let values = &meter["questions"][1];
    assert_eq!(
        (&values["path"], &values["start"], &values["end"], &values["told"]),
        (
            &json!("metering_data_clc/v5/consumption_load_curve"),
            &json!(day.to_string()),
            &json!(day.plus(1).to_string()),
            &json!("Enedis answered"),
        )
    );
    let told = asked(&world, &first.tokens.access, "fr").await;
    assert!(told.body.contains("Enedis n’est pas encore prêt"), "{}", told.body);
    // Nothing of another meter, and nothing for nobody.
    let theirs = asked(&world, &other.tokens.access, "fr").await;
    assert_eq!((ends(&theirs), theirs.body.contains(&first.meters)), (vec![], false), "{}", theirs.body);
    for token in ["", "short", &"0".repeat(64), &first.tokens.refresh] {
        assert_eq!(asked(&world, token, "fr").await.outcome(), (401, Some("invalid_token")), "{token}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_sees_the_last_questions_and_everybody_the_newest_day() {
    let world = world(Store::Sqlite, 2).await;
    let (today, day) = (world.enedis.today(), yesterday(&world.enedis));
    world.enedis.set_today(Some(today.plus(-10)));
    let old = link(&world).await;
    world.enedis.set_today(Some(today));
    assert_eq!(old.read(&world, Resource::ConsumptionCurve, day, 1).await.status, 200);
    let page = Person::new().link(world.device().await.code().link(), Choice::Allow).await.unwrap();
    for told in
        ["Dernières questions sur ce compteur", "Consommation, pas à pas, à l’instant", "Enedis a répondu"]
    {
        assert!(page.html.contains(told), "{told}: {}", page.html);
    }
    let status: Value =
        testkit::http::client().get(world.url("/status.json")).send().await.unwrap().json().await.unwrap();
    assert_eq!(status["days"][0]["day"], day.to_string(), "{status}");
    assert!(status["days"][0]["first_seen"].as_str().unwrap().ends_with('Z'), "{status}");
    let page = Person::new().open(&world.url("/status")).await.unwrap();
    assert!(page.html.contains(&format!("<dt>{day}</dt>")), "{}", page.html);
}
