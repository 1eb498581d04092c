//! The plugin's reactions to answers about data.

use serde_json::{Value, json};

use super::super::*;
use super::{POINT, World, curve, error, peak, ten, tokens};

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
fn a_403_on_data_disables() {
    let mut curve_refused = World::fetching(&[POINT]);
    curve_refused.answer(403, &json!({"code": "900908"}));
    let mut peak_refused = World::fetching(&[POINT]);
    peak_refused.then(200, &curve(POINT, "2026-11-16", 7), Kind::MaxPower);
    peak_refused.answer(403, &error("ADAM-DC-0008"));
    let mut production_refused = World::fetching(&[POINT]);
    production_refused.then(404, &error("no_data_found"), Kind::Production);
    production_refused.answer(403, &error("x"));
    for world in [curve_refused, peak_refused, production_refused] {
        assert_eq!((world.plugin.outcomes().disabled, world.plugin.is_enabled()), (1, false));
        assert!(world.plugin.saved().usage_points.is_empty());
    }
}

#[test]
fn consumption_reactions() {
    for (status, code) in [(429, "slow"), (500, "technical_error")] {
        let mut world = World::fetching(&[POINT]);
        // The request went out less than 5 s after the one before, which took one of the three.
        assert_eq!(world.give_up_on(status, &error(code)), 2, "{status}");
        assert!(world.gave_up_for_an_hour());
    }
    for (status, code) in
        [(400, "ADAM-ERR0123"), (400, "slow_down"), (401, "x"), (503, "x"), (504, "x"), (302, "x")]
    {
        let mut world = World::fetching(&[POINT]);
        world.then(status, &error(code), Kind::Production);
        world.answer(200, &curve(POINT, "2026-11-16", 7));
        assert!(world.gave_up_for_an_hour(), "{status} {code}");
    }
    // No consumption is not a failure if there is production.
    let mut world = World::fetching(&[POINT]);
    world.then(404, &error("no_data_found"), Kind::Production);
    world.answer(200, &curve(POINT, "2026-11-16", 7));
    assert_eq!((world.plugin.outcomes().served, world.plugin.hours_held(POINT, true)), (1, 7 * 24));
    let mut neither = World::fetching(&[POINT]);
    neither.then(404, &error("no_data_found"), Kind::Production);
    neither.answer(404, &error("no_data_found"));
    assert!(neither.gave_up_for_an_hour());
}

#[test]
fn production_reactions() {
    let to_production = || {
        let mut world = World::fetching(&[POINT]);
        world.then(200, &curve(POINT, "2026-11-16", 7), Kind::MaxPower);
        world.then(200, &peak(POINT), Kind::Production);
        world
    };
    for (status, code) in
        [(404, "no_data_found"), (400, "slow_down"), (500, "technical_error"), (401, "adam-err0123")]
    {
        let mut world = to_production();
        world.answer(status, &error(code));
        assert_eq!(world.plugin.outcomes().served, 1, "{status} {code} is silent");
        assert_eq!(world.plugin.memory.has_none(POINT, true), code == "adam-err0123");
    }
    let mut world = to_production();
    assert_eq!(world.give_up_on(429, &error("slow")), 2);
    assert!(world.gave_up_for_an_hour());
    for status in [401, 503, 504] {
        let mut world = to_production();
        world.answer(status, &error("x"));
        assert!(world.gave_up_for_an_hour(), "{status}");
    }
}

#[test]
fn max_power_reactions() {
    let to_peaks = || {
        let mut world = World::fetching(&[POINT]);
        world.then(200, &curve(POINT, "2026-11-16", 7), Kind::MaxPower);
        world
    };
    for status in [429, 500] {
        let mut world = to_peaks();
        assert_eq!(world.give_up_on(status, &error("x")), 3, "{status}");
        assert!(world.gave_up_for_an_hour());
    }
    for (status, served) in [(404, true), (400, false), (503, false)] {
        let mut world = to_peaks();
        world.then(status, &error("ADAM-ERR0123"), Kind::Production);
        world.answer(404, &error("no_data_found"));
        assert_eq!(world.plugin.outcomes().served == 1, served, "{status}");
        assert_eq!(world.gave_up_for_an_hour(), !served, "{status}");
    }
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

#[test]
fn a_reset_of_the_cache_asks_everything_again_and_keeps_the_tokens() {
    let mut world = World::fetching(&[POINT]);
    world.then(200, &curve(POINT, "2026-11-16", 7), Kind::MaxPower);
    world.then(200, &peak(POINT), Kind::Production);
    world.answer(400, &error("ADAM-ERR0069"));
    let (before, saved) = (world.plugin.outcomes().clone(), world.plugin.saved().clone());
    world.plugin.forget_data();
    assert_eq!(world.plugin.hours_held(POINT, false), 0);
    world.plugin.restart(world.now);
    let clc = world.beat_until(Kind::Consumption);
    assert!(clc.target.contains("start=2026-11-16&end=2026-11-23&"), "{}", clc.target);
    world.then(200, &curve(POINT, "2026-11-16", 7), Kind::MaxPower);
    world.then(200, &peak(POINT), Kind::Production);
    world.answer(400, &error("ADAM-ERR0069"));
    assert_eq!(world.plugin.saved(), &saved);
    let today = world.plugin.outcomes().since(&before);
    assert_eq!((today.served, today.gave_up, today.requests_of(Kind::Refresh)), (1, 0, 0));
    assert_eq!(today.requests.values().sum::<u64>(), 3);
    assert_eq!(today.statuses, [(200, 2), (400, 1)].into());
}
