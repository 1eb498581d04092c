//! Owns the cutting of HTML text into tags and text, entities decoded.

/// A piece of a page.
#[derive(Debug)]
pub(super) enum Piece {
    Text(String),
    Open(Tag),
    /// The name of a closing tag, in lower case.
    Close(String),
}

/// An opening tag.
#[derive(Debug)]
pub(super) struct Tag {
    /// In lower case.
    pub(super) name: String,
    /// Names in lower case, values decoded.
    attributes: Vec<(String, String)>,
}

impl Tag {
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }
}

/// Cuts `html` into pieces; comments, declarations, scripts and styles are left out.
pub(super) fn pieces(html: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        let after = &rest[start + 1..];
        let named = after.trim_start_matches('/').starts_with(|c: char| c.is_ascii_alphabetic());
        if !named && !after.starts_with(['!', '?', '/']) {
            pieces.push(Piece::Text(decode(&rest[..=start])));
            rest = after;
            continue;
        }
        if start > 0 {
            pieces.push(Piece::Text(decode(&rest[..start])));
        }
        rest = if let Some(comment) = after.strip_prefix("!--") {
            after_first(comment, "-->")
        } else if let Some(name) = after.strip_prefix('/') {
            let end = name.find('>').unwrap_or(name.len());
            pieces.push(Piece::Close(name[..end].trim().to_ascii_lowercase()));
            name.get(end + 1..).unwrap_or_default()
        } else if named {
            let (tag, after_tag) = tag(after);
            let raw = matches!(tag.name.as_str(), "script" | "style");
            let next = if raw { after_raw(after_tag, &tag.name) } else { after_tag };
            pieces.push(Piece::Open(tag));
            next
        } else {
            after_first(after, ">")
        };
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(decode(rest)));
    }
    pieces
}

fn after_first<'a>(text: &'a str, mark: &str) -> &'a str {
    text.split_once(mark).map_or("", |(_, after)| after)
}

/// What follows the text of a `<script>` or `<style>`, from its closing tag on.
fn after_raw<'a>(text: &'a str, name: &str) -> &'a str {
    let close = format!("</{name}");
    let found = text.to_ascii_lowercase().find(&close);
    found.map_or("", |at| &text[at..])
}

/// Reads a tag whose `<` has been read; returns what follows its `>`.
fn tag(text: &str) -> (Tag, &str) {
    let is_end = |c: char| c.is_whitespace() || c == '>' || c == '/';
    let end = text.find(is_end).unwrap_or(text.len());
    let mut tag = Tag { name: text[..end].to_ascii_lowercase(), attributes: Vec::new() };
    let mut rest = &text[end..];
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        if rest.is_empty() {
            return (tag, "");
        }
        if let Some(after) = rest.strip_prefix('>') {
            return (tag, after);
        }
        // The first character belongs to the name whatever it is, as in a browser; so the loop advances.
        let mut name = rest.char_indices().skip(1);
        let end = name.find(|&(_, c)| is_end(c) || c == '=').map_or(rest.len(), |(end, _)| end);
        let name = rest[..end].to_ascii_lowercase();
        rest = rest[end..].trim_start();
        let mut value = "";
        if let Some(after) = rest.strip_prefix('=') {
            (value, rest) = attribute_value(after.trim_start());
        }
        if !tag.has(&name) {
            tag.attributes.push((name, decode(value)));
        }
    }
}

fn attribute_value(text: &str) -> (&str, &str) {
    for quote in ['"', '\''] {
        if let Some(quoted) = text.strip_prefix(quote) {
            return quoted.split_once(quote).unwrap_or((quoted, ""));
        }
    }
    text.split_at(text.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(text.len()))
}

/// Decodes numeric entities and the named ones that French and English pages use; others stay as written.
fn decode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let entity = rest[1..].split_once(';').and_then(|(name, after)| Some((character(name)?, after)));
        if let Some((character, after)) = entity {
            out.push(character);
            rest = after;
        } else {
            out.push('&');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out
}

fn character(entity: &str) -> Option<char> {
    if let Some(number) = entity.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code);
    }
    Some(match entity {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => '\u{a0}',
        "rsquo" => '’',
        "laquo" => '«',
        "raquo" => '»',
        "hellip" => '…',
        "eacute" => 'é',
        "egrave" => 'è',
        "ecirc" => 'ê',
        "agrave" => 'à',
        "ccedil" => 'ç',
        "Eacute" => 'É',
        _ => return None,
    })
}
