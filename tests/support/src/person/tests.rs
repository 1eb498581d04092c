//! A person in front of a proxy made of three canned pages and the simulator.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::enedis::{Options, Simulator};

/// A proxy as far as a browser can tell; answers one request per connection.
async fn pages(sim: &Simulator) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    sim.set_callback(format!("{base}/auth/redirect"));
    let authorize = Arc::new(sim.authorize_url());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let authorize = Arc::clone(&authorize);
            tokio::spawn(async move {
                let mut buffer = vec![0; 8192];
                let read = stream.read(&mut buffer).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&buffer[..read]).into_owned();
                let _ = stream.write_all(answer(&request, &authorize).as_bytes()).await;
            });
        }
    });
    base
}

fn answer(request: &str, authorize: &str) -> String {
    let path = request.split(' ').nth(1).unwrap_or_default();
    let page = |body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let redirect = |to: &str, more: &str| {
        format!(
            "HTTP/1.1 303 See Other\r\nLocation: {to}\r\n{more}Connection: close\r\nContent-Length: 0\r\n\r\n"
        )
    };
    if path.starts_with("/device") {
        let code = path.split_once("code=").map_or("", |(_, code)| code);
        page(&format!(
            "<form action='/auth/verify_code'><input name=code value='{code}'><button>Continuer</button></form>\
             <a href='/aide'>Aide</a>"
        ))
    } else if path.starts_with("/auth/verify_code?code=BCDF-GHJK") {
        let to = format!("{authorize}?response_type=code&client_id=simulated-client&state=s1");
        redirect(&to, "Set-Cookie: bound=yes; Path=/; HttpOnly\r\n")
    } else if path.starts_with("/auth/redirect") {
        let bound = request.to_ascii_lowercase().contains("cookie: bound=yes");
        page(&format!("<p>{} {bound}</p>", if path.contains("code=") { "merci" } else { "dommage" }))
    } else if path.starts_with("/loop") {
        redirect("/loop", "")
    } else {
        page("<p>autre</p>")
    }
}

#[tokio::test]
async fn a_link_is_followed_to_the_end() {
    let sim = Simulator::start(Options::default()).await;
    let base = pages(&sim).await;
    let link = format!("{base}/device?code=BCDF-GHJK");
    let visit = Person::new().link(&link, Choice::Allow).await.expect("the last page");
    assert_eq!((visit.status, visit.document.text.as_str()), (200, "merci true"));
    let paths: Vec<_> = visit.chain.iter().map(|hop| hop.url.path()).collect();
    let expected = [
        "/device",
        "/auth/verify_code",
        "/dataconnect/v1/oauth2/authorize",
        "/dataconnect/v1/oauth2/consent",
        "/auth/redirect",
    ];
    assert_eq!(paths, expected);
    let back = visit.chain.last().expect("the callback");
    assert_eq!(back.method, Method::GET, "a POST that is redirected with 302 becomes a GET");
    assert_eq!(back.query("state").as_deref(), Some("s1"));

    let refused = Person::new().link(&link, Choice::Refuse).await.expect("the last page");
    assert_eq!(refused.document.text, "dommage true");
    assert_eq!((sim.seen().consents_allowed, sim.seen().consents_refused), (1, 1));
}

#[tokio::test]
async fn a_code_is_typed_and_links_are_clicked() {
    let sim = Simulator::start(Options::default()).await;
    let base = pages(&sim).await;
    let person = Person::with_language("en");
    let uri = format!("{base}/device");
    let visit = person.link_by_code(&uri, "BCDF-GHJK", Choice::Allow).await.expect("the last page");
    assert_eq!(visit.document.text, "merci true");
    assert_eq!(visit.chain.len(), 5);
    let page = person.open(&uri).await.expect("a page");
    assert_eq!(person.click(&page, "aide").await.expect("a page").document.text, "autre");
    assert!(matches!(person.click(&page, "zut").await, Err(PersonError::NotOffered { .. })));
    let typed = person.submit(&page, 0, &[("code", "no")]).await.expect("a page");
    assert_eq!(typed.document.text, "autre");
}

#[tokio::test]
async fn circles_are_refused() {
    let sim = Simulator::start(Options::default()).await;
    let base = pages(&sim).await;
    let person = Person::new();
    assert!(matches!(person.open(&format!("{base}/loop")).await, Err(PersonError::Circles(_))));
    let once = person.open_once(&format!("{base}/loop")).await.expect("one answer");
    assert_eq!((once.status, once.location().map(Url::path)), (303, Some("/loop")));
    assert!(matches!(person.open("javascript:alert(1)").await, Err(PersonError::Address(_))));
}
