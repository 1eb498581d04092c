//! When boxes last asked for a meter: what the server asks by itself, and what a restart is to know.

use std::time::Duration;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::metering::civil::{self, days_between, plus};
use crate::metering::request::Resource;

/// How long a meter is active after the last question of a box: over a weekend without power.
pub const ACTIVE_DAYS: i64 = 4;

/// On which day each resource of a meter was last asked for, in days since 2010, in the order of [`Resource::ALL`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastAsked([Option<i64>; 5]);

impl LastAsked {
    /// How long it is kept.
    pub const LIFE: Duration = Duration::from_secs(ACTIVE_DAYS.cast_unsigned() * 86_400);

    /// A box asks on `today`; whether that is news.
    pub fn note(&mut self, resource: Resource, today: Date) -> bool {
        let day = Some(days_between(civil::FIRST, today));
        std::mem::replace(&mut self.0[resource as usize], day) != day
    }

    /// The day on which a resource was last asked for.
    pub fn of(&self, resource: Resource) -> Option<Date> {
        self.0[resource as usize].map(|days| plus(civil::FIRST, days))
    }
}
