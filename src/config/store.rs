//! Where sessions, tokens and metering data are kept, and the key that seals them: the three ways to name a MongoDB,
//! and why one that others can reach needs a `SECRET_KEY`.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::secret::{self, Key, SecretError};

use super::parse::{Reader, is_this_machine};

/// Storage.
#[derive(Clone, PartialEq, Eq)]
pub struct StorageConfig {
    /// Where sessions are stored.
    pub store: StoreConfig,
    /// `IMPORT_MONGODB_URI`; if it is not given, the MongoDB that is configured, as the PHP server reads the same names.
    pub php: Option<String>,
    /// `DATA_DIR`.
    pub data_dir: PathBuf,
    /// `SECRET_KEY`; `None`: kept in `DATA_DIR`.
    pub secret_key: Option<Key>,
    /// `SECRET_KEYS_OLD`: keys of before, which still open what was sealed under them.
    pub old_keys: Vec<Key>,
    /// `WRITE_BATCH_MAX`.
    pub write_batch_max: usize,
}

impl StorageConfig {
    /// Today's key, as [`secret::find`] has it, then those of before; `None` if there is none today.
    pub fn find_keys(&self) -> Result<Option<Vec<Key>>, SecretError> {
        Ok(secret::find(self.secret_key.as_ref(), &self.data_dir)?.map(|today| self.with_old(today)))
    }

    /// Today's key, as [`secret::load`] has it, then those of before.
    pub fn load_keys(&self, fresh: impl FnOnce() -> [u8; 32]) -> Result<Vec<Key>, SecretError> {
        Ok(self.with_old(secret::load(self.secret_key.as_ref(), &self.data_dir, fresh)?))
    }

    fn with_old(&self, today: Key) -> Vec<Key> {
        [today].into_iter().chain(self.old_keys.iter().cloned()).collect()
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        let store = store(r);
        Self {
            php: php(r, &store),
            data_dir: r.text("DATA_DIR").unwrap_or_else(|| "./data".to_owned()).into(),
            secret_key: secret_key(r, &store),
            old_keys: r.value(
                "SECRET_KEYS_OLD",
                "keys of 64 hex digits, separated by commas",
                Vec::new(),
                |text| text.split(',').map(secret::parse).collect(),
            ),
            write_batch_max: r.number("WRITE_BATCH_MAX", 512, 1..=10_000),
            store,
        }
    }
}

impl StorageConfig {
    /// Whether anything is kept in `DATA_DIR`.
    pub fn uses_data_dir(&self) -> bool {
        self.store == StoreConfig::Embedded || self.secret_key.is_none()
    }
}

/// Which store holds the sessions.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreConfig {
    /// SQLite in `DATA_DIR`.
    Embedded,
    /// MongoDB.
    Mongo {
        /// Connection string; holds the password.
        uri: String,
        /// `MONGODB_POOL_SIZE`.
        pool_size: u32,
    },
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "Embedded",
            Self::Mongo { .. } => "Mongo(…)",
        })
    }
}

/// `MONGODB_URI`, else the original's `MONGODB_*`, else its later `DB_*` with `DB_TYPE=mongodb`.
fn store(r: &mut Reader<'_>) -> StoreConfig {
    let pool_size = r.number("MONGODB_POOL_SIZE", 16, 1..=1_000);
    let typed = r.choice("DB_TYPE", false, &[("mongodb", true)]);
    let uri = match r.text("MONGODB_URI") {
        Some(uri) if uri.starts_with("mongodb://") || uri.starts_with("mongodb+srv://") => Some(uri),
        Some(_) => {
            r.fault("MONGODB_URI", "a connection string, mongodb://… or mongodb+srv://…");
            None
        }
        None if r.text("MONGODB_ADDRESS").is_some() => Some(parts_uri(
            r,
            ["MONGODB_ADDRESS", "MONGODB_PORT", "MONGODB_USER", "MONGODB_PASSWORD", "MONGODB_DB"],
        )),
        None if typed => {
            if r.text("DB_ADDRESS").is_none() {
                r.fault("DB_ADDRESS", "a host name, since DB_TYPE is mongodb");
            }
            Some(parts_uri(r, ["DB_ADDRESS", "DB_PORT", "DB_USER", "DB_PASSWORD", "DB_NAME"]))
        }
        None => None,
    };
    uri.map_or(StoreConfig::Embedded, |uri| StoreConfig::Mongo { uri, pool_size })
}

/// Where the PHP server's tokens are. An address has to name the database, as there is no default that would be its.
fn php(r: &mut Reader<'_>, store: &StoreConfig) -> Option<String> {
    let configured = match store {
        StoreConfig::Mongo { uri, .. } => Some(uri.clone()),
        StoreConfig::Embedded => None,
    };
    r.value(
        "IMPORT_MONGODB_URI",
        "mongodb://[user:password@]host[:port]/database, or off",
        configured,
        |text| match text {
            "off" => Some(None),
            uri => {
                let rest = uri.strip_prefix("mongodb://").or_else(|| uri.strip_prefix("mongodb+srv://"))?;
                let (_, database) = rest.split_once('/')?;
                (!database.is_empty() && !database.starts_with('?')).then(|| Some(uri.to_owned()))
            }
        },
    )
}

fn parts_uri(r: &mut Reader<'_>, [address, port, user, password, db]: [&'static str; 5]) -> String {
    let port = r.number(port, 27017_u16, 1..=u16::MAX);
    let host = r.text(address).unwrap_or_default();
    if host.contains(['/', '@', '?', ' ']) || (host.contains(':') && !host.starts_with('[')) {
        r.fault(address, "a host name or address alone; the port has a setting of its own");
    }
    let encode = |text: String| utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string();
    let login = r.text(user).map(|user| match r.text(password) {
        Some(password) => format!("{}:{}@", encode(user), encode(password)),
        None => format!("{}@", encode(user)),
    });
    let db = r.text(db).map(encode).unwrap_or_default();
    format!("mongodb://{}{host}:{port}/{db}", login.unwrap_or_default())
}

/// `SECRET_KEY`. Without it one is made in `DATA_DIR`, which instances on other machines would not share.
fn secret_key(r: &mut Reader<'_>, store: &StoreConfig) -> Option<Key> {
    let parse = |text: &str| secret::parse(text).map(Some);
    let key = r.value("SECRET_KEY", "64 hex digits (openssl rand -hex 32)", None, parse);
    if let StoreConfig::Mongo { uri, .. } = store
        && key.is_none()
        && !is_loopback(uri)
    {
        r.fault("SECRET_KEY", "64 hex digits, since MongoDB is not on this machine (openssl rand -hex 32)");
    }
    key
}

/// Whether a connection string leads to another machine without TLS, which `mongodb+srv` brings by itself.
pub(super) fn is_open(uri: &str) -> bool {
    let options = uri.split_once('?').map_or("", |(_, options)| options).to_ascii_lowercase();
    let says = |name: &str| options.split('&').any(|option| option == format!("{name}=true"));
    !is_loopback(uri) && !uri.starts_with("mongodb+srv://") && !says("tls") && !says("ssl")
}

/// Whether every host of a connection string is this machine.
fn is_loopback(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("mongodb://") else { return false };
    let hosts = rest.split(['/', '?']).next().unwrap_or_default();
    let hosts = hosts.rsplit_once('@').map_or(hosts, |(_, hosts)| hosts);
    hosts.split(',').all(|host| {
        let end = if host.starts_with('[') { ']' } else { ':' };
        is_this_machine(host.split(end).next().unwrap_or_default())
    })
}
