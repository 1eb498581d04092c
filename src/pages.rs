//! The pages a household sees: plain HTML, no script, no foreign resource, French or English.
//!
//! Pure: a method of [`Pages`] per page takes what the page shows, and gives status and HTML. Askama escapes every value.
//! To add a language: a column in `pages/text.rs` and a variant of [`Lang`].
//!
//! What the HTTP side has to add to a [`Page`]: `Content-Type: text/html; charset=utf-8`, `Content-Language`, `Vary:
//! Accept-Language, Cookie`, `Cache-Control: no-store`, `Referrer-Policy: no-referrer` (codes stand in addresses),
//! `Retry-After` where the page names a wait, `Refresh` where it loads itself again, and a cookie for a language that was
//! chosen. The stylesheet is served at [`STYLE_PATH`]; `style-src 'self'` is the
//! only source that a content security policy has to allow. Its `form-action` has to be `*` (or absent): Chromium
//! applies it to every redirect that follows a form, so `'self'`, and even the origin of the authorize endpoint, would
//! stop the owner on the way to Enedis' sign-in page.

mod lang;
mod qr;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
mod text;
mod view;

use std::time::Duration;

use crate::enedis::said::Said;
pub use lang::Lang;
use qr::Qr;
use text::Text;
use view::{
    CODE_MAX, ConfirmCodeView, EnterCodeView, HomeView, Message, OtherBoxView, PrivacyView, SHOWN_MAX,
    SignedInView, StatusRow, StatusView, Tone,
};
pub use view::{Page, Pages, STYLE, STYLE_PATH};
use view::{meter, page, shown, wait_sentence};

/// The wait until a page asks Enedis again by itself.
const ASK_AGAIN: Duration = Duration::from_secs(20);

/// The wait until a page looks again whether the device has its token. Devices poll every five seconds.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The wait until the page of the service's state looks again.
const STATUS_AGAIN: Duration = Duration::from_secs(60);

/// The wait suggested where Enedis asks for patience and does not say how much.
const MINUTES: Duration = Duration::from_secs(300);

/// The wait suggested where nothing better is known and the matter takes a moment.
const MOMENT: Duration = Duration::from_secs(5);

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

/// What a known, pending code would link.
#[derive(Clone, Debug)]
pub struct ConfirmCode<'a> {
    /// The user code as the device shows it, `XXXX-XXXX`.
    pub code: &'a str,
    /// The whole link to this page, for another screen.
    pub link: &'a str,
    /// Goes with either button.
    pub proof: &'a str,
    /// The page parameter to hand on, if any.
    pub state: Option<&'a str>,
    /// Name or id of the client that asked.
    pub client: &'a str,
    /// `User-Agent` of the device, if it sent one.
    pub user_agent: Option<&'a str>,
    /// Where the device is, if that is known.
    pub place: Option<Place>,
    /// Enedis does not answer at the moment.
    pub enedis_down: bool,
    /// How long ago the device asked.
    pub asked_ago: Duration,
    /// How long the code is still good.
    pub expires_in: Duration,
}

/// Where a device is, as far as its address tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the network that the person is in.
    Yours,
    /// In another; a part of its address.
    Elsewhere(String),
}

/// Another box that reads the meter of a consent.
#[derive(Clone, Debug)]
pub struct OtherBox<'a> {
    /// Goes with its button, and says which it is.
    pub id: String,
    /// Goes with its button.
    pub proof: String,
    /// Name or id of its client, if that is known.
    pub client: Option<&'a str>,
    /// Since when it reads the meter.
    pub since: Duration,
    /// How long ago it last came, if it ever did.
    pub used: Option<Duration>,
    /// Where it is, if that is known.
    pub place: Option<Place>,
    /// How many meters it reads.
    pub meters: usize,
}

/// Something failed that is not the reader's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble<'a> {
    /// Enedis is not asked for some time, because it did not answer: 503.
    EnedisDown {
        /// How long.
        wait: Duration,
    },
    /// Enedis does not answer: 504.
    EnedisSilent,
    /// Enedis, or our quota there, asks for patience: 503.
    EnedisBusy {
        /// How long to wait.
        wait: Duration,
    },
    /// Enedis answered with an error, or with something of no use: 502, or 503 if it asks for patience.
    EnedisError {
        /// What it means.
        said: Said,
        /// Enedis' `error` code; shown escaped and cut to 200 characters.
        error: Option<&'a str>,
    },
    /// Enedis refuses a consent that was given just now: 502.
    EnedisNotReady,
    /// Our store is down, or we are overloaded: 503.
    OurTrouble {
        /// How long to wait.
        wait: Duration,
    },
}

/// Why a request cannot be served as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// `state` is unknown or expired: 400.
    BadState,
    /// Back from Enedis without the cookie this began with: 400.
    OtherBrowser,
    /// The browser keeps no cookies, without which it cannot be told from another: 400.
    NoCookies,
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

/// What of Enedis this server asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnedisApi {
    /// Tokens, at the authorization server.
    Tokens,
    /// The service that tells which meter a consent is for.
    Consents,
    /// The data API of 2026.
    Data,
    /// The data API before it, v5.
    OldData,
}

impl EnedisApi {
    /// As metrics and programs call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tokens => "token",
            Self::Consents => "services",
            Self::Data => "new",
            Self::OldData => "legacy",
        }
    }
}

/// How one of them behaves, as seen from here.
#[derive(Clone, Copy, Debug)]
pub struct ApiStatus {
    /// Which.
    pub api: EnedisApi,
    /// How.
    pub state: ApiState,
    /// Calls in this clock hour.
    pub calls: u32,
}

/// What came of the last calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiState {
    /// None was made since the start.
    NotAsked,
    /// It answered.
    Answers,
    /// Some fail.
    Fails {
        /// For so long.
        since: Duration,
    },
    /// It does not answer, and is asked only now and then.
    Silent {
        /// For so long.
        since: Duration,
    },
}

/// What a problem's page offers.
enum Next {
    Nothing,
    EnterCode,
    Reload(Duration),
    Wait(Duration),
}

impl<'a> Pages<'a> {
    fn text(self) -> &'static Text {
        Text::of(self.lang)
    }

    /// The first page: what this is and how to begin; 200.
    pub fn home(self) -> Page {
        page(
            200,
            self,
            &HomeView { other_language: self.in_other_language("/", &[]), t: self.text(), pages: self },
        )
    }

    /// What is kept of a household, and how long; 200. `access_life`: how long tokens of this server open its data; `None`
    /// where devices get Enedis' own.
    pub fn privacy(self, access_life: Option<Duration>) -> Page {
        let other_language = self.in_other_language("/privacy", &[]);
        let access = access_life.map(|life| text::days(self.lang, life));
        page(200, self, &PrivacyView { other_language, t: self.text(), pages: self, access })
    }

    /// Whether it is Enedis or this service that does not answer; 200. Loads itself again every minute.
    pub fn status(self, ours: bool, apis: &[ApiStatus], calls_per_hour: u32) -> Page {
        let t = self.text();
        let since = |told: &str, since| format!("{told}{}", text::remaining(self.lang, since));
        let rows = apis.iter().map(|ApiStatus { api, state, calls }| StatusRow {
            name: match api {
                EnedisApi::Tokens => t.status_tokens,
                EnedisApi::Consents => t.status_consents,
                EnedisApi::Data => t.status_data,
                EnedisApi::OldData => t.status_old_data,
            },
            state: match *state {
                ApiState::NotAsked => t.status_not_asked.to_owned(),
                ApiState::Answers => t.status_answers.to_owned(),
                ApiState::Fails { since: time } => since(t.status_fails, time),
                ApiState::Silent { since: time } => since(t.status_silent, time),
            },
            calls: format!("{calls}{}{calls_per_hour}", t.status_of),
        });
        let ours = if ours { t.status_works } else { t.status_trouble };
        let other_language = self.in_other_language("/status", &[]);
        page(200, self, &StatusView { other_language, t, pages: self, ours, rows: rows.collect() })
            .with_reload(Some(STATUS_AGAIN))
    }

    /// The page that asks for the code: 200, with an error 400 or 429. It sends `code` [and `state`] to
    /// `/auth/verify_code`. `typed` is what the owner typed before, `state` the page parameter to hand on.
    pub fn enter_code(self, typed: &str, state: Option<&str>, error: Option<CodeError>) -> Page {
        self.code_form(typed, state, error, None)
    }

    /// The same page once more, before the code is looked at: codes are being guessed. `step` goes with the button; 200.
    pub fn second_step(self, typed: &str, state: Option<&str>, step: &str) -> Page {
        self.code_form(typed, state, None, Some(step))
    }

    fn code_form(
        self,
        typed: &str,
        state: Option<&str>,
        error: Option<CodeError>,
        step: Option<&str>,
    ) -> Page {
        let t = self.text();
        let (status, told, wait) = match error {
            None => (200, None, None),
            Some(CodeError::Missing) => (400, Some(t.enter_missing.to_owned()), None),
            Some(CodeError::NotValid) => (400, Some(t.enter_not_valid.to_owned()), None),
            Some(CodeError::TooManyAttempts { wait }) => {
                let told = format!("{} {}", t.too_many_attempts, wait_sentence(self.lang, wait));
                (429, Some(told), Some(wait))
            }
        };
        let view = EnterCodeView {
            other_language: self.in_other_language("/device", &[("state", state)]),
            t,
            pages: self,
            typed: shown(typed, CODE_MAX),
            state,
            step,
            invalid: matches!(error, Some(CodeError::Missing | CodeError::NotValid)),
            error: told,
        };
        page(status, self, &view).with_wait(wait)
    }

    /// The page that shows what a code would link, and asks whether to go on; 200.
    pub fn confirm_code(self, asked: ConfirmCode<'_>) -> Page {
        let view = ConfirmCodeView {
            other_language: self
                .in_other_language("/device", &[("code", Some(asked.code)), ("state", asked.state)]),
            t: self.text(),
            pages: self,
            code: asked.code,
            qr: Qr::of(asked.link),
            proof: asked.proof,
            state: asked.state,
            client: shown(asked.client, SHOWN_MAX),
            user_agent: asked.user_agent.map(|it| shown(it, SHOWN_MAX)).filter(|it| !it.is_empty()),
            place: asked.place.map(|place| self.place(&place)),
            notice: asked.enedis_down.then_some(self.text().confirm_enedis_down),
            asked: text::ago(self.lang, asked.asked_ago),
            expires: text::remaining(self.lang, asked.expires_in),
        };
        page(200, self, &view)
    }

    /// The owner consented; 200. Shows the last four digits of each usage point and the other boxes that read them, and
    /// loads itself again until the device has its token. The buttons of the boxes send `box` and `proof` by POST to the
    /// page's own address.
    pub fn signed_in(self, usage_points: &[String], delivered: bool, others: &[OtherBox<'_>]) -> Page {
        let t = self.text();
        let meters = usage_points.iter().zip(1..).map(|(point, number)| meter(t, point, number)).collect();
        let others = others.iter().map(|other| OtherBoxView {
            id: &other.id,
            proof: &other.proof,
            client: other.client.map_or_else(|| t.others_unnamed.to_owned(), |it| shown(it, SHOWN_MAX)),
            since: text::ago(self.lang, other.since),
            used: other.used.map_or_else(|| t.others_never.to_owned(), |used| text::ago(self.lang, used)),
            place: other.place.as_ref().map(|place| self.place(place)),
            meters: (other.meters > 1).then(|| other.meters.to_string()),
        });
        let others = others.collect();
        page(200, self, &SignedInView { t, pages: self, delivered, meters, others })
            .with_reload((!delivered).then_some(LOOK_AGAIN))
    }

    fn place(self, place: &Place) -> String {
        match place {
            Place::Yours => self.text().place_yours.to_owned(),
            Place::Elsewhere(network) => format!("{}{network}", self.text().place_elsewhere),
        }
    }

    /// The owner refused at Enedis, and the device is told; 200.
    pub fn refused(self) -> Page {
        let t = self.text();
        self.message(t.refused_title, Tone::Stop, &[t.refused_told, t.refused_mistake]).render(200)
    }

    /// The owner said on the confirm page that the request is not theirs, and the device is told; 200.
    pub fn not_mine(self) -> Page {
        let t = self.text();
        self.message(t.not_mine_title, Tone::Stop, &[t.not_mine_told, t.not_mine_again]).render(200)
    }

    /// The page for trouble. Where the user code is known and still good it offers to try again.
    pub fn trouble(self, trouble: Trouble<'_>, code: Option<&str>) -> Page {
        let t = self.text();
        let down = || {
            let told = [t.enedis_unavailable, t.retry_in_minutes];
            self.message(t.enedis_unavailable_title, Tone::Wait, &told)
        };
        let (status, message) = match trouble {
            Trouble::EnedisDown { wait } => (503, down().retry_after(wait)),
            Trouble::EnedisSilent => (504, down()),
            Trouble::EnedisBusy { wait } => {
                (503, self.message(t.enedis_busy_title, Tone::Wait, &[t.enedis_busy]).wait(wait))
            }
            Trouble::EnedisError { said: Said::OurSetup, error } => return self.our_setup(error),
            Trouble::EnedisError { said: Said::Busy, error } => {
                let told = [t.enedis_busy, t.retry_in_minutes];
                let message = self.message(t.enedis_busy_title, Tone::Wait, &told);
                (503, message.detail(error).retry_after(MINUTES))
            }
            Trouble::EnedisError { said, error } => (502, self.enedis_error(said).detail(error)),
            Trouble::EnedisNotReady => {
                let told = [t.not_ready, t.not_ready_advice];
                return self.message(t.not_ready_title, Tone::Wait, &told).render(502);
            }
            Trouble::OurTrouble { wait } => {
                (503, self.message(t.our_trouble_title, Tone::Wait, &[t.our_trouble]).wait(wait))
            }
        };
        let message = match code {
            Some(code) => message.say(t.retry_from_device).action(self.device(Some(code)), t.try_again),
            None => message.say(t.start_again),
        };
        message.render(status)
    }

    /// What Enedis' error means, where the person may go again.
    #[rustfmt::skip]
    fn enedis_error(self, said: Said) -> Message<'a> {
        let t = self.text();
        let (title, tone, told): (_, _, &[_]) = match said {
            Said::Unfinished => (t.unfinished_title, Tone::Stop, &[t.unfinished, t.unfinished_advice]),
            Said::Failed | Said::Busy => (t.enedis_failed_title, Tone::Wait, &[t.enedis_failed, t.retry_in_minutes]),
            Said::Outdated => (t.outdated_title, Tone::Stop, &[t.outdated]),
            Said::Denied | Said::OurSetup | Said::Other => (t.enedis_rejected_title, Tone::Stop, &[t.enedis_rejected]),
        };
        self.message(title, tone, told)
    }

    /// Enedis refuses this server: nothing that a household does helps, and its operator may not know.
    fn our_setup(self, error: Option<&str>) -> Page {
        let t = self.text();
        let message = self.message(t.our_setup_title, Tone::Stop, &[t.our_setup]).detail(error);
        let message = match &self.site.contact {
            Some(contact) => message.say(t.our_setup_contact).action(contact.to_string(), t.contact_operator),
            None => message.say(t.our_setup_no_contact),
        };
        message.render(502)
    }

    /// The page for a request that cannot be served.
    #[rustfmt::skip]
    pub fn problem(self, problem: Problem) -> Page {
        let t = self.text();
        let (status, title, told, next): (_, _, &[_], _) = match problem {
            Problem::BadState => (400, t.bad_state_title, &[t.bad_state, t.start_again], Next::Nothing),
            Problem::OtherBrowser => (400, t.other_browser_title, &[t.other_browser, t.other_browser_advice, t.other_browser_stands], Next::EnterCode),
            Problem::NoCookies => (400, t.no_cookies_title, &[t.no_cookies, t.no_cookies_advice], Next::EnterCode),
            Problem::MissingParameters => (400, t.missing_parameters_title, &[t.missing_parameters, t.start_again], Next::Nothing),
            Problem::MalformedReturn => (400, t.malformed_return_title, &[t.malformed_return, t.start_again], Next::Nothing),
            Problem::AlreadyUsed => (409, t.already_used_title, &[t.already_used, t.already_used_otherwise], Next::Nothing),
            Problem::InProgress => (409, t.in_progress_title, &[t.in_progress], Next::Reload(MOMENT)),
            Problem::NotListed => (503, t.not_listed_title, &[t.not_listed, t.not_listed_wait], Next::Reload(ASK_AGAIN)),
            Problem::NotFresh => (409, t.not_fresh_title, &[t.not_fresh, t.not_fresh_advice], Next::Nothing),
            Problem::NotFound => (404, t.not_found_title, &[t.not_found], Next::EnterCode),
            Problem::MethodNotAllowed => (405, t.method_not_allowed_title, &[t.method_not_allowed], Next::EnterCode),
            Problem::BadRequest => (400, t.bad_request_title, &[t.bad_request], Next::EnterCode),
            Problem::TooManyAttempts { wait } => (429, t.too_many_title, &[t.too_many], Next::Wait(wait)),
        };
        let waits = matches!(next, Next::Reload(_) | Next::Wait(_));
        let message = self.message(title, if waits { Tone::Wait } else { Tone::Stop }, told);
        let message = match next {
            Next::Nothing => message,
            Next::EnterCode => message.action(self.device(None), t.enter_a_code),
            // An empty reference is the address of this very page, with its query.
            Next::Reload(after) => message.reload_after(after).action(String::new(), t.reload),
            Next::Wait(wait) => message.wait(wait),
        };
        message.render(status)
    }

    fn message(self, title: &'static str, tone: Tone, told: &[&str]) -> Message<'a> {
        Message::new(self, title, tone, told)
    }
}
