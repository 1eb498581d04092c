//! Which of Enedis' two APIs is asked (`ENEDIS_API_MODE`).
//!
//! Nobody knows for sure which of them answers, or until when: `auto` prefers the new one, takes the other where
//! the gateway of the first fails, never because of an error about data, remembers which works, and tries the
//! one that failed again now and then, one call at a time.

use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::limits::breaker::{Breaker, BreakerSettings};

/// Longest pause of either kind.
const PAUSE_MAX: Duration = Duration::from_secs(6 * 3_600);
/// An API in trouble.
const TROUBLE: BreakerSettings =
    BreakerSettings { trip_after: 3, first_pause: Duration::from_secs(2 * 60), longest_pause: PAUSE_MAX };
/// An API that is closed or not subscribed. Once is not enough: the first such answer may have been about one meter.
const NOT_THERE: BreakerSettings =
    BreakerSettings { trip_after: 2, first_pause: Duration::from_secs(3_600), longest_pause: PAUSE_MAX };

/// One of Enedis' metering APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Api {
    /// `mesure_synchrone_auto/v2`, since 28 September 2026.
    New = 0,
    /// `metering_data_*/v5`.
    Legacy = 1,
}

impl Api {
    /// Both.
    pub const ALL: [Self; 2] = [Self::New, Self::Legacy];

    /// As the record of what is used names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Legacy => "legacy",
        }
    }
}

/// The setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApiMode {
    /// The new API where it works, else the old one.
    #[default]
    Auto,
    /// The new API only.
    New,
    /// The old API only.
    Legacy,
}

/// What a call told about the API it was put to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It answered: with data, an error about data, or that the quota is used up.
    Works,
    /// It did not answer, or said that it cannot.
    Trouble,
    /// It is closed, or not for us.
    NotThere,
}

/// Where a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// First.
    pub first: Api,
    /// If the gateway of the first failed, and there is time left.
    pub second: Option<Api>,
}

/// Chooses the API of each call: one breaker for each, and the order in which they are asked.
#[derive(Clone, Copy, Debug)]
pub struct ApiChooser {
    mode: ApiMode,
    breakers: [Breaker; 2],
}

impl ApiChooser {
    /// Nothing is known yet.
    pub fn new(mode: ApiMode) -> Self {
        Self { mode, breakers: Default::default() }
    }

    /// Where the next call goes. Every call that is sent must be [reported](Self::report).
    pub fn route(&mut self, now: Timestamp) -> Route {
        let [new, legacy] = &mut self.breakers;
        let only = |first| Route { first, second: None };
        let new_first = Route { first: Api::New, second: Some(Api::Legacy) };
        match self.mode {
            ApiMode::New => only(Api::New),
            ApiMode::Legacy => only(Api::Legacy),
            ApiMode::Auto => match (new.check(now), legacy.check(now)) {
                (Ok(()), second) => {
                    new.begin(now);
                    if second.is_ok() { new_first } else { only(Api::New) }
                }
                (Err(_), Ok(())) => {
                    legacy.begin(now);
                    only(Api::Legacy)
                }
                // Neither works: the quota's breaker keeps calls few, and whichever comes back first shall be found.
                _ if new.open_until() <= legacy.open_until() => new_first,
                _ => Route { first: Api::Legacy, second: Some(Api::New) },
            },
        }
    }

    /// A call to `api` told this about it; a failure that is no news may be the trouble of the meter.
    pub fn report(&mut self, now: Timestamp, api: Api, report: Report, is_news: bool) {
        let breaker = &mut self.breakers[api as usize];
        match report {
            Report::Works => breaker.answered(),
            Report::Trouble => breaker.failed(now, &TROUBLE, is_news),
            Report::NotThere => breaker.failed(now, &NOT_THERE, is_news),
        }
    }

    /// The API that calls go to at `now`.
    pub fn preferred(mut self, now: Timestamp) -> Api {
        self.route(now).first
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOTH: Route = Route { first: Api::New, second: Some(Api::Legacy) };
    const OLD: Route = Route { first: Api::Legacy, second: None };

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000 + secs * 1_000)
    }

    #[test]
    fn one_api_alone_is_asked_whatever_it_says() {
        for (mode, api) in [(ApiMode::New, Api::New), (ApiMode::Legacy, Api::Legacy)] {
            let mut chooser = ApiChooser::new(mode);
            for secs in 0..20 {
                assert_eq!(chooser.route(at(secs)), Route { first: api, second: None });
                chooser.report(at(secs), api, Report::NotThere, true);
            }
        }
    }

    #[test]
    fn a_closed_api_is_left_alone_and_probed() {
        let mut chooser = ApiChooser::new(ApiMode::Auto);
        assert_eq!(chooser.route(at(0)), BOTH);
        chooser.report(at(0), Api::New, Report::NotThere, true);
        assert_eq!(chooser.route(at(0)), BOTH, "once is not enough");
        chooser.report(at(0), Api::New, Report::NotThere, true);
        chooser.report(at(1), Api::Legacy, Report::Works, true);
        assert_eq!(chooser.route(at(2)), OLD, "remembered");
        assert_eq!(chooser.route(at(3_599)), OLD);
        assert_eq!(chooser.route(at(3_600)), BOTH, "one probe");
        assert_eq!(chooser.route(at(3_601)), OLD, "and only one");
        chooser.report(at(3_602), Api::New, Report::NotThere, true);
        assert_eq!(chooser.route(at(2 * 3_600 + 10)), OLD, "twice as long");
        assert_eq!(chooser.route(at(3 * 3_600 + 10)), BOTH);
        chooser.report(at(3 * 3_600 + 11), Api::New, Report::Works, true);
        assert_eq!(chooser.route(at(3 * 3_600 + 12)), BOTH);
        assert_eq!(chooser.preferred(at(3 * 3_600 + 13)), Api::New);
    }

    #[test]
    fn what_is_closed_is_no_second_choice_unless_neither_works() {
        let mut chooser = ApiChooser::new(ApiMode::Auto);
        chooser.report(at(0), Api::Legacy, Report::NotThere, true);
        chooser.report(at(0), Api::Legacy, Report::NotThere, true);
        assert_eq!(chooser.route(at(1)), Route { first: Api::New, second: None });
        let mut chooser = ApiChooser::new(ApiMode::Auto);
        for _ in 0..3 {
            chooser.report(at(0), Api::New, Report::NotThere, true);
            chooser.report(at(0), Api::Legacy, Report::Trouble, true);
        }
        // The new one for an hour, the old one for minutes: the new one is asked all the same.
        assert_eq!(chooser.route(at(1)), Route { first: Api::Legacy, second: Some(Api::New) });
        chooser.report(at(2), Api::New, Report::Works, true);
        assert_eq!(chooser.route(at(3)).first, Api::New);
    }

    #[test]
    fn single_failures_change_nothing() {
        let mut chooser = ApiChooser::new(ApiMode::Auto);
        for secs in 0..50 {
            chooser.report(
                at(secs),
                Api::New,
                if secs % 3 == 2 { Report::Works } else { Report::Trouble },
                true,
            );
            assert_eq!(chooser.route(at(secs)), BOTH);
        }
    }

    proptest! {
        /// Whatever happened, an API that works again is used again: the new one within its longest pause.
        #[test]
        fn always_recovers(reports in proptest::collection::vec((0_u64..5_000, any::<bool>(), 0_u8..3), 0..80)) {
            let mut chooser = ApiChooser::new(ApiMode::Auto);
            let mut secs = 0;
            for (step, new, what) in reports {
                secs += step;
                chooser.route(at(secs));
                let api = if new { Api::New } else { Api::Legacy };
                let report = [Report::Works, Report::Trouble, Report::NotThere][usize::from(what)];
                chooser.report(at(secs), api, report, true);
            }
            secs += PAUSE_MAX.as_secs() + 60;
            prop_assert_eq!(chooser.route(at(secs)).first, Api::New);
            chooser.report(at(secs), Api::New, Report::Works, true);
            prop_assert_eq!(chooser.route(at(secs + 1)).first, Api::New);
        }
    }
}
