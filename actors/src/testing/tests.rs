//! The suites themselves, on the references they compare backends with.

use std::sync::Arc;

use super::cache_contract::model::Model as CacheModel;
use super::reference::Model;
use super::token_contract::model::Model as TokenModel;
use super::*;
use crate::metering::cache::MeterCache;
use crate::metering::tokens::TokenStore;

struct Private(Model);

impl Place for Private {
    async fn fresh() -> Self {
        Self(Model::new())
    }

    async fn open(&self) -> Arc<dyn SessionStore> {
        Arc::new(self.0.clone())
    }
}

struct Shared(Model);

impl Place for Shared {
    async fn fresh() -> Self {
        Self(Model::shared())
    }

    async fn open(&self) -> Arc<dyn SessionStore> {
        Arc::new(self.0.clone())
    }
}

struct Tokens(TokenModel);

impl Place<dyn TokenStore> for Tokens {
    async fn fresh() -> Self {
        Self(TokenModel::default())
    }

    async fn open(&self) -> Arc<dyn TokenStore> {
        Arc::new(self.0.clone())
    }
}

struct Cache(CacheModel);

impl Place<dyn MeterCache> for Cache {
    async fn fresh() -> Self {
        Self(CacheModel::default())
    }

    async fn open(&self) -> Arc<dyn MeterCache> {
        Arc::new(self.0.clone())
    }
}

mod private {
    crate::session_store_contract!(super::Private);
}

mod shared {
    crate::session_store_contract!(super::Shared);
}

mod tokens {
    crate::token_store_contract!(super::Tokens);
}

mod cache {
    crate::meter_cache_contract!(super::Cache);
}
