//! Renders every page in every state and language, and reads the result as a suspicious browser would.

use std::collections::BTreeMap;

use super::samples::{Input, all};
use super::{
    CodeError, Duration, EnterCode, Lang, Page, Problem, ProblemKind, STYLE, SignedIn, Site, Trouble,
    TroubleKind, meter, shown, text::Text,
};

const HOSTILE: &str = "<script>alert(1)</script>\"'&<img src=x onerror=y>' onfocus=z style=w";

fn hostile() -> Input<'static> {
    Input {
        site: Site { base: "/a\"><script>'&", enedis_host: HOSTILE },
        code: HOSTILE,
        state: HOSTILE,
        client: HOSTILE,
        user_agent: HOSTILE,
        usage_point: HOSTILE,
        enedis_error: HOSTILE,
    }
}

/// An element or its end, with its attributes.
#[derive(Debug)]
struct Tag {
    name: String,
    end: bool,
    attributes: BTreeMap<String, String>,
}

/// Reads all tags; panics on whatever a strict reader would stumble over.
fn tags(html: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut rest = html.strip_prefix("<!DOCTYPE html>").expect("doctype");
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>'), "bare > in {:?}", &rest[..start]);
        for (at, _) in rest[..start].match_indices('&') {
            let entity = rest[at..].split_inclusive(';').next().unwrap_or_default();
            assert!(
                entity.starts_with("&#") && entity.ends_with(';') && entity.len() < 8,
                "entity {entity:?}"
            );
        }
        rest = &rest[start + 1..];
        let mut tag = String::new();
        let mut quoted = false;
        for character in rest.chars().take_while(|it| quoted_or_inside(*it, &mut quoted)) {
            tag.push(character);
        }
        assert!(!quoted && rest.len() > tag.len(), "unfinished tag {tag:?}");
        rest = &rest[tag.len() + 1..];
        tags.push(parse_tag(&tag));
    }
    tags
}

fn quoted_or_inside(character: char, quoted: &mut bool) -> bool {
    if character == '"' {
        *quoted = !*quoted;
    }
    assert!(character != '<', "< inside a tag");
    *quoted || character != '>'
}

fn parse_tag(tag: &str) -> Tag {
    let end = tag.starts_with('/');
    let tag = tag.trim_start_matches('/').trim_end_matches('/');
    let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
    assert!(!name.is_empty() && name.bytes().all(|it| it.is_ascii_alphanumeric()), "name {name:?}");
    let mut attributes = BTreeMap::new();
    while !rest.trim().is_empty() {
        rest = rest.trim_start();
        let length = rest.find([' ', '=']).unwrap_or(rest.len());
        let (attribute, after) = rest.split_at(length);
        assert!(
            attribute.bytes().all(|it| it.is_ascii_alphabetic() || it == b'-'),
            "attribute {attribute:?}"
        );
        let value = if let Some(value) = after.strip_prefix("=\"") {
            let (value, after) = value.split_once('"').expect("closing quote");
            rest = after;
            value
        } else {
            assert!(!after.starts_with('='), "attribute {attribute} without quotes");
            rest = after;
            ""
        };
        let earlier = attributes.insert(attribute.to_ascii_lowercase(), value.to_owned());
        assert!(earlier.is_none(), "{attribute} twice");
    }
    Tag { name: name.to_owned(), end, attributes }
}

const VOID: [&str; 3] = ["meta", "link", "input"];

fn check(name: &str, page: &Page, lang: Lang, base: &str) {
    let tags = tags(&page.html);
    let mut open: Vec<&str> = Vec::new();
    let mut ids = Vec::new();
    for tag in &tags {
        let lower = tag.name.as_str();
        assert!(
            !["script", "style", "img", "iframe", "object", "base"].contains(&lower),
            "{name}: <{lower}>"
        );
        if tag.end {
            assert_eq!(open.pop(), Some(lower), "{name}: </{lower}>");
        } else if !VOID.contains(&lower) && !["circle", "path"].contains(&lower) {
            open.push(lower);
        }
        for (attribute, value) in &tag.attributes {
            assert!(!attribute.starts_with("on") && attribute != "style", "{name}: {attribute}");
            if ["href", "src", "action"].contains(&attribute.as_str()) {
                assert!(
                    value.is_empty() || value.starts_with(&format!("{base}/")),
                    "{name}: {attribute}={value}"
                );
            }
            if attribute == "id" {
                assert!(!ids.contains(value), "{name}: id {value} twice");
                ids.push(value.clone());
            }
        }
    }
    assert!(open.is_empty(), "{name}: not closed: {open:?}");
    for tag in &tags {
        for attribute in ["for", "aria-describedby", "aria-labelledby"] {
            for id in tag.attributes.get(attribute).into_iter().flat_map(|it| it.split(' ')) {
                assert!(ids.iter().any(|it| it == id), "{name}: {attribute} names no element: {id}");
            }
        }
    }
    let attribute = |element: &str, attribute: &str| {
        tags.iter().find(|it| it.name == element).and_then(|it| it.attributes.get(attribute)).cloned()
    };
    assert_eq!(attribute("html", "lang").as_deref(), Some(lang.tag()), "{name}");
    let count = |element: &str| tags.iter().filter(|it| !it.end && it.name == element).count();
    for element in ["title", "header", "main", "footer", "h1"] {
        assert_eq!(count(element), 1, "{name}: <{element}>");
    }
    for empty in ["<h1></h1>", "<p></p>", "<li></li>", "<dd></dd>", "<title> ", "<title>·"] {
        assert!(!page.html.contains(empty), "{name}: {empty}");
    }
    assert!((200..600).contains(&page.status), "{name}");
}

#[test]
fn every_page_is_sound() {
    for lang in Lang::ALL {
        for (name, page) in all(Input::USUAL, lang) {
            check(&name, &page, lang, Input::USUAL.site.base);
        }
        for (name, page) in all(hostile(), lang) {
            check(&name, &page, lang, "/a&#34;&#62;&#60;script&#62;&#39;&#38;");
            assert!(!page.html.contains("<script") && !page.html.contains("<img"), "{name}");
        }
        let bare = Input { site: Site { base: "", enedis_host: "localhost:9999" }, ..Input::USUAL };
        for (name, page) in all(bare, lang) {
            check(&name, &page, lang, "");
        }
    }
}

#[test]
fn languages_differ() {
    let pairs = all(Input::USUAL, Lang::Fr).into_iter().zip(all(Input::USUAL, Lang::En));
    for ((name, fr), (_, en)) in pairs {
        assert_ne!(heading(&fr.html), heading(&en.html), "{name}");
        assert_eq!((fr.status, fr.retry_after_secs), (en.status, en.retry_after_secs), "{name}");
    }
}

fn heading(html: &str) -> Option<&str> {
    html.split_once("<h1>")?.1.split_once("</h1>").map(|(heading, _)| heading)
}

#[test]
fn the_form_carries_on_what_it_was_given() {
    let page = EnterCode {
        site: Site { base: "/linky", enedis_host: "enedis.example" },
        typed: "bcdf ghj\"k",
        state: Some("7"),
        error: Some(CodeError::NotValid),
    };
    let html = page.render(Lang::Fr).html;
    assert!(html.contains("<form method=\"get\" action=\"/linky/auth/verify_code\">"), "{html}");
    assert!(html.contains("value=\"bcdf ghj&#34;k\""), "{html}");
    assert!(html.contains("name=\"state\" value=\"7\""), "{html}");
    assert!(
        html.contains("aria-describedby=\"code-error code-hint\" aria-invalid=\"true\" autofocus>"),
        "{html}"
    );
}

#[test]
fn a_first_visit_shows_no_error() {
    let site = Input::USUAL.site;
    let html = EnterCode { site, typed: "", state: None, error: None }.render(Lang::Fr).html;
    for absent in ["code-error", "autofocus", "aria-invalid", "name=\"state\"", "role=\"alert\""] {
        assert!(!html.contains(absent), "{absent}");
    }
}

#[test]
fn trying_again_keeps_code_and_state() {
    let site = Site { base: "https://x.example/p", enedis_host: "enedis.example" };
    let trouble = |code, state| {
        Trouble { site, kind: TroubleKind::EnedisUnavailable, status: 504, code, state }.render(Lang::Fr)
    };
    let page = trouble(Some("BC DF&x=1#"), Some("3"));
    assert_eq!(page.status, 504);
    assert!(page.html.contains("href=\"https://x.example/p/device?code=BC+DF%26x%3D1%23&#38;state=3\""));
    assert!(!trouble(None, Some("3")).html.contains("/device"));
}

#[test]
fn statuses_and_waits() {
    let site = Input::USUAL.site;
    let wait = Duration::from_millis(29_001);
    let page = Problem { site, kind: ProblemKind::TooManyAttempts { wait } }.render(Lang::Fr);
    assert_eq!((page.status, page.retry_after_secs), (429, Some(30)));
    assert!(page.html.contains("30\u{a0}secondes"));
    let error = Some(CodeError::TooManyAttempts { wait });
    let page = EnterCode { site, typed: "X", state: None, error }.render(Lang::En);
    assert_eq!((page.status, page.retry_after_secs), (429, Some(30)));
    let kind = TroubleKind::EnedisRejected { error: None };
    let page = Trouble { site, kind, status: 200, code: None, state: None }.render(Lang::En);
    assert_eq!((page.status, page.retry_after_secs), (502, None));
}

#[test]
fn usage_points_are_masked() {
    let t = Text::of(Lang::En);
    assert_eq!(meter(t, "22516914714270", 1), "Delivery point ending in 4270");
    assert_eq!(meter(t, "1234567", 2), "Delivery point no. 2");
    assert_eq!(meter(t, "", 3), "Delivery point no. 3");
    let points = vec!["22516914714270".to_owned(); 23];
    let html = SignedIn { site: Input::USUAL.site, usage_points: &points }.render(Lang::En).html;
    assert!(!html.contains("22516914714270") && html.contains("Other delivery points: 3"));
}

#[test]
fn strangers_texts_are_cut_and_cleaned() {
    assert_eq!(shown("  a\u{202e}b\u{0}c\n", 10), "abc");
    assert_eq!(shown("abcdef", 6), "abcdef");
    assert_eq!(shown("abcdefg", 6), "abcde…");
    assert_eq!(shown("éééé", 3), "éé…");
}

#[test]
fn pages_and_style_stay_small_and_local() {
    for (name, page) in all(Input::USUAL, Lang::Fr) {
        assert!(page.html.len() < 8 * 1024, "{name}: {} bytes", page.html.len());
    }
    assert!(STYLE.len() < 8 * 1024);
    assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
}
