//! Owns the requests a box sends, how it reads answers, including those it throws on, and what is counted of both.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Plugin, Settings};
use crate::calendar::Day;

/// `client_id` of the plugin.
pub const CLIENT_ID: &str = "d198fd52-61c0-4b77-8725-06a1ef90da9f";

/// The plugin threw an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crash;

/// The request that an answer leads to at once, if any.
pub(super) type Next = Result<Option<Request>, Crash>;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Asks for codes.
    DeviceCode,
    /// Polls for the owner's consent.
    Poll,
    /// Asks for a new access token.
    Refresh,
    /// Load curve of consumption.
    Consumption,
    /// Largest power of each day.
    MaxPower,
    /// Load curve of production.
    Production,
}

impl Kind {
    /// Tells whether it goes over the connection that polls use.
    pub const fn is_login(self) -> bool {
        matches!(self, Self::DeviceCode | Self::Poll | Self::Refresh)
    }

    /// What it is called in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeviceCode => "device code",
            Self::Poll => "poll",
            Self::Refresh => "refresh",
            Self::Consumption => "consumption",
            Self::MaxPower => "max power",
            Self::Production => "production",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::DeviceCode => "/device/code",
            Self::Poll | Self::Refresh => "/device/token",
            Self::Consumption => "/data/proxy/metering_data_clc/v5/consumption_load_curve",
            Self::MaxPower => "/data/proxy/metering_data_dcmp/v5/daily_consumption_max_power",
            Self::Production => "/data/proxy/metering_data_plc/v5/production_load_curve",
        }
    }
}

/// A request, complete but for its length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it is for.
    pub kind: Kind,
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    /// Header fields in the order they are sent.
    pub headers: Vec<(&'static str, String)>,
    /// A form; `None` with `GET`.
    pub body: Option<String>,
}

impl Request {
    fn new(settings: &Settings, kind: Kind) -> Self {
        let mut headers = vec![
            ("Accept", "application/json".to_owned()),
            ("Content-Type", "application/x-www-form-urlencoded".to_owned()),
            ("User-Agent", "DomoticzLinkyPlugin/2.6.0".to_owned()),
            ("Host", settings.host.clone()),
        ];
        headers.extend(settings.forwarded_for.clone().map(|address| ("X-Forwarded-For", address)));
        Self { kind, method: "POST", target: kind.path().to_owned(), headers, body: None }
    }

    pub(super) fn form(settings: &Settings, kind: Kind, fields: &[(&str, &str)]) -> Self {
        Self { body: Some(encoded(fields)), ..Self::new(settings, kind) }
    }

    pub(super) fn data(plugin: &Plugin, kind: Kind, point: &str, start: Day, end: Day) -> Self {
        let (start, end) = (start.to_string(), end.to_string());
        let query = encoded(&[("start", &start), ("end", &end), ("usage_point_id", point)]);
        let mut request = Self { method: "GET", ..Self::new(&plugin.settings, kind) };
        request.target = format!("{}?{query}", request.target);
        let authorization = format!("{} {}", plugin.saved.token_type, plugin.saved.access_token);
        request.headers.push(("Authorization", authorization));
        request
    }

    /// The header field `name`, given as it is sent.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }
}

fn encoded(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// An answer, as Domoticz hands it to the plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status code.
    pub status: u16,
    /// Header fields, names as they were sent.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// An answer with a JSON body.
    pub fn json(status: u16, body: &Value) -> Self {
        Self { status, headers: Vec::new(), body: body.to_string() }
    }

    /// The members of a JSON object; `None`: the body is no JSON, or a list or a text. Throws on a number and a truth value.
    pub(super) fn members(&self) -> Result<Option<Map<String, Value>>, Crash> {
        match serde_json::from_str(&self.body) {
            Ok(Value::Object(members)) => Ok(Some(members)),
            Ok(Value::Number(_) | Value::Bool(_)) => Err(Crash),
            Ok(Value::Null | Value::Array(_) | Value::String(_)) | Err(_) => Ok(None),
        }
    }

    /// The error code, in lower case: from the body, else from a `WWW-Authenticate` of that exact name which has a
    /// comma. Throws on an item of the header without `=`.
    pub(super) fn error(&self) -> Result<String, Crash> {
        let error = self.members()?.and_then(|members| members.get("error").map(text)).unwrap_or_default();
        let header = self.headers.iter().find(|(name, _)| name == "WWW-Authenticate").map(|(_, value)| value);
        let Some(header) = header.filter(|value| error.is_empty() && value.contains(',')) else {
            return Ok(error.to_lowercase());
        };
        let items = header.split(',').map(|item| item.split_once('=').ok_or(Crash));
        let items = items.collect::<Result<Vec<_>, _>>()?;
        // The last of several wins, as in a dictionary.
        let found = items.iter().rev().find(|(name, _)| *name == "error");
        Ok(found.map(|(_, value)| value.trim_matches('"').to_lowercase()).unwrap_or_default())
    }
}

/// What `str()` makes of it, near enough.
pub(super) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// What became of the work of a box since it was switched on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Cycles that ended with everything fetched.
    pub served: u64,
    /// Cycles that ended with a failure: the box comes back in an hour, or in the morning.
    pub gave_up: u64,
    /// Times the box erased its tokens and stopped for good.
    pub disabled: u64,
    /// Times the plugin threw on an answer and did nothing until the next morning.
    pub stuck: u64,
    /// Requests that got no answer in four heartbeats.
    pub timeouts: u64,
    /// Requests sent again.
    pub resends: u64,
    /// Requests sent, those sent again included.
    pub requests: BTreeMap<Kind, u64>,
    /// Answers read, by status.
    pub statuses: BTreeMap<u16, u64>,
}

impl Outcomes {
    pub(super) fn sent(&mut self, kind: Kind) {
        *self.requests.entry(kind).or_default() += 1;
    }

    pub(super) fn saw(&mut self, status: u16) {
        *self.statuses.entry(status).or_default() += 1;
    }
}
