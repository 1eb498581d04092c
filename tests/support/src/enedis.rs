//! The simulator of Enedis: the consent page and the token service, over real sockets.
//!
//! It owns its codes, tokens, consents and the record of what it saw. It promises to behave as Enedis did when it
//! served authorization codes (API v1), as it does since 2026, and as RFC 6749 and RFC 7636 ask where Enedis'
//! behaviour is not known, and to commit exactly the faults it is told to: one per request, in order, then the
//! standing one, if any. It refuses what Enedis refuses: `redirect_uri` on the consent page, credentials in the query
//! string, a code or refresh token presented twice, data without a consent, calls beyond the quota.
//!
//! ```text
//! browser ── GET  /dataconnect/v1/oauth2/authorize ──► page with "Autoriser" and "Refuser"
//!         ── GET  /dataconnect/v2/oauth2/authorize ──► the same, one meter to choose
//!         ── POST /dataconnect/v1/oauth2/consent ────► 302 callback?code&state&usage_point_id | ?error&…&state
//!                                                      (v2)         ?autorisation_id&state
//! proxy   ── POST /oauth2/v3/token ──────────────────► authorization_code | refresh_token | client_credentials
//!         ── POST /subscribed_services/v1/ ──────────► the meter of an authorisation ┐
//!         ── GET  /metering_data_…/v5/… ─────────────► meter_reading                 ├ token, subscription, quota
//!         ── GET  /mesure_synchrone_auto/v2/… ───────► the same values in new clothes┘
//! ```

mod authorize;
mod book;
mod consents;
mod control;
mod counts;
mod data;
mod fault;
mod gateway;
mod mesure;
mod meters;
mod quota;
mod seen;
mod services;
#[cfg(test)]
mod tests;
mod token;
mod v5;
mod values;
mod wire;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use self::book::Book;
pub use self::consents::FOREIGN_AUTHORISATION;
pub use self::counts::{Api, Counts, Resource};
pub use self::fault::{Endpoint, Fault, next_access_time};
pub use self::mesure::Quirks;
pub use self::meters::{GeneratedMeters, Meters, revokes, usage_points};
pub use self::quota::{Quota, QuotaBody};
pub use self::seen::{ApiRequest, AuthorizeRequest, Outcome, Seen, TokenRequest};
pub use self::values::{Direction, SLOTS, daily, half_hour, max_power};
use crate::calendar::Day;

/// Path of the consent page.
pub const AUTHORIZE_PATH: &str = "/dataconnect/v1/oauth2/authorize";
/// Path of the consent page since 2026.
pub const AUTHORIZE_V2_PATH: &str = "/dataconnect/v2/oauth2/authorize";
/// Path of the service that tells which meter an authorisation is for; also answered without the last slash.
pub const SERVICES_PATH: &str = "/subscribed_services/v1/";
/// Path that the buttons of both consent pages post to.
pub const CONSENT_PATH: &str = "/dataconnect/v1/oauth2/consent";
/// Path of the token endpoint.
pub const TOKEN_PATH: &str = "/oauth2/v3/token";
/// Longest `state` that Enedis takes, in characters.
pub const STATE_MAX: usize = 100;

/// How the simulator is set up. [`Options::default`] is Enedis in production with one holder of one meter.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of a test")]
pub struct Options {
    /// The one registered application.
    pub client_id: String,
    /// Its secret; `None`: a public application that sends none.
    pub client_secret: Option<String>,
    /// The registered redirect URI, where the browser returns; see [`Simulator::set_callback`].
    pub callback: Option<String>,
    /// Which meters the person at the consent page holds.
    pub meters: Meters,
    /// Life of an access token, as told in `expires_in`. Those of the application itself do end then.
    pub token_lifetime: Duration,
    /// Life of an authorization code.
    pub code_lifetime: Duration,
    /// Refuse a consent request without `code_challenge`. A challenge that was sent is always verified.
    pub require_pkce: bool,
    /// Take `redirect_uri` on the consent page if it is the registered one. Enedis' firewall answers 404 to it.
    pub allow_redirect_uri: bool,
    /// Also put the usage points, joined by `,`, in the token answer under this name. Enedis sends them on the
    /// callback only.
    pub usage_point_field: Option<String>,
    /// `expires_in` of the application's tokens is a number, not a string.
    pub expires_in_number: bool,
    /// What each API takes.
    pub quota: Quota,
    /// What the token endpoint takes; `None`: anything, and nothing is counted.
    pub token_quota: Option<Quota>,
    /// APIs that the application has not subscribed to.
    pub unsubscribed: Vec<Api>,
    /// Data is given out only for meters whose holder consented here, or that were told to [`Simulator::grant`].
    pub consent_required: bool,
    /// Data requests need `Content-Type: application/json`, though they have no body; else 500, as since 2026.
    pub json_content_type: bool,
    /// For how many questions after a consent its services stay unlisted.
    pub services_empty_first: u32,
    /// A second consent for the same meter on the page of version 2 ends there, without a return to the callback.
    pub reshare_fails: bool,
    /// Today, for Enedis; `None`: the real day.
    pub today: Option<Day>,
    /// Oddities of answers of the API of 2026.
    pub quirks: Quirks,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client_id: "simulated-client".into(),
            client_secret: Some("simulated-secret".into()),
            callback: None,
            meters: Meters::Client(0),
            token_lifetime: Duration::from_secs(12_600),
            code_lifetime: Duration::from_secs(180),
            require_pkce: false,
            allow_redirect_uri: false,
            usage_point_field: None,
            expires_in_number: false,
            quota: Quota::ENEDIS,
            token_quota: None,
            unsubscribed: Vec::new(),
            consent_required: true,
            json_content_type: true,
            services_empty_first: 0,
            reshare_fails: false,
            today: None,
            quirks: Quirks::default(),
        }
    }
}

/// A running simulator; dropped, it closes its port and every connection.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

/// What the connections share.
#[derive(Debug)]
struct Shared {
    options: Options,
    book: Mutex<Book>,
}

impl Simulator {
    /// Starts a simulator on a free port of 127.0.0.1, as a task of the current Tokio runtime.
    ///
    /// # Panics
    /// If no loopback port can be bound.
    pub async fn start(options: Options) -> Self {
        let listener =
            tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port for the simulator");
        let address = listener.local_addr().expect("the address of a bound listener");
        let book = Mutex::new(Book::new(&options));
        let shared = Arc::new(Shared { options, book });
        let server = tokio::spawn(wire::serve(listener, Arc::clone(&shared)));
        Self { address, shared, server }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// URL of the consent page.
    pub fn authorize_url(&self) -> String {
        format!("{}{AUTHORIZE_PATH}", self.base_url())
    }

    /// URL of the token endpoint.
    pub fn token_url(&self) -> String {
        format!("{}{TOKEN_PATH}", self.base_url())
    }

    /// The options it was started with.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// Registers the redirect URI, once the port of the proxy is known.
    pub fn set_callback(&self, url: impl Into<String>) {
        self.shared.book().callback = Some(url.into());
    }

    /// Appends faults for `endpoint`; each request consumes one, and passes when none is left.
    pub fn script(&self, endpoint: Endpoint, faults: impl IntoIterator<Item = Fault>) {
        self.shared.book().scripts.entry(endpoint).or_default().extend(faults);
    }

    /// Scripted faults of `endpoint` that no request has consumed yet.
    pub fn faults_left(&self, endpoint: Endpoint) -> usize {
        self.shared.book().scripts.get(&endpoint).map_or(0, VecDeque::len)
    }

    /// Forgets the scripted faults of `endpoint` that no request has consumed yet.
    pub fn clear_script(&self, endpoint: Endpoint) {
        self.shared.book().scripts.remove(&endpoint);
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        self.shared.book().seen.clone()
    }

    /// Token requests being handled at this moment, hanging ones included.
    pub fn token_requests_in_flight(&self) -> usize {
        self.shared.book().in_flight
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
