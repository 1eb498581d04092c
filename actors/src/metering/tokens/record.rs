//! The stored shape of a grant: one flat record that every backend maps column by column.

use std::sync::Arc;

use super::{MeterGrant, Origin};
use crate::base::keyring::{MeterHash, Sealed, TokenHash};
use crate::base::meter::METERS_MAX;
use crate::base::store::{Damaged, millis, timestamp};

/// A grant as columns. Times are milliseconds since the epoch; hashes have 16 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantRecord {
    /// Keyed hash of the refresh token; primary key.
    pub refresh: Vec<u8>,
    /// `client_id` it was issued to.
    pub client_id: Option<String>,
    /// The meters, sealed.
    pub meters: Vec<u8>,
    /// Keyed hashes of the meters, in the grant's order; each indexed.
    pub owners: Vec<Vec<u8>>,
    /// When the owner consented.
    pub consented_ms: i64,
    /// When the consent ends.
    pub expires_ms: i64,
    /// [`Origin`] as a number.
    pub origin: i32,
}

impl From<&MeterGrant> for GrantRecord {
    fn from(grant: &MeterGrant) -> Self {
        Self {
            refresh: grant.refresh.as_bytes().to_vec(),
            client_id: grant.client_id.as_deref().map(str::to_owned),
            meters: grant.meters.as_bytes().to_vec(),
            owners: grant.owners.iter().map(|owner| owner.as_bytes().to_vec()).collect(),
            consented_ms: millis(grant.consented_at),
            expires_ms: millis(grant.expires_at),
            origin: grant.origin as i32,
        }
    }
}

impl TryFrom<GrantRecord> for MeterGrant {
    type Error = Damaged;

    fn try_from(record: GrantRecord) -> Result<Self, Damaged> {
        let owners: Option<Vec<_>> = record.owners.iter().map(|owner| MeterHash::from_slice(owner)).collect();
        let owners = owners.filter(|owners| (1..=METERS_MAX).contains(&owners.len()));
        Ok(Self {
            refresh: TokenHash::from_slice(&record.refresh).ok_or(Damaged("refresh"))?,
            client_id: record.client_id.map(Arc::from),
            meters: Sealed::from_bytes(record.meters),
            owners: owners.ok_or(Damaged("owners"))?,
            consented_at: timestamp(record.consented_ms),
            expires_at: timestamp(record.expires_ms),
            origin: Origin::from_number(record.origin).ok_or(Damaged("origin"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;

    #[test]
    fn a_grant_reads_back_and_damage_is_named() {
        let grant = MeterGrant {
            refresh: TokenHash::from_slice(&[1; 16]).unwrap(),
            client_id: Some("box".into()),
            meters: Sealed::from_bytes(vec![9; 40]),
            owners: vec![MeterHash::from_slice(&[2; 16]).unwrap(), MeterHash::from_slice(&[1; 16]).unwrap()],
            consented_at: Timestamp::from_millis(5),
            expires_at: Timestamp::from_millis(7),
            origin: Origin::Import,
        };
        let record = GrantRecord::from(&grant);
        assert_eq!(MeterGrant::try_from(record.clone()), Ok(grant));
        for (damaged, part) in [
            (GrantRecord { refresh: vec![1; 15], ..record.clone() }, "refresh"),
            (GrantRecord { owners: vec![vec![1; 17]], ..record.clone() }, "owners"),
            (GrantRecord { owners: Vec::new(), ..record.clone() }, "owners"),
            (GrantRecord { origin: 0, ..record }, "origin"),
        ] {
            assert_eq!(MeterGrant::try_from(damaged), Err(Damaged(part)));
        }
    }
}
