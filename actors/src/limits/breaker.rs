//! Circuit breaker: what does not answer is left alone for a while, callers learn it at once instead of queueing behind
//! time-outs, and one call at a time (the probe) finds out whether it is back.

use std::time::Duration;

use crate::base::clock::Timestamp;

/// A probe of which nothing is heard for so long is given up. No attempt is waited for longer.
const PROBE_LOST: Duration = Duration::from_secs(60);
/// Trouble after so long without any is another one.
const APART: Duration = Duration::from_secs(600);

/// When a failure opens the breaker, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct BreakerSettings {
    /// Failures in a row that open it.
    pub trip_after: u32,
    /// First pause; doubles with each failed probe.
    pub first_pause: Duration,
    /// Longest pause.
    pub longest_pause: Duration,
}

/// The state of the breaker. Closed at first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Breaker {
    failures: u32,
    pause: Duration,
    open_until: Option<Timestamp>,
    probe: Option<Timestamp>,
    /// When trouble began, and when it was last met.
    trouble: Option<(Timestamp, Timestamp)>,
}

impl Breaker {
    /// Whether a call may go out; else how long to wait.
    pub fn check(&self, now: Timestamp) -> Result<(), Duration> {
        match (self.open_until, self.probe) {
            (Some(until), _) if now < until => Err(until.since(now)),
            (Some(_), Some(at)) if now.since(at) < PROBE_LOST => Err(Duration::from_secs(1)),
            _ => Ok(()),
        }
    }

    /// A call goes out; behind an open breaker it is the probe.
    pub fn begin(&mut self, now: Timestamp) {
        self.probe = self.open_until.map(|_| now);
    }

    /// The call did not go out after all.
    pub fn withdrawn(&mut self) {
        self.probe = None;
    }

    /// There was an answer, whatever it said.
    pub fn answered(&mut self) {
        *self = Self::default();
    }

    /// There was no answer, or only one that it cannot answer. What kind of failure it is decides when it opens the
    /// breaker and for how long. One that is no news, as it may be the trouble of who asked, counts only as a probe's.
    pub fn failed(&mut self, now: Timestamp, settings: &BreakerSettings, is_news: bool) {
        self.probe = None;
        if !is_news && self.open_until.is_none() {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        // A call that was under way when the breaker opened is no failed probe.
        if self.failures >= settings.trip_after && !self.is_open(now) {
            self.pause = (self.pause * 2).clamp(settings.first_pause, settings.longest_pause);
            self.open_until = Some(now + self.pause);
        }
        self.note_trouble(now);
    }

    /// Nothing can be asked, for a reason that may pass: tells nothing of when to ask again.
    pub fn note_trouble(&mut self, now: Timestamp) {
        let since = self.current_trouble(now).unwrap_or(now);
        self.trouble = Some((since, now));
    }

    /// How long there has been trouble at `now`, without an answer in between.
    pub fn in_trouble_for(&self, now: Timestamp) -> Duration {
        self.current_trouble(now).map_or(Duration::ZERO, |since| now.since(since))
    }

    /// Whether calls are held back at `now`.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.open_until.is_some_and(|until| now < until)
    }

    /// The end of the pause, for as long as no probe has been answered.
    pub const fn open_until(&self) -> Option<Timestamp> {
        self.open_until
    }

    fn current_trouble(&self, now: Timestamp) -> Option<Timestamp> {
        self.trouble.filter(|(_, last)| now.since(*last) < APART).map(|(since, _)| since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: BreakerSettings = BreakerSettings {
        trip_after: 5,
        first_pause: Duration::from_secs(5),
        longest_pause: Duration::from_secs(60),
    };

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000 + secs * 1_000)
    }

    fn opened(now: Timestamp) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..SETTINGS.trip_after {
            assert!(breaker.check(now).is_ok());
            breaker.begin(now);
            breaker.failed(now, &SETTINGS, true);
        }
        breaker
    }

    #[test]
    fn opens_probes_and_closes() {
        let mut breaker = opened(at(0));
        // Calls that were under way when it opened.
        breaker.failed(at(0), &SETTINGS, true);
        assert!(breaker.is_open(at(0)));
        assert_eq!(breaker.check(at(0)), Err(Duration::from_secs(5)));
        assert!(breaker.check(at(5)).is_ok(), "one probe");
        breaker.begin(at(5));
        assert!(breaker.check(at(5)).is_err(), "and only one");
        breaker.failed(at(5), &SETTINGS, true);
        assert_eq!(breaker.check(at(5)), Err(Duration::from_secs(10)));
        breaker.begin(at(15));
        assert!(breaker.check(at(74)).is_err());
        assert!(breaker.check(at(75)).is_ok(), "a lost probe is given up");
        breaker.begin(at(75));
        breaker.withdrawn();
        assert!(breaker.check(at(75)).is_ok());
        breaker.answered();
        assert_eq!((breaker.check(at(75)), breaker.open_until()), (Ok(()), None));
    }

    #[test]
    fn what_is_no_news_opens_nothing_but_fails_a_probe() {
        let mut breaker = Breaker::default();
        for _ in 0..99 {
            breaker.begin(at(0));
            breaker.failed(at(0), &SETTINGS, false);
            assert_eq!((breaker.check(at(0)), breaker.in_trouble_for(at(9))), (Ok(()), Duration::ZERO));
        }
        let mut breaker = opened(at(0));
        breaker.begin(at(5));
        breaker.failed(at(5), &SETTINGS, false);
        assert_eq!(breaker.check(at(5)), Err(Duration::from_secs(10)));
    }

    #[test]
    fn an_hour_of_outage_costs_few_calls() {
        let (mut breaker, mut calls) = (Breaker::default(), 0);
        for now in (0..3_600).map(at) {
            if breaker.check(now).is_ok() {
                breaker.begin(now);
                calls += 1;
                breaker.failed(now, &SETTINGS, true);
            }
        }
        assert!(calls < 80, "{calls}");
    }

    #[test]
    fn trouble_of_another_day_is_not_this_one() {
        let mut breaker = Breaker::default();
        breaker.failed(at(0), &SETTINGS, true);
        assert_eq!(breaker.in_trouble_for(at(60)).as_secs(), 60);
        breaker.note_trouble(at(130));
        assert_eq!(breaker.in_trouble_for(at(130)).as_secs(), 130);
        // Ten hours later, with nothing asked in between.
        breaker.failed(at(36_000), &SETTINGS, true);
        assert_eq!(breaker.in_trouble_for(at(36_000)), Duration::ZERO);
        breaker.answered();
        assert_eq!(breaker.in_trouble_for(at(36_200)), Duration::ZERO);
    }
}
