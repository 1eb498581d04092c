//! The audit record: who was given what, who was refused, and who took it away again. Lines are only ever appended, and
//! kept a year.
//!
//! ```text
//!   an act ── durable ──▶ Audit::note ──┬─▶ a log line of target `audit`, at once
//!                                       └─▶ queue ──▶ AuditLog, in groups, offered until it takes them ──▶ answer
//! ```
//!
//! Promises: whoever hears of an act can find its line, unless the store did not take it within [`PATIENCE`]; then it
//! follows as soon as the store does, while this process lives. No act fails for want of its line. A line names a grant or
//! a device by the first digits of its keyed hash, and holds no token, no code and no meter.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::clock::{SharedClock, Timestamp};
use super::network::Network;
use super::store::{StoreError, millis};

/// How long a line is kept.
pub const KEPT_FOR: Duration = Duration::from_secs(366 * 86_400);
/// Longest that an act waits for its line.
pub const PATIENCE: Duration = Duration::from_millis(500);
/// Refusals of one clock hour that are stored. Strangers can bring them about; the log has all of them.
pub const REFUSALS_PER_HOUR: u32 = 200;
/// Lines that may wait for the store.
const QUEUE_MAX: usize = 4_096;
/// Lines appended at a time.
const GROUP: usize = 256;
/// Pause between two offers to a store that does not take them.
const PAUSE: Duration = Duration::from_secs(1);
/// How often lines past their time are deleted.
const PURGE_EVERY: Duration = Duration::from_secs(3_600);

/// What was done. The words of each are on disk: never change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A consent was given, and its tokens.
    Granted,
    /// An authorisation of the v2 page was brought for the first time.
    Claimed,
    /// A meter that a box holds was claimed once more, by the v1 page.
    ClaimedAgain,
    /// The owner said no, at Enedis or here.
    RefusedByOwner,
    /// Enedis refused what the browser brought.
    RefusedByEnedis,
    /// What the browser brought is another's.
    RefusedAnothers,
    /// A box gave its tokens up.
    RevokedByBox,
    /// The operator ended a grant.
    RevokedByOperator,
    /// Its owner ended a grant, after the v2 page had shown whose meter it is.
    RevokedByOwner,
    /// A meter had too many grants.
    RevokedForRoom,
    /// The same browser brought the authorisation again, and its first box had never come back.
    RevokedStartedOver,
    /// Nobody was left to receive the tokens.
    RevokedUndelivered,
    /// A token of the PHP server was taken over when its box first brought it.
    TakenOver,
    /// Tokens of the PHP server were taken over.
    Imported,
    /// The operator said that the store is the right one.
    StoreAccepted,
    /// What is stored was sealed anew, under today's key.
    KeyChanged,
}

impl Act {
    /// What it is, and how or by whom.
    pub const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Granted => ("grant", "tokens given"),
            Self::Claimed => ("claim", "first"),
            Self::ClaimedAgain => ("claim", "again"),
            Self::RefusedByOwner => ("refusal", "by the owner"),
            Self::RefusedByEnedis => ("refusal", "by Enedis"),
            Self::RefusedAnothers => ("refusal", "it is another's"),
            Self::RevokedByBox => ("revocation", "by the box"),
            Self::RevokedByOperator => ("revocation", "by the operator"),
            Self::RevokedByOwner => ("revocation", "by the owner"),
            Self::RevokedForRoom => ("revocation", "for a newer one"),
            Self::RevokedStartedOver => ("revocation", "started over"),
            Self::RevokedUndelivered => ("revocation", "not delivered"),
            Self::TakenOver => ("grant", "taken over"),
            Self::Imported => ("operator", "import-php"),
            Self::StoreAccepted => ("operator", "tokens accept-store"),
            Self::KeyChanged => ("key change", "keys reseal"),
        }
    }

    const fn is_refusal(self) -> bool {
        matches!(self, Self::RefusedByOwner | Self::RefusedByEnedis | Self::RefusedAnothers)
    }
}

/// An act, and whom it is about.
#[derive(Clone, Debug)]
pub struct Note {
    act: Act,
    subject: Option<String>,
    client_id: Option<String>,
    network: Option<String>,
    meters: usize,
}

impl Note {
    /// Nothing is known of it yet.
    pub const fn of(act: Act) -> Self {
        Self { act, subject: None, client_id: None, network: None, meters: 0 }
    }

    /// The grant or the device, by its hash.
    #[must_use]
    pub fn about(self, hash: impl AsRef<[u8]>) -> Self {
        // As in the logs: enough to tell them apart, too little to look one up.
        Self { subject: Some(hex::encode(&hash.as_ref()[..4])), ..self }
    }

    /// The client, if it is known.
    #[must_use]
    pub fn client(self, client_id: Option<&str>) -> Self {
        Self { client_id: client_id.map(str::to_owned), ..self }
    }

    /// Where it came from.
    #[must_use]
    pub fn from(self, network: Network) -> Self {
        Self { network: Some(network.shown()), ..self }
    }

    /// How many meters, or grants, it is about.
    #[must_use]
    pub const fn count(mut self, meters: usize) -> Self {
        self.meters = meters;
        self
    }
}

/// A line as it is stored. The names that serde sees are on disk: never rename.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// Primary key, 16 bytes that sort by time: milliseconds, a number of the process's own, 4 random bytes.
    #[serde(rename = "_id", with = "serde_bytes")]
    pub key: Vec<u8>,
    /// When, in milliseconds since the epoch.
    pub at_ms: i64,
    /// [`Act::words`], the first.
    pub act: String,
    /// The second.
    pub how: String,
    /// The first 8 digits of the grant's hash, or of the device's with `FLOW=DEVICE`.
    pub subject: Option<String>,
    /// The client.
    pub client_id: Option<String>,
    /// The network, as it is shown to people.
    pub network: Option<String>,
    /// How many meters, or grants where an operator's command took several.
    pub meters: u32,
}

/// The key before those of every line from `at` on.
pub fn first_key(at: Timestamp) -> Vec<u8> {
    [at.as_millis(), 0].iter().flat_map(|part| part.to_be_bytes()).collect()
}

/// Durable storage of the audit record. Lines are appended and read; nothing changes one. From any thread, and from several
/// processes at a time.
#[async_trait]
pub trait AuditLog: Send + Sync + 'static {
    /// Appends lines, durable before the answer. What is stored already, by its key, stays as it is: a group whose end is
    /// not known is appended again.
    async fn append(&self, lines: Vec<AuditLine>) -> Result<(), StoreError>;

    /// The lines whose keys come after `after`, oldest first, a bounded number; none: that was all.
    async fn read(&self, after: Vec<u8>) -> Result<Vec<AuditLine>, StoreError>;

    /// Deletes lines from before `end`, a bounded number; answers how many. A backend that deletes by itself answers 0.
    async fn purge(&self, _end: Timestamp) -> Result<u64, StoreError> {
        Ok(0)
    }
}

/// A line, and whoever waits for it.
type Waiting = (AuditLine, oneshot::Sender<()>);

/// Writes the record. Its task ends when this is dropped and everything is written.
pub struct Audit {
    log: Arc<dyn AuditLog>,
    queue: mpsc::Sender<Waiting>,
    unwritten: Arc<AtomicUsize>,
    clock: SharedClock,
    state: Mutex<State>,
}

struct State {
    rng: StdRng,
    /// Lines of this process: those of one millisecond are in order.
    serial: u32,
    /// The current clock hour, and the refusals in it.
    hour: u64,
    refusals: u32,
}

impl Audit {
    /// Starts the task that writes to `log`. Must run in a runtime.
    pub fn start(log: Arc<dyn AuditLog>, clock: SharedClock, seed: [u8; 32]) -> Arc<Self> {
        let (queue, lines) = mpsc::channel(QUEUE_MAX);
        let unwritten = Arc::new(AtomicUsize::new(0));
        tokio::spawn(keep(Arc::clone(&log), lines, Arc::clone(&unwritten), SharedClock::clone(&clock)));
        let state = Mutex::new(State { rng: StdRng::from_seed(seed), serial: 0, hour: 0, refusals: 0 });
        Arc::new(Self { log, queue, unwritten, clock, state })
    }

    /// Records what was just made durable; waits a little for its line. Whether the line is durable.
    pub async fn note(&self, note: Note) -> bool {
        let Some(line) = self.line(note) else { return false };
        let (written, is_written) = oneshot::channel();
        self.unwritten.fetch_add(1, Ordering::SeqCst);
        if self.queue.try_send((line, written)).is_err() {
            self.unwritten.fetch_sub(1, Ordering::SeqCst);
            tracing::error!("the store does not take the audit record; this line stands in the log alone");
            return false;
        }
        tokio::time::timeout(PATIENCE, is_written).await.is_ok_and(|written| written.is_ok())
    }

    /// Logs, and makes the line that is to be stored, if it is.
    fn line(&self, Note { act, subject, client_id, network, meters }: Note) -> Option<AuditLine> {
        let ((what, how), now) = (act.words(), self.clock.wall());
        // A stranger may have chosen the client's name: what would break a line is written out.
        let client = client_id.as_deref().map(tracing::field::debug);
        let (id, from) = (subject.as_deref(), network.as_deref());
        tracing::info!(target: "audit", act = what, how, id, client, network = from, meters);
        let mut state = self.state();
        if act.is_refusal() && !state.takes_refusal(self.clock.now()) {
            return None;
        }
        state.serial = state.serial.wrapping_add(1);
        let (serial, drawn) = (state.serial.to_be_bytes(), state.rng.random::<[u8; 4]>());
        let key = [&now.as_millis().to_be_bytes()[..], &serial, &drawn].concat();
        let (act, how, meters) = (what.to_owned(), how.to_owned(), u32::try_from(meters).unwrap_or(u32::MAX));
        Some(AuditLine { key, at_ms: millis(now), act, how, subject, client_id, network, meters })
    }

    /// [`AuditLog::read`].
    pub async fn read(&self, after: Vec<u8>) -> Result<Vec<AuditLine>, StoreError> {
        self.log.read(after).await
    }

    /// Lines that the store has not taken yet.
    pub fn unwritten(&self) -> usize {
        self.unwritten.load(Ordering::SeqCst)
    }

    /// Waits until every line is written.
    pub async fn idle(&self) {
        while self.unwritten() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    const fn takes_refusal(&mut self, now: Timestamp) -> bool {
        if self.hour != now.hour() {
            (self.hour, self.refusals) = (now.hour(), 0);
        }
        self.refusals = self.refusals.saturating_add(1);
        self.refusals <= REFUSALS_PER_HOUR
    }
}

/// Appends what comes, and deletes what is past its time.
async fn keep(
    log: Arc<dyn AuditLog>,
    mut lines: mpsc::Receiver<Waiting>,
    unwritten: Arc<AtomicUsize>,
    clock: SharedClock,
) {
    let mut group = Vec::new();
    let mut purge = tokio::time::interval(PURGE_EVERY);
    loop {
        tokio::select! {
            count = lines.recv_many(&mut group, GROUP) => {
                if count == 0 {
                    return;
                }
                let (lines, waiting): (Vec<_>, Vec<_>) = group.drain(..).unzip();
                append(log.as_ref(), lines).await;
                unwritten.fetch_sub(count, Ordering::SeqCst);
                for written in waiting {
                    // Whoever has waited long enough has gone.
                    let _ = written.send(());
                }
            }
            _ = purge.tick() => {
                if let Some(ended) = clock.forgotten_before() {
                    while log.purge(ended - KEPT_FOR).await.is_ok_and(|gone| gone > 0) {}
                }
            }
        }
    }
}

/// Offers lines until they are taken.
async fn append(log: &dyn AuditLog, lines: Vec<AuditLine>) {
    let mut is_told = false;
    while let Err(error) = log.append(lines.clone()).await {
        if !std::mem::replace(&mut is_told, true) {
            tracing::warn!(%error, "the audit record could not be written; trying again");
        }
        tokio::time::sleep(PAUSE).await;
    }
}
