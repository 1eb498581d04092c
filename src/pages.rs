//! The pages a household sees: plain HTML, no script, no foreign resource, French or English.
//!
//! Pure: a struct per page says what the page needs, `render` gives status and HTML. Askama escapes every value.
//!
//! What the HTTP side has to add to a [`Page`]: `Content-Type: text/html; charset=utf-8`, `Content-Language`, `Vary:
//! Accept-Language`, `Cache-Control: no-store`, `Referrer-Policy: no-referrer` (codes stand in addresses) and
//! `Retry-After` where the page names a wait. The stylesheet is served at [`STYLE_PATH`]; `style-src 'self'` is the
//! only source that a content security policy has to allow. Its `form-action` has to be `*` (or absent): Chromium
//! applies it to every redirect that follows a form, so `'self'`, and even the origin of the authorize endpoint, would
//! stop the owner on the way to Enedis' sign-in page.

mod lang;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
mod text;
mod view;

use std::time::Duration;

pub use lang::Lang;
use text::Text;
use view::{
    CODE_MAX, ConfirmCodeView, EnterCodeView, HomeView, Message, SHOWN_MAX, Shell, SignedInView, Tone,
    device_address, meter, page, shown, wait_sentence,
};

/// The stylesheet of all pages.
pub const STYLE: &str = include_str!("pages/style.css");

/// Where the stylesheet is served, below the base address. Pages link to it with a query that changes whenever
/// [`STYLE`] does, so it may be cached for ever.
pub const STYLE_PATH: &str = "/assets/style.css";

/// Usage points listed one by one; a page stays readable for owners of many.
const METERS_MAX: usize = 20;

/// The wait until a page asks Enedis again by itself.
const ASK_AGAIN: Duration = Duration::from_secs(20);

/// The wait suggested where nothing better is known and the matter takes a moment.
const MOMENT: Duration = Duration::from_secs(5);

/// A rendered page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// For `Content-Language`.
    pub lang: Lang,
    /// For `Retry-After`, in seconds, where the page asks its reader to wait.
    pub retry_after_secs: Option<u64>,
    /// The document.
    pub html: String,
}

/// What all pages know about this installation.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Put before every address: a path prefix (may be empty) or a full base address. No slash at the end.
    pub base: &'a str,
    /// Host of Enedis' authorize endpoint, shown so that the owner knows where the next step leads.
    pub enedis_host: &'a str,
}

/// The first page: what this is and how to begin.
#[derive(Clone, Copy, Debug)]
pub struct Home<'a> {
    /// This installation.
    pub site: Site<'a>,
}

/// The page that asks for the code. It sends `code` [and `state`] to `/auth/verify_code`.
#[derive(Clone, Copy, Debug)]
pub struct EnterCode<'a> {
    /// This installation.
    pub site: Site<'a>,
    /// What the owner typed before; empty at first.
    pub typed: &'a str,
    /// The page parameter to hand on, if any.
    pub state: Option<&'a str>,
    /// Why the owner is asked (again).
    pub error: Option<CodeError>,
}

/// Why a code was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeError {
    /// The field was empty: 400.
    Missing,
    /// Unknown, expired or used, which strangers must not be able to tell apart: 400.
    NotValid,
    /// Too many wrong codes from here: 429.
    TooManyAttempts {
        /// How long no code will be looked at.
        wait: Duration,
    },
}

/// The page that shows what a known, pending code would link, and asks whether to go on.
#[derive(Clone, Copy, Debug)]
pub struct ConfirmCode<'a> {
    /// This installation.
    pub site: Site<'a>,
    /// The user code as the device shows it, `XXXX-XXXX`.
    pub code: &'a str,
    /// The page parameter to hand on, if any.
    pub state: Option<&'a str>,
    /// Name or id of the client that asked.
    pub client: &'a str,
    /// `User-Agent` of the device, if it sent one.
    pub user_agent: Option<&'a str>,
    /// How long ago the device asked.
    pub asked_ago: Duration,
    /// How long the code is still good.
    pub expires_in: Duration,
}

/// The owner consented: 200.
#[derive(Clone, Copy, Debug)]
pub struct SignedIn<'a> {
    /// This installation.
    pub site: Site<'a>,
    /// The usage points, in full; the page shows the last four digits of each.
    pub usage_points: &'a [String],
}

/// The owner refused at Enedis, and the device is told: 200.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    /// This installation.
    pub site: Site<'a>,
}

/// The owner said on the confirm page that the request is not theirs; nothing was changed: 200.
#[derive(Clone, Copy, Debug)]
pub struct NotMine<'a> {
    /// This installation.
    pub site: Site<'a>,
}

/// Something failed that is not the reader's fault: 5xx.
#[derive(Clone, Copy, Debug)]
pub struct Trouble<'a> {
    /// This installation.
    pub site: Site<'a>,
    /// What failed.
    pub kind: TroubleKind<'a>,
    /// HTTP status, 500 to 599; anything else becomes 502.
    pub status: u16,
    /// The user code, where it is known and still good: the page then offers to try again.
    pub code: Option<&'a str>,
    /// The page parameter to hand on with the code, if any.
    pub state: Option<&'a str>,
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleKind<'a> {
    /// Enedis does not answer.
    EnedisUnavailable,
    /// Enedis, or our quota there, asks for patience.
    EnedisBusy {
        /// How long to wait.
        wait: Duration,
    },
    /// Enedis answered with an error, or with something of no use.
    EnedisRejected {
        /// Enedis' `error` code; shown escaped and cut to 200 characters.
        error: Option<&'a str>,
    },
    /// Our store is down, or we are overloaded.
    OurTrouble {
        /// How long to wait.
        wait: Duration,
    },
}

/// The request cannot be served as it is: 4xx.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// This installation.
    pub site: Site<'a>,
    /// What is wrong.
    pub kind: ProblemKind,
}

/// What is wrong with the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// `state` is unknown or expired: 400.
    BadState,
    /// Back from Enedis without the cookie this began with: 400.
    OtherBrowser,
    /// Parameters are missing: 400.
    MissingParameters,
    /// Back from Enedis with something malformed: 400.
    MalformedReturn,
    /// The request was answered before: 409.
    AlreadyUsed,
    /// The consent is being completed; reloading soon shows the outcome: 409.
    InProgress,
    /// Enedis does not list the consent yet; the page loads itself again: 503.
    NotListed,
    /// The meter is linked already, and Enedis does not say that this consent is a new one: 409.
    NotFresh,
    /// No such page: 404.
    NotFound,
    /// Wrong method; the caller adds `Allow`: 405.
    MethodNotAllowed,
    /// Any other unusable request: 400.
    BadRequest,
    /// Too many attempts: 429.
    TooManyAttempts {
        /// How long to wait.
        wait: Duration,
    },
}

impl Home<'_> {
    /// Renders the page, 200.
    pub fn render(&self, lang: Lang) -> Page {
        page(200, lang, &HomeView { t: Text::of(lang), shell: Shell::new(lang, self.site) })
    }
}

impl EnterCode<'_> {
    /// Renders the page: 200, with an error 400 or 429.
    pub fn render(&self, lang: Lang) -> Page {
        let t = Text::of(lang);
        let (status, error, wait) = match self.error {
            None => (200, None, None),
            Some(CodeError::Missing) => (400, Some(t.enter_missing.to_owned()), None),
            Some(CodeError::NotValid) => (400, Some(t.enter_not_valid.to_owned()), None),
            Some(CodeError::TooManyAttempts { wait }) => {
                let error = format!("{} {}", t.too_many_attempts, wait_sentence(lang, wait));
                (429, Some(error), Some(wait))
            }
        };
        let view = EnterCodeView {
            t,
            shell: Shell::new(lang, self.site),
            typed: shown(self.typed, CODE_MAX),
            state: self.state,
            invalid: matches!(self.error, Some(CodeError::Missing | CodeError::NotValid)),
            error,
        };
        page(status, lang, &view).with_wait(wait)
    }
}

impl ConfirmCode<'_> {
    /// Renders the page, 200.
    pub fn render(&self, lang: Lang) -> Page {
        let view = ConfirmCodeView {
            t: Text::of(lang),
            shell: Shell::new(lang, self.site),
            code: self.code,
            state: self.state,
            client: shown(self.client, SHOWN_MAX),
            user_agent: self.user_agent.map(|it| shown(it, SHOWN_MAX)).filter(|it| !it.is_empty()),
            asked: text::ago(lang, self.asked_ago),
            expires: text::remaining(lang, self.expires_in),
        };
        page(200, lang, &view)
    }
}

impl SignedIn<'_> {
    /// Renders the page, 200.
    pub fn render(&self, lang: Lang) -> Page {
        let t = Text::of(lang);
        let numbered = self.usage_points.iter().zip(1_usize..).take(METERS_MAX);
        let mut meters: Vec<String> = numbered.map(|(point, number)| meter(t, point, number)).collect();
        let others = self.usage_points.len().saturating_sub(METERS_MAX);
        if others > 0 {
            meters.push(format!("{}{others}", t.meters_more));
        }
        page(200, lang, &SignedInView { t, shell: Shell::new(lang, self.site), meters })
    }
}

impl Refused<'_> {
    /// Renders the page, 200.
    pub fn render(&self, lang: Lang) -> Page {
        let t = Text::of(lang);
        Message::new(t.refused_title, Tone::Stop)
            .say(t.refused_told)
            .say(t.refused_mistake)
            .render(200, lang, self.site)
    }
}

impl NotMine<'_> {
    /// Renders the page, 200.
    pub fn render(&self, lang: Lang) -> Page {
        let t = Text::of(lang);
        Message::new(t.not_mine_title, Tone::Stop)
            .say(t.not_mine_told)
            .say(t.not_mine_again)
            .render(200, lang, self.site)
    }
}

impl Trouble<'_> {
    /// Renders the page with the status given.
    pub fn render(&self, lang: Lang) -> Page {
        let t = Text::of(lang);
        let status = if (500..600).contains(&self.status) { self.status } else { 502 };
        let message = match self.kind {
            TroubleKind::EnedisUnavailable => Message::new(t.enedis_unavailable_title, Tone::Wait)
                .say(t.enedis_unavailable)
                .say(t.retry_in_minutes),
            TroubleKind::EnedisBusy { wait } => {
                Message::new(t.enedis_busy_title, Tone::Wait).say(t.enedis_busy).wait(lang, wait)
            }
            TroubleKind::EnedisRejected { error } => {
                Message::new(t.enedis_rejected_title, Tone::Stop).say(t.enedis_rejected).detail(error)
            }
            TroubleKind::OurTrouble { wait } => {
                Message::new(t.our_trouble_title, Tone::Wait).say(t.our_trouble).wait(lang, wait)
            }
        };
        let message = match self.code {
            Some(code) => message
                .say(t.retry_from_device)
                .action(device_address(self.site, Some(code), self.state), t.try_again),
            None => message.say(t.start_again),
        };
        message.render(status, lang, self.site)
    }
}

impl Problem<'_> {
    /// Renders the page with the status of its kind.
    pub fn render(&self, lang: Lang) -> Page {
        let t = Text::of(lang);
        let enter = device_address(self.site, None, None);
        let message = match self.kind {
            ProblemKind::BadState => {
                Message::new(t.bad_state_title, Tone::Stop).say(t.bad_state).say(t.start_again)
            }
            ProblemKind::OtherBrowser => Message::new(t.other_browser_title, Tone::Stop)
                .say(t.other_browser)
                .say(t.other_browser_advice)
                .action(enter, t.enter_a_code),
            ProblemKind::MissingParameters => Message::new(t.missing_parameters_title, Tone::Stop)
                .say(t.missing_parameters)
                .say(t.start_again),
            ProblemKind::MalformedReturn => {
                Message::new(t.malformed_return_title, Tone::Stop).say(t.malformed_return).say(t.start_again)
            }
            ProblemKind::AlreadyUsed => Message::new(t.already_used_title, Tone::Stop)
                .say(t.already_used)
                .say(t.already_used_otherwise),
            // An empty reference is the address of this very page, with its query.
            ProblemKind::InProgress => Message::new(t.in_progress_title, Tone::Wait)
                .say(t.in_progress)
                .reload_after(MOMENT)
                .action(String::new(), t.reload),
            ProblemKind::NotListed => Message::new(t.not_listed_title, Tone::Wait)
                .say(t.not_listed)
                .say(t.not_listed_wait)
                .reload_after(ASK_AGAIN)
                .action(String::new(), t.reload),
            ProblemKind::NotFresh => {
                Message::new(t.not_fresh_title, Tone::Stop).say(t.not_fresh).say(t.not_fresh_advice)
            }
            ProblemKind::NotFound => {
                Message::new(t.not_found_title, Tone::Stop).say(t.not_found).action(enter, t.enter_a_code)
            }
            ProblemKind::MethodNotAllowed => Message::new(t.method_not_allowed_title, Tone::Stop)
                .say(t.method_not_allowed)
                .action(enter, t.enter_a_code),
            ProblemKind::BadRequest => {
                Message::new(t.bad_request_title, Tone::Stop).say(t.bad_request).action(enter, t.enter_a_code)
            }
            ProblemKind::TooManyAttempts { wait } => {
                Message::new(t.too_many_title, Tone::Wait).say(t.too_many).wait(lang, wait)
            }
        };
        message.render(self.kind.status(), lang, self.site)
    }
}

impl ProblemKind {
    /// HTTP status of the page.
    pub fn status(self) -> u16 {
        match self {
            Self::BadState
            | Self::OtherBrowser
            | Self::MissingParameters
            | Self::MalformedReturn
            | Self::BadRequest => 400,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::AlreadyUsed | Self::InProgress | Self::NotFresh => 409,
            Self::NotListed => 503,
            Self::TooManyAttempts { .. } => 429,
        }
    }
}
