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
#[doc(hidden)]
pub mod samples;
#[cfg(test)]
mod tests;
mod text;
mod trouble;
mod view;

use std::time::Duration;

use actors::metering::request::Resource;
pub use lang::Lang;
use qr::Qr;
use text::Text;
pub use trouble::{Problem, Trouble};
use view::{
    CODE_MAX, ConfirmCodeView, EnterCodeView, HomeView, Message, OtherBoxView, PrivacyView, QuestionRow,
    SHOWN_MAX, SignedInView, StatusRow, StatusView, Tone,
};
pub use view::{Page, Pages, STYLE, STYLE_PATH};
use view::{meter, page, shown, wait_sentence};

/// The wait until a page looks again whether the device has its token. Devices poll every five seconds.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The wait until the page of the service's state looks again.
const STATUS_AGAIN: Duration = Duration::from_secs(60);

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

/// How a question for a meter's values ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerEnd {
    /// With values, or a contract.
    Values,
    /// Enedis has none.
    NoData,
    /// Enedis says that it cannot be answered.
    Error,
    /// Enedis refuses, in the days after a consent.
    NotReady,
    /// Enedis refuses, and is not believed yet.
    Refused,
    /// The consent is withdrawn.
    Withdrawn,
    /// The quota is used up, or too much waits.
    Busy,
    /// Enedis does not answer.
    EnedisDown,
    /// This service could not.
    OurTrouble,
}

impl AnswerEnd {
    /// As programs call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Values => "values",
            Self::NoData => "no_data",
            Self::Error => "error",
            Self::NotReady => "not_ready",
            Self::Refused => "refused",
            Self::Withdrawn => "withdrawn",
            Self::Busy => "busy",
            Self::EnedisDown => "enedis_down",
            Self::OurTrouble => "our_trouble",
        }
    }
}

/// A question that a box asked about the meter of a consent.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// How long ago.
    pub ago: Duration,
    /// For which values; `None`: for the contract.
    pub values: Option<Resource>,
    /// How it ended.
    pub end: AnswerEnd,
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

    /// Whether it is Enedis or this service that does not answer; 200. Loads itself again every minute. `days`: the newest
    /// days of which values came, and when they first did.
    pub fn status(
        self,
        ours: bool,
        apis: &[ApiStatus],
        calls_per_hour: u32,
        days: &[(String, String)],
    ) -> Page {
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
        page(200, self, &StatusView { other_language, t, pages: self, ours, rows: rows.collect(), days })
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
    /// page's own address. `questions` are the last ones about these meters.
    pub fn signed_in(
        self,
        usage_points: &[String],
        delivered: bool,
        others: &[OtherBox<'_>],
        questions: &[Question],
    ) -> Page {
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
        let questions = questions.iter().map(|asked| QuestionRow {
            what: asked.values.map_or(t.asked_contract, |resource| match resource {
                Resource::ConsumptionCurve => t.asked_consumption_curve,
                Resource::ProductionCurve => t.asked_production_curve,
                Resource::DailyConsumption => t.asked_daily_consumption,
                Resource::DailyProduction => t.asked_daily_production,
                Resource::DailyMaxPower => t.asked_max_power,
            }),
            ago: text::ago(self.lang, asked.ago),
            told: self.told(asked.end),
        });
        let questions = questions.collect();
        page(200, self, &SignedInView { t, pages: self, delivered, meters, others, questions })
            .with_reload((!delivered).then_some(LOOK_AGAIN))
    }

    /// How a question ended, in words.
    pub fn told(self, end: AnswerEnd) -> &'static str {
        let t = self.text();
        match end {
            AnswerEnd::Values => t.end_values,
            AnswerEnd::NoData => t.end_no_data,
            AnswerEnd::Error => t.end_error,
            AnswerEnd::NotReady => t.end_not_ready,
            AnswerEnd::Refused => t.end_refused,
            AnswerEnd::Withdrawn => t.end_withdrawn,
            AnswerEnd::Busy => t.end_busy,
            AnswerEnd::EnedisDown => t.end_enedis_down,
            AnswerEnd::OurTrouble => t.end_our_trouble,
        }
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

    fn message(self, title: &'static str, tone: Tone, told: &[&str]) -> Message<'a> {
        Message::new(self, title, tone, told)
    }
}
