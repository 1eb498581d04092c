//! A MongoDB server of one's own: found, started on a free loopback port with a directory of its own, and killed
//! when dropped.
//!
//! It owns the process and its files. It promises a server that answers commands (and, as a replica set, one that
//! takes writes) before it is handed out. It refuses to pass silently over a missing server: [`Mongod::start`]
//! panics, as a test that did not run must not look like one that passed.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bson::{Document, doc};
use tempfile::TempDir;

use crate::net;
use crate::process::{Process, Signal};

/// Time a server may take to start, and a replica set to elect its one member.
const START_WITHIN: Duration = Duration::from_secs(60);
/// Time between two looks at a server that is starting.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Starts tried before the last, as another process may take the port between its choice and its use.
const ATTEMPTS: usize = 2;
/// Time a command may take that writes nothing.
const COMMAND_WITHIN: Duration = Duration::from_secs(2);
/// The operation of MongoDB's wire protocol that carries commands, and the length of what is before its document.
const OP_MSG: i32 = 2013;
const HEAD: usize = 21;
const REPLICA_SET: &str = "rs0";

/// A running server.
#[derive(Debug)]
pub struct Mongod {
    process: Process,
    port: u16,
    kind: Kind,
    /// Removed after the process is gone: fields are dropped in this order.
    _files: TempDir,
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
        let mut tries = (0..ATTEMPTS).map(|_| Self::try_start(&binary, kind));
        let started = tries.find_map(Result::ok).map_or_else(|| Self::try_start(&binary, kind), Ok);
        started.unwrap_or_else(|error| panic!("{} does not start: {error}", binary.display()))
    }

    /// The server of this kind that the tests of this process share; started by the first that asks, stopped when the
    /// last drops it. Use a database name of your own.
    ///
    /// # Panics
    /// As [`Mongod::start`].
    pub fn shared(kind: Kind) -> Arc<Self> {
        static SHARED: [Mutex<Weak<Mongod>>; 2] = [const { Mutex::new(Weak::new()) }; 2];
        // The lock is held during the start: others wait for the one server rather than start theirs.
        let mut shared = SHARED[kind as usize].lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let mongod = Arc::new(Self::start(kind));
            *shared = Arc::downgrade(&mongod);
            mongod
        })
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
        self.process.kill().map(drop)
    }

    /// Freezes the process: connections stay open and nothing answers.
    pub fn pause(&self) -> io::Result<()> {
        self.process.send(Signal::STOP)
    }

    /// Ends [`Mongod::pause`].
    pub fn resume(&self) -> io::Result<()> {
        self.process.send(Signal::CONT)
    }

    fn try_start(binary: &Path, kind: Kind) -> io::Result<Self> {
        let files = tempfile::tempdir()?;
        let port = net::free_port()?;
        let data = files.path().join("db");
        std::fs::create_dir(&data)?;
        let mut command = Command::new(binary);
        command
            .args(["--bind_ip", "127.0.0.1", "--wiredTigerCacheSizeGB", "0.25", "--nounixsocket", "--quiet"])
            .args(["--setParameter", "diagnosticDataCollectionEnabled=false"])
            .args(["--port", &port.to_string()])
            .arg("--dbpath")
            .arg(&data);
        if kind == Kind::ReplicaSet {
            command.args(["--replSet", REPLICA_SET, "--oplogSize", "64"]);
        }
        let process = Process::spawn(command.stdin(Stdio::null()), files.path())?;
        let mongod = Self { process, port, kind, _files: files };
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

    fn wait_for(&self, deadline: Instant, wanted: impl Fn(&Document) -> bool) -> io::Result<()> {
        loop {
            if let Some(status) = self.process.ended()? {
                let last = self.process.lines().pop().unwrap_or_default();
                return Err(io::Error::other(format!("ended at once, {status}: {last}")));
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
