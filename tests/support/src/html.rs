//! A tolerant reader of HTML: just the forms, links and text that a person without JavaScript acts on.
//!
//! It promises never to fail: what it cannot read, it skips. It refuses scripts, styles and comments. Controls
//! outside a form, `disabled` ones and unchecked boxes are left out, as a browser leaves them out of a submission.

mod scan;

use self::scan::{Piece, Tag};

/// What a page offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// Text of `<title>`.
    pub title: String,
    /// Forms, in order.
    pub forms: Vec<Form>,
    /// Links with an `href`, in order.
    pub links: Vec<Link>,
    /// Visible text, white space folded.
    pub text: String,
    /// The `lang` of the page, if it has one.
    pub lang: Option<String>,
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
    /// `formaction`, which replaces the form's action.
    pub action: Option<String>,
}

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// `href` as written.
    pub href: String,
    /// What it says.
    pub text: String,
}

impl Form {
    /// The value of control `name`.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Document {
    /// Reads a page.
    pub fn parse(html: &str) -> Self {
        let mut reader = Reader::default();
        for piece in scan::pieces(html) {
            match piece {
                Piece::Text(text) => reader.text(&text),
                Piece::Open(tag) => reader.open(&tag),
                Piece::Close(name) => reader.close(&name),
            }
        }
        reader.finish()
    }

    /// The first form whose action contains `part`.
    pub fn form_to(&self, part: &str) -> Option<&Form> {
        self.forms.iter().find(|form| form.action.contains(part))
    }
}

/// Where the text goes that is being read.
#[derive(Debug, Default)]
enum Capture {
    #[default]
    None,
    Title,
    Link(Link),
    Button(Button),
    Textarea(String, String),
    Select(Select),
}

#[derive(Debug, Default)]
struct Select {
    name: String,
    first: Option<String>,
    chosen: Option<String>,
    /// An option without `value` is read from its text: what to do with it.
    pending: Option<(String, bool)>,
}

#[derive(Debug, Default)]
struct Reader {
    document: Document,
    form: Option<Form>,
    capture: Capture,
}

impl Reader {
    fn open(&mut self, tag: &Tag) {
        match tag.name.as_str() {
            "html" => self.document.lang = tag.attribute("lang").map(ToOwned::to_owned),
            "title" => self.capture = Capture::Title,
            "form" => {
                self.end_form();
                let post = tag.attribute("method").is_some_and(|method| method.eq_ignore_ascii_case("post"));
                let action = tag.attribute("action").unwrap_or_default().trim().to_owned();
                self.form = Some(Form { action, post, ..Form::default() });
            }
            "a" => {
                if let Some(href) = tag.attribute("href") {
                    self.capture = Capture::Link(Link { href: href.trim().to_owned(), text: String::new() });
                }
            }
            "input" => self.input(tag),
            "button" => {
                let kind = tag.attribute("type").unwrap_or("submit");
                if kind.eq_ignore_ascii_case("submit") && !tag.has("disabled") {
                    self.capture = Capture::Button(button(tag, String::new()));
                }
            }
            "textarea" => {
                if let Some(name) = tag.attribute("name").filter(|_| !tag.has("disabled")) {
                    self.capture = Capture::Textarea(name.to_owned(), String::new());
                }
            }
            "select" => {
                if let Some(name) = tag.attribute("name").filter(|_| !tag.has("disabled")) {
                    self.capture = Capture::Select(Select { name: name.to_owned(), ..Select::default() });
                }
            }
            "option" => {
                if let Capture::Select(select) = &mut self.capture {
                    select.end_option();
                    let (value, selected) = (tag.attribute("value"), tag.has("selected"));
                    match value {
                        Some(value) => select.offer(value.to_owned(), selected),
                        None => select.pending = Some((String::new(), selected)),
                    }
                }
            }
            _ => {}
        }
    }

    fn input(&mut self, tag: &Tag) {
        let kind = tag.attribute("type").unwrap_or("text").to_ascii_lowercase();
        let Some(form) = self.form.as_mut().filter(|_| !tag.has("disabled")) else { return };
        let named = |value: &str| tag.attribute("name").map(|name| (name.to_owned(), value.to_owned()));
        match kind.as_str() {
            "submit" | "image" => {
                form.buttons.push(button(tag, tag.attribute("value").unwrap_or_default().to_owned()));
            }
            "button" | "reset" | "file" => {}
            "checkbox" | "radio" => {
                if tag.has("checked") {
                    form.fields.extend(named(tag.attribute("value").unwrap_or("on")));
                }
            }
            _ => form.fields.extend(named(tag.attribute("value").unwrap_or_default())),
        }
    }

    fn text(&mut self, text: &str) {
        match &mut self.capture {
            Capture::Title => return self.document.title.push_str(text),
            Capture::Textarea(_, value) => return value.push_str(text),
            Capture::Select(select) => {
                if let Some((value, _)) = &mut select.pending {
                    value.push_str(text);
                }
                return;
            }
            Capture::Link(Link { text: label, .. }) | Capture::Button(Button { label, .. }) => {
                label.push_str(text);
            }
            Capture::None => {}
        }
        self.document.text.push_str(text);
    }

    fn close(&mut self, name: &str) {
        if !matches!(name, "a" | "b" | "strong" | "em" | "i" | "span" | "code") {
            self.document.text.push(' ');
        }
        match name {
            "form" => self.end_form(),
            "title" | "a" | "button" | "textarea" | "select" => self.end_capture(),
            "option" => {
                if let Capture::Select(select) = &mut self.capture {
                    select.end_option();
                }
            }
            _ => {}
        }
    }

    fn end_capture(&mut self) {
        match (std::mem::take(&mut self.capture), &mut self.form) {
            (Capture::Link(mut link), _) => {
                link.text = fold(&link.text);
                self.document.links.push(link);
            }
            (Capture::Button(mut button), Some(form)) => {
                button.label = fold(&button.label);
                form.buttons.push(button);
            }
            (Capture::Textarea(name, value), Some(form)) => form.fields.push((name, value)),
            (Capture::Select(mut select), Some(form)) => {
                select.end_option();
                let value = select.chosen.or(select.first);
                form.fields.extend(value.map(|value| (select.name, value)));
            }
            _ => {}
        }
    }

    fn end_form(&mut self) {
        self.end_capture();
        self.document.forms.extend(self.form.take());
    }

    fn finish(mut self) -> Document {
        self.end_form();
        self.document.title = fold(&self.document.title);
        self.document.text = fold(&self.document.text);
        self.document
    }
}

impl Select {
    fn offer(&mut self, value: String, selected: bool) {
        if selected {
            self.chosen = Some(value);
        } else if self.first.is_none() {
            self.first = Some(value);
        }
    }

    fn end_option(&mut self) {
        if let Some((text, selected)) = self.pending.take() {
            self.offer(fold(&text), selected);
        }
    }
}

fn button(tag: &Tag, label: String) -> Button {
    let value = tag.attribute("value").unwrap_or_default();
    let field = tag.attribute("name").map(|name| (name.to_owned(), value.to_owned()));
    Button { label, field, action: tag.attribute("formaction").map(ToOwned::to_owned) }
}

fn fold(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"<!DOCTYPE html><html lang=fr><head><title>L&rsquo;essai &amp;
        suite</title><script>if (a < b) { "<form action='/no'>" }</script><style>p > a {}</style></head>
        <body><!-- <form action="/hidden"> --><p>Bonjour&nbsp;<b>toi</b></p>
        <FORM Action='/auth/verify_code?x=1&amp;y=2'>
        <input type=hidden name=state value=7><input name="code" value="BCDF-GHJK" disabled>
        <input name=code value='A &#38; &#x42;'><input type="checkbox" name=c><input type=checkbox name=d checked>
        <select name=s><option>un<option selected>deux</select><textarea name=t>a
b</textarea>
        <button name="go" value="1">  Tout
        autoriser </button><input type=submit value=Annuler formaction="/non">
        <button type=button>rien</button></form><a href=/aide>Aide <em>ici</em></a><a name=x>non</a>
        <form method=post action=/fin><button>Fin</button>"#;

    #[test]
    fn forms_are_read_as_a_browser_submits_them() {
        let document = Document::parse(PAGE);
        assert_eq!(document.lang.as_deref(), Some("fr"));
        assert_eq!(document.title, "L’essai & suite");
        assert_eq!(document.forms.len(), 2);
        let form = &document.forms[0];
        assert_eq!((form.action.as_str(), form.post), ("/auth/verify_code?x=1&y=2", false));
        let fields: Vec<_> = form.fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let expected = [("state", "7"), ("code", "A & B"), ("d", "on"), ("s", "deux"), ("t", "a\nb")];
        assert_eq!(fields, expected);
        assert_eq!(form.buttons[0].label, "Tout autoriser");
        assert_eq!(form.buttons[0].field, Some(("go".into(), "1".into())));
        assert_eq!(form.buttons[1].action.as_deref(), Some("/non"));
        assert!(document.forms[1].post);
        assert_eq!(document.forms[1].buttons[0].label, "Fin");
    }

    #[test]
    fn links_and_text_are_read_without_scripts() {
        let document = Document::parse(PAGE);
        assert_eq!(document.links, [Link { href: "/aide".into(), text: "Aide ici".into() }]);
        assert!(document.text.starts_with("Bonjour\u{a0}toi") || document.text.starts_with("Bonjour toi"));
        assert!(!document.text.contains("if (a"));
    }

    #[test]
    fn broken_pages_are_read_as_far_as_possible() {
        for page in [
            "<",
            "<a",
            "<a href",
            "<a href=",
            "<a href='",
            "<!--",
            "<script>",
            "</",
            "&#;&#x;&;",
            "<form",
            "",
        ] {
            Document::parse(page);
        }
        assert_eq!(Document::parse("a < b &unknown; c").text, "a < b &unknown; c");
    }
}
