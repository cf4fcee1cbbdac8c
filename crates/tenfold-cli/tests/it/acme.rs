//! Certificates from an authority that asks, verifies and issues, and from one that does not.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use testkit::{
    AcmeMood, AcmeOptions, AcmeServer, Authority, Curl, CurlAnswer, Origin, RawConn, TempDir, Tenfold, free_port,
};

use crate::site::{page, start};

const HOST: &str = "shop.example.com";

/// An authority, a gateway that orders from it, and an endpoint.
struct Scene {
    authority: AcmeServer,
    origin: Origin,
    storage: TempDir,
    plain: u16,
    secure: u16,
    admin: u16,
}

impl Scene {
    fn new(options: AcmeOptions) -> Self {
        let (plain, secure) = (free_port(), free_port());
        let options = AcmeOptions { http_port: plain, tls_port: secure, ..options };
        Self {
            authority: AcmeServer::start(options).unwrap(),
            origin: Origin::start("a").unwrap(),
            storage: TempDir::new().unwrap(),
            plain,
            secure,
            admin: free_port(),
        }
    }

    /// The configuration, with these hosts, further keys of `acme`, and further keys of `tls`.
    fn config(&self, hosts: &str, acme: &str, tls: &str) -> String {
        let Self { plain, secure, admin, .. } = self;
        format!(
            "[admin]\nlisten = \"127.0.0.1:{admin}\"\n\
             [listener.secure]\nlisten = \"127.0.0.1:{secure}\"\n[listener.secure.tls]\n{tls}\n\
             [listener.secure.tls.acme]\nhosts = [{hosts}]\nterms_agreed = true\nemail = \"ops@example.com\"\n\
             directory = \"{}\"\nca = {:?}\nstorage = {:?}\nbackoff = {{ base = \"1s\", max = \"2s\" }}\n{acme}\n\
             [listener.plain]\nlisten = \"127.0.0.1:{plain}\"\n\
             [[route]]\nlistener = \"secure\"\nservice = \"api\"\n[[route]]\nlistener = \"plain\"\nservice = \"api\"\n\
             [service.api]\nendpoints = [\"{}\"]\n",
            self.authority.directory(),
            self.authority.ca(),
            self.storage.path().join("acme"),
            self.origin.address(),
        )
    }

    fn start(&self, acme: &str) -> Tenfold {
        start(&self.config(&format!("\"{HOST}\""), acme, ""))
    }

    fn ask(&self, host: &str, authority: &Authority) -> CurlAnswer {
        let curl = Curl::default().resolve(host, self.secure).with("--cacert", authority.file());
        curl.get(&format!("https://{host}:{}/", self.secure)).unwrap()
    }

    /// Whether a client that believes the authority is served.
    fn is_believed(&self, host: &str) -> bool {
        self.ask(host, self.authority.issuer()).status == 200
    }

    /// Whether a client that believes anybody is served.
    fn is_served(&self) -> bool {
        let curl = Curl::default().resolve(HOST, self.secure).flag("--insecure");
        curl.get(&format!("https://{HOST}:{}/", self.secure)).unwrap().status == 200
    }

    fn wait_for_certificate(&self, site: &Tenfold, host: &str) {
        site.wait_until(&format!("the certificate of {host}"), |_| Ok(self.is_believed(host))).unwrap();
    }
}

fn not_after(site: &Tenfold, host: &str) -> f64 {
    let label = format!("host=\"{host}\"");
    site.metric("tls_certificate_not_after_timestamp_seconds", &["listener=\"secure\"", &label]).unwrap()
}

fn orders(site: &Tenfold, result: &str) -> f64 {
    site.metric("acme_orders_total", &[&format!("result=\"{result}\"")]).unwrap()
}

fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Every file in a folder and in those below.
fn files(folder: &Path, into: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, into) } else { into.push(path) }
    }
}

#[test]
fn a_certificate_is_issued_by_http_kept_and_used_at_the_next_start() {
    let scene = Scene::new(AcmeOptions::default());
    let site = scene.start("");
    scene.wait_for_certificate(&site, HOST);
    assert_eq!(scene.authority.issued(), [HOST]);
    assert_eq!(scene.authority.accounts(), [["mailto:ops@example.com"]]);
    assert_eq!((orders(&site, "success"), orders(&site, "failure")), (1.0, 0.0));
    let days = (not_after(&site, HOST) - now()) / 86_400.0;
    assert!((89.0..91.0).contains(&days), "{days}");
    let log = site.output();
    assert!(log.contains("a placeholder is presented") && log.contains("a certificate was issued"), "{log}");
    // An unknown token is a request like any other.
    let mut conn = RawConn::connect(([127, 0, 0, 1], scene.plain)).unwrap();
    conn.send("GET /.well-known/acme-challenge/unknown HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").unwrap();
    assert_eq!(conn.read_response("GET").unwrap().fields.get("x-instance"), Some("a"));
    let mut stored = Vec::new();
    files(scene.storage.path(), &mut stored);
    assert!(stored.iter().any(|path| path.ends_with("shop.example.com.pem")), "{stored:?}");
    for path in &stored {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    drop(site);
    scene.authority.set_mood(AcmeMood::Down);
    let again = scene.start("");
    assert!(scene.is_believed(HOST), "{}", again.output());
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(scene.authority.orders(), 1);
    assert_eq!((orders(&again, "success"), orders(&again, "failure")), (0.0, 0.0));
}

#[test]
fn a_certificate_is_issued_by_a_handshake_even_where_clients_need_certificates() {
    let scene = Scene::new(AcmeOptions::default());
    let clients = Authority::new("clients").unwrap();
    let client = clients.issue("client", &["client.example.com"]).unwrap();
    let tls = format!("client_ca = {:?}", clients.file());
    let site = start(&scene.config(&format!("\"{HOST}\""), "challenge = \"tls-alpn-01\"", &tls));
    let ask = || {
        let curl = Curl::default().with("--cert", &client.certificate).with("--key", &client.key);
        let curl = curl.resolve(HOST, scene.secure).with("--cacert", scene.authority.issuer().file());
        curl.get(&format!("https://{HOST}:{}/", scene.secure)).unwrap().status
    };
    // Not before, or the handshakes of this test that fail would be counted.
    site.wait_until("the order", |site| Ok(orders(site, "success") == 1.0)).unwrap();
    let failed = || site.metric("listener_connections_refused_total", &["reason=\"tls_failed\""]).unwrap();
    assert_eq!(failed(), 0.0, "the authority's handshake is no failure");
    assert_eq!(ask(), 200);
    // Afterwards nobody is answered that way any more.
    let curl = Curl::default().resolve(HOST, scene.secure).with("--cacert", scene.authority.issuer().file());
    assert_eq!(curl.get(&format!("https://{HOST}:{}/", scene.secure)).unwrap().status, 0);
}

#[test]
fn a_certificate_is_renewed_under_connections_that_go_on() {
    let lifetime = Duration::from_secs(9);
    let scene = Scene::new(AcmeOptions { lifetime, ..AcmeOptions::default() });
    let site = scene.start("challenge = \"tls-alpn-01\"");
    scene.wait_for_certificate(&site, HOST);
    let first = not_after(&site, HOST);
    // A connection of HTTP/1.1 that is opened under the first certificate, and asks slowly until there are others.
    let url = |path: &str| format!("https://{HOST}:{}{path}", scene.secure);
    let (port, ca) = (scene.secure, scene.authority.issuer().file());
    let slow = {
        let url = url("/delay/9500");
        std::thread::spawn(move || Curl::default().resolve(HOST, port).with("--cacert", ca).get(&url).unwrap())
    };
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(11) {
        let answer = scene.ask(HOST, scene.authority.issuer());
        assert_eq!(answer.status, 200, "{answer:?}\n{}", site.output());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(slow.join().unwrap().status, 200);
    assert!(not_after(&site, HOST) > first);
    let issued = scene.authority.issued().len();
    assert!((2..=4).contains(&issued), "{issued} certificates: {}", site.output());
    assert_eq!(scene.authority.accounts().len(), 1);
    assert_eq!(orders(&site, "failure"), 0.0);
    assert_eq!(site.metric("config_reloads_total", &[]).unwrap(), 0.0);
}

#[test]
fn an_authority_that_fails_is_asked_again_and_again_but_not_in_a_loop() {
    let scene = Scene::new(AcmeOptions::default());
    scene.authority.set_mood(AcmeMood::Down);
    let site = scene.start("");
    assert!(scene.is_served() && !scene.is_believed(HOST), "a placeholder is presented");
    let failures = |count: f64| {
        site.wait_until("the failures", |site| Ok(orders(site, "failure") >= count)).unwrap();
    };
    failures(2.0);
    assert_eq!(not_after(&site, HOST), 0.0);
    let certificate = || page(&site, "/listeners")[0]["certificates"][0].clone();
    assert_eq!(certificate()["host"], HOST);
    assert!(certificate()["error"].to_string().contains("down for a while"), "{}", certificate());
    // Pauses are half a second to one, then one to two.
    let (before, begun) = (orders(&site, "failure"), Instant::now());
    std::thread::sleep(Duration::from_secs(4));
    let tries = orders(&site, "failure") - before;
    assert!((1.0..=begun.elapsed().as_secs_f64() + 1.0).contains(&tries), "{tries} tries");
    scene.authority.set_mood(AcmeMood::Doubting);
    site.wait_until("the doubt", |site| Ok(site.output().contains("nobody is believed today"))).unwrap();
    assert!(scene.is_served());
    scene.authority.set_mood(AcmeMood::Well);
    scene.wait_for_certificate(&site, HOST);
    assert_eq!(certificate()["error"], serde_json::Value::Null);
}

#[test]
fn an_authority_that_wants_to_be_left_alone_is() {
    let scene = Scene::new(AcmeOptions::default());
    scene.authority.set_mood(AcmeMood::Limiting(3600));
    let site = scene.start("");
    site.wait_until("the refusal", |site| Ok(orders(site, "failure") == 1.0)).unwrap();
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(scene.authority.orders(), 1, "{}", site.output());
    assert!(site.output().contains("too many certificates already"), "{}", site.output());
    assert!(scene.is_served());
}

#[test]
fn an_authority_that_says_nothing_or_is_not_there_leaves_everything_as_it_was() {
    let lifetime = Duration::from_secs(7);
    let scene = Scene::new(AcmeOptions { lifetime, ..AcmeOptions::default() });
    let site = scene.start("");
    scene.wait_for_certificate(&site, HOST);
    scene.authority.set_mood(AcmeMood::Silent);
    let until = not_after(&site, HOST);
    while now() < until - 1.0 {
        assert!(scene.is_believed(HOST), "{}", site.output());
        std::thread::sleep(Duration::from_millis(200));
    }
    // It has expired, and is still better than nothing for those who look away.
    while now() < until + 1.5 {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(scene.is_served() && !scene.is_believed(HOST));
    assert_eq!(not_after(&site, HOST), until, "the alarm rings");
    scene.authority.set_mood(AcmeMood::Well);
    scene.wait_for_certificate(&site, HOST);
}

#[test]
fn hosts_come_and_go_with_the_configuration() {
    let scene = Scene::new(AcmeOptions::default());
    let certificates = Authority::new("files").unwrap();
    let api = certificates.issue("api", &["api.example.com"]).unwrap();
    let tls = format!("certificate = {:?}\nkey = {:?}", api.certificate, api.key);
    let mut site = start(&scene.config(&format!("\"{HOST}\""), "", &tls));
    scene.wait_for_certificate(&site, HOST);
    assert_eq!(scene.ask("api.example.com", &certificates).status, 200, "beside one from a file");
    let reloads = |site: &Tenfold| site.metric("config_reloads_total", &["result=\"success\""]);
    let hosts = format!("\"{HOST}\", \"api.example.com\"");
    site.reload(&scene.config(&hosts, "", &tls)).unwrap();
    // The file's certificate serves until the ordered one is there.
    site.wait_until("the other host", |_| {
        let (file, issued) = (scene.ask("api.example.com", &certificates).status, scene.is_believed("api.example.com"));
        assert!(file == 200 || issued || scene.is_believed("api.example.com"), "served by neither");
        Ok(issued)
    })
    .unwrap();
    assert_eq!(scene.authority.issued(), [HOST, "api.example.com"], "what was there is not ordered again");
    assert_eq!(reloads(&site).unwrap(), 1.0);
    site.reload(&scene.config("\"api.example.com\"", "", "")).unwrap();
    site.wait_until("the reload", |site| Ok(reloads(site)? == 2.0)).unwrap();
    assert!(scene.is_believed("api.example.com"));
    assert!(!scene.is_believed(HOST));
    assert_eq!(scene.authority.orders(), 2);
}

#[test]
fn another_authority_is_asked_at_once_and_the_old_certificate_serves_until_then() {
    let scene = Scene::new(AcmeOptions::default());
    let hosts = format!("\"{HOST}\"");
    let mut site = scene.start("");
    scene.wait_for_certificate(&site, HOST);
    let (http_port, tls_port) = (scene.plain, scene.secure);
    let other = AcmeServer::start(AcmeOptions { http_port, tls_port, ..AcmeOptions::default() }).unwrap();
    other.set_mood(AcmeMood::Down);
    let config = scene.config(&hosts, "", "").replace(&scene.authority.directory(), &other.directory());
    site.reload(&config.replace(&format!("{:?}", scene.authority.ca()), &format!("{:?}", other.ca()))).unwrap();
    site.wait_until("a failure", |site| Ok(orders(site, "failure") >= 1.0)).unwrap();
    assert!(scene.is_believed(HOST));
    other.set_mood(AcmeMood::Well);
    site.wait_until("the other authority", |_| Ok(scene.ask(HOST, other.issuer()).status == 200)).unwrap();
    // Back again, and what is stored is there at once.
    site.reload(&scene.config(&hosts, "", "")).unwrap();
    scene.wait_for_certificate(&site, HOST);
    assert_eq!((scene.authority.orders(), other.orders()), (1, 1));
}

#[test]
fn two_processes_share_a_storage() {
    let scene = Scene::new(AcmeOptions::default());
    let (plain, secure, admin) = (free_port(), free_port(), free_port());
    let first = scene.start("");
    // The other process has another address, but the same authority, storage and host.
    let config = scene.config(&format!("\"{HOST}\""), "", "");
    let config = config.replace(&format!(":{}\"", scene.plain), &format!(":{plain}\""));
    let config = config.replace(&format!(":{}\"", scene.secure), &format!(":{secure}\""));
    let second = start(&config.replace(&format!(":{}\"", scene.admin), &format!(":{admin}\"")));
    scene.wait_for_certificate(&first, HOST);
    let ask = || {
        let curl = Curl::default().resolve(HOST, secure).with("--cacert", scene.authority.issuer().file());
        curl.get(&format!("https://{HOST}:{secure}/")).unwrap().status
    };
    second.wait_until("what the first has ordered", |_| Ok(ask() == 200)).unwrap();
    assert_eq!(scene.authority.issued().len(), 1);
    assert_eq!(scene.authority.accounts().len(), 1);
}

#[test]
fn an_authority_says_when_to_renew_and_hears_what_is_replaced() {
    let scene = Scene::new(AcmeOptions { advises: true, ..AcmeOptions::default() });
    let site = scene.start("");
    scene.wait_for_certificate(&site, HOST);
    drop(site);
    assert_eq!(scene.authority.replacements(), 0);
    // What it has issued is to be replaced at once: a mistake on its side, for example.
    scene.authority.advise("2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z");
    let again = scene.start("");
    again.wait_until("the replacement", |site| Ok(orders(site, "success") >= 1.0)).unwrap();
    assert_eq!(scene.authority.replacements(), 1);
}

#[test]
fn accounts_are_bound_and_opened_again_when_they_are_forgotten() {
    // As base64url: bm90LWEtc2VjcmV0LWF0LWFsbA
    let binding = Some(("kid-1".to_owned(), b"not-a-secret-at-all".to_vec()));
    let scene = Scene::new(AcmeOptions { binding, ..AcmeOptions::default() });
    let bound = "external_account = { key_id = \"kid-1\", hmac_key = \"bm90LWEtc2VjcmV0LWF0LWFsbA\" }";
    let hosts = format!("\"{HOST}\"");
    let mut site = start(&scene.config(&hosts, bound, ""));
    scene.wait_for_certificate(&site, HOST);
    scene.authority.forget_accounts();
    site.reload(&scene.config(&format!("{hosts}, \"api.example.com\""), bound, "")).unwrap();
    scene.wait_for_certificate(&site, "api.example.com");
    assert_eq!(scene.authority.accounts().len(), 2);
    assert!(!site.output().contains("bm90LWEt"), "the key is in the log");
}
