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
mod control;
mod data;
mod fault;
mod meters;
mod quota;
mod seen;
mod services;
mod shapes;
#[cfg(test)]
mod tests;
mod token;
mod values;
mod wire;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::book::Book;
pub use self::data::Resource;
pub use self::fault::{Fault, Response};
pub use self::meters::{GeneratedMeters, Meters, revokes, usage_points};
pub use self::quota::{Quota, Taken};
pub use self::seen::{Counts, Endpoint, Request, Seen};
use crate::calendar::Day;

const AUTHORIZE_PATH: &str = "/dataconnect/v1/oauth2/authorize";
const AUTHORIZE_V2_PATH: &str = "/dataconnect/v2/oauth2/authorize";
/// Path of the service that tells which meter an authorisation is for; also answered without the last slash.
const SERVICES_PATH: &str = "/subscribed_services/v1/";
/// Path that the buttons of both consent pages post to.
pub const CONSENT_PATH: &str = "/dataconnect/v1/oauth2/consent";
const TOKEN_PATH: &str = "/oauth2/v3/token";
/// Life of an access token, as told in `expires_in`. Those of the application itself do end then.
const TOKEN_LIFE: Duration = Duration::from_secs(12_600);
/// Longest `state` that Enedis takes, in characters.
const STATE_MAX: usize = 100;
/// An authorisation that exists, but of another application: asking for it is answered 403.
pub const FOREIGN_AUTHORISATION: i64 = 424_242_424_242;

/// How the simulator is set up. [`Options::default`] is Enedis in production with one holder of one meter.
#[derive(Clone, Debug)]
pub struct Options {
    /// The one registered application.
    pub client_id: String,
    /// Its secret; `None`: a public application that sends none.
    pub client_secret: Option<String>,
    /// The registered redirect URI, where the browser returns; see [`Simulator::set_callback`].
    pub callback: Option<String>,
    /// Which meters the person at the consent page holds.
    pub meters: Meters,
    /// Refuse a consent request without `code_challenge`. A challenge that was sent is always verified.
    pub require_pkce: bool,
    /// What each API takes.
    pub quota: Quota,
    /// What the token endpoint takes; `None`: anything, and nothing is counted.
    pub token_quota: Option<Quota>,
    /// Today, for Enedis; `None`: the real day.
    pub today: Option<Day>,
    /// Answers of the API of 2026 come with every oddity that a translation must cope with. About one point in eleven
    /// has no value: `"v": null` there, no point at all in API v5.
    pub quirks: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client_id: "simulated-client".into(),
            client_secret: Some("simulated-secret".into()),
            callback: None,
            meters: Meters::Client(0),
            require_pkce: false,
            quota: Quota::ENEDIS,
            token_quota: None,
            today: None,
            quirks: false,
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
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port for the simulator");
        let address = listener.local_addr().expect("the address of a bound listener");
        let book = Mutex::new(Book::new(options.callback.clone(), options.today));
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
        self.base_url() + AUTHORIZE_PATH
    }

    /// URL of the consent page of version 2, which returns an authorisation and no meter.
    pub fn authorize_v2_url(&self) -> String {
        self.base_url() + AUTHORIZE_V2_PATH
    }

    /// URL of the token endpoint.
    pub fn token_url(&self) -> String {
        self.base_url() + TOKEN_PATH
    }

    /// The options it was started with.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.shared.book()
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
