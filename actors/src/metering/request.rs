//! What a box may ask: five paths of the v5 API, one meter, one range of days; and the contract of a meter. Anything else is refused before
//! it costs a call: the application's token at Enedis opens every consented meter, so a path or a parameter passed
//! through unread would let one box read another's.

use crate::base::meter::Meter;
use jiff::civil::Date;

use super::civil::{self, days_between, parse_date, plus};

/// Longest range a box may ask for, in days: the plugin asks for up to 1095 of a daily resource, and Enedis keeps
/// no more than 36 months and 15 days. Enedis allows 7 days of a load curve at a time; longer ranges are split.
pub const DAYS_MAX: i64 = 1_100;

/// Longest range of a load curve, in days: Enedis keeps no more than 24 months and 15 days. Its answer has some 3 MB; the
/// plugin asks for a week at a time.
pub const CURVE_DAYS_MAX: i64 = 746;

/// The path of contracts in the v5 API.
pub const CONTRACTS: &str = "customers_upc/v5/usage_points/contracts";

/// What v5 tells besides, and no box of this server hears: who the owner is, how to reach them, and where they live.
const PERSONAL: [&str; 3] =
    ["customers_i/v5/identity", "customers_cd/v5/contact_data", "customers_upa/v5/usage_points/addresses"];

/// Which way the energy of a resource flows. A meter may have either, and its owner may have consented to either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Drawn from the grid.
    Consumption = 0,
    /// Fed in, which most meters never do.
    Production = 1,
}

impl Direction {
    /// The opposite one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Consumption => Self::Production,
            Self::Production => Self::Consumption,
        }
    }
}

/// A metering resource of the v5 API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// Mean power drawn, per step of 5 to 60 minutes.
    ConsumptionCurve,
    /// Mean power fed in, per step.
    ProductionCurve,
    /// Energy drawn, per day.
    DailyConsumption,
    /// Energy fed in, per day.
    DailyProduction,
    /// Highest apparent power drawn, per day, with its time.
    DailyMaxPower,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ConsumptionCurve,
        Self::ProductionCurve,
        Self::DailyConsumption,
        Self::DailyProduction,
        Self::DailyMaxPower,
    ];

    /// Its path in the v5 API, without a leading slash.
    pub const fn v5_path(self) -> &'static str {
        match self {
            Self::ConsumptionCurve => "metering_data_clc/v5/consumption_load_curve",
            Self::ProductionCurve => "metering_data_plc/v5/production_load_curve",
            Self::DailyConsumption => "metering_data_dc/v5/daily_consumption",
            Self::DailyProduction => "metering_data_dp/v5/daily_production",
            Self::DailyMaxPower => "metering_data_dcmp/v5/daily_consumption_max_power",
        }
    }

    /// Whether its points are steps within a day, dated by their end.
    pub const fn is_curve(self) -> bool {
        matches!(self, Self::ConsumptionCurve | Self::ProductionCurve)
    }

    /// Which way its energy flows.
    pub const fn direction(self) -> Direction {
        match self {
            Self::ConsumptionCurve | Self::DailyConsumption | Self::DailyMaxPower => Direction::Consumption,
            Self::ProductionCurve | Self::DailyProduction => Direction::Production,
        }
    }

    /// Whether it is about energy fed in.
    pub const fn is_production(self) -> bool {
        matches!(self.direction(), Direction::Production)
    }

    /// A short name for metrics and for cache keys. Never changes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConsumptionCurve => "clc",
            Self::ProductionCurve => "plc",
            Self::DailyConsumption => "dc",
            Self::DailyProduction => "dp",
            Self::DailyMaxPower => "dcmp",
        }
    }
}

/// Days from `start`, included, to `end`, excluded. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DayRange {
    start: Date,
    end: Date,
}

impl DayRange {
    /// `None` unless `start < end`.
    pub fn new(start: Date, end: Date) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    /// The first day.
    pub const fn start(self) -> Date {
        self.start
    }

    /// The day after the last one.
    pub const fn end(self) -> Date {
        self.end
    }

    /// Number of days, at least 1.
    pub fn day_count(self) -> i64 {
        days_between(self.start, self.end)
    }

    /// Whether `day` lies in it.
    pub fn contains(self, day: Date) -> bool {
        (self.start..self.end).contains(&day)
    }

    /// Its days, in order.
    pub fn days(self) -> impl Iterator<Item = Date> {
        (0..self.day_count()).map(move |n| plus(self.start, n))
    }
}

/// One request for days of one resource of one meter. It is also the key of a call: equal requests are one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MeterRequest {
    /// What is asked for.
    pub resource: Resource,
    /// About which meter. Whether the box may ask is checked elsewhere, against its token.
    pub meter: Meter,
    /// Which days.
    pub range: DayRange,
}

/// Why a request is refused: to be answered 400 `invalid_request`, 404 for the path. `Display` is for the box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Identity, contact or address.
    #[error("Identity, contact and addresses are not relayed")]
    Personal,
    /// Not one of the paths, letter by letter.
    #[error("This path is not relayed")]
    UnknownPath,
    /// A parameter outside `usage_point_id`, `start`, `end`, `person_id`.
    #[error("Unknown parameter")]
    UnknownParameter,
    /// A parameter given twice: two readers could each take another one.
    #[error("Repeated parameter")]
    RepeatedParameter,
    /// No `usage_point_id` (the words of the PHP server).
    #[error("Missing usage_point_id")]
    MissingMeter,
    /// Not exactly 14 digits.
    #[error("usage_point_id must have 14 digits")]
    BadMeter,
    /// No `start`, or no `end`.
    #[error("Missing start or end")]
    MissingDates,
    /// Not `YYYY-MM-DD`, not in the calendar, or before 2010.
    #[error("start and end must be dates (YYYY-MM-DD)")]
    BadDates,
    /// `start` is not before `end`.
    #[error("start must be before end")]
    EmptyRange,
    /// `end` lies after tomorrow (French time).
    #[error("end must not be after tomorrow")]
    Future,
    /// More than [`DAYS_MAX`] days, or [`CURVE_DAYS_MAX`] of a load curve.
    #[error("The range is too long")]
    TooLong,
    /// `person_id` is not a short plain word.
    #[error("Bad person_id")]
    BadPerson,
}

impl MeterRequest {
    /// Reads a request. `path` is what follows `/data/proxy/`, without a leading slash, raw or decoded once: it
    /// must equal a whitelisted path letter by letter. Pass it raw to refuse `%2F` as well, which decoded once
    /// would be an innocent `/`. `query` is decoded once, in order, repeats included. `today` is the day in France.
    ///
    /// `person_id`, optional in v5, is accepted once and goes nowhere: the new API has no such parameter.
    pub fn parse<K: AsRef<str>, V: AsRef<str>>(
        path: &str,
        query: impl IntoIterator<Item = (K, V)>,
        today: Date,
    ) -> Result<Self, RequestError> {
        let resource = Resource::ALL.into_iter().find(|r| r.v5_path() == path);
        let unknown =
            if PERSONAL.contains(&path) { RequestError::Personal } else { RequestError::UnknownPath };
        let resource = resource.ok_or(unknown)?;
        let (mut meter, mut start, mut end, mut person) = (None, None, None, None);
        for (name, value) in query {
            let slot = match name.as_ref() {
                "usage_point_id" => &mut meter,
                "start" => &mut start,
                "end" => &mut end,
                "person_id" => &mut person,
                _ => return Err(RequestError::UnknownParameter),
            };
            if slot.replace(value).is_some() {
                return Err(RequestError::RepeatedParameter);
            }
        }
        let plain =
            |text: &str| text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if person.is_some_and(|text| !plain(text.as_ref())) {
            return Err(RequestError::BadPerson);
        }
        let meter = Meter::parse(meter.ok_or(RequestError::MissingMeter)?.as_ref());
        let meter = meter.ok_or(RequestError::BadMeter)?;
        let (Some(start), Some(end)) = (start, end) else { return Err(RequestError::MissingDates) };
        let date = |text: &str| parse_date(text).filter(|day| *day >= civil::FIRST);
        let start = date(start.as_ref()).ok_or(RequestError::BadDates)?;
        let end = date(end.as_ref()).ok_or(RequestError::BadDates)?;
        let range = DayRange::new(start, end).ok_or(RequestError::EmptyRange)?;
        if end > plus(today, 1) {
            return Err(RequestError::Future);
        }
        if range.day_count() > if resource.is_curve() { CURVE_DAYS_MAX } else { DAYS_MAX } {
            return Err(RequestError::TooLong);
        }
        Ok(Self { resource, meter, range })
    }

    /// Reads a question for a contract, at [`CONTRACTS`]: the meter is its one parameter.
    pub fn contract_of<K: AsRef<str>, V: AsRef<str>>(
        query: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Meter, RequestError> {
        let mut meter = None;
        for (name, value) in query {
            if name.as_ref() != "usage_point_id" {
                return Err(RequestError::UnknownParameter);
            }
            if meter.replace(value).is_some() {
                return Err(RequestError::RepeatedParameter);
            }
        }
        Meter::parse(meter.ok_or(RequestError::MissingMeter)?.as_ref()).ok_or(RequestError::BadMeter)
    }

    /// The same question about other days.
    #[must_use]
    pub const fn with_range(self, range: DayRange) -> Self {
        Self { range, ..self }
    }
}

#[cfg(test)]
mod tests;
