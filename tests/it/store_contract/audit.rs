//! The audit record on both backends.

use std::path::Path;
use std::sync::Arc;

use actors::base::audit::{AuditLine, AuditLog, first_key};
use actors::base::clock::Timestamp;
use actors::base::store::{StoreError, Written, millis};
use actors::testing::{NOW, Place, Samples};
use device_flow_proxy::store::OpenError;
use device_flow_proxy::store::mongo::{MongoAudit, MongoSettings};
use device_flow_proxy::store::sqlite::SqliteAudit;
use tempfile::TempDir;

use super::kept::{Kept, kept};
use super::mongo::{Port, contract_on_mongodb};

struct Directory(TempDir);

impl Place<dyn AuditLog> for Directory {
    async fn fresh() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    async fn open(&self) -> Arc<dyn AuditLog> {
        Arc::new(SqliteAudit::open(self.0.path()).expect("a record"))
    }
}

mod sqlite {
    actors::store_contract!(audit on super::Directory);
}

impl Port for dyn AuditLog {
    async fn connect(uri: String) -> Arc<Self> {
        Arc::new(MongoAudit::connect(MongoSettings::new(uri)).await.expect("a record"))
    }
}

contract_on_mongodb!(audit);

impl Kept for SqliteAudit {
    type Sample = AuditLine;

    const FILE: &str = "audit.sqlite";

    fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open(dir)
    }

    fn sample(samples: &mut Samples) -> AuditLine {
        AuditLine {
            key: samples.token().as_bytes().to_vec(),
            at_ms: millis(NOW),
            act: "grant".into(),
            how: "tokens given".into(),
            subject: None,
            client_id: None,
            network: None,
            meters: 1,
        }
    }

    async fn keep(&self, line: AuditLine) -> Result<Written, StoreError> {
        self.append(vec![line]).await.map(|()| Written::Applied)
    }

    async fn count(&self) -> usize {
        self.read(first_key(Timestamp::EPOCH)).await.expect("a page").len()
    }
}

kept!(SqliteAudit);
