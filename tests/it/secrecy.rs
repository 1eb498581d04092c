//! Secrets stay out of logs and stores: a whole journey with every kind of trouble, logged at the finest level, and
//! then a search for each secret that took part.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ::mongodb::Client;
use ::mongodb::bson::{Bson, Document};
use futures_util::TryStreamExt;
use testkit::device::Tokens;
use testkit::enedis::{Endpoint, Fault, GeneratedMeters, Meters, Options, Resource};
use testkit::http::Answer;
use testkit::person::{Choice, Person};

use crate::fixture::{CLIENT, Plan, SECRET, Store, World, eventually};
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
            let request = testkit::http::client().get(url).bearer_auth(&tokens.access);
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

/// Buffers of HTTP, TLS and the database hold codes and tokens too: what they give back is overwritten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(target_os = "linux")]
async fn memory_forgets_codes_and_tokens_whose_time_is_over() {
    let plan =
        Plan::new(Store::Sqlite).await.env("TOKEN_REDELIVERY_SECS", "1").env("CODE_LIFETIME_SECS", "30");
    let world = plan.start().await;
    let mut secrets = Vec::new();
    for _ in 0..3 {
        let device = world.device().await;
        secrets.extend([device.code().device_code.clone(), device.code().user_code.clone()]);
        let tokens = Tokens::read(&world.link(&device).await.json).unwrap();
        assert_eq!(device.refresh(&tokens.refresh, &[]).await.unwrap().status, 200);
        secrets.extend([tokens.access, tokens.refresh]);
    }
    secrets.extend(world.enedis.seen().secrets());
    let Ok(_) = memory_of(world.server.pid()) else {
        // Past the test runner, which hides what a test that passes writes.
        writeln!(std::io::stderr(), "NOT RUN: only root reads the server's memory").unwrap();
        return;
    };
    eventually("memory without the secrets", async || {
        // Others are served meanwhile: what stands on a thread's stack is overwritten by its next work.
        let other = world.device().await;
        other.poll_once().await.unwrap();
        Person::new().open(other.code().link()).await.unwrap();
        let memory = text(&memory_of(world.server.pid()).unwrap());
        found(&secrets, &memory).is_none().then_some(())
    })
    .await;
}

/// All that the process has written.
fn memory_of(pid: u32) -> std::io::Result<Vec<u8>> {
    let memory = std::fs::File::open(format!("/proc/{pid}/mem"))?;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut bytes = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let range = line.split(' ').next().and_then(|range| range.split_once('-')).unwrap();
        let address = |hex| u64::from_str_radix(hex, 16).unwrap();
        let (from, to) = (address(range.0), address(range.1));
        let mut page = [0; 4_096];
        for at in (from..to).step_by(page.len()) {
            // Some of what the kernel maps cannot be read, and most of it was never written to.
            if memory.read_exact_at(&mut page, at).is_err() {
                break;
            }
            if page != [0; 4_096] {
                bytes.extend(page);
            }
        }
    }
    Ok(bytes)
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
    if let Some(secret) = found(secrets, &text(haystack)) {
        panic!("{secret} stands in {place}");
    }
}

/// A secret that stands in the text, as it is or as the bytes of its hex digits.
fn found<'s>(secrets: &'s [String], haystack: &str) -> Option<&'s String> {
    secrets.iter().find(|secret| {
        let hex = hex::decode(secret).unwrap_or_default();
        let mut forms = [secret.as_bytes(), &hex].into_iter().filter(|form| form.len() >= 8);
        forms.any(|form| haystack.contains(&text(form)))
    })
}

/// Any case, and any bytes: each becomes the character of its number, as text is searched fastest.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(b.to_ascii_lowercase())).collect()
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
