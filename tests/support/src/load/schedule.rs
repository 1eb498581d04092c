//! Owns when what is sent: pure, so that a run can be planned, and judged, without a clock.
//!
//! Instants are offsets from the start of a run. A schedule promises that they do not depend on answers: that is what
//! makes the load an open loop. It refuses nothing; plans are checked before.

use std::time::Duration;

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
    /// Moves each device a little, by less than the time between two polls.
    pub seed: u64,
}

/// One poll of a connection's schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Which of the connection's own devices polls, from 0.
    pub device: usize,
    /// When.
    pub at: Duration,
}

impl Schedule {
    /// Polls offered in all.
    pub fn offered(&self) -> u64 {
        planned(self.rate, self.length)
    }

    /// Devices of connection number `connection`.
    pub fn devices_of(&self, connection: u32) -> u32 {
        self.devices.saturating_sub(connection).div_ceil(self.connections)
    }

    /// The polls of connection number `connection`, in order.
    pub fn of_connection(self, connection: u32) -> impl Iterator<Item = Slot> + Send {
        let offered = self.offered();
        let own = u64::from(self.devices_of(connection));
        (0_u64..).map_while(move |count| {
            let (round, device) = (count.checked_div(own)?, count.checked_rem(own)?);
            let device_number = u64::from(connection) + device * u64::from(self.connections);
            let number = round * u64::from(self.devices) + device_number;
            (number < offered).then(|| Slot {
                device: usize::try_from(device).unwrap_or(usize::MAX),
                at: after(number, self.rate, fraction(self.seed, device_number)),
            })
        })
    }
}

/// Instants at `rate` a second for `length`, each moved within its share of time as `seed` has it.
pub fn instants(rate: f64, length: Duration, seed: u64) -> impl Iterator<Item = Duration> + Send {
    (0..planned(rate, length)).map(move |number| after(number, rate, fraction(seed, number)))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and far below 2^53"
)]
pub(super) fn planned(rate: f64, length: Duration) -> u64 {
    (rate * length.as_secs_f64()).round() as u64
}

fn after(number: u64, rate: f64, fraction: f64) -> Duration {
    Duration::from_secs_f64((number as f64 + fraction) / rate)
}

/// Seconds that `length` touches, at least 1.
pub(super) fn seconds(length: Duration) -> usize {
    let seconds = length.as_secs() + u64::from(length.subsec_nanos() > 0);
    usize::try_from(seconds).unwrap_or(usize::MAX).max(1)
}

/// A number from 0 to below 1 that looks random (`SplitMix64`).
fn fraction(seed: u64, number: u64) -> f64 {
    let mut mixed = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule() -> Schedule {
        Schedule { devices: 50, connections: 7, rate: 10.0, length: Duration::from_secs(12), seed: 3 }
    }

    #[test]
    fn connections_share_all_polls() {
        let schedule = schedule();
        assert_eq!(schedule.offered(), 120);
        assert_eq!((0..7).map(|number| schedule.devices_of(number)).sum::<u32>(), 50);
        let slots: Vec<_> = (0..7).flat_map(|number| schedule.of_connection(number)).collect();
        assert_eq!(slots.len(), 120);
        let mut at: Vec<_> = slots.iter().map(|slot| slot.at).collect();
        at.sort_unstable();
        for (number, at) in at.iter().enumerate() {
            let earliest = Duration::from_millis(100 * number as u64);
            assert!((earliest..earliest + Duration::from_millis(100)).contains(at), "{number}: {at:?}");
        }
    }

    #[test]
    fn each_device_keeps_its_interval() {
        for connection in 0..7 {
            let slots: Vec<_> = schedule().of_connection(connection).collect();
            assert!(slots.is_sorted_by_key(|slot| slot.at));
            let own = schedule().devices_of(connection) as usize;
            for (one, next) in slots.iter().zip(slots.iter().skip(own)) {
                assert_eq!(one.device, next.device);
                let apart = next.at.abs_diff(one.at + Duration::from_secs(5));
                assert!(apart < Duration::from_micros(1), "{apart:?}");
            }
        }
    }

    #[test]
    fn more_connections_than_devices_leave_some_idle() {
        let schedule = Schedule { devices: 2, connections: 3, ..schedule() };
        assert_eq!(schedule.of_connection(2).count(), 0);
        assert_eq!(schedule.of_connection(0).count() + schedule.of_connection(1).count(), 120);
    }

    #[test]
    fn the_seed_decides() {
        let of = |seed| instants(4.0, Duration::from_secs(2), seed).collect::<Vec<_>>();
        assert_eq!(of(1).len(), 8);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        assert!(of(1).is_sorted());
        assert_eq!(instants(0.0, Duration::from_secs(2), 1).count(), 0);
    }
}
