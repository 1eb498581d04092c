//! A version as `VERSION_MIN` and the plugin's `User-Agent` carry it, compared as PHP's `version_compare` does.

use std::cmp::Ordering;
use std::str::FromStr;

/// Longest accepted number in a version.
const PART_MAX: usize = 9;

/// A version such as 2.6.0 or 2.7.0-beta. Missing parts count as zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(Vec<Part>);

/// One part: words before a release come before numbers, and `p` after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    OtherWord,
    Dev,
    Alpha,
    Beta,
    Candidate,
    Number(u32),
    Patch,
}

/// A text that is no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NoVersion;

impl FromStr for Version {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let mut parts = Vec::new();
        for between in text.split(['.', '-', '_', '+']) {
            // Where digits and letters meet a new part begins: rc2 is rc.2.
            let runs = between.as_bytes().chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit());
            let before = parts.len();
            parts.extend(runs.map(Part::read).collect::<Option<Vec<_>>>().ok_or(NoVersion)?);
            if parts.len() == before {
                return Err(NoVersion);
            }
        }
        if !matches!(parts.first(), Some(Part::Number(_))) {
            return Err(NoVersion);
        }
        while parts.last() == Some(&Part::Number(0)) {
            parts.pop();
        }
        Ok(Self(parts))
    }
}

impl Part {
    fn read(run: &[u8]) -> Option<Self> {
        let text =
            std::str::from_utf8(run).ok().filter(|text| text.bytes().all(|b| b.is_ascii_alphanumeric()))?;
        let begins = |word: &str| text.starts_with(word);
        Some(match text {
            _ if run[0].is_ascii_digit() => {
                Self::Number(text.parse().ok().filter(|_| text.len() <= PART_MAX)?)
            }
            _ if begins("dev") => Self::Dev,
            _ if begins("a") => Self::Alpha,
            _ if begins("b") => Self::Beta,
            _ if begins("RC") || begins("rc") => Self::Candidate,
            _ if begins("p") => Self::Patch,
            _ => Self::OtherWord,
        })
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let part = |version: &Self, n: usize| version.0.get(n).copied().unwrap_or(Part::Number(0));
        let parts = 0..self.0.len().max(other.0.len());
        parts
            .map(|n| part(self, n).cmp(&part(other, n)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_in_php() {
        let read = |text: &str| text.parse::<Version>();
        assert_eq!((read("2.6"), read("2.6.0-0")), (read("2.6.0"), read("2.6")));
        let rising = "2.6.0-foo 2.6.0-dev 2.6.0a 2.6.0-alpha2 2.6.0-beta 2.6.0beta3 2.6.0-RC1 2.6.0rc2 2.6 2.6.0.1 2.6.0p1 \
                      2.7.0-beta 2.7.0 2.9 2.10.0-rc 2.10";
        let rising: Vec<Version> =
            rising.split(' ').filter(|s| !s.is_empty()).map(|text| read(text).unwrap()).collect();
        for (n, pair) in rising.windows(2).enumerate() {
            assert!(pair[0] < pair[1], "{n}: {pair:?}");
        }
        for bad in ["", "2..6", "new", "-1", "2.6 ", "2.\u{e9}", "99999999999", "2.6-", "v2.6"] {
            assert_eq!(read(bad), Err(NoVersion), "{bad}");
        }
    }
}
