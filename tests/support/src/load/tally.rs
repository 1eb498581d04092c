//! Owns the numbers of a run as they come in: latencies, what each second saw, and every error by kind.
//!
//! It promises bounded memory: histograms of a fixed size, [`KINDS_MAX`] kinds of errors and [`TEXTS_MAX`] texts.
//! Latencies are counted for the second in which the request was *planned*, so that a stall shows where it hurt.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Kinds of errors kept apart; more are counted together.
const KINDS_MAX: usize = 40;
/// Texts of errors kept, the first ones.
pub const TEXTS_MAX: usize = 5;
/// Longest latency told apart, in microseconds.
const LONGEST: u64 = 600_000_000;

/// Times, in microseconds, to three digits.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

/// The usual figures of some times, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many times there are.
    pub count: u64,
    /// Half are not longer.
    pub p50: f64,
    /// 90 % are not longer.
    pub p90: f64,
    /// 99 % are not longer.
    pub p99: f64,
    /// 99.9 % are not longer.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Times {
    /// None yet.
    pub fn new() -> Self {
        Self::with_digits(3)
    }

    fn with_digits(digits: u8) -> Self {
        let bounded = Histogram::new_with_bounds(1, LONGEST, digits);
        // The bounds are right for any number of digits up to five; one without bounds is the same, but grows.
        Self(
            bounded.or_else(|_| Histogram::new(digits)).unwrap_or_else(|_| unreachable!("up to five digits")),
        )
    }

    /// Counts `time`.
    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(LONGEST).clamp(1, LONGEST));
    }

    /// Counts all of `other` as well.
    pub fn add(&mut self, other: &Self) {
        // Both have the same bounds.
        let _ = self.0.add(&other.0);
    }

    /// The time that `part` of all are not longer than, in milliseconds.
    pub fn at(&self, part: f64) -> f64 {
        self.0.value_at_quantile(part) as f64 / 1e3
    }

    /// The usual figures.
    pub fn percentiles(&self) -> Percentiles {
        if self.0.is_empty() {
            return Percentiles::default();
        }
        Percentiles {
            count: self.0.len(),
            p50: self.at(0.5),
            p90: self.at(0.9),
            p99: self.at(0.99),
            p999: self.at(0.999),
            max: self.0.max() as f64 / 1e3,
        }
    }

    /// Pairs of a part of all, and the milliseconds that part is not longer than, up to the longest.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        let steps = self.0.iter_quantiles(5);
        let points = steps.map(|step| (step.quantile_iterated_to(), step.value_iterated_to() as f64 / 1e3));
        points.collect()
    }
}

impl Default for Times {
    fn default() -> Self {
        Self::new()
    }
}

/// What one second of a run saw.
#[derive(Clone, Debug)]
pub struct Second {
    /// Requests sent in it.
    pub sent: u64,
    /// Good answers that came in it.
    pub answered: u64,
    /// Errors in it.
    pub errors: u64,
    /// Latencies of the requests planned in it.
    pub latency: Times,
}

impl Second {
    /// Nothing happened.
    pub fn is_empty(&self) -> bool {
        self.sent + self.answered + self.errors == 0
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
    pub fn count(&mut self, kind: &str, text: impl FnOnce() -> String) {
        self.count_many(kind, 1);
        if self.texts.len() < TEXTS_MAX {
            self.texts.push(text());
        }
    }

    /// Counts `many` that have no words of their own.
    pub fn count_many(&mut self, kind: &str, many: u64) {
        if many == 0 {
            return;
        }
        let known = self.kinds.len() < KINDS_MAX || self.kinds.contains_key(kind);
        *self.kinds.entry(if known { kind } else { "others" }.to_owned()).or_default() += many;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.kinds.values().sum()
    }

    /// Counts all of `other` as well.
    pub fn add(&mut self, other: &Self) {
        for (kind, many) in &other.kinds {
            self.count_many(kind, *many);
        }
        self.texts.extend(other.texts.iter().cloned());
        self.texts.truncate(TEXTS_MAX);
    }
}

/// What polls came to, of one thread or of all.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Polls sent.
    pub sent: u64,
    /// Polls answered as they must be, those told to slow down included.
    pub answered: u64,
    /// Of them, those told to slow down.
    pub slow_down: u64,
    /// What went wrong.
    pub errors: Errors,
    /// From the planned instant to the answer.
    pub latency: Times,
    /// How late polls were sent although their connection was free.
    pub behind: Times,
    /// Of them, those later than the plan allows.
    pub late: u64,
    /// Polls that had to wait for their connection's answer before.
    pub waited: u64,
    /// Connections opened anew because the server had closed them between two polls.
    pub reopened: u64,
    /// How late the thread itself was at instants it set itself, whatever the server did.
    pub lag: Times,
    /// Each second.
    pub seconds: Vec<Second>,
}

impl Tally {
    /// Nothing yet, for a run of `seconds`; what comes later counts for the last one.
    pub fn new(seconds: usize) -> Self {
        let second = Second { sent: 0, answered: 0, errors: 0, latency: Times::with_digits(2) };
        Self { seconds: vec![second; seconds.max(1)], ..Self::default() }
    }

    /// The second that `at` (since the start) falls in.
    pub fn second(&mut self, at: Duration) -> Option<&mut Second> {
        let last = self.seconds.len().checked_sub(1)?;
        let number = usize::try_from(at.as_secs()).unwrap_or(last).min(last);
        self.seconds.get_mut(number)
    }

    /// A poll was sent at `at`, `behind` the instant at which it could have been; more than `allowed` is late.
    pub fn send(&mut self, at: Duration, behind: Duration, allowed: Duration) {
        self.sent += 1;
        self.behind.record(behind);
        self.late += u64::from(behind > allowed);
        if let Some(second) = self.second(at) {
            second.sent += 1;
        }
    }

    /// A poll planned for `planned` was answered well at `at`.
    pub fn answer(&mut self, planned: Duration, at: Duration) {
        self.answered += 1;
        let latency = at.saturating_sub(planned);
        self.latency.record(latency);
        if let Some(second) = self.second(planned) {
            second.latency.record(latency);
        }
        if let Some(second) = self.second(at) {
            second.answered += 1;
        }
    }

    /// A poll went wrong at `at`.
    pub fn fail(&mut self, at: Duration, kind: &str, text: impl FnOnce() -> String) {
        self.errors.count(kind, text);
        if let Some(second) = self.second(at) {
            second.errors += 1;
        }
    }

    /// Adds those of another thread.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.slow_down += other.slow_down;
        self.late += other.late;
        self.waited += other.waited;
        self.reopened += other.reopened;
        self.errors.add(&other.errors);
        self.latency.add(&other.latency);
        self.behind.add(&other.behind);
        self.lag.add(&other.lag);
        for (own, second) in self.seconds.iter_mut().zip(&other.seconds) {
            own.sent += second.sent;
            own.answered += second.answered;
            own.errors += second.errors;
            own.latency.add(&second.latency);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn percentiles_are_those_of_the_times() {
        let mut times = Times::new();
        assert_eq!(times.percentiles(), Percentiles::default());
        (1..=1_000).for_each(|each| times.record(ms(each)));
        let found = times.percentiles();
        for (found, wanted) in [
            (found.p50, 500.0),
            (found.p90, 900.0),
            (found.p99, 990.0),
            (found.p999, 999.0),
            (found.max, 1e3),
        ] {
            assert!((found - wanted).abs() <= wanted / 1e3, "{found} for {wanted}");
        }
        let curve = times.curve();
        assert!(curve.is_sorted_by(|one, next| one.0 <= next.0 && one.1 <= next.1));
        times.record(Duration::from_secs(90_000));
        assert!(times.percentiles().max >= 599_000.0);
    }

    #[test]
    fn a_late_answer_counts_for_the_second_it_was_planned_in() {
        let mut tally = Tally::new(3);
        tally.send(ms(1_900), ms(30), ms(10));
        tally.send(ms(1_950), ms(1), ms(10));
        tally.answer(ms(1_870), ms(2_500));
        tally.fail(ms(9_000), "HTTP 500", || "oops".into());
        let mut all = Tally::new(3);
        all.add(&tally);
        all.add(&tally);
        assert_eq!((all.sent, all.answered, all.late, all.errors.total()), (4, 2, 2, 2));
        let seen: Vec<_> = all.seconds.iter().map(|each| (each.sent, each.answered, each.errors)).collect();
        assert_eq!(seen, [(0, 0, 0), (4, 0, 0), (0, 2, 2)]);
        assert!((all.seconds[1].latency.at(0.5) - 630.0).abs() < 7.0);
    }

    #[test]
    fn errors_are_bounded() {
        let mut errors = Errors::default();
        (0..100).for_each(|each| errors.count(&format!("kind {each}"), || format!("text {each}")));
        assert_eq!((errors.kinds.len(), errors.texts.len(), errors.total()), (41, TEXTS_MAX, 100));
        assert_eq!(errors.kinds["others"], 60);
    }
}
