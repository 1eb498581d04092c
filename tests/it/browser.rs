//! People at a real browser: Chromium, mostly without JavaScript, in French and in English. What they do and see is in
//! `tests/node/browser.mjs`; what their device and Enedis hear of it is here. And axe-core looks at every page.
//!
//! With `SCREENSHOTS=directory` every page leaves its picture there, at the size of a phone and of a desktop, light and
//! dark.

use std::path::PathBuf;
use std::time::Duration;

use device_flow_proxy::pages::{Lang, STYLE, samples};
use serde_json::json;
use tempfile::TempDir;
use testkit::device::Device;
use testkit::enedis::{Endpoint, Fault, Options};
use testkit::http::Answer;

use crate::fixture::{Plan, Store, World};
use crate::foreign::node::{ADVICE, Script};
use crate::metering;

/// A running browser: `CHROMIUM`, else `chromium` on the `PATH`.
pub(crate) struct Browser {
    pub(crate) script: Script,
    /// Where it keeps its profile.
    _profile: TempDir,
}

impl Browser {
    fn start() -> Self {
        Self::with("browser.mjs")
    }

    /// One that plays what this script of `tests/node` has.
    pub(crate) fn with(script: &'static str) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut in_path = std::env::split_paths(&path).map(|directory| directory.join("chromium"));
        let chromium = std::env::var_os("CHROMIUM").map(PathBuf::from);
        let chromium = chromium.or_else(|| in_path.find(|file| file.is_file()));
        let chromium = chromium
            .unwrap_or_else(|| panic!("chromium is not on the PATH, and CHROMIUM is not set: {ADVICE}"));
        let profile = tempfile::tempdir().expect("a temporary directory");
        let text = |path: &std::path::Path| path.to_str().expect("a path in UTF-8").to_owned();
        let settings = [("CHROMIUM", &*text(&chromium)), ("TMPDIR", &*text(profile.path()))];
        Self { script: Script::start(script, &settings), _profile: profile }
    }

    /// Plays a scenario of `browser.mjs` with the code of a new device, and returns the device.
    async fn play(&mut self, world: &World, scenario: &str, language: &str) -> Device {
        let device = world.device().await;
        let settings = json!({
            "scenario": scenario,
            "proxy": world.server.base_url(),
            "enedis": world.enedis.base_url(),
            "code": device.code().user_code,
            "language": language,
        });
        self.script.tell(&settings).await;
        assert_eq!(self.script.next().await["done"], scenario);
        device
    }

    /// The same, and what the device hears in the end.
    async fn answer(&mut self, world: &World, scenario: &str, language: &str) -> Answer {
        let device = self.play(world, scenario, language).await;
        world.final_answer(&device).await
    }
}

/// Every page in every state, light and dark: axe-core finds no violation, and nothing is wider than the narrowest window.
#[tokio::test]
async fn every_page_is_accessible() {
    let mut browser = Browser::start();
    for lang in Lang::ALL {
        let pages = samples::usual(lang).into_iter();
        let pages: Vec<_> = pages.map(|(name, page)| json!({ "name": name, "html": page.html })).collect();
        // A few at a time: with pictures, all of them would take longer than a scenario may.
        for pages in pages.chunks(8) {
            let settings = json!({
                "scenario": "every_page",
                // The address that they were made for.
                "proxy": "https://linky.example.net",
                "language": lang.tag(),
                "pages": pages,
                "style": STYLE,
            });
            browser.script.tell(&settings).await;
            assert_eq!(browser.script.next().await["done"], "every_page");
        }
    }
    browser.script.finish().await;
}

fn presented(world: &World) -> usize {
    world.enedis.seen().token_requests_of("authorization_code").count()
}

/// One browser for all, as starting one takes longer than any scenario.
#[tokio::test]
async fn people_get_through_with_a_real_browser() {
    let mut browser = Browser::start();
    for language in ["fr", "en"] {
        a_typed_code_links_the_device(&mut browser, language).await;
        a_refusal_after_the_complete_link_reaches_the_device(&mut browser, language).await;
        let world = World::start(Store::Sqlite).await;
        let answer = browser.answer(&world, "not_mine", language).await;
        assert_eq!(answer.outcome(), (400, Some("access_denied")));
        trouble_at_enedis_is_explained_and_can_be_overcome(&mut browser, language).await;
        another_box_is_seen_and_ended(&mut browser, language).await;
        // In the end no code from this address is looked at for a while.
        browser.play(&World::start(Store::Sqlite).await, "wrong_code", language).await;
    }
    reloading_while_the_consent_is_recorded_does_no_harm(&mut browser).await;
    enedis_may_send_people_to_another_origin(&mut browser).await;
    a_link_from_elsewhere_never_gets_past_the_question(&mut browser).await;
    let world = World::start(Store::Sqlite).await;
    assert_eq!(browser.answer(&world, "cookies_are_not_for_scripts", "en").await.status, 200);
    browser.play(&World::start(Store::Sqlite).await, "injected_scripts", "fr").await;
    browser.script.finish().await;
}

async fn a_typed_code_links_the_device(browser: &mut Browser, language: &str) {
    let world = World::start(Store::Sqlite).await;
    let answer = browser.answer(&world, "typed_code", language).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(presented(&world), 1, "a reload presents nothing again");
}

async fn a_refusal_after_the_complete_link_reaches_the_device(browser: &mut Browser, language: &str) {
    let world = World::start(Store::Sqlite).await;
    let answer = browser.answer(&world, "complete_link_refused", language).await;
    assert_eq!(answer.outcome(), (400, Some("access_denied")));
}

async fn trouble_at_enedis_is_explained_and_can_be_overcome(browser: &mut Browser, language: &str) {
    let world = World::start(Store::Sqlite).await;
    world.enedis.script(Endpoint::Token, [Fault::Html]);
    let answer = browser.answer(&world, "enedis_trouble", language).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(presented(&world), 2, "one that failed and one that did not");
}

async fn another_box_is_seen_and_ended(browser: &mut Browser, language: &str) {
    let world = Plan::metering(Store::Sqlite, Options::default(), 2).await.start().await;
    let today = world.enedis.today();
    world.enedis.set_today(Some(today.plus(-10)));
    let other = metering::link(&world).await;
    world.enedis.set_today(Some(today));
    let answer = browser.answer(&world, "other_box", language).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(other.refresh().await.error(), Some("invalid_grant"));
}

async fn reloading_while_the_consent_is_recorded_does_no_harm(browser: &mut Browser) {
    let world = World::start(Store::Sqlite).await;
    world.enedis.script(Endpoint::Token, [Fault::SlowAnswer(Duration::from_secs(1))]);
    assert_eq!(browser.answer(&world, "impatient", "fr").await.status, 200);
    assert_eq!(presented(&world), 1);
}

async fn enedis_may_send_people_to_another_origin(browser: &mut Browser) {
    let world = World::start(Store::Sqlite).await;
    let port = world.enedis.address().port();
    let onward = Fault::answer(302, &[("Location", &format!("http://localhost:{port}/sign-in"))], "");
    world.enedis.script(Endpoint::Authorize, [onward.clone(), onward]);
    browser.play(&world, "sign_in_at_another_origin", "fr").await;
    assert_eq!(world.enedis.faults_left(Endpoint::Authorize), 0);
}

async fn a_link_from_elsewhere_never_gets_past_the_question(browser: &mut Browser) {
    let world = World::start(Store::Sqlite).await;
    browser.play(&world, "link_from_elsewhere", "fr").await;
    assert!(world.enedis.seen().authorize_requests.is_empty());
}
