//! A person with a browser that has no JavaScript: cookies, forms, buttons and links, redirects one by one.
//!
//! It owns its cookies and nothing else; a page visited is a value ([`Visit`]). It promises to do only what a page
//! offers, and to record every hop. It refuses more than `MAX_HOPS` redirects in a row and more than
//! `MAX_PAGES` pages on the way to an end.

use std::time::Duration;

use reqwest::header::{ACCEPT, ACCEPT_LANGUAGE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, Method, RequestBuilder};
use url::Url;

use crate::enedis::CONSENT_PATH;
use crate::html::{Document, Form};
use crate::http::{self, Fault};

/// Redirects followed in a row.
const MAX_HOPS: usize = 10;
/// Pages [`Person::link`] acts on.
const MAX_PAGES: usize = 8;
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// What the browser of someone who reads French sends as `Accept-Language`.
const FRENCH: &str = "fr-FR,fr;q=0.9,en;q=0.5";
/// Part of the action of the proxy's form for user codes.
const CODE_FORM: &str = "/auth/verify_code";

/// A person at a browser of their own.
#[derive(Clone, Debug)]
pub struct Person {
    client: Client,
}

/// What the person answers to Enedis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Give the consent.
    Allow,
    /// Refuse it.
    Refuse,
}

/// A page visited, redirects followed.
#[derive(Clone, Debug)]
pub struct Visit {
    /// HTTP status of the last answer.
    pub status: u16,
    /// URL of the last answer.
    pub url: Url,
    /// Header fields of the last answer.
    pub headers: HeaderMap,
    /// Body of the last answer.
    pub html: String,
    /// What `html` offers.
    pub document: Document,
    /// Every request that led here, the last one included; for [`Person::link`] since its beginning.
    pub chain: Vec<Hop>,
}

/// One request and the head of its answer.
#[derive(Clone, Debug)]
pub struct Hop {
    /// Method of the request.
    pub method: Method,
    /// URL of the request.
    pub url: Url,
    /// HTTP status of the answer.
    pub status: u16,
    /// Where the answer sent the browser.
    pub location: Option<Url>,
    /// Header fields of the answer.
    pub headers: HeaderMap,
}

impl Person {
    /// A person who reads French.
    pub fn new() -> Self {
        Self::with_header("accept-language", FRENCH)
    }

    /// A person whose browser, or a proxy on its way, sends this header field, named in lower case: another
    /// `accept-language`, for example.
    ///
    /// # Panics
    /// If it is no header field, or no HTTP client can be built.
    pub fn with_header(name: &'static str, value: &str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"));
        headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_static(FRENCH));
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header value"));
        let client = http::builder()
            .cookie_store(true)
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PAGE_TIMEOUT)
            .user_agent("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0")
            .build()
            .expect("an HTTP client");
        Self { client }
    }

    /// Does all a person has to do with a link that a box shows: opens it, sends the proxy's form as it is filled
    /// in, answers `choice` to Enedis, and returns the last page.
    pub async fn link(&self, verification_uri_complete: &str, choice: Choice) -> Result<Visit, Fault> {
        let visit = self.open(verification_uri_complete).await?;
        self.carry_on(visit, choice).await
    }

    /// The same without the code in the link: types `user_code` into the form first.
    pub async fn link_by_code(
        &self,
        verification_uri: &str,
        user_code: &str,
        choice: Choice,
    ) -> Result<Visit, Fault> {
        let page = self.open(verification_uri).await?;
        let form = page.document.form_to(CODE_FORM).ok_or_else(|| page.lacks(CODE_FORM))?;
        let next = self.send(&page.url, form, None, &[("code", user_code)]).await?;
        self.carry_on(next.after(page.chain), choice).await
    }

    /// Goes on from `visit` until a page has neither the proxy's form nor Enedis' buttons, or is an error page.
    async fn carry_on(&self, mut visit: Visit, choice: Choice) -> Result<Visit, Fault> {
        for _ in 0..MAX_PAGES {
            let next = if visit.status >= 400 {
                return Ok(visit);
            } else if visit.document.form_to(CONSENT_PATH).is_some() {
                let label = if choice == Choice::Allow { "Autoriser" } else { "Refuser" };
                self.click(&visit, label).await?
            } else if let Some(form) = visit.document.form_to(CODE_FORM) {
                self.send(&visit.url, form, None, &[]).await?
            } else {
                return Ok(visit);
            };
            visit = next.after(visit.chain);
        }
        Err(visit.circles())
    }

    /// Opens `url` and follows redirects.
    pub async fn open(&self, url: &str) -> Result<Visit, Fault> {
        let url = parse(url)?;
        self.follow(Method::GET, url, None).await
    }

    /// Opens `url` and follows nothing; see [`Visit::location`].
    pub async fn open_once(&self, url: &str) -> Result<Visit, Fault> {
        let url = parse(url)?;
        self.request(self.client.get(url.clone()), Method::GET, url).await
    }

    /// Submits form number `index` of `page` as if by its first button, with `overrides` typed into its controls
    /// (or added to them), and follows redirects.
    pub async fn submit(
        &self,
        page: &Visit,
        index: usize,
        overrides: &[(&str, &str)],
    ) -> Result<Visit, Fault> {
        let form = page.document.forms.get(index).ok_or_else(|| page.lacks(&format!("form {index}")))?;
        self.send(&page.url, form, None, overrides).await
    }

    /// Presses the first button, else follows the first link, whose words contain `label`, in any case.
    pub async fn click(&self, page: &Visit, label: &str) -> Result<Visit, Fault> {
        let wanted = label.to_lowercase();
        let says = |text: &str| text.to_lowercase().contains(&wanted);
        for form in &page.document.forms {
            if let Some(index) = form.buttons.iter().position(|button| says(&button.label)) {
                return self.send(&page.url, form, Some(index), &[]).await;
            }
        }
        let link = page.document.links.iter().find(|(_, text)| says(text));
        let (href, _) = link.ok_or_else(|| page.lacks(label))?;
        self.follow(Method::GET, join(&page.url, href)?, None).await
    }

    /// Submits `form` of the page at `base`, by button number `button` or else its first one.
    async fn send(
        &self,
        base: &Url,
        form: &Form,
        button: Option<usize>,
        overrides: &[(&str, &str)],
    ) -> Result<Visit, Fault> {
        let button = form.buttons.get(button.unwrap_or(0));
        let mut fields = form.fields.clone();
        fields.extend(button.and_then(|button| button.field.clone()));
        for (name, value) in overrides {
            match fields.iter_mut().find(|(key, _)| key == name) {
                Some(field) => (*value).clone_into(&mut field.1),
                None => fields.push(((*name).to_owned(), (*value).to_owned())),
            }
        }
        let mut target = join(base, &form.action)?;
        if form.post {
            return self.follow(Method::POST, target, Some(fields)).await;
        }
        // A form sent by GET replaces the query of its action.
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        target.set_query(Some(&query));
        self.follow(Method::GET, target, None).await
    }

    async fn follow(
        &self,
        mut method: Method,
        mut url: Url,
        mut fields: Option<Vec<(String, String)>>,
    ) -> Result<Visit, Fault> {
        let mut chain = Vec::new();
        loop {
            let mut request = self.client.request(method.clone(), url.clone());
            if let Some(fields) = &fields {
                request = request.form(fields);
            }
            let visit = self.request(request, method.clone(), url).await?.after(chain);
            let Some(location) = visit.location().cloned() else { return Ok(visit) };
            if visit.chain.len() > MAX_HOPS {
                return Err(visit.circles());
            }
            // As browsers do, a POST is repeated as such only by 307 and 308.
            if !matches!(visit.status, 307 | 308) {
                (method, fields) = (Method::GET, None);
            }
            (url, chain) = (location, visit.chain);
        }
    }

    async fn request(&self, request: RequestBuilder, method: Method, url: Url) -> Result<Visit, Fault> {
        let response = request.send().await?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let location = match headers.get(LOCATION).filter(|_| matches!(status, 301 | 302 | 303 | 307 | 308)) {
            Some(value) => {
                let text = String::from_utf8_lossy(value.as_bytes());
                Some(join(&url, &text)?)
            }
            None => None,
        };
        let html = String::from_utf8_lossy(&response.bytes().await?).into_owned();
        let hop = Hop { method, url: url.clone(), status, location, headers: headers.clone() };
        Ok(Visit { status, url, headers, document: Document::parse(&html), html, chain: vec![hop] })
    }
}

impl Default for Person {
    fn default() -> Self {
        Self::new()
    }
}

impl Visit {
    /// Where the last answer redirects to, if it does.
    pub fn location(&self) -> Option<&Url> {
        self.chain.last()?.location.as_ref()
    }

    /// The first value of header `name` (any case) of the last answer, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The same visit, with the hops that came before it.
    fn after(mut self, mut chain: Vec<Hop>) -> Self {
        chain.append(&mut self.chain);
        self.chain = chain;
        self
    }

    fn lacks(&self, wanted: &str) -> Fault {
        format!("nothing called {wanted:?} on the page {}", self.url).into()
    }

    fn circles(&self) -> Fault {
        format!("going in circles, last at {}", self.url).into()
    }
}

impl Hop {
    /// The first query parameter `name` of the request, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        self.url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

fn parse(text: &str) -> Result<Url, Fault> {
    usable(Url::parse(text)?)
}

fn join(base: &Url, reference: &str) -> Result<Url, Fault> {
    usable(base.join(reference)?)
}

fn usable(url: Url) -> Result<Url, Fault> {
    if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err(format!("not a page: {url}").into()) }
}
