//! A tolerant reader of HTML: just the forms, links and text that a person without JavaScript acts on.
//!
//! It promises never to fail: what it cannot read, it skips. It refuses scripts, styles and comments. Controls
//! outside a form, `disabled` ones and unchecked boxes are left out, as a browser leaves them out of a submission.

use html5gum::{DefaultEmitter, StartTag, Token, Tokenizer};

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

    /// Adds a control; one without a name is not sent.
    fn send(&mut self, name: Option<String>, value: String) {
        self.fields.extend(name.map(|name| (name, value)));
    }
}

impl Document {
    /// Reads a page.
    pub fn parse(html: &str) -> Self {
        let mut emitter = DefaultEmitter::default();
        // The text of a script, a style and a title is no markup.
        emitter.naively_switch_states(true);
        let mut reader = Reader::default();
        for Ok(token) in Tokenizer::new_with_emitter(html, emitter) {
            match token {
                Token::StartTag(tag) => reader.open(&tag),
                Token::EndTag(tag) => reader.close(&tag.name),
                Token::String(text) => reader.text(&String::from_utf8_lossy(&text)),
                Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
            }
        }
        reader.finish()
    }

    /// The first form whose action contains `part`.
    pub fn form_to(&self, part: &str) -> Option<&Form> {
        self.forms.iter().find(|form| form.action.contains(part))
    }
}

/// The element whose text is being read.
enum Part {
    Title,
    /// Of a script or a style.
    Code,
    /// With its `href`.
    Link(String),
    Button(Button),
    /// With its name.
    Textarea(String),
    /// With its value, if that is not its text.
    Choice {
        value: Option<String>,
        selected: bool,
    },
}

#[derive(Default)]
struct Reader {
    document: Document,
    form: Option<Form>,
    part: Option<Part>,
    /// The text of `part`.
    label: String,
    select: Option<Select>,
}

#[derive(Default)]
struct Select {
    name: String,
    first: Option<String>,
    chosen: Option<String>,
}

impl Reader {
    fn open(&mut self, tag: &StartTag<()>) {
        let usable_name = || attribute(tag, "name").filter(|_| attribute(tag, "disabled").is_none());
        match &**tag.name {
            b"html" => self.document.lang = attribute(tag, "lang"),
            b"title" => self.begin(Part::Title),
            b"script" | b"style" => self.begin(Part::Code),
            b"form" => {
                self.end_form();
                let post = attribute(tag, "method").is_some_and(|method| method.eq_ignore_ascii_case("post"));
                let action = attribute(tag, "action").unwrap_or_default().trim().to_owned();
                self.form = Some(Form { action, post, ..Form::default() });
            }
            b"a" => {
                if let Some(href) = attribute(tag, "href") {
                    self.begin(Part::Link(href.trim().to_owned()));
                }
            }
            b"input" => self.input(tag),
            b"button" => {
                let submits = attribute(tag, "type").is_none_or(|kind| kind.eq_ignore_ascii_case("submit"));
                if submits && attribute(tag, "disabled").is_none() {
                    self.begin(Part::Button(button(tag, String::new())));
                }
            }
            b"textarea" => {
                if let Some(name) = usable_name() {
                    self.begin(Part::Textarea(name));
                }
            }
            b"select" => self.select = usable_name().map(|name| Select { name, ..Select::default() }),
            b"option" => {
                let selected = attribute(tag, "selected").is_some();
                self.begin(Part::Choice { value: attribute(tag, "value"), selected });
            }
            _ => {}
        }
    }

    fn input(&mut self, tag: &StartTag<()>) {
        let kind = attribute(tag, "type").unwrap_or_default().to_ascii_lowercase();
        let enabled = attribute(tag, "disabled").is_none();
        let Some(form) = self.form.as_mut().filter(|_| enabled) else { return };
        let value = attribute(tag, "value");
        match kind.as_str() {
            "submit" | "image" => form.buttons.push(button(tag, value.unwrap_or_default())),
            "button" | "reset" | "file" => {}
            "checkbox" | "radio" if attribute(tag, "checked").is_none() => {}
            "checkbox" | "radio" => form.send(attribute(tag, "name"), value.unwrap_or("on".to_owned())),
            _ => form.send(attribute(tag, "name"), value.unwrap_or_default()),
        }
    }

    fn text(&mut self, text: &str) {
        self.label.push_str(text);
        if matches!(self.part, None | Some(Part::Link(_) | Part::Button(_))) && self.select.is_none() {
            self.document.text.push_str(text);
        }
    }

    fn close(&mut self, name: &[u8]) {
        if !matches!(name, b"a" | b"b" | b"strong" | b"em" | b"i" | b"span" | b"code") {
            self.document.text.push(' ');
        }
        match name {
            b"form" => self.end_form(),
            b"title" | b"script" | b"style" | b"a" | b"button" | b"textarea" | b"option" => self.end(),
            b"select" => self.end_select(),
            _ => {}
        }
    }

    fn begin(&mut self, part: Part) {
        self.end();
        self.label.clear();
        self.part = Some(part);
    }

    fn end(&mut self) {
        let label = fold(&self.label);
        match (self.part.take(), &mut self.form) {
            (Some(Part::Title), _) => self.document.title = label,
            (Some(Part::Link(href)), _) => self.document.links.push(Link { href, text: label }),
            (Some(Part::Button(button)), Some(form)) => form.buttons.push(Button { label, ..button }),
            (Some(Part::Textarea(name)), Some(form)) => {
                form.send(Some(name), std::mem::take(&mut self.label));
            }
            (Some(Part::Choice { value, selected }), _) => {
                if let Some(select) = &mut self.select {
                    let place = if selected { &mut select.chosen } else { &mut select.first };
                    if selected || place.is_none() {
                        *place = Some(value.unwrap_or(label));
                    }
                }
            }
            _ => {}
        }
    }

    fn end_select(&mut self) {
        self.end();
        if let (Some(select), Some(form)) = (self.select.take(), &mut self.form)
            && let Some(value) = select.chosen.or(select.first)
        {
            form.send(Some(select.name), value);
        }
    }

    fn end_form(&mut self) {
        self.end_select();
        self.document.forms.extend(self.form.take());
    }

    fn finish(mut self) -> Document {
        self.end_form();
        self.document.text = fold(&self.document.text);
        self.document
    }
}

/// The value of attribute `name`, if the tag has it.
fn attribute(tag: &StartTag<()>, name: &str) -> Option<String> {
    tag.attributes.get(name.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned())
}

fn button(tag: &StartTag<()>, label: String) -> Button {
    let field = attribute(tag, "name").map(|name| (name, attribute(tag, "value").unwrap_or_default()));
    Button { label, field, action: attribute(tag, "formaction") }
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
