//! The pure pacing decision of one session (RFC 8628 section 3.5).
//!
//! A poll before 80 % of the required spacing is early: clients' clocks run fast and networks jitter. Each early
//! poll raises the spacing by 5 s, to 30 s at most; each good one lowers it again. An early poll never moves the
//! reference, so that a client with a fixed cadence, however fast, still gets its answers.
//!
//! What a device is told is another matter: once told to slow down it never hears a shorter interval again, as the
//! specification has it slow down for good. What load adds to the interval is told and not required.

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
    // What the device was last told with `slow_down`; 0: it never was.
    slowed_secs: u16,
    style: AuthStyle,
    probed: bool,
}

/// What devices have to keep to.
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    /// The least that is required of them, unless they came too early.
    pub required: Duration,
    /// What they are told, in whole seconds; not less.
    pub told: Duration,
}

/// The verdict on one poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it came too early: `slow_down`.
    pub early: bool,
    /// What the device shall leave before the next one, in seconds.
    pub interval_secs: u32,
}

impl Pace {
    /// The first poll of a session, which is always on time.
    pub fn first(now: Timestamp, interval: Interval, style: AuthStyle) -> (Self, Verdict) {
        let (last_good_ms, spacing_ms) = (now.as_millis(), base_ms(interval));
        let pace = Self { last_good_ms, spacing_ms, slowed_secs: 0, style, probed: false };
        (pace, pace.on_time(interval))
    }

    /// A further poll.
    pub fn poll(&mut self, now: Timestamp, interval: Interval, style: AuthStyle) -> Verdict {
        let base = base_ms(interval);
        let elapsed = now.since(Timestamp::from_millis(self.last_good_ms));
        if style != self.style && elapsed < PROBE_SPAN && !self.probed {
            self.probed = true;
            return self.on_time(interval);
        }
        let needed = Duration::from_millis(u64::from(self.spacing_ms) * 4 / 5);
        if elapsed < needed {
            let most = SPACING_MAX_MS.max(base);
            self.spacing_ms = (self.spacing_ms + STEP_MS).min(most);
            let interval_secs = (self.told_secs(interval) + STEP_MS / 1000).min(most.div_ceil(1000));
            self.slowed_secs = u16::try_from(interval_secs).unwrap_or(u16::MAX);
            return Verdict { early: true, interval_secs };
        }
        self.last_good_ms = now.as_millis();
        self.style = style;
        self.probed = false;
        self.spacing_ms = self.spacing_ms.saturating_sub(STEP_MS).max(base);
        self.on_time(interval)
    }

    /// Another instance was polled on time at `at`.
    pub fn note(&mut self, at: Timestamp) {
        self.last_good_ms = self.last_good_ms.max(at.as_millis());
    }

    fn told_secs(&self, interval: Interval) -> u32 {
        let told = u32::try_from(interval.told.as_secs()).unwrap_or(SPACING_MAX_MS / 1000);
        told.max(self.slowed_secs.into())
    }

    fn on_time(&self, interval: Interval) -> Verdict {
        Verdict { early: false, interval_secs: self.told_secs(interval) }
    }
}

fn base_ms(interval: Interval) -> u32 {
    u32::try_from(interval.required.as_millis()).unwrap_or(SPACING_MAX_MS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIVE: Interval = steady(5);

    const fn steady(secs: u64) -> Interval {
        Interval { required: Duration::from_secs(secs), told: Duration::from_secs(secs) }
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + ms)
    }

    #[test]
    fn jitter_and_fast_clocks_are_forgiven() {
        let (mut pace, _) = Pace::first(at(0), FIVE, AuthStyle::Body);
        for n in 1..50 {
            assert!(!pace.poll(at(n * 4_000), FIVE, AuthStyle::Body).early);
        }
    }

    #[test]
    fn an_early_poll_raises_the_interval_for_good_and_good_ones_lower_what_is_required() {
        let (mut pace, _) = Pace::first(at(0), FIVE, AuthStyle::Body);
        for (ms, early, interval_secs) in [
            (1_000, true, 10),
            (2_000, true, 15),
            (17_000, false, 15),
            (27_000, false, 15),
            (31_000, false, 15),
            (34_000, true, 20),
        ] {
            assert_eq!(pace.poll(at(ms), FIVE, AuthStyle::Body), Verdict { early, interval_secs }, "{ms}");
        }
    }

    #[test]
    fn a_probing_client_counts_once() {
        let (mut pace, _) = Pace::first(at(0), FIVE, AuthStyle::Basic);
        for (ms, style, early) in [
            (3, AuthStyle::Body, false),
            (5_000, AuthStyle::Basic, false),
            (5_003, AuthStyle::Body, false),
            // Once for each good poll, whatever the style.
            (5_006, AuthStyle::Body, true),
            (5_009, AuthStyle::Basic, true),
        ] {
            assert_eq!(pace.poll(at(ms), FIVE, style).early, early, "{ms}");
        }
    }

    #[test]
    fn what_load_adds_is_told_and_not_required() {
        let interval = |told| Interval { told: Duration::from_secs(told), ..FIVE };
        let (mut pace, first) = Pace::first(at(0), interval(20), AuthStyle::Body);
        assert_eq!(first, Verdict { early: false, interval_secs: 20 });
        for (ms, told, early, interval_secs) in [
            // It does not read what it is told, or did not when there was less to do.
            (4_000, 20, false, 20),
            (8_000, 10, false, 10),
            (9_000, 10, true, 15),
            (19_000, 5, false, 15),
            (29_000, 20, false, 20),
            (30_000, 20, true, 25),
            (60_000, 5, false, 25),
        ] {
            assert_eq!(
                pace.poll(at(ms), interval(told), AuthStyle::Body),
                Verdict { early, interval_secs },
                "{ms}"
            );
        }
    }

    proptest! {
        #[test]
        fn who_was_told_to_slow_down_never_hears_less(
            polls in proptest::collection::vec((0_u64..40_000, 0_u64..3), 1..80),
        ) {
            let interval = |doublings| Interval { told: FIVE.told * 2_u32.pow(doublings), ..FIVE };
            let (mut pace, _) = Pace::first(at(0), FIVE, AuthStyle::Body);
            let (mut now, mut slowed) = (0, 5);
            for (gap, doublings) in polls {
                now += gap;
                let told = interval(u32::try_from(doublings).unwrap());
                let Verdict { early, interval_secs } = pace.poll(at(now), told, AuthStyle::Body);
                prop_assert!(interval_secs >= slowed);
                if early {
                    prop_assert!(interval_secs >= (slowed + 5).min(30));
                    slowed = interval_secs;
                }
            }
        }

        #[test]
        fn a_fixed_cadence_is_never_locked_out(cadence_ms in 50_u64..20_000, interval_secs in 1_u64..10) {
            let interval = steady(interval_secs);
            let (mut pace, _) = Pace::first(at(0), interval, AuthStyle::Body);
            let mut last_answer = 0;
            for n in 1..2_000 {
                if !pace.poll(at(n * cadence_ms), interval, AuthStyle::Body).early {
                    last_answer = n * cadence_ms;
                }
                prop_assert!(n * cadence_ms - last_answer <= 30_000 + cadence_ms);
            }
        }

        #[test]
        fn a_client_that_obeys_is_not_refused_twice(gaps in proptest::collection::vec(0_u64..12_000, 1..80)) {
            // After a refusal the client waits for the interval it was told; that poll must be answered.
            let (mut pace, _) = Pace::first(at(0), FIVE, AuthStyle::Body);
            let (mut now, mut told) = (0, None);
            for gap in gaps {
                now += told.map_or(gap, |secs: u32| u64::from(secs) * 1000);
                let Verdict { early, interval_secs } = pace.poll(at(now), FIVE, AuthStyle::Body);
                prop_assert!(!early || told.is_none());
                told = early.then_some(interval_secs);
            }
        }
    }
}
