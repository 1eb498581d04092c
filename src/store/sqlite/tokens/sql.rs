//! What is in the file, and every statement on it.

use std::convert::identity;

use actors::base::clock::Timestamp;
use actors::base::keyring::TokenHash;
use actors::base::network::Network;
use actors::base::sealed::{RowMark, Sealed};
use actors::base::store::{Damaged, Written, millis, timestamp};
use actors::metering::tokens::installation::Installation;
use actors::metering::tokens::places::Places;
use actors::metering::tokens::record::GrantRecord;
use actors::metering::tokens::{ACCESS_MAX, Access, CONSENT_MAX, Claim, MeterGrant};
use rusqlite::{Connection, OptionalExtension, params};

use crate::store::sqlite::columns::{Columns, Sql, columns};
use crate::store::sqlite::schema::Schema;

/// Grants deleted by one purge, with their access tokens: a change that waits behind it waits some milliseconds.
const PURGE_GRANTS: u32 = 200;

pub(in crate::store::sqlite) const SCHEMA: Schema = Schema {
    // "DfPt"
    application_id: 0x4466_5074,
    steps: &[
        // Times are milliseconds since the epoch, hashes have 16 bytes, meters are sealed. `owners` is one hash after
        // the other; `grant_owner` finds the grants of one of them, the newest consent last.
        "CREATE TABLE meter_grant (
            refresh      BLOB    NOT NULL PRIMARY KEY,
            client_id    TEXT,
            meters       BLOB    NOT NULL,
            owners       BLOB    NOT NULL,
            consented_ms INTEGER NOT NULL,
            expires_ms   INTEGER NOT NULL,
            origin       INTEGER NOT NULL
         ) STRICT, WITHOUT ROWID;
         CREATE INDEX meter_grant_expires ON meter_grant (expires_ms);
         CREATE TABLE grant_owner (
            owner        BLOB    NOT NULL,
            consented_ms INTEGER NOT NULL,
            refresh      BLOB    NOT NULL,
            PRIMARY KEY (owner, consented_ms, refresh)
         ) STRICT, WITHOUT ROWID;
         CREATE INDEX grant_owner_refresh ON grant_owner (refresh);
         CREATE TABLE access_token (
            token        BLOB    NOT NULL PRIMARY KEY,
            refresh      BLOB    NOT NULL,
            issued_ms    INTEGER NOT NULL,
            expires_ms   INTEGER NOT NULL
         ) STRICT, WITHOUT ROWID;
         CREATE INDEX access_token_refresh ON access_token (refresh, issued_ms);
         CREATE INDEX access_token_expires ON access_token (expires_ms);",
        // `network` is the browser's, in 64 bits. A claim says which grant an authorisation of the v2 page belongs to.
        "ALTER TABLE meter_grant ADD COLUMN network INTEGER;
         ALTER TABLE meter_grant ADD COLUMN unproven INTEGER NOT NULL DEFAULT 0;
         ALTER TABLE meter_grant ADD COLUMN used_ms INTEGER;
         CREATE INDEX meter_grant_unproven ON meter_grant (network, expires_ms) WHERE unproven = 1;
         CREATE TABLE claim (
            authorisation BLOB    NOT NULL PRIMARY KEY,
            refresh       BLOB    NOT NULL,
            browser       BLOB    NOT NULL,
            until_ms      INTEGER NOT NULL
         ) STRICT, WITHOUT ROWID;
         CREATE INDEX claim_until ON claim (until_ms);",
        // Says that a row was written here.
        "ALTER TABLE access_token ADD COLUMN mark BLOB;",
        // At most one row.
        "CREATE TABLE installation (
            id          BLOB    NOT NULL PRIMARY KEY,
            made_ms     INTEGER NOT NULL,
            accepted_ms INTEGER,
            root        BLOB    NOT NULL
         ) STRICT, WITHOUT ROWID;",
        // Grants that were revoked, or whose time was over.
        "CREATE TABLE ended_grant (
            refresh  BLOB    NOT NULL PRIMARY KEY,
            until_ms INTEGER NOT NULL
         ) STRICT, WITHOUT ROWID;
         CREATE INDEX ended_grant_until ON ended_grant (until_ms);",
        // From where it was used.
        "ALTER TABLE meter_grant ADD COLUMN places BLOB;",
        // Nothing is looked for by it any more.
        "DROP INDEX access_token_expires;",
    ],
    synchronous: "FULL",
    cache_kib: 8_192,
};

columns!(GrantRecord as "meter_grant":
    refresh, client_id, meters, owners, consented_ms, expires_at = "expires_ms", origin, network, unproven, used_ms,
    places,
);

// A CROSS JOIN is done in the order it is written in, and a sign before a column keeps its index out of the plan.
pub(super) static BY_REFRESH: Sql =
    Sql::new(|| GrantRecord::select("meter_grant t WHERE t.refresh = ?1 AND +t.expires_ms > ?2"));
pub(super) const BY_TOKEN: &str =
    "SELECT refresh, issued_ms, expires_ms, mark FROM access_token WHERE token = ?1 AND +expires_ms > ?2";
pub(super) static OF_METER: Sql = Sql::new(|| {
    GrantRecord::select(
        "grant_owner o CROSS JOIN meter_grant t ON t.refresh = o.refresh \
         WHERE o.owner = ?1 AND +t.expires_ms > ?2 ORDER BY o.consented_ms DESC LIMIT ?3",
    )
});
pub(super) static PAGE_AFTER: Sql = Sql::new(|| {
    GrantRecord::select(
        "meter_grant t WHERE t.refresh > ?1 AND +t.expires_ms > ?2 ORDER BY t.refresh LIMIT ?3",
    )
});
pub(super) const IS_TAKEN: &str = "SELECT EXISTS (SELECT 1 FROM meter_grant WHERE refresh = ?1) \
    OR EXISTS (SELECT 1 FROM access_token WHERE token = ?2)";
static INSERT_GRANT: Sql = Sql::new(|| GrantRecord::insert(""));
// A meter may be named twice.
const INSERT_OWNER: &str =
    "INSERT INTO grant_owner (owner, consented_ms, refresh) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
const INSERT_ACCESS: &str = "INSERT INTO access_token (token, refresh, issued_ms, expires_ms, mark) \
    VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING";
/// All but the newest; the one just issued stays, whatever the clocks of two processes say.
pub(super) const TRIM_ACCESS: &str = "DELETE FROM access_token WHERE token IN (SELECT token FROM access_token \
    WHERE refresh = ?1 AND token <> ?2 ORDER BY issued_ms DESC LIMIT -1 OFFSET ?3)";
pub(super) const DELETE_GRANT: &str = "DELETE FROM meter_grant WHERE refresh = ?1";
pub(super) const DELETE_OWNERS: &str = "DELETE FROM grant_owner WHERE refresh = ?1";
pub(super) const DELETE_ACCESS: &str = "DELETE FROM access_token WHERE refresh = ?1";
pub(super) const EXPIRED_GRANTS: &str =
    "SELECT refresh FROM meter_grant WHERE expires_ms <= ?1 ORDER BY expires_ms LIMIT ?2";

const NOTE_ENDED: &str = "INSERT INTO ended_grant (refresh, until_ms) \
    SELECT refresh, max(consented_ms + ?2, expires_ms) FROM meter_grant WHERE refresh = ?1 ON CONFLICT DO NOTHING";
pub(super) const HAS_ENDED: &str = "SELECT EXISTS (SELECT 1 FROM meter_grant WHERE refresh = ?1) \
    OR EXISTS (SELECT 1 FROM ended_grant WHERE refresh = ?1)";
const HAS_HELD: &str = "SELECT EXISTS (SELECT 1 FROM meter_grant) OR EXISTS (SELECT 1 FROM ended_grant)";
pub(super) const PURGE_ENDED: &str = "DELETE FROM ended_grant WHERE until_ms <= ?1";
const USE_GRANT: &str = "UPDATE meter_grant SET used_ms = ?2, places = ?3 WHERE refresh = ?1";
const PROVE_GRANT: &str =
    "UPDATE meter_grant SET unproven = 0, expires_ms = ?2 WHERE refresh = ?1 AND +expires_ms > ?3";
pub(super) const COUNT_UNPROVEN: &str =
    "SELECT count(*) FROM meter_grant WHERE unproven = 1 AND expires_ms > ?1";
pub(super) const COUNT_UNPROVEN_OF: &str =
    "SELECT count(*) FROM meter_grant WHERE unproven = 1 AND expires_ms > ?1 AND network = ?2";
const RESEAL: &str = "UPDATE meter_grant SET meters = ?3 WHERE refresh = ?1 AND meters = ?2";
const INSTALLATION: &str = "SELECT id, made_ms, accepted_ms, root FROM installation";
const INSTALL: &str = "INSERT INTO installation (id, made_ms, accepted_ms, root) \
    SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS (SELECT 1 FROM installation)";
const REINSTALL: &str =
    "UPDATE installation SET id = ?1, made_ms = ?2, accepted_ms = ?3, root = ?4 WHERE root = ?5";
pub(super) const CLAIM: &str = "INSERT INTO claim (authorisation, refresh, browser, until_ms) \
    VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET refresh = ?2, browser = ?3, until_ms = ?4 WHERE refresh = ?5";
pub(super) const CLAIMED: &str = "SELECT refresh, browser, until_ms FROM claim WHERE authorisation = ?1";
pub(super) const PURGE_CLAIMS: &str = "DELETE FROM claim WHERE until_ms <= ?1";

/// Stores a grant and its first access token, unless either is stored already.
pub(super) fn add(db: &Connection, grant: &MeterGrant, access: Option<Access>) -> rusqlite::Result<Written> {
    let first = access.as_ref().map(|access| access.token.as_bytes());
    let stored: bool =
        db.prepare_cached(IS_TAKEN)?.query_row(params![grant.refresh.as_bytes(), first], |row| row.get(0))?;
    if stored {
        return Ok(Written::Conflict);
    }
    let record = GrantRecord::of(grant, identity);
    record.execute(&mut *db.prepare_cached(&INSERT_GRANT)?)?;
    let mut insert_owner = db.prepare_cached(INSERT_OWNER)?;
    for owner in &grant.owners {
        insert_owner.execute(params![owner.as_bytes(), record.consented_ms, record.refresh])?;
    }
    if let Some(access) = access {
        insert_access(db, access)?;
    }
    Ok(Written::Applied)
}

/// Stores one more access token of a live grant.
pub(super) fn issue(db: &Connection, access: Access, places: Places) -> rusqlite::Result<Written> {
    let grant = GrantRecord::find_one(db, &BY_REFRESH, access.refresh.as_bytes(), access.issued_at)?;
    if grant.is_none() || !insert_access(db, access)? {
        return Ok(Written::Conflict);
    }
    let (refresh, token) = (access.refresh.as_bytes(), access.token.as_bytes());
    db.prepare_cached(TRIM_ACCESS)?.execute(params![refresh, token, ACCESS_MAX - 1])?;
    db.prepare_cached(USE_GRANT)?.execute(params![refresh, millis(access.issued_at), places.to_bytes()])?;
    Ok(Written::Applied)
}

/// `false` if the token is stored already.
fn insert_access(db: &Connection, access: Access) -> rusqlite::Result<bool> {
    let Access { token, refresh, issued_at, expires_at, mark } = access;
    let mut insert = db.prepare_cached(INSERT_ACCESS)?;
    let rows = insert.execute(params![
        token.as_bytes(),
        refresh.as_bytes(),
        millis(issued_at),
        millis(expires_at),
        mark.as_ref().map(RowMark::as_bytes),
    ])?;
    Ok(rows == 1)
}

/// A live access token with its live grant.
pub(super) fn find_access(
    db: &Connection,
    token: TokenHash,
    now: Timestamp,
) -> rusqlite::Result<Option<(GrantRecord, Access)>> {
    let read = |row: &rusqlite::Row<'_>| {
        let (refresh, mark): ([u8; 16], Option<Vec<u8>>) = (row.get(0)?, row.get(3)?);
        let [issued_at, expires_at] = [timestamp(row.get(1)?), timestamp(row.get(2)?)];
        let mark = mark.as_deref().and_then(RowMark::from_slice);
        Ok(Access { token, refresh: refresh.into(), issued_at, expires_at, mark })
    };
    let mut by_token = db.prepare_cached(BY_TOKEN)?;
    let Some(access) = by_token.query_row(params![token.as_bytes(), millis(now)], read).optional()? else {
        return Ok(None);
    };
    let grant = GrantRecord::find_one(db, &BY_REFRESH, access.refresh.as_bytes(), now)?;
    Ok(grant.map(|grant| (grant, access)))
}

/// Stores a claim, unless there is another; the one that stands.
pub(super) fn claim(db: &Connection, claim: Claim, instead_of: Option<TokenHash>) -> rusqlite::Result<Claim> {
    let Claim { authorisation, refresh, browser, until } = claim;
    let old = instead_of.map(|refresh| *refresh.as_bytes());
    db.prepare_cached(CLAIM)?.execute(params![
        authorisation.as_bytes(),
        refresh.as_bytes(),
        browser.as_bytes(),
        millis(until),
        old
    ])?;
    db.prepare_cached(CLAIMED)?.query_row([authorisation.as_bytes()], |row| {
        let (refresh, browser): ([u8; 16], [u8; 16]) = (row.get(0)?, row.get(1)?);
        Ok(Claim {
            authorisation,
            refresh: refresh.into(),
            browser: browser.into(),
            until: timestamp(row.get(2)?),
        })
    })
}

/// Enedis has answered for a grant.
pub(super) fn prove(
    db: &Connection,
    refresh: TokenHash,
    now: Timestamp,
    expires_at: Timestamp,
) -> rusqlite::Result<()> {
    let prove = params![refresh.as_bytes(), millis(expires_at), millis(now)];
    db.prepare_cached(PROVE_GRANT)?.execute(prove).map(drop)
}

/// Seals the meters of a grant anew, if they are still sealed as `before`.
pub(super) fn reseal(
    db: &Connection,
    refresh: TokenHash,
    before: &Sealed,
    meters: &Sealed,
) -> rusqlite::Result<Written> {
    let reseal = params![refresh.as_bytes(), before.as_bytes(), meters.as_bytes()];
    db.execute(RESEAL, reseal).map(written)
}

pub(in crate::store::sqlite) fn installation(db: &Connection) -> rusqlite::Result<Option<Installation>> {
    let read = |row: &rusqlite::Row<'_>| {
        let accepted: Option<i64> = row.get(2)?;
        Ok(Installation {
            id: row.get(0)?,
            made_at: timestamp(row.get(1)?),
            accepted_at: accepted.map(timestamp),
            root: Sealed::from_bytes(row.get(3)?),
        })
    };
    db.query_row(INSTALLATION, [], read).optional()
}

/// Stores the record, if the stored one still has the root `before`.
pub(super) fn put_installation(
    db: &Connection,
    before: Option<&Sealed>,
    record: &Installation,
) -> rusqlite::Result<Written> {
    let Installation { id, made_at, accepted_at, root } = record;
    let (made_ms, accepted_ms, root) = (millis(*made_at), accepted_at.map(millis), root.as_bytes());
    match before {
        None => db.execute(INSTALL, params![id, made_ms, accepted_ms, root]),
        Some(before) => db.execute(REINSTALL, params![id, made_ms, accepted_ms, root, before.as_bytes()]),
    }
    .map(written)
}

const fn written(rows: usize) -> Written {
    if rows == 1 { Written::Applied } else { Written::Conflict }
}

/// Unproven live grants, of one network or of all.
pub(super) fn count_unproven(
    db: &Connection,
    network: Option<Network>,
    now: Timestamp,
) -> rusqlite::Result<u64> {
    let count = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0).map(i64::unsigned_abs);
    match network {
        Some(network) => {
            db.prepare_cached(COUNT_UNPROVEN_OF)?.query_row(params![millis(now), network.number()], count)
        }
        None => db.prepare_cached(COUNT_UNPROVEN)?.query_row(params![millis(now)], count),
    }
}

/// Deletes a grant with all that belongs to it; whether there was one.
pub(super) fn revoke(db: &Connection, refresh: TokenHash) -> rusqlite::Result<bool> {
    delete(db, refresh.as_bytes()).map(|(grants, _)| grants == 1)
}

/// Deletes what has expired, a bounded number; answers how much.
pub(super) fn purge(db: &Connection, now: Timestamp) -> rusqlite::Result<u64> {
    let mut gone = 0;
    let expired = db
        .prepare_cached(EXPIRED_GRANTS)?
        .query_map(params![millis(now), PURGE_GRANTS], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<Vec<u8>>>>()?;
    for refresh in expired {
        let (grants, access) = delete(db, &refresh)?;
        gone += grants + access;
    }
    gone += db.prepare_cached(PURGE_CLAIMS)?.execute(params![millis(now)])?;
    gone += db.prepare_cached(PURGE_ENDED)?.execute(params![millis(now)])?;
    Ok(gone as u64)
}

/// Whether a grant that is not live has ended here.
pub(super) fn has_ended(db: &Connection, refresh: TokenHash) -> rusqlite::Result<bool> {
    db.prepare_cached(HAS_ENDED)?.query_row([refresh.as_bytes()], |row| row.get(0))
}

/// Whether any grant is or was here.
pub(super) fn has_held_grants(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row(HAS_HELD, [], |row| row.get(0))
}

/// Deletes a grant, and notes it; how many grants and how many access tokens went.
fn delete(db: &Connection, refresh: &[u8]) -> rusqlite::Result<(usize, usize)> {
    let life = i64::try_from(CONSENT_MAX.as_millis()).unwrap_or(i64::MAX);
    db.prepare_cached(NOTE_ENDED)?.execute(params![refresh, life])?;
    let access = db.prepare_cached(DELETE_ACCESS)?.execute([refresh])?;
    db.prepare_cached(DELETE_OWNERS)?.execute([refresh])?;
    let grants = db.prepare_cached(DELETE_GRANT)?.execute([refresh])?;
    Ok((grants, access))
}

pub(super) fn grant(record: GrantRecord) -> Result<MeterGrant, Damaged> {
    record.grant(identity)
}
