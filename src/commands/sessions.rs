//! `sessions`: the links that are under way, and how one is ended.
//!
//! Promises: a listing goes through the store page by page while the server runs; no code, token or state is shown, since none
//! is stored. A session is named by its user code, or by the beginning of its id: a keyed hash, from which no code can be told
//! and by which nothing can be asked for; it stands in the log and in the audit record. What is ended here a running server
//! hears of within a second. Refuses an id that names more than one.

use std::borrow::Cow;
use std::io::{self, Write};

use actors::base::audit::{Act, Note, first_key};
use actors::base::clock::{SharedClock, Timestamp};
use actors::base::code::{BearerToken, UserCode};
use actors::base::keyring::Keyring;
use actors::base::network::Network;
use actors::base::sealed::Purpose;
use actors::base::store::Written;
use actors::base::token_set::TokenSet;
use actors::device_flow::session::{EndError, Phase, Session};
use actors::device_flow::store::{SessionKey, Write as Change};
use actors::metering::tokens::installation::Installation;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;

use super::listing::{Listing, Row, iso, printable};
use super::{CommandError, Format, audit, is_id, keys_of, record, seen_enough};
use crate::config::Config;
use crate::secret;
use crate::store::Stores;

/// Times that a session is read again because a server changed it meanwhile.
const TRIES: u32 = 5;
/// Digits of an id that are shown: as in the log.
const ID_SHOWN: usize = 8;

const ABOUT: &str = "\
Lists the links that are under way, shows one with what was done, or ends it.

Works on this server's store (MongoDB if configured, else DATA_DIR), while the server runs, which hears of an end
within a second. A session is named by its user code (BCDF-GHJK), or by its id, which the log and the audit record
have too and which nobody can use.";

const EXAMPLES: &str = "\
Examples:
  device-flow-proxy sessions list
  device-flow-proxy sessions show BCDF-GHJK
  device-flow-proxy sessions revoke 3f9c01ab";

/// List the links that are under way, show one, or end it
#[derive(Clone, clap::Args)]
#[command(long_about = ABOUT, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, clap::Subcommand)]
enum Action {
    /// List all that are stored: those under way, and those that ended a moment ago
    List(Format),
    /// Show one, and what the audit record has of it
    Show {
        /// Its user code, or its id as `sessions list` shows it
        session: String,
        #[command(flatten)]
        format: Format,
    },
    /// End one: its box hears that it was refused, a token that waits for it is dropped
    Revoke {
        /// Its user code, or its id as `sessions list` shows it
        session: String,
    },
}

/// Lists, shows or ends, and writes to `out`.
pub async fn run(
    arguments: &Arguments,
    config: &Config,
    clock: SharedClock,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let named = match &arguments.action {
        Action::List(_) => None,
        Action::Show { session, .. } | Action::Revoke { session } => Some(Name::parse(session)?),
    };
    let secrets = keys_of(config)?;
    let stores = Stores::beside(&config.storage.store, &config.storage.data_dir).await?;
    let mut rng = StdRng::from_seed(secret::random()?);
    let keys = Installation::open(stores.tokens.as_ref(), &secrets, clock.wall(), &mut rng).await?;
    let sessions = Sessions { stores, keys, clock };
    seen_enough(match (&arguments.action, named) {
        (Action::Show { format, .. }, Some(name)) => sessions.show(&name, *format, out).await,
        (Action::Revoke { .. }, Some(name)) => sessions.revoke(&name, config, out).await,
        (Action::List(format), _) => sessions.list(*format, out).await,
        // Both of them have a name.
        (Action::Show { .. } | Action::Revoke { .. }, None) => Err(CommandError::NoSession),
    })
}

/// How a session was named.
struct Name {
    id: Option<String>,
    code: Option<UserCode>,
}

impl Name {
    /// Letters that are both may be either.
    fn parse(text: &str) -> Result<Self, CommandError> {
        let id = Some(text.trim().to_ascii_lowercase()).filter(|id| is_id(id));
        let code = UserCode::parse(text);
        if id.is_none() && code.is_none() {
            return Err(CommandError::Usage(
                "a session is named by its user code, or by 8 to 32 hex digits of its id",
            ));
        }
        Ok(Self { id, code })
    }
}

/// What the commands work with.
struct Sessions {
    stores: Stores,
    keys: Keyring,
    clock: SharedClock,
}

/// A session as it is shown.
#[derive(Serialize)]
struct Object {
    id: String,
    state: &'static str,
    asked_at: String,
    expires_at: String,
    confirmed_at: Option<String>,
    network: Option<String>,
    client_id: String,
    agent: Option<String>,
    scope: Option<String>,
    revision: u32,
}

impl Row for Object {
    const COLUMNS: &'static [(&'static str, usize)] = &[
        ("ID", 8),
        ("STATE", 10),
        ("ASKED", 20),
        ("EXPIRES", 20),
        ("NETWORK", 20),
        ("CLIENT", 36),
        ("AGENT", 0),
    ];

    fn cells(&self) -> Vec<Cow<'_, str>> {
        let [id, asked, expires] =
            [&self.id, &self.asked_at, &self.expires_at].map(|text| Cow::Borrowed(text.as_str()));
        let agent = self.agent.as_deref().map_or_else(|| "-".to_owned(), printable);
        let network = self.network.as_deref().unwrap_or("-");
        vec![
            id,
            self.state.into(),
            asked,
            expires,
            network.into(),
            printable(&self.client_id).into(),
            agent.into(),
        ]
    }
}

impl Object {
    fn of(session: &Session, now: Timestamp) -> Self {
        let request = &session.request;
        Self {
            id: id_of(session)[..ID_SHOWN].to_owned(),
            state: session.state(now),
            asked_at: iso(session.requested_at),
            expires_at: iso(session.expires_at),
            confirmed_at: session.consent.as_deref().map(|consent| iso(consent.confirmed_at)),
            network: request.network.map(Network::shown),
            client_id: request.client_id.to_string(),
            agent: request.agent.as_deref().map(str::to_owned),
            scope: request.scope.as_deref().map(str::to_owned),
            revision: session.rev,
        }
    }

    /// Each field on a line.
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let shown = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), printable);
        for (name, value) in [
            ("id", self.id.clone()),
            ("state", self.state.to_owned()),
            ("asked at", self.asked_at.clone()),
            ("confirmed at", shown(&self.confirmed_at)),
            ("expires at", self.expires_at.clone()),
            ("network", shown(&self.network)),
            ("client", printable(&self.client_id)),
            ("agent", shown(&self.agent)),
            ("scope", shown(&self.scope)),
            ("revision", self.revision.to_string()),
        ] {
            writeln!(out, "{name:12}  {value}")?;
        }
        Ok(())
    }
}

fn id_of(session: &Session) -> String {
    hex::encode(session.device.as_bytes())
}

impl Sessions {
    async fn list(&self, format: Format, out: &mut impl Write) -> Result<(), CommandError> {
        let mut listing = Listing::begin::<Object>(format.json, out)?;
        let (mut after, now, mut count) = (None, self.clock.wall(), 0_u64);
        loop {
            let page = self.stores.sessions.page(after, now).await?;
            for session in &page.sessions {
                listing.row(&Object::of(session, now))?;
                count += 1;
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        Ok(listing.remark(&format!("{count} {}", if count == 1 { "session" } else { "sessions" }))?)
    }

    /// The one session that is named so.
    async fn named(&self, name: &Name) -> Result<Session, CommandError> {
        let now = self.clock.wall();
        if let Some(id) = &name.id
            && let Some(session) = self.by_id(id, now).await?
        {
            return Ok(session);
        }
        let code = name.code.as_ref().map(|code| SessionKey::User(self.keys.user(code)));
        let found = match code {
            Some(key) => self.stores.sessions.find(key, now).await?,
            None => None,
        };
        found.ok_or(CommandError::NoSession)
    }

    async fn by_id(&self, id: &str, now: Timestamp) -> Result<Option<Session>, CommandError> {
        let (mut after, mut found) = (None, None::<Session>);
        loop {
            let page = self.stores.sessions.page(after, now).await?;
            for session in page.sessions.into_iter().filter(|session| id_of(session).starts_with(id)) {
                let device = session.device;
                if found.replace(session).is_some_and(|other| other.device != device) {
                    return Err(CommandError::AmbiguousSession);
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(found),
            }
        }
    }

    async fn show(&self, name: &Name, format: Format, out: &mut impl Write) -> Result<(), CommandError> {
        let session = self.named(name).await?;
        let shown = Object::of(&session, self.clock.wall());
        let (mut after, mut acts) = (first_key(session.requested_at), Vec::new());
        loop {
            let page = self.stores.audit.read(after).await?;
            let Some(last) = page.last() else { break };
            after = last.key.as_slice().to_vec();
            let own = page.into_iter().map(audit::Object::from);
            acts.extend(own.filter(|act| act.id.as_deref() == Some(shown.id.as_str())));
        }
        if format.json {
            #[derive(Serialize)]
            struct Shown {
                #[serde(flatten)]
                session: Object,
                acts: Vec<audit::Object>,
            }
            serde_json::to_writer(&mut *out, &Shown { session: shown, acts }).map_err(io::Error::from)?;
            return Ok(writeln!(out)?);
        }
        shown.write(out)?;
        if !acts.is_empty() {
            writeln!(out)?;
            let mut listing = Listing::begin::<audit::Object>(false, out)?;
            acts.iter().try_for_each(|act| listing.row(act))?;
        }
        Ok(())
    }

    async fn revoke(&self, name: &Name, config: &Config, out: &mut impl Write) -> Result<(), CommandError> {
        let ended = self.end(name, config).await?;
        if let Phase::Approved { token, .. } = &ended.phase {
            self.drop_tokens(&ended, token).await?;
        }
        let note =
            Note::of(Act::RevokedByOperator).about(ended.device).client(Some(&ended.request.client_id));
        record(&self.stores.audit, &self.clock, vec![note]).await?;
        Ok(writeln!(out, "ended {}: its box hears access_denied", &id_of(&ended)[..ID_SHOWN])?)
    }

    /// Ends it, durable, and answers what it was.
    async fn end(&self, name: &Name, config: &Config) -> Result<Session, CommandError> {
        for _ in 0..TRIES {
            let session = self.named(name).await?;
            let to = session.end(self.clock.wall(), &config.devices.life).map_err(|error| match error {
                EndError::Ended => CommandError::SessionEnded,
                EndError::Delivered => CommandError::SessionDelivered,
                EndError::InUse => CommandError::SessionInUse,
            })?;
            for outcome in self.stores.sessions.commit(vec![Change::Update { to }]).await {
                if outcome? == Written::Applied {
                    return Ok(session);
                }
            }
        }
        Err(CommandError::SessionInUse)
    }

    /// Tokens of our own that nobody will receive.
    async fn drop_tokens(
        &self,
        session: &Session,
        token: &actors::base::sealed::Sealed,
    ) -> Result<(), CommandError> {
        let opened = self.keys.open(Purpose::Token, &session.device, token).map(zeroize::Zeroizing::new);
        let set = opened.and_then(|bytes| TokenSet::from_bytes(&bytes));
        if let Some(refresh) = set.as_ref().and_then(TokenSet::refresh_token).and_then(BearerToken::parse) {
            self.stores.tokens.revoke(self.keys.refresh(&refresh)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_by_code_or_id() {
        let named = |text| Name::parse(text).map(|name| (name.id.is_some(), name.code.is_some())).ok();
        assert_eq!(named("bcdf-ghjk"), Some((false, true)));
        assert_eq!(named("3F9C01AB"), Some((true, false)));
        assert_eq!(named("bcdfbcdf"), Some((true, true)), "both, the id first");
        assert_eq!(named("3f9c01a"), None);
        assert_eq!(named("somebody"), None);
    }
}
