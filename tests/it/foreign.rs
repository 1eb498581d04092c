//! Clients and servers that nobody here wrote, so that a misreading of a specification cannot be shared by both ends:
//! npm's `oidc-provider` in Enedis' place, npm's `openid-client` and the crate `oauth2` as devices, and the requests
//! of Go's `golang.org/x/oauth2`.

pub mod node;

use std::time::Duration;

use oauth2::basic::{BasicClient, BasicTokenType};
use oauth2::{
    ClientId, DeviceAuthorizationUrl, DeviceCodeErrorResponseType, HttpRequest, HttpResponse,
    RequestTokenError, StandardDeviceAuthorizationResponse, TokenResponse as _, TokenUrl,
};
use serde_json::Value;
use testkit::device::{DEVICE_CODE_GRANT, Device, Tokens};
use testkit::http::Answer;
use testkit::person::{Choice, Person, Visit};
use testkit::server::Server;

use self::node::Script;
use crate::fixture::{BINARY, CLIENT, PATIENCE, Store, World, each};

// --- A foreign authorization server ----------------------------------------------------------------------------

/// Both halves need the form encoding of RFC 6749 section 2.3.1 in a Basic header.
const ODD_CLIENT: &str = "box+proxy:1";
const ODD_SECRET: &str = "100% s3cret+&:/";

/// The proxy in front of `oidc-provider`, and a device with its codes.
struct Foreign {
    provider: Script,
    // Runs as long as the test.
    _server: Server,
    device: Device,
}

impl Foreign {
    async fn start(auth_method: &str) -> Self {
        let builder = Server::builder(BINARY);
        let callback = format!("{}/auth/redirect", builder.base_url());
        let settings = [
            ("CLIENT_ID", ODD_CLIENT),
            ("CLIENT_SECRET", ODD_SECRET),
            ("REDIRECT_URI", &callback),
            ("AUTH_METHOD", auth_method),
        ];
        let mut provider = Script::start("oidc_provider.mjs", &settings);
        let said = provider.next().await;
        let issuer = said["issuer"].as_str().expect("the provider's address");
        let builder = builder
            .env("CLIENT_ID", ODD_CLIENT)
            .env("CLIENT_SECRET", ODD_SECRET)
            // OpenID Connect gives `offline_access` only to those who ask the person again.
            .env("AUTHORIZATION_ENDPOINT", format!("{issuer}/auth?prompt=consent"))
            .env("TOKEN_ENDPOINT", format!("{issuer}/token"))
            .env("TOKEN_ENDPOINT_AUTH_METHOD", auth_method)
            .env("REDIRECT_URI", callback)
            .env("REDIRECT_URI_IN_AUTHORIZE", "true")
            .env("PKCE", "true")
            .env("DURATION", "")
            .env("LIMIT_REQUESTS_PER_MINUTE", "60");
        let server = builder.start().await.unwrap_or_else(|error| panic!("{error}"));
        let mut device = Device::new(server.base_url(), ODD_CLIENT);
        device.request_code(&[("scope", "openid offline_access")]).await.expect("a device code");
        Self { provider, _server: server, device }
    }

    /// The device's owner gets as far as the provider's sign-in page.
    async fn sign_in_page(&self, person: &Person) -> Visit {
        let link = self.device.code().link();
        let page = person.link(link, Choice::Allow).await.expect("the person gets to the provider");
        assert!(
            page.status == 200 && page.url.path().starts_with("/interaction/"),
            "{}: {}",
            page.url,
            page.html
        );
        page
    }

    async fn answer(&self) -> Answer {
        self.device.poll_until_final(PATIENCE).await.expect("a final answer")
    }
}

async fn complete_with_oidc_provider(auth_method: &str) {
    let mut foreign = Foreign::start(auth_method).await;
    let person = Person::new();
    let page = foreign.sign_in_page(&person).await;
    let page =
        person.submit(&page, 0, &[("login", "Marie"), ("password", "any")]).await.expect("she signs in");
    let page = person.click(&page, "Continue").await.expect("she consents");
    assert_eq!((page.status, page.url.path()), (200, "/auth/redirect"), "{}", page.html);
    let granted = foreign.provider.next().await;
    assert_eq!(granted["grant"], "authorization_code", "{granted}");

    let answer = foreign.answer().await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json["token_type"], "Bearer");
    assert_eq!(answer.json["scope"], "openid offline_access");
    assert!(answer.text("id_token").is_some(), "members that are not ours are handed on");
    let first = Tokens::read(&answer.json).expect("an access and a refresh token");

    // The provider rotates refresh tokens: each new one is good once.
    let answer = foreign.device.refresh(&first.refresh, &[]).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let second = Tokens::read(&answer.json).expect("an access and a refresh token");
    assert!(second.access != first.access && second.refresh != first.refresh);
    let answer = foreign.device.refresh(&second.refresh, &[]).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    // Sent again because its answer was lost, the first is answered as before, without the provider.
    let answer = foreign.device.refresh(&first.refresh, &[]).await.expect("an answer");
    let repeated = Tokens::read(&answer.json).expect("an access and a refresh token");
    assert_eq!((repeated.access, repeated.refresh), (second.access, second.refresh));
}

#[tokio::test]
async fn oidc_provider_completes_the_flow_with_the_secret_in_the_form_and_in_the_header() {
    each(["client_secret_post", "client_secret_basic"], complete_with_oidc_provider).await;
}

#[tokio::test]
async fn oidc_provider_refusal_reaches_the_device() {
    let foreign = Foreign::start("client_secret_post").await;
    let person = Person::new();
    let page = foreign.sign_in_page(&person).await;
    let page = person.click(&page, "Cancel").await.expect("she refuses");
    assert_eq!((page.status, page.url.path()), (200, "/auth/redirect"), "{}", page.html);
    let answer = foreign.answer().await;
    assert_eq!(answer.outcome(), (400, Some("access_denied")));
}

// --- Foreign devices -------------------------------------------------------------------------------------------

/// Runs openid-client against a usual server, lets the owner decide, and returns the server and what the client says
/// in the end.
async fn openid_client(well_known: &str, choice: Choice) -> (World, Value) {
    let world = World::start(Store::Sqlite).await;
    let settings = [("ISSUER", world.server.base_url()), ("CLIENT_ID", CLIENT), ("WELL_KNOWN", well_known)];
    let mut client = Script::start("openid_client.mjs", &settings);
    let said = client.next().await;
    let link = said["codes"]["verification_uri_complete"].as_str().expect("a link");
    Person::new().link(link, choice).await.expect("the person gets through");
    let said = client.finish().await;
    (world, said.into_iter().next().expect("a last word"))
}

#[tokio::test]
async fn openid_client_completes_the_flow() {
    for well_known in ["oauth2", "oidc"] {
        let (world, said) = openid_client(well_known, Choice::Allow).await;
        let issued = world.enedis.seen().access_tokens;
        assert_eq!(said["token"]["access_token"].as_str(), issued.last().map(String::as_str), "{said}");
        // The library writes the type in lower case.
        assert_eq!(said["token"]["token_type"], "bearer");
        assert!(said["token"]["refresh_token"].is_string(), "{said}");
    }
}

#[tokio::test]
async fn openid_client_hears_of_a_refusal() {
    let (_world, said) = openid_client("oauth2", Choice::Refuse).await;
    assert_eq!(
        (said["error"].as_str(), said["status"].as_u64()),
        (Some("access_denied"), Some(400)),
        "{said}"
    );
}

/// The HTTP client that `oauth2` wants; it must not follow redirects.
fn plain_client() -> reqwest::Client {
    let builder = testkit::http::builder().redirect(reqwest::redirect::Policy::none()).timeout(PATIENCE);
    builder.build().expect("an HTTP client")
}

async fn send(http: &reqwest::Client, request: HttpRequest) -> Result<HttpResponse, reqwest::Error> {
    let response = http.execute(request.try_into()?).await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut answer = HttpResponse::new(response.bytes().await?.to_vec());
    (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
    Ok(answer)
}

/// Whether the owner allows or refuses, the crate gives this: the access token or the error.
async fn oauth2_crate(world: &World, choice: Choice) -> Result<String, DeviceCodeErrorResponseType> {
    let base = world.server.base_url();
    let codes_at = DeviceAuthorizationUrl::new(format!("{base}/device/code")).expect("a URL");
    let client = BasicClient::new(ClientId::new(CLIENT.to_owned()))
        .set_device_authorization_url(codes_at)
        .set_token_uri(TokenUrl::new(format!("{base}/device/token")).expect("a URL"));
    let http = plain_client();
    let http = |request| send(&http, request);

    let codes: StandardDeviceAuthorizationResponse =
        client.exchange_device_code().request_async(&http).await.expect("codes that the crate can read");
    assert_eq!(codes.interval(), Duration::from_secs(1));
    let link = codes.verification_uri_complete().expect("a complete link").secret().clone();
    let person = async {
        Person::new().link(&link, choice).await.expect("the person gets through");
    };
    // It polls at once, long before the owner has decided.
    let device = client.exchange_device_access_token(&codes);
    let device = device.request_async(&http, tokio::time::sleep, Some(PATIENCE));
    let (token, ()) = tokio::join!(device, person);
    match token {
        Ok(token) => {
            assert_eq!(token.token_type(), &BasicTokenType::Bearer);
            assert!(token.refresh_token().is_some() && token.expires_in().is_some());
            Ok(token.access_token().secret().clone())
        }
        Err(RequestTokenError::ServerResponse(answer)) => Err(answer.error().clone()),
        Err(error) => panic!("the crate does not understand an answer: {error:?}"),
    }
}

#[tokio::test]
async fn oauth2_crate_completes_the_flow_and_hears_of_a_refusal() {
    let world = World::start(Store::Sqlite).await;
    let token = oauth2_crate(&world, Choice::Allow).await.expect("a token");
    assert_eq!(world.enedis.seen().access_tokens, [token]);
    let error = oauth2_crate(&world, Choice::Refuse).await.expect_err("a refusal");
    assert_eq!(error, DeviceCodeErrorResponseType::AccessDenied);
}

/// One poll as Go's client sends it while it does not know how to authenticate: with an empty secret in the header,
/// and after any error at once again with the client in the form only. Returns the answers.
async fn go_poll(http: &reqwest::Client, base: &str, device_code: &str) -> Vec<Answer> {
    let form = [("client_id", CLIENT), ("device_code", device_code), ("grant_type", DEVICE_CODE_GRANT)];
    let request = || http.post(format!("{base}/device/token")).form(&form);
    let mut answers = Vec::new();
    for request in [request().basic_auth(CLIENT, Some("")), request()] {
        let response = request.send().await.expect("an answer");
        answers.push(Answer::read(response).await.expect("a whole answer"));
        if answers[answers.len() - 1].status == 200 {
            break;
        }
    }
    answers
}

#[tokio::test]
async fn go_clients_poll_twice_and_are_never_told_to_slow_down() {
    let world = World::start(Store::Sqlite).await;
    let (http, base) = (plain_client(), world.server.base_url());
    let device = world.device().await;
    let code = device.code();
    let mut tick = tokio::time::interval(Duration::from_secs(code.interval));
    // Go makes up for no tick that came late.
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick comes at once; Go waits first.
    tick.tick().await;
    for poll in 0..4 {
        tick.tick().await;
        for answer in go_poll(&http, base, &code.device_code).await {
            assert_eq!(answer.error(), Some("authorization_pending"), "poll {poll}: {}", answer.body);
        }
    }
    world.consent(&device, Choice::Allow).await;
    tick.tick().await;
    let answers = go_poll(&http, base, &code.device_code).await;
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200], "{answers:?}");
}
