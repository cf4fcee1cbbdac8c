//! What an endpoint is told about a request.

use testkit::{RawUpstream, Script, free_port};

use crate::site::{ask, get, only_request, site, start};

#[test]
fn an_endpoint_learns_who_asks() {
    let server = RawUpstream::start(Script::ok("ok")).unwrap();
    let site = site(&[server.address()], "");
    let fields = "X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nConnection: x-secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\n\
                  X-Custom: kept\r\nX_Forwarded_For: 6.6.6.6\r\nx_real-ip: 6.6.6.6\r\nX_Custom_2: kept\r\n";
    get(&site, "/path?q=1", fields);
    let request = only_request(&server);
    assert_eq!(request.target, "/path?q=1");
    let field = |name: &str| request.fields.get(name).map(str::to_owned);
    assert_eq!(field("host").as_deref(), Some("shop.example.com"));
    assert_eq!(field("x-real-ip").as_deref(), Some("127.0.0.1"));
    assert_eq!(field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(field("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(field("x-forwarded-host").as_deref(), Some("shop.example.com"));
    assert_eq!(field("forwarded").as_deref(), Some("for=127.0.0.1;host=shop.example.com;proto=http"));
    assert_eq!(field("x-custom").as_deref(), Some("kept"));
    assert_eq!(field("x_custom_2").as_deref(), Some("kept"));
    for gone in ["x-secret", "keep-alive", "connection", "x_forwarded_for", "x_real-ip"] {
        assert_eq!(field(gone), None, "{gone}");
    }
    assert_eq!(field("x-request-id").unwrap().len(), 32);
    assert!(field("traceparent").unwrap().starts_with("00-"));
}

#[test]
fn only_proxies_that_are_trusted_tell_of_a_requests_way() {
    let server = RawUpstream::start(Script::ok("ok")).unwrap();
    let plain = ["X-Forwarded-Prefix", "x-forwarded-user", "X-FORWARDED-Tls-Client-Cert-Info-Of-Any-Length"];
    let disguised = ["X_Forwarded_Prefix", "X-Forwarded_User", "X_Forwarded_Tls_Client_Cert_Info_Of_Any_Length"];
    let others = ["X-Forward-Prefix", "X-Forwarded", "X_Forwardedness"];
    let names = plain.iter().chain(&disguised).chain(&others);
    let fields: String = names.map(|name| format!("{name}: 1\r\n")).collect();
    let text = crate::site::config(&[server.address()], "");
    let trusting = text.replace("[[route]]", "trusted_proxies = [\"127.0.0.0/8\"]\n[[route]]");
    for (text, trusted) in [(text, false), (trusting, true)] {
        server.clear();
        get(&start(&text), "/", &fields);
        let request = only_request(&server);
        let passes = |name: &&str| request.fields.get(&name.to_ascii_lowercase()).is_some();
        assert_eq!(plain.iter().filter(|name| passes(name)).count(), if trusted { 3 } else { 0 });
        assert!(!disguised.iter().any(passes) && others.iter().all(passes));
    }
}

#[test]
fn identities_that_came_along_are_kept() {
    let server = RawUpstream::start(Script::ok("ok")).unwrap();
    let site = site(&[server.address()], "");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    get(&site, "/", &format!("X-Request-Id: order-17\r\ntraceparent: {trace}\r\ntracestate: a=1\r\n"));
    let request = only_request(&server);
    assert_eq!(request.fields.get("x-request-id"), Some("order-17"));
    assert_eq!(request.fields.all("traceparent").collect::<Vec<_>>(), [trace]);
    assert_eq!(request.fields.get("tracestate"), Some("a=1"));
    server.clear();
    get(&site, "/", "X-Request-Id: has space\r\ntraceparent: nonsense\r\ntracestate: a=1\r\n");
    let request = only_request(&server);
    assert_ne!(request.fields.get("x-request-id"), Some("has space"));
    assert_ne!(request.fields.get("traceparent"), Some("nonsense"));
    assert_eq!(request.fields.get("tracestate"), None, "it belongs to the trace that was refused");
}

#[test]
fn a_trusted_proxy_is_believed() {
    let server = RawUpstream::start(Script::ok("ok")).unwrap();
    let (admin, port) = (free_port(), free_port());
    let site = start(&format!(
        "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[listener.web]\nlisten = \"127.0.0.1:{port}\"\n\
         trusted_proxies = [\"127.0.0.0/8\"]\n[[route]]\nservice = \"api\"\n\
         [service.api]\nendpoints = [\"{}\"]\n",
        server.address()
    ));
    get(&site, "/", "X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: https\r\n");
    let request = only_request(&server);
    assert_eq!(request.fields.get("x-real-ip"), Some("192.0.2.9"));
    assert_eq!(request.fields.get("x-forwarded-for"), Some("192.0.2.9, 127.0.0.1"));
    assert_eq!(request.fields.get("x-forwarded-proto"), Some("https"));
}

#[test]
fn hosts_and_paths_choose_the_service() {
    let servers = ["one", "two", "three"].map(|name| RawUpstream::start(Script::ok(name)).unwrap());
    let [one, two, three] = servers.each_ref().map(RawUpstream::address);
    let (admin, port) = (free_port(), free_port());
    let site = start(&format!(
        "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[listener.web]\nlisten = \"127.0.0.1:{port}\"\n\
         [[route]]\nhost = \"a.example.com\"\nservice = \"one\"\n\
         [[route]]\npath = \"/api/*\"\nservice = \"two\"\n\
         [[route]]\npath = \"/api/exact\"\nservice = \"three\"\n\
         [service.one]\nendpoints = [\"{one}\"]\n[service.two]\nendpoints = [\"{two}\"]\n\
         [service.three]\nendpoints = [\"{three}\"]\n"
    ));
    let check = |host: &str, path: &str, expected: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(ask(site.address(), &request, "GET").text(), expected, "{host}{path}");
    };
    check("a.example.com", "/api/x", "one");
    check("A.example.com:8080", "/", "one");
    check("b.example.com", "/api/x", "two");
    check("b.example.com", "/api", "two");
    check("b.example.com", "/api/exact?x", "three");
    check("b.example.com", "/x/../api/exact", "three");
    let unknown = ask(site.address(), "GET /x HTTP/1.1\r\nHost: b.example.com\r\n\r\n", "GET");
    assert_eq!(unknown.status, 404);
    assert!(unknown.text().contains("no_route"), "{}", unknown.text());
}
