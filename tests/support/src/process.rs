//! Owns signals to child processes. Promises to reach only the process named by the id it is given; callers pass
//! the id of a child they have started and not yet waited for, so the id cannot have been reused.

use std::io;
use std::process::{Command, Stdio};

/// A signal that the kit sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: please stop.
    Term,
    /// SIGINT: what Ctrl-C sends.
    Int,
    /// SIGKILL: stop at once, with no chance to tidy up.
    Kill,
    /// SIGSTOP: freeze; connections stay open and nothing answers.
    Stop,
    /// SIGCONT: go on after [`Signal::Stop`].
    Cont,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Cont => "CONT",
        }
    }
}

/// Sends `signal` to the process `pid` by the shell's own `kill`, which every POSIX system has.
pub fn send(pid: u32, signal: Signal) -> io::Result<()> {
    let status = Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$1\"", signal.name(), &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("no process {pid} to send SIG{} to", signal.name())))
    }
}
