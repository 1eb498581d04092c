//! Large answers: years of load curve are some megabytes each, and stay in memory until the client has read them. So
//! only a few are made at a time, and fewer of one meter: a client that asks and does not read holds up nobody else.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::Bytes;
use actors::meter::request::{Meter, MeterRequest};
use dashmap::DashMap;

/// Days of load curve from which on an answer is large: some 250 kB.
const LARGE_DAYS: i64 = 62;
/// Large answers of one meter at a time.
const OF_A_METER: usize = 2;
/// Large answers at a time.
const IN_ALL: usize = 64;

/// Counts the large answers that are being made or read.
#[derive(Clone, Default)]
pub struct LargeAnswers(Arc<DashMap<Meter, usize>>);

/// The place of one answer. Dropped when the answer has been sent, or will not be.
pub struct Place {
    of: LargeAnswers,
    meter: Meter,
}

/// There are too many already.
pub struct TooMany;

impl LargeAnswers {
    /// The place that `request` takes; `None` if its answer is small.
    pub fn place(&self, request: MeterRequest) -> Result<Option<Place>, TooMany> {
        if !request.resource.is_curve() || request.range.day_count() <= LARGE_DAYS {
            return Ok(None);
        }
        let in_all: usize = self.0.iter().map(|entry| *entry.value()).sum();
        let mut of_meter = self.0.entry(request.meter).or_default();
        if in_all >= IN_ALL || *of_meter >= OF_A_METER {
            drop(of_meter);
            self.forget_unused(request.meter);
            return Err(TooMany);
        }
        *of_meter += 1;
        drop(of_meter);
        Ok(Some(Place { of: self.clone(), meter: request.meter }))
    }

    fn forget_unused(&self, meter: Meter) {
        self.0.remove_if(&meter, |_, count| *count == 0);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(mut count) = self.of.0.get_mut(&self.meter) {
            *count = count.saturating_sub(1);
        }
        self.of.forget_unused(self.meter);
    }
}

/// Lets `place` go when the body of `response` has been sent or given up.
pub fn hold(response: HttpResponse, place: Option<Place>) -> HttpResponse {
    match place {
        None => response,
        Some(place) => response.map_body(|_, body| BoxBody::new(Held { body, _place: place })),
    }
}

struct Held {
    body: BoxBody,
    _place: Place,
}

impl MessageBody for Held {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;
    use actors::meter::civil::parse_date;
    use actors::meter::request::{DayRange, Resource};

    use super::*;

    fn request(number: u8, resource: Resource, end: &str) -> MeterRequest {
        let range = DayRange::new(parse_date("2026-01-01").unwrap(), parse_date(end).unwrap()).unwrap();
        MeterRequest { resource, meter: Meter::parse(&format!("{number:014}")).unwrap(), range }
    }

    #[actix_web::test]
    async fn a_meter_has_few_and_gets_them_back() {
        let large = LargeAnswers::default();
        let curve = request(1, Resource::ConsumptionCurve, "2026-06-01");
        for small in [
            request(1, Resource::ConsumptionCurve, "2026-01-08"),
            request(1, Resource::DailyConsumption, "2026-06-01"),
        ] {
            assert!(matches!(large.place(small), Ok(None)));
        }
        let first = large.place(curve).ok().unwrap();
        let _second = large.place(curve).ok().unwrap();
        assert!(large.place(curve).is_err());
        assert!(large.place(request(2, Resource::ConsumptionCurve, "2026-06-01")).is_ok());
        // Held as long as the body is.
        let response = hold(HttpResponse::Ok().body("values"), first);
        assert!(large.place(curve).is_err());
        assert_eq!(to_bytes(response.into_body()).await.unwrap(), "values");
        assert!(large.place(curve).is_ok());
    }

    #[test]
    fn there_are_few_in_all() {
        let large = LargeAnswers::default();
        let place = |number| large.place(request(number, Resource::ProductionCurve, "2026-06-01"));
        let held: Vec<_> = (0..64).map(|number| place(number).ok().unwrap()).collect();
        assert!(place(200).is_err());
        drop(held);
        assert!(place(200).is_ok());
        assert!(large.0.is_empty());
    }
}
