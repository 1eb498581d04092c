//! The store and the key: whether they can be used, before a server tries.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use actors::base::store::StoreError;
use actors::metering::tokens::installation::Installation;

use super::check::Check;
use crate::commands::chain;
use crate::config::{StorageConfig, StoreConfig};
use crate::secret::{self, Key, SecretError};
use crate::store::{OpenError, Stores, sqlite};

const DATA_DIR: &str = "DATA_DIR";
const STORE: &str = "store";
const KEY: &str = "key";

/// Everything about what is kept.
pub async fn look(storage: &StorageConfig, keys: &Result<Option<Vec<Key>>, SecretError>) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut writable = true;
    if storage.uses_data_dir() {
        let check = directory(&storage.data_dir);
        writable = check.mend.is_none();
        checks.push(check);
    }
    let installation = match &storage.store {
        StoreConfig::Embedded if !writable => {
            checks.push(Check::skipped(STORE, "not looked at: DATA_DIR comes first"));
            return checks;
        }
        StoreConfig::Embedded => match sqlite::probe(&storage.data_dir) {
            Ok((files, _)) if files.is_empty() => {
                checks.push(Check::good(STORE, "SQLite: nothing is stored yet"));
                Ok(None)
            }
            Ok((files, installation)) => {
                checks.push(Check::good(STORE, format!("SQLite takes writes: {}", files.join(", "))));
                Ok(installation)
            }
            Err(error) => Err(unusable(&error)),
        },
        StoreConfig::Mongo { .. } => match mongo(storage).await {
            Ok(installation) => {
                checks.push(Check::good(STORE, "MongoDB takes writes, and has the layout of this version"));
                Ok(installation)
            }
            Err(check) => Err(check),
        },
    };
    match installation {
        Ok(installation) => checks.push(key(keys, installation.as_ref())),
        Err(check) => checks.push(check),
    }
    checks
}

/// Whether files can be made there: one is, and goes again.
fn directory(dir: &Path) -> Check {
    if let Err(error) = secret::check_owner(dir) {
        return Check::failed(
            DATA_DIR,
            error.to_string(),
            "run this as the server's user, or chown the directory",
        );
    }
    // A server makes it.
    let place = dir.ancestors().find(|place| place.as_os_str().is_empty() || place.exists()).unwrap_or(dir);
    let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
    let write = || {
        let mut file = tempfile::tempfile_in(place)?;
        file.write_all(&[0; 4096])?;
        file.sync_all()
    };
    match write() {
        Ok(()) if place == dir => Check::good(DATA_DIR, format!("{} can be written to", dir.display())),
        Ok(()) => Check::good(DATA_DIR, format!("{} is not there yet, and can be made", dir.display())),
        Err(error) => {
            let found = format!("{} cannot be written to: {error}", place.display());
            Check::failed(DATA_DIR, found, mend_directory(&error))
        }
    }
}

fn mend_directory(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::ReadOnlyFilesystem => {
            "mount it for writing (systemd: ReadWritePaths= or StateDirectory=; a container: a volume without :ro)"
        }
        ErrorKind::PermissionDenied => "chown it to the server's user, mode 0700, or run this as that user",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room on its disk",
        ErrorKind::NotADirectory => "name a directory in DATA_DIR",
        _ => "see what the system says; DATA_DIR has to be a directory on a disk with room",
    }
}

/// MongoDB: what it has of an installation, once it has taken a write.
async fn mongo(storage: &StorageConfig) -> Result<Option<Installation>, Check> {
    let opened = Stores::beside(&storage.store, &storage.data_dir).await;
    let stores = opened.map_err(|error| unusable(&error))?;
    let asked = async {
        stores.sessions.ping().await?;
        stores.tokens.installation().await
    };
    asked.await.map_err(|error: StoreError| {
        Check::failed(
            STORE,
            format!("MongoDB takes no writes: {error}"),
            "see that the set has a primary and its disks have room",
        )
    })
}

/// Each error of the store says what to do about it.
fn unusable(error: &OpenError) -> Check {
    let mend = match error {
        OpenError::InUse(_) | OpenError::Disagrees(_) => "stop the other, or give it settings of its own",
        OpenError::Directory { .. } | OpenError::Threads(_) => "make it writable, and make room on its disk",
        OpenError::Newer { .. } => "run the newer version, or restore the backup of before",
        OpenError::Damaged { .. } | OpenError::OtherInstallation(_) | OpenError::HalfRestored(_) => {
            "restore all files from one backup (docs/operations.md); `check-store` looks at every page"
        }
        OpenError::Address(_) => "correct MONGODB_URI",
        OpenError::Unreachable(_) => "start MongoDB, or correct host and port in MONGODB_URI",
        OpenError::Refused(_) => "correct user and password in MONGODB_URI, or give the user readWrite",
        OpenError::Layout(_) => "use MongoDB 6.0 or newer, and a database of its own",
    };
    Check::failed(STORE, chain(error), mend)
}

fn key(keys: &Result<Option<Vec<Key>>, SecretError>, installation: Option<&Installation>) -> Check {
    match (keys, installation) {
        (Err(error), _) => {
            Check::failed(KEY, error.to_string(), "see docs/operations.md, What does not start")
        }
        (Ok(Some(secrets)), Some(record)) if record.opens_with(secrets) => {
            Check::good(KEY, "opens what is stored")
        }
        (Ok(Some(_)), Some(_)) => Check::failed(
            KEY,
            "what is stored is sealed under another key",
            "give SECRET_KEY as it was, or add it to SECRET_KEYS_OLD; or name the server's own DATA_DIR",
        ),
        (Ok(Some(_)), None) => Check::good(KEY, "is there; nothing is sealed under it yet"),
        (Ok(None), Some(_)) => Check::failed(
            KEY,
            "there is no key, and something is stored",
            "restore DATA_DIR/secret.key from a backup, or give SECRET_KEY",
        ),
        (Ok(None), None) => Check::good(KEY, "none yet: the first start makes one in DATA_DIR"),
    }
}
