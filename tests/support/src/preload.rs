//! A machine that fails under one process: a library that is loaded into it, and the files that tell it how.
//!
//! Where `FAULT_DIR` says, `step` holds the seconds by which the wall clock (`CLOCK_REALTIME`) is moved, and `sync` the
//! milliseconds that the disk takes longer for a sync; less than 0: the sync fails, and what was written may be lost.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::Builder;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static long told(const char *name) {
    char text[32] = {0}, path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("FAULT_DIR"), name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    long number = read(file, text, sizeof text - 1) > 0 ? atol(text) : 0;
    close(file);
    return number;
}
int clock_gettime(clockid_t id, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, at);
    if (result == 0 && id == CLOCK_REALTIME) at->tv_sec += told("step");
    return result;
}
static int sync_with(long call, int fd) {
    long ms = told("sync");
    if (ms < 0) { errno = EIO; return -1; }
    if (ms > 0) usleep(ms * 1000);
    return syscall(call, fd);
}
int fsync(int fd) { return sync_with(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_with(SYS_fdatasync, fd); }
"#;

/// What is wrong with the machine of one server.
#[derive(Clone, Debug)]
pub struct Machine {
    dir: PathBuf,
}

impl Machine {
    /// A machine with nothing wrong for the server that `builder` starts, in a directory beside its data.
    ///
    /// # Panics
    /// If there is no C compiler.
    pub fn under(builder: Builder) -> (Self, Builder) {
        let dir = builder.data_path().with_extension("machine");
        std::fs::create_dir_all(&dir).expect("a directory of one's own");
        let (source, library) = (dir.join("faults.c"), dir.join("faults.so"));
        std::fs::write(&source, SOURCE).expect("a file of one's own");
        let mut compiler = Command::new("cc");
        let built = compiler.args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").status();
        assert!(built.expect("a C compiler").success(), "the library does not build");
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let builder = builder.env("LD_PRELOAD", text(&library)).env("FAULT_DIR", text(&dir));
        (Self { dir }, builder)
    }

    /// Moves the wall clock by `secs` from where it really is.
    pub fn step(&self, secs: i64) -> io::Result<()> {
        self.tell("step", secs)
    }

    /// Each sync takes so many milliseconds longer; less than 0: it fails.
    pub fn sync(&self, millis: i64) -> io::Result<()> {
        self.tell("sync", millis)
    }

    fn tell(&self, name: &str, number: i64) -> io::Result<()> {
        // Whole or not at all: the library may be reading.
        let part = self.dir.join("part");
        std::fs::write(&part, number.to_string())?;
        std::fs::rename(part, self.dir.join(name))
    }
}
