//! What is logged, and how.

use tracing_subscriber::EnvFilter;

use super::parse::Reader;

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `RUST_LOG` directives.
    pub filter: String,
    /// `LOG_FORMAT`: one JSON object a line instead of text.
    pub json: bool,
}

impl LogConfig {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        let filter = r.text("RUST_LOG").unwrap_or_else(|| "info,actix_server=warn,actix_http=off".to_owned());
        if EnvFilter::try_new(&filter).is_err() {
            r.fault("RUST_LOG", "directives such as info or device_flow_proxy=debug,info");
        }
        Self { filter, json: r.choice("LOG_FORMAT", false, &[("text", false), ("json", true)]) }
    }
}
