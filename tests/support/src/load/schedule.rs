//! Owns when what is sent: pure, so that a run can be planned, and judged, without a clock.
//!
//! Instants are offsets from the start of a run. A schedule promises that they do not depend on answers: that is what
//! makes the load an open loop. It refuses nothing; plans are checked before.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// When the next poll of a connection is due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// At its planned instant, whatever became of those before (open loop): how long do devices wait?
    Planned(Schedule),
    /// As soon as the one before is answered, for so long (closed loop): how much can the server do?
    Answered(Duration),
}

/// When which device polls: each at one constant interval, all of them evenly spread over it.
///
/// ```text
/// number of the poll   0 1 2 … devices-1 | devices …          one poll each 1/rate seconds
/// device               0 1 2 … devices-1 | 0 1 2 …            the next round begins
/// connection           0 1 2 … 0 1 2 …                        device modulo connections
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Devices, at least 1.
    pub devices: u32,
    /// Connections that the devices share, at least 1.
    pub connections: u32,
    /// Polls offered in a second, by all devices.
    pub rate: f64,
    /// How long polls are offered.
    pub length: Duration,
}

/// One poll of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// Which of the connection's own devices polls, from 0.
    pub(super) device: usize,
    /// When; `None`: at once.
    pub(super) at: Option<Duration>,
}

impl Pace {
    /// How long polls are sent.
    pub fn length(&self) -> Duration {
        match self {
            Self::Planned(schedule) => schedule.length,
            Self::Answered(length) => *length,
        }
    }

    /// The polls of connection number `connection`, which has `own` devices, in order; without end in a closed loop.
    pub(super) fn of_connection(self, connection: u32, own: usize) -> impl Iterator<Item = Slot> + Send {
        (0..own).cycle().enumerate().map_while(move |(count, device)| {
            let Self::Planned(schedule) = self else { return Some(Slot { device, at: None }) };
            let number = u64::from(connection) + device as u64 * u64::from(schedule.connections);
            let poll = (count / own) as u64 * u64::from(schedule.devices) + number;
            let at = after(poll, schedule.rate, fraction(number));
            (poll < schedule.offered()).then_some(Slot { device, at: Some(at) })
        })
    }
}

impl Schedule {
    /// Polls offered in all.
    pub fn offered(&self) -> u64 {
        planned(self.rate, self.length)
    }
}

/// Devices of connection number `connection` when `devices` share `connections`.
pub(super) fn devices_of(connection: u32, devices: u32, connections: u32) -> u32 {
    devices.saturating_sub(connection).div_ceil(connections)
}

/// Instants at `rate` a second for `length`, each moved a little within its share of time.
pub(super) fn instants(rate: f64, length: Duration) -> impl Iterator<Item = Duration> + Send {
    (0..planned(rate, length)).map(move |number| after(number, rate, fraction(number)))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and far below 2^53"
)]
fn planned(rate: f64, length: Duration) -> u64 {
    (rate * length.as_secs_f64()).round() as u64
}

fn after(number: u64, rate: f64, fraction: f64) -> Duration {
    Duration::from_secs_f64((number as f64 + fraction) / rate)
}

/// A number from 0 to below 1, the same in every run.
fn fraction(number: u64) -> f64 {
    StdRng::seed_from_u64(number).random()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule =
        Schedule { devices: 50, connections: 7, rate: 10.0, length: Duration::from_secs(12) };

    /// The slots of each connection, with their instants.
    fn slots(schedule: Schedule) -> Vec<Vec<(usize, Duration)>> {
        let of = |number| {
            let own = devices_of(number, schedule.devices, schedule.connections) as usize;
            let slots = Pace::Planned(schedule).of_connection(number, own);
            slots.map(|slot| (slot.device, slot.at.expect("a planned poll"))).collect()
        };
        (0..schedule.connections).map(of).collect()
    }

    #[test]
    fn connections_share_all_polls() {
        assert_eq!((0..7).map(|number| devices_of(number, 50, 7)).sum::<u32>(), 50);
        let mut at: Vec<_> = slots(SCHEDULE).concat().into_iter().map(|(_, at)| at).collect();
        at.sort_unstable();
        assert_eq!((at.len(), SCHEDULE.offered()), (120, 120));
        for (number, at) in at.iter().enumerate() {
            let earliest = Duration::from_millis(100 * number as u64);
            assert!((earliest..earliest + Duration::from_millis(100)).contains(at), "{number}: {at:?}");
        }
    }

    #[test]
    fn each_device_keeps_its_interval() {
        for (number, slots) in (0..).zip(slots(SCHEDULE)) {
            assert!(slots.is_sorted_by_key(|slot| slot.1));
            for (one, next) in slots.iter().zip(slots.iter().skip(devices_of(number, 50, 7) as usize)) {
                assert_eq!(one.0, next.0);
                let apart = next.1.abs_diff(one.1 + Duration::from_secs(5));
                assert!(apart < Duration::from_micros(1), "{apart:?}");
            }
        }
    }
}
