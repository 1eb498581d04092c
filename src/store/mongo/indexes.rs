//! The indexes of every collection. Their names are on disk: an index that is changed needs another name.

use std::time::Duration;

use actors::base::audit::KEPT_FOR;
use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;

/// Answers what changed by itself, without a look at any document.
pub(super) const BY_CHANGED: &str = "changed";
/// On the ends of grants.
pub(super) const BY_END: &str = "ended";
/// On access tokens.
pub(super) const BY_ACCESS: &str = "access";
/// On meters, newest consent first.
pub(super) const BY_OWNER: &str = "owners";
/// On the networks of grants that Enedis has not answered for.
pub(super) const UNPROVEN: &str = "unproven";
/// On the time an entry was fetched.
pub(super) const BY_FETCHED: &str = "fetched";

pub(super) fn sessions() -> [IndexModel; 4] {
    let updated = doc! { "changed": { "$exists": true } };
    let updated = IndexOptions::builder().partial_filter_expression(updated).build();
    [
        index("user", doc! { "user": 1 }, IndexOptions::builder().unique(true).build()),
        index("state", doc! { "state": 1 }, IndexOptions::builder().sparse(true).build()),
        index("purge", doc! { "purge_at": 1 }, deleted_after(Duration::ZERO)),
        index(BY_CHANGED, doc! { "changed": 1, "rev": 1, "_id": 1 }, updated),
    ]
}

pub(super) fn audit() -> [IndexModel; 1] {
    [index("year", doc! { "at": 1 }, deleted_after(KEPT_FOR))]
}

/// Of claims, and of grants that have ended.
pub(super) fn until() -> [IndexModel; 1] {
    [index("until", doc! { "until": 1 }, deleted_after(Duration::ZERO))]
}

/// By its index of this name the server deleted grants by its own clock.
pub(super) const GRANTS_BEFORE: &str = "expires";

pub(super) fn grants() -> [IndexModel; 4] {
    let unproven = doc! { "unproven": true };
    let unproven = IndexOptions::builder().partial_filter_expression(unproven).build();
    // Sparse: grants without an access token do not clash.
    let access = IndexOptions::builder().unique(true).sparse(true).build();
    [
        index(BY_END, doc! { "expires_at": 1 }, IndexOptions::default()),
        index(BY_OWNER, doc! { "owners": 1, "consented_ms": -1 }, IndexOptions::default()),
        index(BY_ACCESS, doc! { "access.token": 1 }, access),
        index(UNPROVEN, doc! { "network": 1 }, unproven),
    ]
}

pub(super) fn meters() -> [IndexModel; 3] {
    [
        index("expires", doc! { "expires_at": 1 }, deleted_after(Duration::ZERO)),
        index("owner", doc! { "owner": 1 }, IndexOptions::default()),
        index(BY_FETCHED, doc! { "fetched_ms": 1 }, IndexOptions::default()),
    ]
}

pub(super) fn instances(life: Duration) -> [IndexModel; 1] {
    [index("seen", doc! { "seen": 1 }, deleted_after(life))]
}

pub(super) fn polls(life: Duration) -> [IndexModel; 1] {
    [index("life", doc! { "at": 1 }, deleted_after(life))]
}

fn index(name: &str, keys: Document, mut options: IndexOptions) -> IndexModel {
    options.name = Some(name.to_owned());
    IndexModel::builder().keys(keys).options(options).build()
}

/// The server deletes a document so long after the date in it.
fn deleted_after(life: Duration) -> IndexOptions {
    IndexOptions::builder().expire_after(life).build()
}
