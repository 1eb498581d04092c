//! Secrets stay out of logs and stores: a whole journey with every kind of trouble, logged at the finest level, and
//! then a search for each secret that took part.

use std::path::Path;

use ::mongodb::Client;
use ::mongodb::bson::{Bson, Document};
use futures_util::TryStreamExt;
use testkit::device::Tokens;
use testkit::enedis::{Endpoint, Fault, GeneratedMeters, Meters, Options, Resource};
use testkit::http::Answer;
use testkit::person::{Choice, Person};

use crate::fixture::{CLIENT, Plan, SECRET, Store, World};
use crate::journey::on_both_stores;

on_both_stores!(no_secret_is_logged_or_stored, no_meter_and_no_token_of_ours_is_logged_or_stored);

async fn no_secret_is_logged_or_stored(store: Store) {
    let plan = Plan::new(store).await.without("CLIENT_SECRET").env("RUST_LOG", "trace").env("PKCE", "true");
    let world = plan.env("ENEDIS_TIMEOUT_SECS", "1").env("ENEDIS_DEADLINE_SECS", "3").start().await;
    let mut secrets = vec![SECRET.to_owned()];
    let faults = [
        Fault::NotJson,
        Fault::CutAfter,
        Fault::Hang,
        Fault::server_error(),
        Fault::oauth_error("invalid_grant"),
    ];
    for fault in faults.map(Some).into_iter().chain([None]) {
        world.enedis.script(Endpoint::Token, fault);
        let mut device = world.client(CLIENT);
        device.request_code(&[("client_secret", SECRET)]).await.unwrap();
        let person = Person::new();
        let page = person.link(device.code().link(), Choice::Allow).await.unwrap();
        secrets.extend(page.chain.iter().filter_map(|hop| hop.query("state")));
        secrets.extend(page.chain.iter().flat_map(|hop| {
            hop.headers.get_all("set-cookie").iter().filter_map(|cookie| {
                let value = cookie.to_str().ok()?.split(';').next()?.split('=').nth(1)?.to_owned();
                (value.len() > 20).then_some(value)
            })
        }));
        let answer = device.poll_once().await.unwrap();
        device
            .refresh(answer.text("refresh_token").unwrap_or("none"), &[("client_secret", SECRET)])
            .await
            .unwrap();
        device.post_form("/device/token", &[("device_code", &"x".repeat(20_000))]).await.unwrap();
        let code = device.code();
        secrets.push(code.device_code.clone());
        secrets.push(code.user_code.clone());
        secrets.push(code.user_code.replace('-', ""));
    }
    let seen = world.enedis.seen();
    secrets.extend(seen.secrets());
    secrets.extend(seen.token_requests.iter().filter_map(|r| r.field("code_verifier").map(str::to_owned)));
    assert!(secrets.len() > 30, "{}", secrets.len());
    search(&world, secrets).await;
}

async fn no_meter_and_no_token_of_ours_is_logged_or_stored(store: Store) {
    // Each consent is of another household.
    let options = Options { meters: Meters::Generated(GeneratedMeters::consumers(9)), ..Options::default() };
    let plan = Plan::metering(store, options, 2).await.env("RUST_LOG", "trace");
    let world = plan.env("ENEDIS_TIMEOUT_SECS", "1").env("ENEDIS_DEADLINE_SECS", "3").start().await;
    let mut secrets = vec![SECRET.to_owned()];
    let day = world.enedis.today().plus(-1);
    let faults =
        [Fault::server_error(), Fault::Html, Fault::not_subscribed(), Fault::oauth_error("ADAM-DC-0007")];
    for fault in faults.map(Some).into_iter().chain([None]) {
        let device = world.device().await;
        let page = world.consent(&device, Choice::Allow).await;
        assert_eq!(page.status, 200, "{}", page.html);
        let answer = device.poll_once().await.unwrap();
        let meter = answer.text("usage_points_id").unwrap();
        let tokens = Tokens::read(&answer.json).unwrap();
        world.enedis.script(Endpoint::Data2026, fault);
        for resource in Resource::ALL {
            let url = format!(
                "{}/data/proxy{}?start={}&end={day}&usage_point_id={meter}",
                world.server.base_url(),
                resource.v5_path(),
                day.plus(-7)
            );
            let request = reqwest::Client::new().get(url).bearer_auth(&tokens.access);
            let answer = Answer::read(request.send().await.unwrap()).await.unwrap();
            // What was measured is nobody's business either.
            secrets.extend(answer.json["meter_reading"]["interval_reading"].as_array().and_then(|points| {
                Some(format!(
                    "\"{}\",\"{}\"",
                    points.first()?["value"].as_str()?,
                    points.get(1)?["value"].as_str()?
                ))
            }));
        }
        let refreshed = device.refresh(&tokens.refresh, &[("usage_points_id", meter)]).await.unwrap();
        secrets.extend([meter.to_owned(), tokens.access, tokens.refresh]);
        secrets.push(refreshed.text("access_token").unwrap().to_owned());
        secrets.push(device.code().device_code.clone());
        secrets.extend(page.chain.iter().filter_map(|hop| hop.query("autorisation_id")));
    }
    secrets.extend(world.enedis.seen().secrets());
    assert!(secrets.len() > 20, "{}", secrets.len());
    search(&world, secrets).await;
}

/// Looks for each secret in the logs, on the disk and in the database.
async fn search(world: &World, mut secrets: Vec<String>) {
    secrets.sort();
    secrets.dedup();
    let logs = world.server.logs().join("\n");
    assert!(
        logs.contains("TRACE") || logs.contains("DEBUG") || logs.contains("WARN"),
        "there is something to search"
    );
    assert_absent(&secrets, logs.as_bytes(), "the logs");
    search_files(&secrets, world.builder.data_path());
    let mut documents = 0;
    if let Some(uri) = world.store.uri() {
        documents = search_mongodb(&secrets, uri).await;
    }
    assert_eq!(documents > 0, world.store.uri().is_some());
}

fn assert_absent(secrets: &[String], haystack: &[u8], place: &str) {
    // Any case, and any bytes: each becomes the character of its number, as text is searched fastest.
    let text = |bytes: &[u8]| bytes.iter().map(|b| char::from(b.to_ascii_lowercase())).collect::<String>();
    let haystack = text(haystack);
    for secret in secrets {
        let hex = hex::decode(secret).unwrap_or_default();
        for form in [secret.as_bytes(), &hex].into_iter().filter(|form| form.len() >= 8) {
            assert!(!haystack.contains(&text(form)), "{secret} stands in {place}");
        }
    }
}

fn search_files(secrets: &[String], dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            assert_absent(secrets, &std::fs::read(&path).unwrap(), &path.display().to_string());
        }
    }
}

async fn search_mongodb(secrets: &[String], uri: &str) -> usize {
    let client = Client::with_uri_str(uri).await.unwrap();
    let database = client.default_database().unwrap();
    let mut documents = 0;
    for name in database.list_collection_names().await.unwrap() {
        let mut found = database.collection::<Document>(&name).find(Document::new()).await.unwrap();
        while let Some(document) = found.try_next().await.unwrap() {
            documents += 1;
            let mut bytes = Vec::new();
            collect(&Bson::Document(document), &mut bytes);
            assert_absent(secrets, &bytes, &format!("the collection {name}"));
        }
    }
    documents
}

fn collect(value: &Bson, bytes: &mut Vec<u8>) {
    match value {
        Bson::Document(document) => document.iter().for_each(|(_, value)| collect(value, bytes)),
        Bson::Array(values) => values.iter().for_each(|value| collect(value, bytes)),
        Bson::String(text) => bytes.extend_from_slice(text.as_bytes()),
        Bson::Binary(binary) => bytes.extend_from_slice(&binary.bytes),
        _ => {}
    }
    bytes.push(0);
}
