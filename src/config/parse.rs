//! Typed values out of text, collecting every fault instead of stopping at the first.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use super::source::EnvSource;

/// One setting that cannot be used. Never holds the value, which may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The variable.
    pub name: &'static str,
    /// What was expected.
    pub expected: String,
}

/// Every fault of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Fault>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} fault(s)", self.0.len())?;
        for fault in &self.0 {
            write!(f, "\n  {}: expected {}", fault.name, fault.expected)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Reads settings and notes faults.
pub struct Reader<'a> {
    source: &'a EnvSource,
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    pub fn new(source: &'a EnvSource) -> Self {
        Self { source, faults: Vec::new() }
    }

    /// The faults found, if any.
    pub fn finish(self) -> Result<(), ConfigErrors> {
        if self.faults.is_empty() { Ok(()) } else { Err(ConfigErrors(self.faults)) }
    }

    /// Notes a fault.
    pub fn fault(&mut self, name: &'static str, expected: impl Into<String>) {
        self.faults.push(Fault { name, expected: expected.into() });
    }

    pub fn text(&self, name: &'static str) -> Option<String> {
        self.source.get(name).map(str::to_owned)
    }

    /// Also an empty value, which then means "none" and not "default".
    pub fn text_or(&self, name: &'static str, default: &str) -> String {
        self.source.raw(name).unwrap_or(default).to_owned()
    }

    /// A value read by `parse`, else `default`; a fault if `parse` refuses.
    pub fn value<T>(
        &mut self,
        name: &'static str,
        expected: impl Into<String>,
        default: T,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        match self.source.get(name) {
            None => default,
            Some(text) => parse(text).unwrap_or_else(|| {
                self.fault(name, expected);
                default
            }),
        }
    }

    pub fn number<T>(&mut self, name: &'static str, default: T, range: RangeInclusive<T>) -> T
    where
        T: std::str::FromStr + PartialOrd + fmt::Display,
    {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.value(name, expected, default, |text| text.parse().ok().filter(|n| range.contains(n)))
    }

    pub fn seconds(&mut self, name: &'static str, default: u64, range: RangeInclusive<u64>) -> Duration {
        let expected = format!("whole seconds from {} to {}", range.start(), range.end());
        let secs =
            self.value(name, expected, default, |text| text.parse().ok().filter(|n| range.contains(n)));
        Duration::from_secs(secs)
    }

    pub fn flag(&mut self, name: &'static str) -> bool {
        self.value(name, "true or false", false, |text| match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Some(true),
            "0" | "false" | "no" | "off" => Some(false),
            _ => None,
        })
    }

    pub fn choice<T: Copy>(&mut self, name: &'static str, default: T, choices: &[(&str, T)]) -> T {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let found = |text: &str| choices.iter().find(|(n, _)| n.eq_ignore_ascii_case(text)).map(|(_, c)| *c);
        self.value(name, format!("one of {}", names.join(", ")), default, found)
    }

    pub fn socket(&mut self, name: &'static str, default: SocketAddr) -> SocketAddr {
        self.value(name, "an address and port, such as 127.0.0.1:8080", default, |text| text.parse().ok())
    }

    /// An absolute http or https URL without user and fragment; where `bare`, without query either.
    pub fn url(&mut self, name: &'static str, default: &'static str, bare: bool) -> Url {
        let expected =
            if bare { "an absolute http:// or https:// URL without user, query and fragment" } else { URL };
        #[expect(clippy::expect_used, reason = "a constant, and every default is read by a test")]
        let default = url(default).expect("a default that is an address");
        self.value(name, expected, default, |text| url(text).filter(|url| !bare || url.query().is_none()))
    }

    /// The same without a default, character by character: servers compare it so.
    pub fn url_as_written(&mut self, name: &'static str) -> Option<String> {
        self.value(name, URL, None, |text| url(text).map(|_| Some(text.to_owned())))
    }

    /// A comma-separated list, blanks around items dropped.
    pub fn list(&self, name: &'static str) -> Vec<String> {
        items(self.source.get(name).unwrap_or_default()).collect()
    }

    /// `default` if not set; "none" is no network at all.
    pub fn networks(&mut self, name: &'static str, default: &str) -> Vec<IpNet> {
        let mut networks = Vec::new();
        let text = self.source.get(name).unwrap_or(default);
        for item in items(text).filter(|item| item != "none") {
            if item == "private_ranges" {
                networks.extend(PRIVATE_RANGES.iter().filter_map(|net| net.parse::<IpNet>().ok()));
                continue;
            }
            let net = item.parse().ok().or_else(|| item.parse::<IpAddr>().ok().map(IpNet::from));
            let Some(net) = net else {
                self.fault(name, "addresses or networks such as 10.0.0.0/8, separated by commas");
                break;
            };
            networks.push(net);
        }
        networks
    }
}

const URL: &str = "an absolute http:// or https:// URL without user and fragment";

fn url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none()
    })
}

fn items(text: &str) -> impl Iterator<Item = String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned)
}

/// Whether a host, without its port, is this machine; an IPv6 address may stand in brackets.
pub(super) fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// What `private_ranges` stands for: loopback, link-local and private networks.
const PRIVATE_RANGES: [&str; 8] = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
];
