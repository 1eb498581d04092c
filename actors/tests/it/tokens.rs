//! The service of our own tokens: what is given, renewed and taken back, who may ask, and what a store that is away
//! means. It is no actor, but what the data endpoint and the consents hold as one.

use std::sync::Arc;

use actors::base::code::BearerToken;
use actors::base::keyring::StateHash;
use actors::base::meter::Meter;
use actors::base::token_set::TokenSet;
use actors::metering::tokens::Origin;
use actors::metering::tokens::service::{Consented, Opened, Refresh, Refreshed, TokenService};
use actors::testing::{CONSENT_LIFE, TokenModel, meter};
use serde_json::Value;

use crate::universe::{START, Universe, pass, universe};

/// The service on `store`.
pub fn service(universe: &Universe, store: &TokenModel, seed: u8) -> Arc<TokenService> {
    let (keys, clock) = (Arc::clone(&universe.keys), Arc::clone(&universe.clock));
    TokenService::new(Arc::new(store.clone()), keys, clock, CONSENT_LIFE, [seed; 32])
}

fn consented(universe: &Universe, n: u8, meters: &[Meter]) -> Consented {
    let state = StateHash::from([n; 16]);
    let (grant, client_id) = (universe.grant(), "c".into());
    Consented { state, grant, client_id, meters: meters.to_vec(), origin: Origin::ConsentV1 }
}

/// The tokens in an answer.
pub struct Tokens {
    pub access: BearerToken,
    pub refresh: BearerToken,
    pub json: Value,
}

impl Tokens {
    pub fn of(set: &TokenSet) -> Self {
        Self::read(&set.to_bytes())
    }

    fn read(body: &[u8]) -> Self {
        let json: Value = serde_json::from_slice(body).unwrap();
        let token = |name: &str| BearerToken::parse(json[name].as_str().unwrap()).unwrap();
        Self { access: token("access_token"), refresh: token("refresh_token"), json }
    }
}

async fn refresh(
    service: &TokenService,
    token: &BearerToken,
    client: &str,
    meters: Option<&str>,
) -> Refreshed {
    let token = BearerToken::parse(&token.expose());
    service.refresh(Refresh { token, client_id: client.into(), meters: meters.map(str::to_owned) }).await
}

async fn renewed(service: &TokenService, token: &BearerToken) -> Tokens {
    match refresh(service, token, "c", None).await {
        Refreshed::Token(body) => Tokens::read(body.as_bytes()),
        other => panic!("{other:?}"),
    }
}

const OPEN: Opened = Opened::Meter { consented_at: START };

#[test]
fn a_consent_gives_tokens_for_its_meters_and_the_same_again() {
    universe(async |universe| {
        let store = TokenModel::default();
        let tokens = service(universe, &store, 1);
        let consent = consented(universe, 1, &[meter(1), meter(2)]);
        let given = Tokens::of(&tokens.give(&consent).await.unwrap());
        assert_eq!(given.json["expires_in"], 12_600);
        assert_eq!(given.json["token_type"], "Bearer");
        assert_eq!(given.json["usage_points_id"], "00000000000001,00000000000002");
        assert_eq!(given.json["scope"], "", "the plugin wants it there");
        for (token, meter, opened) in [
            (&given.access, meter(1), OPEN),
            (&given.access, meter(2), OPEN),
            (&given.access, meter(3), Opened::OtherMeters),
            (&given.refresh, meter(1), Opened::Nothing),
            (&universe.draw(BearerToken::generate), meter(1), Opened::Nothing),
        ] {
            assert_eq!(tokens.open(token, meter).await, opened);
        }
        // A process that was killed before it recorded the consent gives the same tokens.
        pass(100).await;
        let again = service(universe, &store, 2).give(&consent).await.unwrap();
        let again = Tokens::of(&again);
        assert_eq!(again.json["access_token"], given.json["access_token"]);
        assert_eq!(again.json["refresh_token"], given.json["refresh_token"]);
        assert_eq!(again.json["expires_in"], 12_500);
        pass(12_500).await;
        assert_eq!(tokens.open(&given.access, meter(1)).await, Opened::Nothing, "its life is over");
    });
}

#[test]
fn a_refresh_adds_an_access_token_as_often_as_it_is_sent() {
    universe(async |universe| {
        let store = TokenModel::default();
        let tokens = service(universe, &store, 1);
        let given = tokens.give(&consented(universe, 1, &[meter(1)])).await.unwrap();
        let given = Tokens::of(&given);
        let (first, again) = (renewed(&tokens, &given.refresh).await, renewed(&tokens, &given.refresh).await);
        let restarted = renewed(&service(universe, &store, 2), &given.refresh).await;
        for renewed in [&first, &again, &restarted] {
            assert_eq!(renewed.json["refresh_token"], given.json["refresh_token"], "it stays the same");
            assert_eq!(tokens.open(&renewed.access, meter(1)).await, OPEN);
        }
        assert_ne!(first.json["access_token"], again.json["access_token"]);
        assert_eq!(tokens.open(&given.access, meter(1)).await, OPEN, "those before stay good");
    });
}

#[test]
fn a_refresh_is_for_its_client_and_its_meters() {
    universe(async |universe| {
        let tokens = service(universe, &TokenModel::default(), 1);
        let given = tokens.give(&consented(universe, 1, &[meter(1), meter(2)])).await.unwrap();
        let given = Tokens::of(&given);
        let [one, two, three] = [1, 2, 3].map(|n| format!("{n:014}"));
        for (client, meters, is_valid) in [
            ("c", None, true),
            ("c", Some(format!("{one},{two}")), true),
            ("c", Some(format!("{two};{one}")), true),
            ("c", Some(one.clone()), false),
            ("c", Some(format!("{one},{three}")), false),
            ("c", Some(format!("{one},{two},{three}")), false),
            ("c", Some("x".to_owned()), false),
            ("another", None, false),
        ] {
            let told = refresh(&tokens, &given.refresh, client, meters.as_deref()).await;
            assert_eq!(matches!(told, Refreshed::Token(_)), is_valid, "{client} {meters:?} {told:?}");
            assert_eq!(told == Refreshed::Invalid, !is_valid);
        }
        for unknown in [&given.access, &universe.draw(BearerToken::generate)] {
            assert_eq!(refresh(&tokens, unknown, "c", None).await, Refreshed::Invalid);
        }
        let nothing = Refresh { token: None, client_id: "c".into(), meters: None };
        assert_eq!(tokens.refresh(nothing).await, Refreshed::Invalid);
    });
}

#[test]
fn what_is_withdrawn_opens_nothing_from_then_on() {
    universe(async |universe| {
        let tokens = service(universe, &TokenModel::default(), 1);
        let (mine, other) = (consented(universe, 1, &[meter(1)]), consented(universe, 2, &[meter(1)]));
        let given = Tokens::of(&tokens.give(&mine).await.unwrap());
        assert!(!tokens.is_held(&mine).await.unwrap(), "its own does not count");
        assert!(tokens.is_held(&other).await.unwrap());
        let renewed = renewed(&tokens, &given.refresh).await;
        tokens.withdraw(&mine.state, &mine.grant).await.unwrap();
        for token in [&given.access, &renewed.access] {
            assert_eq!(tokens.open(token, meter(1)).await, Opened::Nothing);
        }
        assert_eq!(refresh(&tokens, &given.refresh, "c", None).await, Refreshed::Invalid);
        assert!(!tokens.is_held(&other).await.unwrap());
    });
}

#[test]
fn a_store_that_is_away_is_no_final_answer() {
    universe(async |universe| {
        let store = TokenModel::default();
        let tokens = service(universe, &store, 1);
        let consent = consented(universe, 1, &[meter(1)]);
        let given = Tokens::of(&tokens.give(&consent).await.unwrap());
        store.set_away(true);
        assert_eq!(tokens.open(&given.access, meter(1)).await, Opened::Unavailable);
        assert_eq!(refresh(&tokens, &given.refresh, "c", None).await, Refreshed::Unavailable);
        assert!(tokens.give(&consent).await.is_err() && tokens.is_held(&consent).await.is_err());
        assert!(tokens.withdraw(&consent.state, &consent.grant).await.is_err());
        store.set_away(false);
        assert_eq!(tokens.open(&given.access, meter(1)).await, OPEN);
    });
}
