//! Every page in every state, for tests.

use std::time::Duration;

use super::{
    CodeError, ConfirmCode, EnterCode, Home, Lang, NotMine, Page, Problem, ProblemKind, Refused, SignedIn,
    Site, Trouble, TroubleKind,
};

/// What strangers can put into a page.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) site: Site<'a>,
    pub(crate) code: &'a str,
    pub(crate) state: &'a str,
    pub(crate) client: &'a str,
    pub(crate) user_agent: &'a str,
    pub(crate) usage_point: &'a str,
    pub(crate) enedis_error: &'a str,
}

impl Input<'static> {
    /// What is usual.
    pub(crate) const USUAL: Self = Self {
        site: Site {
            base: "https://linky.example.net/consent",
            enedis_host: "mon-compte-particulier.enedis.fr",
        },
        code: "BCDF-GHJK",
        state: "1",
        client: "DomoticzLinky",
        user_agent: "DomoticzLinkyPlugin/2.6.0",
        usage_point: "22516914714270",
        enedis_error: "server_error",
    };
}

/// Every page in every state, with a name that says which.
pub(crate) fn all(input: Input<'_>, lang: Lang) -> Vec<(String, Page)> {
    let mut pages = vec![
        ("home".to_owned(), Home { site: input.site }.render(lang)),
        ("refused".to_owned(), Refused { site: input.site }.render(lang)),
        ("not-mine".to_owned(), NotMine { site: input.site }.render(lang)),
    ];
    pages.extend(entering(input, lang));
    pages.extend(confirming(input, lang));
    pages.extend(signed_in(input, lang));
    pages.extend(troubles(input, lang));
    pages.extend(problems(input, lang));
    pages
}

fn entering(input: Input<'_>, lang: Lang) -> Vec<(String, Page)> {
    let site = input.site;
    let wait = Duration::from_secs(45);
    [
        ("enter", "", None, None),
        ("enter-state", "", Some(input.state), None),
        ("enter-missing", "", None, Some(CodeError::Missing)),
        ("enter-not-valid", input.code, Some(input.state), Some(CodeError::NotValid)),
        ("enter-too-many", input.code, None, Some(CodeError::TooManyAttempts { wait })),
    ]
    .map(|(name, typed, state, error)| {
        (name.to_owned(), EnterCode { site, typed, state, error }.render(lang))
    })
    .into()
}

fn confirming(input: Input<'_>, lang: Lang) -> Vec<(String, Page)> {
    [("confirm", None, None), ("confirm-all", Some(input.state), Some(input.user_agent))]
        .map(|(name, state, user_agent)| {
            let page = ConfirmCode {
                site: input.site,
                code: input.code,
                state,
                client: input.client,
                user_agent,
                asked_ago: Duration::from_secs(140),
                expires_in: Duration::from_secs(160),
            };
            (name.to_owned(), page.render(lang))
        })
        .into()
}

fn signed_in(input: Input<'_>, lang: Lang) -> Vec<(String, Page)> {
    [("signed-in", 1), ("signed-in-unknown", 0), ("signed-in-many", 23)]
        .map(|(name, count)| {
            let usage_points = vec![input.usage_point.to_owned(); count];
            (name.to_owned(), SignedIn { site: input.site, usage_points: &usage_points }.render(lang))
        })
        .into()
}

fn troubles(input: Input<'_>, lang: Lang) -> Vec<(String, Page)> {
    let wait = Duration::from_secs(120);
    let kinds = [
        ("unavailable", 502, TroubleKind::EnedisUnavailable),
        ("busy", 503, TroubleKind::EnedisBusy { wait }),
        ("rejected", 502, TroubleKind::EnedisRejected { error: None }),
        ("rejected-error", 502, TroubleKind::EnedisRejected { error: Some(input.enedis_error) }),
        ("ours", 503, TroubleKind::OurTrouble { wait }),
    ];
    let codes = [("", None, None), ("-code", Some(input.code), Some(input.state))];
    let mut pages = Vec::new();
    for (name, status, kind) in kinds {
        for (suffix, code, state) in codes {
            let page = Trouble { site: input.site, kind, status, code, state };
            pages.push((format!("trouble-{name}{suffix}"), page.render(lang)));
        }
    }
    pages
}

fn problems(input: Input<'_>, lang: Lang) -> Vec<(String, Page)> {
    [
        ProblemKind::BadState,
        ProblemKind::OtherBrowser,
        ProblemKind::MissingParameters,
        ProblemKind::MalformedReturn,
        ProblemKind::AlreadyUsed,
        ProblemKind::InProgress,
        ProblemKind::NotListed,
        ProblemKind::NotFresh,
        ProblemKind::NotFound,
        ProblemKind::MethodNotAllowed,
        ProblemKind::BadRequest,
        ProblemKind::TooManyAttempts { wait: Duration::from_secs(30) },
    ]
    .map(|kind| (format!("problem-{kind:?}"), Problem { site: input.site, kind }.render(lang)))
    .into()
}
