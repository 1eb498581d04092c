//! Owns how a box is set up, and what it keeps over a restart.

use super::Moment;

/// `client_id` of the plugin.
pub const CLIENT_ID: &str = "d198fd52-61c0-4b77-8725-06a1ef90da9f";

/// How a box is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `client_id` it sends.
    pub client_id: String,
    /// `User-Agent` it sends.
    pub user_agent: String,
    /// Value of `Host`.
    pub host: String,
    /// Path in front of every request, empty or with a slash at its beginning only.
    pub prefix: String,
    /// Days of history wanted, 2 to 730; the default is 7.
    pub history_days: i64,
    /// Days of largest powers wanted: 1, 7, 14, 32, 63 or 366.
    pub peak_days: i64,
    /// Decides the minutes drawn at random.
    pub seed: u64,
    /// Address that a reverse proxy in front of the server adds as `X-Forwarded-For`; boxes themselves send none.
    pub forwarded_for: Option<String>,
}

impl Settings {
    /// The plugin as it is installed, towards `host` (with its port unless that is 80 or 443).
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            client_id: CLIENT_ID.into(),
            user_agent: "DomoticzLinkyPlugin/2.6.0".into(),
            host: host.into(),
            prefix: String::new(),
            history_days: 7,
            peak_days: 1,
            seed: 0,
            forwarded_for: None,
        }
    }
}

/// What survives a restart of the box.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Meters, in the order of the token answer.
    pub usage_points: Vec<String>,
    /// `token_type`.
    pub token_type: String,
    /// `access_token`.
    pub access_token: String,
    /// `refresh_token`.
    pub refresh_token: String,
    /// Ten minutes before the access token ends; `None`: no tokens.
    pub expires_at: Option<Moment>,
}
