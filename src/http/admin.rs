//! The operator's listener: metrics and the console. `guard` stands in front of all of it.

mod console;
mod guard;

use actix_web::http::header::{Accept, CONTENT_TYPE, Header, VARY};
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, JsonConfig, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use super::state::Shared;
use crate::metrics::Format;

/// Where the metrics are.
const METRICS: &str = "/metrics";
/// Longest question of the console, bytes.
const QUESTION_MAX: usize = 4 << 10;

/// All routes of the operator's listener.
pub fn routes(config: &mut ServiceConfig) {
    let routes = web::scope("")
        .wrap(from_fn(guard::admit))
        .app_data(JsonConfig::default().limit(QUESTION_MAX))
        .route(METRICS, web::get().to(metrics))
        .route("/", web::get().to(console::page))
        .route("/console.js", web::get().to(console::script))
        .route("/console.css", web::get().to(console::style))
        .route("/api/session", web::post().to(console::session))
        .route("/api/session/end", web::post().to(console::end_session))
        .route("/api/tokens", web::post().to(console::tokens))
        .route("/api/tokens/revoke", web::post().to(console::revoke))
        .route("/api/audit", web::post().to(console::audit))
        .route("/api/drain", web::post().to(console::drain));
    config.service(routes);
}

/// `GET /metrics`, in the format that is asked for.
async fn metrics(shared: Data<Shared>, request: HttpRequest) -> HttpResponse {
    let format = asked_for(&request);
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, format.content_type()))
        .insert_header((VARY, "accept"))
        .body(shared.metrics_text(format).await)
}

/// `OpenMetrics` for who prefers it to plain text; text for everybody else, as people, promtool and old servers want it.
fn asked_for(request: &HttpRequest) -> Format {
    let Ok(accept) = Accept::parse(request) else { return Format::Prometheus };
    let quality = |wanted: &str| {
        let of_kind = accept.iter().filter(|item| item.item.essence_str() == wanted);
        of_kind.map(|item| item.quality).max()
    };
    match (quality("application/openmetrics-text"), quality("text/plain")) {
        (Some(open), plain) if plain.is_none_or(|plain| open >= plain) => Format::OpenMetrics,
        _ => Format::Prometheus,
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::ACCEPT;
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_scraper_gets_what_it_prefers() {
        let cases = [
            ("*/*", Format::Prometheus),
            ("", Format::Prometheus),
            ("text/html,*/*;q=0.8", Format::Prometheus),
            ("text/plain;version=0.0.4", Format::Prometheus),
            ("application/openmetrics-text; version=1.0.0", Format::OpenMetrics),
            // Prometheus 2 and 3.
            (
                "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;q=0.2,text/plain;version=0.0.4;q=0.6", Format::Prometheus),
        ];
        for (accept, format) in cases {
            let request = TestRequest::default().insert_header((ACCEPT, accept)).to_http_request();
            assert_eq!(asked_for(&request), format, "{accept}");
        }
    }
}
