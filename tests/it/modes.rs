//! The original's other modes, and what each means for clients.

use testkit::device::Device;
use testkit::enedis::{Meters, Options};
use testkit::person::{Choice, Person};

use crate::fixture::{CLIENT, Plan, SECRET, Store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_may_bring_its_own_secret() {
    let world = Plan::new(Store::Sqlite).await.without("CLIENT_SECRET").start().await;
    let mut device = world.client(CLIENT).with_secret(SECRET);
    device.request_code(&[]).await.unwrap();
    let code = device.code().device_code.clone();
    world.consent(&device, Choice::Allow).await;
    // A poll with another secret, or with none, is refused and changes nothing.
    for impostor in [world.client(CLIENT).with_secret("wrong"), world.client(CLIENT)] {
        let refused = impostor.poll_code(&code).await.unwrap();
        assert_eq!(refused.outcome(), (400, Some("invalid_client")));
    }
    let answer = world.final_answer(&device).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let seen = world.enedis.seen();
    let exchange = seen.token_requests_of("authorization_code").next().unwrap();
    assert_eq!(exchange.field("client_secret"), Some(SECRET));
    // At the refresh it brings it again.
    let refresh = answer.text("refresh_token").unwrap();
    let refreshed = device.refresh(refresh, &[]).await.unwrap();
    assert_eq!(refreshed.status, 200, "{}", refreshed.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_client_may_come_where_none_is_configured() {
    let options = Options { client_id: "walk-in".into(), ..Options::default() };
    let plan = Plan::with(Store::Sqlite, options).await.without("CLIENT_ID");
    let world = plan.start().await;
    let mut device = world.client("walk-in");
    device.request_code(&[]).await.unwrap();
    world.link(&device).await;
    assert_eq!(world.enedis.seen().authorize_requests[0].param("client_id"), Some("walk-in"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_belongs_to_the_client_that_asked_for_it() {
    let world = Plan::new(Store::Sqlite).await.env("ALLOWED_CLIENT_IDS", "second").start().await;
    let device = world.device().await;
    let code = device.code().device_code.clone();
    let second = world.client("second");
    let third = world.client("third");
    for _ in 0..5 {
        assert_eq!(second.poll_code(&code).await.unwrap().error(), Some("invalid_grant"));
        assert_eq!(third.poll_code(&code).await.unwrap().error(), Some("invalid_client"));
    }
    // Neither counted as a poll of the first.
    assert_eq!(device.poll_once().await.unwrap().error(), Some("authorization_pending"));
    world.consent(&device, Choice::Allow).await;
    assert_eq!(second.poll_code(&code).await.unwrap().error(), Some("invalid_grant"));
    assert_eq!(device.poll_once().await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_state_picks_the_sandbox_client() {
    let options = Options { meters: Meters::ByState, ..Options::default() };
    let world = Plan::with(Store::Sqlite, options).await.start().await;
    for (client, meters) in [
        (0, "22516914714270"),
        (3, "12345678901234;10284856584123"),
        (7, "64975835695673;63695879465986;22315546958763"),
    ] {
        let device = world.device().await;
        let link = format!("{}&state={client}", device.code().link());
        let page = Person::new().link(&link, Choice::Allow).await.unwrap();
        assert_eq!(page.status, 200, "{}", page.html);
        let answer = world.final_answer(&device).await;
        let got = answer.text("usage_point_id").unwrap();
        let sorted = |text: &str| {
            let mut ids: Vec<_> = text.split(';').map(str::to_owned).collect();
            ids.sort();
            ids
        };
        assert_eq!(sorted(got), sorted(meters), "client {client}");
    }
    for request in &world.enedis.seen().authorize_requests {
        assert!(request.param("state").unwrap().len() <= 100);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_url_with_a_path_serves_below_it() {
    let port = testkit::net::free_port().expect("a free port");
    let base = format!("http://localhost:{port}/linky");
    let plan = Plan::new(Store::Sqlite).await.env("BASE_URL", &base);
    let plan = plan.env("LISTEN", &format!("127.0.0.1:{port}"));
    let world = plan.start().await;
    let mut device = Device::new(&base, CLIENT);
    device.request_code(&[]).await.unwrap();
    assert_eq!(device.code().verification_uri, format!("{base}/device"));
    // RFC 8414 section 3.1 puts the issuer's path behind the well-known one; OpenID clients put it in front.
    let root = Device::new(format!("http://localhost:{port}"), CLIENT);
    for address in
        ["/.well-known/oauth-authorization-server/linky", "/linky/.well-known/openid-configuration"]
    {
        assert_eq!(root.get(address).await.unwrap().json["issuer"], base, "{address}");
    }
    world.link(&device).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outdated_plugin_is_told_to_update() {
    let world = Plan::new(Store::Sqlite).await.env("VERSION_MIN", "2.6.0").start().await;
    let ask = async |path: &str, agent: &str| {
        let request = testkit::http::client()
            .post(world.url(path))
            .header("user-agent", agent)
            .form(&[("client_id", CLIENT)]);
        testkit::http::Answer::read(request.send().await.unwrap()).await.unwrap()
    };
    for path in ["/device/code", "/device/token", "/device/proxy"] {
        for agent in ["DomoticzLinkyPlugin/2.5.9", "curl"] {
            let answer = ask(path, agent).await;
            assert_eq!(answer.outcome(), (400, Some("version_mismatch")), "{path} {agent}");
        }
        assert_ne!(ask(path, "DomoticzLinkyPlugin/2.6.0").await.error(), Some("version_mismatch"), "{path}");
    }
    // Two outdated ones and one without a grant type.
    assert_eq!(world.metric("dfp_polls_total{answer=\"invalid\"}").await, Some(3.0));
    // People's browsers are not plugins.
    let page = Person::new().open(&world.url("/device")).await.unwrap();
    assert_eq!(page.status, 200);
}
