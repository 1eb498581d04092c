//! Where instances tell each other which sessions were polled, so that a device that asks several of them in turn is
//! paced as if it asked one.
//!
//! Each instance posts one small document every time it is asked to share, with the sessions polled on time since the
//! last: a post costs the same whether ten devices polled or ten thousand. While no other instance posts, only a sign of
//! life is posted, now and then. Posts are forgotten after some seconds; nothing here is journaled.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use actors::base::clock::Timestamp;
use actors::base::keyring::DeviceHash;
use actors::device_flow::store::Polled;
use futures_util::TryStreamExt;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::Result;
use mongodb::options::{Acknowledgment, WriteConcern};
use mongodb::{Collection, Database};

use super::documents::binary;
use super::indexes;

const COLLECTION: &str = "poll_board";
/// How long a post is of use; older ones are not read, and the server deletes them in its own time.
const LIFE: Duration = Duration::from_secs(10);
/// How far back a question reaches.
const SPAN: Duration = Duration::from_secs(5);
/// Signs of life of an instance that is alone.
const SIGN_EVERY: Duration = Duration::from_secs(2);
/// An instance that has not posted for so long is gone.
const ALONE_AFTER: Duration = Duration::from_secs(8);
/// Bytes of one poll: the session's hash and the instant.
const ENTRY: usize = 16 + 8;
/// Polls of one post at most, well below the largest document (16 MB).
const POST_MAX: usize = 200_000;

/// One instance's side of it.
pub(super) struct SharedPolls {
    posts: Collection<Document>,
    me: ObjectId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Posts of the last seconds that were read.
    read: HashSet<ObjectId>,
    posted: Option<Instant>,
    company: Option<Instant>,
}

impl SharedPolls {
    pub(super) fn new(database: &Database) -> Self {
        Self { posts: database.collection(COLLECTION), me: ObjectId::new(), state: Mutex::default() }
    }

    pub(super) async fn prepare(&self) -> Result<()> {
        self.posts.create_indexes(indexes::polls(LIFE)).await.map(drop)
    }

    /// Posts `polled`, if anybody is there to read it, and reads what others posted since the last time.
    pub(super) async fn share(&self, mut polled: Vec<Polled>) -> Result<Vec<Polled>> {
        let posts = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let company = state.company.is_some_and(|seen| seen.elapsed() < ALONE_AFTER);
            let silent = state.posted.is_none_or(|posted| posted.elapsed() >= SIGN_EVERY);
            if !company {
                polled.clear();
            }
            let posts = silent || !polled.is_empty();
            if posts {
                state.posted = Some(Instant::now());
            }
            posts
        };
        if posts {
            polled.truncate(POST_MAX);
            // The server's clock dates the post, and its upsert is the one way to say so in an insert.
            let filter = doc! { "_id": ObjectId::new() };
            let post = doc! {
                "$set": { "by": self.me, "polls": binary(encode(&polled)) },
                "$currentDate": { "at": true },
            };
            let unjournaled = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
            self.posts.update_one(filter, post).upsert(true).write_concern(unjournaled).await?;
        }
        self.read().await
    }

    /// Posts of others that were not read before. By the server's clock, so that nobody else's matters; the span is
    /// wider than the pause between two questions, so that a post that shows late is not missed.
    async fn read(&self) -> Result<Vec<Polled>> {
        let span = i64::try_from(SPAN.as_millis()).unwrap_or(i64::MAX);
        let lately = doc! { "$gt": ["$at", { "$subtract": ["$$NOW", span] }] };
        let filter = doc! { "by": { "$ne": self.me }, "$expr": lately };
        let found: Vec<Document> = self.posts.find(filter).await?.try_collect().await?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let id = |post: &Document| post.get_object_id("_id").ok();
        let fresh: Vec<_> =
            found.iter().filter(|post| id(post).is_some_and(|id| !state.read.contains(&id))).collect();
        if !fresh.is_empty() {
            state.company = Some(Instant::now());
        }
        let polled = fresh.iter().filter_map(|post| post.get("polls")).flat_map(decode).collect();
        // What is outside the span will not be found again.
        state.read = found.iter().filter_map(id).collect();
        Ok(polled)
    }
}

fn encode(polled: &[Polled]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(polled.len() * ENTRY);
    for poll in polled {
        bytes.extend_from_slice(poll.device.as_bytes());
        bytes.extend_from_slice(&poll.at.as_millis().to_le_bytes());
    }
    bytes
}

fn decode(polls: &Bson) -> Vec<Polled> {
    let Bson::Binary(polls) = polls else { return Vec::new() };
    let read = |entry: &[u8]| {
        let (device, at) = entry.split_at_checked(16)?;
        let at = Timestamp::from_millis(u64::from_le_bytes(at.try_into().ok()?));
        Some(Polled { device: DeviceHash::from_slice(device)?, at })
    };
    polls.bytes.chunks(ENTRY).filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posts_read_back() {
        let polled: Vec<_> = (0..3)
            .map(|n| Polled {
                device: DeviceHash::from_slice(&[n; 16]).expect("sixteen bytes"),
                at: Timestamp::from_millis(1_700_000_000_000 + u64::from(n)),
            })
            .collect();
        let bytes = encode(&polled);
        let post = |bytes: &[u8]| Bson::Binary(binary(bytes));
        assert_eq!(decode(&post(&bytes)), polled);
        // A post that was cut short gives what is whole.
        assert_eq!(decode(&post(&bytes[..ENTRY * 2 + 5])), polled[..2]);
        assert_eq!(decode(&Bson::Null), []);
    }
}
