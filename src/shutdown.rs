//! How the process ends: drained after a signal, or at once after a panic.

use std::io;
use std::panic;

use tokio::signal::unix::{SignalKind, signal as listen};

/// Waits for SIGTERM or SIGINT. From the call on, neither ends the process by itself.
pub fn signal() -> io::Result<impl Future<Output = ()>> {
    let mut term = listen(SignalKind::terminate())?;
    let mut int = listen(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

/// Makes a panic on any thread end the process: an actor that is gone would answer nothing for good, while a restart
/// is the one recovery path, and a tested one.
pub fn abort_on_panic() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        report(info);
        tracing::error!("a panic ends the process");
        std::process::abort();
    }));
}
