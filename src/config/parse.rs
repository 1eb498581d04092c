//! Typed values out of text, collecting every fault instead of stopping at the first.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;
use zeroize::Zeroizing;

use super::source::EnvSource;

/// Secrets that may stand in a file of their own, as orchestrators and systemd hand them over: the variable of the value,
/// and the one of the file.
const FILES: [(&str, &str); 6] = [
    ("ADMIN_PASSWORD", "ADMIN_PASSWORD_FILE"),
    ("CLIENT_SECRET", "CLIENT_SECRET_FILE"),
    ("SECRET_KEY", "SECRET_KEY_FILE"),
    ("SECRET_KEYS_OLD", "SECRET_KEYS_OLD_FILE"),
    ("MONGODB_URI", "MONGODB_URI_FILE"),
    ("IMPORT_MONGODB_URI", "IMPORT_MONGODB_URI_FILE"),
];
/// Longest such file, bytes.
const FILE_MAX: u64 = 64 << 10;

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
    /// Values that stand in files.
    files: BTreeMap<&'static str, Zeroizing<String>>,
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    pub fn new(source: &'a EnvSource) -> Self {
        let mut reader = Self { source, files: BTreeMap::new(), faults: Vec::new() };
        for (name, file) in FILES {
            let Some(path) = source.get(file) else { continue };
            let content = match source.get(name) {
                Some(_) => Err(format!("nothing, since {name} is set")),
                None => content(path),
            };
            match content {
                Ok(text) => drop(reader.files.insert(name, text)),
                Err(expected) => reader.fault(file, expected),
            }
        }
        reader
    }

    /// The faults found, if any.
    pub fn finish(self) -> Result<(), ConfigErrors> {
        if self.faults.is_empty() { Ok(()) } else { Err(ConfigErrors(self.faults)) }
    }

    /// Notes a fault, the first of a name: by the variable of the file where the value is to come from one.
    pub fn fault(&mut self, name: &'static str, expected: impl Into<String>) {
        let file = FILES.iter().find(|(value, _)| *value == name).map(|(_, file)| *file);
        let file = file.filter(|file| self.source.get(name).is_none() && self.source.get(file).is_some());
        let name = file.unwrap_or(name);
        if self.faults.iter().all(|fault| fault.name != name) {
            self.faults.push(Fault { name, expected: expected.into() });
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.files.get(name).map(|text| text.as_str()).or_else(|| self.source.get(name))
    }

    pub fn text(&self, name: &'static str) -> Option<String> {
        self.get(name).map(str::to_owned)
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
        match self.get(name) {
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

/// The value in a file; else what was expected of it, which says neither the path nor the content.
fn content(path: &str) -> Result<Zeroizing<String>, String> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("a file that can be read ({})", error.kind()))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(format!("a file of at most {} KiB", FILE_MAX >> 10));
    }
    let text = str::from_utf8(&bytes).unwrap_or_default().trim();
    if text.is_empty() {
        return Err("a file that holds the value, as text".to_owned());
    }
    Ok(text.to_owned().into())
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
pub(crate) fn is_this_machine(host: &str) -> bool {
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
