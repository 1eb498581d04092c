//! The operator's console: one page, and what it asks for besides the metrics. Codes come in bodies, so that they stand in no
//! address.

use std::collections::VecDeque;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use actix_web::web::{Data, Json};
use actors::base::audit::{Act, AuditLine, Note, first_key};
use actors::base::clock::{Clock, Timestamp};
use actors::base::code::UserCode;
use actors::base::keyring::TokenHash;
use actors::base::meter::Meter;
use actors::base::network::Network;
use actors::base::store::{StoreError, timestamp};
use actors::device_flow::registry::{DenyAnswer, InspectAnswer, Refusal, SessionView};
use actors::metering::tokens::MeterGrant;
use actors::metering::tokens::service::TokenService;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::state::Shared;

/// Only what this server sends, and nobody frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
    form-action 'none'; frame-ancestors 'none'; base-uri 'none'";
/// How far back the record is read.
const RECORD: Duration = Duration::from_secs(3 * 86_400);
/// Lines of it that are shown, the newest.
const LINES_MAX: usize = 200;
/// Grants on a page.
const GRANTS_MAX: usize = 50;
/// Pages of the store that one search reads.
const PAGES_MAX: usize = 200;
/// Digits of an id that are shown, as the command `tokens list` does.
const ID_SHOWN: usize = 16;

pub async fn page() -> HttpResponse {
    file("text/html; charset=utf-8", include_str!("page/console.html"))
}

pub async fn script() -> HttpResponse {
    file("text/javascript; charset=utf-8", include_str!("page/console.js"))
}

pub async fn style() -> HttpResponse {
    file("text/css; charset=utf-8", include_str!("page/console.css"))
}

fn file(kind: &'static str, content: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, kind))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((X_FRAME_OPTIONS, "DENY"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .body(content)
}

/// What cannot be done, for the operator to read.
struct Trouble(StatusCode, &'static str);

const STORE: Trouble = Trouble(StatusCode::SERVICE_UNAVAILABLE, "the store does not answer: try again");
const NO_SESSION: Trouble = Trouble(StatusCode::NOT_FOUND, "no session has this code, or it is forgotten");

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "the console could not be answered");
        STORE
    }
}

fn answer(done: Result<Value, Trouble>) -> HttpResponse {
    let (status, body) = match done {
        Ok(body) => (StatusCode::OK, body),
        Err(Trouble(status, error)) => (status, json!({ "error": error })),
    };
    HttpResponse::build(status)
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .json(body)
}

#[derive(Deserialize)]
pub struct OfCode {
    code: String,
}

/// `POST /api/session`: what there is to see of the session of a user code.
pub async fn session(shared: Data<Shared>, asked: Json<OfCode>) -> HttpResponse {
    answer(async { look(&shared, &asked.code).await }.await)
}

async fn look(shared: &Shared, code: &str) -> Result<Value, Trouble> {
    let code = UserCode::parse(code).ok_or(NO_SESSION)?;
    let session = match shared.system.registry.inspect(shared.keys.user(&code)).await {
        Ok(InspectAnswer::Found(session)) => session,
        Ok(InspectAnswer::Unknown) => return Err(NO_SESSION),
        Ok(InspectAnswer::Unavailable) | Err(_) => return Err(STORE),
    };
    let id = format!("{:?}", session.device);
    let asked = shared.clock.now().since(session.requested_at) + Duration::from_secs(60);
    let lines =
        record(shared, shared.clock.wall() - asked, |line| line.subject.as_deref() == Some(&id)).await?;
    Ok(view(&session, &id, shared.clock.now(), &lines))
}

/// Times are seconds ago; below zero what is to come.
fn view(session: &SessionView, id: &str, now: Timestamp, audit: &[Line]) -> Value {
    let ago = |at: Timestamp| now.ahead_of(at) as f64 / 1_000.0;
    json!({
        "id": id,
        "state": session.state,
        "client_id": &*session.client_id,
        "agent": session.agent.as_deref(),
        "network": session.network.map(Network::shown),
        "requested": ago(session.requested_at),
        "confirmed": session.confirmed_at.map(ago),
        "expires": ago(session.expires_at),
        "forgotten": ago(session.purge_at),
        "events": session.events,
        "audit": audit,
    })
}

/// `POST /api/session/end`: its device will be told `access_denied`.
pub async fn end_session(shared: Data<Shared>, asked: Json<OfCode>) -> HttpResponse {
    // What was begun is finished and recorded even if the operator's browser hangs up.
    let ended = actix_rt::spawn(async move { end(&shared, &asked.code).await });
    answer(ended.await.unwrap_or(Err(STORE)))
}

async fn end(shared: &Shared, code: &str) -> Result<Value, Trouble> {
    let code = UserCode::parse(code).ok_or(NO_SESSION)?;
    match shared.system.registry.deny(Refusal::OnOurPage { user: shared.keys.user(&code) }).await {
        Ok(DenyAnswer::Denied(Some((device, client_id)))) => {
            let note = Note::of(Act::RevokedByOperator).about(device).client(Some(&client_id));
            shared.system.audit.note(note).await;
            Ok(json!({}))
        }
        Ok(DenyAnswer::Denied(None)) => Ok(json!({})),
        Ok(DenyAnswer::No(_)) => {
            Err(Trouble(StatusCode::CONFLICT, "it has been decided, has ended, or Enedis is being asked"))
        }
        Ok(DenyAnswer::Unavailable) | Err(_) => Err(STORE),
    }
}

#[derive(Deserialize)]
pub struct Sought {
    sought: String,
    after: Option<String>,
}

/// `POST /api/tokens`: live grants; those of a meter, or whose id or client matches.
pub async fn tokens(shared: Data<Shared>, asked: Json<Sought>) -> HttpResponse {
    let Some(metering) = &shared.system.metering else { return answer(Err(NO_TOKENS)) };
    answer(search(&metering.tokens, &asked).await)
}

const NO_TOKENS: Trouble = Trouble(StatusCode::NOT_FOUND, "the tokens are Enedis'");

async fn search(tokens: &TokenService, asked: &Sought) -> Result<Value, Trouble> {
    let sought = asked.sought.trim();
    if let Some(meter) = Meter::parse(sought) {
        let grants = tokens.grants_of(meter).await?;
        let shown: Vec<_> = grants.iter().map(|grant| shown(tokens, grant)).collect();
        return Ok(json!({ "grants": shown, "next": null }));
    }
    let lower = sought.to_ascii_lowercase();
    let matches = |grant: &MeterGrant| {
        let client = grant.client_id.as_deref().unwrap_or_default().to_ascii_lowercase();
        sought.is_empty()
            || hex::encode(grant.refresh.as_bytes()).starts_with(&lower)
            || client.contains(&lower)
    };
    let mut after = asked.after.as_deref().and_then(key);
    let mut found = Vec::new();
    for _ in 0..PAGES_MAX {
        let page = tokens.grants(after).await?;
        for grant in page.grants.iter().filter(|grant| matches(grant)) {
            if found.len() == GRANTS_MAX {
                // Pages go on after any grant.
                return Ok(
                    json!({ "grants": found, "next": after.map(|after| hex::encode(after.as_bytes())) }),
                );
            }
            found.push(shown(tokens, grant));
            after = Some(grant.refresh);
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(json!({ "grants": found, "next": after.map(|after| hex::encode(after.as_bytes())) }))
}

fn key(text: &str) -> Option<TokenHash> {
    TokenHash::from_slice(&hex::decode(text).ok()?)
}

/// A grant as it is shown: no token, and of a meter the last four digits.
fn shown(tokens: &TokenService, grant: &MeterGrant) -> Value {
    let key = hex::encode(grant.refresh.as_bytes());
    let last = |meter: Meter| {
        let digits = meter.to_string();
        format!("…{}", &digits[digits.len() - 4..])
    };
    let meters = tokens.meters(grant).map(|meters| meters.into_iter().map(last).collect::<Vec<_>>());
    json!({
        "id": &key[..ID_SHOWN],
        "key": key,
        "client_id": grant.client_id.as_deref(),
        "origin": format!("{:?}", grant.origin),
        "consented_at": iso(grant.consented_at),
        "expires_at": iso(grant.expires_at),
        "used_at": grant.used_at.map(iso),
        "used_from": grant.places.last().map(Network::shown),
        "two_places": tokens.is_double(grant),
        "meters": meters.unwrap_or_else(|| vec!["unreadable".to_owned()]),
    })
}

#[derive(Deserialize)]
pub struct OfKey {
    key: String,
}

/// `POST /api/tokens/revoke`: a grant ends, with every token of it.
pub async fn revoke(shared: Data<Shared>, asked: Json<OfKey>) -> HttpResponse {
    let ended = actix_rt::spawn(async move {
        let metering = shared.system.metering.as_ref().ok_or(NO_TOKENS)?;
        let none = || Trouble(StatusCode::NOT_FOUND, "there is no such grant any more");
        let refresh = key(&asked.key).ok_or_else(none)?;
        for meter in metering.tokens.end_by_operator(refresh).await?.ok_or_else(none)? {
            metering.relay.forget(meter).await;
        }
        Ok(json!({}))
    });
    answer(ended.await.unwrap_or(Err(STORE)))
}

/// A line of the record as it is shown.
#[derive(Serialize)]
struct Line {
    at: String,
    act: String,
    how: String,
    id: Option<String>,
    network: Option<String>,
    meters: u32,
    client_id: Option<String>,
}

/// `POST /api/audit`: what was done in the last days, the newest first.
pub async fn audit(shared: Data<Shared>) -> HttpResponse {
    let lines = record(&shared, shared.clock.wall() - RECORD, |_| true).await;
    answer(lines.map(|lines| json!({ "lines": lines })))
}

async fn record(
    shared: &Shared,
    since: Timestamp,
    wanted: impl Fn(&AuditLine) -> bool,
) -> Result<Vec<Line>, Trouble> {
    let (mut newest, mut after) = (VecDeque::new(), first_key(since));
    loop {
        let page = shared.system.audit.read(after.clone()).await?;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.key);
        newest.extend(page.into_iter().filter(|line| wanted(line)));
        newest.drain(..newest.len().saturating_sub(LINES_MAX));
    }
    let line = |AuditLine { at_ms, act, how, subject, client_id, network, meters, .. }| Line {
        at: iso(timestamp(at_ms)),
        act,
        how,
        id: subject,
        network,
        meters,
        client_id,
    };
    Ok(newest.into_iter().rev().map(line).collect())
}

fn iso(at: Timestamp) -> String {
    let secs = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(secs).unwrap_or(jiff::Timestamp::MAX).to_string()
}

#[derive(Deserialize)]
pub struct Drain {
    drain: bool,
}

/// `POST /api/drain`: not ready, or ready again; whatever is asked is answered all the same.
pub async fn drain(shared: Data<Shared>, asked: Json<Drain>) -> HttpResponse {
    tracing::info!(drain = asked.drain, "the operator says whether this instance takes work");
    shared.set_drained(asked.drain);
    answer(Ok(json!({})))
}
