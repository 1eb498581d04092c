//! Which version of the program the database was written by, so that an older one leaves it alone.

use mongodb::Database;
use mongodb::bson::{Document, doc};
use mongodb::options::ReturnDocument;

use super::errors::refused;
use crate::store::OpenError;

/// The collection, and its document: `{ _id: "layout", version }`.
const COLLECTION: &str = "installation";
const ID: &str = "layout";
/// What this program writes. The next number is due when it writes what this one would misread.
pub(super) const KNOWN: u32 = 1;

/// Makes the database one of this layout; refuses one of a newer layout, which stays as it is.
pub(super) async fn take(database: &Database) -> Result<(), OpenError> {
    let layout = database.collection::<Document>(COLLECTION);
    let raise = doc! { "$max": { "version": i64::from(KNOWN) } };
    let raise = layout.find_one_and_update(doc! { "_id": ID }, raise).upsert(true);
    let found = raise.return_document(ReturnDocument::After).await.map_err(|error| refused(&error))?;
    let found = found.map_or(Ok(0), |layout| layout.get_i64("version"));
    let found = found.ok().and_then(|found| found.try_into().ok()).unwrap_or(u32::MAX);
    if found > KNOWN {
        let path = format!("the database {} of MongoDB", database.name()).into();
        return Err(OpenError::Newer { path, found, known: KNOWN });
    }
    Ok(())
}
