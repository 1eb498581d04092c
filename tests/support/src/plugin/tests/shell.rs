//! The shell, against servers on real sockets.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::super::*;
use super::{POINT, curve, day, peak, tokens};

/// A server that answers the requests it is told to, one connection each, and keeps them open; it returns the
/// requests. With `close`, it closes each connection after its answer.
async fn serve(listener: TcpListener, answers: Vec<(u16, String)>, close: bool) -> Vec<String> {
    let (mut requests, mut open) = (Vec::new(), Vec::new());
    for (status, body) in answers {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut buffer = vec![0; 4096];
        let length = stream.read(&mut buffer).await.expect("a request");
        requests.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.expect("an answer sent");
        if !close {
            open.push(stream);
        }
    }
    requests
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    (listener, url)
}

fn clock(speed: f64) -> Clock {
    Clock::new(Moment::at(day("2026-11-23"), 10, 0), speed)
}

#[tokio::test]
async fn a_box_is_served_over_sockets() {
    let (listener, url) = listen().await;
    let answers = vec![
        (200, r#"{"device_code":"dc","user_code":"AB-CD"}"#.to_owned()),
        (400, r#"{"error":"authorization_pending"}"#.to_owned()),
        (200, tokens(Some(POINT)).to_string()),
        (200, curve(POINT, "2026-11-16", 7).to_string()),
        (200, peak(POINT).to_string()),
        (404, r#"{"error":"no_data_found"}"#.to_owned()),
    ];
    let server = tokio::spawn(serve(listener, answers, false));
    let clock = clock(100.0);
    let mut device = FieldBox::new(&url, &clock, |_| {});
    let done = device.run_until(Duration::from_secs(60), |plugin| plugin.outcomes().served == 1).await;
    assert!(done, "{:?}", device.plugin().outcomes());
    assert_eq!(device.plugin().consent_path().as_deref(), Some("/device?code=AB-CD"));
    let requests = server.await.expect("the server");
    let host = url.trim_start_matches("http://");
    let expected = format!(
        "POST /device/code HTTP/1.1\r\nAccept: application/json\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nUser-Agent: DomoticzLinkyPlugin/2.6.0\r\nHost: {host}\r\n\
         Content-Length: 46\r\n\r\nclient_id={CLIENT_ID}"
    );
    assert_eq!(requests[0], expected);
    assert!(requests[3].contains("\r\nAuthorization: Bearer new\r\n"));
    assert!(!device.run_until(Duration::from_millis(30), |plugin| plugin.outcomes().served == 2).await);
    clock.skip_to(device.plugin().next_connection());
    assert_eq!((clock.now().day(), clock.now().hour()), (day("2026-11-24"), 8));
}

#[tokio::test]
async fn a_connection_closed_while_polling_costs_an_hour() {
    let (listener, url) = listen().await;
    let answers = vec![
        (200, r#"{"device_code":"dc","user_code":"AB-CD"}"#.to_owned()),
        (400, r#"{"error":"authorization_pending"}"#.to_owned()),
    ];
    let server = tokio::spawn(serve(listener, answers, true));
    let mut device = FieldBox::new(&url, &clock(100.0), |_| {});
    let gave_up = device.run_until(Duration::from_secs(60), |plugin| plugin.outcomes().gave_up == 1).await;
    assert!(gave_up);
    assert_eq!(server.await.expect("the server").len(), 2);
}
