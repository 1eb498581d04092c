//! The service of our own tokens: what is given, renewed and taken back, who may ask, and what a store that is away
//! means. It is no actor, but what the data endpoint and the consents hold as one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actors::base::clock::{ManualClock, SharedClock, Timestamp};
use actors::base::code::BearerToken;
use actors::base::keyring::{BrowserHash, StateHash, TokenHash};
use actors::base::meter::Meter;
use actors::base::network::Network;
use actors::base::token_set::TokenSet;
use actors::metering::tokens::service::{
    Authorised, Consented, Given, Opened, Refresh, Refreshed, Revoked, TokenService,
};
use actors::metering::tokens::{Origin, TokenStore};
use actors::testing::{CONSENT_LIFE, TokenModel, meter};
use jiff::civil::Date;
use serde_json::Value;

use crate::universe::{START, Universe, pass, universe};

/// The service on `store`.
pub fn service(universe: &Universe, store: &TokenModel, seed: u8) -> Arc<TokenService> {
    service_by(universe, store, Arc::clone(&universe.clock), seed)
}

fn service_by(universe: &Universe, store: &TokenModel, clock: SharedClock, seed: u8) -> Arc<TokenService> {
    let keys = Arc::clone(&universe.keys);
    TokenService::new(Arc::new(store.clone()), None, universe.audit(), keys, clock, CONSENT_LIFE, [seed; 32])
}

fn consented(universe: &Universe, n: u8, meters: &[Meter]) -> Consented {
    let state = StateHash::from([n; 16]);
    let (grant, client_id) = (universe.grant(), "c".into());
    Consented {
        state,
        asked_at: START,
        grant,
        client_id,
        meters: meters.to_vec(),
        origin: Origin::ConsentV2,
        browser: BrowserHash::from([n; 16]),
        network: Network::LOCALHOST,
        authorised: None,
    }
}

/// Gives tokens that are there to be given.
async fn give(service: &TokenService, consent: &Consented) -> Tokens {
    match service.give(consent).await.unwrap() {
        Given::Tokens(set) => Tokens::of(&set),
        other => panic!("{other:?}"),
    }
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
    service
        .refresh(Refresh {
            token,
            client_id: client.into(),
            meters: meters.map(str::to_owned),
            network: Network::LOCALHOST,
        })
        .await
}

async fn renewed(service: &TokenService, token: &BearerToken) -> Tokens {
    match refresh(service, token, "c", None).await {
        Refreshed::Token(body) => Tokens::read(body.as_bytes()),
        other => panic!("{other:?}"),
    }
}

/// What opens a meter by a consent of the start.
fn opened() -> Opened {
    Opened::Meter { consented_at: START, expires_at: START + CONSENT_LIFE, unproven: None }
}

#[test]
fn a_consent_gives_tokens_for_its_meters_and_the_same_again() {
    universe(async |universe| {
        let store = TokenModel::default();
        let tokens = service(universe, &store, 1);
        let consent = consented(universe, 1, &[meter(1), meter(2)]);
        let given = give(&tokens, &consent).await;
        assert_eq!(given.json["expires_in"], 12_600);
        assert_eq!(given.json["token_type"], "Bearer");
        assert_eq!(given.json["usage_points_id"], "00000000000001,00000000000002");
        assert_eq!(given.json["scope"], "", "the plugin wants it there");
        for (token, meter, opened) in [
            (&given.access, meter(1), opened()),
            (&given.access, meter(2), opened()),
            (&given.access, meter(3), Opened::OtherMeters),
            (&given.refresh, meter(1), Opened::Nothing),
            (&universe.draw(BearerToken::generate), meter(1), Opened::Nothing),
        ] {
            assert_eq!(tokens.open(token, meter).await, opened);
        }
        // A process that was killed before it recorded the consent gives the same tokens.
        pass(100).await;
        let again = give(&service(universe, &store, 2), &consent).await;
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
        let given = give(&tokens, &consented(universe, 1, &[meter(1)])).await;
        let (first, again) = (renewed(&tokens, &given.refresh).await, renewed(&tokens, &given.refresh).await);
        let restarted = renewed(&service(universe, &store, 2), &given.refresh).await;
        for renewed in [&first, &again, &restarted] {
            assert_eq!(renewed.json["refresh_token"], given.json["refresh_token"], "it stays the same");
            assert_eq!(tokens.open(&renewed.access, meter(1)).await, opened());
        }
        assert_ne!(first.json["access_token"], again.json["access_token"]);
        assert_eq!(tokens.open(&given.access, meter(1)).await, opened(), "those before stay good");
    });
}

#[test]
fn a_refresh_is_for_its_client_and_its_meters() {
    universe(async |universe| {
        let tokens = service(universe, &TokenModel::default(), 1);
        let given = give(&tokens, &consented(universe, 1, &[meter(1), meter(2)])).await;
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
        let nothing =
            Refresh { token: None, client_id: "c".into(), meters: None, network: Network::LOCALHOST };
        assert_eq!(tokens.refresh(nothing).await, Refreshed::Invalid);
    });
}

#[test]
fn what_is_withdrawn_opens_nothing_from_then_on() {
    universe(async |universe| {
        let tokens = service(universe, &TokenModel::default(), 1);
        let (mine, other) = (consented(universe, 1, &[meter(1)]), consented(universe, 2, &[meter(1)]));
        let given = give(&tokens, &mine).await;
        assert!(!tokens.is_held(&mine).await.unwrap(), "its own does not count");
        assert!(tokens.is_held(&other).await.unwrap());
        let renewed = renewed(&tokens, &given.refresh).await;
        tokens.withdraw(&mine.state, &mine.grant, START).await.unwrap();
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
        let given = give(&tokens, &consent).await;
        store.set_away(true);
        assert_eq!(tokens.open(&given.access, meter(1)).await, Opened::Unavailable);
        assert_eq!(refresh(&tokens, &given.refresh, "c", None).await, Refreshed::Unavailable);
        assert!(tokens.give(&consent).await.is_err() && tokens.is_held(&consent).await.is_err());
        assert!(tokens.withdraw(&consent.state, &consent.grant, START).await.is_err());
        store.set_away(false);
        assert_eq!(tokens.open(&given.access, meter(1)).await, opened());
    });
}

#[test]
fn a_grant_is_deleted_long_after_its_end_by_a_clock_that_kept_pace() {
    universe(async |universe| {
        let (store, clock) = (TokenModel::default(), Arc::new(ManualClock::new(START)));
        let tokens = service_by(universe, &store, Arc::clone(&clock) as SharedClock, 1);
        let given = give(&tokens, &consented(universe, 1, &[meter(1)])).await;
        let years = Duration::from_secs(4 * 365 * 86_400);
        clock.jump(i64::try_from(years.as_millis()).unwrap());
        // It has ended by the clock, and the clock is in doubt: no final answer, and it stays.
        assert_eq!(refresh(&tokens, &given.refresh, "c", None).await, Refreshed::Unavailable);
        assert_eq!(
            refresh(&tokens, &given.access, "c", None).await,
            Refreshed::Invalid,
            "was never a refresh token"
        );
        let hash = universe.keys.refresh(&given.refresh);
        let is_stored = async || {
            tokens.purge().await.unwrap();
            store.find_refresh(hash, Timestamp::EPOCH).await.unwrap().is_some()
        };
        assert!(is_stored().await);
        clock.jump(-i64::try_from(years.as_millis()).unwrap());
        renewed(&tokens, &given.refresh).await;
        clock.settle();
        clock.advance(CONSENT_LIFE);
        assert_eq!(refresh(&tokens, &given.refresh, "c", None).await, Refreshed::Invalid);
        assert!(is_stored().await, "well after its end only");
        clock.advance(Duration::from_secs(30 * 86_400));
        assert!(!is_stored().await);
    });
}

/// A claim of the v1 page.
fn claimed(universe: &Universe, n: u8, network: Network) -> Consented {
    Consented { origin: Origin::ConsentV1, network, ..consented(universe, n, &[meter(1)]) }
}

#[test]
fn a_claim_for_which_enedis_never_answers_ends_after_a_week() {
    universe(async |universe| {
        let tokens = service(universe, &TokenModel::default(), 1);
        let idle = give(&tokens, &claimed(universe, 1, Network::LOCALHOST)).await;
        let served = give(&tokens, &claimed(universe, 2, Network::LOCALHOST)).await;
        let Opened::Meter { unproven: Some(grant), .. } = tokens.open(&served.access, meter(1)).await else {
            panic!("on probation")
        };
        tokens.prove(grant).await;
        assert_eq!(tokens.open(&served.access, meter(1)).await, opened());
        pass(7 * 86_400 - 1).await;
        renewed(&tokens, &idle.refresh).await;
        pass(1).await;
        assert_eq!(refresh(&tokens, &idle.refresh, "c", None).await, Refreshed::Invalid);
        pass(300).await;
        renewed(&tokens, &served.refresh).await;
    });
}

/// Only a fresh consent by the v2 page shows whose meter it is; and it ends boxes of that meter alone.
#[test]
fn a_household_sees_and_ends_the_other_boxes_of_its_meter() {
    universe(async |universe| {
        let tokens = service(universe, &TokenModel::default(), 1);
        let v1 = give(&tokens, &claimed(universe, 1, Network::LOCALHOST)).await;
        let both = give(&tokens, &consented(universe, 2, &[meter(1), meter(2)])).await;
        let strange = give(&tokens, &consented(universe, 3, &[meter(2)])).await;
        renewed(&tokens, &both.refresh).await;
        pass(60).await;
        let own = give(&tokens, &consented(universe, 4, &[meter(1)])).await;
        let keys = &universe.keys;
        let [v1_hash, both_hash, strange_hash, own_hash] =
            [&v1, &both, &strange, &own].map(|tokens| keys.refresh(&tokens.refresh));
        let others = async |own| {
            let listed = tokens.others(own).await.unwrap().map(|proven| proven.others).unwrap_or_default();
            let seen = listed.into_iter().map(|other| (other.grant, other.meters, other.used_at.is_some()));
            seen.collect::<BTreeSet<_>>()
        };
        let wanted = BTreeSet::from([(v1_hash, 1, false), (both_hash, 2, true)]);
        assert_eq!(others(own_hash).await, wanted);
        // The v1 page shows nothing, and nor does what is no grant.
        let nobody = TokenHash::from([0; 16]);
        for shown in [v1_hash, nobody] {
            assert_eq!(others(shown).await, BTreeSet::new());
            assert_eq!(tokens.end_other(shown, both_hash, Network::LOCALHOST).await, Revoked::Nothing);
        }
        for kept in [strange_hash, own_hash, nobody] {
            assert_eq!(tokens.end_other(own_hash, kept, Network::LOCALHOST).await, Revoked::Nothing);
        }
        let ended = tokens.end_other(own_hash, both_hash, Network::LOCALHOST).await;
        assert_eq!(ended, Revoked::Grant { uncovered: vec![] }, "both meters have another box");
        assert_eq!(refresh(&tokens, &both.refresh, "c", None).await, Refreshed::Invalid);
        assert_eq!(tokens.end_other(own_hash, both_hash, Network::LOCALHOST).await, Revoked::Nothing);
        // The proof is good for a quarter of an hour.
        pass(899).await;
        assert_eq!(others(own_hash).await.len(), 1);
        pass(1).await;
        assert_eq!(others(own_hash).await, BTreeSet::new());
        assert_eq!(tokens.end_other(own_hash, v1_hash, Network::LOCALHOST).await, Revoked::Nothing);
        for kept in [v1, strange, own] {
            renewed(&tokens, &kept.refresh).await;
        }
    });
}

#[test]
fn claims_are_bounded_by_network() {
    universe(async |universe| {
        let tokens = service(universe, &TokenModel::default(), 1);
        let network = |n: u16| Network::of(format!("2001:db8:{n}::1").parse().unwrap());
        let mut given = 0;
        for n in 0..40 {
            let consent = Consented { meters: vec![meter(n.into())], ..claimed(universe, n, network(1)) };
            given += usize::from(matches!(tokens.give(&consent).await, Ok(Given::Tokens(_))));
        }
        assert_eq!(given, 32);
        give(&tokens, &claimed(universe, 50, network(2))).await;
        // What was given once is given again.
        give(&tokens, &Consented { meters: vec![meter(0)], ..claimed(universe, 0, network(1)) }).await;
    });
}

#[test]
fn of_a_meters_grants_the_longest_unused_ends_first() {
    universe(async |universe| {
        let tokens = service(universe, &TokenModel::default(), 1);
        let mut given = Vec::new();
        for n in 0..15 {
            given.push(give(&tokens, &consented(universe, n, &[meter(1)])).await);
            pass(10).await;
        }
        let claim = give(&tokens, &claimed(universe, 20, Network::LOCALHOST)).await;
        renewed(&tokens, &given[0].refresh).await;
        let is_live = async |held: &Tokens| tokens.open(&held.access, meter(1)).await != Opened::Nothing;
        // The claim goes first, although it is the newest; then the second, as the first came back.
        for (n, ended) in [(30, &claim), (31, &given[1]), (32, &given[2])] {
            assert!(is_live(ended).await);
            give(&tokens, &consented(universe, n, &[meter(1)])).await;
            assert!(!is_live(ended).await, "{n}");
            assert_eq!(
                universe.lines.words().iter().filter(|words| words.ends_with("newer one")).count(),
                n as usize - 29
            );
        }
        assert!(is_live(&given[0]).await && is_live(&given[3]).await);
    });
}

#[test]
fn a_grant_that_two_boxes_use_in_turn_is_counted_once() {
    universe(async |universe| {
        let tokens = service(universe, &TokenModel::default(), 1);
        let given = give(&tokens, &consented(universe, 1, &[meter(1)])).await;
        for n in 0..8 {
            let address = if n % 2 == 0 { "198.51.100.7" } else { "203.0.113.9" };
            let network = Network::of(address.parse().unwrap());
            let token = BearerToken::parse(&given.refresh.expose());
            let refreshed = tokens.refresh(Refresh { token, client_id: "c".into(), network, meters: None });
            assert!(
                matches!(refreshed.await, Refreshed::Token(_)),
                "both are served: either may be the owner's"
            );
            assert_eq!(tokens.doubled(), u64::from(n >= 3), "{n}");
            pass(12 * 3_600).await;
        }
    });
}

#[test]
fn an_authorisation_is_one_boxs() {
    universe(async |universe| {
        let tokens = service(universe, &TokenModel::default(), 1);
        let authorised = |day: i8| Authorised {
            id: 7,
            since: Date::constant(2026, 3, day),
            until: START + Duration::from_secs(3 * 86_400),
        };
        let brought = |n: u8, browser: u8, day: i8| Consented {
            browser: BrowserHash::from([browser; 16]),
            authorised: Some(authorised(day)),
            ..consented(universe, n, &[meter(1)])
        };
        let first = give(&tokens, &brought(1, 1, 1)).await;
        assert_eq!(universe.lines.words(), ["claim: first", "grant: tokens given"]);
        give(&tokens, &brought(1, 1, 1)).await;
        assert_eq!(tokens.give(&brought(2, 2, 1)).await.unwrap(), Given::Anothers, "another browser");
        // The same household begins again: its first box never came back, and has nothing any more.
        let second = give(&tokens, &brought(3, 1, 1)).await;
        assert_eq!(tokens.open(&first.access, meter(1)).await, Opened::Nothing);
        renewed(&tokens, &second.refresh).await;
        assert_eq!(tokens.give(&brought(4, 1, 1)).await.unwrap(), Given::Anothers, "its box is at work");
        // Taken back by the operator, it is no stranger's either; shared anew on another day it is.
        tokens.withdraw(&brought(3, 1, 1).state, &brought(3, 1, 1).grant, START).await.unwrap();
        assert_eq!(tokens.give(&brought(5, 2, 1)).await.unwrap(), Given::Anothers);
        let ended = universe.lines.words().into_iter().filter(|words| words.starts_with("revocation"));
        assert!(ended.eq(["revocation: started over", "revocation: not delivered"]));
        give(&tokens, &brought(6, 2, 2)).await;
    });
}
