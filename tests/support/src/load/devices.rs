//! Owns the devices, their connections, and the thread that serves both: the one engine of every load and bench.
//!
//! ```text
//! Devices::new ─► fill: each asks for its code ─► poll at a Pace ─► poll again …
//! ```
//!
//! It promises that each poll is answered, or counted as an error, by the end of the grace, that connections are kept
//! from one round to the next, and that the thread ends with its owner. How late the thread itself was is counted apart
//! ([`Tally::generator_lag_ms`]).

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::line::Line;
use super::locked;
use super::schedule::{Pace, devices_of};
use super::tally::Tally;

/// Connections that have one source address: it has ports for no more than some 28 000.
const LINES_PER_SOURCE: u32 = 20_000;
/// Connections that ask for codes at a time.
const FILLING: usize = 1_024;
/// Time between two looks at how late a thread is.
const PULSE: Duration = Duration::from_millis(20);

/// How the devices are run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Where the server listens.
    pub address: SocketAddr,
    /// Devices, each with a code of its own.
    pub devices: u32,
    /// Connections they share.
    pub connections: u32,
    /// Each poll has a connection of its own.
    pub reconnects: bool,
}

/// The devices.
pub struct Devices {
    settings: Settings,
    thread: Thread,
    lines: Vec<Line>,
}

/// A runtime with one thread, which ends with this value: a runtime must not be dropped where others run.
struct Thread(Option<Runtime>);

impl Thread {
    fn start() -> io::Result<Self> {
        let mut runtime = Builder::new_multi_thread();
        Ok(Self(Some(runtime.worker_threads(1).thread_name("devices").enable_all().build()?)))
    }

    fn handle(&self) -> &Handle {
        self.0.as_ref().expect("a runtime until the drop").handle()
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Devices {
    /// Devices without codes and connections.
    pub fn new(settings: Settings) -> io::Result<Self> {
        let Settings { address, devices, connections, reconnects } = settings;
        let source = |number| if reconnects { number } else { number / LINES_PER_SOURCE };
        let lines = (0..connections.min(devices))
            .map(|number| Line::new(number, address, source(number), reconnects));
        Ok(Self { settings, thread: Thread::start()?, lines: lines.collect() })
    }

    /// The same devices, with the same codes, in front of another server.
    pub fn elsewhere(&self, address: SocketAddr) -> io::Result<Self> {
        let mut others = Self::new(Settings { address, ..self.settings })?;
        for (line, other) in self.lines.iter().zip(&mut others.lines) {
            other.codes.clone_from(&line.codes);
        }
        Ok(others)
    }

    /// Asks for the code of each device, over the connection that it will poll over.
    pub async fn fill(&mut self) -> io::Result<()> {
        let turns = Arc::new(Semaphore::new(FILLING));
        let mut tasks = JoinSet::new();
        for mut line in std::mem::take(&mut self.lines) {
            let count = devices_of(line.number, self.settings.devices, self.settings.connections);
            let turns = Arc::clone(&turns);
            let asking = async move {
                let _turn = turns.acquire().await;
                line.fill(count).await?;
                Ok::<_, io::Error>(line)
            };
            tasks.spawn_on(asking, self.thread.handle());
        }
        while let Some(line) = tasks.join_next().await {
            self.lines.push(line.map_err(io::Error::other)??);
        }
        self.lines.sort_by_key(|line| line.number);
        Ok(())
    }

    /// From now on each connection carries polls of devices that asked over all of them, as behind a reverse proxy.
    pub fn mix(&mut self) {
        let codes: Vec<_> = self.lines.iter_mut().flat_map(|line| std::mem::take(&mut line.codes)).collect();
        let count = self.lines.len().max(1);
        for (number, code) in codes.into_iter().enumerate() {
            self.lines[number % count].codes.push(code);
        }
    }

    /// Polls at `pace` from `start` on, and waits for answers for a `grace` after its end.
    pub async fn poll(&mut self, pace: Pace, start: Instant, grace: Duration, tally: &Arc<Mutex<Tally>>) {
        let end = start + pace.length() + grace;
        let handle = self.thread.handle();
        let pulse = handle.spawn(pulse(Arc::clone(tally), start, pace.length()));
        let mut tasks = JoinSet::new();
        for mut line in std::mem::take(&mut self.lines) {
            let tally = Arc::clone(tally);
            let polling = async move {
                // What is not answered by then is counted below.
                let _ = timeout_at(end, line.poll_at(pace, start, &tally)).await;
                line
            };
            tasks.spawn_on(polling, handle);
        }
        self.lines = tasks.join_all().await;
        pulse.abort();
        self.lines.sort_by_key(|line| line.number);
        let mut tally = locked(tally);
        let offered = if let Pace::Planned(schedule) = pace { schedule.offered() } else { tally.sent };
        let unanswered = offered.saturating_sub(tally.answered + tally.errors.total());
        tally.errors.count_many("no answer by the end", unanswered);
    }
}

/// Notes how late this thread wakes up while polls are sent.
async fn pulse(tally: Arc<Mutex<Tally>>, start: Instant, length: Duration) {
    let mut next = start;
    while next < start + length {
        sleep_until(next).await;
        let late = next.elapsed();
        locked(&tally).generator_lag_ms.record(late);
        // A thread that sleeps through several instants was late at each.
        next += PULSE;
    }
}
