//! Owns how durations are written for a person.

use std::time::Duration;

/// `4.2 s`, `3 min 05 s`, `1 h 02 min`.
pub(super) fn written(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3_600 => format!("{} min {:02} s", secs / 60, secs % 60),
        _ => format!("{} h {:02} min", secs / 3_600, secs / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let text = |secs| written(Duration::from_secs_f64(secs));
        assert_eq!([text(4.21), text(185.0), text(3_725.0)], ["4.2 s", "3 min 05 s", "1 h 02 min"]);
    }
}
