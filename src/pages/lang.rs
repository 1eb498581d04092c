//! The reader's language, negotiated from what the browser says.

use std::cmp::Reverse;

use actix_web::http::header::{Quality, QualityItem};

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

    /// The language of a tag such as `en` or `en-GB`, as the address of a page or a cookie names it.
    pub fn named(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lang| lang.covers(tag.trim()))
    }

    /// The one that this is not.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Fr => Self::En,
            Self::En => Self::Fr,
        }
    }

    /// Chooses from the value of `Accept-Language` (RFC 9110 section 12.5.4), else French.
    ///
    /// Several header lines are one value joined by commas. Elements that make no sense are passed over. A
    /// language named in full beats one that only `*` covers at the same weight; of two named at the same weight
    /// the first wins.
    pub fn accepted(accept_language: Option<&str>) -> Self {
        accept_language.and_then(Self::from_accept_language).unwrap_or_default()
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
        range
            .split(['-', '_', ';'])
            .next()
            .is_some_and(|primary| primary.trim().eq_ignore_ascii_case(self.tag()))
    }

    fn from_accept_language(value: &str) -> Option<Self> {
        let ranges: Vec<Range> = value.split(',').filter_map(|range| range.trim().parse().ok()).collect();
        // Of two at the same rank the last wins, hence backwards.
        let ranked = Self::ALL.into_iter().rev().filter_map(|lang| Some((lang.rank(&ranges)?, lang)));
        ranked.max_by_key(|(rank, _)| *rank).map(|(_, lang)| lang)
    }

    /// How much the reader wants this language; `None` where it is refused (`q=0`) or not mentioned.
    fn rank(self, ranges: &[Range]) -> Option<Rank> {
        let named = ranges.iter().enumerate().filter(|(_, range)| self.covers(&range.item));
        let named = named.map(|(place, range)| (range.quality, true, Reverse(place))).max();
        // The place of `*` does not matter: French wins there.
        let covered = || ranges.iter().filter(|range| range.item == "*").map(|range| range.quality).max();
        let rank = named.or_else(|| Some((covered()?, false, Reverse(0))));
        rank.filter(|(quality, _, _)| *quality > Quality::ZERO)
    }
}

/// One element of the header. Not the framework's own type for a language, which takes no underscore.
type Range = QualityItem<String>;

/// The weight, then named rather than covered by `*`, then the earlier place.
type Rank = (Quality, bool, Reverse<usize>);

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
            assert_eq!(Lang::accepted(Some(header)), expected, "{header}");
        }
        assert_eq!(Lang::accepted(None), Fr);
    }

    #[test]
    fn passes_over_garbage() {
        let garbage = [
            "",
            ",,,;;;===",
            ";q=1",
            "*;q=x",
            "--;q=0.1",
            "\u{0}",
            "日本語",
            "en;q=2",
            "en;q=0.0001",
            "en;q=.5",
            "en;q=NaN",
            "en;q=",
            "e n",
            "\"en\"",
            "xen",
            "enn",
            "en;q=0.é",
        ];
        for header in garbage {
            assert_eq!(Lang::accepted(Some(header)), Fr, "{header:?}");
            assert_eq!(Lang::accepted(Some(&format!("{header},en;q=0.5,{header}"))), En, "{header:?}");
        }
        assert_eq!(Lang::accepted(Some(&"en;q=0.1,".repeat(10_000))), En);
    }

    #[test]
    fn a_language_has_a_name() {
        let table = [("en", Some(En)), ("FR-be", Some(Fr)), ("xx", None), ("", None)];
        for (tag, lang) in table {
            assert_eq!(Lang::named(tag), lang, "{tag}");
        }
    }
}
