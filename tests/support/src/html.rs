//! What a person without JavaScript acts on: the forms, links and text of a page. What cannot be read is left out.

use scraper::{ElementRef, Html, Selector};

/// What a page offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// Forms, in order.
    pub forms: Vec<Form>,
    /// `href` as written and text of each link, in order.
    pub links: Vec<(String, String)>,
    /// Visible text, white space folded.
    pub text: String,
}

/// A form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// `action` as written; empty: the page itself.
    pub action: String,
    /// Sent by POST, not GET.
    pub post: bool,
    /// Name and value of every control that is sent whichever button is pressed.
    pub fields: Vec<(String, String)>,
    /// Submit buttons, in order.
    pub buttons: Vec<Button>,
}

/// A submit button.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Button {
    /// What it says.
    pub label: String,
    /// What it adds to the form when pressed, if it has a name.
    pub field: Option<(String, String)>,
}

impl Document {
    /// Reads a page.
    pub fn parse(html: &str) -> Self {
        let page = Html::parse_document(html);
        let root = page.root_element();
        let form = |form| Form {
            action: attribute(form, "action"),
            post: attribute(form, "method").eq_ignore_ascii_case("post"),
            fields: all(form, "input[name]:not([disabled], [type=submit])").filter_map(field).collect(),
            buttons: all(form, "button:not([disabled], [type=button])")
                .map(|button| Button { label: text(button), field: field(button) })
                .collect(),
        };
        Self {
            forms: all(root, "form").map(form).collect(),
            links: all(root, "a[href]").map(|link| (attribute(link, "href"), text(link))).collect(),
            text: all(root, "body").map(text).collect(),
        }
    }

    /// The first form whose action contains `part`.
    pub fn form_to(&self, part: &str) -> Option<&Form> {
        self.forms.iter().find(|form| form.action.contains(part))
    }
}

fn all<'a>(element: ElementRef<'a>, css: &str) -> impl Iterator<Item = ElementRef<'a>> {
    let selector = Selector::parse(css).expect("a selector");
    element.select(&selector).collect::<Vec<_>>().into_iter()
}

fn attribute(element: ElementRef<'_>, name: &str) -> String {
    element.attr(name).unwrap_or_default().trim().to_owned()
}

fn field(element: ElementRef<'_>) -> Option<(String, String)> {
    Some((element.attr("name")?.to_owned(), element.attr("value").unwrap_or_default().to_owned()))
}

fn text(element: ElementRef<'_>) -> String {
    element.text().flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_links_and_text_are_read() {
        let page = Document::parse(
            "<!DOCTYPE html><html><head><title>Essai</title></head><body><!-- <form action='/hidden'> -->
            <p>Bonjour&nbsp;<b>toi</b></p><FORM Action='/auth/verify_code?x=1&amp;y=2'><input type=hidden name=state value=7>
            <input name='code' value='BCDF' disabled><input name=code value='A &#38; B'><button name='go' value='1'>  Tout
            autoriser </button><button type=button>rien</button></form><a href=/aide>Aide <em>ici</em></a><a name=x>non</a>
            <form method=post action=/fin><button>Fin",
        );
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let go = Button { label: "Tout autoriser".into(), field: Some(pair("go", "1")) };
        let code = Form {
            action: "/auth/verify_code?x=1&y=2".into(),
            post: false,
            fields: vec![pair("state", "7"), pair("code", "A & B")],
            buttons: vec![go],
        };
        let end = Button { label: "Fin".into(), field: None };
        let last = Form { action: "/fin".into(), post: true, fields: vec![], buttons: vec![end] };
        assert_eq!(page.forms, [code, last]);
        assert_eq!(page.links, [pair("/aide", "Aide ici")]);
        assert_eq!(page.text, "Bonjour toi Tout autoriser rien Aide ici non Fin");
        assert_eq!(Document::parse("<a hre"), Document::default());
    }
}
