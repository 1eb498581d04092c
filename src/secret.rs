//! The installation's secret: from `SECRET_KEY`, else kept in `DATA_DIR`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rand::TryRng;
use rand::rngs::{SysError, SysRng};

/// The file's name in `DATA_DIR`.
const FILE: &str = "secret.key";

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
    /// The file does not hold 64 hex digits.
    #[error("{0}: expected 64 hex digits; restore it from a backup, or delete it and lose pending sessions")]
    Malformed(PathBuf),
}

/// The configured key, else the one in `data_dir`, if there is one.
pub fn find(configured: Option<[u8; 32]>, data_dir: &Path) -> Result<Option<[u8; 32]>, SecretError> {
    if configured.is_some() {
        return Ok(configured);
    }
    let path = data_dir.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => parse(&text).map(Some).ok_or(SecretError::Malformed(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SecretError::Io { path, source }),
    }
}

/// The configured key, else the one in `data_dir`, else a fresh one, kept there with mode 0600.
pub fn load(
    configured: Option<[u8; 32]>,
    data_dir: &Path,
    fresh: impl FnOnce() -> [u8; 32],
) -> Result<[u8; 32], SecretError> {
    if let Some(key) = find(configured, data_dir)? {
        return Ok(key);
    }
    make(data_dir, fresh())
}

/// Keeps `key` in `data_dir`, unless another process was first; then answers that one.
fn make(data_dir: &Path, key: [u8; 32]) -> Result<[u8; 32], SecretError> {
    let path = data_dir.join(FILE);
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| SecretError::Io { path, source }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(io(data_dir))?;
    // Whole or not at all: a half-written key would seal what nobody can open.
    let draft = data_dir.join(format!("{FILE}.{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .map_err(io(&draft))?;
    writeln!(file, "{}", hex::encode(key)).and_then(|()| file.sync_all()).map_err(io(&draft))?;
    // A link fails if another process was first; then its key counts.
    let linked = fs::hard_link(&draft, &path);
    fs::remove_file(&draft).map_err(io(&draft))?;
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let text = fs::read_to_string(&path).map_err(io(&path))?;
            return parse(&text).ok_or(SecretError::Malformed(path));
        }
        Err(source) => return Err(SecretError::Io { path, source }),
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

/// Reads 64 hex digits; blanks around them do not matter.
pub(crate) fn parse(text: &str) -> Option<[u8; 32]> {
    // The decoder would take `0x` in front as well.
    let digits = Some(text.trim()).filter(|digits| digits.len() == 64)?;
    let mut key = [0; 32];
    hex::decode_to_slice(digits, &mut key).ok()?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("new/data");
        assert_eq!(find(None, &data).unwrap(), None);
        assert!(!data.exists(), "a look makes nothing");
        assert_eq!(load(None, &data, || [7; 32]).unwrap(), [7; 32]);
        assert_eq!(find(None, &data).unwrap(), Some([7; 32]));
        assert_eq!(load(None, &data, || [8; 32]).unwrap(), [7; 32]);
        assert_eq!(load(Some([9; 32]), &data, || [8; 32]).unwrap(), [9; 32]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&data), mode(&data.join(FILE))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
        assert_eq!(parse(&format!(" {} ", "ab".repeat(32))), Some([0xab; 32]));
        assert_eq!(parse(&format!("0x{}", "ab".repeat(32))), None);
        fs::write(data.join(FILE), "half").unwrap();
        assert!(matches!(load(None, &data, || [8; 32]), Err(SecretError::Malformed(_))));
    }
}
