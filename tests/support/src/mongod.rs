//! A MongoDB server of one's own: found, started on a free loopback port with a directory of its own, and killed
//! when dropped; or three that are a replica set.
//!
//! It owns the process and its files. It promises a server that answers commands (and, as a replica set, one that
//! takes writes) before it is handed out. It refuses to pass silently over a missing server: [`Mongod::start`]
//! panics, as a test that did not run must not look like one that passed.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bson::{Document, doc};
use tempfile::TempDir;

use crate::cutter::Cutter;
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
/// Time a member may take to say whether it is the primary.
const LOOK_WITHIN: Duration = Duration::from_millis(200);
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

    /// Starts it again after [`Mongod::kill`], or another end, on the same port and files. Blocks the thread.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        self.process =
            launch(&find().ok_or(io::ErrorKind::NotFound)?, self.kind, self.port, self.files.path())?;
        self.wait_for(Instant::now() + START_WITHIN, |_| true)
    }

    /// See [`Process::limit_files`]; a server that is refused a write ends.
    pub fn limit_files(&self, bytes: Option<u64>) -> io::Result<()> {
        self.process.limit_files(bytes)
    }

    /// Deletes database `database`.
    pub fn drop_database(&self, database: &str) -> io::Result<()> {
        self.run_in(database, doc! { "dropDatabase": 1 }, START_WITHIN).map(drop)
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
        let mongod = Self::alone(binary, kind)?;
        if kind == Kind::ReplicaSet {
            mongod.found(&[mongod.addr()])?;
            mongod.wait_for(Instant::now() + START_WITHIN, is_primary)?;
        }
        Ok(mongod)
    }

    /// Starts a server that belongs to no replica set yet.
    fn alone(binary: &Path, kind: Kind) -> io::Result<Self> {
        let files = tempfile::tempdir()?;
        let port = net::free_port()?;
        let process = launch(binary, kind, port, files.path())?;
        let mongod = Self { process, port, kind, files };
        mongod.wait_for(Instant::now() + START_WITHIN, |_| true)?;
        Ok(mongod)
    }

    /// Founds the replica set of the members that are reached at `members`.
    fn found(&self, members: &[SocketAddr]) -> io::Result<()> {
        let members = (0_i32..).zip(members).map(|(id, at)| doc! { "_id": id, "host": at.to_string() });
        let set = doc! { "_id": REPLICA_SET, "members": members.collect::<Vec<_>>() };
        self.run(doc! { "replSetInitiate": set }, START_WITHIN).map(drop)
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
    /// for the few commands that it sends.
    fn run(&self, command: Document, within: Duration) -> io::Result<Document> {
        self.run_in("admin", command, within)
    }

    fn run_in(&self, database: &str, mut command: Document, within: Duration) -> io::Result<Document> {
        command.insert("$db", database);
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

/// Three servers that are one replica set, each of which is reached, by clients and by the others, through a
/// [`Cutter`] of its own.
#[derive(Debug)]
pub struct ReplicaSet {
    members: Vec<Member>,
}

/// A member of a [`ReplicaSet`].
#[derive(Debug)]
pub struct Member {
    mongod: Mutex<Mongod>,
    /// The line to it.
    pub line: Cutter,
}

impl ReplicaSet {
    /// Starts the three and waits for a primary. Blocks the thread for some seconds.
    ///
    /// # Panics
    /// As [`Mongod::start`].
    pub async fn start() -> Self {
        let binary = find().expect("a mongod, which tests/run fetches");
        let mut members = Vec::new();
        for _ in 0..3 {
            let mongod = Mongod::alone(&binary, Kind::ReplicaSet).expect("a mongod that starts");
            let line = Cutter::start(mongod.addr()).await.expect("a loopback port");
            members.push(Member { mongod: Mutex::new(mongod), line });
        }
        let addresses: Vec<_> = members.iter().map(|member| member.line.addr()).collect();
        // The members find themselves and each other through the relays, which need this runtime's other threads.
        tokio::task::block_in_place(|| members[0].mongod().found(&addresses)).expect("a replica set");
        let set = Self { members };
        while set.primary().is_none() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        set
    }

    /// The members.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Connection string of database `database`.
    pub fn uri(&self, database: &str) -> String {
        let hosts: Vec<_> = self.members.iter().map(|member| member.line.addr().to_string()).collect();
        format!("mongodb://{}/{database}?replicaSet={REPLICA_SET}", hosts.join(","))
    }

    /// Which member takes writes, by its own account; of several, the one elected last. Blocks the thread.
    pub fn primary(&self) -> Option<usize> {
        let hello = |member: &Member| {
            // One that is being started again is no primary.
            let mongod = member.mongod.try_lock().ok()?;
            let hello = mongod.run(doc! { "hello": 1 }, LOOK_WITHIN);
            hello.ok().filter(is_primary)?.get_object_id("electionId").ok()
        };
        let asked =
            self.members.iter().enumerate().filter_map(|(number, member)| Some((hello(member)?, number)));
        asked.max().map(|(_, number)| number)
    }
}

impl Member {
    /// The server.
    pub fn mongod(&self) -> MutexGuard<'_, Mongod> {
        self.mongod.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_primary(hello: &Document) -> bool {
    hello.get_bool("isWritablePrimary").unwrap_or(false)
}

fn launch(binary: &Path, kind: Kind, port: u16, files: &Path) -> io::Result<Process> {
    let data = files.join("db");
    std::fs::create_dir_all(&data)?;
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
    Process::spawn(command.stdin(Stdio::null()), files)
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
