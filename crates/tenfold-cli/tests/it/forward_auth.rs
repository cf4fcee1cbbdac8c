//! Another service is asked whether a request may pass.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use testkit::message::Response;
use testkit::{Curl, RawConn, RawUpstream, Script, Step, Tenfold, free_port};

use crate::site::{ask, check_own, dead_address, listeners, only_request, start};

const ALLOWED: &str =
    "HTTP/1.1 200 OK\r\nX-User: ann\r\nX_Roles: forged\r\nSet-Cookie: seen=1\r\nContent-Length: 2\r\n\r\nok";

/// A site whose requests `api` gets if this service allows, asked with these settings. The route has these keys too.
fn guarded(auth: &[SocketAddr], settings: &str, route: &str) -> (Tenfold, RawUpstream) {
    let api = RawUpstream::start(Script::ok("served")).unwrap();
    let auth: Vec<_> = auth.iter().map(|address| format!("\"{address}\"")).collect();
    let site = start(&format!(
        "{}[[route]]\nname = \"api\"\nservice = \"api\"\n\
         forward_auth = {{ service = \"auth\", path = \"/verify?a\", response_headers = [\"X-User\", \"X-Roles\"], {settings} }}\n\
         {route}\n[service.api]\nendpoints = [\"{}\"]\n[service.auth]\nendpoints = [{}]\n",
        listeners(free_port()),
        api.address(),
        auth.join(", ")
    ));
    (site, api)
}

fn answering(answer: &str) -> RawUpstream {
    RawUpstream::start(Script::answer(answer)).unwrap()
}

fn get(site: &Tenfold, fields: &str) -> Response {
    ask(site.address(), &format!("GET /a?b=c HTTP/1.1\r\nHost: shop.example.com\r\n{fields}\r\n"), "GET")
}

fn counted(site: &Tenfold, result: &str) -> f64 {
    let labels = ["endpoint=\"api\"", &format!("result=\"{result}\"")];
    site.metric("http_forward_auth_total", &labels).unwrap()
}

#[test]
fn what_is_allowed_passes_with_what_the_service_says() {
    let auth = answering(ALLOWED);
    let (site, api) = guarded(&[auth.address()], "client_headers = [\"Set-Cookie\"]", "");
    let forged = "X-User: root\r\nx-user: root\r\nX_User: root\r\nX-Roles: admin\r\nX_ROLES: admin\r\n\
                  X-Forwarded-Method: GET\r\nX-Forwarded-Uri: /public\r\nX_Forwarded_Uri: /public\r\n\
                  X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: https\r\n";
    let request = format!(
        "POST /a?b=c HTTP/1.1\r\nHost: shop.example.com\r\nCookie: session=1\r\nContent-Type: text/plain\r\n\
         Connection: x-user, x-hop\r\nX-Hop: 1\r\nContent-Length: 5\r\nIf-None-Match: \"a\"\r\n{forged}\r\nhello"
    );
    let answer = ask(site.address(), &request, "POST");
    assert_eq!((answer.status, answer.text().as_str()), (200, "served"));
    assert_eq!(answer.fields.get("set-cookie"), Some("seen=1"));
    assert_eq!(answer.fields.get("x-user"), None);
    let question = only_request(&auth);
    assert_eq!((question.method.as_str(), question.target.as_str(), question.body.len()), ("GET", "/verify?a", 0));
    let check = |name: &str, expected: &[&str]| {
        assert_eq!(question.fields.all(name).collect::<Vec<_>>(), expected, "{name}");
    };
    check("host", &["shop.example.com"]);
    check("cookie", &["session=1"]);
    check("x-forwarded-method", &["POST"]);
    check("x-forwarded-uri", &["/a?b=c"]);
    check("x-forwarded-for", &["127.0.0.1"]);
    check("x-forwarded-host", &["shop.example.com"]);
    check("x-forwarded-proto", &["http"]);
    for name in ["x_forwarded_uri", "content-type", "content-length", "transfer-encoding", "x-hop", "if-none-match"] {
        check(name, &[]);
    }
    let served = only_request(&api);
    assert_eq!((served.target.as_str(), served.body.as_slice()), ("/a?b=c", &b"hello"[..]));
    let check = |name: &str, expected: &[&str]| {
        assert_eq!(served.fields.all(name).collect::<Vec<_>>(), expected, "{name}");
    };
    check("x-user", &["ann"]);
    check("if-none-match", &["\"a\""]);
    for name in ["x_user", "x-roles", "x_roles"] {
        check(name, &[]);
    }
    assert_eq!(served.fields.get("x-request-id"), question.fields.get("x-request-id"));
    assert_eq!((counted(&site, "allowed"), counted(&site, "denied")), (1.0, 0.0));
    api.clear();
    // Nor are they the client's to write among trailers.
    let chunked = "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\
                   X-Check: 1\r\nX-User: root\r\nx_roles: admin\r\n\r\n";
    assert_eq!(ask(site.address(), chunked, "POST").status, 200);
    let received = String::from_utf8(api.received().concat()).unwrap();
    assert!(received.ends_with("\r\n1\r\na\r\n0\r\nX-Check: 1\r\n\r\n"), "{received}");
}

#[test]
fn what_is_denied_gets_the_services_answer() {
    let auth = answering("");
    let route = "response_headers = { remove = [\"Server\"], set = { X-Frame-Options = \"DENY\" } }";
    let (site, api) = guarded(&[auth.address()], "", route);
    let mut denied = 0.0;
    let mut check = |method: &str, answer: &str, status: u16, body: &str, fields: &[(&str, &[&str])]| {
        auth.set_script(Script::answer(answer));
        auth.clear();
        let request = format!("{method} / HTTP/1.1\r\nHost: a.example\r\n\r\n");
        let got = ask(site.address(), &request, method);
        assert_eq!((got.status, got.text().as_str()), (status, body), "{answer}");
        for (name, values) in fields {
            assert_eq!(got.fields.all(name).collect::<Vec<_>>(), *values, "{answer}");
        }
        assert_eq!(got.fields.get("x-frame-options"), Some("DENY"), "{answer}");
        denied += 1.0;
        assert_eq!(counted(&site, "denied"), denied);
    };
    let refused = "HTTP/1.1 401 Unauthorized\r\nServer: a\r\nWWW-Authenticate: Bearer\r\nContent-Length: 2\r\n\r\nno";
    let fields: [(&str, &[&str]); 3] = [("www-authenticate", &["Bearer"]), ("server", &[]), ("content-length", &["2"])];
    check("GET", refused, 401, "no", &fields);
    let login = "HTTP/1.1 302 Found\r\nLocation: https://login.example.com/?rd=x\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
                 Content-Length: 0\r\n\r\n";
    let fields: [(&str, &[&str]); 2] =
        [("location", &["https://login.example.com/?rd=x"]), ("set-cookie", &["a=1", "b=2"])];
    check("GET", login, 302, "", &fields);
    let chunked =
        "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n4\r\n way\r\n0\r\nX-T: 1\r\n\r\n";
    check("GET", chunked, 403, "no way", &[("transfer-encoding", &[]), ("content-length", &["6"])]);
    check("HEAD", chunked, 403, "", &[("content-length", &["6"])]);
    check("GET", "HTTP/1.1 304 Not Modified\r\n\r\n", 304, "", &[]);
    check("GET", "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", 500, "", &[]);
    assert!(api.requests().unwrap().is_empty());
    // The connection goes on after a request without a body.
    let mut conn = RawConn::connect(site.address()).unwrap();
    for _ in 0..2 {
        conn.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        assert_eq!(conn.read_response("GET").unwrap().status, 500);
    }
}

#[test]
fn without_an_answer_nothing_passes() {
    let check = |name: &str, auth: SocketAddr, settings: &str| {
        let (site, api) = guarded(&[auth], settings, "");
        let begun = Instant::now();
        check_own(&get(&site, ""), 503, "auth_unavailable");
        assert!(begun.elapsed() < Duration::from_secs(4), "{name}");
        assert_eq!((counted(&site, "failed"), counted(&site, "allowed")), (1.0, 0.0), "{name}");
        // A client has its answer a moment before that is counted.
        let told = |site: &Tenfold| Ok(site.metric("listener_errors_total", &["code=\"auth_unavailable\""])? == 1.0);
        site.wait_until(name, told).unwrap();
        assert!(api.requests().unwrap().is_empty(), "{name}");
        site.wait_until("nothing is left", |site| Ok(site.metric("upstream_in_flight", &["service=\"auth\""])? == 0.0))
            .unwrap();
    };
    let playing = |steps: Vec<Step>| RawUpstream::start(Script::new(steps)).unwrap();
    let sent = |text: &str| Step::Send(text.into());
    check("dead", dead_address(), "");
    let silent = playing(vec![Step::AwaitRequest, Step::Drain]);
    check("silent", silent.address(), "timeout = \"200ms\"");
    let stalled = playing(vec![Step::AwaitRequest, sent("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1"), Step::Drain]);
    check("stalled in the body", stalled.address(), "timeout = \"200ms\"");
    let short = playing(vec![Step::AwaitRequest, sent("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1"), Step::Close]);
    check("a body cut short", short.address(), "");
    let closing = playing(vec![Step::AwaitRequest, Step::Close]);
    check("closed", closing.address(), "");
    let broken =
        playing(vec![Step::AwaitRequest, sent("HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n"), Step::Drain]);
    check("no HTTP", broken.address(), "");
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let switching = playing(vec![Step::AwaitRequest, sent(switching), Step::Drain]);
    check("another protocol", switching.address(), "");
    let large = answering(&format!("HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n{}", "x".repeat(101)));
    check("too large", large.address(), "body_bytes_max = \"100B\"");
    let endless = format!("HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n{}", "1\r\nx\r\n".repeat(101));
    let endless = playing(vec![Step::AwaitRequest, sent(&endless), Step::Drain]);
    check("too large, without saying so", endless.address(), "body_bytes_max = \"100B\"");
    let just = answering(&format!("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", "x".repeat(100)));
    let (site, _api) = guarded(&[just.address()], "body_bytes_max = \"100B\"", "");
    assert_eq!(get(&site, "").status, 200);
}

#[test]
fn questions_are_balanced_and_tried_again() {
    let auth = answering(ALLOWED);
    let (site, api) = guarded(&[dead_address(), auth.address()], "", "");
    for _ in 0..20 {
        assert_eq!(get(&site, "").status, 200);
    }
    assert_eq!((auth.requests().unwrap().len(), api.requests().unwrap().len()), (20, 20));
    assert_eq!(site.metric("upstream_responses_total", &["service=\"auth\"", "class=\"2xx\""]).unwrap(), 20.0);
    assert_eq!(site.metric("http_requests_total", &[]).unwrap(), 20.0);
}

#[test]
fn it_comes_after_preflights_and_passwords_and_before_all_else() {
    let auth = answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    // `correct horse`, of `ann`.
    let users = "[\"ann:$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2\"]";
    let password = "Authorization: Basic YW5uOmNvcnJlY3QgaG9yc2U=\r\n";
    let route = format!(
        "cors = {{ origins = \"*\" }}\nbasic_auth = {{ users = {users} }}\n\
         [[route]]\npath = \"/old\"\nredirect = {{ path = \"/new\" }}\nforward_auth = {{ service = \"auth\" }}"
    );
    let (site, api) = guarded(&[auth.address()], "", &route);
    let preflight = "OPTIONS / HTTP/1.1\r\nHost: a.example\r\nOrigin: https://b.example\r\n\
                     Access-Control-Request-Method: GET\r\n\r\n";
    assert_eq!(ask(site.address(), preflight, "OPTIONS").status, 204);
    assert_eq!(get(&site, "").status, 401);
    assert!(auth.requests().unwrap().is_empty());
    let denied = get(&site, &format!("{password}Origin: https://b.example\r\n"));
    assert_eq!((denied.status, denied.fields.get("access-control-allow-origin")), (403, Some("*")));
    let old = || ask(site.address(), "GET /old HTTP/1.1\r\nHost: a.example\r\n\r\n", "GET").status;
    assert_eq!(old(), 403);
    auth.set_script(Script::answer("HTTP/1.1 204 No Content\r\n\r\n"));
    auth.clear();
    assert_eq!((old(), get(&site, password).status), (302, 200));
    assert_eq!(only_request(&api).fields.get("authorization"), Some(password["Authorization: ".len()..].trim()));
    // A route is named after what its requests go to, not after who is asked about them.
    assert_eq!(crate::site::page(&site, "/routes")[1]["name"], "redirect");
}

#[test]
fn a_body_waits_until_its_request_may_pass() {
    let auth = RawUpstream::start(Script::answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")).unwrap();
    let (site, api) = guarded(&[auth.address()], "", "");
    let head = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let mut conn = RawConn::connect(site.address()).unwrap();
    conn.send(head).unwrap();
    let refused = conn.read_response("POST").unwrap();
    assert_eq!((refused.status, refused.text().as_str()), (403, "no"));
    // A client that sends on regardless hears the answer, too.
    let large = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n{}", "x".repeat(200_000));
    assert_eq!(ask(site.address(), &large, "POST").status, 403);
    assert!(api.requests().unwrap().is_empty());
    assert!(auth.requests().unwrap().iter().all(|request| request.body.is_empty()));
    auth.set_script(Script::answer(ALLOWED));
    auth.clear();
    assert_eq!(ask(site.address(), &large, "POST").status, 200);
    assert_eq!(only_request(&api).body.len(), 200_000);
}

#[test]
fn it_holds_for_http2_grpc_and_websockets() {
    let refused = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 2\r\n\r\nno";
    let auth = answering(refused);
    let route = "response_headers = { set = { X-Frame-Options = \"DENY\" } }";
    let (site, api) = guarded(&[auth.address()], "timeout = \"1s\"", route);
    let url = format!("http://{}/a", site.address());
    let over_http2 = || Curl::default().flag("--http2-prior-knowledge");
    let forged = || over_http2().with("--header", "x-user: root").with("--header", "x_user: root");
    let answer = over_http2().with("--data", "hello").get(&url).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (401, "no"), "{answer:?}");
    assert_eq!(answer.field("www-authenticate"), Some("Bearer"));
    let call = || over_http2().with("--header", "content-type: application/grpc").with("--data", "hello");
    let status = || {
        let answer = call().get(&url).unwrap();
        assert_eq!((answer.status, answer.field("x-frame-options")), (200, Some("DENY")), "{answer:?}");
        answer.field("grpc-status").unwrap().to_owned()
    };
    assert_eq!(status(), "16");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert_eq!(get(&site, upgrade).status, 401);
    assert!(api.requests().unwrap().is_empty());
    let questions = auth.requests().unwrap();
    assert!(questions.iter().all(|question| question.method == "GET" && question.fields.get("upgrade").is_none()));
    assert!(questions.iter().all(|question| question.fields.get("content-type").is_none()));
    auth.set_script(Script::answer(ALLOWED));
    auth.clear();
    assert_eq!(forged().with("--data", "hello").get(&url).unwrap().text(), "served");
    let served = only_request(&api);
    assert_eq!((served.fields.get("x-user"), served.fields.get("x_user")), (Some("ann"), None));
    assert_eq!(served.body, b"hello");
    api.set_script(Script::answer(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ));
    api.clear();
    let mut conn = RawConn::connect(site.address()).unwrap();
    conn.send(format!("GET /a HTTP/1.1\r\nHost: a.example\r\n{upgrade}\r\n")).unwrap();
    assert_eq!(conn.read_response("GET").unwrap().status, 101);
    auth.set_script(Script::new([Step::AwaitRequest, Step::Drain]));
    auth.clear();
    assert_eq!(status(), "14");
}

#[test]
fn the_service_may_speak_http2() {
    let answers = |status: u16| {
        format!("[[route]]\nrespond = {{ status = {status}, body = \"told\", headers = {{ X-User = \"ann\" }} }}\n")
    };
    for (status, expected) in [(200, "served"), (403, "told")] {
        let auth = start(&format!("{}{}", listeners(free_port()), answers(status)));
        let api = RawUpstream::start(Script::ok("served")).unwrap();
        let site = start(&format!(
            "{}[[route]]\nservice = \"api\"\nforward_auth = {{ service = \"auth\", response_headers = [\"X-User\"] }}\n\
             [service.api]\nendpoints = [\"{}\"]\n[service.auth]\nprotocol = \"http2\"\nendpoints = [\"{}\"]\n",
            listeners(free_port()),
            api.address(),
            auth.address()
        ));
        let answer = get(&site, "");
        assert_eq!((answer.status, answer.text().as_str()), (status, expected));
        let users: Vec<_> = api.requests().unwrap().iter().map(|r| r.fields.get("x-user").map(str::to_owned)).collect();
        assert_eq!(users, if status == 200 { vec![Some("ann".to_owned())] } else { vec![] });
    }
}

#[test]
fn a_mirror_believes_no_client_either() {
    let (auth, shadow) = (answering(ALLOWED), RawUpstream::start(Script::ok("shadow")).unwrap());
    let route =
        format!("mirror = {{ service = \"shadow\" }}\n[service.shadow]\nendpoints = [\"{}\"]", shadow.address());
    let (site, _api) = guarded(&[auth.address()], "", &route);
    assert_eq!(get(&site, "X-User: root\r\nX_User: root\r\n").status, 200);
    site.wait_until("the copy", |_| Ok(shadow.requests()?.len() == 1)).unwrap();
    let copy = only_request(&shadow);
    assert_eq!((copy.fields.all("x-user").collect::<Vec<_>>(), copy.fields.get("x_user")), (vec!["ann"], None));
    assert_eq!(auth.requests().unwrap().len(), 1);
}
