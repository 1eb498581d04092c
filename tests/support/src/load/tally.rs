//! Owns the numbers of a run as they come in: latencies, what each second saw, and every error by kind.
//!
//! It promises bounded memory: histograms of a fixed size, [`KINDS_MAX`] kinds of errors and [`TEXTS_MAX`] texts.
//! Latencies are counted for the second in which the request was *planned*, so that a stall shows where it hurt.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};
use serde_json::json;

/// Kinds of errors kept apart; more are counted together.
const KINDS_MAX: usize = 40;
/// Texts of errors kept, the first ones.
const TEXTS_MAX: usize = 5;
/// Longest latency told apart, in microseconds.
const LONGEST: u64 = 600_000_000;
/// A poll sent later than this, although its connection was free, is the generator's fault.
pub const LATE: Duration = Duration::from_millis(10);

/// Names of the figures that times are told by, and the part of them that is not longer.
pub(super) const FIGURES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)];

/// Times, to three digits. Serialized as their count, p50, p90, p99, p999 and max, in milliseconds.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

impl Times {
    fn with_digits(digits: u8) -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST, digits).expect("bounds that suit up to five digits"))
    }

    /// Counts `time`.
    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(LONGEST).clamp(1, LONGEST));
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that `part` of all are not longer than, in milliseconds.
    pub fn at(&self, part: f64) -> f64 {
        self.0.value_at_quantile(part).min(self.0.max()) as f64 / 1e3
    }
}

impl Default for Times {
    fn default() -> Self {
        Self::with_digits(3)
    }
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let figures = FIGURES.map(|(name, part)| (name, json!(self.at(part))));
        serializer.collect_map([("count", json!(self.count()))].into_iter().chain(figures))
    }
}

/// Errors by kind, and the texts of the first ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Errors {
    /// How many of each kind.
    pub kinds: BTreeMap<String, u64>,
    /// The first texts.
    pub texts: Vec<String>,
}

impl Errors {
    /// Counts one, with the words for it.
    pub fn count(&mut self, kind: &str, text: &str) {
        self.count_many(kind, 1);
        if self.texts.len() < TEXTS_MAX {
            self.texts.push(format!("{kind}: {text}"));
        }
    }

    /// Counts `many` that have no words of their own.
    pub fn count_many(&mut self, kind: &str, many: u64) {
        if many > 0 {
            let known = self.kinds.len() < KINDS_MAX || self.kinds.contains_key(kind);
            *self.kinds.entry(if known { kind } else { "others" }.to_owned()).or_default() += many;
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.kinds.values().sum()
    }
}

/// What an answer to a poll came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `authorization_pending`.
    Pending,
    /// `slow_down`.
    SlowDown,
    /// Anything else: what kind, in which words.
    Wrong(String, String),
}

/// What polls came to.
#[derive(Clone, Debug, Serialize)]
pub struct Tally {
    /// Polls sent.
    pub sent: u64,
    /// Polls answered as they must be, those told to slow down included.
    pub answered: u64,
    /// Of them, those told to slow down.
    pub slow_down: u64,
    /// What went wrong.
    pub errors: Errors,
    /// From the planned instant to the answer, in milliseconds.
    pub latency_ms: Times,
    /// Polls sent more than [`LATE`] late although their connection was free.
    pub sent_late_by_generator: u64,
    /// How late the generator's thread woke up, in milliseconds; answers were read as late.
    pub generator_lag_ms: Times,
    /// Connections opened anew because the server had closed them between two polls.
    pub reopened: u64,
    /// Each second.
    pub series: Vec<Second>,
}

/// What one second of a run saw.
#[derive(Clone, Debug, Serialize)]
pub struct Second {
    /// Polls sent in it.
    pub sent: u64,
    /// Polls answered in it.
    pub answered: u64,
    /// Errors in it.
    pub errors: u64,
    /// Latencies of the polls planned in it, in milliseconds.
    pub latency_ms: Times,
}

impl Tally {
    /// Nothing yet, for a run of `length`; what comes later counts for its last second.
    pub fn new(length: Duration) -> Self {
        let second = Second { sent: 0, answered: 0, errors: 0, latency_ms: Times::with_digits(2) };
        Self {
            sent: 0,
            answered: 0,
            slow_down: 0,
            errors: Errors::default(),
            latency_ms: Times::default(),
            sent_late_by_generator: 0,
            generator_lag_ms: Times::default(),
            reopened: 0,
            series: vec![second; seconds(length)],
        }
    }

    /// The second that `at` (since the start) falls in.
    fn second(&mut self, at: Duration) -> &mut Second {
        let number = second(at, self.series.len());
        &mut self.series[number]
    }

    /// A poll was sent at `at`, `behind` the instant at which it could have been.
    pub(super) fn send(&mut self, at: Duration, behind: Duration) {
        self.sent += 1;
        self.sent_late_by_generator += u64::from(behind > LATE);
        self.second(at).sent += 1;
    }

    /// A poll planned for `planned` was answered at `at`.
    pub(super) fn receive(&mut self, planned: Duration, at: Duration, answer: &Answer) {
        if let Answer::Wrong(kind, text) = answer {
            self.errors.count(kind, text);
            self.second(at).errors += 1;
            return;
        }
        self.answered += 1;
        self.slow_down += u64::from(*answer == Answer::SlowDown);
        let latency = at.saturating_sub(planned);
        self.latency_ms.record(latency);
        self.second(planned).latency_ms.record(latency);
        self.second(at).answered += 1;
    }
}

/// Seconds that `length` touches, at least 1.
pub(super) fn seconds(length: Duration) -> usize {
    usize::try_from(length.as_millis().div_ceil(1_000)).unwrap_or(usize::MAX).max(1)
}

/// The number of the second that `at` falls in, of `count`; the last one if it is later.
pub(super) fn second(at: Duration, count: usize) -> usize {
    usize::try_from(at.as_secs()).unwrap_or(usize::MAX).min(count.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn percentiles_are_those_of_the_times() {
        let mut times = Times::default();
        assert_eq!((times.count(), times.at(0.5)), (0, 0.0));
        (1..=1_000).for_each(|each| times.record(ms(each)));
        for ((name, part), wanted) in FIGURES.into_iter().zip([500.0, 900.0, 990.0, 999.0, 1e3]) {
            assert!((times.at(part) - wanted).abs() <= wanted / 1e3, "{name}: {}", times.at(part));
        }
        times.record(Duration::from_secs(90_000));
        assert!(times.at(1.0) >= 599_000.0);
        assert_eq!(json!(times)["count"], 1_001);
    }

    #[test]
    fn a_late_answer_counts_for_the_second_it_was_planned_in() {
        let mut tally = Tally::new(ms(2_001));
        tally.send(ms(1_900), ms(30));
        tally.send(ms(1_950), ms(1));
        tally.receive(ms(1_870), ms(2_500), &Answer::SlowDown);
        tally.receive(ms(1_870), ms(9_000), &Answer::Wrong("HTTP 500".into(), "oops".into()));
        assert_eq!((tally.sent, tally.answered, tally.slow_down), (2, 1, 1));
        assert_eq!((tally.sent_late_by_generator, tally.errors.total()), (1, 1));
        let seen: Vec<_> = tally.series.iter().map(|each| (each.sent, each.answered, each.errors)).collect();
        assert_eq!(seen, [(0, 0, 0), (2, 0, 0), (0, 1, 1)]);
        assert!((tally.series[1].latency_ms.at(0.5) - 630.0).abs() < 7.0);
    }

    #[test]
    fn errors_are_bounded() {
        let mut errors = Errors::default();
        (0..100).for_each(|each| errors.count(&format!("kind {each}"), "text"));
        assert_eq!((errors.kinds.len(), errors.texts.len(), errors.total()), (41, TEXTS_MAX, 100));
        assert_eq!(errors.kinds["others"], 60);
    }
}
