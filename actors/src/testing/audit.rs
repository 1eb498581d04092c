//! What every audit log promises, one property a function; and what one means, as a map behind a lock. Each property panics
//! where it does not hold.
#![expect(clippy::missing_panics_doc, reason = "a property panics where it does not hold, and says so above")]

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Kept, NOW, Place, Samples, drain};
use crate::base::audit::{AuditLine, AuditLog, first_key};
use crate::base::clock::Timestamp;
use crate::base::store::{StoreError, millis};

type Log = Arc<dyn AuditLog>;
type Trial<P> = super::Trial<P, dyn AuditLog>;

/// Lines of one page of the model; few, so that a small test sees several.
const PAGE: usize = 10;

/// What an audit log means; clones are handles of the same one.
#[derive(Clone, Debug, Default)]
pub struct Model(Arc<Kept<BTreeMap<Vec<u8>, AuditLine>>>);

impl Model {
    /// Whether every question is an error.
    pub fn set_away(&self, is_away: bool) {
        self.0.set_away(is_away);
    }

    /// The words of every line, oldest first.
    pub fn words(&self) -> Vec<String> {
        let lines = self.0.lock().expect("it is not away");
        lines.values().map(|line| format!("{}: {}", line.act, line.how)).collect()
    }
}

#[async_trait]
impl AuditLog for Model {
    async fn append(&self, lines: Vec<AuditLine>) -> Result<(), StoreError> {
        let mut kept = self.0.lock()?;
        for line in lines {
            kept.entry(line.key.clone()).or_insert(line);
        }
        Ok(())
    }

    async fn read(&self, after: Vec<u8>) -> Result<Vec<AuditLine>, StoreError> {
        let kept = self.0.lock()?;
        let rest = kept.range((Bound::Excluded(after), Bound::Unbounded));
        Ok(rest.map(|(_, line)| line.clone()).take(PAGE).collect())
    }

    async fn purge(&self, end: Timestamp) -> Result<u64, StoreError> {
        let mut kept = self.0.lock()?;
        let before = kept.len();
        kept.retain(|_, line| line.at_ms >= millis(end));
        Ok((before - kept.len()) as u64)
    }
}

/// A line of some act at `at`; what may be unknown of it is or is not.
fn line(samples: &mut Samples, at: Timestamp, n: usize) -> AuditLine {
    let tail = samples.token();
    let key = [&at.as_millis().to_be_bytes()[..], &tail.as_bytes()[8..]].concat();
    let known = |text: &str| n.is_multiple_of(2).then(|| text.to_owned());
    AuditLine {
        key,
        at_ms: millis(at),
        act: "grant".to_owned(),
        how: "'; DROP TABLE line;-- 🏠".to_owned(),
        subject: known("0123abcd"),
        client_id: known("$where"),
        network: known("203.0.113.…"),
        meters: u32::try_from(n).expect("few"),
    }
}

/// Lines in the order of time, two in each second.
fn lines(samples: &mut Samples, count: usize) -> Vec<AuditLine> {
    let at = |n: usize| NOW + Duration::from_secs(n as u64 / 2);
    let mut lines: Vec<_> = (0..count).map(|n| line(samples, at(n), n)).collect();
    lines.sort_by(|a, b| a.key.cmp(&b.key));
    lines
}

async fn append(log: &Log, lines: &[AuditLine]) {
    log.append(lines.to_vec()).await.expect("the log takes lines");
}

/// All lines from a time on, with the number of pages that had some.
async fn read_from(log: &Log, since: Timestamp) -> (Vec<AuditLine>, usize) {
    let (mut all, mut pages) = (Vec::<AuditLine>::new(), 0);
    loop {
        let after = all.last().map_or_else(|| first_key(since), |line| line.key.clone());
        let page = log.read(after).await.expect("the log can be read");
        if page.is_empty() {
            return (all, pages);
        }
        pages += 1;
        all.extend(page);
    }
}

/// Every line comes back as it was appended, in the order of time whatever the order of arrival, from any time on.
pub async fn returns_every_line_in_order<P: Place<dyn AuditLog>>((_, log, mut samples): Trial<P>) {
    append(&log, &[]).await;
    let lines = lines(&mut samples, 1_500);
    let (late, early) = lines.split_at(800);
    append(&log, early).await;
    append(&log, late).await;
    let (read, pages) = read_from(&log, Timestamp::EPOCH).await;
    assert_eq!(read, lines);
    assert!(pages > 1, "a page is bounded");
    assert_eq!(read_from(&log, NOW + Duration::from_secs(400)).await.0, lines[800..]);
}

/// A line that is appended again is there once, as it was the first time; those beside it are taken.
pub async fn keeps_a_line_as_it_was_appended<P: Place<dyn AuditLog>>((_, log, mut samples): Trial<P>) {
    let lines = lines(&mut samples, 6);
    append(&log, &lines[..4]).await;
    let other = AuditLine { how: "changed".to_owned(), ..lines[1].clone() };
    append(&log, &[lines[0].clone(), other, lines[4].clone(), lines[5].clone()]).await;
    assert_eq!(read_from(&log, NOW).await.0, lines);
}

/// What was acknowledged is there for every handle, and when the log is opened again.
pub async fn keeps_what_it_acknowledged<P: Place<dyn AuditLog>>((place, log, mut samples): Trial<P>) {
    let other = place.open().await;
    let lines = lines(&mut samples, 20);
    append(&log, &lines[..10]).await;
    append(&other, &lines[10..]).await;
    assert_eq!(read_from(&log, NOW).await.0, lines);
    drop((log, other));
    assert_eq!(read_from(&place.open().await, NOW).await.0, lines);
}

/// A purge deletes what is from before a time and nothing else; a log that deletes by itself may leave it all.
pub async fn purges_only_what_is_old<P: Place<dyn AuditLog>>((_, log, mut samples): Trial<P>) {
    let lines = lines(&mut samples, 40);
    append(&log, &lines).await;
    let end = NOW + Duration::from_secs(10);
    let gone = drain(async || log.purge(end).await).await;
    assert!([0, 20].contains(&gone), "{gone}");
    assert_eq!(read_from(&log, end).await.0, lines[20..]);
    assert_eq!(read_from(&log, Timestamp::EPOCH).await.0.len() as u64, 40 - gone);
}
