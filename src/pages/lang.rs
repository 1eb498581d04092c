//! The reader's language, negotiated from what the browser says.

/// A language the pages are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lang {
    /// French, spoken by default: Enedis serves France.
    #[default]
    Fr,
    /// English, for those whose browser asks for it.
    En,
}

impl Lang {
    /// Both languages, in the order in which they win a tie.
    pub const ALL: [Self; 2] = [Self::Fr, Self::En];

    /// Chooses from a language named in the address (`query`, such as `en` or `en-GB`), else from the value of
    /// `Accept-Language` (RFC 9110 section 12.5.4), else French.
    ///
    /// Several header lines are one value joined by commas. Elements that make no sense are passed over. A
    /// language named in full beats one that only `*` covers at the same weight; of two named at the same weight
    /// the first wins.
    pub fn choose(query: Option<&str>, accept_language: Option<&str>) -> Self {
        query
            .and_then(|tag| Self::ALL.into_iter().find(|lang| lang.covers(tag.trim())))
            .or_else(|| accept_language.and_then(Self::from_accept_language))
            .unwrap_or_default()
    }

    /// The BCP 47 tag, for the `lang` attribute and `Content-Language`.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Fr => "fr",
            Self::En => "en",
        }
    }

    /// Whether a range such as `fr`, `fr-CA` or `FR_fr` (some clients write the underscore) means this language.
    fn covers(self, range: &str) -> bool {
        range.split(['-', '_']).next().is_some_and(|primary| primary.eq_ignore_ascii_case(self.tag()))
    }

    fn from_accept_language(value: &str) -> Option<Self> {
        let ranges: Vec<Range<'_>> = value.split(',').filter_map(Range::parse).collect();
        let mut best = None;
        for lang in Self::ALL {
            let Some(rank) = lang.rank(&ranges) else { continue };
            if best.is_none_or(|(top, _)| rank > top) {
                best = Some((rank, lang));
            }
        }
        best.map(|(_, lang)| lang)
    }

    /// How much the reader wants this language; `None` where it is refused (`q=0`) or not mentioned.
    fn rank(self, ranges: &[Range<'_>]) -> Option<Rank> {
        let mut named = ranges.iter().enumerate().filter(|(_, range)| self.covers(range.tag)).peekable();
        let rank = if named.peek().is_some() {
            named.map(|(place, range)| (range.weight, true, std::cmp::Reverse(place))).max()
        } else {
            ranges.iter().filter(|range| range.tag == "*").map(|range| (range.weight, false, ANYWHERE)).max()
        };
        rank.filter(|(weight, _, _)| *weight > 0)
    }
}

/// Weight in thousandths, then named rather than covered by `*`, then the earlier place.
type Rank = (u16, bool, std::cmp::Reverse<usize>);

/// The place of `*` does not matter: French wins there.
const ANYWHERE: std::cmp::Reverse<usize> = std::cmp::Reverse(0);

/// One element of the header.
struct Range<'a> {
    tag: &'a str,
    weight: u16,
}

impl<'a> Range<'a> {
    fn parse(element: &'a str) -> Option<Self> {
        let mut parts = element.split(';').map(str::trim);
        let tag = parts.next().filter(|tag| !tag.is_empty())?;
        let mut weight = 1000;
        for part in parts {
            if let Some((name, value)) = part.split_once('=')
                && name.trim().eq_ignore_ascii_case("q")
            {
                weight = parse_weight(value.trim())?;
            }
        }
        Some(Self { tag, weight })
    }
}

/// `0`, `0.5`, `0.875`, `1`, `1.000` in thousandths; anything else is no weight.
fn parse_weight(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths = format!("{fraction:0<3}").parse::<u16>().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Lang::{self, En, Fr};

    #[test]
    fn follows_the_weights() {
        let table = [
            ("fr", Fr),
            ("en", En),
            ("en-GB,en;q=0.9,fr;q=0.8", En),
            ("fr-FR,fr;q=0.9,en-US;q=0.8,en;q=0.7", Fr),
            ("en;q=0.3, fr;q=0.4", Fr),
            ("en;q=0.875,fr;q=0.87", En),
            ("EN-us", En),
            ("en ; Q=1.000 , fr ; q=0.999", En),
            ("de, en;q=0.5", En),
            ("de,fr;q=0.1,en;q=0.2", En),
            ("en,fr", En),
            ("fr,en", Fr),
            ("fr;q=0, en;q=0.1", En),
            ("fr;q=0, *", En),
            ("en;q=0", Fr),
            ("*", Fr),
            ("de, *;q=0.5", Fr),
            ("en, *", En),
            ("en;q=0.5, *;q=0.8", Fr),
            ("*;q=0", Fr),
            ("de-DE, nl;q=0.8", Fr),
            ("english, french", Fr),
            ("en_US", En),
        ];
        for (header, expected) in table {
            assert_eq!(Lang::choose(None, Some(header)), expected, "{header}");
        }
        assert_eq!(Lang::choose(None, None), Fr);
    }

    #[test]
    fn passes_over_garbage() {
        let garbage = [
            "",
            " ",
            ",",
            ",,,;;;===",
            ";q=1",
            "q=1",
            "=;",
            "*;q=",
            "*;q=x",
            "-",
            "--;q=0.1",
            "é",
            "\u{0}",
            "日本語",
            "en;q=2",
            "en;q=1.001",
            "en;q=-1",
            "en;q=0.0001",
            "en;q=.5",
            "en;q=+1",
            "en;q=1e0",
            "en;q=NaN",
            "en;q=",
            "e n",
            "\"en\"",
            "xen",
            "e",
            "enn",
            "en;q=0.é",
        ];
        for header in garbage {
            assert_eq!(Lang::choose(None, Some(header)), Fr, "{header:?}");
            assert_eq!(Lang::choose(None, Some(&format!("{header},en;q=0.5,{header}"))), En, "{header:?}");
        }
        assert_eq!(Lang::choose(None, Some(&"en;q=0.1,".repeat(10_000))), En);
    }

    #[test]
    fn the_address_wins() {
        assert_eq!(Lang::choose(Some("en"), Some("fr")), En);
        assert_eq!(Lang::choose(Some("FR-be"), Some("en")), Fr);
        assert_eq!(Lang::choose(Some("xx"), Some("en")), En);
        assert_eq!(Lang::choose(Some(""), None), Fr);
    }
}
