//! Large answers: years of load curve are some megabytes each, and stay in memory until the client has read them. So
//! only a few are made at a time, and fewer of one meter and of one network: a client that asks and does not read holds up
//! nobody else. Nor does it hold its places for long: the connection of one who takes nothing is closed by the kernel
//! ([`STALLED`](super::connections::STALLED)).

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::Bytes;
use actors::base::meter::Meter;
use actors::base::network::Network;
use actors::metering::request::MeterRequest;

/// Days of load curve from which on an answer is large: some 250 kB.
const LARGE_DAYS: i64 = 62;
/// Large answers of one meter at a time.
const OF_A_METER: usize = 2;
/// Large answers to one network at a time, an IPv6 /48 being one.
const OF_A_NETWORK: usize = 16;
/// Large answers at a time.
const IN_ALL: usize = 64;

/// The large answers that are being made or read: of which meter, for which network.
#[derive(Clone, Default)]
pub struct LargeAnswers(Arc<Mutex<Vec<(Meter, Network)>>>);

/// The permit of one answer. Dropped when the answer has been sent, or will not be.
pub struct Permit {
    of: LargeAnswers,
    place: (Meter, Network),
}

/// There are too many already.
pub struct TooMany;

impl LargeAnswers {
    /// The permit that `request` from `network` needs; `None` if its answer is small. This machine's network is a proxy that
    /// hides its clients: it has no share.
    pub fn permit(&self, request: MeterRequest, network: Network) -> Result<Option<Permit>, TooMany> {
        let MeterRequest { resource, meter, range } = request;
        if !resource.is_curve() || range.day_count() <= LARGE_DAYS {
            return Ok(None);
        }
        let (network, mut taken) = (network.widest(), self.taken());
        let count = |is: &dyn Fn(&(Meter, Network)) -> bool| taken.iter().filter(|place| is(place)).count();
        if taken.len() >= IN_ALL
            || count(&|(other, _)| *other == meter) >= OF_A_METER
            || network != Network::LOCALHOST && count(&|(_, other)| *other == network) >= OF_A_NETWORK
        {
            return Err(TooMany);
        }
        taken.push((meter, network));
        Ok(Some(Permit { of: self.clone(), place: (meter, network) }))
    }

    fn taken(&self) -> MutexGuard<'_, Vec<(Meter, Network)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.of.taken();
        if let Some(at) = taken.iter().position(|place| *place == self.place) {
            taken.swap_remove(at);
        }
    }
}

/// Lets `permit` go when the body of `response` has been sent or given up.
pub fn hold(response: HttpResponse, permit: Option<Permit>) -> HttpResponse {
    match permit {
        None => response,
        Some(permit) => response.map_body(|_, body| BoxBody::new(PermittedBody { body, _permit: permit })),
    }
}

struct PermittedBody {
    body: BoxBody,
    _permit: Permit,
}

impl MessageBody for PermittedBody {
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
    use actors::metering::civil::parse_date;
    use actors::metering::request::{DayRange, Resource};

    use super::*;

    const HOME: Network = Network::LOCALHOST;

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
            assert!(matches!(large.permit(small, HOME), Ok(None)));
        }
        let first = large.permit(curve, HOME).ok().unwrap();
        let _second = large.permit(curve, HOME).ok().unwrap();
        assert!(large.permit(curve, HOME).is_err());
        assert!(large.permit(request(2, Resource::ConsumptionCurve, "2026-06-01"), HOME).is_ok());
        // Taken as long as the body is.
        let response = hold(HttpResponse::Ok().body("values"), first);
        assert!(large.permit(curve, HOME).is_err());
        assert_eq!(to_bytes(response.into_body()).await.unwrap(), "values");
        assert!(large.permit(curve, HOME).is_ok());
    }

    #[test]
    fn there_are_few_in_all() {
        let large = LargeAnswers::default();
        let permit = |number| large.permit(request(number, Resource::ProductionCurve, "2026-06-01"), HOME);
        let held: Vec<_> = (0..64).map(|number| permit(number).ok().unwrap()).collect();
        assert!(permit(200).is_err());
        drop(held);
        assert!(permit(200).is_ok());
        assert!(large.taken().is_empty());
    }

    #[test]
    fn a_network_has_a_share() {
        let large = LargeAnswers::default();
        let permit = |number, address: &str| {
            let network = Network::of(address.parse().unwrap());
            large.permit(request(number, Resource::ProductionCurve, "2026-06-01"), network)
        };
        let held: Vec<_> = (0..16).map(|n| permit(n, &format!("2001:db8:0:{n}::")).ok().unwrap()).collect();
        assert!(permit(20, "2001:db8:0:99::").is_err());
        assert!(permit(20, "2001:db8:1::").is_ok() && permit(21, "192.0.2.1").is_ok());
        drop(held);
        assert!(permit(20, "2001:db8:0:99::").is_ok());
        assert!(large.taken().is_empty());
    }
}
