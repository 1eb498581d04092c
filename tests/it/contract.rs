//! The HTTP contract under malformed, oversized and hostile requests: a documented error each time, never a 5xx.

use serde_json::Value;
use testkit::http::Answer;
use testkit::person::Person;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{CLIENT, Plan, Store, World};

const FORM: &str = "application/x-www-form-urlencoded";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

async fn post(world: &World, path: &str, media_type: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request = testkit::http::client().post(world.url(path)).header("content-type", media_type).body(body);
    Answer::read(request.send().await.unwrap()).await.unwrap()
}

fn assert_oauth_error(answer: &Answer, status: u16, error: &str, what: &str) {
    assert_eq!(answer.outcome(), (status, Some(error)), "{what}: {}", answer.body);
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
    assert_eq!(answer.header("pragma"), Some("no-cache"), "{what}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
    assert!(
        answer.text("error_description").is_some_and(|d| d.is_ascii() && !d.contains(['"', '\\'])),
        "{what}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_get_the_documented_error() {
    let world = World::start(Store::Sqlite).await;
    let zeros = "0".repeat(64);
    let poll = format!("client_id={CLIENT}&grant_type={GRANT}&device_code={zeros}");
    for path in ["/device/code", "/device/token", "/device/proxy"] {
        let table: [(&str, String); 12] = [
            ("empty", String::new()),
            ("no parameter", "=".into()),
            ("an empty client_id", "client_id=".into()),
            ("a repeated parameter", "client_id=a&client_id=a".into()),
            ("a repeated unknown parameter", format!("{poll}&hello=1&hello=2")),
            ("not UTF-8", "client_id=%ff%fe".into()),
            ("bad percent encoding", "client_id=%zz%00".into()),
            ("a control character", "client_id=a%0d%0ab&grant_type=refresh_token&refresh_token=x".into()),
            ("many parameters", (0..5_000).fold(String::new(), |body, n| body + &format!("a{n}=&"))),
            ("a huge client_id", format!("client_id={}&grant_type=refresh_token", "a".repeat(300))),
            ("seventeen kilobytes", format!("client_id={CLIENT}&x={}", "a".repeat(17 * 1024))),
            ("a megabyte", format!("client_id={CLIENT}&x={}", "a".repeat(1 << 20))),
        ];
        for (what, body) in table {
            let Ok(answer) = testkit::http::client()
                .post(world.url(path))
                .header("content-type", FORM)
                .body(body)
                .send()
                .await
            else {
                // A body that is refused while it is still being sent may end in a reset; the server carries on.
                assert_eq!(what, "a megabyte");
                continue;
            };
            let answer = Answer::read(answer).await.unwrap();
            if answer.error() == Some("unsupported_grant_type") || answer.error() == Some("invalid_client") {
                assert_eq!(answer.status, 400, "{what}");
                continue;
            }
            assert_oauth_error(&answer, 400, "invalid_request", &format!("{path}, {what}"));
        }
        for media_type in ["application/json", "text/plain", "multipart/form-data; boundary=x", "", "x"] {
            let answer = post(&world, path, media_type, poll.clone()).await;
            assert_oauth_error(&answer, 400, "invalid_request", &format!("{path} as {media_type}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_endpoint_tells_errors_apart() {
    let world = World::start(Store::Sqlite).await;
    let zeros = "0".repeat(64);
    let table = [
        (format!("client_id={CLIENT}&device_code={zeros}"), "invalid_request", "no grant_type"),
        (
            format!("client_id={CLIENT}&grant_type=password&device_code={zeros}"),
            "unsupported_grant_type",
            "password",
        ),
        (
            format!("client_id={CLIENT}&grant_type=authorization_code&code=1"),
            "unsupported_grant_type",
            "a code",
        ),
        (
            format!("client_id={CLIENT}&grant_type={}", GRANT.to_uppercase()),
            "unsupported_grant_type",
            "case matters",
        ),
        (format!("client_id={CLIENT}&grant_type={GRANT}"), "invalid_request", "no device_code"),
        (format!("client_id={CLIENT}&grant_type={GRANT}&device_code=short"), "invalid_grant", "a short code"),
        (format!("client_id={CLIENT}&grant_type={GRANT}&device_code=%C3%A9"), "invalid_grant", "not ASCII"),
        (format!("client_id={CLIENT}&grant_type={GRANT}&device_code={zeros}"), "invalid_grant", "unknown"),
        (
            format!("client_id=other&grant_type={GRANT}&device_code={zeros}"),
            "invalid_client",
            "another client",
        ),
    ];
    for (body, error, what) in table {
        let answer = post(&world, "/device/token", FORM, body.clone()).await;
        assert_oauth_error(&answer, 400, error, what);
        // Unknown parameters change nothing, and the charset is allowed.
        let answer = post(
            &world,
            "/device/token",
            "Application/X-WWW-Form-Urlencoded; charset=UTF-8",
            body + "&hello=world",
        )
        .await;
        assert_oauth_error(&answer, 400, error, what);
    }
    let in_url = format!("/device/token?client_id={CLIENT}&grant_type={GRANT}&device_code={zeros}");
    assert_oauth_error(&post(&world, &in_url, FORM, "").await, 400, "invalid_request", "in the URL");
    let basic = testkit::http::client()
        .post(world.url("/device/token"))
        .basic_auth("stranger", Some("x"))
        .form(&[("grant_type", GRANT), ("device_code", &zeros)]);
    let answer = Answer::read(basic.send().await.unwrap()).await.unwrap();
    assert_oauth_error(&answer, 401, "invalid_client", "a stranger with Basic");
    assert!(answer.header("www-authenticate").unwrap().starts_with("Basic "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_relays_nothing_but_refreshes_of_known_clients() {
    let world = World::start(Store::Sqlite).await;
    for body in [
        "client_id=simulated-client&grant_type=client_credentials",
        "client_id=simulated-client&grant_type=authorization_code&code=x",
        "client_id=simulated-client&grant_type=password&username=a&password=b",
        "client_id=simulated-client&grant_type=refresh_token",
        "client_id=stranger&grant_type=refresh_token&refresh_token=x",
        "grant_type=refresh_token&refresh_token=x",
        "client_id=simulated-client&grant_type=refresh_token&grant_type=client_credentials&refresh_token=x",
    ] {
        let answer = post(&world, "/device/proxy", FORM, body).await;
        assert_eq!(answer.status, 400, "{body}");
    }
    assert_eq!(world.enedis.seen().token_requests.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_methods_and_addresses() {
    let world = World::start(Store::Sqlite).await;
    let client = testkit::http::client();
    let send = |method: &'static str, path: &'static str| {
        let request = client.request(method.parse().unwrap(), world.url(path));
        async move { Answer::read(request.send().await.unwrap()).await.unwrap() }
    };
    for path in ["/device/code", "/device/token", "/device/proxy", "/device/revoke"] {
        for method in ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            let answer = send(method, path).await;
            assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method} {path}");
            assert_eq!(answer.error(), Some("method_not_allowed"));
        }
    }
    for path in ["/device", "/", "/health/live", "/health/ready"] {
        let answer = send("POST", path).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{path}");
    }
    // What acts is not reached by a scanner's HEAD.
    for (path, method, allow) in
        [("/auth/verify_code", "POST", "GET"), ("/auth/redirect", "HEAD", "GET, POST")]
    {
        let answer = send(method, path).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{method} {path}");
    }
    assert_eq!(send("GET", "/nothing/here").await.status, 404);
    assert_eq!(send("GET", "/device/").await.status, 404);
    assert_eq!(send("GET", "/../../etc/passwd").await.status, 404);
    assert_eq!(send("HEAD", "/device").await.status, 200);
    let page = Person::new().open(&world.url("/nothing")).await.unwrap();
    assert_eq!(page.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_refuse_what_they_cannot_use() {
    let world = World::start(Store::Sqlite).await;
    let base = world.server.base_url().to_owned();
    let probe = "%3Cscript%3Ealert(1)%3C/script%3E";
    let long = "1".repeat(80);
    let table = [
        (format!("/device?code={probe}"), 400),
        (format!("/device?state={probe}"), 400),
        (format!("/device?code=BCDF-GHJK&state={long}"), 400),
        ("/device?code=BCDF-GHJK".to_owned(), 400),
        ("/auth/verify_code".to_owned(), 400),
        ("/auth/verify_code?code=".to_owned(), 400),
        ("/auth/verify_code?code=BCDF-GHJK".to_owned(), 400),
        (format!("/auth/verify_code?code={probe}&state={probe}"), 400),
        ("/auth/redirect".to_owned(), 400),
        ("/auth/redirect?code=1".to_owned(), 400),
        (format!("/auth/redirect?state={probe}&code=1"), 400),
        (format!("/auth/redirect?state={}&code=1", "a".repeat(32)), 400),
        ("/auth/redirect?code=1&code=2&state=3".to_owned(), 400),
        (format!("/auth/redirect?error={probe}&error_description={probe}"), 400),
        ("/auth/redirect?error=access_denied&state=unknown".to_owned(), 400),
        (
            "/auth/redirect?code=500&error=server_error&error_description=lincs-internal-server-error"
                .to_owned(),
            502,
        ),
        ("/auth/redirect/IdPrm=123&code=server_error&error_description=server_error&".to_owned(), 502),
        ("/auth/redirect/IdPrm=123".to_owned(), 400),
    ];
    for (path, status) in table {
        // Each from a browser of its own: wrong codes are counted.
        let page = Person::new().open(&format!("{base}{path}")).await.unwrap();
        assert_eq!(page.status, status, "{path}");
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
        assert!(!page.html.contains("<script"), "{path}");
        assert!(page.html.contains("lang=\"fr\""), "{path}");
        assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(page.header("x-frame-options"), Some("DENY"));
        assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_user_codes_is_slowed_down() {
    let world = World::start(Store::Sqlite).await;
    let device = world.device().await;
    let person = Person::new();
    let mut statuses = Vec::new();
    for n in 0..30 {
        let letter = char::from(b"BCDFGHJKLMNPQRSTVWXZ"[n % 20]);
        let guess = format!("{}/device?code={}", world.server.base_url(), letter.to_string().repeat(8));
        statuses.push(person.open(&guess).await.unwrap().status);
    }
    assert!(statuses[..15].iter().all(|status| *status == 400), "{statuses:?}");
    assert_eq!(statuses[29], 429);
    // Neither another browser nor the device is affected.
    let other = Person::new().open(device.code().link()).await.unwrap();
    assert_eq!(other.status, 200);
    assert_eq!(device.poll_once().await.unwrap().error(), Some("authorization_pending"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounds_on_device_codes() {
    let world = Plan::new(Store::Sqlite).await.env("DEVICE_CODES_PER_MINUTE_PER_IP", "3").start().await;
    let mut device = world.client(CLIENT);
    for _ in 0..3 {
        device.request_code(&[]).await.unwrap();
    }
    let refused = device.post_form("/device/code", &[("client_id", CLIENT)]).await.unwrap();
    assert_eq!(refused.outcome(), (429, Some("temporarily_unavailable")));
    assert!(refused.retry_after().is_some());

    let plan = Plan::new(Store::Sqlite).await.env("MAX_PENDING_SESSIONS", "4").env("SHARDS", "4");
    let world = plan.start().await;
    // One connection, so that all sessions live on one thread: the bound is the server's, not the shard's.
    let mut device = world.client(CLIENT);
    for _ in 0..4 {
        device.request_code(&[]).await.unwrap();
    }
    let refused = device.post_form("/device/code", &[("client_id", CLIENT)]).await.unwrap();
    assert_eq!(refused.outcome(), (503, Some("temporarily_unavailable")));
    assert!(refused.retry_after().is_some());
    assert_eq!(device.poll_once().await.unwrap().error(), Some("authorization_pending"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_and_health() {
    let world = World::start(Store::Sqlite).await;
    let device = world.client(CLIENT);
    let base = world.server.base_url();
    let metadata = device.get("/.well-known/oauth-authorization-server").await.unwrap();
    assert_eq!(metadata.json["issuer"], base);
    assert_eq!(metadata.json["device_authorization_endpoint"], format!("{base}/device/code"));
    assert_eq!(metadata.json["token_endpoint"], format!("{base}/device/token"));
    assert_eq!(metadata.json["grant_types_supported"], Value::from(vec![GRANT]));
    assert_eq!(device.get("/.well-known/openid-configuration").await.unwrap().json, metadata.json);
    assert_eq!(device.get("/health/live").await.unwrap().status, 200);
    assert_eq!(device.get("/health/ready").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_stays_open_between_polls_and_the_head_is_one_small_write() {
    let world = World::start(Store::Sqlite).await;
    let mut stream = TcpStream::connect(world.server.listen()).await.unwrap();
    let body = format!("client_id={CLIENT}");
    let request = format!(
        "POST /device/code HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for _ in 0..3 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut buffer = vec![0; 8192];
        let n = stream.read(&mut buffer).await.unwrap();
        let answer = std::str::from_utf8(&buffer[..n]).unwrap();
        let (head, json) = answer.split_once("\r\n\r\n").expect("the whole head arrives at once");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.len() < 4096, "{head}");
        let length =
            head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        assert_eq!(length.unwrap().parse::<usize>().unwrap(), json.len());
        assert!(!head.to_lowercase().contains("connection: close"));
        assert!(head.lines().skip(1).all(|line| line.contains(": ")), "{head}");
    }
}

/// Sends the pieces one by one, with a whole exchange of another device after each; the answer.
async fn in_pieces(world: &World, pieces: &[&str]) -> String {
    let mut stream = TcpStream::connect(world.server.listen()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        stream.write_all(piece.as_bytes()).await.unwrap();
        world.device().await;
    }
    let mut answer = vec![0; 4_096];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_may_come_in_pieces_but_has_to_come() {
    let world = World::start(Store::Sqlite).await;
    let head = "POST /device/code HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let body = format!("client_id={CLIENT}");
    let (first, rest) = body.split_at(7);
    let length = format!("{head}Content-Length: {}\r\n\r\n", body.len());
    for pieces in [
        vec![length.clone(), body.clone()],
        vec![length.clone(), first.to_owned(), rest.to_owned()],
        vec![format!("{length}{first}"), rest.to_owned()],
        vec![
            format!("{head}Transfer-Encoding: chunked\r\n\r\n"),
            format!("{:x}\r\n{first}\r\n", first.len()),
            format!("{:x}\r\n{rest}\r\n0\r\n\r\n", rest.len()),
        ],
    ] {
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let answer = in_pieces(&world, &pieces).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{pieces:?}: {answer}");
    }
    // Whoever sends half of it is told so, with and without the other half's length.
    for half in [format!("{length}{first}"), length, format!("{head}Transfer-Encoding: chunked\r\n\r\n")] {
        let answer = in_pieces(&world, &[&half]).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{half}: {answer}");
        assert!(answer.contains("temporarily_unavailable"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pending_poll_touches_no_store() {
    for store in [Store::Sqlite, Store::Mongodb] {
        let world = World::start(store).await;
        let device = world.device().await;
        let operations = async || {
            let mut sum = 0.0;
            for name in [
                "dfp_store_operation_duration_seconds_count{operation=\"commit\"}",
                "dfp_store_writes_total",
                "dfp_store_operation_duration_seconds_count{operation=\"find\"}",
            ] {
                sum += world.metric(name).await.expect("the metric is there");
            }
            sum
        };
        let before = operations().await;
        assert!(before > 0.0);
        for _ in 0..100 {
            device.poll_once().await.unwrap();
        }
        assert!((operations().await - before).abs() < f64::EPSILON, "{store:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_at_once_are_no_way_around_the_limit() {
    let world = World::start(Store::Sqlite).await;
    let client = testkit::http::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let guesses = (0..400).map(|n| {
        let letters = b"BCDFGHJKLMNPQRSTVWXZ";
        let code: String =
            [n % 20, n / 20, 1, 2, 3, 4, 5, 6].map(|at| char::from(letters[at])).iter().collect();
        let request = client.get(world.url(&format!("/auth/verify_code?code={code}")));
        async move { request.send().await.unwrap().status().as_u16() }
    });
    let statuses = futures_util::future::join_all(guesses).await;
    let tried = statuses.iter().filter(|status| **status == 400).count();
    assert!((100..120).contains(&tried), "{tried} guesses got through");
    assert!(statuses.iter().all(|status| matches!(status, 400 | 429)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clicks_are_one_browser() {
    let world = World::start(Store::Sqlite).await;
    let device = world.device().await;
    let person = Person::new();
    let page = person.open(device.code().link()).await.unwrap();
    let both = futures_util::future::join(person.click(&page, "Oui"), person.click(&page, "Oui")).await;
    for visit in [both.0.unwrap(), both.1.unwrap()] {
        assert_eq!((visit.chain[0].status, visit.status), (302, 200));
    }
    let other = Person::new();
    let page = other.open(device.code().link()).await.unwrap();
    assert_eq!(other.click(&page, "Oui").await.unwrap().status, 409, "another browser is another person");
}
