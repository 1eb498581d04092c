//! Owns the page that shows a run: the table, and plots of what it leaves out. One file without scripts or links.

use std::fmt::Write as _;

use super::report::{Consents, Polls, Report, Use};
use super::tally::Percentiles;
use crate::plot::{Axis, PlotError, Scale, Series, bars, lines};

const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Load on device-flow-proxy</title>\n\
<style>\nbody { font: 15px/1.45 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222; }\n\
h1 { font-size: 1.4em; }\npre { background: #f6f6f6; padding: 1em; white-space: pre-wrap; font-size: 12.5px; }\n\
ul { list-style: none; padding: 0; }\n.pass { color: #006b4f; }\n.fail { color: #b00020; font-weight: bold; }\n\
svg { max-width: 100%; height: auto; display: block; margin: 1.2em 0; }\n</style>\n</head>\n";

/// The page of `report`.
pub(super) fn page(report: &Report) -> Result<String, PlotError> {
    let mut html =
        format!("{HEAD}<body>\n<h1>Load on device-flow-proxy</h1>\n<p>{}</p>\n<ul>\n", escape(&report.plan));
    for verdict in report.verdicts() {
        let (class, word) = if verdict.pass { ("pass", "pass") } else { ("fail", "FAIL") };
        let (requirement, found) = (escape(verdict.requirement), escape(&verdict.found));
        // A string takes whatever is written.
        _ = writeln!(html, "<li><span class=\"{class}\">{word}</span> {requirement}: {found}</li>");
    }
    html += "</ul>\n";
    if let Some(polls) = &report.polls {
        html += &of_polls(polls)?;
    }
    if let Some(consents) = &report.consents {
        html += &of_consents(consents)?;
    }
    html += &drawn(vec![of_machine(&report.used)])?;
    _ = writeln!(html, "<pre>{}</pre>\n</body>\n</html>", escape(&report.to_string()));
    Ok(html)
}

fn of_polls(polls: &Polls) -> Result<String, PlotError> {
    let mut plots = Vec::new();
    // The last point is the longest of all, at 100 %, which has no place on the axis.
    let most = (polls.latency_ms.count as f64).max(10.0);
    let curve = polls.latency_curve.iter().map(|(part, ms)| ((1.0 / (1.0 - part)).min(most), *ms));
    plots.push(lines(
        "Polls: latency from the planned instant, by percentile",
        Axis { title: "polls answered within that time", scale: Scale::Percentile },
        Axis::log("latency (ms)"),
        &[Series::new("polls", curve)],
    ));
    let figure = |name, of: fn(&Percentiles) -> f64| {
        let answered = polls.series.iter().filter(|moment| moment.latency_ms.count > 0);
        Series::new(name, answered.map(|moment| (moment.second as f64, of(&moment.latency_ms))))
    };
    let time = Axis::linear("time since the start (s)");
    plots.push(lines(
        "Polls: latency in each second they were planned in",
        time,
        Axis::log("latency (ms)"),
        &[figure("p50", |ms| ms.p50), figure("p99", |ms| ms.p99), figure("max", |ms| ms.max)],
    ));
    let count = |name, of: fn(&super::Moment) -> u64| {
        Series::new(name, polls.series.iter().map(|moment| (moment.second as f64, of(moment) as f64)))
    };
    plots.push(lines(
        "Polls in each second",
        time,
        Axis::linear("polls (per s)"),
        &[
            count("sent", |each| each.sent),
            count("answered", |each| each.answered),
            count("errors", |each| each.errors),
        ],
    ));
    drawn(plots)
}

fn of_consents(consents: &Consents) -> Result<String, PlotError> {
    let count = |name, which: usize| {
        let points = consents.series.iter().enumerate();
        Series::new(name, points.map(|(second, counts)| (second as f64, counts[which] as f64)))
    };
    let over_time = lines(
        "Consents in each second",
        Axis::linear("time since the start (s)"),
        Axis::linear("consents (per s)"),
        &[count("started", 0), count("completed", 1)],
    );
    let stages = [
        ("code", consents.code_ms),
        ("pages", consents.pages_ms),
        ("token poll", consents.token_ms),
        ("whole", consents.whole_ms),
    ];
    let stages = stages.iter().flat_map(|(name, ms)| {
        [("p50", ms.p50), ("p99", ms.p99)].map(|(which, ms)| (format!("{name}, {which}"), ms))
    });
    let by_stage = bars(
        "Consents: time of each stage",
        "stage; the whole, from the planned instant to the token, includes the interval between polls",
        Axis::log("time (ms)"),
        &stages.collect::<Vec<_>>(),
    );
    drawn(vec![over_time, by_stage])
}

fn of_machine(used: &Use) -> Result<String, PlotError> {
    let cores = |name, which: usize| {
        Series::new(name, used.series.iter().enumerate().map(|(second, cores)| (second as f64, cores[which])))
    };
    lines(
        "CPU in each second",
        Axis::linear("time since the start (s)"),
        Axis::linear("cores kept busy"),
        &[cores("server", 0), cores("generator, people, Enedis", 1), cores("everything else", 2)],
    )
}

/// The plots one below the other; those without points are left out.
fn drawn(plots: Vec<Result<String, PlotError>>) -> Result<String, PlotError> {
    plots.into_iter().filter(|plot| !matches!(plot, Err(PlotError::Empty(_)))).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
