//! What strangers try: pages that act by themselves, words put into our mouth, codes that never end.

use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Client;
use testkit::http::Answer;
use testkit::person::{Choice, Person, Visit};

use crate::fixture::{CLIENT, PATIENCE, Plan, Store, World, each};

/// A hidden field of the page's form.
fn field(page: &Visit, name: &str) -> Option<String> {
    page.document.forms[0].fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_confirmed_before_its_page_was_seen() {
    let world = World::start(Store::Sqlite).await;
    let device = world.device().await;
    let code = device.code();
    let address = world.url(&format!("/auth/verify_code?code={}", code.user_code));
    let (person, other) = (Person::new(), Person::new());
    // A link in a mail, a typed code, and another browser's proof all lead to the page.
    let page = person.open_once(&address).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.html);
    let proof = field(&page, "proof").unwrap();
    other.open(code.link()).await.unwrap();
    for proof in [proof.as_str(), "0", &"0".repeat(32)] {
        let page = other.open_once(&format!("{address}&proof={proof}")).await.unwrap();
        assert_eq!(page.status, 200, "{}", page.html);
    }
    // A browser without cookies is told so, instead of seeing the same page again and again.
    let page = Person::new().open_once(&format!("{address}&proof={proof}")).await.unwrap();
    assert_eq!(page.status, 400);
    assert!(page.html.contains("cookies"), "{}", page.html);
    assert_eq!(device.poll_once().await.unwrap().error(), Some("authorization_pending"));
    assert_eq!(person.open_once(&format!("{address}&proof={proof}")).await.unwrap().status, 302);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_did_not_ask_ends_the_code() {
    let world = World::start(Store::Sqlite).await;
    let device = world.device().await;
    let person = Person::new();
    let page = person.open(device.code().link()).await.unwrap();
    let told = person.click(&page, "Non").await.unwrap();
    assert_eq!(told.status, 200, "{}", told.html);
    assert_eq!(device.poll_once().await.unwrap().error(), Some("access_denied"));
    assert_eq!(person.open(device.code().link()).await.unwrap().status, 400, "the code is gone");
    // A consent that was given stands.
    let device = world.device().await;
    let other = Person::new();
    let page = other.open(device.code().link()).await.unwrap();
    world.consent(&device, Choice::Allow).await;
    assert_eq!(other.click(&page, "Non").await.unwrap().status, 400);
    assert_eq!(world.final_answer(&device).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_on_other_sites_guess_nothing() {
    let world = World::start(Store::Sqlite).await;
    let device = world.device().await;
    let client = testkit::http::builder().cookie_store(true).build().unwrap();
    let get = |path: String, mode: &'static str| {
        let request = client.get(world.url(&path)).header("sec-fetch-site", "cross-site");
        let request = request.header("sec-fetch-mode", mode);
        async move { request.send().await.unwrap().status().as_u16() }
    };
    for n in 0..150 {
        let path = if n % 2 == 0 { "/device" } else { "/auth/verify_code" };
        let code = if n == 0 { device.code().user_code.clone() } else { "BCDFGHJK".to_owned() };
        assert_eq!(get(format!("{path}?code={code}"), "no-cors").await, 400);
    }
    // Their viewer, who follows a link afterwards, has guessed nothing yet.
    assert_eq!(get(format!("/device?code={}", device.code().user_code), "navigate").await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_enedis_words_are_shown_as_its_answer() {
    let world = World::start(Store::Sqlite).await;
    let device = world.device().await;
    let person = Person::new();
    let page = person.open(device.code().link()).await.unwrap();
    let enedis = person.click(&page, "Oui").await.unwrap();
    let state = enedis.chain.iter().find_map(|hop| hop.query("state")).unwrap();
    let words = "Compte-bloque.Appelez.0800";
    let invented = "0123456789abcdef0123456789abcdea";
    for (query, status, shown) in [
        (format!("error={words}"), 400, None),
        (format!("error=server_error&state={invented}"), 400, None),
        (format!("error={words}&state={state}"), 502, None),
        (format!("error=demande_non_aboutie&state={state}"), 502, Some("demande_non_aboutie")),
    ] {
        let page = person.open(&world.url(&format!("/auth/redirect?{query}"))).await.unwrap();
        assert_eq!(page.status, status, "{query}");
        assert!(!page.html.contains(words), "{query}");
        assert_eq!(shown.is_some_and(|shown| page.html.contains(shown)), shown.is_some(), "{query}");
    }
    let elsewhere = format!("/auth/redirect?error=server_error&state={state}");
    assert_eq!(Person::new().open(&world.url(&elsewhere)).await.unwrap().status, 400, "another browser");
    assert_eq!(device.poll_once().await.unwrap().error(), Some("authorization_pending"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confirming_does_not_keep_a_code_for_ever() {
    let plan = Plan::new(Store::Sqlite).await;
    let world = plan.env("CODE_LIFETIME_SECS", "2").env("CONSENT_WINDOW_SECS", "2").start().await;
    let device = world.device().await;
    let person = Person::new();
    let page = person.open(device.code().link()).await.unwrap();
    let confirm = async { while person.click(&page, "Oui").await.unwrap().chain[0].status == 302 {} };
    tokio::time::timeout(PATIENCE, confirm).await.expect("it ends");
    assert_eq!(device.poll_until_final(PATIENCE).await.unwrap().error(), Some("expired_token"));
}

/// Asks for the page of a code as somebody at `address` who keeps no cookies.
async fn guess(client: &Client, world: &World, address: &str, code: &str) -> u16 {
    let request = client.get(world.url(&format!("/device?code={code}"))).header("x-forwarded-for", address);
    request.send().await.unwrap().status().as_u16()
}

/// The `n`th of the codes that nobody has.
fn wrong_code(n: usize) -> String {
    let letters = b"BCDFGHJKLMNPQRSTVWXZ";
    [n % 20, n / 20 % 20, n / 400 % 20, n / 8_000 % 20, 0, 1, 2, 3]
        .map(|at| char::from(letters[at]))
        .iter()
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_full_of_networks_guesses_like_a_few() {
    let world = World::start(Store::Sqlite).await;
    let device = world.device().await;
    let (client, looked_at) = (testkit::http::client(), AtomicUsize::new(0));
    each(0..2_000_usize, async |n| {
        match guess(&client, &world, &format!("2001:db8:0:{n:x}::1"), &wrong_code(n)).await {
            400 => _ = looked_at.fetch_add(1, Ordering::Relaxed),
            status => assert!(matches!(status, 200 | 429), "{status}"),
        }
    })
    .await;
    let looked_at = looked_at.into_inner();
    // A /48 has sixteen times what one network has: 1 600, and 480 a minute.
    assert!(looked_at < 1_900, "{looked_at} of 2000");
    // Everybody else gets through, if with one more step.
    let person = Person::with_header("x-forwarded-for", "2001:db9::1");
    let page = person.link(device.code().link(), Choice::Allow).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.html);
    assert_eq!(world.final_answer(&device).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_attack_a_code_takes_one_more_step() {
    let world = World::start(Store::Sqlite).await;
    let device = world.device().await;
    let client = testkit::http::client();
    each(0..1_600_usize, async |n| {
        guess(&client, &world, &format!("198.51.{}.{}", n / 250, n % 250), &wrong_code(n)).await;
    })
    .await;
    // Five a second come back: each look at the page is made right after they were used up.
    let person = Person::with_header("x-forwarded-for", "203.0.113.2");
    let mut page = None;
    for n in 0..50_usize {
        let guesses = (0..20).map(|m| {
            let address = format!("203.0.{n}.{m}");
            let (client, world) = (&client, &world);
            async move { guess(client, world, &address, &wrong_code(5_000 + n * 20 + m)).await }
        });
        let told = futures_util::future::join_all(guesses).await;
        assert!(told.iter().all(|status| matches!(status, 200 | 400)), "{told:?}");
        let seen = person.open(device.code().link()).await.unwrap();
        if told.contains(&200) && field(&seen, "step").is_some() {
            page = Some(seen);
            break;
        }
    }
    let page = page.expect("nothing is looked up without the step");
    let page = person.submit(&page, 0, &[]).await.unwrap();
    assert!(field(&page, "proof").is_some(), "{}", page.html);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_knows_is_looked_up_so_often_and_no_more() {
    for store in [Store::Sqlite, Store::Mongodb] {
        let world = World::start(store).await;
        let device = world.device().await;
        let client = testkit::http::client();
        let poll = |address: &str, code: String| {
            let grant = "urn:ietf:params:oauth:grant-type:device_code";
            let form = [("grant_type", grant), ("client_id", CLIENT), ("device_code", &code)];
            let request =
                client.post(world.url("/device/token")).form(&form).header("x-forwarded-for", address);
            async move { Answer::read(request.send().await.unwrap()).await.unwrap() }
        };
        let finds = async || {
            world.metric("dfp_store_operation_duration_seconds_count{operation=\"find\"}").await.unwrap()
        };
        let before = finds().await;
        let refused = AtomicUsize::new(0);
        each(0..1_500, async |n| {
            let answer = poll("192.0.2.1", format!("{n:064x}")).await;
            if answer.status == 400 {
                assert_eq!(answer.error(), Some("invalid_grant"));
            } else {
                assert_eq!(answer.outcome(), (503, Some("temporarily_unavailable")));
                refused.fetch_add(1, Ordering::Relaxed);
            }
        })
        .await;
        let looked_up = 1_500 - refused.into_inner();
        assert!((600..1_400).contains(&looked_up), "{looked_up}");
        assert!(finds().await - before < 1_400.0);
        let honest = poll("192.0.2.2", device.code().device_code.clone()).await;
        assert_eq!(honest.error(), Some("authorization_pending"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_not_trusted_is_named_once() {
    let world = Plan::new(Store::Sqlite).await.env("TRUSTED_PROXIES", "none").start().await;
    let client = testkit::http::client();
    for _ in 0..3 {
        guess(&client, &world, "192.0.2.1", "BCDFGHJK").await;
    }
    let logs = world.server.logs();
    let named = logs.iter().filter(|line| line.contains("TRUSTED_PROXIES") && line.contains("127.0.0.1"));
    assert_eq!(named.count(), 1, "{logs:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_network_does_not_fill_the_server() {
    for store in [Store::Sqlite, Store::Mongodb] {
        let world = Plan::new(store).await.env("MAX_PENDING_SESSIONS", "320").start().await;
        let client = testkit::http::client();
        let ask = |address: String| {
            let request = client.post(world.url("/device/code")).form(&[("client_id", CLIENT)]);
            let request = request.header("x-forwarded-for", address);
            async move { request.send().await.unwrap().status().as_u16() }
        };
        let mut issued = 0;
        for n in 0..60 {
            // Networks enough, all of one holder.
            issued += usize::from(ask(format!("2001:db8:7:{n:x}::1")).await == 200);
        }
        assert_eq!(issued, 20, "a sixteenth");
        assert_eq!(ask("2001:db8:8::1".to_owned()).await, 200);
        assert_eq!(ask("192.0.2.7".to_owned()).await, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_see_where_a_request_comes_from() {
    let world = World::start(Store::Mongodb).await;
    let ask = testkit::http::client().post(world.url("/device/code")).form(&[("client_id", CLIENT)]);
    let answer = ask.header("x-forwarded-for", "203.0.113.7").send().await.unwrap();
    let codes = Answer::read(answer).await.unwrap();
    let link = codes.text("verification_uri_complete").unwrap();
    for (address, told) in [("203.0.113.7", "le même que vous"), ("198.51.100.1", "203.0.113.…")] {
        let page = Person::with_header("x-forwarded-for", address).open(link).await.unwrap();
        assert!(page.document.text.contains(told), "{}", page.document.text);
        assert!(!page.html.contains("203.0.113.7"), "no stranger learns where a household is");
    }
}
