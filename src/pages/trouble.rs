//! Pages for when something does not go as it should: trouble at Enedis or here, and requests that cannot be served.

use std::time::Duration;

use super::view::{Message, Page, Pages, Tone};
use crate::enedis::said::Said;

/// The wait until a page asks Enedis again by itself.
const ASK_AGAIN: Duration = Duration::from_secs(20);

/// The wait suggested where Enedis asks for patience and does not say how much.
const MINUTES: Duration = Duration::from_secs(300);

/// The wait suggested where nothing better is known and the matter takes a moment.
const MOMENT: Duration = Duration::from_secs(5);

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

/// What a problem's page offers.
enum Next {
    Nothing,
    EnterCode,
    Reload(Duration),
    Wait(Duration),
}

impl<'a> Pages<'a> {
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
}
