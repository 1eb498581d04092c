//! The pure core of a device flow: codes, their hashes, sealed secrets, and the states of a session.

use std::hint::black_box;
use std::time::Duration;

use actors::base::code::{BearerToken, BrowserToken, DeviceCode, StateSuffix, StateToken, UserCode};
use actors::base::keyring::Keyring;
use actors::base::token_set::TokenSet;
use actors::device_flow::session::{Consent, Presentation, Session};
use criterion::Criterion;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::running::{LIFE, START, request};

/// Codes, hashes and seals.
pub fn codes(c: &mut Criterion) {
    let mut rng = StdRng::seed_from_u64(7);
    let keys = Keyring::new(&[1; 32]);
    let code = DeviceCode::generate(&mut rng);
    let owner = keys.device(&code);
    let text = code.expose();
    let state = StateToken::generate(&mut rng, &StateSuffix::default());
    let bearer = BearerToken::generate(&mut rng).expose();
    let typed = UserCode::generate(&mut rng).expose().to_lowercase().replace('-', " ");
    let full_width: String = typed
        .chars()
        .map(|c| char::from_u32(u32::from(c) + 0xfee0).filter(|_| c != ' ').unwrap_or(c))
        .collect();
    assert_eq!(UserCode::parse(&typed), UserCode::parse(&full_width));
    assert!(UserCode::parse(&typed).is_some());
    let mut group = c.benchmark_group("codes");
    group.bench_function("device code parsed and hashed", |b| {
        b.iter(|| DeviceCode::parse(black_box(&text)).map(|code| keys.device(&code)));
    });
    group.bench_function("user code drawn and hashed", |b| {
        b.iter(|| keys.user(&UserCode::generate(&mut rng)));
    });
    group.bench_function("user code parsed as typed", |b| b.iter(|| UserCode::parse(black_box(&typed))));
    group.bench_function("user code parsed in full width", |b| {
        b.iter(|| UserCode::parse(black_box(&full_width)));
    });
    group.bench_function("state parsed and hashed", |b| {
        b.iter(|| StateToken::parse(black_box(state.expose())).map(|state| keys.state(&state)));
    });
    group.bench_function("access token parsed and hashed", |b| {
        b.iter(|| BearerToken::parse(black_box(&bearer)).map(|token| keys.access(&token)));
    });
    let mut rng = StdRng::seed_from_u64(8);
    group.bench_function("token sealed", |b| b.iter(|| keys.seal(&mut rng, &owner, black_box(&[7; 400]))));
    let sealed = keys.seal(&mut rng, &owner, &[7; 400]);
    assert_eq!(keys.open(&owner, &sealed).as_deref(), Some([7; 400].as_slice()));
    group.bench_function("token opened", |b| b.iter(|| keys.open(&owner, black_box(&sealed))));
    group.bench_function("token's body with its age", |b| {
        let token =
            br#"{"access_token":"oNOmvxyCQZSwjXYQJZST","expires_in":12600,"refresh_token":"ijRNFTbbRLEGby"}"#;
        b.iter(|| TokenSet::from_bytes(black_box(token)).map(|set| set.body_after(Duration::from_secs(7))));
    });
    group.finish();
}

/// The states of one session.
pub fn sessions(c: &mut Criterion) {
    let mut rng = StdRng::seed_from_u64(9);
    let keys = Keyring::new(&[1; 32]);
    let device = keys.device(&DeviceCode::generate(&mut rng));
    let pending = Session::open(device, keys.user(&UserCode::generate(&mut rng)), request(), START, &LIFE);
    let consent = Consent {
        browser: keys.browser(&BrowserToken::generate(&mut rng)),
        state: keys.state(&StateToken::generate(&mut rng, &StateSuffix::default())),
        verifier: Some(keys.seal(&mut rng, &device, &[7; 64])),
        confirmed_at: START,
    };
    let grant = keys.grant("qLuJBCWkyHAHpvTPAOECBsiQpSivvQ");
    let until = START + Duration::from_secs(60);
    let presentation = Presentation { grant, until, repeatable: false };
    let sealed = keys.seal(&mut rng, &device, &[7; 400]);
    let walk = || {
        let confirmed = pending.confirm(consent.clone(), START, &LIFE).ok()?;
        let begun = confirmed.begin(&consent.browser, &consent.state, presentation, START, &LIFE).ok()?;
        let approved = begun.approve(&grant, sealed.clone(), START, &LIFE).ok()?;
        approved.claim(sealed.clone(), START, &LIFE)
    };
    assert!(walk().is_some(), "the flow comes to its end");
    let mut group = c.benchmark_group("session");
    group.bench_function("opened", |b| {
        b.iter(|| Session::open(device, pending.user, black_box(request()), START, &LIFE));
    });
    group.bench_function("polled while pending", |b| b.iter(|| black_box(&pending).poll(black_box(START))));
    group.bench_function("confirmed, begun, approved and claimed", |b| b.iter(walk));
    group.finish();
}
