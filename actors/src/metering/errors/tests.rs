use jiff::civil::date;
use proptest::prelude::*;

use super::*;
use crate::base::meter::Meter;
use crate::metering::request::{DayRange, Resource};

const NOW: Timestamp = Timestamp::from_millis(1_784_262_600_000);

fn call() -> MeterRequest {
    let range = DayRange::new(date(2026, 9, 29), date(2026, 9, 30)).unwrap();
    MeterRequest {
        resource: Resource::DailyConsumption,
        meter: Meter::parse("99999999999991").unwrap(),
        range,
    }
}

fn judged(api: Api, status: u16, body: &str, retry_at: Option<Timestamp>) -> Verdict {
    judge(api, call(), &Ok(Answer { status, content_type: None, body: body.into(), retry_at }), NOW)
}

/// Every error seen or documented, and what the box gets: status, code.
#[test]
fn the_table() {
    let d = |status, code| Some((status, code));
    let (renew, gone, down) = ("renew", "not there", "unavailable");
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
        (403, r#"{"code":"900908","message":"Resource forbidden "}"#, None, gone),
        (403, r#"{"error":"ADAM-DC-4711"}"#, None, down),
        (403, "<html>WAF</html>", None, down),
        (403, r"{}", None, down),
        (401, r#"{"code":"900901","message":"Invalid Credentials"}"#, None, renew),
        (400, r#"{"error":"invalid_token"}"#, None, renew),
        (401, "", None, renew),
        (404, "<html>", None, gone),
        (404, "", None, gone),
        (404, r#"{"timestamp":"x","status":404,"error":"Not Found","path":"/v2/x"}"#, None, gone),
        (404, r#"{"code":"404","message":"Not Found"}"#, None, gone),
        (404, r#"{"error":"no_data_found"}"#, d(404, "no_data_found"), ""),
        (404, r#"{"code":"900906","message":"No matching resource found in the API"}"#, None, gone),
        (404, r#"{"code":"404","type":"Status report","message":"Not Found"}"#, None, gone),
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
        for api in [Api::New, Api::Legacy] {
            let verdict = judged(api, status, body, None);
            match (&verdict, data) {
                (Verdict::DataError(e), Some(expected)) => {
                    assert_eq!((e.status, e.code.as_str()), expected, "{status} {body}");
                    assert_ne!(e.status, 403, "{body}");
                    assert!(e.description.is_ascii());
                }
                (Verdict::NoConsent(e), Some(expected)) => {
                    assert_eq!((e.status, e.code.as_str()), expected, "{status} {body}");
                    assert_eq!(e.status, 403, "{body}");
                }
                (Verdict::Gateway(gateway), None) => {
                    let name = match gateway {
                        Gateway::RenewToken => renew,
                        Gateway::NotThere => gone,
                        Gateway::Unavailable => down,
                        Gateway::Busy { .. } => "busy",
                    };
                    assert_eq!(name, trouble, "{status} {body}");
                }
                _ => panic!("{status} {body}: {verdict:?}"),
            }
        }
    }
}

#[test]
fn throttling_in_all_its_bodies() {
    let next = Timestamp::from_millis(1_784_264_400_000);
    let busy = |status, body, at| match judged(Api::New, status, body, at) {
        Verdict::Gateway(Gateway::Busy { until }) => until,
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
fn values_of_either_api_but_of_no_other_meter() {
    let new = r#"{"idPrm":"99999999999991","periode":{"dateDebut":"2026-09-29","dateFin":"2026-09-30"},"grandeur":[{"grandeurMetier":"CONS","grandeurPhysique":"EA","unite":"Wh","points":[{"v":"33100","d":"2026-09-29"}]}]}"#;
    let v5 = r#"{"meter_reading":{"usage_point_id":"99999999999991","interval_reading":[{"value":"33100","date":"2026-09-29"}]}}"#;
    let point = |verdict| match verdict {
        Verdict::Data(answer) => answer.meter_reading.interval_reading[0].clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(point(judged(Api::New, 200, new, None)), point(judged(Api::Legacy, 200, v5, None)));
    for (api, body) in [(Api::New, new), (Api::Legacy, v5)] {
        let other = body.replace("99999999999991", "99999999999992");
        assert_eq!(judged(api, 200, &other, None), Verdict::Gateway(Gateway::Unavailable));
    }
    assert_eq!(judged(Api::New, 200, v5, None), Verdict::Gateway(Gateway::Unavailable), "wrong tongue");
}

#[test]
fn what_each_code_means_for_the_next_time() {
    let cause = |code: &str| DataError { status: 400, code: code.into(), description: String::new() }.cause();
    assert_eq!(cause("ADAM-ERR0069"), Cause::NoDirection);
    assert_eq!(cause("ADAM-ERR0123"), Cause::TooEarly);
    assert_eq!(cause("ADAM-ERR0075"), Cause::NotRecorded);
    assert_eq!(cause("invalid_request"), Cause::Other);
    assert_eq!(DataError::no_data().cause(), Cause::NoData);
}

proptest! {
    /// Whatever comes: trouble is 429 or 503 and bounded; a data error is 400 or 404; 403 waits for belief; no
    /// word reaches the plugin on which it would act against its own token.
    #[test]
    fn no_answer_can_hurt_a_box(
        status in 100_u16..600,
        body in r#"(\{"(error|code)":("?[A-Za-z0-9_-]{0,12}"?)(,"message":".{0,9}")?\}|.{0,40})"#,
        new in any::<bool>(),
    ) {
        match judged(if new { Api::New } else { Api::Legacy }, status, &body, None) {
            Verdict::Gateway(gateway) => {
                let (status, wait) = gateway.answer(NOW);
                prop_assert!(status == 429 || status == 503);
                prop_assert!(wait >= Duration::from_secs(1) && wait <= CLOSED_MAX);
            }
            Verdict::DataError(e) => {
                prop_assert!(e.status == 400 || e.status == 404);
                prop_assert!(e.code != "invalid_token" && e.code != "unauthorized");
                prop_assert!(status == 400 || status == 403 || status == 404);
            }
            Verdict::NoConsent(e) => prop_assert_eq!(e.status, 403),
            Verdict::Data(_) => prop_assert_eq!(status / 100, 2),
        }
    }
}

#[test]
fn no_answer_at_all() {
    for error in [CallError::NotSent("x".into()), CallError::Lost("x".into())] {
        assert_eq!(judge(Api::New, call(), &Err(error), NOW), Verdict::Gateway(Gateway::Unavailable));
    }
}
