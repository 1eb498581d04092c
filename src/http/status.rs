//! Whether this process takes work, and `GET /status` and `/status.json`: whether it is Enedis or us that does not
//! answer, as seen from here. No call is made for it.

use std::time::Duration;

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use actors::base::clock::Timestamp;
use actors::limits::allowance::AllowanceSnapshot;
use actors::metering::api_choice::ApiMode;
use actors::metering::civil::paris;
use jiff::civil::Date;
use serde_json::json;

use super::browser;
use super::error::json_answer;
use super::state::App;
use crate::config::Flow;
use crate::pages::{ApiState, ApiStatus, EnedisApi};

/// How it is with this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Everything works here and will for a while.
    Ok,
    /// It is about to go.
    Stopping,
    /// The stored sessions are still being read.
    Starting,
    /// The store takes no writes: what is pending is answered from memory.
    Degraded,
    /// The store may be another's: it lacks tokens that should be there.
    WrongStore,
}

impl Readiness {
    /// Looks at everything that matters.
    pub async fn of(app: &App) -> Self {
        let shared = &app.shared;
        if shared.is_leaving() {
            return Self::Stopping;
        }
        if !shared.system.registry.is_complete() {
            return Self::Starting;
        }
        if !shared.store_probe.takes_writes(shared.store.as_ref()).await {
            return Self::Degraded;
        }
        match &shared.system.metering {
            // A store that does not answer is told of above.
            Some(metering) if metering.tokens.is_store_doubted().await.unwrap_or(false) => Self::WrongStore,
            _ => Self::Ok,
        }
    }

    /// What operators and programs read.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Stopping => "stopping",
            Self::Starting => "starting",
            Self::Degraded => "degraded",
            Self::WrongStore => "wrong store",
        }
    }
}

/// For people.
pub async fn page(app: Data<App>, request: HttpRequest) -> HttpResponse {
    let (ours, apis) = (Readiness::of(&app).await, apis(&app).await);
    let shown = |at| paris(at).strftime("%Y-%m-%d %H:%M").to_string();
    let days: Vec<_> = days(&app).await.map(|(day, at)| (day.to_string(), shown(at))).collect();
    let page = app.pages(&request).status(ours == Readiness::Ok, &apis, calls_per_hour(&app), &days);
    browser::respond(&app, page)
}

/// For programs.
pub async fn json(app: Data<App>) -> HttpResponse {
    let (ours, apis) = (Readiness::of(&app).await, apis(&app).await);
    let enedis = apis.iter().map(|ApiStatus { api, state, calls }| {
        let (word, trouble) = match state {
            ApiState::NotAsked => ("not asked", Duration::ZERO),
            ApiState::Answers => ("answers", Duration::ZERO),
            ApiState::Fails { since } => ("fails", *since),
            ApiState::Silent { since } => ("silent", *since),
        };
        json!({
            "api": api.name(), "state": word, "trouble_secs": trouble.as_secs(), "calls_this_hour": calls,
            "calls_per_hour": calls_per_hour(&app),
        })
    });
    let days = days(&app).await.map(|(day, at)| json!({ "day": day.to_string(), "first_seen": instant(at) }));
    let (enedis, days) = (enedis.collect::<Vec<_>>(), days.collect::<Vec<_>>());
    json_answer(json!({ "status": ours.word(), "enedis": enedis, "days": days }).to_string())
}

/// An instant for programs (RFC 3339).
pub fn instant(at: Timestamp) -> String {
    let ms = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms)
        .unwrap_or(jiff::Timestamp::MAX)
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

/// The newest days of which values came, and when they first did.
async fn days(app: &App) -> impl Iterator<Item = (Date, Timestamp)> {
    let seen = match &app.system().metering {
        Some(metering) => metering.relay.snapshot().await.ok(),
        None => None,
    };
    seen.into_iter().flat_map(|seen| seen.arrivals).flatten()
}

fn calls_per_hour(app: &App) -> u32 {
    app.settings.enedis.exchanger.quota.per_hour
}

/// Those of Enedis' APIs that this server uses, as far as their actors answer.
async fn apis(app: &App) -> Vec<ApiStatus> {
    let mut apis = Vec::new();
    let mut add = |api, asked: u64, seen: AllowanceSnapshot| {
        let since = seen.in_trouble_for;
        let state = match seen {
            _ if asked == 0 => ApiState::NotAsked,
            AllowanceSnapshot { breaker_open: true, .. } => ApiState::Silent { since },
            _ if !since.is_zero() => ApiState::Fails { since },
            _ => ApiState::Answers,
        };
        apis.push(ApiStatus { api, state, calls: seen.used_this_hour });
    };
    let metering = match &app.settings.enedis.flow {
        Flow::Device => None,
        Flow::ClientCredentials(metering) => Some(metering),
    };
    if let Ok(seen) = app.system().exchanger.snapshot().await {
        add(EnedisApi::Tokens, seen.token.attempts, seen.token.allowance);
        if metering.is_some() && app.settings.enedis.upstream.asks_v2() {
            add(EnedisApi::Consents, seen.services.attempts, seen.services.allowance);
        }
    }
    if let (Some(settings), Some(running)) = (metering, &app.system().metering)
        && let Ok(seen) = running.relay.snapshot().await
    {
        let [new, legacy] = seen.apis;
        if settings.relay.mode != ApiMode::Legacy {
            add(EnedisApi::Data, new.calls, new.allowance);
        }
        if settings.relay.mode != ApiMode::New {
            add(EnedisApi::OldData, legacy.calls, legacy.allowance);
        }
    }
    apis
}
