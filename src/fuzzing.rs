//! What holds of whatever a stranger, Enedis or a file sends: a function for each parser, which panics if it does not.
//!
//! The targets in `fuzz/` call them with inputs that coverage guides; the tests here with the seeds in `fuzz/seeds` and
//! with inputs that are near one.

use std::collections::HashSet;
use std::str::from_utf8;
use std::sync::LazyLock;

use actix_web::http::header::{AUTHORIZATION, HeaderValue};
use actix_web::test::TestRequest;
use actors::base::clock::Timestamp;
use actors::base::code::{BearerToken, DeviceCode, StateToken, UserCode};
use actors::base::meter::{METERS_MAX, Meter, listed};
use actors::device_flow::consent::Returned;
use actors::metering::answer;
use actors::metering::api_choice::Api;
use actors::metering::civil::today;
use actors::metering::day::{Day, days_of, reading_of};
use actors::metering::request::{CURVE_DAYS_MAX, DAYS_MAX, DayRange, MeterRequest, Resource};
use actors::metering::resource_server::Verdict;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::byte_serialize;
use jiff::civil::date;
use percent_encoding::percent_decode;
use url::Url;

use crate::commands::import_php::table;
use crate::config::{Config, EnedisConfig, EnvSource};
use crate::enedis::data::{judge, question};
use crate::enedis::{Response, next_access_time, subscriptions};
use crate::http::callback::returned;
use crate::http::client::Client;
use crate::http::form::{BODY_MAX, Form};
use crate::http::query::Query;
use crate::php::entry::Class;

/// 25 October 2026, when an hour is repeated, at 12:00 UTC.
const NOW: Timestamp = Timestamp::from_millis(1_792_929_600_000);
/// The meter that Enedis' answers are about.
const METER: &str = "99999999999991";
/// The authorisation that the list of subscriptions is about.
const AUTHORISATION: i64 = 4_711;

/// A body: every name once and in UTF-8, and what is in it can be taken out once.
pub fn form(input: &[u8]) {
    if input.len() > BODY_MAX {
        return;
    }
    let Ok(mut form) = Form::parse(input) else { return };
    let pieces = input.split(|b| matches!(b, b'&' | b'='));
    assert!(pieces.into_iter().all(|piece| percent_decode(piece).decode_utf8().is_ok()), "not UTF-8");
    for (name, value) in form_urlencoded::parse(input) {
        assert_eq!(form.take(&name), Some(value).filter(|value| !value.is_empty()));
        assert_eq!(form.take(&name), None);
    }
}

/// The first line is an `Authorization` header, if it is not empty; the rest a body. A client is named in short plain
/// text, and is the same one when it says so by HTTP Basic.
pub fn client(input: &[u8]) {
    let (header, body) = split(input);
    let identify = |header: &[u8], body| {
        let header = HeaderValue::from_bytes(header).ok().filter(|header| !header.is_empty());
        let request = header
            .into_iter()
            .fold(TestRequest::post(), |request, header| request.insert_header((AUTHORIZATION, header)));
        Client::identify(&request.to_http_request(), &mut Form::parse(body)?, &[])
    };
    let Ok(Client { id, secret, .. }) = identify(header, body) else { return };
    let told = secret.as_ref().map(|secret| secret.as_str());
    for text in [Some(&*id), told].into_iter().flatten() {
        assert!((1..=256).contains(&text.len()), "the length of {text:?}");
        assert!(!text.contains(|c: char| c.is_ascii_control()), "control characters in {text:?}");
    }
    let half = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let both = format!("{}:{}", half(&id), half(told.unwrap_or_default()));
    let again = identify(format!("Basic {}", STANDARD.encode(both)).as_bytes(), b"");
    assert!(again.is_ok_and(|again| again.id == id && again.secret == secret), "another client");
}

/// What a person types, and the secrets that come back: what is read is what was drawn, and nothing else.
pub fn user_code(input: &[u8]) {
    let Ok(text) = from_utf8(input) else { return };
    let read = |text: &str| UserCode::parse(text).map(|code| code.expose().replace('-', ""));
    let code = read(text);
    if let Some(letters) = &code {
        assert!(read(letters) == code && read(&text.to_lowercase()) == code, "{text:?}");
    }
    if text.is_ascii() && text.len() <= 64 {
        let typed: String = text.to_uppercase().chars().filter(char::is_ascii_alphanumeric).collect();
        let is_code = typed.len() == 8 && typed.chars().all(|c| "BCDFGHJKLMNPQRSTVWXZ".contains(c));
        assert_eq!(code, Some(typed).filter(|_| is_code));
    }
    let secrets =
        [DeviceCode::parse(text).map(|it| it.expose()), BearerToken::parse(text).map(|it| it.expose())];
    assert!(secrets.into_iter().flatten().all(|secret| secret == text.to_lowercase()));
    if let Some(state) = StateToken::parse(text) {
        assert!(state.expose() == text && text.len() <= 100);
    }
}

/// The query that a browser brings back from Enedis, for each consent page.
pub fn callback(input: &[u8]) {
    static PAGES: LazyLock<[EnedisConfig; 3]> = LazyLock::new(|| {
        [("DEVICE", "v1"), ("CLIENT_CREDENTIALS", "v1"), ("CLIENT_CREDENTIALS", "v2")].map(|(flow, page)| {
            let page = format!("http://localhost:1/dataconnect/{page}/oauth2/authorize");
            let pairs = [
                ("FLOW", flow),
                ("CLIENT_ID", "a"),
                ("CLIENT_SECRET", "b"),
                ("AUTHORIZATION_ENDPOINT", &page),
            ];
            Config::read(&EnvSource::from_iter(pairs)).unwrap_or_else(|error| panic!("{error}")).enedis
        })
    });
    let Ok(text) = from_utf8(input) else { return };
    let query = Query::read(text);
    for (page, enedis) in PAGES.iter().enumerate() {
        let Ok(returned) = returned(enedis, &query) else { continue };
        match (page, returned) {
            (0, Returned::Code { code, usage_point_id }) => {
                assert!((1..=4_096).contains(&code.len()) && !code.contains(char::is_control));
                let meters: Vec<_> = listed(usage_point_id.as_deref().unwrap_or_default()).collect();
                let is_id = |id: &&str| id.bytes().all(|b| b.is_ascii_alphanumeric());
                assert!(meters.len() <= METERS_MAX && meters.iter().all(is_id));
            }
            (1, Returned::Meters { meters, .. }) => are_meters(&meters),
            (2, Returned::Authorisation(id)) => assert!(id >= 0 && query.get("usage_point_id").is_none()),
            (page, _) => panic!("page {page} returns something else"),
        }
    }
}

/// The path and query of a question for data: what is asked of Enedis is about this meter, in plain text.
pub fn data_request(input: &[u8]) {
    let Ok(text) = from_utf8(input) else { return };
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let Query(pairs) = Query::read(query);
    let asked = pairs.len();
    let Ok(request) = MeterRequest::parse(path, pairs, today(NOW)) else { return };
    let days_max = if request.resource.is_curve() { CURVE_DAYS_MAX } else { DAYS_MAX };
    assert!(request.resource.v5_path() == path && (3..=4).contains(&asked));
    assert!((1..=days_max).contains(&request.range.day_count()));
    for api in [Api::New, Api::Legacy] {
        let (path, query) = question(api, request);
        assert_eq!(query.matches(&request.meter.to_string()).count(), 1);
        let address = format!("http://localhost/{path}?{query}");
        assert!(Url::parse(&address).is_ok_and(|url| url.as_str() == address), "{address}");
    }
}

/// The first line is a status, `new` or `v5`, and the name of a resource; the rest is what Enedis answers: about values,
/// and about subscriptions. No word reaches a box on which it would act against its own token; pauses are bounded;
/// values are short, can be kept, and are read by a box as they were by us.
pub fn data_answer(input: &[u8]) {
    let (head, body) = split(input);
    let mut head = from_utf8(head).unwrap_or_default().split(' ');
    let status = head.next().and_then(|status| status.parse().ok()).unwrap_or(200);
    let api = if head.next() == Some("v5") { Api::Legacy } else { Api::New };
    let name = head.next().unwrap_or_default();
    let resource =
        Resource::ALL.into_iter().find(|it| it.name() == name).unwrap_or(Resource::ConsumptionCurve);
    let range = DayRange::new(date(2026, 10, 24), date(2026, 10, 27));
    let (Some(meter), Some(range)) = (Meter::parse(METER), range) else { unreachable!("both are constants") };
    let request = MeterRequest { resource, meter, range };
    let retry_at = next_access_time(body);
    let told = |status, body: &[u8]| Response { status, content_type: None, body: body.to_vec(), retry_at };
    let answer = told(status, body);
    if let Ok(found) = subscriptions::read(&answer, AUTHORISATION) {
        are_meters(&found.meters);
    }
    match judge(api, request, &Ok(answer), NOW) {
        Verdict::Values(reading) => {
            let days = days_of(resource, range, &reading);
            assert!(days.keys().copied().eq(range.days()));
            for (date, day) in &days {
                assert!(resource.is_curve() || day.points.len() <= 1);
                assert_eq!(Day::unpack(&day.pack(*date), *date).as_ref(), Some(day), "kept");
            }
            let Some(reading) = reading_of(request, &days) else { return };
            let to_box = answer::body(request, &reading);
            let again = judge(Api::Legacy, request, &Ok(told(200, to_box.as_bytes())), NOW);
            assert_eq!(again, Verdict::Values(reading), "told to a box");
        }
        Verdict::DataError(error) => {
            assert!(matches!((status, error.status), (400 | 403 | 404, 400 | 404)), "{error:?}");
            assert!(error.code != "invalid_token" && error.code != "unauthorized", "{error:?}");
            assert!(
                error.code.len() <= 200 && error.description.len() <= 200 && error.description.is_ascii()
            );
        }
        Verdict::Busy { until } => assert!(until > NOW && until.as_secs() <= NOW.as_secs() + 3_600),
        Verdict::ConsentRefused { .. } | Verdict::TokenRejected | Verdict::Closed | Verdict::Down { .. } => {}
    }
}

/// A CSV file of the PHP server's table: a live token has an end in the future and meters.
pub fn import(input: &[u8]) {
    let Ok(entries) = table::entries(input, jiff::tz::TimeZone::UTC) else { return };
    for entry in entries.map_while(Result::ok) {
        if let Class::Live(token) = entry.classify(NOW) {
            assert!(token.expires_at > NOW && entry.key.to_lowercase().ends_with(&token.bearer.expose()));
            are_meters(&token.meters);
        }
    }
}

/// An `.env` file. No value is told in an error.
pub fn config(input: &[u8]) {
    /// In no word of ours.
    const MARK: char = '¤';
    let Ok(text) = from_utf8(input) else { return };
    if let Ok(config) =
        EnvSource::parse(text).map_err(|_| ()).and_then(|it| Config::read(&it).map_err(|_| ()))
    {
        config.warnings(NOW);
    }
    if let Err(error) = EnvSource::parse(&text.replace(MARK, "").replace('=', &format!("={MARK}"))) {
        assert!(!error.to_string().contains(MARK), "{error}");
    }
    let marked = text.lines().filter_map(|line| line.split_once('='));
    let marked = marked.map(|(name, value)| (name, format!("{value}{MARK}"))).collect();
    if let Err(errors) = Config::read(&marked) {
        assert!(!errors.to_string().contains(MARK), "{errors}");
    }
}

/// What stands before the first line feed, and behind it.
fn split(input: &[u8]) -> (&[u8], &[u8]) {
    let at = input.iter().position(|b| *b == b'\n').unwrap_or(input.len());
    (&input[..at], input.get(at + 1..).unwrap_or_default())
}

fn are_meters(meters: &[Meter]) {
    assert!((1..=METERS_MAX).contains(&meters.len()));
    assert_eq!(meters.iter().collect::<HashSet<_>>().len(), meters.len(), "each once");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    type Target = (&'static str, fn(&[u8]));

    const TARGETS: [Target; 8] = [
        ("form", form),
        ("client", client),
        ("user_code", user_code),
        ("callback", callback),
        ("data_request", data_request),
        ("data_answer", data_answer),
        ("import", import),
        ("config", config),
    ];

    fn seeds(name: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
        let files = folder.read_dir().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
    }

    #[test]
    fn every_seed_holds() {
        for (name, holds) in TARGETS {
            let seeds = seeds(name);
            assert!(!seeds.is_empty(), "{name}");
            for seed in seeds {
                holds(&seed);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        /// A piece of a seed gives way to a piece of another, or to anything.
        #[test]
        fn so_does_what_is_near_a_seed(
            (name, holds) in select(&TARGETS[..]),
            (one, other) in any::<(Index, Index)>(),
            (from, to, its_from, its_to) in any::<(Index, Index, Index, Index)>(),
            anything in proptest::option::of(prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..9),
                "\\PC{0,9}".prop_map(String::into_bytes),
            ]),
        ) {
            let seeds = seeds(name);
            let cut = |seed: &[u8], from: Index, to: Index| {
                let (from, to) = (from.index(seed.len() + 1), to.index(seed.len() + 1));
                from.min(to)..from.max(to)
            };
            let (mut input, other) = (one.get(&seeds).clone(), other.get(&seeds));
            let piece = anything.unwrap_or_else(|| other[cut(other, its_from, its_to)].to_vec());
            input.splice(cut(&input, from, to), piece);
            holds(&input);
        }
    }
}
