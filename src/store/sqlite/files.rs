//! The directory, the files in it, and the lock that says whose they are.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::store::OpenError;

/// Locked while a process uses the directory.
const LOCK_FILE: &str = "sessions.lock";

/// Holds the directory against other processes until the last clone of it is dropped. The kernel releases the lock
/// of a killed process.
#[derive(Clone, Debug)]
pub(super) struct Lock {
    _file: Arc<File>,
}

impl Lock {
    /// Takes the lock, or says that another process has it.
    pub(super) fn take(dir: &Path) -> Result<Self, OpenError> {
        let file = open_or_create(&dir.join(LOCK_FILE)).map_err(|error| unusable(dir, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: Arc::new(file) }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(dir.into())),
            Err(TryLockError::Error(error)) => Err(unusable(dir, error)),
        }
    }
}

/// Makes the directory (mode 0700) if it is missing.
pub(super) fn make_directory(dir: &Path) -> Result<(), OpenError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| unusable(dir, error))
}

/// Makes the file of a database (mode 0600) if it is missing; its write-ahead log takes its mode from it. A log
/// without its database is removed: it would be played into the new one.
pub(super) fn make_database(path: &Path) -> Result<(), OpenError> {
    let make = || {
        if !path.try_exists()? {
            remove_log(path)?;
        }
        open_or_create(path).map(drop)
    };
    make().map_err(|error| unusable(path, error))
}

/// Makes the entries of the directory as durable as what is written into the files they name.
pub(super) fn make_durable(dir: &Path) -> Result<(), OpenError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| unusable(dir, error))
}

/// Moves a database out of the way, in place of one that was moved before, so that a new one can begin.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = beside(path, ".damaged");
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

/// The write-ahead log of a database.
pub(super) fn log_of(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

fn remove_log(path: &Path) -> io::Result<()> {
    for suffix in ["-wal", "-shm"] {
        match std::fs::remove_file(beside(path, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn open_or_create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

pub(super) fn unusable(path: &Path, source: io::Error) -> OpenError {
    OpenError::Directory { path: path.into(), source: source.into() }
}
