//! What the queue in front of the data APIs is given: how much may wait, for how long, and which calls give way.
//!
//! Meters take turns: a box that asks for two years of history waits behind itself. Calls about old days only get
//! one turn in four while others wait, and leave a part of each hour's quota alone, because the whole of it would be
//! gone in five minutes.

use std::time::Duration;

use jiff::civil::Date;

use super::civil::plus;
use super::request::MeterRequest;
use crate::limits::fair_queue::{Priority, QueueSettings};
use crate::limits::quota::QuotaSettings;

/// A range that ends so many days ago or earlier is history.
const HISTORY_DAYS: i64 = 7;
/// Calls of recent days before one about history gets its turn.
const RECENT_TURNS: u32 = 3;
/// Longest wait for a call's turn and answer; below the plugin's patience of 30 s.
pub const WAIT: Duration = Duration::from_secs(20);
/// Longest estimated wait with which a call is taken in although it may not be served within [`WAIT`]. The plugin sends
/// a request four times, each held for [`WAIT`], some ten seconds apart; told at once, it has used them up in 40 s.
pub const ADMIT: Duration = Duration::from_secs(100);
/// Calls that may wait at a time: more than Enedis takes within [`ADMIT`].
const CALLS_MAX: usize = 4_096;
/// Of them, of one meter: a history of two years has 105.
const CALLS_OF_A_METER_MAX: usize = 128;
/// Requests that may wait for one call.
const WAITERS_MAX: usize = 64;
/// Calls under way at a time at most; normally as many as may begin in a second.
const IN_FLIGHT_MAX: u32 = 64;

/// The settings for an API of this quota.
pub fn settings(quota: QuotaSettings) -> QueueSettings {
    QueueSettings {
        wait: WAIT,
        admit: ADMIT,
        in_flight: quota.per_second.min(IN_FLIGHT_MAX) as usize,
        calls_max: CALLS_MAX,
        calls_per_owner_max: CALLS_OF_A_METER_MAX,
        waiters_max: WAITERS_MAX,
        high_turns: RECENT_TURNS,
        low_share_of: quota.per_hour,
    }
}

/// The priority of a call on the day `today`: the days a box asks for each morning go before older ones.
pub fn priority(call: MeterRequest, today: Date) -> Priority {
    if call.range.end() <= plus(today, -HISTORY_DAYS) { Priority::Low } else { Priority::High }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;
    use crate::metering::request::Resource::ConsumptionCurve;
    use crate::testing::question;

    #[test]
    fn old_days_give_way() {
        for (start, end, expected) in [
            (date(2026, 11, 22), date(2026, 11, 23), Priority::High),
            (date(2023, 11, 24), date(2026, 11, 23), Priority::High),
            (date(2026, 11, 9), date(2026, 11, 16), Priority::Low),
        ] {
            let priority = priority(question(ConsumptionCurve, start, end), date(2026, 11, 23));
            assert_eq!(priority, expected, "{start} to {end}");
        }
    }
}
