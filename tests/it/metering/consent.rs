//! Consents: what the v1 and the v2 page return, honest and forged.

use testkit::device::Device;
use testkit::enedis::{Endpoint, FOREIGN_AUTHORISATION, Fault, GeneratedMeters, Meters, Options};
use testkit::person::{Choice, Person, Visit};

use super::{METER, deliver, link, world};
use crate::fixture::{PATIENCE, Plan, Store, World, eventually};
use crate::journey::on_both_stores;

on_both_stores!(the_v1_page_names_the_meters, the_v2_page_names_an_authorisation, a_refusal_is_access_denied,);

async fn the_v1_page_names_the_meters(store: Store) {
    let options = Options { meters: Meters::Client(7), ..Options::default() };
    let world = Plan::metering(store, options, 1).await.start().await;
    let linked = link(&world).await;
    assert_eq!(
        linked.meters, "64975835695673,63695879465986,22315546958763",
        "commas, as the plugin reads them"
    );
    let seen = world.enedis.seen();
    assert_eq!(seen.authorize_requests[0].endpoint, Endpoint::Authorize);
    assert_eq!(seen.token_requests_of("authorization_code").count(), 0, "the code is good for nothing");
    // A second claim of the same meter is believed, as v1 shows no difference, and counted.
    let second_claims = async || world.metric("dfp_second_claims_total").await;
    assert_eq!(second_claims().await, Some(0.0));
    link(&world).await;
    assert_eq!(second_claims().await, Some(1.0));
}

async fn the_v2_page_names_an_authorisation(store: Store) {
    let world = world(store, 2).await;
    // Enedis lists it some time after the consent.
    world.enedis.set_services_empty_first(2);
    let device = world.device().await;
    let person = Person::new();
    let page = person.link(device.code().link(), Choice::Allow).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.html);
    let asked = world.enedis.counts().requests(Endpoint::SubscribedServices);
    assert_eq!(asked, 3);
    let request = world.enedis.seen().api_requests[0].clone();
    assert_eq!(request.path, "/subscribed_services/v1/");
    assert!(request.header("authorization").unwrap().starts_with("Bearer "));
    // A reload shows the same and asks nothing.
    let again = person.open(page.url.as_str()).await.unwrap();
    assert_eq!(again.status, 200);
    assert_eq!(world.enedis.counts().requests(Endpoint::SubscribedServices), asked);
    assert_eq!(deliver(device).await.meters, METER);
    let token = world.enedis.seen().token_requests_of("client_credentials").next().unwrap().clone();
    assert!(token.header("authorization").unwrap().starts_with("Basic "), "what Enedis is sure to take");
}

/// The last page names the meter, and says when the box has come for its token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_page_tells_how_it_went() {
    for version in [1, 2] {
        let plan = Plan::metering(Store::Sqlite, Options::default(), version).await;
        let world = plan.env("CLIENT_NAMES", "simulated-client=La box de Paul").start().await;
        let (device, person) = (world.device().await, Person::new());
        let asked = person.open(device.code().link()).await.unwrap();
        assert!(asked.html.contains("La box de Paul") && !asked.html.contains("simulated-client"));
        let page = person.link(device.code().link(), Choice::Allow).await.unwrap();
        let told = |page: &Visit| (page.header("refresh").is_some(), page.html.contains("a reçu son accès"));
        assert!(page.html.contains(&METER[10..]) && !page.html.contains(METER), "{}", page.html);
        assert_eq!(told(&page), (true, false), "{}", page.html);
        deliver(device).await;
        let page = person.open(page.url.as_str()).await.unwrap();
        assert!(page.html.contains(&METER[10..]), "{}", page.html);
        assert_eq!(told(&page), (false, true), "{}", page.html);
    }
}

/// Whoever would be sent to an Enedis that does not answer is told before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_told_beforehand_that_enedis_is_down() {
    let gone = testkit::net::free_port().expect("a free port");
    let plan =
        Plan::new(Store::Sqlite).await.env("TOKEN_ENDPOINT", &format!("http://127.0.0.1:{gone}/token"));
    let world = plan.env("ENEDIS_TIMEOUT_SECS", "1").env("ENEDIS_DEADLINE_SECS", "3").start().await;
    let (device, person) = (world.device().await, Person::new());
    let page = person.open(device.code().link()).await.unwrap();
    assert!(!page.html.contains("Enedis ne répond pas"), "{}", page.html);
    eventually("the page says so", || async {
        assert_eq!(device.refresh("some-token", &[]).await.unwrap().status, 503);
        let page = person.open(device.code().link()).await.unwrap();
        page.html.contains("Enedis ne répond pas").then_some(())
    })
    .await;
}

async fn a_refusal_is_access_denied(store: Store) {
    for version in [1, 2] {
        let world = world(store, version).await;
        let device = world.device().await;
        assert_eq!(world.consent(&device, Choice::Refuse).await.status, 200);
        assert_eq!(device.poll_once().await.unwrap().error(), Some("access_denied"));
    }
}

/// A person with a browser of their own in front of Enedis' page for a fresh code, and the box that waits.
struct AtEnedis<'a> {
    world: &'a World,
    device: Device,
    person: Person,
    state: String,
}

async fn at_enedis(world: &World) -> AtEnedis<'_> {
    let (device, person) = (world.device().await, Person::new());
    let confirm = person.open(device.code().link()).await.unwrap();
    let enedis = person.click(&confirm, "Oui").await.unwrap();
    let state = enedis.chain.iter().find_map(|hop| hop.query("state")).unwrap();
    AtEnedis { world, device, person, state }
}

impl AtEnedis<'_> {
    /// The status of the page that Enedis returns the person to with `query`, to which the state is added.
    async fn back(&self, query: &str) -> u16 {
        self.person.open(&self.address(query)).await.unwrap().status
    }

    fn address(&self, query: &str) -> String {
        self.world.url(&format!("/auth/redirect?{query}&state={}", self.state))
    }
}

async fn pending(device: &Device) -> bool {
    let answer = device.poll_code(&device.code().device_code).await.unwrap();
    matches!(answer.error(), Some("authorization_pending" | "slow_down"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consent_that_is_not_listed_yet_is_taken_up_by_a_reload() {
    let world = world(Store::Sqlite, 2).await;
    world.enedis.set_services_empty_first(1_000);
    let device = world.device().await;
    let person = Person::new();
    let page = person.link(device.code().link(), Choice::Allow).await.unwrap();
    assert_eq!(page.status, 503, "{}", page.html);
    assert_eq!(page.header("refresh"), Some("20"), "{}", page.html);
    assert_eq!(page.header("retry-after"), Some("20"));
    assert!(pending(&device).await);
    world.enedis.set_services_empty_first(0);
    let page = person.open(page.url.as_str()).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.html);
    assert_eq!(deliver(device).await.meters, METER);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anothers_meter_is_not_to_be_had() {
    let options = Options { meters: Meters::Generated(GeneratedMeters::consumers(9)), ..Options::default() };
    let world = Plan::metering(Store::Sqlite, options, 2).await.start().await;
    // Somebody consented ten days ago and has a box.
    let today = world.enedis.today();
    world.enedis.set_today(Some(today.plus(-10)));
    let victim = link(&world).await;
    world.enedis.set_today(Some(today));
    let (theirs, own) =
        (world.enedis.authorisation(&victim.meters), world.enedis.grant(&GeneratedMeters::point(8)));

    let attacker = at_enedis(&world).await;
    assert_eq!(attacker.back(&format!("autorisation_id={theirs}")).await, 409);
    assert!(pending(&attacker.device).await);
    // One authorisation for each state: not even an honest one any more.
    assert_eq!(attacker.back(&format!("autorisation_id={own}")).await, 502);
    assert!(pending(&attacker.device).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_page_that_is_configured_is_believed() {
    let v2 = world(Store::Sqlite, 2).await;
    let held = link(&v2).await.meters;
    let id = v2.enedis.authorisation(&held);
    let mut pages = Vec::new();
    for query in [
        format!("code=x&usage_point_id={held}"),
        format!("code=x&usage_point_id={}", GeneratedMeters::point(3)),
        format!("autorisation_id={id}&usage_point_id={held}"),
    ] {
        let stranger = at_enedis(&v2).await;
        let page = stranger.person.open(&stranger.address(&query)).await.unwrap();
        assert_eq!(page.status, 400, "{query}");
        assert!(pending(&stranger.device).await);
        pages.push(page.html);
    }
    assert!(pages.iter().all(|page| *page == pages[0]), "nothing tells whether a box holds the meter");
    let v1 = world(Store::Sqlite, 1).await;
    let owner = at_enedis(&v1).await;
    assert_eq!(owner.back(&format!("autorisation_id={}", v1.enedis.grant(METER))).await, 400);
    assert!(pending(&owner.device).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_and_malformed_returns_change_nothing() {
    let world = world(Store::Sqlite, 2).await;
    let id = world.enedis.grant(METER);
    let owner = at_enedis(&world).await;
    let (state, person) = (&owner.state, &owner.person);
    let other_state = "0123456789abcdef0123456789abcdef";
    for (query, status) in [
        (format!("autorisation_id={id}&state={other_state}"), 400),
        (format!("autorisation_id={id}"), 400),
        (format!("autorisation_id={id}&autorisation_id=1&state={state}"), 400),
        (format!("autorisation_id=-1&state={state}"), 400),
        (format!("autorisation_id=+{id}&state={state}"), 400),
        (format!("autorisation_id=99999999999999999999&state={state}"), 400),
        (format!("autorisation_id=&state={state}"), 400),
        (format!("code=x&state={state}"), 400),
        (format!("usage_point_id={METER}&state={state}"), 400),
        (format!("code=x&usage_point_id=1234&state={state}"), 400),
        (format!("code=x&usage_point_id={METER}%20OR&state={state}"), 400),
        // Enedis' own failures, one without a state and one in the place of the code.
        ("code=500&error=server_error&error_description=lincs-internal-server-error".to_owned(), 502),
        (format!("code=500&state={state}"), 502),
        (format!("error=demande_non_aboutie&error_description=x&state={state}"), 502),
    ] {
        let page = person.open(&world.url(&format!("/auth/redirect?{query}"))).await.unwrap();
        assert_eq!(page.status, status, "{query}");
        assert!(page.html.contains("<h1>"), "{query}");
    }
    let in_path = world.url("/auth/redirect/IdPrm=1&code=server_error&");
    assert_eq!(person.open(&in_path).await.unwrap().status, 502);
    assert_eq!(person.open(&world.url("/auth/redirect/IdPrm=1")).await.unwrap().status, 400);
    let honest = format!("autorisation_id={id}");
    let elsewhere = Person::new().open(&owner.address(&honest)).await.unwrap();
    assert_eq!(elsewhere.status, 400, "another browser");
    assert_eq!(world.enedis.counts().requests(Endpoint::SubscribedServices), 0, "Enedis saw nothing of it");
    assert!(pending(&owner.device).await);
    // The honest return still works, once; what comes after it under the same state sees the same end.
    assert_eq!(owner.back(&honest).await, 200);
    assert_eq!(owner.back(&format!("autorisation_id={}", id ^ 1)).await, 200, "a page, and nothing else");
    assert_eq!(world.enedis.counts().requests(Endpoint::SubscribedServices), 1);
    assert_eq!(deliver(owner.device).await.meters, METER);
}

/// What is wrong with the operator's set-up is not the household's to mend, and passes for nobody; a refusal of a fresh
/// consent does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_of_the_operators_is_told_as_such() {
    let plan = Plan::metering(Store::Sqlite, Options::default(), 2).await;
    let world = plan.env("CONTACT", "help@example.org").start().await;
    let not_subscribed = r#"{"code":"900908","message":"Resource forbidden "}"#;
    let refused = r#"{"code":"403","message":"x"}"#;
    let json = |body| Fault::answer(403, &[("content-type", "application/json")], body);
    let owner = at_enedis(&world).await;
    let back = owner.address(&format!("autorisation_id={}", world.enedis.grant(METER)));
    for (endpoint, faults, heading, contact) in [
        (Endpoint::Token, vec![Fault::oauth_error("invalid_client")], "Ce service est mal réglé", true),
        (Endpoint::SubscribedServices, vec![json(not_subscribed)], "Ce service est mal réglé", true),
        (Endpoint::SubscribedServices, vec![json(refused); 3], "Enedis a besoin d’un peu de temps", false),
    ] {
        world.enedis.script(endpoint, faults);
        let page = eventually("Enedis is asked", || async {
            let page = owner.person.open(&back).await.unwrap();
            (world.enedis.faults_left(endpoint) == 0).then_some(page)
        })
        .await;
        assert_eq!(page.status, 502, "{}", page.html);
        assert!(page.html.contains(heading), "{heading}: {}", page.html);
        assert_eq!(page.html.contains("Prévenir le responsable"), contact, "{}", page.html);
        assert!(!page.html.contains("Réessayer"), "{}", page.html);
        assert!(pending(&owner.device).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_at_authorisations_are_limited() {
    let world = world(Store::Sqlite, 2).await;
    // Forty browsers at once; each guess is asked about for some seconds, as a fresh consent may not be listed yet.
    let guesses = (0..40).map(|_| async {
        at_enedis(&world).await.back(&format!("autorisation_id={FOREIGN_AUTHORISATION}")).await
    });
    let statuses = futures_util::future::join_all(guesses).await;
    let looked_at = statuses.iter().filter(|status| **status == 502).count();
    assert!((15..=16).contains(&looked_at), "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 502 | 429)), "{statuses:?}");
    assert!(world.enedis.counts().requests(Endpoint::SubscribedServices) <= 64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_after_the_tokens_and_before_the_session_costs_nothing() {
    let mut world = Plan::metering(Store::Sqlite, Options::default(), 2).await.start().await;
    let owner = at_enedis(&world).await;
    let back = owner.address(&format!("autorisation_id={}", world.enedis.grant(METER)));
    let (device, person) = (owner.device, owner.person);
    let directory = world.builder.data_path().to_owned();
    let open = |name: &str| rusqlite::Connection::open(directory.join(name)).unwrap();
    let lock = |name: &str| {
        let db = open(name);
        db.busy_timeout(PATIENCE).unwrap();
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        db
    };
    // The cache is held, where the consent stops to forget the meter; then the sessions, where it would be recorded.
    let meters = lock("meters.sqlite");
    let killed = async {
        eventually("the consent is being taken", || async {
            (world.enedis.counts().requests(Endpoint::SubscribedServices) > 0).then_some(())
        })
        .await;
        let sessions = lock("sessions.sqlite");
        drop(meters);
        eventually("the tokens are stored", || async {
            let counted =
                open("tokens.sqlite").query_row("SELECT count(*) FROM meter_grant", [], |row| row.get(0));
            (counted.unwrap_or(0) > 0).then_some(())
        })
        .await;
        world.server.kill9().unwrap();
        drop(sessions);
    };
    let (page, ()) = tokio::join!(person.open(&back), killed);
    assert!(page.is_err(), "nothing was promised");
    world.restart().await;
    let page = person.open(&back).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.html);
    assert_eq!(deliver(device).await.meters, METER);
    let listed = world.builder.run(["tokens", "list", "--json"]).unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 1, "one grant, and its box has it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authorisation_is_one_boxs() {
    for store in [Store::Sqlite, Store::Mongodb] {
        let world = world(store, 2).await;
        let brought = format!("autorisation_id={}", world.enedis.grant(METER));
        let owner = at_enedis(&world).await;
        assert_eq!(owner.back(&brought).await, 200);
        let thief = at_enedis(&world).await;
        assert_eq!(thief.back(&brought).await, 409);
        assert!(pending(&thief.device).await);
        assert_eq!(deliver(owner.device).await.meters, METER);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_of_one_address_are_bounded() {
    let world = world(Store::Sqlite, 1).await;
    let mut given = 0;
    for n in 0..30 {
        let status = at_enedis(&world).await.back(&format!("code=x&usage_point_id={n:014}")).await;
        assert!(matches!(status, 200 | 429), "{status}");
        given += usize::from(status == 200);
    }
    // Two more a minute, however slow the machine is.
    assert!((15..25).contains(&given), "{given}");
}
