//! The pure pacing decision of one session (RFC 8628 section 3.5).
//!
//! A poll before 80 % of the required spacing is early: clients' clocks run fast and networks jitter. Each early
//! poll raises the spacing by 5 s, to 30 s at most; each good one lowers it again. An early poll never moves the
//! reference, so that a client with a fixed cadence, however fast, still gets its answers.

use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::device_flow::poll::AuthStyle;

/// What `slow_down` adds (RFC 8628 section 3.5).
const STEP_MS: u32 = 5_000;
/// The spacing never grows beyond this.
const SPACING_MAX_MS: u32 = 30_000;
/// Two polls that differ in their client-authentication style within this span are one poll, sent twice by a
/// client that is finding out which style we take.
const PROBE_SPAN: Duration = Duration::from_secs(1);

/// The pacing of one session. Sixteen bytes; losing it costs a device nothing but leniency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    last_good_ms: u64,
    spacing_ms: u32,
    style: AuthStyle,
    probed: bool,
}

/// The verdict on one poll. The interval is what the device shall keep from now on, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// On time.
    OnTime {
        /// Seconds.
        interval_secs: u32,
    },
    /// Too early: `slow_down`.
    Early {
        /// Seconds.
        interval_secs: u32,
    },
}

impl Pace {
    /// The first poll of a session, which is always on time. `interval` is the advertised one.
    pub fn first(now: Timestamp, interval: Duration, style: AuthStyle) -> Self {
        Self { last_good_ms: now.as_millis(), spacing_ms: base_ms(interval), style, probed: false }
    }

    /// A further poll.
    pub fn poll(&mut self, now: Timestamp, interval: Duration, style: AuthStyle) -> Verdict {
        let base = base_ms(interval);
        let elapsed = now.since(Timestamp::from_millis(self.last_good_ms));
        if style != self.style && elapsed < PROBE_SPAN && !self.probed {
            self.probed = true;
            return Verdict::OnTime { interval_secs: self.spacing_secs() };
        }
        let needed = Duration::from_millis(u64::from(self.spacing_ms) * 4 / 5);
        if elapsed < needed {
            self.spacing_ms = (self.spacing_ms + STEP_MS).min(SPACING_MAX_MS.max(base));
            return Verdict::Early { interval_secs: self.spacing_secs() };
        }
        self.last_good_ms = now.as_millis();
        self.style = style;
        self.probed = false;
        self.spacing_ms = self.spacing_ms.saturating_sub(STEP_MS).max(base);
        Verdict::OnTime { interval_secs: self.spacing_secs() }
    }

    /// Another instance was polled on time at `at`.
    pub fn note(&mut self, at: Timestamp) {
        self.last_good_ms = self.last_good_ms.max(at.as_millis());
    }

    /// The verdict a first poll gets.
    pub fn opening(interval: Duration) -> Verdict {
        Verdict::OnTime { interval_secs: base_ms(interval).div_ceil(1000) }
    }

    fn spacing_secs(&self) -> u32 {
        self.spacing_ms.div_ceil(1000)
    }
}

fn base_ms(interval: Duration) -> u32 {
    u32::try_from(interval.as_millis()).unwrap_or(SPACING_MAX_MS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIVE: Duration = Duration::from_secs(5);

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + ms)
    }

    fn early(v: Verdict) -> bool {
        matches!(v, Verdict::Early { .. })
    }

    #[test]
    fn jitter_and_fast_clocks_are_forgiven() {
        let mut pace = Pace::first(at(0), FIVE, AuthStyle::Body);
        for n in 1..50 {
            assert!(!early(pace.poll(at(n * 4_000), FIVE, AuthStyle::Body)));
        }
    }

    #[test]
    fn an_early_poll_raises_the_interval_and_good_ones_lower_it() {
        let mut pace = Pace::first(at(0), FIVE, AuthStyle::Body);
        assert_eq!(pace.poll(at(1_000), FIVE, AuthStyle::Body), Verdict::Early { interval_secs: 10 });
        assert_eq!(pace.poll(at(2_000), FIVE, AuthStyle::Body), Verdict::Early { interval_secs: 15 });
        assert_eq!(pace.poll(at(17_000), FIVE, AuthStyle::Body), Verdict::OnTime { interval_secs: 10 });
        assert_eq!(pace.poll(at(27_000), FIVE, AuthStyle::Body), Verdict::OnTime { interval_secs: 5 });
    }

    #[test]
    fn a_probing_client_counts_once() {
        let mut pace = Pace::first(at(0), FIVE, AuthStyle::Basic);
        assert!(!early(pace.poll(at(3), FIVE, AuthStyle::Body)));
        assert!(!early(pace.poll(at(5_000), FIVE, AuthStyle::Basic)));
        assert!(!early(pace.poll(at(5_003), FIVE, AuthStyle::Body)));
        // Once for each good poll, whatever the style.
        assert!(early(pace.poll(at(5_006), FIVE, AuthStyle::Body)));
        assert!(early(pace.poll(at(5_009), FIVE, AuthStyle::Basic)));
    }

    proptest! {
        #[test]
        fn a_fixed_cadence_is_never_locked_out(cadence_ms in 50_u64..20_000, interval_secs in 1_u64..10) {
            let interval = Duration::from_secs(interval_secs);
            let mut pace = Pace::first(at(0), interval, AuthStyle::Body);
            let mut last_answer = 0;
            for n in 1..2_000 {
                if !early(pace.poll(at(n * cadence_ms), interval, AuthStyle::Body)) {
                    last_answer = n * cadence_ms;
                }
                prop_assert!(n * cadence_ms - last_answer <= 30_000 + cadence_ms);
            }
        }

        #[test]
        fn a_client_that_obeys_is_not_refused_twice(gaps in proptest::collection::vec(0_u64..12_000, 1..80)) {
            // After a refusal the client waits for the interval it was told; that poll must be answered.
            let mut pace = Pace::first(at(0), FIVE, AuthStyle::Body);
            let (mut now, mut told) = (0, None);
            for gap in gaps {
                now += told.map_or(gap, |secs: u32| u64::from(secs) * 1000);
                match pace.poll(at(now), FIVE, AuthStyle::Body) {
                    Verdict::Early { interval_secs } => {
                        prop_assert!(told.is_none());
                        told = Some(interval_secs);
                    }
                    Verdict::OnTime { .. } => told = None,
                }
            }
        }
    }
}
