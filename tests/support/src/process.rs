//! Child processes, and what the kernel tells of them.
//!
//! A [`Process`] is killed when it is dropped; its output is kept in a file.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use rustix::process::Signal;
use rustix::process::{Pid, Resource, Rlimit, kill_process, prlimit};
use tempfile::NamedTempFile;

/// A child process.
#[derive(Debug)]
pub struct Process {
    child: Mutex<Child>,
    pid: u32,
    output: NamedTempFile,
}

impl Process {
    /// Runs `command`, with its output in a file of `directory`.
    pub fn spawn(command: &mut Command, directory: &Path) -> io::Result<Self> {
        let output = NamedTempFile::new_in(directory)?;
        // Both append, so that lines are in the order they were written in.
        let writer = File::options().append(true).open(output.path())?;
        let child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
        Ok(Self { pid: child.id(), child: Mutex::new(child), output })
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Every whole line it wrote so far, standard output and standard error.
    pub fn lines(&self) -> Vec<String> {
        let written = std::fs::read(self.output.path()).unwrap_or_default();
        let whole = written.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        String::from_utf8_lossy(&written[..whole]).lines().map(ToOwned::to_owned).collect()
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> io::Result<Option<ExitStatus>> {
        self.child().try_wait()
    }

    /// Sends it `signal`. An error if it has ended: its id may be another's by now.
    pub fn send(&self, signal: Signal) -> io::Result<()> {
        self.while_it_lives(|pid| Ok(kill_process(pid, signal)?))
    }

    /// No file of it may become longer than `bytes`; `None`: as long as it likes. An error if it has ended.
    pub fn limit_files(&self, bytes: Option<u64>) -> io::Result<()> {
        let limit = Rlimit { current: bytes, maximum: None };
        self.while_it_lives(|pid| Ok(prlimit(Some(pid), Resource::Fsize, limit).map(drop)?))
    }

    fn while_it_lives(&self, act: impl FnOnce(Pid) -> io::Result<()>) -> io::Result<()> {
        let mut child = self.child();
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!("the process has ended, {status}")));
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        act(pid.ok_or(io::ErrorKind::InvalidInput)?)
    }

    /// Kills it, as a power cut would end it, and waits for its end.
    pub fn kill(&self) -> io::Result<ExitStatus> {
        let mut child = self.child();
        child.kill()?;
        child.wait()
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.kill();
    }
}

/// Clock ticks in a second in `/proc/[pid]/stat`, the same on every Linux (`sysconf(_SC_CLK_TCK)`).
const TICKS_PER_SEC: u64 = 100;

/// Returns the CPU time that the process `pid` has taken so far, user's and system's, to 10 ms. Linux only.
pub fn cpu(pid: u32) -> io::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // A process' name may hold spaces and parentheses; the last parenthesis ends it. Fields 14 and 15 are wanted.
    let (_, fields) = stat.rsplit_once(')').unwrap_or_default();
    ticks(fields, &[11, 12])
}

/// Returns the CPU time that everything on this machine has taken so far, and what its host took from it. Linux only.
pub fn cpu_of_machine() -> io::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are within user.
    ticks(line, &[0, 1, 2, 5, 6, 7])
}

/// The sum of these fields of an account of the kernel.
fn ticks(account: &str, fields: &[usize]) -> io::Result<Duration> {
    let field = |index: &usize| account.split_whitespace().nth(*index)?.parse::<u64>().ok();
    let sum = fields.iter().map(field).sum::<Option<u64>>();
    let sum = sum.ok_or_else(|| io::Error::other("the kernel's account of CPU time is not understood"))?;
    Ok(Duration::from_millis(sum * 1_000 / TICKS_PER_SEC))
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
