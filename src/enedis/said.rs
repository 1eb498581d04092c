//! What an error means that Enedis returns to the browser, or answers to an authorization code, for whoever consents.
//!
//! Errors of RFC 6749 (sections 4.1.2.1 and 5.2) and those that Enedis' v1 and v2 consent pages were seen to return. A text
//! that is none of them is a stranger's: it comes in the browser's address, and is not repeated.

/// Who has to do what now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The person said no.
    Denied,
    /// The person's way through Enedis' pages ended before its end: no consent, they may go again.
    Unfinished,
    /// Enedis refuses what this server asks, whoever consents: its operator has to act.
    OurSetup,
    /// Enedis failed by itself, which passes.
    Failed,
    /// Enedis asks for patience.
    Busy,
    /// The authorization code was too old, or good for nothing: they may go again.
    Outdated,
    /// None of these.
    Other,
}

/// Each error and what it means. `invalid_request` and `server_error` say little by themselves: see [`said`].
const KNOWN: [(&str, Said); 22] = [
    ("access_denied", Said::Denied),
    ("demande_non_aboutie", Said::Unfinished),
    ("login_required", Said::Unfinished),
    ("interaction_required", Said::Unfinished),
    ("consent_required", Said::Unfinished),
    ("invalid_request", Said::OurSetup),
    ("missing_parameter", Said::OurSetup),
    ("invalid_duration_format", Said::OurSetup),
    ("maximum_duration_exceeded", Said::OurSetup),
    ("invalid_client", Said::OurSetup),
    ("unauthorized_client", Said::OurSetup),
    ("unsupported_response_type", Said::OurSetup),
    ("unsupported_grant_type", Said::OurSetup),
    ("invalid_scope", Said::OurSetup),
    ("invalid_redirect_uri", Said::OurSetup),
    ("redirect_uri_mismatch", Said::OurSetup),
    ("server_error", Said::Failed),
    ("lincs-internal-server-error", Said::Failed),
    ("500", Said::Failed),
    ("temporarily_unavailable", Said::Busy),
    ("503", Said::Busy),
    ("invalid_grant", Said::Outdated),
];

/// What an `error` means, and its name as far as it is a known one. The v2 page puts its own name for an unfinished way
/// into the `description` of an `invalid_request`.
pub fn said(error: &str, description: &str) -> (Said, &'static str) {
    let named = |text: &str| KNOWN.iter().find(|(name, _)| text.trim().eq_ignore_ascii_case(name));
    let Some(known) = named(error) else { return (Said::Other, "") };
    let is_vague = matches!(known.0, "invalid_request" | "server_error");
    let told =
        named(description).filter(|(_, said)| is_vague && matches!(said, Said::Unfinished | Said::OurSetup));
    let (name, said) = told.unwrap_or(known);
    (*said, name)
}

/// The error in a return that has no `error`: in the place of the code, or in the path.
pub fn misplaced(text: &str) -> Option<&'static str> {
    let is_error = |part: &&str| matches!(*part, "500" | "server_error" | "lincs-internal-server-error");
    text.split(['&', '=', '/', '?']).find(is_error).map(|part| said(part, "").1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_error_has_a_meaning() {
        for (error, description, wanted) in [
            ("access_denied", "", Said::Denied),
            ("access_denied", "L'utilisateur a refuse", Said::Denied),
            ("demande_non_aboutie", "x", Said::Unfinished),
            ("invalid_request", "demande_non_aboutie", Said::Unfinished),
            ("INVALID_REQUEST", " Demande_Non_Aboutie ", Said::Unfinished),
            ("server_error", "demande_non_aboutie", Said::Unfinished),
            ("invalid_request", "", Said::OurSetup),
            ("invalid_request", "missing_parameter", Said::OurSetup),
            ("invalid_request", "invalid_duration_format", Said::OurSetup),
            ("invalid_request", "maximum_duration_exceeded", Said::OurSetup),
            ("invalid_request", "access_denied", Said::OurSetup),
            ("invalid_client", "", Said::OurSetup),
            ("unauthorized_client", "demande_non_aboutie", Said::OurSetup),
            ("unsupported_response_type", "", Said::OurSetup),
            ("invalid_scope", "", Said::OurSetup),
            ("redirect_uri_mismatch", "", Said::OurSetup),
            ("server_error", "lincs-internal-server-error", Said::Failed),
            ("500", "", Said::Failed),
            ("temporarily_unavailable", "", Said::Busy),
            ("503", "", Said::Busy),
            ("invalid_grant", "", Said::Outdated),
            ("", "", Said::Other),
            ("<script>", "demande_non_aboutie", Said::Other),
        ] {
            assert_eq!(said(error, description).0, wanted, "{error} {description}");
        }
    }

    #[test]
    fn only_known_names_are_repeated() {
        for text in ["<b>", "x server_error", "server_error\u{0}x", "dÃ©"] {
            assert_eq!(said(text, text), (Said::Other, ""));
        }
        assert_eq!(said(" Server_Error ", "<b>"), (Said::Failed, "server_error"));
    }

    #[test]
    fn errors_in_odd_places() {
        assert_eq!(
            misplaced("IdPrm=1&code=server_error&error_description=server_error&"),
            Some("server_error")
        );
        assert_eq!(misplaced("500"), Some("500"));
        for honest in ["", "5001", "IdPrm=1&code=x", "access_denied"] {
            assert_eq!(misplaced(honest), None, "{honest}");
        }
    }
}
