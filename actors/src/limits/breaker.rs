//! Circuit breaker: when Enedis does not answer, callers learn it at once instead of queueing behind time-outs,
//! and Enedis sees one probe at a time until it is back.

use std::time::Duration;

use crate::base::clock::Timestamp;

/// Failures in a row that open the breaker.
const TRIP_AFTER: u32 = 5;
/// First pause; doubles with each failed probe.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The state of the breaker.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    failures: u32,
    pause: Duration,
    open_until: Option<Timestamp>,
    probing: bool,
}

impl Breaker {
    /// Whether a call may go out; else how long to wait.
    pub fn check(&self, now: Timestamp) -> Result<(), Duration> {
        match self.open_until {
            Some(until) if now < until => Err(until.since(now)),
            Some(_) if self.probing => Err(Duration::from_secs(1)),
            _ => Ok(()),
        }
    }

    /// A call goes out; behind an open breaker it is the probe.
    pub fn begin(&mut self) {
        self.probing = self.open_until.is_some();
    }

    /// The call did not go out after all.
    pub fn withdrawn(&mut self) {
        self.probing = false;
    }

    /// Enedis answered, whatever it said.
    pub fn answered(&mut self) {
        *self = Self::default();
    }

    /// Enedis did not answer, or only to say that it cannot.
    pub fn failed(&mut self, now: Timestamp) {
        if self.is_open(now) {
            // It was under way when the breaker opened: no failed probe.
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.probing = false;
        if self.failures >= TRIP_AFTER {
            self.pause = (self.pause * 2).clamp(PAUSE_FIRST, PAUSE_MAX);
            self.open_until = Some(now + self.pause);
        }
    }

    /// Whether calls are held back at `now`.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.open_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_probes_and_closes() {
        let mut breaker = Breaker::default();
        let mut now = Timestamp::from_millis(1_000);
        for _ in 0..TRIP_AFTER {
            assert!(breaker.check(now).is_ok());
            breaker.begin();
            breaker.failed(now);
        }
        assert!(breaker.is_open(now));
        assert_eq!(breaker.check(now), Err(PAUSE_FIRST));
        now = now + PAUSE_FIRST;
        assert!(breaker.check(now).is_ok(), "one probe");
        breaker.begin();
        assert!(breaker.check(now).is_err(), "and only one");
        breaker.failed(now);
        assert_eq!(breaker.check(now), Err(PAUSE_FIRST * 2));
        now = now + PAUSE_FIRST * 2;
        assert!(breaker.check(now).is_ok());
        breaker.answered();
        assert!(breaker.check(now).is_ok());
    }

    #[test]
    fn calls_under_way_when_it_opens_are_no_probes() {
        let (mut breaker, now) = (Breaker::default(), Timestamp::from_millis(1_000));
        for _ in 0..TRIP_AFTER + 4 {
            breaker.failed(now);
        }
        assert_eq!(breaker.check(now), Err(PAUSE_FIRST));
    }

    #[test]
    fn an_hour_of_outage_costs_few_calls() {
        let mut breaker = Breaker::default();
        let mut calls = 0;
        for second in 0..3_600 {
            let now = Timestamp::from_millis(second * 1000);
            if breaker.check(now).is_ok() {
                breaker.begin();
                calls += 1;
                breaker.failed(now);
            }
        }
        assert!(calls < 80, "{calls}");
    }
}
