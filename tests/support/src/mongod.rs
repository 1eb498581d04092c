//! A MongoDB server of one's own: found, started on a free loopback port with a directory of its own, and killed
//! when dropped.
//!
//! It owns the process and its files. It promises a server that answers commands (and, as a replica set, one that
//! takes writes) before it is handed out. It refuses to pass silently over a missing server: [`Mongod::start`]
//! panics, as a test that did not run must not look like one that passed.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bson::{Document, doc};
use tempfile::TempDir;

use crate::net;
use crate::process::{self, Signal};

/// Time a server may take to start, and a replica set to elect its one member.
const START_WITHIN: Duration = Duration::from_secs(60);
/// Time between two looks at a server that is starting.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Starts tried, as another process may take the port between its choice and its use.
const ATTEMPTS: usize = 3;
/// Time a command may take that writes nothing.
const COMMAND_WITHIN: Duration = Duration::from_secs(2);
/// The operation of MongoDB's wire protocol that carries commands, and the length of what is before its document.
const OP_MSG: i32 = 2013;
const HEAD: usize = 21;
/// Name of the replica set.
const REPLICA_SET: &str = "rs0";

/// A running server.
#[derive(Debug)]
pub struct Mongod {
    child: Mutex<Child>,
    port: u16,
    kind: Kind,
    /// Removed after the process is gone: fields are dropped after [`Drop::drop`].
    files: TempDir,
}

/// How a server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Alone: no transactions, no change streams.
    Standalone,
    /// A replica set of one member: change streams work.
    ReplicaSet,
}

impl Mongod {
    /// Starts a server. Blocks the thread for about a second.
    ///
    /// # Panics
    /// If there is no `mongod`, or it does not come up; the message says what to do.
    pub fn start(kind: Kind) -> Self {
        let binary = find().unwrap_or_else(|| {
            panic!("no mongod: run tests/run, which fetches one, or set MONGOD to the path of one, or put one in PATH")
        });
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match Self::try_start(&binary, kind) {
                Ok(mongod) => return mongod,
                Err(error) => last = Some(error),
            }
        }
        panic!(
            "{} does not start: {}",
            binary.display(),
            last.map_or_else(String::new, |error| error.to_string())
        )
    }

    /// The standalone server that the tests of this process share; started by the first that asks, stopped when
    /// the last drops it. Use a database name of your own.
    ///
    /// # Panics
    /// As [`Mongod::start`].
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Mongod>> = Mutex::new(Weak::new());
        shared(&SHARED, Kind::Standalone)
    }

    /// The same as a replica set.
    ///
    /// # Panics
    /// As [`Mongod::start`].
    pub fn shared_replica_set() -> Arc<Self> {
        static SHARED: Mutex<Weak<Mongod>> = Mutex::new(Weak::new());
        shared(&SHARED, Kind::ReplicaSet)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        net::loopback(self.port)
    }

    /// Connection string of database `database`. A replica set is named in it, so drivers discover its member at
    /// its own address; through a [`crate::cutter::Cutter`] use [`Mongod::uri_through`].
    pub fn uri(&self, database: &str) -> String {
        match self.kind {
            Kind::Standalone => self.uri_through(self.addr(), database),
            Kind::ReplicaSet => format!("mongodb://{}/{database}?replicaSet={REPLICA_SET}", self.addr()),
        }
    }

    /// Connection string of database `database` through a relay at `relay`, with `directConnection` so that no
    /// driver goes round it.
    pub fn uri_through(&self, relay: SocketAddr, database: &str) -> String {
        format!("mongodb://{relay}/{database}?directConnection=true")
    }

    /// Kills the process and waits for its end, as a power cut would end it. Its files stay until the drop.
    pub fn kill(&self) -> io::Result<()> {
        let mut child = self.child();
        child.kill()?;
        child.wait().map(drop)
    }

    /// Freezes the process: connections stay open and nothing answers.
    pub fn pause(&self) -> io::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Ends [`Mongod::pause`].
    pub fn resume(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let mut child = self.child();
        match child.try_wait()? {
            Some(_) => Err(io::Error::other("mongod has ended")),
            None => process::send(child.id(), signal),
        }
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_start(binary: &Path, kind: Kind) -> io::Result<Self> {
        let files = tempfile::tempdir()?;
        let port = net::free_port()?;
        let log = std::fs::File::create(files.path().join("log"))?;
        let data = files.path().join("db");
        std::fs::create_dir(&data)?;
        let mut command = Command::new(binary);
        command
            .args(["--bind_ip", "127.0.0.1", "--wiredTigerCacheSizeGB", "0.25", "--nounixsocket", "--quiet"])
            .args(["--setParameter", "diagnosticDataCollectionEnabled=false"])
            .args(["--port", &port.to_string()])
            .arg("--dbpath")
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if kind == Kind::ReplicaSet {
            command.args(["--replSet", REPLICA_SET, "--oplogSize", "64"]);
        }
        let child = Mutex::new(command.spawn()?);
        // From here on, a failure drops the value and so the process.
        let mongod = Self { child, port, kind, files };
        let deadline = Instant::now() + START_WITHIN;
        mongod.wait_for(deadline, |_| true)?;
        if kind == Kind::ReplicaSet {
            let member = doc! { "_id": 0, "host": mongod.addr().to_string() };
            let set = doc! { "_id": REPLICA_SET, "members": [member] };
            mongod.run(doc! { "replSetInitiate": set }, START_WITHIN)?;
            mongod.wait_for(deadline, |hello| hello.get_bool("isWritablePrimary").unwrap_or(false))?;
        }
        Ok(mongod)
    }

    /// Waits until the server answers `hello` as wanted.
    fn wait_for(&self, deadline: Instant, wanted: impl Fn(&Document) -> bool) -> io::Result<()> {
        loop {
            if let Some(status) = self.child().try_wait()? {
                return Err(io::Error::other(format!("ended at once, {status}: {}", self.last_log_lines())));
            }
            let error = match self.hello() {
                Ok(hello) if wanted(&hello) => return Ok(()),
                Ok(_) => io::Error::other("no primary elected"),
                Err(error) => error,
            };
            if Instant::now() > deadline {
                return Err(error);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn hello(&self) -> io::Result<Document> {
        self.run(doc! { "hello": 1 }, COMMAND_WITHIN)
    }

    /// Sends `command` over a connection of its own, and returns the answer if that says `ok`. The kit needs no driver
    /// for the two commands that a start takes.
    fn run(&self, mut command: Document, within: Duration) -> io::Result<Document> {
        command.insert("$db", "admin");
        let command = command.to_vec().map_err(io::Error::other)?;
        let mut stream = TcpStream::connect_timeout(&self.addr(), within)?;
        stream.set_read_timeout(Some(within))?;
        stream.set_write_timeout(Some(within))?;
        // An `OP_MSG`: length, request id, id answered, operation, no flags; then one section of kind 0. The answer has
        // the same head.
        let length = i32::try_from(HEAD + command.len()).map_err(io::Error::other)?;
        let mut message = [length, 1, 0, OP_MSG, 0].map(i32::to_le_bytes).concat();
        message.push(0);
        message.extend(command);
        stream.write_all(&message)?;
        stream.read_exact(&mut [0; HEAD])?;
        let answer = Document::from_reader(stream).map_err(io::Error::other)?;
        if answer.get_f64("ok").is_ok_and(|ok| ok > 0.0) {
            Ok(answer)
        } else {
            Err(io::Error::other(format!("MongoDB refused: {answer}")))
        }
    }

    fn last_log_lines(&self) -> String {
        let log = std::fs::read_to_string(self.files.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(3).collect();
        lines.join(" | ")
    }
}

impl Drop for Mongod {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.kill();
    }
}

fn shared(slot: &Mutex<Weak<Mongod>>, kind: Kind) -> Arc<Mongod> {
    // The lock is held during the start: others wait for the one server rather than start theirs.
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    slot.upgrade().unwrap_or_else(|| {
        let mongod = Arc::new(Mongod::start(kind));
        *slot = Arc::downgrade(&mongod);
        mongod
    })
}

/// Looks for a `mongod`: what `MONGOD` names, else one in `PATH`, else `.tools/mongod` at the root of the workspace.
/// A `MONGOD` that names no file is returned all the same: its start then fails by that name.
pub fn find() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("MONGOD").filter(|named| !named.is_empty()) {
        return Some(PathBuf::from(named));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|directory| directory.join("mongod"));
    let fetched = crate::server::workspace_root().join(".tools").join("mongod");
    in_path.chain([fetched]).find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_is_shared_and_freezes_and_dies_on_demand() {
        let (first, second) = (Mongod::shared(), Mongod::shared());
        assert!(Arc::ptr_eq(&first, &second));
        assert!(first.uri("mine").starts_with(&format!("mongodb://{}/mine", first.addr())));
        first.pause().expect("a running server");
        assert!(first.hello().is_err(), "a frozen server does not answer");
        first.resume().expect("a frozen server");
        first.hello().expect("an answer");
        first.kill().expect("a running server");
        assert!(first.hello().is_err());
        assert!(first.pause().is_err());
        drop((first, second));
        let next = Mongod::shared();
        next.hello().expect("a new server");
    }

    #[test]
    fn a_replica_set_takes_writes() {
        let mongod = Mongod::start(Kind::ReplicaSet);
        assert!(
            mongod.hello().expect("an answer").get_bool("isWritablePrimary").expect("a member of the answer")
        );
        assert!(mongod.uri("mine").ends_with("?replicaSet=rs0"));
    }
}
