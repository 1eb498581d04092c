//! Owns the quota of the gateway: so many calls a second and so many a clock hour, for the whole application, per
//! API. Windows are those of the clock, as Enedis' answers name the full hour (UTC) at which calls are taken again;
//! refused calls count for nothing.

use std::time::Duration;

/// How many calls an API takes; `None`: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Calls per second.
    pub per_second: Option<u32>,
    /// Calls per clock hour.
    pub per_hour: Option<u32>,
}

impl Quota {
    /// What Enedis states: 5 a second, 1000 a clock hour.
    pub const ENEDIS: Self = Self { per_second: Some(5), per_hour: Some(1_000) };
    /// No limit at all.
    pub const UNLIMITED: Self = Self { per_second: None, per_hour: None };
}

/// What one API has taken in its current windows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    second: Window,
    hour: Window,
}

/// The calls of one window, by its number since 1970.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    number: u64,
    used: u32,
}

impl Taken {
    /// Takes one call at `now` (since 1970, UTC). `Err`: refused; when the window that is full ends.
    pub fn take(&mut self, quota: Quota, now: Duration) -> Result<(), Duration> {
        let windows = [(&mut self.hour, 3_600, quota.per_hour), (&mut self.second, 1, quota.per_second)];
        for (window, secs, limit) in windows {
            let number = now.as_secs() / secs;
            if number != window.number {
                *window = Window { number, used: 0 };
            }
            if limit.is_some_and(|limit| window.used >= limit) {
                return Err(Duration::from_secs((number + 1) * secs));
            }
        }
        self.hour.used += 1;
        self.second.used += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_those_of_the_clock() {
        let at = Duration::from_secs_f64;
        let mut taken = Taken::default();
        assert!((0..5).all(|call| taken.take(Quota::ENEDIS, at(7.1 + 0.1 * f64::from(call))).is_ok()));
        assert_eq!(taken.take(Quota::ENEDIS, at(7.9)), Err(at(8.0)));
        assert_eq!(taken.take(Quota::ENEDIS, at(8.0)), Ok(()));
        let quota = Quota { per_hour: Some(3), ..Quota::UNLIMITED };
        assert!((0..3).all(|_| taken.take(quota, at(7_000.0)).is_ok()));
        assert_eq!(taken.take(quota, at(7_100.0)), Err(at(7_200.0)));
        assert_eq!(taken.take(quota, at(7_200.5)), Ok(()));
    }
}
