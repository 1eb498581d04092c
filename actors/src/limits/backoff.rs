//! Delay before another attempt: exponential, with full jitter in its upper half, so that callers that failed
//! together do not return together.

use std::time::Duration;

use rand::{Rng, RngExt};

/// Delay after the first failed attempt.
const FIRST: Duration = Duration::from_millis(250);
/// Longest delay of our own choosing; Enedis may ask for more.
const MAX: Duration = Duration::from_secs(8);

/// Delay after `failed` attempts, between half and the whole of the doubled delay.
pub fn delay(failed: u32, rng: &mut impl Rng) -> Duration {
    let whole = FIRST.saturating_mul(1 << failed.saturating_sub(1).min(10)).min(MAX);
    whole.mul_f64(rng.random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn grows_and_stays_bounded() {
        let mut rng = StdRng::seed_from_u64(2);
        for failed in 0..50 {
            let d = delay(failed, &mut rng);
            assert!(d >= FIRST / 2 && d <= MAX, "{failed}: {d:?}");
        }
        assert!(delay(6, &mut rng) >= MAX / 2);
    }
}
