//! Owns signals to child processes, and what the kernel tells of them. Promises to reach only the process named by the id
//! it is given; callers pass the id of a child they have started and not yet waited for, so the id cannot have been
//! reused.

use std::io;
use std::time::Duration;

pub use rustix::process::Signal;
use rustix::process::{Pid, Resource, getrlimit, kill_process};

/// Sends `signal` to the process `pid`.
pub fn send(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    Ok(kill_process(pid.ok_or(io::ErrorKind::InvalidInput)?, signal)?)
}

/// Files and sockets this process may have open at a time, if there is a limit.
pub fn descriptors() -> Option<usize> {
    getrlimit(Resource::Nofile).current.and_then(|limit| limit.try_into().ok())
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
        assert!(cpu(0).is_err() && descriptors().is_none_or(|count| count > 10));
    }
}
