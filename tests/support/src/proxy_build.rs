//! Owns how the programs of the kit come by the proxy's binary: Cargo builds it, in the profile of the program itself.

use std::io;
use std::path::PathBuf;
use std::process::Command;

use crate::server::workspace_root;

/// Name of the proxy's binary.
const PROXY: &str = "device-flow-proxy";

/// Builds the proxy with the Cargo that runs this program, if one does, and returns the binary beside our own.
pub fn proxy() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let binary = own.with_file_name(format!("{PROXY}{}", std::env::consts::EXE_SUFFIX));
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut command = Command::new(cargo);
        command.args(["build", "--bin", PROXY]).current_dir(workspace_root());
        let profile = own.parent().and_then(|directory| directory.file_name());
        if profile.is_some_and(|profile| profile == "release") {
            command.arg("--release");
        }
        let status = command.status()?;
        if !status.success() {
            return Err(io::Error::other(format!("the proxy does not build: {status}")));
        }
    }
    Ok(binary)
}
