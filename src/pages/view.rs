//! The frame of all pages, what the templates are filled from, and how strangers' texts are made fit to be shown.

use std::time::Duration;

use askama::Template;

use super::lang::Lang;
use super::qr::Qr;
use super::text::{self, Text};
use crate::config::SiteConfig;

/// The stylesheet of all pages.
pub const STYLE: &str = include_str!("style.css");

/// Where the stylesheet is served, below the base address. Pages link to it with a query that changes whenever
/// [`STYLE`] does, so it may be cached for ever.
pub const STYLE_PATH: &str = "/assets/style.css";

/// As much of a stranger's text as a page shows, in characters.
pub(super) const SHOWN_MAX: usize = 200;

/// What the code field takes, in characters; the template says the same.
pub(super) const CODE_MAX: usize = 64;

/// Digits of a usage point that a page shows, and the least length at which they give little away.
const METER_DIGITS: usize = 4;
const METER_LENGTH_MIN: usize = 8;

/// A rendered page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// For `Content-Language`.
    pub lang: Lang,
    /// For `Retry-After`, in seconds, where the page asks its reader to wait.
    pub retry_after_secs: Option<u64>,
    /// For `Refresh`: seconds after which the browser loads the page again by itself. Not in the document, where it would
    /// keep assistive technology from the page.
    pub reload_secs: Option<u64>,
    /// The reader chose the language, and means to keep it.
    pub keeps_lang: bool,
    /// The document.
    pub html: String,
}

/// All pages of this installation, for one reader.
#[derive(Clone, Copy, Debug)]
pub struct Pages<'a> {
    /// The reader's language.
    pub lang: Lang,
    /// The address of this page names it.
    pub keeps_lang: bool,
    /// Put before every address: a path prefix (may be empty) or a full base address. No slash at the end.
    pub base: &'a str,
    /// Host of Enedis' authorize endpoint, shown so that the owner knows where the next step leads.
    pub enedis_host: &'a str,
    /// Where households sign in at Enedis: the origin of that endpoint.
    pub enedis_account: &'a str,
    /// The operator's own texts.
    pub site: &'a SiteConfig,
}

impl Page {
    pub(super) fn with_wait(self, wait: Option<Duration>) -> Self {
        Self { retry_after_secs: wait.map(text::secs_up), ..self }
    }

    pub(super) fn with_reload(self, after: Option<Duration>) -> Self {
        Self { reload_secs: after.map(text::secs_up), ..self }
    }
}

/// A page of a title, a few paragraphs and at most one thing to do.
#[derive(Template)]
#[template(config = "src/pages/askama.toml", path = "message.html")]
pub(super) struct Message<'a> {
    t: &'static Text,
    pages: Pages<'a>,
    title: &'static str,
    tone: Tone,
    paragraphs: Vec<String>,
    detail: Option<String>,
    action: Option<Action>,
    retry_after: Option<Duration>,
    reload_after: Option<Duration>,
}

impl<'a> Message<'a> {
    pub(super) fn new(pages: Pages<'a>, title: &'static str, tone: Tone, told: &[&str]) -> Self {
        Self {
            t: Text::of(pages.lang),
            pages,
            title,
            tone,
            paragraphs: told.iter().map(|&paragraph| paragraph.to_owned()).collect(),
            detail: None,
            action: None,
            retry_after: None,
            reload_after: None,
        }
    }

    pub(super) fn say(mut self, paragraph: &str) -> Self {
        self.paragraphs.push(paragraph.to_owned());
        self
    }

    pub(super) fn wait(self, wait: Duration) -> Self {
        let sentence = wait_sentence(self.pages.lang, wait);
        self.say(&sentence).retry_after(wait)
    }

    pub(super) fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// The page loads itself again after `wait`.
    pub(super) fn reload_after(self, wait: Duration) -> Self {
        Self { reload_after: Some(wait), ..self.retry_after(wait) }
    }

    pub(super) fn detail(self, detail: Option<&str>) -> Self {
        Self { detail: detail.map(|it| shown(it, SHOWN_MAX)).filter(|it| !it.is_empty()), ..self }
    }

    pub(super) fn action(self, href: String, label: &'static str) -> Self {
        Self { action: Some(Action { href, label }), ..self }
    }

    pub(super) fn render(self, status: u16) -> Page {
        page(status, self.pages, &self).with_wait(self.retry_after).with_reload(self.reload_after)
    }
}

/// A link that looks like a button.
struct Action {
    href: String,
    label: &'static str,
}

/// Picks the icon; the words say the same.
#[derive(Clone, Copy)]
pub(super) enum Tone {
    Good,
    Wait,
    Stop,
}

impl Pages<'_> {
    /// What the pages are called.
    fn name(&self) -> &str {
        self.site.name.as_deref().unwrap_or(Text::of(self.lang).site_name)
    }

    /// The stylesheet's address.
    fn style(&self) -> String {
        format!("{}{STYLE_PATH}?v={STYLE_VERSION:x}", self.base)
    }

    /// `{base}/device[?code=…]`.
    pub(super) fn device(&self, code: Option<&str>) -> String {
        self.address("/device", &[("code", code)])
    }

    /// The same page in the other language.
    pub(super) fn in_other_language(&self, path: &str, query: &[(&str, Option<&str>)]) -> String {
        let lang = [("lang", Some(self.lang.other().tag()))];
        self.address(path, &[query, &lang].concat())
    }

    fn address(&self, path: &str, query: &[(&str, Option<&str>)]) -> String {
        let mut pairs = form_urlencoded::Serializer::new(String::new());
        for (name, value) in query {
            value.map(|value| pairs.append_pair(name, value));
        }
        let query = pairs.finish();
        format!("{}{path}{}{query}", self.base, if query.is_empty() { "" } else { "?" })
    }
}

#[derive(Template)]
#[template(config = "src/pages/askama.toml", path = "home.html")]
pub(super) struct HomeView<'a> {
    pub(super) other_language: String,
    pub(super) t: &'static Text,
    pub(super) pages: Pages<'a>,
}

#[derive(Template)]
#[template(config = "src/pages/askama.toml", path = "enter_code.html")]
pub(super) struct EnterCodeView<'a> {
    pub(super) other_language: String,
    pub(super) step: Option<&'a str>,
    pub(super) t: &'static Text,
    pub(super) pages: Pages<'a>,
    pub(super) typed: String,
    pub(super) state: Option<&'a str>,
    pub(super) invalid: bool,
    pub(super) error: Option<String>,
}

#[derive(Template)]
#[template(config = "src/pages/askama.toml", path = "confirm_code.html")]
pub(super) struct ConfirmCodeView<'a> {
    pub(super) other_language: String,
    pub(super) t: &'static Text,
    pub(super) pages: Pages<'a>,
    pub(super) code: &'a str,
    pub(super) qr: Option<Qr>,
    pub(super) proof: &'a str,
    pub(super) state: Option<&'a str>,
    pub(super) client: String,
    pub(super) user_agent: Option<String>,
    pub(super) place: Option<String>,
    pub(super) notice: Option<&'static str>,
    pub(super) asked: String,
    pub(super) expires: String,
}

#[derive(Template)]
#[template(config = "src/pages/askama.toml", path = "signed_in.html")]
pub(super) struct SignedInView<'a> {
    pub(super) t: &'static Text,
    pub(super) pages: Pages<'a>,
    pub(super) delivered: bool,
    pub(super) meters: Vec<String>,
    pub(super) others: Vec<OtherBoxView<'a>>,
    pub(super) questions: Vec<QuestionRow>,
}

/// A question about the meter.
pub(super) struct QuestionRow {
    pub(super) what: &'static str,
    pub(super) ago: String,
    pub(super) told: &'static str,
}

/// One of the boxes that read the same meter.
pub(super) struct OtherBoxView<'a> {
    pub(super) id: &'a str,
    pub(super) proof: &'a str,
    pub(super) client: String,
    pub(super) since: String,
    pub(super) used: String,
    pub(super) place: Option<String>,
    pub(super) meters: Option<String>,
}

#[derive(Template)]
#[template(config = "src/pages/askama.toml", path = "privacy.html")]
pub(super) struct PrivacyView<'a> {
    pub(super) other_language: String,
    pub(super) t: &'static Text,
    pub(super) pages: Pages<'a>,
    /// Meters and values are kept for at most so long, in words; `None`: neither is.
    pub(super) access: Option<String>,
}

#[derive(Template)]
#[template(config = "src/pages/askama.toml", path = "status.html")]
pub(super) struct StatusView<'a> {
    pub(super) other_language: String,
    pub(super) t: &'static Text,
    pub(super) pages: Pages<'a>,
    pub(super) ours: &'static str,
    pub(super) rows: Vec<StatusRow>,
    pub(super) days: &'a [(String, String)],
}

/// One of Enedis' APIs.
pub(super) struct StatusRow {
    pub(super) name: &'static str,
    pub(super) state: String,
    pub(super) calls: String,
}

pub(super) fn page(status: u16, pages: Pages<'_>, view: &impl Template) -> Page {
    // Writing to a string cannot fail, and nothing the templates print can either.
    let html = view.render().unwrap_or_default();
    let Pages { lang, keeps_lang, .. } = pages;
    Page { status, lang, retry_after_secs: None, reload_secs: None, keeps_lang, html }
}

pub(super) fn wait_sentence(lang: Lang, wait: Duration) -> String {
    let t = Text::of(lang);
    format!("{}{}{}", t.wait_before, text::wait(lang, wait), t.wait_after)
}

/// One line of the list of usage points: only the end of the number, and none of it where it is short.
pub(super) fn meter(t: &Text, usage_point: &str, number: usize) -> String {
    let characters: Vec<char> = usage_point.trim().chars().filter(char::is_ascii_alphanumeric).collect();
    if characters.len() < METER_LENGTH_MIN {
        return format!("{}{number}", t.meter_numbered);
    }
    let end: String = characters.iter().skip(characters.len() - METER_DIGITS).collect();
    format!("{}{end}", t.meter_ending)
}

/// A stranger's text, made fit to be shown: at most `max` characters, without controls and without the invisible
/// characters that reorder or hide what stands around them.
pub(super) fn shown(text: &str, max: usize) -> String {
    let mut visible = text.trim().chars().filter(|it| !it.is_control() && !is_invisible(*it));
    let mut cut: String = visible.by_ref().take(max).collect();
    if visible.next().is_some() {
        cut.pop();
        cut.push('…');
    }
    cut
}

fn is_invisible(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// FNV-1a of the stylesheet: a new sheet gets a new address.
const STYLE_VERSION: u64 = {
    let bytes = STYLE.as_bytes();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
};
