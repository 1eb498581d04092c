//! A meter's number, and lists of them as they are written in parameters and tokens.

use derive_more::{Debug, Display};

/// Meters of one grant at most. Enedis' sandbox has a customer with three.
pub const METERS_MAX: usize = 20;

/// The number of a meter (PRM, usage point): 14 digits. Personal data: `Display` shows all, for Enedis and for the box
/// that owns it, `Debug` the last four.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Display)]
#[debug("Meter(…{:04})", _0 % 10_000)]
#[display("{_0:014}")]
pub struct Meter(u64);

impl Meter {
    /// Exactly 14 ASCII digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 14 && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok().map(Self)).flatten()
    }

    /// The rest of its number divided by `n`, to give meters different days.
    pub const fn modulo(self, n: u64) -> u64 {
        self.0 % n
    }
}

/// Meters as the plugin writes them, `usage_points_id`: separated by commas.
pub fn meters_text(meters: &[Meter]) -> String {
    meters.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The parts of a list as Enedis and the plugin write it, separated by `,` or `;`, without blanks around them.
pub fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ';']).map(str::trim).filter(|part| !part.is_empty())
}

/// Reads meters separated by `,` or `;`, each once, in the order of their first mention; blanks around them do not
/// count. `None` unless there are between one and [`METERS_MAX`], all of 14 digits.
pub fn parse_meters(text: &str) -> Option<Vec<Meter>> {
    let mut meters = Vec::new();
    for part in listed(text) {
        let meter = Meter::parse(part)?;
        if !meters.contains(&meter) {
            meters.push(meter);
        }
    }
    (1..=METERS_MAX).contains(&meters.len()).then_some(meters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meters_are_read_as_both_versions_of_enedis_and_the_plugin_write_them() {
        let read = |text: &str| parse_meters(text).map(|meters| meters_text(&meters));
        assert_eq!(read("12345678901234").as_deref(), Some("12345678901234"));
        assert_eq!(
            read("12345678901234;10284856584123,12345678901234; ").as_deref(),
            Some("12345678901234,10284856584123")
        );
        for bad in ["", ",", "1234567890123", "12345678901234,x", "12345678901234 10284856584123"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let many: Vec<String> = (0..=METERS_MAX).map(|n| format!("{n:014}")).collect();
        assert_eq!(parse_meters(&many.join(",")), None);
        assert!(parse_meters(&many[1..].join(",")).is_some());
    }
}
