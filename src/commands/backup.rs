//! `backup`: a copy of everything in `DATA_DIR`, while the server runs.

use std::io::Write;
use std::path::PathBuf;

use super::{CommandError, at_work, keys_of};
use crate::config::{Config, StoreConfig};
use crate::store::sqlite::Backup;

const ABOUT: &str = "\
Copies everything in DATA_DIR to a new directory, while the server runs.

To restore it, stop the server and point DATA_DIR at the directory, or at a copy of it. It holds the key
if that is kept in DATA_DIR: whoever reads the directory can read all that is stored. A MongoDB is backed
up by its own tools; then nothing is done, and the exit status is 69.";

const EXAMPLES: &str = "\
Examples:
  device-flow-proxy backup /var/backups/device-flow-proxy/today";

/// Copy everything that is stored to a new directory, while the server runs
#[derive(Clone, clap::Args)]
#[command(long_about = ABOUT, after_help = EXAMPLES)]
pub struct Arguments {
    /// The directory to make; it must not be there yet, or be empty
    dir: PathBuf,
}

/// Makes the copy and writes to `out` what is in it.
pub fn run(arguments: &Arguments, config: &Config, out: &mut impl Write) -> Result<(), CommandError> {
    let storage = &config.storage;
    if storage.store != StoreConfig::Embedded {
        return Err(CommandError::NothingToCopy);
    }
    keys_of(config)?;
    let copying = at_work("copying");
    let backup = Backup::make(&storage.data_dir, &arguments.dir)?;
    drop(copying);
    let (files, bytes) = backup.size();
    writeln!(out, "{files} files, {bytes} bytes in {}", arguments.dir.display())?;
    if !backup.has_key() {
        writeln!(out, "SECRET_KEY is not in it: without it nobody opens what is")?;
    }
    Ok(())
}
