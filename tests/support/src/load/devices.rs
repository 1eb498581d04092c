//! Owns the threads that devices poll from, each with a runtime and a share of the connections of its own.
//!
//! ```text
//! Devices::start ─► each line asks for its codes ─► filled() ─► run_from(start) ─► each line keeps its schedule
//! ```
//!
//! It promises that a poll is sent at its planned instant or as soon after as its connection is free, that each is
//! answered or counted as an error by the end of the grace, and that threads end when their owner is dropped. How late
//! the threads were themselves is counted apart ([`Tally::behind`], [`Tally::lag`]).

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::line::{Answer, FillError, Line};
use super::schedule::{Schedule, planned, seconds};
use super::tally::Tally;

/// Connections that have one source address, unless each poll has a connection of its own.
const LINES_PER_SOURCE: u32 = 20_000;
/// How long a closed connection occupies its port, and how many of one address may do so.
const PORT_OCCUPIED: Duration = Duration::from_secs(60);
const OPENED_PER_SOURCE: u64 = 10_000;
/// Devices that ask for codes at a time, per thread.
const FILLING: usize = 256;
/// A poll sent later than this, although its connection was free, is the generator's fault.
pub const LATE: Duration = Duration::from_millis(10);
/// Time between two looks at how late a thread is.
const PULSE: Duration = Duration::from_millis(20);

/// How the devices are run.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) address: SocketAddr,
    pub(super) schedule: Schedule,
    pub(super) threads: u32,
    pub(super) reconnects: bool,
    /// How long answers are waited for after the last poll.
    pub(super) grace: Duration,
}

/// The devices, as the thread that started them sees them.
pub(super) struct Devices {
    shared: Arc<Shared>,
    start: watch::Sender<Option<Instant>>,
    told: mpsc::UnboundedReceiver<Told>,
    threads: u32,
}

struct Shared {
    settings: Settings,
    filled: AtomicU64,
    /// One for each thread.
    tallies: Vec<Mutex<Tally>>,
}

/// What a thread tells.
enum Told {
    Filled(Result<(), FillError>),
    Done,
}

/// How far the devices are.
impl Settings {
    /// Seconds in which answers may come.
    fn seconds(&self) -> usize {
        seconds(self.schedule.length + self.grace)
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    pub(super) sent: u64,
    pub(super) answered: u64,
    pub(super) errors: u64,
}

impl Devices {
    /// Starts the threads, which ask for codes at once.
    pub(super) fn start(settings: Settings) -> io::Result<Self> {
        let tallies = (0..settings.threads).map(|_| Mutex::new(Tally::new(settings.seconds()))).collect();
        let shared = Arc::new(Shared { settings, filled: AtomicU64::new(0), tallies });
        let (start, starts) = watch::channel(None);
        let (tell, told) = mpsc::unbounded_channel();
        let threads = shared.settings.threads;
        for number in 0..threads {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (shared, starts, tell) = (Arc::clone(&shared), starts.clone(), tell.clone());
            let thread = std::thread::Builder::new().name(format!("devices-{number}"));
            thread.spawn(move || runtime.block_on(run(&shared, number, starts, &tell)))?;
        }
        Ok(Self { shared, start, told, threads })
    }

    /// Waits until every device has its code.
    pub(super) async fn filled(&mut self) -> Result<(), FillError> {
        for _ in 0..self.threads {
            match self.told.recv().await {
                Some(Told::Filled(filled)) => filled?,
                Some(Told::Done) => {}
                None => return Err(io::Error::other("a thread of devices has ended").into()),
            }
        }
        Ok(())
    }

    /// Tells how many devices have their code so far.
    pub(super) fn counter(&self) -> impl Fn() -> u64 + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.filled.load(Ordering::Relaxed)
    }

    /// Begins to poll at `start`.
    pub(super) fn run_from(&self, start: Instant) {
        self.start.send_replace(Some(start));
    }

    /// Tells how far they are.
    pub(super) fn standing(&self) -> impl Fn() -> Standing + use<> {
        let shared = Arc::clone(&self.shared);
        move || {
            shared.tallies.iter().map(locked).fold(Standing::default(), |sum, tally| Standing {
                sent: sum.sent + tally.sent,
                answered: sum.answered + tally.answered,
                errors: sum.errors + tally.errors.total(),
            })
        }
    }

    /// Waits until all polls are answered or given up.
    pub(super) async fn finished(&mut self) {
        for _ in 0..self.threads {
            // A thread that is gone has counted what it did.
            let _ = self.told.recv().await;
        }
    }

    /// What came of all polls, once they are [finished](Self::finished).
    pub(super) fn tally(&self) -> Tally {
        let mut all = Tally::new(self.shared.settings.seconds());
        for tally in &self.shared.tallies {
            all.add(&locked(tally));
        }
        let unanswered =
            self.shared.settings.schedule.offered().saturating_sub(all.answered + all.errors.total());
        all.errors.count_many("no answer by the end", unanswered);
        all
    }
}

fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread: the lines whose number leaves its own when divided by the number of threads.
async fn run(
    shared: &Arc<Shared>,
    thread: u32,
    mut starts: watch::Receiver<Option<Instant>>,
    tell: &mpsc::UnboundedSender<Told>,
) {
    let settings = &shared.settings;
    let owner = starts.clone();
    let (lines, filled) = tokio::select! {
        filled = fill(shared, thread) => match filled {
            Ok(lines) => (lines, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        },
        () = dropped(owner) => return,
    };
    // Whoever does not listen any more has dropped the other end too.
    let _ = tell.send(Told::Filled(filled));
    let Ok(start) = starts.wait_for(Option::is_some).await.map(|start| *start) else { return };
    let start = start.unwrap_or_else(Instant::now);
    let end = start + settings.schedule.length + settings.grace;
    let mut tasks = JoinSet::new();
    for (number, line) in lines {
        let shared = Arc::clone(shared);
        tasks.spawn(timeout_at(
            end,
            async move { keep_schedule(&shared, thread, (number, line), start).await },
        ));
    }
    let pulse = tokio::spawn(pulse(Arc::clone(shared), thread, start));
    tokio::select! {
        () = async { while tasks.join_next().await.is_some() {} } => {}
        () = dropped(starts) => {}
    }
    pulse.abort();
    let _ = tell.send(Told::Done);
}

/// Returns once the owner is gone.
async fn dropped(mut starts: watch::Receiver<Option<Instant>>) {
    while starts.changed().await.is_ok() {}
}

async fn fill(shared: &Arc<Shared>, thread: u32) -> Result<Vec<(u32, Line)>, FillError> {
    let Settings { schedule, threads, reconnects, address, .. } = shared.settings;
    let turns = Arc::new(Semaphore::new(FILLING));
    let mut tasks = JoinSet::new();
    for number in (thread..schedule.connections).step_by(threads as usize) {
        let own = schedule.devices_of(number);
        if own == 0 {
            continue;
        }
        let mut line = Line::new(address, source(number, &shared.settings), reconnects);
        let (shared, turns) = (Arc::clone(shared), Arc::clone(&turns));
        tasks.spawn(async move {
            let _turn = turns.acquire().await;
            line.fill(own, || _ = shared.filled.fetch_add(1, Ordering::Relaxed)).await?;
            Ok::<_, FillError>((number, line))
        });
    }
    let mut lines = Vec::new();
    while let Some(line) = tasks.join_next().await {
        lines.push(line.map_err(io::Error::other)??);
    }
    Ok(lines)
}

/// Where connection `number` comes from, if there are more than one address has ports for.
fn source(number: u32, settings: &Settings) -> Option<IpAddr> {
    let schedule = &settings.schedule;
    let number = if settings.reconnects {
        let opened = planned(schedule.rate, schedule.length.min(PORT_OCCUPIED));
        number % u32::try_from(opened.div_ceil(OPENED_PER_SOURCE)).unwrap_or(u32::MAX).max(1)
    } else if schedule.connections > LINES_PER_SOURCE {
        number / LINES_PER_SOURCE
    } else {
        return None;
    };
    let [_, high, middle, low] = (number + 1).to_be_bytes();
    Some(Ipv4Addr::new(127, high, middle, low).into())
}

/// Polls for the devices of `line` at their instants.
async fn keep_schedule(shared: &Shared, thread: u32, (number, mut line): (u32, Line), start: Instant) {
    let tally = &shared.tallies[thread as usize];
    let mut free = start;
    let mut timer = std::pin::pin!(sleep_until(start));
    for slot in shared.settings.schedule.of_connection(number) {
        let planned = start + slot.at;
        let waited = free > planned;
        let mut now = free.max(start);
        if !waited {
            timer.as_mut().reset(planned);
            timer.as_mut().await;
            now = Instant::now();
        }
        {
            let mut tally = locked(tally);
            tally.send(now - start, now - planned.max(free), LATE);
            tally.waited += u64::from(waited);
        }
        let (answer, reopened) = line.poll(slot.device).await;
        free = Instant::now();
        let mut tally = locked(tally);
        tally.reopened += u64::from(reopened);
        match answer {
            Answer::Pending => tally.answer(slot.at, free - start),
            Answer::SlowDown => {
                tally.slow_down += 1;
                tally.answer(slot.at, free - start);
            }
            Answer::Wrong(kind, text) => tally.fail(free - start, &kind, || format!("{kind}: {text}")),
        }
    }
    // Thousands of connections that close as the last polls go out would be a load that no plan names.
    sleep_until(start + shared.settings.schedule.length).await;
}

/// Notes how late this thread wakes up while load is offered.
async fn pulse(shared: Arc<Shared>, thread: u32, start: Instant) {
    let end = start + shared.settings.schedule.length;
    let mut next = start;
    while next < end {
        sleep_until(next).await;
        let now = Instant::now();
        locked(&shared.tallies[thread as usize]).lag.record(now - next);
        // A thread that sleeps through several instants was late at each.
        next += PULSE;
    }
}
