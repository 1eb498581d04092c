use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_784_262_600_000);

fn judged(status: u16, body: &str, retry_at: Option<Timestamp>) -> Verdict {
    judge(&Response { status, content_type: None, body: body.into(), retry_at }, NOW)
}

/// Every error seen or documented, and what the box gets: status and code, or what kind of trouble it is.
const TABLE: &str = r#"
    400 | {"error":"invalid_request","error_description":"bad dates"} | 400 invalid_request
    400 | {"error":"ADAM-DC-0015","error_description":""} | 400 ADAM-DC-0015
    400 | {"error":"ADAM-ERR0123","error_description":"é"} | 400 ADAM-ERR0123
    400 | {"error":"ADAM-ERR0069"} | 400 ADAM-ERR0069
    404 | {"error":"ADAM-ERR0069"} | 404 ADAM-ERR0069
    404 | {"error":"no_data_found","error_description":"no measure"} | 404 no_data_found
    404 | {"error":"STM-ERR-0000014"} | 404 STM-ERR-0000014
    404 | {"code":"404","message":"Pas de mesure trouvée pour ce point"} | 404 no_data_found
    400 | {"code":"400","message":"Paramètre invalide"} | 400 invalid_request
    403 | {"error":"ADAM-DC-0009"} | 404 ADAM-DC-0009
    403 | {"error":"ADAM-DC-0007"} | 403 ADAM-DC-0007
    400 | {"error":"ADAM-DC-0007"} | 403 ADAM-DC-0007
    403 | {"error":"ADAM-DC-0008"} | 403 ADAM-DC-0008
    403 | {"error":"unauthorized_user"} | 403 unauthorized_user
    403 | {"code":"403","message":"Le client n'est pas titulaire du point demandé"} | 403 ADAM-DC-0007
    403 | {"code":"900908","message":"Resource forbidden "} | closed
    403 | {"error":"ADAM-DC-4711"} | down
    403 | <html>WAF</html> | down
    403 | {} | down
    401 | {"code":"900901","message":"Invalid Credentials"} | renew
    400 | {"error":"invalid_token"} | renew
    401 |  | renew
    404 | <html> | closed
    404 |  | closed
    404 | {"timestamp":"x","status":404,"error":"Not Found","path":"/v2/x"} | closed
    404 | {"code":"404","message":"Not Found"} | closed
    404 | {"error":"no_data_found"} | 404 no_data_found
    404 | {"code":"900906","message":"No matching resource found in the API"} | closed
    404 | {"code":"404","type":"Status report","message":"Not Found"} | closed
    500 | {"error":"technical_error","error_description":"Technical error."} | down
    500 | {"error":"ADAM-DC-0500"} | down
    400 | {"error":"STM-ERR-0000001"} | down
    500 | {"error":{"code":500,"message":"Erreur Technique - 500"}} | down
    400 |  | down
    400 | [] | down
    502 |  | down
    503 | {"fault":{"code":101503,"message":"Error connecting to the back end"}} | down
    400 | {"code":"303001","message":"Currently , Address endpoint is SUSPENDED"} | down
    302 |  | down
    405 | {"code":"405"} | down
    415 | {"error":"unsupported"} | down
    200 | <html> | down
    200 | 7 | down
    200 | {"error":"unauthorized"} | down
"#;

#[test]
fn the_table() {
    for row in TABLE.trim().lines() {
        let [status, body, expected] = row.splitn(3, '|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{row}")
        };
        let told = match judged(status.parse().unwrap(), body, None) {
            Verdict::DataError(error) => {
                assert!(error.status != 403 && error.description.is_ascii(), "{row}");
                format!("{} {}", error.status, error.code)
            }
            Verdict::ConsentRefused { code } => format!("403 {code}"),
            Verdict::TokenRejected => "renew".to_owned(),
            Verdict::Closed => "closed".to_owned(),
            Verdict::Down { .. } => "down".to_owned(),
            verdict => panic!("{row}: {verdict:?}"),
        };
        assert_eq!(told, expected, "{row}");
    }
}

#[test]
fn throttling_in_all_its_bodies() {
    let next = Timestamp::from_millis(1_784_264_400_000);
    let named = r#"{"code":"900804","message":"Message throttled out","nextAccessTime":"2026-Jul-17 05:00:00+0000 UTC"}"#;
    let fault = r#"{"fault":{"code":900807,"message":"Message throttled out"}}"#;
    let hour = r#"{"error":"429","error_description":"Quota.Q4.reached"}"#;
    for (status, body, at, until) in [
        (429, named, Some(next), next),
        (503, fault, None, NOW + BUSY_UNNAMED),
        (429, "", None, NOW + BUSY_UNNAMED),
        (429, hour, None, next),
        // Neither a time in the past nor one next year is believed.
        (429, "", Some(Timestamp::EPOCH), NOW + BUSY_UNNAMED),
        (429, "", Some(Timestamp::from_millis(u64::MAX)), NOW + CLOSED_MAX),
    ] {
        assert_eq!(judged(status, body, at), Verdict::Busy { until }, "{status} {body} {at:?}");
    }
}

#[test]
fn what_each_code_means_for_the_next_time() {
    for (code, expected) in [
        ("ADAM-ERR0069", Cause::NoDirection),
        ("ADAM-ERR0123", Cause::TooEarly),
        ("ADAM-ERR0075", Cause::NotRecorded),
        ("invalid_request", Cause::Other),
        (&DataError::no_data().code, Cause::NoData),
    ] {
        assert_eq!(cause(code), expected, "{code}");
    }
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
