//! The suites themselves, on the models they compare backends with.

use std::sync::Arc;

use super::audit::Model as AuditModel;
use super::meters::model as meters;
use super::sessions::model as sessions;
use super::tokens::model as tokens;
use super::*;
use crate::base::audit::AuditLog;
use crate::metering::cache::MeterCache;
use crate::metering::tokens::TokenStore;

macro_rules! place {
    ($name:ident of $model:ty as $port:ident: $make:expr) => {
        struct $name($model);

        impl Place<dyn $port> for $name {
            async fn fresh() -> Self {
                Self($make)
            }

            async fn open(&self) -> Arc<dyn $port> {
                Arc::new(self.0.clone())
            }
        }
    };
}

place!(Private of sessions::Model as SessionStore: sessions::Model::new());
place!(Shared of sessions::Model as SessionStore: sessions::Model::shared());
place!(Tokens of tokens::Model as TokenStore: tokens::Model::default());
place!(Meters of meters::Model as MeterCache: meters::Model::default());
place!(Lines of AuditModel as AuditLog: AuditModel::default());

mod private {
    crate::store_contract!(sessions on super::Private);
}

mod shared {
    crate::store_contract!(sessions on super::Shared);
}

mod of_tokens {
    crate::store_contract!(tokens on super::Tokens);
}

mod of_lines {
    crate::store_contract!(audit on super::Lines);
}

mod of_meters {
    crate::store_contract!(meters on super::Meters);
}

#[test]
fn expired_then_oldest() {
    let mut samples = Samples::new(1);
    let owner = samples.cache_key();
    let mut entry = |n, fetched, expires| {
        let (fetched, expires) = (Timestamp::from_millis(fetched), Timestamp::from_millis(expires));
        let key = crate::base::keyring::CacheKey([n; 32]);
        crate::metering::cache::CacheEntry {
            key,
            sealed: vec![0; 10],
            fetched,
            expires,
            ..samples.cache_entry(owner)
        }
    };
    let entries = [entry(1, 5, 100), entry(2, 9, 20), entry(3, 1, 100), entry(4, 7, 100)];
    let gone = |now, max_bytes| -> Vec<u8> {
        let gone = meters::evictions(&entries, Timestamp::from_millis(now), max_bytes);
        gone.iter().map(|key| key.0[0]).collect()
    };
    assert_eq!(gone(50, 30), [2]);
    assert_eq!(gone(50, 15), [2, 3, 1]);
    assert!(gone(10, 40).is_empty());
}
