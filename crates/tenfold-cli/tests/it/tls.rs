//! TLS on both sides: certificates, names, clients' certificates, and files that change.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use testkit::{Authority, Curl, CurlAnswer, Issued, Origin, RawConn, RawUpstream, Script, Tenfold, free_port, nginx};

use crate::site::{check_own, get, listeners, page, start};

/// A listener under TLS with these keys in its `tls` table, in front of one endpoint.
fn secure(tls: &str, endpoint: SocketAddr) -> Tenfold {
    let head = listeners(free_port());
    start(&format!(
        "{head}handshake_timeout = \"1s\"\n[listener.web.tls]\n{tls}\n\
         [[route]]\nservice = \"api\"\n[service.api]\nendpoints = [\"{endpoint}\"]\n"
    ))
}

fn pair(issued: &Issued) -> String {
    format!("certificate = {:?}\nkey = {:?}\n", issued.certificate, issued.key)
}

/// Asks a site for a path, as a host, believing this authority.
fn ask_as(site: &Tenfold, host: &str, authority: &Authority, curl: Curl) -> CurlAnswer {
    let port = site.address().port();
    let curl = curl.resolve(host, port).with("--cacert", authority.file());
    curl.get(&format!("https://{host}:{port}/")).unwrap()
}

#[test]
fn a_request_under_tls_is_served_and_the_endpoint_hears_of_it() {
    let authority = Authority::new("test").unwrap();
    let issued = authority.issue("shop", &["shop.example.com"]).unwrap();
    let server = RawUpstream::start(Script::ok("hello")).unwrap();
    let site = secure(&pair(&issued), server.address());
    let answer = ask_as(&site, "shop.example.com", &authority, Curl::default());
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"), "{answer:?}");
    let requests = server.requests().unwrap();
    assert_eq!(requests[0].fields.get("x-forwarded-proto"), Some("https"));
    assert!(requests[0].fields.get("forwarded").unwrap().ends_with(";proto=https"));
    // Who does not believe the authority hears no answer.
    let stranger = Authority::new("another").unwrap();
    assert_eq!(ask_as(&site, "shop.example.com", &stranger, Curl::default()).code, 60);
}

#[test]
fn the_certificate_follows_from_the_name_that_the_client_asks_for() {
    let authority = Authority::new("test").unwrap();
    let shop = authority.issue("shop", &["shop.example.com"]).unwrap();
    let wild = authority.issue("wild", &["*.example.org", "example.org"]).unwrap();
    let origin = Origin::start("a").unwrap();
    let several: Vec<String> = [&shop, &wild]
        .map(|issued| format!("{{ certificate = {:?}, key = {:?} }}", issued.certificate, issued.key))
        .into();
    let site = secure(&format!("certificates = [{}]", several.join(", ")), origin.address());
    for host in ["shop.example.com", "a.example.org", "B.example.org", "example.org"] {
        assert_eq!(ask_as(&site, host, &authority, Curl::default()).status, 200, "{host}");
    }
    // A wildcard stands for one label, and the first certificate for everybody else.
    for host in ["a.b.example.org", "example.net"] {
        let answer = ask_as(&site, host, &authority, Curl::default());
        assert_eq!(answer.code, 60, "{answer:?}");
        let insecure = ask_as(&site, host, &authority, Curl::default().flag("--insecure"));
        assert_eq!(insecure.status, 200, "{host}");
    }
}

#[test]
fn clients_show_their_certificates() {
    let authority = Authority::new("test").unwrap();
    let server = authority.issue("server", &["shop.example.com"]).unwrap();
    let client = authority.issue("client", &["client.example.com"]).unwrap();
    let stranger = Authority::new("another").unwrap().issue("stranger", &["client.example.com"]).unwrap();
    let origin = Origin::start("a").unwrap();
    let with = |issued: &Issued| Curl::default().with("--cert", &issued.certificate).with("--key", &issued.key);
    let ask = |site: &Tenfold, curl| ask_as(site, "shop.example.com", &authority, curl).status;
    let tls = format!("{}client_ca = {:?}\n", pair(&server), authority.file());
    let required = secure(&tls, origin.address());
    assert_eq!(ask(&required, with(&client)), 200);
    assert_eq!(ask(&required, Curl::default()), 0);
    assert_eq!(ask(&required, with(&stranger)), 0);
    let optional = secure(&format!("{tls}client_certificate = \"optional\"\n"), origin.address());
    assert_eq!(ask(&optional, with(&client)), 200);
    assert_eq!(ask(&optional, Curl::default()), 200);
    assert_eq!(ask(&optional, with(&stranger)), 0);
}

#[test]
fn versions_below_the_oldest_allowed_are_refused() {
    let authority = Authority::new("test").unwrap();
    let issued = authority.issue("shop", &["shop.example.com"]).unwrap();
    let origin = Origin::start("a").unwrap();
    let old = || Curl::default().flag("--tlsv1.2").with("--tls-max", "1.2");
    let ask = |site: &Tenfold, curl| ask_as(site, "shop.example.com", &authority, curl).status;
    assert_eq!(ask(&secure(&pair(&issued), origin.address()), old()), 200);
    let strict = secure(&format!("{}min_version = \"1.3\"\n", pair(&issued)), origin.address());
    assert_eq!(ask(&strict, old()), 0);
    assert_eq!(ask(&strict, Curl::default()), 200);
}

#[test]
fn a_changed_file_takes_effect_and_a_wrong_one_does_not() {
    let first = Authority::new("first").unwrap();
    let second = Authority::new("second").unwrap();
    let shop = first.issue("shop", &["shop.example.com"]).unwrap();
    let next = second.issue("shop", &["shop.example.com"]).unwrap();
    let origin = Origin::start("a").unwrap();
    let site = secure(&pair(&shop), origin.address());
    let believed = |authority: &Authority| ask_as(&site, "shop.example.com", authority, Curl::default()).status == 200;
    assert!(believed(&first) && !believed(&second));
    let replace = |from: &Path, to: &Path| {
        let staged = to.with_extension("staged");
        std::fs::copy(from, &staged).unwrap();
        std::fs::rename(staged, to).unwrap();
    };
    let reloads = |result: &str| site.metric("config_reloads_total", &[result]);
    // A certificate without its key is a mistake, and what was served before goes on.
    replace(&next.certificate, &shop.certificate);
    site.wait_until("the failed reload", |_| Ok(reloads("result=\"failure\"")? == 1.0)).unwrap();
    assert!(believed(&first));
    assert!(site.output().contains("is not the private key of the certificate in"), "{}", site.output());
    replace(&next.key, &shop.key);
    site.wait_until("the new certificate", |_| Ok(reloads("result=\"success\"")? == 1.0)).unwrap();
    assert!(!believed(&first) && believed(&second));
}

#[test]
fn who_speaks_no_tls_is_told_and_who_says_nothing_is_cut() {
    let authority = Authority::new("test").unwrap();
    let issued = authority.issue("shop", &["shop.example.com"]).unwrap();
    let origin = Origin::start("a").unwrap();
    let site = secure(&pair(&issued), origin.address());
    let plain = get(&site, "/", "");
    assert_eq!((plain.status, plain.text().as_str()), (400, "This port speaks HTTPS.\n"));
    let mut silent = RawConn::connect(site.address()).unwrap();
    assert!(!silent.ends_within(Duration::from_millis(500)).unwrap());
    assert!(silent.ends_within(Duration::from_secs(3)).unwrap());
    let mut half = RawConn::connect(site.address()).unwrap();
    half.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap();
    assert!(half.ends_within(Duration::from_secs(3)).unwrap());
    let mut garbage = RawConn::connect(site.address()).unwrap();
    garbage.send(b"\x16\x03\x01\xff\xff garbage").unwrap();
    assert!(garbage.ends_within(Duration::from_secs(3)).unwrap());
    let refused = |reason: &str| site.metric("listener_connections_refused_total", &[reason]).unwrap();
    assert_eq!(refused("reason=\"tls_timeout\""), 2.0);
    assert_eq!(refused("reason=\"tls_failed\""), 2.0);
}

#[test]
fn long_bodies_pass_under_tls_both_ways() {
    let authority = Authority::new("test").unwrap();
    let issued = authority.issue("shop", &["shop.example.com"]).unwrap();
    let origin = Origin::start("a").unwrap();
    let site = secure(&pair(&issued), origin.address());
    let port = site.address().port();
    let curl = || Curl::default().resolve("shop.example.com", port).with("--cacert", authority.file());
    let url = |path: &str| format!("https://shop.example.com:{port}{path}");
    let long = curl().get(&url("/bytes/5000000")).unwrap();
    assert_eq!((long.status, long.body.len()), (200, 5_000_000), "{}", long.error);
    let dir = testkit::TempDir::new().unwrap();
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    let file = dir.write("body", &body).unwrap();
    let echoed = curl().with("--data-binary", format!("@{}", file.display())).get(&url("/echo")).unwrap();
    assert_eq!(echoed.status, 200, "{}", echoed.error);
    assert!(echoed.body == body, "{} bytes came back", echoed.body.len());
}

/// An nginx under TLS that says `secure`, and wants a client's certificate if an authority for those is named.
fn secure_nginx(issued: &Issued, clients: Option<&Path>) -> (u16, (testkit::Process, testkit::TempDir)) {
    let port = free_port();
    let clients = clients
        .map_or_else(String::new, |ca| format!("ssl_client_certificate {}; ssl_verify_client on;", ca.display()));
    let conf = format!(
        "worker_processes 1; events {{}} http {{ access_log off; client_body_temp_path {{dir}}; proxy_temp_path {{dir}};
         fastcgi_temp_path {{dir}}; uwsgi_temp_path {{dir}}; scgi_temp_path {{dir}};
         server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {}; {clients}
         location / {{ return 200 \"secure $ssl_server_name\"; }} }} }}",
        issued.certificate.display(),
        issued.key.display()
    );
    (port, nginx(&conf, port).unwrap())
}

#[test]
fn endpoints_under_tls_are_verified() {
    let authority = Authority::new("test").unwrap();
    let issued = authority.issue("api", &["api.example.com"]).unwrap();
    let (port, _nginx) = secure_nginx(&issued, None);
    let site = |tls: &str| {
        let head = listeners(free_port());
        start(&format!(
            "{head}[[route]]\nservice = \"api\"\n[service.api]\nendpoints = [\"127.0.0.1:{port}\"]\nretry = \"off\"\n\
             passive_health = \"off\"\nhealth = {{ path = \"/\", interval = \"200ms\" }}\ntls = {{ {tls} }}\n"
        ))
    };
    let ca = format!("ca = {:?}", authority.file());
    let verified = site(&format!("{ca}, server_name = \"api.example.com\""));
    for _ in 0..3 {
        assert_eq!(get(&verified, "/", "").text(), "secure api.example.com");
    }
    assert_eq!(verified.metric("upstream_connects_total", &[]).unwrap(), 1.0, "the connection is kept");
    let endpoint = |site: &Tenfold| page(site, "/services/api")["endpoints"][0].clone();
    assert_eq!(endpoint(&verified)["health"], "healthy");
    assert!(get(&site("verify = false"), "/", "").text().starts_with("secure"));
    // Another name, or an authority that is not believed.
    for tls in [ca.as_str(), "server_name = \"api.example.com\""] {
        let site = site(tls);
        check_own(&get(&site, "/", ""), 502, "upstream_connect");
        let cause = |site: &Tenfold| endpoint(site)["cause"].to_string();
        let failed = |site: &Tenfold| Ok(cause(site).contains("no TLS") && cause(site).contains("certificate"));
        site.wait_until("the failed check", failed).unwrap();
    }
}

#[test]
fn endpoints_that_ask_for_a_certificate_get_it() {
    let authority = Authority::new("test").unwrap();
    let issued = authority.issue("api", &["api.example.com"]).unwrap();
    let gateway = authority.issue("gateway", &["gateway.example.com"]).unwrap();
    let (port, _nginx) = secure_nginx(&issued, Some(&authority.file()));
    let ask = |with: &str| {
        let head = listeners(free_port());
        let site = start(&format!(
            "{head}[[route]]\nservice = \"api\"\n[service.api]\nendpoints = [\"127.0.0.1:{port}\"]\n\
             [service.api.tls]\nca = {:?}\nserver_name = \"api.example.com\"\n{with}\n",
            authority.file()
        ));
        get(&site, "/", "").status
    };
    assert_eq!(ask(&pair(&gateway)), 200);
    assert_eq!(ask(""), 400, "nginx asks for a certificate");
}
