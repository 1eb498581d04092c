//! Owns what both data APIs share: which questions are refused, and the points that answer the others. How either is
//! written is up to [`super::v5`] and [`super::mesure`].

use super::book::Book;
use super::counts::Resource;
use super::values::{SLOTS, daily, half_hour, is_lost, max_power};
use super::{Options, Quirks};
use crate::calendar::Day;

/// Most days in one answer of a load curve.
const CURVE_DAYS: i64 = 7;
/// How far back a load curve goes, in months, and 15 days more.
const CURVE_MONTHS: i64 = 24;
/// How far back a value per day goes, in months, and 15 days more.
const DAILY_MONTHS: i64 = 36;
const GRACE_DAYS: i64 = 15;

/// A well-formed question; `end` is excluded.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) point: String,
    pub(super) resource: Resource,
    pub(super) start: Day,
    pub(super) end: Day,
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A parameter is missing or wrong; which one.
    BadRequest(&'static str),
    /// No such meter among those of the people who consent here.
    NotHolder,
    /// The holder has not consented, or no longer does.
    NoConsent,
    /// ADAM-ERR0069.
    NoSuchDirection,
    /// ADAM-ERR0126.
    TooLong,
    /// ADAM-ERR0125.
    TooOld,
    /// ADAM-ERR0123.
    BeforeActivation,
    /// Nothing was measured.
    NoData,
}

impl Refusal {
    /// HTTP status, code and text in the form of API v5.
    pub(super) const fn v5(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::BadRequest(what) => (400, "invalid_request", what),
            Self::NotHolder => (403, "ADAM-DC-0007", "The customer is not the holder of this usage point."),
            Self::NoConsent => {
                (403, "ADAM-DC-0008", "No consent can be found for this customer and this usage point.")
            }
            Self::NoSuchDirection => (
                400,
                "ADAM-ERR0069",
                "The requested direction of measurement does not exist on this usage point.",
            ),
            Self::TooLong => (400, "ADAM-ERR0126", "The requested period cannot exceed 7 consecutive days."),
            Self::TooOld => (400, "ADAM-ERR0125", "The requested period is too far back in time."),
            Self::BeforeActivation => (
                400,
                "ADAM-ERR0123",
                "The requested period cannot be anterior to the meter's last activation date.",
            ),
            Self::NoData => (404, "no_data_found", "no measure found for this usage point"),
        }
    }
}

/// The parameter `name` of a question, as an Enedis date.
pub(super) fn date(text: Option<&str>, missing: &'static str, wrong: &'static str) -> Result<Day, Refusal> {
    let text = text.ok_or(Refusal::BadRequest(missing))?;
    Day::parse(text).ok_or(Refusal::BadRequest(wrong))
}

/// Tells whether `text` is written like a usage point.
pub(super) fn is_point(text: &str) -> bool {
    text.len() == 14 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// One measured value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// `YYYY-MM-DD` for energy, `YYYY-MM-DD HH:MM:SS` for curves (end of the half hour) and the largest power.
    pub(super) date: String,
    /// W, Wh or VA; `None`: lost on its way.
    pub(super) value: Option<u32>,
}

/// Answers `ask`, with at least one point that has a value.
pub(super) fn answer(options: &Options, book: &Book, ask: &Ask) -> Result<Vec<Point>, Refusal> {
    let profile = options.meters.profile(&ask.point).ok_or(Refusal::NotHolder)?;
    if options.consent_required && !book.grants.allows(&ask.point) {
        return Err(Refusal::NoConsent);
    }
    if ask.start >= ask.end {
        return Err(Refusal::BadRequest("the start date must be before the end date"));
    }
    let today = book.today();
    if ask.end > today {
        return Err(Refusal::BadRequest("the end date must not be in the future"));
    }
    let measured = match ask.resource {
        Resource::ConsumptionCurve | Resource::DailyConsumption | Resource::MaxPower => profile.consumption,
        Resource::ProductionCurve | Resource::DailyProduction => profile.production,
    };
    if !measured {
        return Err(Refusal::NoSuchDirection);
    }
    let curve = ask.resource.is_curve();
    if curve && ask.end.since(ask.start) > CURVE_DAYS {
        return Err(Refusal::TooLong);
    }
    let months = if curve { CURVE_MONTHS } else { DAILY_MONTHS };
    if ask.start < today.months_ago(months).plus(-GRACE_DAYS) {
        return Err(Refusal::TooOld);
    }
    if ask.start < profile.in_service() {
        return Err(Refusal::BeforeActivation);
    }
    let end = ask.end.min(book.published_until());
    let days = ask.start.until(end).filter(|day| profile.measured(*day) && (!curve || profile.curve));
    let points: Vec<_> = days.flat_map(|day| of_day(options.quirks, ask, day)).collect();
    if points.iter().any(|point| point.value.is_some()) { Ok(points) } else { Err(Refusal::NoData) }
}

fn of_day(quirks: Quirks, ask: &Ask, day: Day) -> Vec<Point> {
    let direction = ask.resource.direction();
    let kept =
        |slot, value| (!(quirks.null_values && is_lost(&ask.point, direction, day, slot))).then_some(value);
    match ask.resource {
        Resource::ConsumptionCurve | Resource::ProductionCurve => (0..SLOTS)
            .map(|slot| Point {
                date: moment(day, (slot + 1) * 1_800),
                value: kept(slot, half_hour(&ask.point, direction, day, slot)),
            })
            .collect(),
        Resource::DailyConsumption | Resource::DailyProduction => {
            vec![Point { date: day.to_string(), value: kept(SLOTS, daily(&ask.point, direction, day)) }]
        }
        Resource::MaxPower => {
            let (power, second) = max_power(&ask.point, day);
            vec![Point { date: moment(day, second), value: kept(SLOTS, power) }]
        }
    }
}

/// The moment `second` seconds into `day`; 86 400 is midnight of the next day.
fn moment(day: Day, second: u32) -> String {
    let (day, second) = (day.plus(i64::from(second / 86_400)), second % 86_400);
    format!("{day} {:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}
