//! A copy of all files while a server goes on, and whether a copy is whole when it is put to use.
//!
//! A backup is a directory that can be a `DATA_DIR`. It has a list of its files with their hashes, which is looked at before
//! anything in it is opened, and then removed.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::OpenFlags;
use serde::{Deserialize, Serialize};

use super::files::{self, unusable};
use super::schema::failed;
use crate::store::OpenError;

/// Every file, in the order in which they are copied. A consent stores its grant in the tokens before its session says so:
/// with the sessions first no copy promises a token that it does not have.
const FILES: [&str; 4] = ["sessions.sqlite", "tokens.sqlite", "audit.sqlite", "meters.sqlite"];
/// The key's file.
const KEY: &str = "secret.key";
/// The list.
const LIST: &str = "backup.json";

/// What a backup holds.
#[derive(Debug, Deserialize, Serialize)]
pub struct Backup {
    /// The version of the program that made it.
    version: String,
    /// By name.
    files: BTreeMap<String, Copied>,
}

/// One file of it.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Copied {
    bytes: u64,
    /// In hex.
    blake3: String,
}

impl Backup {
    /// Copies the files in `from`, and the key if it is kept there, to a new directory `to` (mode 0700, files 0600). It is
    /// there whole or not at all. Each file is copied as it was at one moment; what is written meanwhile waits for nothing.
    pub fn make(from: &Path, to: &Path) -> Result<Self, OpenError> {
        let here = |error| unusable(to, error);
        if fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(here(io::Error::new(ErrorKind::AlreadyExists, "there is something in it already")));
        }
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Made with mode 0700, and removed if anything fails.
        let draft = tempfile::Builder::new()
            .prefix(".backup")
            .permissions(private(0o700))
            .tempdir_in(parent)
            .map_err(here)?;
        let mut files = BTreeMap::new();
        for name in FILES {
            let (source, copy) = (from.join(name), draft.path().join(name));
            if source.try_exists().map_err(|error| unusable(&source, error))? {
                copy_database(&source, &copy)?;
                files.insert(name.to_owned(), Copied::of(&copy).map_err(|error| unusable(&copy, error))?);
            }
        }
        let (source, copy) = (from.join(KEY), draft.path().join(KEY));
        match fs::copy(&source, &copy) {
            Ok(_) => drop(files.insert(KEY.to_owned(), Copied::of(&copy).map_err(here)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(unusable(&source, error)),
        }
        let made = Self { version: env!("CARGO_PKG_VERSION").to_owned(), files };
        let finish = || {
            let list = draft.path().join(LIST);
            fs::write(&list, serde_json::to_vec_pretty(&made)?)?;
            fs::set_permissions(&list, private(0o600))?;
            for entry in fs::read_dir(draft.path())? {
                File::open(entry?.path())?.sync_all()?;
            }
            File::open(draft.path())?.sync_all()?;
            fs::rename(draft.path(), to)?;
            File::open(parent)?.sync_all()
        };
        finish().map_err(here)?;
        Ok(made)
    }

    /// Whether the key is in it.
    pub fn has_key(&self) -> bool {
        self.files.contains_key(KEY)
    }

    /// Files and bytes in it.
    pub fn size(&self) -> (usize, u64) {
        (self.files.len(), self.files.values().map(|copied| copied.bytes).sum())
    }

    /// Whether `dir` is a backup that was not put to use yet, and is whole.
    pub(super) fn look(dir: &Path) -> Result<bool, OpenError> {
        let list = dir.join(LIST);
        let text = match fs::read(&list) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            text => text.map_err(|error| unusable(&list, error))?,
        };
        let Self { files, .. } = serde_json::from_slice(&text).map_err(|_| OpenError::HalfRestored(list))?;
        for (name, copied) in files {
            let path = dir.join(&name);
            // What another database left would be played into this one.
            let log = files::log_of(&path);
            if log.exists() {
                return Err(OpenError::HalfRestored(log));
            }
            if Copied::of(&path).ok() != Some(copied) {
                return Err(OpenError::HalfRestored(path));
            }
        }
        Ok(true)
    }

    /// The same, and from now on `dir` is in use.
    pub(super) fn put_to_use(dir: &Path) -> Result<(), OpenError> {
        if Self::look(dir)? {
            let list = dir.join(LIST);
            match fs::remove_file(&list) {
                // Another process was first.
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(unusable(&list, error)),
                _ => tracing::info!(directory = %dir.display(), "a backup is put to use"),
            }
        }
        Ok(())
    }
}

impl Copied {
    fn of(path: &Path) -> io::Result<Self> {
        let mut hash = blake3::Hasher::new();
        let bytes = io::copy(&mut File::open(path)?, &mut hash)?;
        Ok(Self { bytes, blake3: hash.finalize().to_hex().to_string() })
    }
}

fn private(mode: u32) -> Permissions {
    Permissions::from_mode(mode)
}

/// Copies one database as it is at one moment, with what its log holds.
fn copy_database(from: &Path, to: &Path) -> Result<(), OpenError> {
    // Empty and with mode 0600, which SQLite keeps.
    files::make_database(to)?;
    let copy = || {
        let db = open(from)?;
        db.execute("VACUUM INTO ?1", [to.to_string_lossy()])
    };
    copy().map(drop).map_err(|error| failed(from, error))
}

/// Opens a file that is there, and leaves it as it is.
pub(super) fn open(path: &Path) -> rusqlite::Result<rusqlite::Connection> {
    let db = rusqlite::Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    db.busy_timeout(super::schema::BUSY)?;
    Ok(db)
}

/// The files of `dir` that are there.
pub(super) fn found(dir: &Path) -> impl Iterator<Item = (&'static str, PathBuf)> {
    FILES.into_iter().map(move |name| (name, dir.join(name))).filter(|(_, path)| path.exists())
}
