//! The operator's own texts on the pages.

use std::collections::BTreeMap;

use url::Url;

use super::parse::Reader;

/// What the operator says of the installation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteConfig {
    /// `SITE_NAME`; `None`: what the pages are called by default, in the reader's language.
    pub name: Option<String>,
    /// `CONTACT`, as an address to link to.
    pub contact: Option<Url>,
    /// `LEGAL_NOTICE_URL`.
    pub legal_notice: Option<String>,
    /// `CLIENT_NAMES`, by client id.
    pub client_names: BTreeMap<String, String>,
}

impl SiteConfig {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        Self {
            name: r.text("SITE_NAME"),
            contact: r
                .value("CONTACT", "a mail address, or an absolute URL", None, |text| link(text).map(Some)),
            legal_notice: r.url_as_written("LEGAL_NOTICE_URL"),
            client_names: r.value(
                "CLIENT_NAMES",
                "id=name pairs, separated by commas",
                BTreeMap::new(),
                names,
            ),
        }
    }

    /// What people are told of a client: its name if the operator gave it one.
    pub fn client_name<'a>(&'a self, client_id: &'a str) -> &'a str {
        self.client_names.get(client_id).map_or(client_id, String::as_str)
    }
}

/// A page to ask at, or a mail address.
fn link(text: &str) -> Option<Url> {
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return None;
    }
    match Url::parse(text) {
        Ok(url) => matches!(url.scheme(), "http" | "https" | "mailto").then_some(url),
        Err(_) => text.contains('@').then(|| Url::parse(&format!("mailto:{text}")).ok())?,
    }
}

fn names(text: &str) -> Option<BTreeMap<String, String>> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let named = pairs.map(|pair| {
        let (id, name) = pair.split_once('=')?;
        let (id, name) = (id.trim(), name.trim());
        (!id.is_empty() && !name.is_empty()).then(|| (id.to_owned(), name.to_owned()))
    });
    named.collect()
}
