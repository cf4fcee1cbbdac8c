//! What a route does besides sending requests on.

use testkit::message::Response;
use testkit::{RawConn, RawUpstream, Script, TempDir, Tenfold, free_port};

use crate::site::{ask, listeners, only_request, start};

/// `correct horse`, by crypt(3).
const HASH: &str = "$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2";

/// That password, and the name `ann`.
const PASSWORD: &str = "Authorization: Basic YW5uOmNvcnJlY3QgaG9yc2U=\r\n";

/// A site with these routes, and a service `api` that answers with this response.
fn acting(routes: &str, response: &str) -> (Tenfold, RawUpstream) {
    let server = RawUpstream::start(Script::answer(response)).unwrap();
    let service = format!("[service.api]\nendpoints = [\"{}\"]\n", server.address());
    let listeners = format!("{}trusted_proxies = [\"127.0.0.0/8\"]\n", listeners(free_port()));
    (start(&format!("{listeners}{routes}\n{service}")), server)
}

const OK: &str = "HTTP/1.1 200 OK\r\nServer: old\r\nContent-Length: 2\r\n\r\nok";

fn send(site: &Tenfold, line: &str, fields: &str) -> Response {
    let method = line.split(' ').next().unwrap();
    ask(site.address(), &format!("{line} HTTP/1.1\r\nHost: shop.example.com\r\n{fields}\r\n"), method)
}

#[test]
fn paths_and_hosts_are_rewritten() {
    let (site, server) = acting(
        "[[route]]\npath = \"/api/*\"\nservice = \"api\"\nrewrite = { prefix = \"/\", host = \"inside.example.com\" }\n\
         [[route]]\npath_regex = \"/users/(?<id>[0-9]+)/(.*)\"\nservice = \"api\"\nrewrite = { path = \"/u/$2/$id\" }\n",
        OK,
    );
    let check = |target: &str, expected: &str| {
        server.clear();
        assert_eq!(send(&site, &format!("GET {target}"), "").text(), "ok", "{target}");
        assert_eq!(only_request(&server).target, expected, "{target}");
    };
    check("/api/orders?page=2&next=/api/x", "/orders?page=2&next=/api/x");
    check("/api", "/");
    check("/api//evil.example/x", "/evil.example/x");
    check("/api/a%2fb", "/a%2fb");
    check("/x/../api/y", "/y");
    check("/api/x/%2e%2e/y", "/y");
    check("/users/7/a%2Fb?q", "/u/a%2Fb/7?q");
    server.clear();
    send(&site, "GET /api/x", "");
    let request = only_request(&server);
    assert_eq!(request.fields.get("host"), Some("inside.example.com"));
    assert_eq!(request.fields.get("x-forwarded-host"), Some("shop.example.com"));
    server.clear();
    // What climbs out of the prefix is not under it, and nothing else serves it.
    for target in ["/api/../admin", "/api/%2e%2e/admin", "/api/..", "/api/x/../../admin"] {
        assert_eq!(send(&site, &format!("GET {target}"), "").status, 404, "{target}");
    }
    assert!(server.requests().unwrap().is_empty());
}

#[test]
fn a_rewrite_never_leads_out_of_its_folder() {
    let (site, server) = acting(
        "[[route]]\npath_regex = \"/static(.*)\"\nservice = \"api\"\nrewrite = { path = \"/files/$1\" }\n\
         [[route]]\npath_regex = \"/(x+)/long\"\nservice = \"api\"\nrewrite = { path = \"/$1$1$1$1/long\" }\n",
        OK,
    );
    for target in ["/static../secret", "/static..", "/static%2e%2e/secret"] {
        let refused = send(&site, &format!("GET {target}"), "");
        assert_eq!((refused.status, refused.text().contains("bad_request")), (400, true), "{target}");
    }
    let long = send(&site, &format!("GET /{}/long", "x".repeat(20_000)), "");
    assert_eq!((long.status, long.text().contains("target_too_long")), (414, true));
    assert!(server.requests().unwrap().is_empty());
}

#[test]
fn fields_are_changed_on_both_ways() {
    let (site, server) = acting(
        "[[route]]\nservice = \"api\"\n\
         request_headers = { remove = [\"Cookie\"], set = { X-Env = \"prod\" }, add = { Via = [\"1.1 a\", \"1.1 b\"] } }\n\
         response_headers = { remove = [\"Server\"], set = { X-Frame-Options = \"DENY\" }, add = { Vary = \"Accept\" } }\n\
         [[route]]\npath = \"/dead\"\nname = \"dead\"\nservice = \"dead\"\nresponse_headers = { set = { X-Frame-Options = \"DENY\", Cache-Control = \"public\" } }\n\
         [service.dead]\nendpoints = [\"127.0.0.1:1\"]\n",
        "HTTP/1.1 200 OK\r\nServer: old\r\nX-Frame-Options: ALLOW\r\nVary: Origin\r\nContent-Length: 2\r\n\r\nok",
    );
    let answer = send(&site, "GET /", "Cookie: a=b\r\nX-ENV: forged\r\nconnection: x-env, via\r\nX-Other: kept\r\n");
    let request = only_request(&server);
    assert_eq!(request.fields.all("x-env").collect::<Vec<_>>(), ["prod"]);
    assert_eq!(request.fields.all("via").collect::<Vec<_>>(), ["1.1 a", "1.1 b"]);
    assert_eq!((request.fields.get("cookie"), request.fields.get("x-other")), (None, Some("kept")));
    assert_eq!(answer.fields.get("server"), None);
    assert_eq!(answer.fields.all("x-frame-options").collect::<Vec<_>>(), ["DENY"]);
    assert_eq!(answer.fields.all("vary").collect::<Vec<_>>(), ["Origin", "Accept"]);
    let error = send(&site, "GET /dead", "");
    assert_eq!((error.status, error.fields.get("x-frame-options")), (502, Some("DENY")));
    assert_eq!(error.fields.all("cache-control").collect::<Vec<_>>(), ["no-store"], "an error is not to be stored");
}

#[test]
fn clients_are_sent_elsewhere_or_answered_at_once() {
    let (site, server) = acting(
        "[[route]]\nhost = \"old.example.com\"\nredirect = { scheme = \"https\", host = \"new.example.com\", status = 301 }\n\
         [[route]]\npath = \"/old/*\"\nredirect = { prefix = \"/\", status = 308 }\n\
         [[route]]\npath = \"/robots.txt\"\nrespond = { body = \"User-agent: *\\n\", headers = { X-A = \"1\" } }\n\
         [[route]]\npath = \"/gone\"\nrespond = { status = 410 }\n\
         [[route]]\npath = \"/secure/*\"\nservice = \"api\"\nhttps_only = true\nbasic_auth = { users = [\"ann:HASH\"] }\n"
            .replace("HASH", HASH)
            .as_str(),
        OK,
    );
    let location = |target: &str, host: &str| {
        let answer = ask(site.address(), &format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"), "GET");
        (answer.status, answer.fields.get("location").unwrap_or_default().to_owned())
    };
    let check = |target: &str, host: &str, status: u16, expected: &str| {
        assert_eq!(location(target, host), (status, expected.to_owned()), "{host}{target}");
    };
    check("/a?b=c", "old.example.com:8080", 301, "https://new.example.com/a?b=c");
    check("/old/x?q", "a.example.com", 308, "/x?q");
    check("/old//evil.example", "a.example.com", 308, "/evil.example");
    check("/old/%0d%0aX-Evil:1", "a.example.com", 308, "/%0d%0aX-Evil:1");
    check("/secure/x?y", "a.example.com:8080", 308, "https://a.example.com/secure/x?y");
    // The connection goes on, also for a request with a body, and HEAD gets the head alone.
    let mut conn = RawConn::connect(site.address()).unwrap();
    conn.send("POST /old/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc").unwrap();
    assert_eq!(conn.read_response("POST").unwrap().status, 308);
    let mut conn = RawConn::connect(site.address()).unwrap();
    for (method, body) in [("GET", "User-agent: *\n"), ("HEAD", ""), ("GET", "User-agent: *\n")] {
        conn.send(format!("{method} /robots.txt HTTP/1.1\r\nHost: a.example\r\n\r\n")).unwrap();
        let answer = conn.read_response(method).unwrap();
        assert_eq!((answer.status, answer.text().as_str(), answer.fields.get("x-a")), (200, body, Some("1")));
        assert_eq!(answer.fields.get("content-type"), Some("text/plain; charset=utf-8"));
    }
    let gone = send(&site, "GET /gone", "");
    assert_eq!((gone.status, gone.text().is_empty()), (410, true));
    // A proxy that is trusted says that its client came by HTTPS: the password is asked for then, and not before.
    assert_eq!(send(&site, "GET /secure/", "X-Forwarded-Proto: https\r\n").status, 401);
    assert!(server.requests().unwrap().is_empty());
    let routes = crate::site::page(&site, "/routes");
    assert_eq!((&routes[1]["name"], &routes[1]["service"]), (&"redirect-2".into(), &serde_json::Value::Null));
    assert!(site.metric("http_requests_total", &["endpoint=\"redirect-2\"", "status=\"308\""]).unwrap() >= 3.0);
}

#[test]
fn pages_of_other_origins_are_told_what_they_may() {
    let (site, server) = acting(
        "[[route]]\npath = \"/api/*\"\nmethod = [\"GET\", \"PUT\"]\nservice = \"api\"\nbasic_auth = { users = [\"ann:HASH\"] }\n\
         cors = { origins = \"https://*.example.com\", methods = [\"GET\", \"PUT\"], headers = [\"X-User\"], credentials = true }\n"
            .replace("HASH", HASH)
            .as_str(),
        "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 2\r\n\r\nok",
    );
    let origin = "Origin: https://app.example.com\r\n";
    let preflight = format!("{origin}Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-user\r\n");
    let answer = send(&site, "OPTIONS /api/x", &preflight);
    let field = |answer: &Response, name: &str| answer.fields.all(name).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!((answer.status, answer.fields.get("content-length")), (204, None));
    assert_eq!(field(&answer, "access-control-allow-origin"), ["https://app.example.com"]);
    assert_eq!(field(&answer, "access-control-allow-methods"), ["GET, PUT"]);
    // A preflight for a method that the route does not serve is not the route's.
    assert_eq!(send(&site, "OPTIONS /api/x", &preflight.replace("PUT", "DELETE")).status, 404);
    // Even a refusal can be read by a page that may, or it would see nothing but a failure.
    let refused = send(&site, "GET /api/x", origin);
    assert_eq!(refused.status, 401);
    assert_eq!(field(&refused, "access-control-allow-origin"), ["https://app.example.com"]);
    assert!(server.requests().unwrap().is_empty());
    let answer = send(&site, "GET /api/x", &format!("{origin}{PASSWORD}"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert_eq!(field(&answer, "access-control-allow-origin"), ["https://app.example.com"]);
    assert_eq!(field(&answer, "vary"), ["Origin"]);
    for origin in ["", "Origin: https://evil.example\r\n"] {
        let answer = send(&site, "GET /api/x", &format!("{origin}{PASSWORD}"));
        assert_eq!(field(&answer, "access-control-allow-origin"), [""; 0], "{origin}");
        assert_eq!(field(&answer, "vary"), ["Origin"], "{origin}");
    }
}

#[test]
fn names_and_passwords_are_asked_for_and_changed_with_their_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.write("users", format!("# The team.\nann:{HASH}\n")).unwrap();
    let route = "[[route]]\nservice = \"api\"\nbasic_auth = { realm = \"The shop\", users_file = \"FILE\" }\n";
    let (site, server) = acting(&route.replace("FILE", file.to_str().unwrap()), OK);
    let refused = send(&site, "GET /", "");
    assert_eq!(refused.fields.get("www-authenticate"), Some("Basic realm=\"The shop\", charset=\"UTF-8\""));
    crate::site::check_own(&refused, 401, "unauthorized");
    assert_eq!(send(&site, "GET /", "Authorization: Basic YW5uOndyb25n\r\n").status, 401);
    assert!(server.requests().unwrap().is_empty());
    let mut conn = RawConn::connect(site.address()).unwrap();
    let mut ask = || {
        conn.send(format!("GET / HTTP/1.1\r\nHost: a.example\r\n{PASSWORD}\r\n")).unwrap();
        conn.read_response("GET").unwrap().status
    };
    assert_eq!((0..50).map(|_| ask()).collect::<Vec<_>>(), [200; 50]);
    assert_eq!(site.metric("listener_errors_total", &["code=\"unauthorized\""]).unwrap(), 2.0);
    // The password that was remembered is forgotten with its hash.
    folder.write("users", format!("bob:{HASH}\n")).unwrap();
    site.wait_until("the file is read anew", |_| Ok(ask() == 401)).unwrap();
}
