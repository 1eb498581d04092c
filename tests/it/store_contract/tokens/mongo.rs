//! MongoDB on a real server, a database for each test.

use std::sync::Arc;

use actors::base::store::Written;
use actors::metering::tokens::TokenStore;
use actors::metering::tokens::places::Places;
use actors::testing::{NOW, Samples, block_on};
use device_flow_proxy::config::StoreConfig;
use device_flow_proxy::store::Stores;
use device_flow_proxy::store::mongo::{MongoSettings, MongoTokens};
use testkit::mongod::{Kind, Mongod};

use crate::store_contract::mongo::{
    Port, assert_true, contract_on_mongodb, database, noted, outcomes_while_the_line_breaks, peek,
};

async fn connect(uri: String) -> MongoTokens {
    MongoTokens::connect(MongoSettings::new(uri)).await.expect("a store")
}

impl Port for dyn TokenStore {
    async fn connect(uri: String) -> Arc<Self> {
        Arc::new(connect(uri).await)
    }
}

contract_on_mongodb!(tokens);

/// Every store of a server works in one database, and a command's store beside it.
#[test]
fn a_command_works_beside_a_server() {
    block_on(async {
        let (mongod, name) = (Mongod::shared(Kind::Standalone), database());
        let config = StoreConfig::Mongo { uri: mongod.uri(&name), pool_size: 4 };
        let nowhere = std::path::Path::new("/nonexistent");
        let server = Stores::open(&config, nowhere, true).await.expect("stores");
        let (tokens, meters) = (server.tokens, server.meters.expect("asked for"));
        let command = Stores::beside(&config, nowhere).await.expect("the stores").tokens;
        let mut samples = Samples::new(141);
        let grant = samples.meter_grant();
        let access = samples.access(&grant, NOW);
        assert_eq!(command.add(grant.clone(), Some(access)).await.expect("stored"), Written::Applied);
        // The threads and connections stay as long as one of the stores that share them.
        drop(server.sessions);
        drop(meters);
        let found = tokens.find_access(access.token, NOW).await.expect("an answer");
        assert_eq!(found, Some((grant.clone(), access)));
        assert!(command.revoke(grant.refresh).await.expect("revoked"));
        assert_eq!(tokens.find_access(access.token, NOW).await.expect("an answer"), None);
    });
}

#[test]
fn no_question_scans_the_collection() {
    block_on(async {
        let (mongod, name) = (Mongod::shared(Kind::Standalone), database());
        let store = connect(mongod.uri(&name)).await;
        let mut samples = Samples::new(143);
        let mut last = None;
        for _ in 0..100 {
            let grant = samples.meter_grant();
            let access = samples.access(&grant, NOW);
            store.add(grant.clone(), Some(access)).await.expect("stored");
            last = Some((grant, access));
        }
        let (grant, access) = last.expect("a grant");
        let grants = peek(&mongod, &name, "meter_grants").await;
        let noted = noted(&grants, async {
            assert!(store.find_refresh(grant.refresh, NOW).await.expect("an answer").is_some());
            assert!(store.find_access(access.token, NOW).await.expect("an answer").is_some());
            assert_eq!(store.of_meter(grant.owners[0], NOW).await.expect("an answer").len(), 1);
            let further = samples.access(&grant, NOW);
            assert_eq!(store.issue(further, Places::default()).await.expect("an answer"), Written::Applied);
            assert!(store.revoke(grant.refresh).await.expect("an answer"));
        })
        .await;
        assert_eq!(noted.len(), 6, "{noted:?}");
        for note in noted {
            let examined = (note.get_i32("docsExamined"), note.get_i32("keysExamined"));
            assert!(matches!(examined, (Ok(0..=1), Ok(0..=3))), "{note}");
            assert!(!note.get_bool("hasSortStage").unwrap_or(false), "{note}");
        }
    });
}

#[test]
fn no_answer_is_wrong_while_the_line_breaks() {
    let round = async |store: &dyn TokenStore, samples: &mut Samples| {
        let grant = samples.meter_grant();
        let (first, second) = (samples.access(&grant, NOW), samples.access(&grant, NOW));
        let added = store.add(grant.clone(), Some(first)).await;
        if added.is_err() {
            return vec![(first, added)];
        }
        vec![(first, added), (second, store.issue(second, Places::default()).await)]
    };
    block_on(async {
        for mongod in [Mongod::shared(Kind::Standalone), Mongod::shared(Kind::ReplicaSet)] {
            let (truth, outcomes) = outcomes_while_the_line_breaks(&mongod, round).await;
            for (access, outcome) in outcomes {
                let found = truth.find_access(access.token, NOW).await.expect("an answer");
                assert!(found.as_ref().is_none_or(|(grant, _)| grant.refresh == access.refresh));
                assert_true(outcome, found.is_some());
            }
        }
    });
}
