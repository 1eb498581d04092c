//! What is logged, and how.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use super::parse::Reader;

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `RUST_LOG` directives.
    pub filter: String,
    /// `LOG_FORMAT`: one JSON object a line instead of text.
    pub json: bool,
}

/// Reads directives. A field is compared with a text, not with a pattern: patterns of some hundred characters take minutes.
fn parse_filter(directives: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().with_regex(false).parse(directives)
}

impl LogConfig {
    /// `RUST_LOG` as a filter.
    pub fn filter(&self) -> EnvFilter {
        // Checked when it was read.
        parse_filter(&self.filter).unwrap_or_default()
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        let filter = r.text("RUST_LOG").unwrap_or_else(|| "info,actix_server=warn,actix_http=off".to_owned());
        // What is not ASCII could only be in a field's text, and makes the parser panic.
        if !filter.is_ascii() || parse_filter(&filter).is_err() {
            r.fault("RUST_LOG", "directives such as info or device_flow_proxy=debug,info");
        }
        Self {
            filter: if filter.is_ascii() { filter } else { String::new() },
            json: r.choice("LOG_FORMAT", false, &[("text", false), ("json", true)]),
        }
    }
}
