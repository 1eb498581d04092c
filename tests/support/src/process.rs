//! Owns signals to child processes, and what the kernel tells of them. Promises to reach only the process named by the id
//! it is given; callers pass the id of a child they have started and not yet waited for, so the id cannot have been
//! reused.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A signal that the kit sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: please stop.
    Term,
    /// SIGSTOP: freeze; connections stay open and nothing answers.
    Stop,
    /// SIGCONT: go on after [`Signal::Stop`].
    Cont,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
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

/// Clock ticks in a second in `/proc/[pid]/stat`, the same on every Linux (`sysconf(_SC_CLK_TCK)`).
const TICKS_PER_SEC: u64 = 100;

/// Returns the CPU time that the process `pid` has taken so far, user's and system's, to 10 ms. Linux only.
pub fn cpu(pid: u32) -> io::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // A process' name may hold spaces and parentheses; the last parenthesis ends it. Fields 14 and 15 are wanted.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
    let ticks = fields.and_then(|fields| {
        fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().ok()).sum::<Option<u64>>()
    });
    let ticks =
        ticks.ok_or_else(|| io::Error::other("the kernel's account of a process is not understood"))?;
    Ok(Duration::from_millis(ticks * 1_000 / TICKS_PER_SEC))
}

/// Returns the CPU time that everything on this machine has taken so far, and what its host took from it. Linux only.
pub fn cpu_of_machine() -> io::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are within user.
    let times = line.and_then(|line| {
        line.split_whitespace().take(8).map(|field| field.parse::<u64>().ok()).collect::<Option<Vec<_>>>()
    });
    match times.as_deref() {
        Some([user, nice, system, _idle, _iowait, rest @ ..]) => {
            let ticks = user + nice + system + rest.iter().sum::<u64>();
            Ok(Duration::from_millis(ticks * 1_000 / TICKS_PER_SEC))
        }
        _ => Err(io::Error::other("the kernel's account of the machine is not understood")),
    }
}

/// Returns the resident memory of the process `pid`, in bytes. Linux only.
pub fn resident(pid: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1_024).ok_or_else(|| io::Error::other("the kernel tells no resident memory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_takes() {
        let own = std::process::id();
        assert!(cpu(own).unwrap() <= cpu_of_machine().unwrap());
        assert!(resident(own).unwrap() > 100_000);
        assert!(cpu(0).is_err());
    }
}
