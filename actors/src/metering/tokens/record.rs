//! The stored shape of a grant: one flat record. MongoDB reads and writes it through serde; SQLite names its columns in
//! one list.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::places::Places;
use super::{MeterGrant, Origin};
use crate::base::keyring::{MeterHash, TokenHash};
use crate::base::meter::METERS_MAX;
use crate::base::network::Network;
use crate::base::sealed::Sealed;
use crate::base::store::{Damaged, millis, timestamp};

/// Bytes of a hash.
const HASH: usize = 16;

/// A grant as fields. Times are milliseconds since the epoch; hashes have 16 bytes. `Date` is what the backend keeps a
/// date in by which it can delete. The names that serde sees are on disk: never rename.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRecord<Date = i64> {
    /// Keyed hash of the refresh token; primary key.
    #[serde(rename = "_id", with = "serde_bytes")]
    pub refresh: Vec<u8>,
    /// `client_id` it was issued to.
    pub client_id: Option<String>,
    /// The meters, sealed.
    #[serde(with = "serde_bytes")]
    pub meters: Vec<u8>,
    /// Keyed hashes of the meters, one after the other in the grant's order; each indexed.
    #[serde(with = "hashes")]
    pub owners: Vec<u8>,
    /// When the owner consented.
    pub consented_ms: i64,
    /// When the consent ends.
    pub expires_at: Date,
    /// [`Origin`] as a number.
    pub origin: i32,
    /// The browser's network, as [`Network::number`].
    #[serde(default)]
    pub network: Option<i64>,
    /// Enedis has not answered for its meters yet.
    #[serde(default)]
    pub unproven: bool,
    /// When its box last asked for an access token.
    #[serde(default)]
    pub used_ms: Option<i64>,
    /// From where, as [`Places::to_bytes`].
    #[serde(default, with = "serde_bytes")]
    pub places: Option<Vec<u8>>,
}

impl<Date> GrantRecord<Date> {
    /// The record of a grant; `date` makes a date of milliseconds.
    pub fn of(grant: &MeterGrant, date: impl FnOnce(i64) -> Date) -> Self {
        Self {
            refresh: grant.refresh.as_bytes().to_vec(),
            client_id: grant.client_id.as_deref().map(str::to_owned),
            meters: grant.meters.as_bytes().to_vec(),
            owners: grant.owners.iter().flat_map(|owner| *owner.as_bytes()).collect(),
            consented_ms: millis(grant.consented_at),
            expires_at: date(millis(grant.expires_at)),
            origin: grant.origin as i32,
            network: grant.network.map(Network::number),
            unproven: grant.unproven,
            used_ms: grant.used_at.map(millis),
            places: grant.places.to_bytes(),
        }
    }

    /// The grant of a record; `expires_ms` reads a date in milliseconds.
    pub fn grant(self, expires_ms: impl FnOnce(Date) -> i64) -> Result<MeterGrant, Damaged> {
        let owners: Option<Vec<_>> = self.owners.chunks(HASH).map(MeterHash::from_slice).collect();
        let owners = owners.filter(|owners| (1..=METERS_MAX).contains(&owners.len()));
        Ok(MeterGrant {
            refresh: TokenHash::from_slice(&self.refresh).ok_or(Damaged("refresh"))?,
            client_id: self.client_id.map(Arc::from),
            meters: Sealed::from_bytes(self.meters),
            owners: owners.ok_or(Damaged("owners"))?,
            consented_at: timestamp(self.consented_ms),
            expires_at: timestamp(expires_ms(self.expires_at)),
            origin: Origin::try_from(self.origin).map_err(|_| Damaged("origin"))?,
            network: self.network.map(Network::from_number),
            unproven: self.unproven,
            used_at: self.used_ms.map(timestamp),
            places: self.places.map_or_else(Places::default, |bytes| Places::from_bytes(&bytes)),
        })
    }
}

/// Hashes one after the other, which serde sees one by one.
mod hashes {
    use serde::{Deserialize, Deserializer, Serializer};
    use serde_bytes::{ByteArray, Bytes};

    use super::HASH;

    pub fn serialize<S: Serializer>(hashes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(hashes.chunks(HASH).map(Bytes::new))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let hashes = Vec::<ByteArray<HASH>>::deserialize(deserializer)?;
        Ok(hashes.into_iter().flat_map(ByteArray::into_array).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;

    #[test]
    fn a_grant_reads_back_and_damage_is_named() {
        let mut places = Places::default();
        places.used_from(Network::LOCALHOST, Timestamp::from_millis(6));
        let grant = MeterGrant {
            refresh: TokenHash::from_slice(&[1; 16]).unwrap(),
            client_id: Some("box".into()),
            meters: Sealed::from_bytes(vec![9; 40]),
            owners: vec![MeterHash::from_slice(&[2; 16]).unwrap(), MeterHash::from_slice(&[1; 16]).unwrap()],
            consented_at: Timestamp::from_millis(5),
            expires_at: Timestamp::from_millis(7),
            origin: Origin::Import,
            network: Some(Network::LOCALHOST),
            unproven: true,
            used_at: Some(Timestamp::from_millis(6)),
            places,
        };
        let record = GrantRecord::of(&grant, |ms| ms);
        assert_eq!(record.clone().grant(|ms| ms), Ok(grant));
        for (damaged, part) in [
            (GrantRecord { refresh: vec![1; 15], ..record.clone() }, "refresh"),
            (GrantRecord { owners: vec![1; 17], ..record.clone() }, "owners"),
            (GrantRecord { owners: Vec::new(), ..record.clone() }, "owners"),
            (GrantRecord { origin: 0, ..record }, "origin"),
        ] {
            assert_eq!(damaged.grant(|ms| ms), Err(Damaged(part)));
        }
    }
}
