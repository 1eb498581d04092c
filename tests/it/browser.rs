//! People at a real browser: Chromium, mostly without JavaScript, in French and in English. What they do and see is in
//! `tests/node/browser.mjs`; what their device and Enedis hear of it is here.
//!
//! With `SCREENSHOTS=directory` every page leaves its picture there, at the size of a phone (light and dark) and of a
//! desktop.

use std::path::PathBuf;
use std::time::Duration;

use testkit::device::Device;
use testkit::enedis::{Endpoint, Fault};
use tokio::sync::Semaphore;

use crate::fixture::{Store, World};
use crate::foreign::node::{ADVICE, Script};

/// Browsers at a time: a second one makes both slower than one after the other.
static BROWSERS: Semaphore = Semaphore::const_new(1);

/// The browser: `CHROMIUM`, else `chromium` on the `PATH`.
fn chromium() -> PathBuf {
    if let Some(path) = std::env::var_os("CHROMIUM") {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|directory| directory.join("chromium")).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("chromium is not on the PATH, and CHROMIUM is not set: {ADVICE}"))
}

/// Plays a scenario of `browser.mjs` with the code of a new device, and returns the device.
async fn play(world: &World, scenario: &str, language: &str) -> Device {
    let _turn = BROWSERS.acquire().await.expect("a semaphore that is never closed");
    let device = world.device().await;
    let profile = tempfile::tempdir().expect("a temporary directory");
    let chromium = chromium();
    let settings = [
        ("SCENARIO", scenario),
        ("PROXY", world.server.base_url()),
        ("ENEDIS", &world.enedis.base_url()),
        ("CODE", &device.code().expect("a code was asked for").user_code),
        ("LANGUAGE", language),
        ("CHROMIUM", chromium.to_str().expect("a path in UTF-8")),
        // Where the browser keeps its profile.
        ("TMPDIR", profile.path().to_str().expect("a path in UTF-8")),
    ];
    let said = Script::start("browser.mjs", &settings).finish().await;
    assert_eq!(said.len(), 1, "{said:?}");
    device
}

async fn a_typed_code_links_the_device(language: &str) {
    let world = World::start(Store::Sqlite).await;
    let device = play(&world, "typed_code", language).await;
    let answer = world.final_answer(&device).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let presented = world.enedis.seen().token_requests_of("authorization_code").count();
    assert_eq!(presented, 1, "a reload presents nothing again");
}

#[tokio::test]
async fn a_typed_code_links_the_device_in_french() {
    a_typed_code_links_the_device("fr").await;
}

#[tokio::test]
async fn a_typed_code_links_the_device_in_english() {
    a_typed_code_links_the_device("en").await;
}

async fn a_refusal_after_the_complete_link_reaches_the_device(language: &str) {
    let world = World::start(Store::Sqlite).await;
    let device = play(&world, "complete_link_refused", language).await;
    let answer = world.final_answer(&device).await;
    assert_eq!((answer.status, answer.error()), (400, Some("access_denied")));
}

#[tokio::test]
async fn a_refusal_after_the_complete_link_reaches_the_device_in_french() {
    a_refusal_after_the_complete_link_reaches_the_device("fr").await;
}

#[tokio::test]
async fn a_refusal_after_the_complete_link_reaches_the_device_in_english() {
    a_refusal_after_the_complete_link_reaches_the_device("en").await;
}

#[tokio::test]
async fn a_wrong_code_is_announced_and_can_be_corrected() {
    for language in ["fr", "en"] {
        // A server each: in the end no code from this address is looked at for a while.
        let world = World::start(Store::Sqlite).await;
        play(&world, "wrong_code", language).await;
    }
}

#[tokio::test]
async fn trouble_at_enedis_is_explained_and_can_be_overcome() {
    let world = World::start(Store::Sqlite).await;
    for language in ["fr", "en"] {
        world.enedis.script(Endpoint::Token, [Fault::Html]);
        let device = play(&world, "enedis_trouble", language).await;
        let answer = world.final_answer(&device).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let presented = world.enedis.seen().token_requests_of("authorization_code").count();
    assert_eq!(presented, 4, "one that failed and one that did not, each time");
}

#[tokio::test]
async fn reloading_while_the_consent_is_recorded_does_no_harm() {
    let world = World::start(Store::Sqlite).await;
    world.enedis.script(Endpoint::Token, [Fault::SlowAnswer(Duration::from_secs(1))]);
    let device = play(&world, "impatient", "fr").await;
    assert_eq!(world.final_answer(&device).await.status, 200);
    assert_eq!(world.enedis.seen().token_requests_of("authorization_code").count(), 1);
}

#[tokio::test]
async fn enedis_may_send_people_to_another_origin() {
    let world = World::start(Store::Sqlite).await;
    let port = world.enedis.address().port();
    let onward = Fault::answer(302, &[("Location", &format!("http://localhost:{port}/sign-in"))], "");
    world.enedis.script(Endpoint::Authorize, [onward.clone(), onward]);
    play(&world, "sign_in_at_another_origin", "fr").await;
    assert_eq!(world.enedis.faults_left(Endpoint::Authorize), 0);
}

#[tokio::test]
async fn a_link_from_elsewhere_never_gets_past_the_question() {
    let world = World::start(Store::Sqlite).await;
    play(&world, "link_from_elsewhere", "fr").await;
    assert!(world.enedis.seen().authorize_requests.is_empty());
}

#[tokio::test]
async fn injected_scripts_never_run() {
    let world = World::start(Store::Sqlite).await;
    play(&world, "injected_scripts", "fr").await;
}

#[tokio::test]
async fn cookies_are_not_for_scripts() {
    let world = World::start(Store::Sqlite).await;
    let device = play(&world, "cookies_are_not_for_scripts", "en").await;
    assert_eq!(world.final_answer(&device).await.status, 200);
}
