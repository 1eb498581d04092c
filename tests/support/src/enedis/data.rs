//! Owns the gateway and the data behind it: it asks, in this order, for a live token of the application, room in the
//! quota and the right content type; then whether the question can be answered.
//! How questions and answers are written is up to [`super::shapes`].

use super::book::Book;
use super::shapes::{Ask, Dialect};
use super::values::{Direction, Point, Refusal, SLOTS, daily, half_hour, is_lost, max_power};
use super::{Endpoint, Fault, Options, Request, Response, TOKEN_LIFE, services};
use crate::calendar::Day;

/// Most days in one answer of a load curve.
const CURVE_DAYS: i64 = 7;
/// How far back a load curve goes, in months, and 15 days more.
const CURVE_MONTHS: i64 = 24;
/// How far back a value per day goes, in months, and 15 days more.
const DAILY_MONTHS: i64 = 36;
const GRACE_DAYS: i64 = 15;

/// What can be asked about a meter, in either API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Half-hour curve of consumption.
    ConsumptionCurve,
    /// Half-hour curve of production.
    ProductionCurve,
    /// Energy consumed per day.
    DailyConsumption,
    /// Energy produced per day.
    DailyProduction,
    /// Largest power drawn per day.
    MaxPower,
}

impl Resource {
    /// Every resource.
    pub const ALL: [Self; 5] = [
        Self::ConsumptionCurve,
        Self::ProductionCurve,
        Self::DailyConsumption,
        Self::DailyProduction,
        Self::MaxPower,
    ];

    /// Path in API v5.
    pub const fn v5_path(self) -> &'static str {
        match self {
            Self::ConsumptionCurve => "/metering_data_clc/v5/consumption_load_curve",
            Self::ProductionCurve => "/metering_data_plc/v5/production_load_curve",
            Self::DailyConsumption => "/metering_data_dc/v5/daily_consumption",
            Self::DailyProduction => "/metering_data_dp/v5/daily_production",
            Self::MaxPower => "/metering_data_dcmp/v5/daily_consumption_max_power",
        }
    }

    /// Path in the API of 2026.
    pub const fn path_2026(self) -> &'static str {
        match self {
            Self::ConsumptionCurve => "/mesure_synchrone_auto/v2/courbe_de_charge_consommation",
            Self::ProductionCurve => "/mesure_synchrone_auto/v2/courbe_de_charge_production",
            Self::DailyConsumption => "/mesure_synchrone_auto/v2/consommation_quotidienne",
            Self::DailyProduction => "/mesure_synchrone_auto/v2/production_quotidienne",
            Self::MaxPower => "/mesure_synchrone_auto/v2/puissance_conso_max_quotidienne",
        }
    }

    /// The API and resource behind `path`.
    pub(super) fn at(path: &str) -> Option<(Endpoint, Self)> {
        let of =
            |path_of: fn(Self) -> &'static str| Self::ALL.into_iter().find(|each| path_of(*each) == path);
        let v5 = of(Self::v5_path).map(|resource| (Endpoint::DataV5, resource));
        v5.or_else(|| of(Self::path_2026).map(|resource| (Endpoint::Data2026, resource)))
    }

    pub(super) const fn direction(self) -> Direction {
        match self {
            Self::ConsumptionCurve | Self::DailyConsumption | Self::MaxPower => Direction::Consumption,
            Self::ProductionCurve | Self::DailyProduction => Direction::Production,
        }
    }

    /// Tells whether it has a value per half hour.
    pub(super) const fn is_curve(self) -> bool {
        matches!(self, Self::ConsumptionCurve | Self::ProductionCurve)
    }
}

/// Answers a request to the services behind the gateway.
pub(super) fn answer(options: &Options, book: &mut Book, request: &Request) -> Result<Response, Fault> {
    let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let issued = token.and_then(|token| book.application_tokens.get(token));
    if issued.is_none_or(|issued| book.now().saturating_sub(*issued) >= TOKEN_LIFE) {
        return Err(Fault::invalid_credentials());
    }
    book.take(request.endpoint, options.quota)?;
    let Some((api, resource)) = Resource::at(&request.path) else {
        return Ok(services::answer(options, book, request));
    };
    let dialect = if api == Endpoint::DataV5 { Dialect::V5 } else { Dialect::Of2026 };
    let answered = dialect.read(resource, request).and_then(|ask| {
        let points = points(options, book, api, &ask)?;
        Ok(dialect.written(options.quirks, &ask, &points))
    });
    let (status, body) = answered.unwrap_or_else(|refusal| dialect.refused(refusal));
    Ok(Response::json(status, &body))
}

/// The points that answer `ask`; at least one has a value.
fn points(options: &Options, book: &Book, api: Endpoint, ask: &Ask) -> Result<Vec<Point>, Refusal> {
    let profile = options.meters.profile(&ask.point).ok_or(Refusal::NotHolder)?;
    let (today, curve) = (book.today(), ask.resource.is_curve());
    let direction = ask.resource.direction();
    let activated = book.activated.get(&(ask.point.clone(), direction));
    let measured = match direction {
        Direction::Consumption => profile.consumption,
        Direction::Production => profile.production || activated.is_some(),
    };
    let is_refused = book.refused.contains(&(ask.point.clone(), direction, api));
    // Consumption of a meter that only feeds in; production that is newer than the consent.
    let refusal = if direction == Direction::Consumption { Refusal::NotHolder } else { Refusal::NoConsent };
    let oldest = today.months_ago(if curve { CURVE_MONTHS } else { DAILY_MONTHS }).plus(-GRACE_DAYS);
    let refusals = [
        (!book.is_granted(&ask.point), Refusal::NoConsent),
        (is_refused, refusal),
        (ask.start >= ask.end, Refusal::BadRequest("the start date must be before the end date")),
        (ask.end > today, Refusal::BadRequest("the end date must not be in the future")),
        (!measured, Refusal::NoSuchDirection),
        (curve && ask.end.since(ask.start) > CURVE_DAYS, Refusal::TooLong),
        (ask.start < oldest, Refusal::TooOld),
        (ask.start < activated.copied().unwrap_or(profile.in_service()), Refusal::BeforeActivation),
    ];
    if let Some((_, refusal)) = refusals.into_iter().find(|(refused, _)| *refused) {
        return Err(refusal);
    }
    let days = ask.start.until(ask.end).filter(|day| profile.measured(*day) && (!curve || profile.curve));
    let points: Vec<_> = days.flat_map(|day| of_day(options.quirks, ask, day)).collect();
    if points.iter().any(|point| point.value.is_some()) { Ok(points) } else { Err(Refusal::NoData) }
}

fn of_day(quirks: bool, ask: &Ask, day: Day) -> Vec<Point> {
    let (meter, direction) = (ask.point.as_str(), ask.resource.direction());
    let point = |date, slot, value| {
        let lost = quirks && is_lost(meter, direction, day, slot);
        Point { date, value: (!lost).then_some(value) }
    };
    match ask.resource {
        Resource::ConsumptionCurve | Resource::ProductionCurve => (0..SLOTS)
            .map(|slot| point(moment(day, (slot + 1) * 1_800), slot, half_hour(meter, direction, day, slot)))
            .collect(),
        Resource::DailyConsumption | Resource::DailyProduction => {
            vec![point(day.to_string(), SLOTS, daily(meter, direction, day))]
        }
        Resource::MaxPower => {
            let (power, second) = max_power(meter, day);
            vec![point(moment(day, second), SLOTS, power)]
        }
    }
}

/// The moment `second` seconds into `day`; 86 400 is midnight of the next day.
fn moment(day: Day, second: u32) -> String {
    let (day, second) = (day.plus(i64::from(second / 86_400)), second % 86_400);
    format!("{day} {:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}
