//! Verdicts by status, and responses to refusals.

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use tenfold::resilience::{Refusal, Repeat, Verdict, http};

fn verdict(status: u16, retry_after: Option<&str>) -> Verdict {
    let mut headers = HeaderMap::new();
    if let Some(value) = retry_after {
        headers.insert("retry-after", HeaderValue::from_str(value).unwrap());
    }
    http::verdict(StatusCode::from_u16(status).unwrap(), &headers)
}

#[test]
fn verdicts_go_by_the_status() {
    let after = |seconds| Verdict::Transient { retry_after: Some(Duration::from_secs(seconds)) };
    let table = [
        (200, None, Verdict::Fine),
        (302, None, Verdict::Fine),
        (404, None, Verdict::Fine),
        (429, None, Verdict::Limited { retry_after: None }),
        (429, Some("7"), Verdict::Limited { retry_after: Some(Duration::from_secs(7)) }),
        (500, Some("7"), Verdict::Failed),
        (501, None, Verdict::Failed),
        (502, None, Verdict::TRANSIENT),
        (503, Some(" 120 "), after(120)),
        (503, Some("-1"), Verdict::TRANSIENT),
        (503, Some("soon"), Verdict::TRANSIENT),
        (503, Some("Wed, 21 Oct 2015 07:28:00 GMT"), after(0)),
        (504, Some("99999999999999999999"), Verdict::TRANSIENT),
        (505, None, Verdict::Failed),
        (599, None, Verdict::Failed),
    ];
    for (status, retry_after, expected) in table {
        assert_eq!(verdict(status, retry_after), expected, "{status} {retry_after:?}");
    }
}

#[test]
fn a_date_is_a_time_to_wait() {
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
    let Verdict::Transient { retry_after: Some(wait) } = verdict(503, Some(&date)) else { panic!("it is transient") };
    assert!((90..=100).contains(&wait.as_secs()), "{wait:?}");
}

#[test]
fn responses_say_when_to_come_back() {
    let name = || "stock".into();
    let wait = |millis| Some(Duration::from_millis(millis));
    let table = [
        (Refusal::Limited { name: name(), retry_after: wait(1) }, 429, Some(1..=1)),
        (Refusal::Limited { name: name(), retry_after: wait(10_000) }, 429, Some(10..=15)),
        (Refusal::Limited { name: name(), retry_after: None }, 429, None),
        (Refusal::Open { name: name(), retry_after: wait(0) }, 503, Some(1..=1)),
        (Refusal::Open { name: name(), retry_after: wait(29_001) }, 503, Some(30..=45)),
        (Refusal::Open { name: name(), retry_after: None }, 503, None),
        (Refusal::Full { name: name(), waited: Duration::ZERO }, 503, None),
        (Refusal::Overloaded { name: name(), limit: 5 }, 503, None),
        (Refusal::TimedOut { name: name(), after: Duration::ZERO }, 504, None),
    ];
    for (refusal, status, seconds) in table {
        for _ in 0..50 {
            let response = http::response::<String>(&refusal);
            assert_eq!(response.status(), status, "{refusal}");
            let told = response.headers().get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
            assert_eq!(told.is_some(), seconds.is_some(), "{refusal}");
            assert!(seconds.iter().zip(told).all(|(range, told): (_, u64)| range.contains(&told)), "{told:?}");
        }
    }
}

#[test]
fn only_idempotent_requests_are_sent_twice() {
    for (method, expected) in [
        (Method::GET, true),
        (Method::HEAD, true),
        (Method::OPTIONS, true),
        (Method::PUT, true),
        (Method::DELETE, true),
        (Method::POST, false),
        (Method::PATCH, false),
    ] {
        let request = Request::builder().method(method.clone()).body("text").unwrap();
        assert_eq!(http::Idempotent.repeat(&request).is_some(), expected, "{method}");
    }
}
