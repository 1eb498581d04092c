//! The boxes against a server of a few lines, and the report.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::crowd::Tally;
use super::*;
use crate::enedis::GeneratedMeters;
use crate::report::Judged as _;

const LONG: Duration = Duration::from_secs(60);

fn day() -> Day {
    Day::parse("2026-11-23").expect("a day")
}

/// A server that answers at once; the number of the box is the end of its address.
#[derive(Default)]
struct Stub {
    /// For each box, the answers to its next questions about data that are not data.
    faults: Mutex<HashMap<u32, Vec<u16>>>,
    /// First lines of all requests.
    requests: Mutex<Vec<String>>,
}

impl Stub {
    async fn start() -> (Arc<Self>, String) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let stub = Arc::new(Self::default());
        let shared = Arc::clone(&stub);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&shared).serve(stream));
            }
        });
        (stub, url)
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut buffer = vec![0; 8_192];
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let (status, body) = self.answer(&request);
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: &str) -> (u16, String) {
        let line = request.lines().next().unwrap_or_default().to_owned();
        self.requests.lock().expect("requests").push(line.clone());
        let number = request.lines().find_map(|line| {
            let (name, address) = line.split_once(": ")?;
            let last = address.rsplit('.').next()?;
            name.eq_ignore_ascii_case("x-forwarded-for").then(|| last.trim().parse::<u32>().ok())?
        });
        let number = number.expect("a box");
        let point = GeneratedMeters::point(number);
        if line.contains("/data/proxy/") {
            let fault = self.faults.lock().expect("faults").get_mut(&number).and_then(Vec::pop);
            return match fault {
                Some(status) => (status, json!({"error": "scripted"}).to_string()),
                None if line.contains("metering_data_plc") => {
                    (400, json!({"error": "ADAM-ERR0069"}).to_string())
                }
                None => (200, readings(&point, &line).to_string()),
            };
        }
        let json = match line.split(' ').nth(1).unwrap_or_default() {
            "/device/code" => json!({"device_code": "dc", "user_code": "AB-CD"}),
            "/device/token" => json!({"access_token": "a", "refresh_token": "r", "token_type": "Bearer",
                "expires_in": 12_600, "usage_points_id": point}),
            _ => Value::Null,
        };
        (200, json.to_string())
    }
}

/// Half hours of the days asked for, or a largest power each.
fn readings(point: &str, line: &str) -> Value {
    let param = |name: &str| {
        let (_, rest) = line.split_once(name).expect("a parameter");
        Day::parse(&rest[..10]).expect("a date")
    };
    let slots = if line.contains("max_power") { 1 } else { 48 };
    let of = |day: Day| (0..slots).map(move |slot| format!("{day} {:02}:{:02}:00", slot / 2, slot % 2 * 30));
    let readings: Vec<_> = param("start=")
        .until(param("end="))
        .flat_map(of)
        .map(|date| json!({"value": "500", "date": date}))
        .collect();
    json!({"meter_reading": {"usage_point_id": point, "interval_reading": readings}})
}

fn small() -> Plan {
    Plan { boxes: 3, arrive_within: Duration::from_millis(500), speed: 50.0, ..Plan::new("none") }
}

#[tokio::test]
async fn boxes_live_through_days_hours_and_a_day_again() {
    let (stub, url) = Stub::start().await;
    let mut crowd = Crowd::new(&small(), &url, day());
    crowd.begin_day();
    crowd.round(day(), Start::Morning, LONG, |_| {}).await;
    let served = |crowd: &Crowd| crowd.outcomes().served;
    assert_eq!((served(&crowd), crowd.until_next(day())), (3, None));
    assert!(crowd.served_after().is_some());

    // The second day goes wrong for two boxes: one comes back in an hour, one has stopped.
    let next = day().plus(1);
    stub.faults.lock().expect("faults").extend([(1, vec![503]), (2, vec![403])]);
    crowd.begin_day();
    let mut last = Tally::default();
    crowd.round(next, Start::Morning, LONG, |tally| last = tally).await;
    assert_eq!((last.served, last.waiting, last.disabled), (1, 1, 1));
    let wait = crowd.until_next(next).expect("a box waits");
    assert!(wait > Duration::from_secs(3_000) && wait <= Duration::from_secs(3_600), "{wait:?}");
    crowd.skip(wait);
    crowd.round(next, Start::Resume, LONG, |tally| last = tally).await;
    assert_eq!((last.served, last.waiting, last.disabled), (2, 0, 1));
    assert_eq!((served(&crowd), crowd.until_next(next)), (5, None));

    // Asked again, the same box of before has all of its history to ask.
    stub.requests.lock().expect("requests").clear();
    crowd.begin_day();
    crowd.round(next, Start::Again, LONG, |_| {}).await;
    assert_eq!(served(&crowd), 7);
    let requests = stub.requests.lock().expect("requests").clone();
    let curves = requests.iter().filter(|line| line.contains("metering_data_clc"));
    assert_eq!(curves.filter(|line| line.contains("start=2026-11-17&end=2026-11-24")).count(), 2);
    assert!(!requests.iter().any(|line| line.contains("/device/")), "tokens are kept: {requests:?}");
    assert!(crowd.owners_said().is_empty(), "{:?}", crowd.owners_said());
}

#[tokio::test]
async fn a_round_ends_although_a_box_is_never_served() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    // At this speed a box waits for days without an answer before it gives up.
    let plan = Plan { boxes: 2, speed: 1.0, ..small() };
    let mut crowd = Crowd::new(&plan, &url, day());
    crowd.begin_day();
    crowd.round(day(), Start::Morning, Duration::from_secs(1), |_| {}).await;
    assert_eq!((crowd.outcomes().served, crowd.residents().len()), (0, 2));
    assert_eq!(crowd.until_next(day()), None);
}

fn told(name: &str, calls: u64) -> DayReport {
    DayReport {
        name: name.into(),
        date: "2026-11-23".into(),
        boxes: 10,
        served: 10,
        consumers: 8,
        consumer_calls: calls,
        data_calls: calls,
        served_after_secs: Some(75.0),
        requests: [("consumption".to_owned(), 10)].into(),
        ..DayReport::default()
    }
}

fn report(days: Vec<DayReport>) -> Report {
    Report { days, ..Report::new(&small()) }
}

fn failed(report: &Report) -> Vec<&'static str> {
    let verdicts = report.verdicts().into_iter().filter(|verdict| !verdict.pass);
    verdicts.map(|verdict| verdict.requirement).collect()
}

#[test]
fn each_requirement_is_judged() {
    let good = || report(vec![told("day 1", 24), told("day 2", 16), told("day 3", 16)]);
    assert!(good().passed(), "{}", good());
    assert_eq!(good().verdicts().len(), 4);
    assert_eq!(report(vec![told("day 1", 99)]).verdicts().len(), 3, "the first day may cost more");
    let mut bad = good();
    (bad.days[0].served, bad.days[1].disabled, bad.days[2].throttled) = (9, 1, 1);
    bad.days[2].consumer_calls = 17;
    bad.again = Some(told("again", 1));
    assert_eq!(failed(&bad).len(), 5);
    assert!(!bad.passed());
    let mut enough = good();
    enough.again = Some(told("again", 0));
    enough.days[1].outage =
        Some(OutageReport { kind: "500".into(), data_calls: 7, ..OutageReport::default() });
    assert!(enough.passed(), "{enough}");
}

#[test]
fn a_report_is_read_by_people_and_programs() {
    let mut report = report((1..=7).map(|number| told(&format!("day {number}"), 16)).collect());
    report.days[1].skipped_secs = 3_725;
    report.days[1].outage =
        Some(OutageReport { kind: "down".into(), data_calls: 7, ..OutageReport::default() });
    report.server_said = [("WARN enedis is slow".to_owned(), 4)].into();
    let text = report.to_string();
    assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
    for part in ["1m 15s", "1h 2m 5s", "2.00", "meanwhile 7 calls for data", "4 times: WARN enedis is slow"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert_eq!(text.matches("pass  ").count(), 4);
    let json = report.to_json();
    assert_eq!((&json["passed"], json["verdicts"].as_array().map(Vec::len)), (&json!(true), Some(4)));
    assert_eq!((&json["days"][1]["skipped_secs"], &json["days"][0]["served"]), (&json!(3_725), &json!(10)));
}

#[test]
fn options_reach_the_plan() {
    let plan = Plan::new("server");
    assert_eq!((plan.boxes, plan.days, plan.arrive_within), (200, 3, LONG));
    assert_eq!((plan.api, plan.store, plan.authorize), (ApiMode::Auto, StoreKind::Sqlite, Authorize::V1));
    assert!(plan.outage.is_none() && !plan.again);
    let options =
        ["fleet", "--outage", "500", "--store", "mongodb", "--authorize", "v2", "--arrive-within", "5"];
    let plan = Plan::try_parse_from(options).expect("arguments");
    assert_eq!((plan.outage, plan.store), (Some(Outage::Errors), StoreKind::Mongodb));
    assert_eq!((plan.authorize, plan.arrive_within), (Authorize::V2, Duration::from_secs(5)));
    assert!(Plan::try_parse_from(["fleet", "--outage", "flood"]).is_err());
}

#[tokio::test]
async fn plans_that_cannot_be_judged_are_refused() {
    for plan in [
        Plan { boxes: 0, ..small() },
        Plan { days: 0, ..small() },
        Plan { days: 1, outage: Some(Outage::Down), ..small() },
        Plan { history_days: 1, ..small() },
        Plan { speed: 0.5, ..small() },
    ] {
        assert!(matches!(run(plan).await, Err(FleetError::Plan(_))));
    }
    let missing = run(Plan { binary: Some("/nowhere/at/all".into()), ..small() }).await;
    assert!(matches!(missing, Err(FleetError::Start(_))));
}
