//! The installation's secret: from `SECRET_KEY`, else kept in `DATA_DIR`, and in no memory dump.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rand::TryRng;
use rand::rngs::{SysError, SysRng};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
#[cfg(target_os = "linux")]
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::process::{Resource, Rlimit, geteuid, setrlimit};
use zeroize::Zeroizing;

/// The file's name in `DATA_DIR`.
const FILE: &str = "secret.key";
/// Rights of anybody but the owner, and the owner's to execute.
const NOT_0600: u32 = 0o7177;

/// The secret, overwritten in memory when dropped.
pub type Key = Zeroizing<[u8; 32]>;

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file or its directory cannot be read or made.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is a symbolic link: who may change it chooses the key.
    #[error("{0} is a symbolic link: put the key's file itself there")]
    Link(PathBuf),
    /// Others may have read the key.
    #[error("{path} has mode {mode:04o}: others may have read the key; chmod 600 it, or make a new one")]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Somebody else knows the key, and may change it.
    #[error(
        "{path} belongs to user {owner}, and the server runs as user {user}: chown it, or run as its owner"
    )]
    Foreign {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// The databases were made with a key that is gone: another would open nothing in them.
    #[error(
        "{0} is missing, and there are databases beside it: restore it from a backup; if it is lost, move them away"
    )]
    Missing(PathBuf),
    /// The file does not hold 64 hex digits.
    #[error("{0}: expected 64 hex digits; restore it from a backup, or delete it and lose pending sessions")]
    Malformed(PathBuf),
}

/// The configured key, else the one in `data_dir`, if there is one.
pub fn find(configured: Option<&Key>, data_dir: &Path) -> Result<Option<Key>, SecretError> {
    if let Some(key) = configured {
        return Ok(Some(key.clone()));
    }
    let path = data_dir.join(FILE);
    match rustix::fs::open(&path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => read(path, file.into()).map(Some),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP) => Err(SecretError::Link(path)),
        Err(error) => Err(SecretError::Io { path, source: error.into() }),
    }
}

/// The key in `file`, which nobody else may have read or written.
fn read(path: PathBuf, mut file: File) -> Result<Key, SecretError> {
    let mut text = Zeroizing::new(String::new());
    let read = file.metadata().and_then(|about| file.read_to_string(&mut text).map(|_| about));
    let about = match read {
        Ok(about) => about,
        Err(source) => return Err(SecretError::Io { path, source }),
    };
    let (mode, owner, user) = (about.mode() & 0o7777, about.uid(), geteuid().as_raw());
    if owner != user {
        return Err(SecretError::Foreign { path, owner, user });
    }
    if mode & NOT_0600 != 0 {
        return Err(SecretError::Open { path, mode });
    }
    parse(&text).ok_or(SecretError::Malformed(path))
}

/// The configured key, else the one in `data_dir`, else a fresh one, kept there with mode 0600.
pub fn load(
    configured: Option<&Key>,
    data_dir: &Path,
    fresh: impl FnOnce() -> [u8; 32],
) -> Result<Key, SecretError> {
    if let Some(key) = find(configured, data_dir)? {
        return Ok(key);
    }
    let io = |source| SecretError::Io { path: data_dir.to_owned(), source };
    let beside = match fs::read_dir(data_dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(io)?,
    };
    if beside.iter().any(|entry| entry.path().extension().is_some_and(|suffix| suffix == "sqlite")) {
        return Err(SecretError::Missing(data_dir.join(FILE)));
    }
    make(data_dir, fresh().into())
}

/// Refuses a directory that is neither ours nor root's: who owns it may exchange what is in it.
pub fn check_owner(directory: &Path) -> Result<(), SecretError> {
    let (path, user) = (directory.to_owned(), geteuid().as_raw());
    match fs::metadata(directory).map(|about| about.uid()) {
        Ok(owner) if owner != user && owner != 0 => Err(SecretError::Foreign { path, owner, user }),
        Err(source) if source.kind() != ErrorKind::NotFound => Err(SecretError::Io { path, source }),
        _ => Ok(()),
    }
}

/// Keeps `key` in `data_dir`, unless another process was first; then answers that one.
fn make(data_dir: &Path, key: Key) -> Result<Key, SecretError> {
    let path = data_dir.join(FILE);
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| SecretError::Io { path, source }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(io(data_dir))?;
    // Whole or not at all, and with mode 0600 from the start: a half-written key would seal what nobody can open.
    let mut draft = tempfile::Builder::new().prefix(FILE).tempfile_in(data_dir).map_err(io(data_dir))?;
    let digits = Zeroizing::new(hex::encode(*key));
    writeln!(draft, "{}", *digits).and_then(|()| draft.as_file().sync_all()).map_err(io(draft.path()))?;
    match draft.persist_noclobber(&path) {
        Ok(_) => {}
        // Another process was first; its key counts.
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {
            return find(None, data_dir)?.ok_or(SecretError::Malformed(path));
        }
        Err(error) => return Err(SecretError::Io { path, source: error.error }),
    }
    File::open(data_dir).and_then(|dir| dir.sync_all()).map_err(io(data_dir))?;
    Ok(key)
}

/// 256 random bits from the operating system.
pub fn random() -> Result<[u8; 32], SysError> {
    let mut bits = [0; 32];
    SysRng.try_fill_bytes(&mut bits)?;
    Ok(bits)
}

/// Sees to it that no crash writes this process' memory to a disk, and that no other process of the same user reads it.
pub fn keep_out_of_dumps() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // The limit does not count where the kernel pipes dumps to a program, as systemd-coredump.
    #[cfg(target_os = "linux")]
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Reads 64 hex digits; blanks around them do not matter.
pub(crate) fn parse(text: &str) -> Option<Key> {
    // The decoder would take `0x` in front as well.
    let digits = Some(text.trim()).filter(|digits| digits.len() == 64)?;
    let mut key = Key::default();
    hex::decode_to_slice(digits, &mut *key).ok()?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_is_not_dumped() {
        keep_out_of_dumps().unwrap();
        let limit = rustix::process::getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }

    #[test]
    fn made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("new/data");
        assert_eq!(find(None, &data).unwrap(), None);
        assert!(!data.exists(), "a look makes nothing");
        let key = |bits| Key::new([bits; 32]);
        assert_eq!(load(None, &data, || [7; 32]).unwrap(), key(7));
        assert_eq!(find(None, &data).unwrap(), Some(key(7)));
        assert_eq!(load(None, &data, || [8; 32]).unwrap(), key(7));
        assert_eq!(load(Some(&key(9)), &data, || [8; 32]).unwrap(), key(9));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&data), mode(&data.join(FILE))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
        assert_eq!(parse(&format!(" {} ", "ab".repeat(32))), Some(key(0xab)));
        assert_eq!(parse(&format!("0x{}", "ab".repeat(32))), None);
        fs::write(data.join(FILE), "half").unwrap();
        assert!(matches!(load(None, &data, || [8; 32]), Err(SecretError::Malformed(_))));
    }
}
