//! Renders every page in every state and language, and reads the result as a suspicious browser would.

use std::collections::BTreeSet;

use scraper::{Html, Selector};

use super::samples::{ACCOUNT, Input, all};
use super::{CodeError, Duration, Lang, Page, Problem, STYLE, Trouble, meter, shown, text::Text};
use crate::config::SiteConfig;
use crate::enedis::said::Said;

const HOSTILE: &str = "<script>alert(1)</script>\"'&<img src=x onerror=y>' onfocus=z style=w";

const CONTACT: &str = "mailto:help@example.org";
const NOTICE: &str = "https://example.org/legal?a=1&b=2";

fn hostile(site: &SiteConfig) -> Input<'_> {
    Input {
        base: "/a\"><script>'&",
        enedis_host: HOSTILE,
        code: HOSTILE,
        state: HOSTILE,
        client: HOSTILE,
        user_agent: HOSTILE,
        usage_point: HOSTILE,
        enedis_error: HOSTILE,
        site,
    }
}

fn check(name: &str, page: &Page, lang: Lang, base: &str) {
    let document = Html::parse_document(&page.html);
    assert!(document.errors.is_empty(), "{name}: {:?}", document.errors);
    let select = |selector: &str| document.select(&Selector::parse(selector).unwrap()).collect::<Vec<_>>();
    assert!(select("script, style, img, iframe, object, base").is_empty(), "{name}");
    let elements = select("*");
    let attributes = || elements.iter().flat_map(|element| element.value().attrs());
    let ids: Vec<&str> = attributes().filter(|(key, _)| *key == "id").map(|(_, id)| id).collect();
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "{name}: an id twice: {ids:?}");
    for (attribute, value) in attributes() {
        assert!(!attribute.starts_with("on") && attribute != "style", "{name}: {attribute}");
        match attribute {
            "href" | "src" | "action" => {
                let is_ours = value.is_empty() || value.starts_with(&format!("{base}/"));
                // Of others, only what the operator named and Enedis.
                let is_link = attribute == "href" && [ACCOUNT, CONTACT, NOTICE].contains(&value);
                assert!(is_ours || is_link, "{name}: {attribute}={value}");
            }
            "for" | "aria-describedby" | "aria-labelledby" => {
                let is_there = value.split(' ').all(|id| ids.contains(&id));
                assert!(is_there, "{name}: {attribute} names no element: {value}");
            }
            _ => {}
        }
    }
    assert_eq!(select("html")[0].attr("lang"), Some(lang.tag()), "{name}");
    for element in ["title", "header", "main", "footer", "h1"] {
        assert_eq!(select(element).len(), 1, "{name}: <{element}>");
    }
    for empty in ["<h1></h1>", "<p></p>", "<li></li>", "<dd></dd>", "<title> ", "<title>·"] {
        assert!(!page.html.contains(empty), "{name}: {empty}");
    }
    assert!((200..600).contains(&page.status), "{name}");
}

#[test]
fn every_page_is_sound() {
    let site = SiteConfig {
        name: Some(HOSTILE.to_owned()),
        contact: CONTACT.parse().ok(),
        legal_notice: Some(NOTICE.to_owned()),
        ..SiteConfig::default()
    };
    let bare = Input { base: "", enedis_host: "localhost:9999", ..Input::USUAL };
    for lang in Lang::ALL {
        for input in [Input::USUAL, bare, hostile(&site)] {
            for (name, page) in all(input, lang) {
                check(&name, &page, lang, input.base);
                assert!(!page.html.contains("<script") && !page.html.contains("<img"), "{name}");
            }
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
    let input = Input { base: "/linky", ..Input::USUAL };
    let html = input.pages(Lang::Fr).enter_code("bcdf ghj\"k", Some("7"), Some(CodeError::NotValid)).html;
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
    let html = Input::USUAL.pages(Lang::Fr).enter_code("", None, None).html;
    for absent in ["code-error", "autofocus", "aria-invalid", "name=\"state\"", "role=\"alert\""] {
        assert!(!html.contains(absent), "{absent}");
    }
}

#[test]
fn trying_again_keeps_the_code() {
    let pages = Input { base: "https://x.example/p", ..Input::USUAL }.pages(Lang::Fr);
    let page = pages.trouble(Trouble::EnedisSilent, Some("BC DF&x=1#"));
    assert!(page.html.contains("href=\"https://x.example/p/device?code=BC+DF%26x%3D1%23\""));
    assert!(!pages.trouble(Trouble::EnedisSilent, None).html.contains("/device"));
}

#[test]
fn statuses_and_waits() {
    let (fr, en) = (Input::USUAL.pages(Lang::Fr), Input::USUAL.pages(Lang::En));
    let wait = Duration::from_millis(29_001);
    let page = fr.problem(Problem::TooManyAttempts { wait });
    assert!(page.html.contains("30\u{a0}secondes"));
    for (page, expected) in [
        (page, (429, Some(30))),
        (en.enter_code("X", None, Some(CodeError::TooManyAttempts { wait })), (429, Some(30))),
        (en.problem(Problem::NotListed), (503, Some(20))),
        (en.trouble(Trouble::EnedisError { said: Said::Other, error: None }, None), (502, None)),
        (en.trouble(Trouble::EnedisDown { wait }, None), (503, Some(30))),
        (en.trouble(Trouble::EnedisSilent, None), (504, None)),
    ] {
        assert_eq!((page.status, page.retry_after_secs), expected);
    }
    let reloads = [
        (en.problem(Problem::NotListed), Some(20)),
        (en.signed_in(&[], false, &[], &[]), Some(10)),
        (en.signed_in(&[], true, &[], &[]), None),
        (en.home(), None),
    ];
    assert!(
        reloads.iter().all(|(page, secs)| page.reload_secs == *secs && !page.html.contains("http-equiv"))
    );
}

#[test]
fn usage_points_are_masked() {
    let t = Text::of(Lang::En);
    assert_eq!(meter(t, "22516914714270", 1), "Delivery point ending in 4270");
    assert_eq!(meter(t, "1234567", 2), "Delivery point no. 2");
    assert_eq!(meter(t, "", 3), "Delivery point no. 3");
    let points = vec!["22516914714270".to_owned(); 20];
    let html = Input::USUAL.pages(Lang::En).signed_in(&points, false, &[], &[]).html;
    assert!(!html.contains("22516914714270") && html.matches("ending in 4270").count() == 20);
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
