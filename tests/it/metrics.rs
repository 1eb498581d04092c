//! `/metrics` as its readers take it: in both formats, valid for promtool, with figures that are right.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use testkit::person::Choice;

use crate::fixture::{Store, World};

/// `PROMTOOL`, else what `tests/run` fetched, else on the `PATH`.
fn promtool(arguments: &[&str], input: &str) -> Output {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/promtool");
    let fetched = fetched.is_file().then(|| fetched.into_os_string());
    let promtool = std::env::var_os("PROMTOOL").or(fetched).unwrap_or_else(|| "promtool".into());
    let mut promtool = Command::new(promtool);
    let piped = promtool.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("promtool: tests/run fetches it, or set PROMTOOL");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

async fn scrape(world: &World, accept: &str) -> (String, String) {
    let request = testkit::http::client().get(format!("{}/metrics", world.server.admin_url()));
    let answer = request.header(ACCEPT, accept).send().await.unwrap();
    let kind = answer.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
    (kind, answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_counted_is_right_and_valid() {
    let world = World::start(Store::Sqlite).await;
    let device = world.device().await;
    for _ in 0..5 {
        device.poll_once().await.unwrap();
    }
    world.consent(&device, Choice::Allow).await;
    world.final_answer(&device).await;

    let (kind, open) =
        scrape(&world, "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.2").await;
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    assert!(
        open.ends_with("# EOF\n") && open.contains("# UNIT dfp_time_to_consent_seconds seconds\n"),
        "{open}"
    );
    let (kind, text) = scrape(&world, "*/*").await;
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let checked = promtool(&["check", "metrics"], &text);
    let told = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && told.is_empty(), "{told}\n{text}");

    let figure = async |name: &str| world.metric(name).await.unwrap_or_default();
    let mut polls = 0.0;
    for answer in ["token", "authorization_pending", "slow_down"] {
        polls += figure(&format!("dfp_polls_total{{answer=\"{answer}\"}}")).await;
    }
    let mut timed = 0.0;
    for class in ["2xx", "4xx"] {
        timed += figure(&format!(
            "dfp_http_request_duration_seconds_count{{route=\"/device/token\",code=\"{class}\"}}"
        ))
        .await;
    }
    assert!(polls >= 6.0 && (polls - timed).abs() < f64::EPSILON, "{polls} polls, {timed} of them timed");
    let is_one = [
        "dfp_time_to_consent_seconds_count",
        "dfp_time_to_consent_seconds_bucket{le=\"15\"}",
        "dfp_session_events_total{event=\"approved\"}",
        "dfp_enedis_call_duration_seconds_count{api=\"token\",result=\"answered\"}",
        "dfp_http_request_duration_seconds_count{route=\"/auth/redirect\",code=\"2xx\"}",
    ];
    for name in is_one {
        assert!((figure(name).await - 1.0).abs() < f64::EPSILON, "{name} in\n{text}");
    }
    for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
        assert!(figure(name).await > 0.0, "{name} in\n{text}");
    }
    assert!(figure(&format!("dfp_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))).await > 0.0);
}

#[test]
fn the_rules_are_valid() {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus/rules.yml");
    let checked = promtool(&["check", "rules", "--lint=all", "--lint-fatal", rules], "");
    assert!(checked.status.success(), "{checked:?}");
}
