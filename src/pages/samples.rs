//! Every page in every state, for tests.

use std::collections::BTreeMap;
use std::time::Duration;

use actors::metering::request::Resource;

use super::{
    AnswerEnd, ApiState, ApiStatus, CodeError, ConfirmCode, EnedisApi, Lang, OtherBox, Page, Pages, Place,
    Problem, Question, Trouble,
};
use crate::config::SiteConfig;
use crate::enedis::said::Said;

/// What strangers can put into a page.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) base: &'a str,
    pub(super) enedis_host: &'a str,
    pub(super) code: &'a str,
    pub(super) state: &'a str,
    pub(super) client: &'a str,
    pub(super) user_agent: &'a str,
    pub(super) usage_point: &'a str,
    pub(super) enedis_error: &'a str,
    pub(super) site: &'a SiteConfig,
}

/// An operator who says nothing.
static NO_TEXTS: SiteConfig =
    SiteConfig { name: None, contact: None, legal_notice: None, client_names: BTreeMap::new() };
/// Where households sign in at Enedis.
pub(super) const ACCOUNT: &str = "https://mon-compte-particulier.enedis.fr";

impl Input<'static> {
    /// What is usual.
    pub(super) const USUAL: Self = Self {
        base: "https://linky.example.net/consent",
        enedis_host: "mon-compte-particulier.enedis.fr",
        code: "BCDF-GHJK",
        state: "1",
        client: "DomoticzLinky",
        user_agent: "DomoticzLinkyPlugin/2.6.0",
        usage_point: "22516914714270",
        enedis_error: "server_error",
        site: &NO_TEXTS,
    };
}

impl<'a> Input<'a> {
    pub(super) fn pages(self, lang: Lang) -> Pages<'a> {
        let (base, enedis_host, site) = (self.base, self.enedis_host, self.site);
        Pages { lang, keeps_lang: false, base, enedis_host, enedis_account: ACCOUNT, site }
    }
}

fn others(input: Input<'_>) -> Vec<OtherBox<'_>> {
    let day = Duration::from_secs(86_400);
    let first = OtherBox {
        id: "0123456789abcdef0123456789abcdef".to_owned(),
        proof: "fedcba9876543210fedcba9876543210".to_owned(),
        client: Some(input.client),
        since: day * 400,
        used: Some(day / 2),
        place: Some(Place::Yours),
        meters: 1,
    };
    let place = Some(Place::Elsewhere("203.0.113.…".to_owned()));
    vec![first.clone(), OtherBox { client: None, used: None, place, meters: 3, ..first }]
}

fn questions() -> Vec<Question> {
    let ends = [AnswerEnd::Values, AnswerEnd::NotReady, AnswerEnd::Busy];
    let asked =
        |end| Question { ago: Duration::from_secs(7_200), values: Some(Resource::ConsumptionCurve), end };
    ends.map(asked).to_vec()
}

fn statuses(since: Duration) -> Vec<ApiStatus> {
    let states = [
        (EnedisApi::Tokens, ApiState::NotAsked),
        (EnedisApi::Consents, ApiState::Answers),
        (EnedisApi::Data, ApiState::Silent { since }),
        (EnedisApi::OldData, ApiState::Fails { since }),
    ];
    states.map(|(api, state)| ApiStatus { api, state, calls: 7 }).to_vec()
}

/// Every page in every state as it usually is, with a name that says which.
pub fn usual(lang: Lang) -> Vec<(String, Page)> {
    all(Input::USUAL, lang)
}

/// Every page in every state, with a name that says which.
pub(super) fn all(input: Input<'_>, lang: Lang) -> Vec<(String, Page)> {
    let pages = input.pages(lang);
    let (code, state) = (input.code, Some(input.state));
    let wait = Duration::from_secs(45);
    let confirm = ConfirmCode {
        code,
        link: "https://linky.example.net/consent/device?code=BCDF-GHJK",
        proof: "0123456789abcdef0123456789abcdef",
        state: None,
        client: input.client,
        user_agent: None,
        place: None,
        enedis_down: false,
        asked_ago: Duration::from_secs(140),
        expires_in: Duration::from_secs(160),
    };
    let days = [("2026-11-29".to_owned(), "2026-11-30 08:12".to_owned())];
    let meters = vec![input.usage_point.to_owned(); 20];
    let mut all = vec![
        ("home".to_owned(), pages.home()),
        ("refused".to_owned(), pages.refused()),
        ("not mine".to_owned(), pages.not_mine()),
        ("enter".to_owned(), pages.enter_code("", None, None)),
        ("enter, state".to_owned(), pages.enter_code("", state, None)),
        ("enter, second step".to_owned(), pages.second_step(code, state, "0123456789abcdef0123456789abcdef")),
        ("enter, missing".to_owned(), pages.enter_code("", None, Some(CodeError::Missing))),
        ("enter, not valid".to_owned(), pages.enter_code(code, state, Some(CodeError::NotValid))),
        (
            "enter, too many".to_owned(),
            pages.enter_code(code, None, Some(CodeError::TooManyAttempts { wait })),
        ),
        ("confirm".to_owned(), pages.confirm_code(confirm.clone())),
        (
            "confirm, all".to_owned(),
            pages.confirm_code(ConfirmCode {
                state,
                user_agent: Some(input.user_agent),
                place: Some(Place::Elsewhere("203.0.113.…".to_owned())),
                ..confirm.clone()
            }),
        ),
        (
            "confirm, near".to_owned(),
            pages.confirm_code(ConfirmCode { place: Some(Place::Yours), enedis_down: true, ..confirm }),
        ),
        ("signed in".to_owned(), pages.signed_in(&meters[..1], false, &[], &[])),
        ("signed in, unknown".to_owned(), pages.signed_in(&[], false, &[], &[])),
        ("signed in, many".to_owned(), pages.signed_in(&meters, true, &[], &[])),
        ("signed in, others".to_owned(), pages.signed_in(&meters[..1], true, &others(input), &questions())),
        ("status".to_owned(), pages.status(true, &[], 1_000, &[])),
        ("status, trouble".to_owned(), pages.status(false, &statuses(wait), 1_000, &days)),
        ("privacy".to_owned(), pages.privacy(None)),
        ("privacy, relay".to_owned(), pages.privacy(Some(Duration::from_secs(1_095 * 86_400)))),
    ];
    for trouble in [
        Trouble::EnedisDown { wait },
        Trouble::EnedisSilent,
        Trouble::EnedisBusy { wait },
        Trouble::EnedisError { said: Said::Other, error: None },
        Trouble::EnedisError { said: Said::Other, error: Some(input.enedis_error) },
        Trouble::EnedisError { said: Said::Unfinished, error: Some("demande_non_aboutie") },
        Trouble::EnedisError { said: Said::OurSetup, error: Some("invalid_client") },
        Trouble::EnedisError { said: Said::Failed, error: Some("server_error") },
        Trouble::EnedisError { said: Said::Busy, error: Some("503") },
        Trouble::EnedisError { said: Said::Outdated, error: Some("invalid_grant") },
        Trouble::EnedisNotReady,
        Trouble::OurTrouble { wait },
    ] {
        for code in [None, Some(code)] {
            all.push((format!("{trouble:?}, {code:?}"), pages.trouble(trouble, code)));
        }
    }
    for problem in [
        Problem::BadState,
        Problem::OtherBrowser,
        Problem::NoCookies,
        Problem::MissingParameters,
        Problem::MalformedReturn,
        Problem::AlreadyUsed,
        Problem::InProgress,
        Problem::NotListed,
        Problem::NotFresh,
        Problem::NotFound,
        Problem::MethodNotAllowed,
        Problem::BadRequest,
        Problem::TooManyAttempts { wait },
    ] {
        all.push((format!("{problem:?}"), pages.problem(problem)));
    }
    all
}
