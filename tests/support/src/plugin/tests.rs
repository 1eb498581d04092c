//! The plugin's reactions to answers, and its pace; [`shell`] runs it over sockets.

mod shell;

use serde_json::{Value, json};

use super::*;
use crate::calendar::Day;

const POINT: &str = "22516914714270";

fn day(text: &str) -> Day {
    Day::parse(text).expect("a day")
}

fn ten() -> Moment {
    Moment::at(day("2026-11-23"), 10, 0)
}

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
        world.plugin.saved = Saved {
            usage_points: points.iter().map(|&point| point.to_owned()).collect(),
            token_type: "Bearer".into(),
            access_token: "old".into(),
            refresh_token: "keep".into(),
            expires_at: Some(ten().plus_secs(-3_600)),
        };
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

    /// A box whose request of this kind, about a token or data, is under way.
    fn at(kind: Kind) -> Self {
        if kind == Kind::Refresh {
            let mut world = Self::with_tokens(&[POINT]);
            world.beat_until(kind);
            return world;
        }
        let mut world = Self::fetching(&[POINT]);
        if kind != Kind::Consumption {
            world.then(200, &curve(POINT, "2026-11-16", 7), Kind::MaxPower);
        }
        if kind == Kind::Production {
            world.then(200, &peak(POINT), kind);
        }
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
    world.answer(400, &error("ADAM-ERR0069"));
    let next = world.plugin.next_connection();
    assert_eq!((next.day(), next.hour()), (day("2026-11-24"), 8));
    assert_eq!(world.plugin.hours_held(POINT, false), 7 * 24);
}

/// What comes of an answer.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// The box stops for good.
    Stops,
    /// It asks the same so many times again, then waits for an hour.
    AsksAgain(u32),
    /// It goes on to production; whether it counts as served in the end.
    GoesOn(bool),
    /// It is done; whether it counts as served.
    IsDone(bool),
}

#[test]
fn reactions_to_errors() {
    use Kind::{Consumption, MaxPower, Production, Refresh};
    use Then::{AsksAgain, GoesOn, IsDone, Stops};
    let cases: [(_, &[_], _); 17] = [
        (Refresh, &[(400, "invalid_grant"), (400, "invalid_request")], Stops),
        (Refresh, &[(200, "Unauthorized"), (503, "INVALID_GRANT")], Stops),
        (Refresh, &[(400, "slow_down"), (400, "expired_token"), (400, "access_denied")], AsksAgain(3)),
        (Refresh, &[(400, "version_mismatch"), (503, "temporarily_unavailable"), (500, "")], AsksAgain(3)),
        (Consumption, &[(403, "ADAM-DC-0008")], Stops),
        // The request went out less than 5 s after the one before, which took one of the three.
        (Consumption, &[(429, "slow"), (500, "technical_error")], AsksAgain(2)),
        (Consumption, &[(400, "ADAM-ERR0123"), (400, "slow_down"), (401, "x")], GoesOn(false)),
        (Consumption, &[(503, "x"), (504, "x"), (302, "x")], GoesOn(false)),
        // No consumption is not a failure if there is production.
        (Consumption, &[(404, "no_data_found")], GoesOn(true)),
        (MaxPower, &[(403, "ADAM-DC-0008")], Stops),
        (MaxPower, &[(429, "x"), (500, "x")], AsksAgain(3)),
        (MaxPower, &[(404, "ADAM-ERR0123")], GoesOn(true)),
        (MaxPower, &[(400, "ADAM-ERR0123"), (503, "x")], GoesOn(false)),
        (Production, &[(403, "x")], Stops),
        (Production, &[(404, "x"), (400, "slow_down"), (500, "x"), (401, "adam-err0123")], IsDone(true)),
        (Production, &[(429, "slow")], AsksAgain(2)),
        (Production, &[(401, "x"), (503, "x"), (504, "x")], IsDone(false)),
    ];
    for (kind, status, code, then) in
        cases.into_iter().flat_map(|(kind, all, then)| all.iter().map(move |(s, c)| (kind, *s, *c, then)))
    {
        let (case, mut world, body) = (format!("{kind:?} {status} {code}"), World::at(kind), error(code));
        match then {
            Stops => {
                assert_eq!(world.answer(status, &body), None, "{case}");
                assert_eq!(
                    (world.plugin.outcomes().disabled, world.plugin.is_enabled()),
                    (1, false),
                    "{case}"
                );
                assert_eq!(world.plugin.saved(), &Saved::default(), "{case}");
                assert!((0..99).all(|_| world.beat().is_none()), "{case}");
                world.plugin.restart(world.now);
                world.beat_until(Kind::DeviceCode);
                continue;
            }
            AsksAgain(times) => {
                assert_eq!(world.give_up_on(status, &body), times, "{case}");
            }
            GoesOn(_) => {
                world.then(status, &body, Production);
                world.answer(200, &curve(POINT, "2026-11-16", 7));
            }
            IsDone(_) => assert_eq!(world.answer(status, &body), None, "{case}"),
        }
        let served = matches!(then, GoesOn(true) | IsDone(true));
        assert_eq!(world.plugin.outcomes().served, u64::from(served), "{case}");
        assert_eq!(world.gave_up_for_an_hour(), !served, "{case}");
        assert_eq!(world.plugin.memory.has_none(POINT, true), code == "adam-err0123", "{case}");
    }
    let mut neither = World::fetching(&[POINT]);
    neither.then(404, &error("no_data_found"), Production);
    neither.answer(404, &error("no_data_found"));
    assert!(neither.gave_up_for_an_hour());
}

#[test]
fn token_answers_that_lack_something_are_asked_again() {
    let missing = json!({"access_token": "a", "refresh_token": "r", "token_type": "Bearer"});
    for body in [Value::Null, missing] {
        assert_eq!(World::at(Kind::Refresh).give_up_on(200, &body), 3, "{body}");
    }
    let mut world = World::new();
    world.beat_until(Kind::DeviceCode);
    world.then(200, &json!({"device_code": "dc", "user_code": "AB-CD"}), Kind::Poll);
    assert_eq!(world.answer(200, &tokens(None)), None);
    assert!(world.gave_up_for_an_hour(), "no meters in the first answer");
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
    assert_eq!((outcomes.timeouts, outcomes.resends, outcomes.requests[&Kind::Refresh]), (4, 3, 4));
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
}

#[test]
fn an_invalid_token_is_refreshed_once_a_cycle() {
    let mut world = World::with_tokens(&[POINT]);
    world.plugin.saved.expires_at = Some(ten().plus_secs(9_000));
    world.beat_until(Kind::Consumption);
    world.then(401, &error("invalid_token"), Kind::Refresh);
    let again = world.then(200, &tokens(None), Kind::Consumption);
    assert_eq!(again.header("Authorization"), Some("Bearer new"));
    // Refused again: no second refresh, on to production, and an hour's pause.
    world.then(401, &error("invalid_token"), Kind::Production);
    world.answer(401, &error("invalid_token"));
    assert!(world.gave_up_for_an_hour());
    world.now = world.plugin.next_connection();
    world.beat_until(Kind::Consumption);
    world.then(401, &error("invalid_token"), Kind::Refresh);
}

#[test]
fn the_header_tells_of_an_invalid_token_only_in_one_spelling() {
    let reply = |name: &str, value: &str| Reply {
        status: 401,
        headers: vec![(name.to_owned(), value.to_owned())],
        body: String::new(),
    };
    let header = |name, value| reply(name, value).error();
    assert_eq!(
        header("WWW-Authenticate", "Bearer realm=\"x\",error=\"invalid_token\""),
        Ok("invalid_token".into())
    );
    assert_eq!(header("WWW-Authenticate", "Bearer realm=\"x\", error=\"invalid_token\""), Ok(String::new()));
    assert_eq!(header("www-authenticate", "Bearer realm=\"x\",error=\"invalid_token\""), Ok(String::new()));
    assert_eq!(header("WWW-Authenticate", "Bearer error=\"invalid_token\""), Ok(String::new()), "no comma");
    assert_eq!(header("WWW-Authenticate", "Basic realm=\"x\",Bearer"), Err(Crash));
    let with_body = Reply { body: error("other").to_string(), ..reply("WWW-Authenticate", "a,b") };
    assert_eq!(with_body.error(), Ok("other".into()), "the body comes first");
}

#[test]
fn data_for_another_meter_or_without_values_fails_the_cycle() {
    for body in [
        curve("99999999999999", "2026-11-16", 7),
        json!({"meter_reading": {"usage_point_id": POINT, "interval_reading": []}}),
        json!({"meter_reading": {"interval_reading": []}}),
        json!({"other": 1}),
        Value::Null,
    ] {
        let mut world = World::fetching(&[POINT]);
        world.then(200, &body, Kind::MaxPower);
        world.then(200, &peak(POINT), Kind::Production);
        world.answer(404, &error("no_data_found"));
        assert!(world.gave_up_for_an_hour(), "{body}");
    }
}

#[test]
fn what_the_plugin_throws_on_stops_it_until_the_morning() {
    let date = json!({"meter_reading": {"usage_point_id": POINT,
        "interval_reading": [{"value": "1", "date": "2026-11-22T00:30:00Z"}]}});
    let short = json!({"meter_reading": {"usage_point_id": POINT, "interval_reading": [{"value": "1", "date": "2026-11-22"}]}});
    for body in [json!({"meter_reading": {"usage_point_id": POINT}}), json!(5), short] {
        let mut world = World::fetching(&[POINT]);
        assert_eq!(world.answer(200, &body), None);
        assert_eq!(
            (world.plugin.outcomes().stuck, world.plugin.step()),
            (1, Step::Reading(Kind::Consumption)),
            "{body}"
        );
        assert!((0..99).all(|_| world.beat().is_none()));
        world.now = world.plugin.next_connection();
        assert_eq!(world.now.hour(), 8);
        // It goes on where it stood, with no answer at all.
        world.beat_until(Kind::Production);
    }
    let mut world = World::fetching(&[POINT]);
    world.then(200, &date, Kind::MaxPower);
}

#[test]
fn several_meters_come_one_after_the_other() {
    let mut world = World::fetching(&["1", "2"]);
    world.then(503, &error("x"), Kind::Production);
    let second = world.then(404, &error("x"), Kind::Consumption);
    assert!(second.target.ends_with("usage_point_id=2"));
    world.then(200, &curve("2", "2026-11-16", 7), Kind::MaxPower);
    world.then(404, &error("x"), Kind::Production);
    world.answer(404, &error("x"));
    assert!(world.gave_up_for_an_hour(), "the first meter failed");
    assert_eq!(world.plugin.hours_held("2", false), 7 * 24);
}
