//! Records as documents: serde names the fields, and what a record leaves out is left out of its document.

use actors::base::clock::Timestamp;
use actors::base::keyring::DeviceHash;
use actors::base::store::{Damaged, millis};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, RawDocumentBuf, doc};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The fields that `record` has, and the names of those that it leaves out.
pub(super) fn fields(record: &impl Serialize) -> (Document, Document) {
    // A record is a struct of numbers, text and bytes, and BSON has a form for each.
    let all = mongodb::bson::serialize_to_document(record).expect("a record has the form of a document");
    let (present, absent): (Document, Document) =
        all.into_iter().partition(|(_, value)| *value != Bson::Null);
    (present, absent.into_iter().map(|(name, _)| (name, Bson::String(String::new()))).collect())
}

pub(super) fn record<R: DeserializeOwned>(document: &RawDocumentBuf) -> Result<R, Damaged> {
    mongodb::bson::deserialize_from_slice(document.as_bytes()).map_err(|_| Damaged("document"))
}

pub(super) fn key(document: &RawDocumentBuf) -> Option<&[u8]> {
    document.get_binary("_id").ok().map(|id| id.bytes)
}

/// The key behind which the next page begins, unless what was found is less than a `page`.
pub(super) fn next(found: &[RawDocumentBuf], page: u32) -> Option<&[u8]> {
    found.last().filter(|_| found.len() == page as usize).and_then(key)
}

/// The session that a document is about.
pub(super) fn device(document: &RawDocumentBuf) -> Option<DeviceHash> {
    key(document).and_then(DeviceHash::from_slice)
}

pub(super) fn binary(bytes: impl AsRef<[u8]>) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.as_ref().to_vec() }
}

/// A time as a date, by which the server can delete.
pub(super) fn date(t: Timestamp) -> DateTime {
    DateTime::from_millis(millis(t))
}

/// The condition on a date that has not come at `now`.
pub(super) fn live(now: Timestamp) -> Document {
    doc! { "$gt": date(now) }
}
