//! The plugin's reactions to answers about codes and tokens, and its pace; [`data`] has those to answers about data,
//! and [`shell`] runs it over sockets.

mod data;
mod shell;

use serde_json::{Value, json};

use super::*;
use crate::calendar::Day;

const POINT: &str = "22516914714270";

fn day(text: &str) -> Day {
    Day::parse(text).expect("a day")
}

/// Ten in the morning.
fn ten() -> Moment {
    Moment::at(day("2026-11-23"), 10, 0)
}

/// A box and its clock.
struct World {
    plugin: Plugin,
    now: Moment,
}

impl World {
    fn new() -> Self {
        Self { plugin: Plugin::new(Settings::new("proxy:8080"), ten()), now: ten() }
    }

    /// A box with tokens for `points`, as from the day before.
    fn with_tokens(points: &[&str]) -> Self {
        let mut world = Self::new();
        world.plugin = world.plugin.with_saved(Saved {
            usage_points: points.iter().map(|&point| point.to_owned()).collect(),
            token_type: "Bearer".into(),
            access_token: "old".into(),
            refresh_token: "keep".into(),
            expires_at: Some(ten().plus_secs(-3_600)),
        });
        world
    }

    /// The same, its token renewed and the first load curve asked for.
    fn fetching(points: &[&str]) -> Self {
        let mut world = Self::with_tokens(points);
        world.beat_until(Kind::Refresh);
        assert_eq!(world.answer(200, &tokens(None)), None, "five seconds have not passed");
        world.beat_until(Kind::Consumption);
        world
    }

    fn beat(&mut self) -> Option<Request> {
        self.now = self.now.plus(HEARTBEAT);
        self.plugin.heartbeat(self.now, true)
    }

    /// Beats until a request goes out, which must be of this kind.
    fn beat_until(&mut self, kind: Kind) -> Request {
        let request = (0..12).find_map(|_| self.beat()).expect("a request");
        assert_eq!(request.kind, kind);
        request
    }

    fn reply(&mut self, reply: &Reply) -> Option<Request> {
        self.now = self.now.plus(Duration::from_millis(100));
        self.plugin.answer(self.now, reply)
    }

    fn answer(&mut self, status: u16, body: &Value) -> Option<Request> {
        self.reply(&Reply::json(status, body))
    }

    /// Answers, and beats until the next request, of this kind.
    fn then(&mut self, status: u16, body: &Value, kind: Kind) -> Request {
        let request =
            self.answer(status, body).or_else(|| (0..12).find_map(|_| self.beat())).expect("a request");
        assert_eq!(request.kind, kind);
        request
    }

    /// Sends the same answer to every repetition; the number of repetitions until the box gave up.
    fn give_up_on(&mut self, status: u16, body: &Value) -> u32 {
        let mut again = 0;
        assert_eq!(self.answer(status, body), None);
        while self.plugin.step() != Step::Idle {
            if self.beat().is_some() {
                again += 1;
                assert_eq!(self.answer(status, body), None);
            }
        }
        again
    }

    fn gave_up_for_an_hour(&self) -> bool {
        self.plugin.outcomes().gave_up == 1 && self.plugin.step() == Step::Idle && {
            let wait = self.plugin.next_connection().since(self.now);
            wait > Duration::from_secs(3_500) && wait <= Duration::from_secs(3_600)
        }
    }
}

fn error(code: &str) -> Value {
    json!({"error": code, "error_description": "because"})
}

fn tokens(points: Option<&str>) -> Value {
    let mut answer =
        json!({"access_token": "new", "refresh_token": "keep", "token_type": "Bearer", "expires_in": 12600});
    if let Some(points) = points {
        answer["usage_points_id"] = points.into();
    }
    answer
}

/// Half hours of `days` days from `start`.
fn curve(point: &str, start: &str, days: i64) -> Value {
    let readings = day(start).until(day(start).plus(days)).flat_map(|day| {
        (1..=48).map(move |slot| {
            let (day, slot) = if slot == 48 { (day.plus(1), 0) } else { (day, slot) };
            json!({"value": "500", "date": format!("{day} {:02}:{:02}:00", slot / 2, slot % 2 * 30)})
        })
    });
    let readings: Vec<_> = readings.collect();
    json!({"meter_reading": {"usage_point_id": point, "interval_reading": readings}})
}

fn peak(point: &str) -> Value {
    json!({"meter_reading": {"usage_point_id": point,
        "interval_reading": [{"value": "4650", "date": "2026-11-22 13:03:35"}]}})
}

#[test]
fn a_first_day_goes_from_codes_to_data() {
    let mut world = World::new();
    let codes = world.beat_until(Kind::DeviceCode);
    assert_eq!((codes.method, codes.target.as_str()), ("POST", "/device/code"));
    assert_eq!(codes.body.as_deref(), Some("client_id=d198fd52-61c0-4b77-8725-06a1ef90da9f"));
    assert_eq!(codes.header("User-Agent"), Some("DomoticzLinkyPlugin/2.6.0"));
    assert_eq!(codes.header("Content-Type"), Some("application/x-www-form-urlencoded"));
    assert_eq!((codes.header("Host"), codes.header("Authorization")), (Some("proxy:8080"), None));
    // The first poll comes less than 5 s later and so waits for the heartbeat after next.
    let poll = world.then(200, &json!({"device_code": "dc", "user_code": "AB-CD"}), Kind::Poll);
    assert_eq!(world.plugin.consent_path().as_deref(), Some("/device?code=AB-CD"));
    let form = "client_id=d198fd52-61c0-4b77-8725-06a1ef90da9f&\
                grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code=dc";
    assert_eq!((poll.target.as_str(), poll.body.as_deref()), ("/device/token", Some(form)));
    assert_eq!(world.plugin.outcomes().resends, 1);
    world.then(400, &error("authorization_pending"), Kind::Poll);
    let clc = world.then(200, &tokens(Some(POINT)), Kind::Consumption);
    let target = "/data/proxy/metering_data_clc/v5/consumption_load_curve?start=2026-11-16&end=2026-11-23&\
                  usage_point_id=22516914714270";
    assert_eq!((clc.method, clc.target.as_str(), &clc.body), ("GET", target, &None));
    assert_eq!(clc.header("Authorization"), Some("Bearer new"));
    let peaks = world.then(200, &curve(POINT, "2026-11-16", 7), Kind::MaxPower);
    assert!(peaks.target.contains("daily_consumption_max_power?start=2026-11-22&end=2026-11-23&"));
    world.then(200, &peak(POINT), Kind::Production);
    assert_eq!(world.answer(400, &error("ADAM-ERR0069")), None);
    assert_eq!((world.plugin.outcomes().served, world.plugin.outcomes().gave_up), (1, 0));
    let next = world.plugin.next_connection();
    assert_eq!((next.day(), next.hour()), (day("2026-11-24"), 8));
    assert_eq!(world.plugin.hours_held(POINT, false), 7 * 24);
}

#[test]
fn the_second_day_asks_one_day_and_no_production() {
    let mut world = World::fetching(&[POINT]);
    world.then(200, &curve(POINT, "2026-11-16", 7), Kind::MaxPower);
    world.then(200, &peak(POINT), Kind::Production);
    world.answer(400, &error("ADAM-ERR0069"));
    world.now = world.plugin.next_connection();
    world.beat_until(Kind::Refresh);
    let clc = world.then(200, &tokens(None), Kind::Consumption);
    assert!(clc.target.contains("start=2026-11-23&end=2026-11-24&"), "{}", clc.target);
    world.then(200, &curve(POINT, "2026-11-23", 1), Kind::MaxPower);
    let peaks = json!({"meter_reading": {"usage_point_id": POINT,
        "interval_reading": [{"value": 4650, "date": "2026-11-23 13:03:35"}]}});
    assert_eq!(world.answer(200, &peaks), None, "production was remembered as none");
    assert_eq!(world.plugin.outcomes().served, 2);
}

#[test]
fn a_long_history_is_asked_week_by_week() {
    let mut world = World::fetching(&[POINT]);
    world.plugin.settings.history_days = 16;
    world.plugin.restart(world.now);
    let mut asked = Vec::new();
    let mut next = world.beat();
    for (start, days) in [("2026-11-16", 7), ("2026-11-09", 7), ("2026-11-07", 2)] {
        let request = next.take().or_else(|| (0..12).find_map(|_| world.beat())).expect("a request");
        asked.push(request.target);
        next = world.answer(200, &curve(POINT, start, days));
    }
    let dates = [("2026-11-16", "2026-11-23"), ("2026-11-09", "2026-11-16"), ("2026-11-07", "2026-11-09")];
    for (target, (start, end)) in asked.iter().zip(dates) {
        assert!(target.contains(&format!("start={start}&end={end}&")), "{target}");
    }
    world.beat_until(Kind::MaxPower);
}

#[test]
fn errors_of_the_token_endpoint_that_disable() {
    for (status, code) in
        [(400, "invalid_grant"), (400, "invalid_request"), (200, "Unauthorized"), (503, "INVALID_GRANT")]
    {
        let mut world = World::with_tokens(&[POINT]);
        world.beat_until(Kind::Refresh);
        assert_eq!(world.answer(status, &error(code)), None);
        assert!(!world.plugin.is_enabled(), "{status} {code}");
        assert_eq!((world.plugin.outcomes().disabled, world.plugin.saved()), (1, &Saved::default()));
        assert!((0..99).all(|_| world.beat().is_none()));
        world.plugin.restart(world.now);
        world.beat_until(Kind::DeviceCode);
    }
}

#[test]
fn other_answers_of_the_token_endpoint_are_asked_again_three_times() {
    let missing = json!({"access_token": "a", "refresh_token": "r", "token_type": "Bearer"});
    for (status, body) in [
        (400, error("slow_down")),
        (400, error("expired_token")),
        (400, error("access_denied")),
        (400, error("version_mismatch")),
        (503, error("temporarily_unavailable")),
        (500, json!({})),
        (200, Value::Null),
        (200, missing),
    ] {
        let mut world = World::with_tokens(&[POINT]);
        world.beat_until(Kind::Refresh);
        assert_eq!(world.give_up_on(status, &body), 3, "{status} {body}");
        assert!(world.gave_up_for_an_hour() && world.plugin.is_enabled(), "{status} {body}");
        assert_eq!(world.plugin.outcomes().too_many_failures, 1);
    }
}

#[test]
fn a_refresh_names_the_meters_and_keeps_the_token() {
    let mut world = World::with_tokens(&["1", "2"]);
    let refresh = world.beat_until(Kind::Refresh);
    let form = "grant_type=refresh_token&client_id=d198fd52-61c0-4b77-8725-06a1ef90da9f&usage_points_id=1%2C2&\
                refresh_token=keep";
    assert_eq!((refresh.target.as_str(), refresh.body.as_deref()), ("/device/token", Some(form)));
    world.answer(200, &tokens(None));
    assert_eq!(world.plugin.saved().usage_points, ["1", "2"]);
    // Kept ten minutes less than it lives, and used ten minutes less than that.
    let expected = world.now.plus_secs(12_600 - 600);
    assert_eq!(world.plugin.saved().expires_at, Some(expected));
}

#[test]
fn a_token_that_lives_is_used_without_a_refresh() {
    let mut world = World::with_tokens(&[POINT]);
    world.plugin.saved.expires_at = Some(ten().plus_secs(700));
    assert_eq!(world.beat_until(Kind::Consumption).header("Authorization"), Some("Bearer old"));
    let mut world = World::with_tokens(&[POINT]);
    world.plugin.saved.expires_at = Some(ten().plus_secs(600));
    world.beat_until(Kind::Refresh);
}

#[test]
fn without_meters_in_the_first_answer_the_box_gives_up() {
    let mut world = World::new();
    world.beat_until(Kind::DeviceCode);
    world.then(200, &json!({"device_code": "dc", "user_code": "AB-CD"}), Kind::Poll);
    assert_eq!(world.answer(200, &tokens(None)), None);
    assert!(world.gave_up_for_an_hour());
}

#[test]
fn an_expires_in_that_is_no_number_throws_and_the_next_day_goes_on() {
    let mut world = World::with_tokens(&[POINT]);
    world.beat_until(Kind::Refresh);
    let mut answer = tokens(None);
    answer["expires_in"] = "soon".into();
    assert_eq!(world.answer(200, &answer), None);
    assert_eq!(world.plugin.outcomes().stuck, 1);
    assert!((0..99).all(|_| world.beat().is_none()), "nothing until tomorrow");
    world.now = world.plugin.next_connection();
    world.beat_until(Kind::Refresh);
    let mut text = tokens(None);
    text["expires_in"] = "12600".into();
    world.then(200, &text, Kind::Consumption);
}

#[test]
fn polling_needs_its_connection_and_takes_the_interval() {
    let mut world = World::new();
    world.beat_until(Kind::DeviceCode);
    world.then(200, &json!({"device_code": "dc", "user_code": "AB-CD"}), Kind::Poll);
    let mut pending = error("authorization_pending");
    pending["interval"] = 25.into();
    assert_eq!(world.answer(400, &pending), None);
    assert_eq!((world.beat(), world.beat()), (None, None), "20 s");
    assert_eq!(world.beat().map(|request| request.kind), Some(Kind::Poll));
    world.answer(400, &pending);
    world.now = world.now.plus(Duration::from_secs(30));
    assert_eq!(world.plugin.heartbeat(world.now, false), None);
    assert_eq!(world.plugin.outcomes().lost_while_polling, 1);
    assert!(world.gave_up_for_an_hour());
    world.now = world.plugin.next_connection();
    world.beat_until(Kind::DeviceCode);
}

#[test]
fn a_lost_request_is_sent_again_after_four_heartbeats() {
    let mut world = World::with_tokens(&[POINT]);
    let first = world.beat_until(Kind::Refresh);
    world.plugin.connected();
    assert!((0..4).all(|_| world.beat().is_none()));
    assert_eq!(world.plugin.step(), Step::Retry);
    assert_eq!(world.beat(), Some(first));
    while world.plugin.step() != Step::Idle {
        world.beat();
    }
    let outcomes = world.plugin.outcomes();
    assert_eq!((outcomes.timeouts, outcomes.resends, outcomes.requests_of(Kind::Refresh)), (4, 3, 4));
    assert!(world.gave_up_for_an_hour());
    assert_eq!(world.answer(200, &tokens(None)), None, "too late");
}

#[test]
fn nights_are_quiet() {
    let at = |hour, minute| Moment::at(day("2026-11-23"), hour, minute);
    let mut world = World { plugin: Plugin::new(Settings::new("proxy"), at(5, 0)), now: at(5, 0) };
    assert_eq!(
        (world.plugin.next_connection().day(), world.plugin.next_connection().hour()),
        (day("2026-11-23"), 8)
    );
    assert_eq!(world.beat(), None);
    world.plugin = Plugin::new(Settings::new("proxy"), at(21, 30));
    world.now = at(21, 30);
    world.beat_until(Kind::DeviceCode);
    world.give_up_on(500, &json!({}));
    let next = world.plugin.next_connection();
    assert_eq!((next.day(), next.hour()), (day("2026-11-24"), 8), "an hour later would be past 22");
    let seeds = (0..50).map(|seed| {
        let settings = Settings { seed, ..Settings::new("proxy") };
        Plugin::new(settings, at(23, 0)).next_connection()
    });
    let morning: std::collections::HashSet<_> = seeds.collect();
    assert!(morning.len() > 20, "boxes spread over the hour: {}", morning.len());
}

#[test]
fn outcomes_add_up() {
    let mut world = World::fetching(&[POINT]);
    world.answer(403, &error("x"));
    let sum: Outcomes = [world.plugin.outcomes(), world.plugin.outcomes()].into_iter().sum();
    assert_eq!((sum.disabled, sum.requests_of(Kind::Refresh)), (2, 2));
}
