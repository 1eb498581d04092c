//! When the supplier can be believed that a consent is withdrawn.
//!
//! From July to September 2026 fresh consents were answered 500, then 400 or 403 ADAM-DC-0007, for days, although
//! consent had been given. A 403 that reaches the plugin makes it erase its tokens, and its owner has to
//! consent again; a 503 makes it come back an hour later. So one 403 is not passed on. It is believed when Enedis
//! has said it several times over several days, about a consent that is not fresh, and nothing of this meter
//! was answered in between ([`RefusalHistory`]); and never while Enedis refuses many meters and answers for few
//! ([`OutageDetector`]). Until then the box gets 503, or what is remembered.
//!
//! Enedis refuses consumption and production apart: panels that are newer than the consent, a meter that only feeds in.
//! A direction that is refused while the other is answered has no data, and says nothing of the consent.

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;
use crate::base::meter::Meter;

/// Refusals it takes.
const REFUSALS_MIN: u32 = 4;
/// Time between the first and the last of them.
const SPAN_MIN: Duration = Duration::from_secs(3 * 86_400);
/// Age of the consent: the false refusals met those that were young.
const CONSENT_AGE_MIN: Duration = Duration::from_secs(7 * 86_400);
/// Enedis is not asked about this direction again before this has passed: refusals are spread, and cost little.
const ASK_AGAIN: Duration = Duration::from_secs(6 * 3_600);
/// Once believed, Enedis is still asked now and then: it may have been wrong for longer than we thought.
const ASK_AGAIN_BELIEVED: Duration = Duration::from_secs(24 * 3_600);
/// An answer about the other direction counts that is so much older than the first refusal: boxes ask once a day.
const ANSWERED_BEFORE: Duration = Duration::from_secs(24 * 3_600);
/// How exactly the last answer is known.
const ANSWERED_EVERY: Duration = Duration::from_secs(6 * 3_600);

/// What Enedis has said of the consent for one direction of one meter since it last answered with data. Small, to be kept
/// in the cache beside the meter's days; forgotten when the owner consents again. The default is: nothing bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalHistory {
    refusals: u32,
    first: Timestamp,
    last: Timestamp,
    /// When Enedis was asked in vain, counted as a refusal or not.
    asked: Timestamp,
    /// When Enedis last answered about this direction.
    answered: Timestamp,
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing speaks against asking.
    Ask,
    /// Refused lately: do not ask, answer 503 with this `Retry-After` (or from memory).
    AskLater(Duration),
    /// Refused lately, while the other direction is answered: 404, there is no data.
    OneSided,
    /// The consent is withdrawn: 403. The plugin stops, its owner must consent again.
    Withdrawn,
}

impl RefusalHistory {
    /// Enedis refused.
    pub fn refused(&mut self, now: Timestamp) {
        // Refusals of the same quarter of a day are one: several resources are asked within seconds.
        if self.refusals == 0 {
            *self = Self { refusals: 1, first: now, last: now, ..*self };
        } else if now.since(self.last) >= ASK_AGAIN / 2 {
            self.refusals = self.refusals.saturating_add(1);
            self.last = now;
        }
        self.asked = now;
    }

    /// Enedis refused, and says nothing by it: ask again later.
    pub const fn put_off(&mut self, now: Timestamp) {
        self.asked = now;
    }

    /// Enedis answered: nothing speaks against the consent any more.
    pub fn answered(&mut self, now: Timestamp) {
        *self = Self { answered: now, ..Self::default() };
    }

    /// Whether an answer at `now` is worth noting.
    pub fn is_news(&self, now: Timestamp) -> bool {
        self.is_refused() || now.since(self.answered) >= ANSWERED_EVERY
    }

    /// Whether Enedis was asked in vain since it last answered.
    pub fn is_refused(&self) -> bool {
        self.asked > Timestamp::EPOCH
    }

    /// Whether Enedis refuses this direction and answers about the `other` one.
    pub fn is_one_sided(&self, other: &Self) -> bool {
        let begun = if self.refusals == 0 { self.asked } else { self.first };
        other.answered > Timestamp::EPOCH && other.answered + ANSWERED_BEFORE >= begun
    }

    /// What to do with a request at `now`, with a consent of the time `consented`; `other` is the history of the other
    /// direction.
    pub fn judge(&self, other: &Self, now: Timestamp, consented: Timestamp) -> Judgement {
        if !self.is_refused() {
            return Judgement::Ask;
        }
        let believed = self.is_believed(now, consented);
        let pause = if believed { ASK_AGAIN_BELIEVED } else { ASK_AGAIN };
        match pause.saturating_sub(now.since(self.asked)) {
            Duration::ZERO => Judgement::Ask,
            _ if self.is_one_sided(other) => Judgement::OneSided,
            _ if believed => Judgement::Withdrawn,
            left => Judgement::AskLater(left),
        }
    }

    /// How long to keep it in the cache.
    pub const fn life() -> Duration {
        Duration::from_secs(30 * 86_400)
    }

    fn is_believed(&self, now: Timestamp, consented: Timestamp) -> bool {
        // A consent younger than the first refusal was given since: what was said before is void.
        self.refusals >= REFUSALS_MIN
            && self.last.since(self.first) >= SPAN_MIN
            && consented <= self.first
            && !is_young(now, consented)
    }
}

/// Whether a consent is so fresh that Enedis may not know it yet.
pub fn is_young(now: Timestamp, consented: Timestamp) -> bool {
    now.since(consented) < CONSENT_AGE_MIN
}

/// Distinct refused meters of a day from which on refusals may be Enedis' own trouble and not their owners' doing.
const OUTAGE_MIN: usize = 3;
/// Meters counted of one day at most.
const METERS_MAX: usize = 100_000;
const DAY_SECS: u64 = 86_400;

/// How many meters Enedis has answered for and how many it has refused, in this day and the one before. Meters that only a
/// browser named do not count before Enedis has answered for them: a stranger can invent as many as he likes. Owners withdraw
/// one by one; if Enedis refuses many meters and answers for few, the fault is not theirs, and no refusal is believed.
#[derive(Debug, Default)]
pub struct OutageDetector {
    day: u64,
    today: Tally,
    yesterday: Tally,
}

#[derive(Debug, Default)]
struct Tally {
    answered: HashSet<Meter>,
    refused: HashSet<Meter>,
}

impl OutageDetector {
    /// Enedis answered about `meter`.
    pub fn answered(&mut self, meter: Meter, now: Timestamp) {
        self.turn(now);
        insert(&mut self.today.answered, meter);
    }

    /// Enedis refused `meter`.
    pub fn refused(&mut self, meter: Meter, now: Timestamp) {
        self.turn(now);
        insert(&mut self.today.refused, meter);
    }

    /// Whether Enedis has answered about `meter` in this day or the one before.
    pub fn has_answered(&mut self, meter: Meter, now: Timestamp) -> bool {
        self.turn(now);
        [&self.today, &self.yesterday].iter().any(|tally| tally.answered.contains(&meter))
    }

    /// Whether refusals say nothing of consents at `now`.
    pub fn is_outage(&mut self, now: Timestamp) -> bool {
        self.turn(now);
        let count = |of: fn(&Tally) -> usize| of(&self.today).max(of(&self.yesterday));
        let refused = count(|tally| tally.refused.len());
        refused >= OUTAGE_MIN && refused * 2 > count(|tally| tally.answered.len())
    }

    fn turn(&mut self, now: Timestamp) {
        let day = now.as_secs() / DAY_SECS;
        if day != self.day {
            let before = std::mem::take(&mut self.today);
            self.yesterday = if day == self.day + 1 { before } else { Tally::default() };
            self.day = day;
        }
    }
}

fn insert(set: &mut HashSet<Meter>, meter: Meter) {
    if set.len() < METERS_MAX {
        set.insert(meter);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::meter;

    fn at(hours: u64) -> Timestamp {
        Timestamp::from_millis(hours * 3_600_000)
    }

    /// Of the other direction nothing is known.
    const UNKNOWN: RefusalHistory = RefusalHistory {
        refusals: 0,
        first: Timestamp::EPOCH,
        last: Timestamp::EPOCH,
        asked: Timestamp::EPOCH,
        answered: Timestamp::EPOCH,
    };

    /// Enedis refuses; whether a box that consented long ago is told so.
    fn believed(history: &mut RefusalHistory, now: Timestamp) -> bool {
        history.refused(now);
        history.judge(&UNKNOWN, now, at(0)) == Judgement::Withdrawn
    }

    #[test]
    fn four_days_of_refusals_are_believed() {
        let mut history = RefusalHistory::default();
        let believed: Vec<bool> = (0..5).map(|day| believed(&mut history, at(5_000 + day * 24))).collect();
        assert_eq!(believed, [false, false, false, true, true]);
        assert_eq!(history.judge(&UNKNOWN, at(5_097), at(0)), Judgement::Withdrawn);
        assert_eq!(
            history.judge(&UNKNOWN, at(5_000 + 96 + 24), at(0)),
            Judgement::Ask,
            "asked again a day later"
        );
    }

    #[test]
    fn a_fresh_consent_is_never_gone() {
        let mut history = RefusalHistory::default();
        for day in 0..7 {
            assert!(!believed(&mut history, at(day * 24)));
        }
        assert!(believed(&mut history, at(7 * 24)));
        // The owner consented again after the refusals began.
        assert!(matches!(history.judge(&UNKNOWN, at(7 * 24 + 1), at(6 * 24)), Judgement::AskLater(_)));
    }

    #[test]
    fn a_refused_meter_is_asked_four_times_a_day() {
        let mut history = RefusalHistory::default();
        for hour in 0..24 {
            let now = at(5_000 + hour);
            match history.judge(&UNKNOWN, now, at(0)) {
                Judgement::Ask => {
                    assert_eq!(hour % 6, 0);
                    history.refused(now);
                }
                other => assert_eq!(other, Judgement::AskLater(at(6 - hour % 6).since(at(0)))),
            }
        }
    }

    #[test]
    fn what_says_nothing_is_put_off_and_not_counted() {
        let mut history = RefusalHistory::default();
        for day in 0..9 {
            history.put_off(at(5_000 + day * 24));
        }
        assert!(matches!(history.judge(&UNKNOWN, at(5_193), at(0)), Judgement::AskLater(_)));
        assert_eq!(history.judge(&UNKNOWN, at(5_198), at(0)), Judgement::Ask);
        assert!(!believed(&mut history, at(5_200)), "the first that counts");
    }

    #[test]
    fn a_direction_that_is_refused_alone_has_no_data() {
        let (mut own, mut other) = (RefusalHistory::default(), RefusalHistory::default());
        for day in 0..20 {
            let now = at(5_000 + day * 24);
            // An hour before, or just after.
            other.answered(if day < 9 { at(4_999 + day * 24) } else { now });
            assert_eq!(own.judge(&other, now, at(0)), Judgement::Ask, "day {day}");
            own.refused(now);
            assert_eq!(own.judge(&other, now, at(0)), Judgement::OneSided, "day {day}");
        }
        // The owner withdraws: that takes as long to be believed as ever.
        let both = |days: u64| 5_000 + (20 + days) * 24;
        for day in 0..4 {
            other.refused(at(both(day)));
            let judged = other.judge(&own, at(both(day)), at(0));
            assert_eq!(judged == Judgement::Withdrawn, day == 3, "day {day}: {judged:?}");
        }
        // An answer of another time says nothing.
        let mut late = RefusalHistory::default();
        late.refused(at(both(60)));
        assert!(matches!(late.judge(&other, at(both(60)), at(0)), Judgement::AskLater(_)));
    }

    #[test]
    fn many_refusals_at_once_are_nobodys_doing() {
        let mut outages = OutageDetector::default();
        outages.refused(meter(1), at(100));
        outages.refused(meter(1), at(101));
        outages.refused(meter(2), at(101));
        assert!(!outages.is_outage(at(101)), "two owners may have withdrawn");
        outages.refused(meter(3), at(102));
        assert!(outages.is_outage(at(102)));
        for n in 10..16 {
            outages.answered(meter(n), at(103));
        }
        assert!(!outages.is_outage(at(103)), "most are answered");
        outages.refused(meter(4), at(104));
        assert!(outages.is_outage(at(104)) && outages.is_outage(at(124)), "remembered over midnight");
        assert!(!outages.is_outage(at(100 + 72)));
    }

    proptest! {
        #[test]
        fn never_gone_within_three_days(hours in proptest::collection::vec(0_u64..72, 0..60)) {
            let mut hours = hours;
            hours.sort_unstable();
            let mut history = RefusalHistory::default();
            for hour in hours {
                prop_assert!(!believed(&mut history, at(9_000 + hour)));
                prop_assert_ne!(history.judge(&UNKNOWN, at(9_000 + hour), at(0)), Judgement::Withdrawn);
            }
        }
    }
}
