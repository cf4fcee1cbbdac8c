//! What routes do besides sending requests on, under TLS and over both versions of HTTP.

use testkit::{Authority, Curl, CurlAnswer, RawUpstream, Script, Tenfold, free_port};

use crate::site::{listeners, start};

const HOST: &str = "shop.example.com";

/// A listener under TLS with these routes, in front of a service `api`.
struct Secured {
    site: Tenfold,
    server: RawUpstream,
    authority: Authority,
}

impl Secured {
    fn new(routes: &str) -> Self {
        let authority = Authority::new("test").unwrap();
        let issued = authority.issue("shop", &[HOST]).unwrap();
        let server = RawUpstream::start(Script::ok("served")).unwrap();
        let site = start(&format!(
            "{}tls = {{ certificate = {:?}, key = {:?} }}\n{routes}\n\
             [service.api]\nendpoints = [\"{}\"]\nsticky = {{ cookie = \"stick\" }}\n",
            listeners(free_port()),
            issued.certificate,
            issued.key,
            server.address()
        ));
        Self { site, server, authority }
    }

    /// Asks over HTTP/1.1 and over HTTP/2, with these options of curl, and checks both answers.
    fn both(&self, path: &str, options: &[(&str, &str)], check: impl Fn(&CurlAnswer)) {
        let port = self.site.address().port();
        for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
            let curl = Curl::default().flag(flag).resolve(HOST, port).with("--cacert", self.authority.file());
            let curl = options.iter().fold(curl, |curl, (option, value)| curl.with(option, value));
            let answer = curl.get(&format!("https://{HOST}:{port}{path}")).unwrap();
            assert_eq!((answer.code, answer.version.as_str()), (0, version), "{answer:?}");
            check(&answer);
        }
    }
}

#[test]
fn what_came_by_https_passes_and_its_cookies_stay_with_https() {
    let secured = Secured::new("[[route]]\nservice = \"api\"\nhttps_only = true\n");
    // What a client says of its scheme, which is not trusted, is no reason to doubt the connection.
    secured.both("/a", &[("--header", "X-Forwarded-Proto: http")], |answer| {
        assert_eq!((answer.status, answer.text().as_str()), (200, "served"), "{answer:?}");
        let cookie = answer.field("set-cookie").unwrap();
        assert!(cookie.starts_with("stick=") && cookie.ends_with("; HttpOnly; SameSite=Lax; Secure"), "{cookie}");
    });
    let requests = secured.server.requests().unwrap();
    assert!(requests.iter().all(|request| request.fields.get("x-forwarded-proto") == Some("https")));
}

#[test]
fn clients_are_sent_elsewhere() {
    let secured = Secured::new(
        "[[route]]\npath = \"/old/*\"\nredirect = { prefix = \"/new/\", status = 308 }\n\
         [[route]]\npath = \"/away\"\nredirect = { scheme = \"https\", host = \"www.example.com\", status = 301 }\n\
         [[route]]\nservice = \"api\"\n",
    );
    secured.both("/old/x?q=1", &[], |answer| {
        assert_eq!((answer.status, answer.field("location")), (308, Some("/new/x?q=1")), "{answer:?}");
    });
    secured.both("/away?q", &[], |answer| {
        assert_eq!((answer.status, answer.field("location")), (301, Some("https://www.example.com/away?q")));
    });
    assert!(secured.server.requests().unwrap().is_empty());
}

#[test]
fn passwords_are_asked_for_and_pages_told_what_they_may() {
    // `correct horse`, of `ann`.
    let users = "[\"ann:$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2\"]";
    let secured = Secured::new(&format!(
        "[[route]]\nservice = \"api\"\nbasic_auth = {{ users = {users} }}\n\
         cors = {{ origins = \"https://app.example.com\", methods = [\"PUT\"], credentials = true }}\n"
    ));
    let origin = ("--header", "Origin: https://app.example.com");
    let allowed = |answer: &CurlAnswer| answer.field("access-control-allow-origin").map(str::to_owned);
    let preflight = [("--request", "OPTIONS"), ("--header", "Access-Control-Request-Method: PUT"), origin];
    secured.both("/", &preflight, |answer| {
        assert_eq!((answer.status, answer.field("access-control-allow-methods")), (204, Some("PUT")), "{answer:?}");
        assert_eq!(allowed(answer).as_deref(), Some("https://app.example.com"));
    });
    secured.both("/", &[origin, ("--user", "ann:wrong")], |answer| {
        assert_eq!(answer.status, 401, "{answer:?}");
        assert!(answer.field("www-authenticate").unwrap().starts_with("Basic "));
        assert_eq!(allowed(answer).as_deref(), Some("https://app.example.com"));
    });
    assert!(secured.server.requests().unwrap().is_empty());
    secured.both("/", &[origin, ("--user", "ann:correct horse")], |answer| {
        assert_eq!((answer.status, answer.text().as_str()), (200, "served"), "{answer:?}");
        assert_eq!(allowed(answer).as_deref(), Some("https://app.example.com"));
    });
}
