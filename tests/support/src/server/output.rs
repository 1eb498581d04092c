//! Owns what a child process writes: two threads read its standard output and standard error into memory.

use std::io::{BufRead as _, BufReader, Read};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// The lines of a child process, growing while it runs.
#[derive(Debug)]
pub(super) struct Captured {
    lines: Arc<Mutex<Vec<String>>>,
    readers: Mutex<Vec<JoinHandle<()>>>,
}

impl Captured {
    /// Takes the piped outputs of `child` and begins to read them.
    pub(super) fn follow(child: &mut Child) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|output| Box::new(output) as _),
            child.stderr.take().map(|output| Box::new(output) as _),
        ];
        let follow = |output| {
            let lines = Arc::clone(&lines);
            std::thread::spawn(move || read(output, &lines))
        };
        let readers = Mutex::new(outputs.into_iter().flatten().map(follow).collect());
        Self { lines, readers }
    }

    /// The lines so far.
    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the end of the output; the process must have ended and have no children that hold it open.
    pub(super) fn finish(&self) {
        let readers = std::mem::take(&mut *self.readers.lock().unwrap_or_else(PoisonError::into_inner));
        for reader in readers {
            // A reader that panicked has printed why; its lines so far are kept.
            let _ = reader.join();
        }
    }
}

fn read(output: impl Read, lines: &Mutex<Vec<String>>) {
    for line in BufReader::new(output).split(b'\n') {
        let Ok(line) = line else { return };
        let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
        lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}
