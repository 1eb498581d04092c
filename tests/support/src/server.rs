//! The real binary as a child process.
//!
//! It owns the process, its output and, unless told otherwise, the directory it works in. It promises a cleared
//! environment (`PATH` excepted), a server that has said it is ready, and no process left behind after the drop.
//! One [`Builder`] can start its server again and again, on the same port and the same data.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::net;
use crate::process::{Process, Signal};

/// Time the binary may take to say it is ready.
pub const READY_WITHIN: Duration = Duration::from_secs(20);
/// Time between two looks at a process.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const PROXY: &str = "device-flow-proxy";
/// Log lines shown when a test fails.
const LINES_SHOWN: usize = 40;

/// How to start the binary.
#[derive(Clone, Debug)]
pub struct Builder {
    binary: PathBuf,
    before: Option<String>,
    listener: Option<Arc<TcpListener>>,
    port: u16,
    env: Vec<(String, String)>,
    data_dir: PathBuf,
    cwd: PathBuf,
    ready_within: Duration,
    /// Keeps the directories until the last builder and server are gone.
    files: Arc<TempDir>,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    process: Process,
    base_url: String,
    listen: String,
    admin: Option<String>,
    _files: Arc<TempDir>,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The binary cannot be run.
    #[error("cannot run {binary}")]
    Spawn {
        /// Its path.
        binary: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It ended before it was ready.
    #[error("ended before it was ready, {status}:\n{}", .output.join("\n"))]
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// Every line it wrote, standard output and standard error.
        output: Vec<String>,
    },
    /// It did not say it was ready in time; it has been killed.
    #[error("not ready in time:\n{}", .output.join("\n"))]
    NotReady {
        /// Every line it wrote, standard output and standard error.
        output: Vec<String>,
    },
}

impl Builder {
    /// Sets an environment variable; the last value of a name counts.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets several environment variables.
    #[must_use]
    pub fn envs<N: Into<String>, V: Into<String>>(self, all: impl IntoIterator<Item = (N, V)>) -> Self {
        all.into_iter().fold(self, |builder, (name, value)| builder.env(name, value))
    }

    /// Takes a variable away, one of the defaults for example.
    #[must_use]
    pub fn env_remove(mut self, name: &str) -> Self {
        self.env.retain(|(key, _)| key != name);
        self
    }

    /// Listens on 127.0.0.1:`port` and takes `BASE_URL` to be `http://localhost:PORT`.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self.env("LISTEN", format!("127.0.0.1:{port}")).env("BASE_URL", format!("http://localhost:{port}"))
    }

    /// Uses this `DATA_DIR`, which is not removed.
    #[must_use]
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = path.into();
        self
    }

    /// Has a shell do `before` in the process that then becomes the server, such as `ulimit -n 256`.
    #[must_use]
    pub fn before(mut self, before: &str) -> Self {
        self.before = Some(before.to_owned());
        self
    }

    /// Hands this socket over, which then outlives the server, as systemd does.
    #[must_use]
    pub fn listener(mut self, listener: TcpListener) -> Self {
        self.listener = Some(Arc::new(listener));
        // It becomes the standard input: a descriptor that every child process gets.
        self.env("LISTEN_FDS", "1").env("LISTEN_FDS_FIRST_FD", "0")
    }

    /// Waits this long for the server to be ready, in place of [`READY_WITHIN`].
    #[must_use]
    pub fn ready_within(mut self, within: Duration) -> Self {
        self.ready_within = within;
        self
    }

    /// The `DATA_DIR`.
    pub fn data_path(&self) -> &Path {
        &self.data_dir
    }

    /// The directory it starts in.
    pub fn cwd_path(&self) -> &Path {
        &self.cwd
    }

    /// The port it listens on.
    pub fn listen_port(&self) -> u16 {
        self.port
    }

    /// The `BASE_URL` it is given, without a slash at the end.
    pub fn base_url(&self) -> String {
        let url = self.env.iter().rev().find(|(name, _)| name == "BASE_URL").map(|(_, value)| value.as_str());
        url.unwrap_or_default().trim_end_matches('/').to_owned()
    }

    /// Starts the server and waits until it is ready: until it logs a JSON line whose `fields.message` is `ready`,
    /// with the address in `fields.listen` and the operator's address, if any, in `fields.admin`.
    pub async fn start(&self) -> Result<Server, StartError> {
        let spawned = Process::spawn(&mut self.command(), self.files.path());
        let process = spawned.map_err(|source| StartError::Spawn { binary: self.binary.clone(), source })?;
        let deadline = Instant::now() + self.ready_within;
        loop {
            if let Some(fields) = process.lines().iter().find_map(|line| ready(line)) {
                let text = |name: &str| fields.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
                return Ok(Server {
                    process,
                    base_url: self.base_url(),
                    listen: text("listen").unwrap_or_default(),
                    admin: text("admin").filter(|admin| admin.contains(':')),
                    _files: Arc::clone(&self.files),
                });
            }
            if let Ok(Some(status)) = process.ended() {
                return Err(StartError::Exited { status, output: process.lines() });
            }
            if Instant::now() > deadline {
                return Err(StartError::NotReady { output: process.lines() });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Runs the binary to its end with these arguments, for commands such as `check-config`.
    /// Blocks the thread.
    pub fn run<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(
        &self,
        arguments: I,
    ) -> io::Result<Output> {
        self.command().args(arguments).output()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(if self.before.is_some() { Path::new("sh") } else { &self.binary });
        if let Some(before) = &self.before {
            command.arg("-c").arg(format!("{before} && exec \"$0\" \"$@\"")).arg(&self.binary);
        }
        command.current_dir(&self.cwd).env_clear();
        match self.listener.as_ref().map(|listener| listener.try_clone()) {
            Some(Ok(listener)) => command.stdin(OwnedFd::from(listener)),
            _ => command.stdin(Stdio::null()),
        };
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("DATA_DIR", &self.data_dir).envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Server {
    /// Begins to describe a server: the port is picked now and the directories are made now, so that `BASE_URL`
    /// is known. Defaults: `LISTEN` and `BASE_URL` for that port, `ADMIN_LISTEN=127.0.0.1:0`, `LOG_FORMAT=json`,
    /// `RUST_LOG=info`, `DATA_DIR` and working directory of its own.
    ///
    /// # Panics
    /// If there is no free port or no room for a temporary directory.
    pub fn builder(binary: impl Into<PathBuf>) -> Builder {
        let binary = binary.into();
        let files = tempfile::tempdir().expect("a temporary directory");
        let (data_dir, cwd) = (files.path().join("data"), files.path().join("cwd"));
        for directory in [&data_dir, &cwd] {
            std::fs::create_dir(directory).expect("a directory of one's own");
        }
        let builder = Builder {
            // It starts in another directory than ours.
            binary: std::path::absolute(&binary).unwrap_or(binary),
            before: None,
            listener: None,
            port: 0,
            env: Vec::new(),
            data_dir,
            cwd,
            ready_within: READY_WITHIN,
            files: Arc::new(files),
        };
        builder
            .port(net::free_port().expect("a free loopback port"))
            .env("ADMIN_LISTEN", "127.0.0.1:0")
            .env("LOG_FORMAT", "json")
            .env("RUST_LOG", "info")
    }

    /// The `BASE_URL` it was given, without a slash at the end.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The address it says it listens on, such as `127.0.0.1:8080`.
    pub fn listen(&self) -> &str {
        &self.listen
    }

    /// The operator's address, if it says one.
    pub fn admin(&self) -> Option<&str> {
        self.admin.as_deref()
    }

    /// `http://` and the operator's address.
    ///
    /// # Panics
    /// If it has none.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin().expect("a server with ADMIN_LISTEN"))
    }

    /// A metric by its name and labels, as it is written; `None` if there is none, or no answer.
    ///
    /// # Panics
    /// If it has no operator's address.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let answer = crate::http::client().get(format!("{}/metrics", self.admin_url())).send().await.ok()?;
        let text = answer.text().await.ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Every line it wrote so far, standard output and standard error, in order of arrival.
    pub fn logs(&self) -> Vec<String> {
        self.process.lines()
    }

    /// Asks it to stop: SIGTERM. An error if it has ended.
    pub fn terminate(&self) -> io::Result<()> {
        self.process.send(Signal::TERM)
    }

    /// Tells it to read its certificate again: SIGHUP. An error if it has ended.
    pub fn hangup(&self) -> io::Result<()> {
        self.process.send(Signal::HUP)
    }

    /// Kills it, SIGKILL, and waits for its end.
    pub fn kill9(&self) -> io::Result<ExitStatus> {
        self.process.kill()
    }

    /// Freezes it, SIGSTOP: connections stay open and nothing answers.
    pub fn pause(&self) -> io::Result<()> {
        self.process.send(Signal::STOP)
    }

    /// Ends [`Server::pause`].
    pub fn resume(&self) -> io::Result<()> {
        self.process.send(Signal::CONT)
    }

    /// No file of it may become longer than `bytes`, as on a disk that is full; `None`: as long as it likes. Start it
    /// with `trap '' XFSZ` before, as the kernel would end it otherwise.
    pub fn limit_files(&self, bytes: Option<u64>) -> io::Result<()> {
        self.process.limit_files(bytes)
    }

    /// Waits for its end, at most for `within`. `ExitStatus::code` is `None` after a signal.
    pub async fn wait(&self, within: Duration) -> io::Result<ExitStatus> {
        let ended = async {
            loop {
                if let Some(status) = self.process.ended()? {
                    return Ok(status);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(within, ended).await?
    }

    /// [`Server::terminate`], then [`Server::wait`].
    pub async fn stop(&self, within: Duration) -> io::Result<ExitStatus> {
        self.terminate()?;
        self.wait(within).await
    }

    /// [`Server::stop`]; an error unless it ends well.
    pub async fn end(&self, within: Duration) -> io::Result<()> {
        let status = self.stop(within).await?;
        status.success().then_some(()).ok_or_else(|| io::Error::other(format!("the server ended, {status}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = self.process.lines();
            let shown = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
            eprintln!("last lines of the server (pid {}):\n{}", self.pid(), shown.join("\n"));
        }
    }
}

/// The root of the workspace that this crate was built in.
pub fn workspace_root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    // Cargo sets the variable for the package it runs, which may be any of the workspace: go up to the lock file.
    let start = manifest.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    let root = start.ancestors().find(|directory| directory.join("Cargo.lock").is_file());
    root.unwrap_or(&start).to_owned()
}

/// Builds the proxy with the Cargo that runs this program, if one does, and returns the binary beside our own.
pub fn build_proxy() -> io::Result<PathBuf> {
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

/// The `fields` of the line that says so.
fn ready(line: &str) -> Option<Value> {
    let mut line: Value = serde_json::from_str(line).ok()?;
    let fields = line.get_mut("fields")?.take();
    (fields.get("message")?.as_str()? == "ready").then_some(fields)
}
