//! A version of dotted numbers, as `VERSION_MIN` and the plugin's `User-Agent` carry it.

use std::str::FromStr;

/// Longest accepted part of a version.
const PART_MAX: usize = 9;

/// A version of dotted numbers, such as 2.6.0. Missing parts count as zero.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(Vec<u32>);

/// A text that is no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NoVersion;

impl FromStr for Version {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let part = |part: &str| part.parse().ok().filter(|_| part.len() <= PART_MAX);
        let mut parts: Vec<u32> = text.split('.').map(part).collect::<Option<_>>().ok_or(NoVersion)?;
        while parts.last() == Some(&0) {
            parts.pop();
        }
        Ok(Self(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_numbers_only() {
        let read = |text: &str| text.parse::<Version>();
        assert_eq!(read("2.6"), read("2.6.0"));
        assert!(read("2.10") > read("2.9"));
        for bad in ["", "2..6", "2.x", "-1", "2.6 ", "99999999999"] {
            assert_eq!(read(bad), Err(NoVersion), "{bad}");
        }
    }
}
