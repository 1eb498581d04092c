//! The other boxes that read a meter, on the last page of a consent: `POST /auth/redirect` ends one.
//!
//! The page is shown, and the button taken, only for a consent by the v2 page that is fresh
//! ([`PROOF_LIFE`](actors::metering::tokens::service::others::PROOF_LIFE)), in the browser that brought it, while the
//! session that it ended is remembered. A button carries a proof that this browser was shown this box under this consent.

use actix_web::http::header::LOCATION;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use actors::base::code::BrowserToken;
use actors::base::keyring::{ShownPage, ShownProof, TokenHash};
use actors::device_flow::registry::CheckAnswer;
use actors::metering::tokens::service::Revoked;
use actors::metering::tokens::service::others::{OtherBox, Proven};
use actors::system::MeteringHandles;

use super::browser;
use super::device::OUR_TROUBLE;
use super::form::Body;
use super::query::Query;
use super::questions::Asked;
use super::state::App;
use crate::pages::{self, Page, Place, Problem, Question};

/// Questions that the page shows.
const QUESTIONS_MAX: usize = 6;

/// A box, and what its button carries.
pub struct Shown {
    other: OtherBox,
    proof: ShownProof,
}

impl Shown {
    /// As a page shows it to whoever sent `request`.
    pub fn shown<'a>(&'a self, app: &'a App, request: &HttpRequest) -> pages::OtherBox<'a> {
        let (now, here) = (app.clock().wall(), app.network(request).widest());
        let OtherBox { grant, client_id, since, used_at, network, meters } = &self.other;
        pages::OtherBox {
            id: hex::encode(grant),
            proof: self.proof.expose(),
            client: client_id.as_deref().map(|id| app.settings.site.client_name(id)),
            since: now.since(*since),
            used: used_at.map(|at| now.since(at)),
            place: network.map(|it| if it == here { Place::Yours } else { Place::Elsewhere(it.shown()) }),
            meters: *meters,
        }
    }
}

/// The boxes beside the one that was given `own`, and the last questions about its meters. A store that does not answer
/// costs both, and no more.
pub async fn of(app: &App, request: &HttpRequest, own: TokenHash) -> (Vec<Shown>, Vec<Question>) {
    let (Some(metering), Some(browser)) = (&app.system().metering, browser::browser(app, request)) else {
        return Default::default();
    };
    let proven = metering.tokens.others(own).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the boxes of a meter could not be looked up");
        None
    });
    let Some(Proven { meters, others }) = proven else { return Default::default() };
    let shown = others.into_iter().map(|other| {
        let proof = proof(app, &browser, own, other.grant);
        Shown { other, proof }
    });
    let now = app.clock().wall();
    let asked = meters.iter().flat_map(|meter| app.shared.questions.of(*meter)).take(QUESTIONS_MAX);
    let question = |asked: Asked| Question {
        ago: now.since(asked.at),
        values: asked.values.map(|(resource, _)| resource),
        end: asked.end,
    };
    (shown.collect(), asked.map(question).collect())
}

fn proof(app: &App, browser: &BrowserToken, own: TokenHash, other: TokenHash) -> ShownProof {
    let subject = [own.as_ref(), other.as_ref()].concat();
    app.keys().proof(ShownPage::Boxes, browser, &subject)
}

/// The owner ends a box. The page is shown again, without it.
pub async fn end(app: Data<App>, request: HttpRequest, mut payload: Payload) -> HttpResponse {
    let Some(metering) = &app.system().metering else {
        return browser::respond(&app, app.pages(&request).problem(Problem::NotFound));
    };
    if let Err(page) = ended(&app, &request, &mut payload, metering).await {
        return browser::respond(&app, page);
    }
    let mut response = HttpResponse::SeeOther();
    browser::secure(&app, &mut response);
    // The same address, wherever it stands behind a reverse proxy.
    response.insert_header((LOCATION, format!("?{}", request.query_string()))).finish()
}

/// Ends it, or says why not. One that has ended already is no error.
async fn ended(
    app: &App,
    request: &HttpRequest,
    payload: &mut Payload,
    metering: &MeteringHandles,
) -> Result<(), Page> {
    let (pages, query) = (app.pages(request), Query::parse(request));
    let problem = |problem| pages.problem(problem);
    let body = Body::read(request, payload).await.map_err(|_| problem(Problem::BadRequest))?;
    let mut form = body.form().map_err(|_| problem(Problem::BadRequest))?;
    let (state, browser) = browser::sent_by(app, request, query.get("state")).map_err(problem)?;
    let set_out = (app.keys().state(&state), app.keys().browser(&browser));
    let own = match app.system().registry.check(set_out.0, set_out.1).await {
        Ok(CheckAnswer::Approved { refresh: Some(own), .. }) => own,
        Ok(CheckAnswer::Unavailable) | Err(_) => return Err(pages.trouble(OUR_TROUBLE, None)),
        Ok(_) => return Err(problem(Problem::BadState)),
    };
    let named = form.take("box").and_then(|id| TokenHash::from_slice(&hex::decode(&*id).ok()?));
    let other = named.ok_or_else(|| problem(Problem::BadRequest))?;
    if !form.take("proof").is_some_and(|sent| proof(app, &browser, own, other).is(&sent)) {
        return Err(problem(Problem::BadRequest));
    }
    match app.end_other(request, &metering.tokens, own, other).await {
        Revoked::Grant { uncovered } => {
            for meter in uncovered {
                metering.relay.forget(meter).await;
            }
            Ok(())
        }
        Revoked::Nothing => Ok(()),
        Revoked::Unavailable => Err(pages.trouble(OUR_TROUBLE, None)),
    }
}
