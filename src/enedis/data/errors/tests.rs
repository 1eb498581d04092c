use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_784_262_600_000);

fn judged(status: u16, body: &str, retry_at: Option<Timestamp>) -> Verdict {
    judge(&Response { status, content_type: None, body: body.into(), retry_at }, NOW)
}

/// Every error seen or documented, and what the box gets: status, code.
#[test]
fn the_table() {
    let d = |status, code| Some((status, code));
    let (renew, closed, down) = ("renew", "closed", "down");
    for (status, body, data, trouble) in [
        (
            400,
            r#"{"error":"invalid_request","error_description":"bad dates"}"#,
            d(400, "invalid_request"),
            "",
        ),
        (400, r#"{"error":"ADAM-DC-0015","error_description":""}"#, d(400, "ADAM-DC-0015"), ""),
        (400, r#"{"error":"ADAM-ERR0123","error_description":"é"}"#, d(400, "ADAM-ERR0123"), ""),
        (400, r#"{"error":"ADAM-ERR0069"}"#, d(400, "ADAM-ERR0069"), ""),
        (404, r#"{"error":"ADAM-ERR0069"}"#, d(404, "ADAM-ERR0069"), ""),
        (404, r#"{"error":"no_data_found","error_description":"no measure"}"#, d(404, "no_data_found"), ""),
        (404, r#"{"error":"STM-ERR-0000014"}"#, d(404, "STM-ERR-0000014"), ""),
        (
            404,
            r#"{"code":"404","message":"Pas de mesure trouvée pour ce point"}"#,
            d(404, "no_data_found"),
            "",
        ),
        (400, r#"{"code":"400","message":"Paramètre invalide"}"#, d(400, "invalid_request"), ""),
        (403, r#"{"error":"ADAM-DC-0009"}"#, d(404, "ADAM-DC-0009"), ""),
        (403, r#"{"error":"ADAM-DC-0007"}"#, d(403, "ADAM-DC-0007"), ""),
        (400, r#"{"error":"ADAM-DC-0007"}"#, d(403, "ADAM-DC-0007"), ""),
        (403, r#"{"error":"ADAM-DC-0008"}"#, d(403, "ADAM-DC-0008"), ""),
        (403, r#"{"error":"unauthorized_user"}"#, d(403, "unauthorized_user"), ""),
        (
            403,
            r#"{"code":"403","message":"Le client n'est pas titulaire du point demandé"}"#,
            d(403, "ADAM-DC-0007"),
            "",
        ),
        (403, r#"{"code":"900908","message":"Resource forbidden "}"#, None, closed),
        (403, r#"{"error":"ADAM-DC-4711"}"#, None, down),
        (403, "<html>WAF</html>", None, down),
        (403, r"{}", None, down),
        (401, r#"{"code":"900901","message":"Invalid Credentials"}"#, None, renew),
        (400, r#"{"error":"invalid_token"}"#, None, renew),
        (401, "", None, renew),
        (404, "<html>", None, closed),
        (404, "", None, closed),
        (404, r#"{"timestamp":"x","status":404,"error":"Not Found","path":"/v2/x"}"#, None, closed),
        (404, r#"{"code":"404","message":"Not Found"}"#, None, closed),
        (404, r#"{"error":"no_data_found"}"#, d(404, "no_data_found"), ""),
        (404, r#"{"code":"900906","message":"No matching resource found in the API"}"#, None, closed),
        (404, r#"{"code":"404","type":"Status report","message":"Not Found"}"#, None, closed),
        (500, r#"{"error":"technical_error","error_description":"Technical error."}"#, None, down),
        (500, r#"{"error":"ADAM-DC-0500"}"#, None, down),
        (400, r#"{"error":"STM-ERR-0000001"}"#, None, down),
        (500, r#"{"error":{"code":500,"message":"Erreur Technique - 500"}}"#, None, down),
        (400, "", None, down),
        (400, r"[]", None, down),
        (502, "", None, down),
        (503, r#"{"fault":{"code":101503,"message":"Error connecting to the back end"}}"#, None, down),
        (400, r#"{"code":"303001","message":"Currently , Address endpoint is SUSPENDED"}"#, None, down),
        (302, "", None, down),
        (405, r#"{"code":"405"}"#, None, down),
        (415, r#"{"error":"unsupported"}"#, None, down),
        (200, "<html>", None, down),
        (200, "7", None, down),
        (200, r#"{"error":"unauthorized"}"#, None, down),
    ] {
        match (judged(status, body, None), data) {
            (Verdict::DataError(e), Some(expected)) => {
                assert_eq!((e.status, e.code.as_str()), expected, "{status} {body}");
                assert_ne!(e.status, 403, "{body}");
                assert!(e.description.is_ascii());
            }
            (Verdict::ConsentRefused { code }, Some(expected)) => {
                assert_eq!((403, code.as_str()), expected, "{status} {body}");
            }
            (Verdict::TokenRejected, None) => assert_eq!(renew, trouble, "{status} {body}"),
            (Verdict::Closed, None) => assert_eq!(closed, trouble, "{status} {body}"),
            (Verdict::Down { .. }, None) => assert_eq!(down, trouble, "{status} {body}"),
            (verdict, _) => panic!("{status} {body}: {verdict:?}"),
        }
    }
}

#[test]
fn throttling_in_all_its_bodies() {
    let next = Timestamp::from_millis(1_784_264_400_000);
    let busy = |status, body, at| match judged(status, body, at) {
        Verdict::Busy { until } => until,
        other => panic!("{body}: {other:?}"),
    };
    let named = r#"{"code":"900804","message":"Message throttled out","nextAccessTime":"2026-Jul-17 05:00:00+0000 UTC"}"#;
    assert_eq!(busy(429, named, Some(next)), next);
    assert_eq!(
        busy(503, r#"{"fault":{"code":900807,"message":"Message throttled out"}}"#, None),
        NOW + BUSY_UNNAMED
    );
    assert_eq!(busy(429, "", None), NOW + BUSY_UNNAMED);
    assert_eq!(
        busy(429, r#"{"error":"429","error_description":"Quota.Q4.reached"}"#, None),
        next,
        "next hour"
    );
    // Neither a time in the past nor one next year is believed.
    assert_eq!(busy(429, "", Some(Timestamp::EPOCH)), NOW + BUSY_UNNAMED);
    assert_eq!(busy(429, "", Some(Timestamp::from_millis(u64::MAX))), NOW + CLOSED_MAX);
}

#[test]
fn what_each_code_means_for_the_next_time() {
    assert_eq!(cause("ADAM-ERR0069"), Cause::NoDirection);
    assert_eq!(cause("ADAM-ERR0123"), Cause::TooEarly);
    assert_eq!(cause("ADAM-ERR0075"), Cause::NotRecorded);
    assert_eq!(cause("invalid_request"), Cause::Other);
    assert_eq!(cause(&DataError::no_data().code), DataError::no_data().cause);
}

proptest! {
    /// Whatever comes: a pause is bounded; a data error is 400 or 404; no word reaches the plugin on which it would act
    /// against its own token.
    #[test]
    fn no_answer_can_hurt_a_box(
        status in 100_u16..600,
        body in r#"(\{"(error|code)":("?[A-Za-z0-9_-]{0,12}"?)(,"message":".{0,9}")?\}|.{0,40})"#,
    ) {
        match judged(status, &body, None) {
            Verdict::DataError(e) => {
                prop_assert!(e.status == 400 || e.status == 404);
                prop_assert!(e.code != "invalid_token" && e.code != "unauthorized");
                prop_assert!(status == 400 || status == 403 || status == 404);
            }
            Verdict::Busy { until } => prop_assert!(until > NOW && until <= NOW + CLOSED_MAX),
            Verdict::Values(_) => prop_assert!(false, "values are read elsewhere"),
            Verdict::ConsentRefused { .. }
            | Verdict::TokenRejected
            | Verdict::Closed
            | Verdict::Down { .. } => {}
        }
    }
}
