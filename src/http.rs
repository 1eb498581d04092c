//! The routes. One endpoint a file; each decodes, asks an actor through its handle, and renders. `http/state.rs` is what
//! they work with; `http/error.rs` is the only place that knows what an error looks like to a device.

pub mod admin;
mod browser;
pub(crate) mod callback;
pub(crate) mod client;
pub mod connections;
mod counts;
mod data;
mod device;
pub mod error;
pub(crate) mod form;
mod format;
mod grant;
mod large;
mod limits;
mod meta;
mod others;
mod peer;
mod proxy;
pub(crate) mod query;
mod questions;
mod readiness;
mod refreshes;
mod revoke;
pub mod seen;
mod state;
mod status;
mod token;
mod verify;
mod version;

use actix_web::http::Method;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, guard, web};

use self::error::ApiError;
use self::state::base_path;
pub use self::state::{App, Shared};
use crate::pages::{Problem, STYLE_PATH};

/// Methods of addresses that only answer.
const READ: &str = "GET, HEAD";

/// Where the metadata stands (RFC 8414 section 3).
const METADATA: &str = "/.well-known/oauth-authorization-server";

/// All routes: at the root, and below the path of `BASE_URL` for a reverse proxy that keeps it.
pub fn routes(config: &mut ServiceConfig, base_url: &str) {
    let prefix = base_path(base_url);
    // The root first: a path of BASE_URL may begin as one of ours does.
    config.configure(endpoints);
    if !prefix.is_empty() {
        config.service(web::scope(&prefix).configure(endpoints));
        // RFC 8414 section 3.1 puts the path of the issuer behind the well-known one.
        config.service(metadata(&format!("{METADATA}{prefix}")));
    }
    config.default_service(web::route().to(meta::not_found));
}

fn endpoints(config: &mut ServiceConfig) {
    config
        .service(api("/device/token", "POST").route(web::post().to(token::token)))
        .service(api("/device/code", "POST").route(web::post().to(device::authorize)))
        .service(api("/device/proxy", "POST").route(web::post().to(proxy::refresh)))
        .service(api("/device/revoke", "POST").route(web::post().to(revoke::revoke)))
        .service(api("/data/status", "GET").route(web::get().to(data::status)))
        .service(api("/data/proxy/{path:.*}", "GET").route(web::get().to(data::read)))
        .service(page("/device", READ).route(get().to(device::page)))
        // These act, so that a scanner's HEAD must not reach them.
        .service(page("/auth/verify_code", "GET").route(web::get().to(verify::verify)))
        .service(
            page("/auth/redirect", "GET, POST")
                .route(web::get().to(callback::redirect))
                .route(web::post().to(others::end)),
        )
        .service(page("/auth/redirect/{rest:.*}", "GET").route(web::get().to(callback::malformed)))
        .service(page("/", READ).route(get().to(meta::home)))
        .service(page("/privacy", READ).route(get().to(meta::privacy)))
        .service(page(STYLE_PATH, READ).route(get().to(meta::style)))
        .service(page("/favicon.ico", READ).route(get().to(meta::no_icon)))
        .service(page("/status", READ).route(get().to(status::page)))
        .service(api("/status.json", READ).route(get().to(status::json)))
        .service(api("/health/live", READ).route(get().to(meta::live)))
        .service(api("/health/ready", READ).route(get().to(meta::ready)))
        .service(api(seen::PATH, "GET").route(web::get().to(seen::seen)))
        .service(metadata(METADATA))
        .service(metadata("/.well-known/openid-configuration"));
}

fn metadata(path: &str) -> Resource {
    api(path, READ).route(get().to(meta::metadata))
}

fn get() -> actix_web::Route {
    web::route().guard(guard::Any(guard::Method(Method::GET)).or(guard::Method(Method::HEAD)))
}

/// An endpoint of devices: another method gets a JSON error.
fn api(path: &str, allow: &'static str) -> Resource {
    web::resource(path).default_service(
        web::route().to(move || async move { Err::<HttpResponse, _>(ApiError::MethodNotAllowed { allow }) }),
    )
}

/// A page of people: another method gets a page.
fn page(path: &'static str, allow: &'static str) -> Resource {
    web::resource(path).default_service(web::route().to(
        move |app: Data<App>, request: HttpRequest| async move {
            let page = app.pages(&request).problem(Problem::MethodNotAllowed);
            let mut response = browser::respond(&app, page);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
            response
        },
    ))
}
