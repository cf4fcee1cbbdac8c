use std::time::Duration;

use http1::{Limits, Request};

use super::*;
use crate::params::{CorsOrigins, CorsParams, FieldName, Message, OriginMatch};
use crate::pattern::Pattern;
use crate::router::normal_path;

/// Does something with a request that is given by its head.
pub(super) fn with_asked<T>(head: &str, act: impl FnOnce(&Asked<'_>) -> T) -> T {
    let mut request = Request::default();
    request.parse(head.as_bytes(), &Limits { bytes_max: 65_536, fields_max: 100 }).unwrap();
    let path = normal_path(request.target.as_origin_form(head.as_bytes(), &request.method)).unwrap();
    act(&Asked { core: 0, request: &request, head: head.as_bytes(), path: &path })
}

fn names(names: &[&str]) -> Vec<FieldName> {
    names.iter().map(|name| FieldName::new(Message::Response, name).unwrap()).collect()
}

fn some_origins() -> CorsParams {
    CorsParams {
        origins: CorsOrigins::Some(vec![
            OriginMatch::Exact("https://app.example.com".to_owned()),
            OriginMatch::Under("https://".to_owned(), ".shop.example.com:8443".to_owned()),
            OriginMatch::Regex(Pattern::new("http://localhost:[0-9]+").unwrap()),
        ]),
        methods: ["GET", "PUT"].map(str::to_owned).to_vec(),
        headers: Some(names(&["X-User", "Content-Type"])),
        expose: names(&["X-Total"]),
        credentials: true,
        max_age: Duration::from_secs(600),
    }
}

fn response_lines(params: &CorsParams, fields: &str) -> String {
    let cors = Cors::new(params, 1);
    let mut lines = Vec::new();
    with_asked(&format!("GET / HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n"), |asked| {
        cors.push_response(&mut lines, asked);
    });
    String::from_utf8(lines).unwrap()
}

#[test]
fn origins_that_may_are_told_so() {
    let allowed = |origin: &str| {
        let lines = response_lines(&some_origins(), &format!("Origin: {origin}\r\n"));
        assert!(lines.contains("Vary: Origin\r\n"), "{lines}");
        assert_eq!(lines.contains("Credentials: true"), lines.contains("Allow-Origin"), "{lines}");
        lines.contains(&format!("Access-Control-Allow-Origin: {origin}\r\n"))
    };
    let check = |origin: &str, expected: bool| assert_eq!(allowed(origin), expected, "{origin}");
    check("https://app.example.com", true);
    check("http://app.example.com", false);
    check("https://app.example.com.evil.example", false);
    check("https://evilapp.example.com", false);
    check("https://a.shop.example.com:8443", true);
    check("https://a.b.shop.example.com:8443", true);
    check("https://.shop.example.com:8443", false);
    check("https://shop.example.com:8443", false);
    check("https://a.shop.example.com", false);
    check("https://evil.example/.shop.example.com:8443", false);
    check("https://evil.example#.shop.example.com:8443", false);
    check("http://localhost:3000", true);
    check("http://localhost:3000.evil.example", false);
    check("null", false);
    assert_eq!(response_lines(&some_origins(), ""), "Vary: Origin\r\n");
    let twice = "Origin: https://app.example.com\r\nOrigin: https://evil.example\r\n";
    assert_eq!(response_lines(&some_origins(), twice), "Vary: Origin\r\n");
    let lines = response_lines(&some_origins(), "Origin: https://app.example.com\r\n");
    assert!(lines.contains("Access-Control-Expose-Headers: X-Total\r\n"), "{lines}");
    let any = CorsParams { origins: CorsOrigins::Any, ..some_origins() };
    let lines = response_lines(&any, "Origin: https://evil.example\r\n");
    assert_eq!(lines, "Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: X-Total\r\n");
}

#[test]
fn preflights_are_answered_and_nothing_else_is() {
    let ask = |params: &CorsParams, line: &str, fields: &str| {
        let cors = Cors::new(params, 1);
        let head = format!("{line} HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n");
        let answer = with_asked(&head, |asked| cors.preflight(asked));
        answer.map(|answer| (answer.status, String::from_utf8(answer.fields).unwrap()))
    };
    let origin = "Origin: https://app.example.com\r\n";
    let wanted =
        format!("{origin}Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-user, x-b\r\n");
    let (status, lines) = ask(&some_origins(), "OPTIONS /", &wanted).unwrap();
    assert_eq!(status, 204);
    let expected = "Vary: Origin\r\nAccess-Control-Allow-Origin: https://app.example.com\r\n\
                    Access-Control-Allow-Credentials: true\r\nAccess-Control-Allow-Methods: GET, PUT\r\n\
                    Access-Control-Allow-Headers: X-User, Content-Type\r\nAccess-Control-Max-Age: 600\r\n\
                    Vary: Access-Control-Request-Method, Access-Control-Request-Headers\r\n";
    assert_eq!(lines, expected);
    let reflecting = CorsParams { headers: None, ..some_origins() };
    let (_, lines) = ask(&reflecting, "OPTIONS /", &wanted).unwrap();
    assert!(lines.contains("Access-Control-Allow-Headers: x-user, x-b\r\n"), "{lines}");
    let (_, lines) = ask(&reflecting, "OPTIONS /", &wanted.replace("x-b", "\"<x>\"")).unwrap();
    assert!(!lines.contains("Allow-Headers"), "{lines}");
    let (status, lines) = ask(&some_origins(), "OPTIONS /", &wanted.replace("app.", "evil.")).unwrap();
    assert_eq!((status, lines.contains("Access-Control-Allow")), (204, false), "{lines}");
    assert_eq!(ask(&some_origins(), "OPTIONS /", origin), None);
    assert_eq!(ask(&some_origins(), "OPTIONS /", "Access-Control-Request-Method: PUT\r\n"), None);
    assert_eq!(ask(&some_origins(), "GET /", &wanted), None);
}
