//! Where settings come from: the process environment, then an `.env` file, or a table in tests.

use std::collections::BTreeMap;
use std::path::Path;

use zeroize::Zeroizing;

/// Named values, looked up once at start. A present but empty value counts as not set, except where a setting
/// says otherwise.
#[derive(Clone, Default)]
pub struct EnvSource(BTreeMap<String, Zeroizing<String>>);

/// An `.env` file that cannot be used. Says the line's number at most, never its content.
#[derive(Debug, thiserror::Error)]
#[error(".env: {0}")]
pub struct DotenvError(String);

impl EnvSource {
    /// The environment of this process; what is not set there is read from `dotenv`, if that file exists.
    pub fn load(dotenv: &Path) -> Result<Self, DotenvError> {
        let mut source = Self::default();
        if dotenv.exists() {
            let unreadable = |_: std::io::Error| DotenvError("cannot be read".to_owned());
            source = Self::parse(&Zeroizing::new(std::fs::read_to_string(dotenv).map_err(unreadable)?))?;
        }
        // Names and values that are not Unicode cannot be settings of ours.
        source.0.extend(
            std::env::vars_os()
                .filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?.into()))),
        );
        Ok(source)
    }

    /// What an `.env` file says.
    pub(crate) fn parse(dotenv: &str) -> Result<Self, DotenvError> {
        check_dollars(dotenv)?;
        let lines = dotenvy::from_read_iter(dotenv.as_bytes()).map(|line| {
            line.map(|(name, value)| (name, value.into())).map_err(|error| {
                // The parser quotes the line it stumbles on, which may hold a secret.
                let kind = if matches!(error, dotenvy::Error::LineParse(..)) { "a line" } else { "its text" };
                DotenvError(format!("{kind} is not NAME=value; quote values that hold spaces"))
            })
        });
        lines.collect::<Result<_, _>>().map(Self)
    }

    /// The value of `name`, also if it is empty.
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim())
    }

    /// The value of `name`, unless it is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.raw(name).filter(|value| !value.is_empty())
    }
}

/// A `$` begins a variable, as in the original's `.env`; one that is not set would vanish without a word, and with it a
/// piece of a password.
fn check_dollars(text: &str) -> Result<(), DotenvError> {
    let mut known: Vec<&str> = Vec::new();
    for line in text.lines() {
        let Some((name, value)) = line.trim_start().trim_start_matches("export ").split_once('=') else {
            continue;
        };
        let name = name.trim();
        let value = value.trim_start();
        if name.starts_with('#') {
            continue;
        }
        let literal = value.starts_with('\'');
        // What follows a blank and a hash is a comment.
        let value = if value.starts_with('"') { value } else { value.split(" #").next().unwrap_or_default() };
        for (at, _) in value.match_indices('$').filter(|_| !literal) {
            let (before, after) = (&value[..at], &value[at + 1..]);
            let variable = after.trim_start_matches('{');
            let end =
                variable.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(variable.len());
            let variable = &variable[..end];
            let set = known.contains(&variable) || std::env::var_os(variable).is_some();
            if !before.ends_with('\\') && !variable.is_empty() && !set {
                return Err(DotenvError(format!(
                    "in {name}, $ begins the name of a variable that is not set; put the value in single quotes"
                )));
            }
        }
        known.push(name);
    }
    Ok(())
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for EnvSource {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(pairs: T) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.into(), Zeroizing::new(v.into()))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dollar_does_not_vanish_silently() {
        let good = [
            "A=1",
            "A='p$ss'",
            "A=p\\$ss",
            "A=1\nB=${A}/x",
            "A=5$",
            "# A=$nothing",
            "A=1 # $nothing",
            "nonsense $x",
        ];
        for text in good {
            assert!(check_dollars(text).is_ok(), "{text}");
        }
        for text in ["A=p$ssw0rd_q", "A=\"p${ssw0rd_q}\"", "export A=$ssw0rd_q"] {
            let told = check_dollars(text).expect_err(text).to_string();
            assert!(told.contains("in A,") && !told.contains("ssw0rd"), "{told}");
        }
    }
}
