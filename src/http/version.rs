//! The gate for outdated plugins (`VERSION_MIN`): their requests are told to update instead of failing in odd ways.

use actix_web::HttpRequest;
use actix_web::http::header::USER_AGENT;

use super::error::ApiError;
use crate::config::Version;

/// Lets a request pass whose `User-Agent`, `Name/version …`, is at least at `least`.
pub fn check(request: &HttpRequest, least: Option<&Version>) -> Result<(), ApiError> {
    let Some(least) = least else { return Ok(()) };
    let agent = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let version =
        agent.split_once('/').and_then(|(_, rest)| rest.split([' ', ';', '/']).next()?.parse().ok());
    if version.is_some_and(|version: Version| version >= *least) {
        Ok(())
    } else {
        Err(ApiError::VersionMismatch)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn versions_compare_part_by_part() {
        let passes = |agent: &str, least: &str| {
            let request = TestRequest::post().insert_header((USER_AGENT, agent)).to_http_request();
            check(&request, Some(&least.parse().unwrap())).is_ok()
        };
        for (agent, least) in [
            ("DomoticzLinkyPlugin/2.6.0", "2.6.0"),
            ("DomoticzLinkyPlugin/2.6.0", "2.6"),
            ("DomoticzLinkyPlugin/2.10.0 (x)", "2.9.3"),
            ("DomoticzLinkyPlugin/2.7.0-beta", "2.6.0"),
            ("DomoticzLinkyPlugin/3", "2.99.99"),
        ] {
            assert!(passes(agent, least), "{agent} {least}");
        }
        for (agent, least) in [
            ("DomoticzLinkyPlugin/2.5.9", "2.6.0"),
            ("DomoticzLinkyPlugin/2.7.0-beta", "2.7.0"),
            ("DomoticzLinkyPlugin", "2.6.0"),
            ("DomoticzLinkyPlugin/new", "2.6.0"),
            ("", "2.6.0"),
            ("curl/99999999999999999999.0", "2.6.0"),
        ] {
            assert!(!passes(agent, least), "{agent} {least}");
        }
        assert!(check(&TestRequest::post().to_http_request(), None).is_ok());
    }
}
