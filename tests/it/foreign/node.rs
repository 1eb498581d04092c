//! A script of `tests/node`: a process of its own, read line by line, killed when it is dropped.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use testkit::server::workspace_root;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::fixture::PATIENCE;

/// What a test without its tools says.
pub const ADVICE: &str = "run tests/run, which fetches what the tests need";

/// A running script. What it writes to standard error is shown when it fails.
pub struct Script {
    file: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    errors: Arc<Mutex<String>>,
}

impl Script {
    /// Starts `tests/node/{file}` with these environment variables.
    pub fn start(file: &'static str, settings: &[(&str, &str)]) -> Self {
        let directory = directory();
        assert!(directory.join("node_modules").is_dir(), "tests/node/node_modules is missing: {ADVICE}");
        let mut command = Command::new("node");
        command.arg(directory.join(file)).envs(settings.iter().copied()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound => panic!("Node.js is not on the PATH: install it, then {ADVICE}"),
            _ => panic!("Node.js does not start: {error}"),
        });
        let input = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().expect("a piped output")).lines();
        let mut stderr = child.stderr.take().expect("a piped output");
        let errors = Arc::new(Mutex::new(String::new()));
        let gathered = Arc::clone(&errors);
        tokio::spawn(async move {
            let mut part = [0; 4096];
            while let Ok(length @ 1..) = stderr.read(&mut part).await {
                let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
                gathered.push_str(&String::from_utf8_lossy(&part[..length]));
            }
        });
        Self { file, child, input, lines, errors }
    }

    /// Tells it something: one line.
    pub async fn tell(&mut self, what: &Value) {
        // A script that has ended says why when it is heard next.
        let input = self.input.as_mut().expect("a piped input");
        let _ = input.write_all(format!("{what}\n").as_bytes()).await;
    }

    /// The next line it says.
    pub async fn next(&mut self) -> Value {
        let Some(line) = self.line().await else {
            let status = self.child.wait().await;
            panic!("{} ended early, {status:?}:\n{}", self.file, self.errors())
        };
        line
    }

    /// The rest of what it says when there is no more to tell it; it has to end well.
    pub async fn finish(mut self) -> Vec<Value> {
        self.input = None;
        let mut said = Vec::new();
        while let Some(line) = self.line().await {
            said.push(line);
        }
        let status = timeout(PATIENCE, self.child.wait()).await.expect("a script without output ends");
        let status = status.expect("a script can be waited for");
        assert!(status.success(), "{} failed, {status}:\n{}", self.file, self.errors());
        said
    }

    /// `None` at the end of its output.
    async fn line(&mut self) -> Option<Value> {
        let Ok(line) = timeout(PATIENCE, self.lines.next_line()).await else {
            panic!("{} says nothing:\n{}", self.file, self.errors())
        };
        let line = line.expect("output in UTF-8")?;
        Some(serde_json::from_str(&line).unwrap_or_else(|_| panic!("{} says no JSON: {line}", self.file)))
    }

    fn errors(&self) -> String {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn directory() -> PathBuf {
    workspace_root().join("tests/node")
}
