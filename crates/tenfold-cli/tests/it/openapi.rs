//! `docs/openapi.json` against the running program: each status of each method of each path is brought about, and what
//! comes is what the document says.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::{Value, json};
use testkit::message::Response;
use testkit::{Origin, RawConn, RawUpstream, Reply, RespClient, Script, Signal, Step, Tenfold, free_port};

use crate::schema;
use crate::site::{dead_address, start};

const TOKEN: &str = "0123456789abcdef";

/// The document, and what of it was seen.
struct Described {
    document: Value,
    seen: BTreeSet<(String, String, String)>,
}

/// A request by the document's terms.
#[derive(Clone, Copy)]
struct Ask<'a> {
    method: &'a str,
    /// The path as the document has it.
    path: &'a str,
    service: &'a str,
    address: &'a str,
    fields: &'a str,
    body: &'a str,
}

const JSON: &str = "Content-Type: application/json\r\n";

fn ask<'a>(method: &'a str, path: &'a str) -> Ask<'a> {
    Ask {
        method,
        path,
        service: "api",
        address: "10.0.0.1:80",
        fields: if method == "get" { "" } else { JSON },
        body: "",
    }
}

impl Ask<'_> {
    fn to(&self, admin: SocketAddr) -> String {
        let path = self.path.replace("{service}", self.service).replace("{address}", self.address);
        let path = path.replace("{cache}", "main").replace("{key}", "greeting").replace("{database}", "shop");
        let (method, fields, body, length) =
            (self.method.to_ascii_uppercase(), self.fields, self.body, self.body.len());
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {admin}\r\nContent-Length: {length}\r\nConnection: close\r\n{fields}\r\n{body}"
        )
    }
}

impl Described {
    fn new() -> Self {
        let document = std::fs::read_to_string("../../docs/openapi.json").unwrap();
        Self { document: serde_json::from_str(&document).unwrap(), seen: BTreeSet::new() }
    }

    /// Each method of each path.
    fn operations(&self) -> Vec<(String, String)> {
        let methods = |(path, item): (&String, &Value)| {
            let methods = item.as_object().unwrap().keys().filter(|key| *key != "parameters");
            methods.map(|method| (path.clone(), method.clone())).collect::<Vec<_>>()
        };
        self.document["paths"].as_object().unwrap().iter().flat_map(methods).collect()
    }

    fn statuses(&self) -> BTreeSet<(String, String, String)> {
        let statuses = |(path, method): (String, String)| {
            let statuses = self.document["paths"][&path][&method]["responses"].as_object().unwrap().keys();
            statuses.map(|status| (path.clone(), method.clone(), status.clone())).collect::<Vec<_>>()
        };
        self.operations().into_iter().flat_map(statuses).collect()
    }

    fn is_change(method: &str) -> bool {
        method != "get"
    }

    /// Sends a request, and checks that the answer is one of this status, of the shape that the document gives it.
    fn check(&mut self, admin: SocketAddr, ask: Ask<'_>, status: u16) -> Value {
        let mut conn = RawConn::connect(admin).unwrap();
        conn.send(ask.to(admin)).unwrap();
        let response = conn.read_response(&ask.method.to_ascii_uppercase()).unwrap();
        self.judge(ask.path, ask.method, &response, status)
    }

    fn judge(&mut self, path: &str, method: &str, response: &Response, status: u16) -> Value {
        assert_eq!(response.status, status, "{method} {path}: {}", response.text());
        let operation = &self.document["paths"][path][method];
        let mut described = &operation["responses"][status.to_string()];
        assert!(!described.is_null(), "{method} {path}: {status} is not in the document");
        if let Some(reference) = described["$ref"].as_str() {
            described = self.document.pointer(reference.strip_prefix('#').unwrap()).unwrap();
        }
        let given = response.fields.get("content-type").unwrap().split(';').next().unwrap();
        let content = &described["content"][given];
        assert!(!content.is_null(), "{method} {path}: {status}: {given} is not in the document");
        let value = match given {
            "application/json" => serde_json::from_slice(&response.body).unwrap(),
            _ => Value::String(response.text()),
        };
        let at = format!("{method} {path} {status}");
        schema::check(&self.document, &content["schema"], &value, &at).unwrap();
        self.seen.insert((path.to_owned(), method.to_owned(), status.to_string()));
        value
    }

    /// Checks that a body that is sent is one that the document allows, if it should be.
    fn body(&self, ask: &Ask<'_>) -> Result<(), String> {
        let schema =
            &self.document["paths"][ask.path][ask.method]["requestBody"]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{} {} takes no body", ask.method, ask.path);
        schema::check(&self.document, schema, &serde_json::from_str(ask.body).unwrap(), "body")
    }
}

fn config(endpoints: &str, token: &str) -> String {
    format!(
        "[admin]\nlisten = \"127.0.0.1:{}\"\n{token}[listener.web]\nlisten = \"127.0.0.1:{}\"\n\
         [cache.main]\nlisten = \"127.0.0.1:{}\"\n\
         [database.shop]\nlisten = \"127.0.0.1:{}\"\nprimary = \"postgres://web:${{NOT_SET:-secret}}@127.0.0.1:1/shop\"\n\
         [[route]]\nservice = \"api\"\ncache = {{}}\n[service.api]\nendpoints = [{endpoints}]\npassive_health = {{ fail_timeout = \"60s\" }}\n",
        free_port(),
        free_port(),
        free_port(),
        free_port(),
    )
}

const ENDPOINTS: &str = "/api/services/{service}/endpoints";
const ENDPOINT: &str = "/api/services/{service}/endpoints/{address}";
const BREAKER: &str = "/api/services/{service}/breaker";
const PURGE: &str = "/api/cache/purge";
const NAMED_PURGE: &str = "/api/caches/{cache}/purge";
const DATABASE_KILL: &str = "/api/databases/{database}/kill";
const RESET: &str = "/api/services/{service}/endpoints/{address}/overrides";

#[test]
fn every_answer_that_is_described_comes_as_described() {
    let mut described = Described::new();
    let origin = Origin::start("a").unwrap();
    let (first, other) = (origin.address().to_string(), dead_address().to_string());
    let site = start(&config(&format!("\"{first}\", \"{other}\""), ""));
    let admin = site.admin().unwrap();
    breakers(&mut described, &first);
    let slow = begin_slow_bodies(&described, admin);
    greet(admin);
    reads(&mut described, admin);
    changes(&mut described, &site, [&first, &other]);
    refusals(&mut described, admin);
    with_a_token(&mut described, &first);
    not_ready(&mut described);
    stopping(&mut described);
    upgraded(&mut described, &first);
    for (path, method, mut conn) in slow {
        let response = conn.read_response(&method.to_ascii_uppercase()).unwrap();
        described.judge(&path, &method, &response, 408);
    }
    let missed: Vec<_> = described.statuses().difference(&described.seen).cloned().collect();
    assert!(missed.is_empty(), "described and not seen: {missed:?}");
}

/// Requests whose bodies do not come.
fn begin_slow_bodies(described: &Described, admin: SocketAddr) -> Vec<(String, String, RawConn)> {
    let changes = described.operations().into_iter().filter(|(_, method)| Described::is_change(method));
    changes
        .map(|(path, method)| {
            let mut conn = RawConn::connect(admin).unwrap();
            let head = ask(&method, &path).to(admin).replace("Content-Length: 0", "Content-Length: 10");
            conn.send(head).unwrap();
            (path, method, conn)
        })
        .collect()
}

/// Stores a value in the cache that is read from.
fn greet(admin: SocketAddr) {
    let mut conn = RawConn::connect(admin).unwrap();
    conn.send(ask("get", "/api/caches").to(admin)).unwrap();
    let caches: Value = serde_json::from_slice(&conn.read_response("GET").unwrap().body).unwrap();
    let mut client = RespClient::connect(caches[0]["listen"].as_str().unwrap().parse().unwrap()).unwrap();
    assert_eq!(client.command(&["SET", "greeting", "hello", "EX", "100"]).unwrap(), Reply::Simple("OK".to_owned()));
}

fn reads(described: &mut Described, admin: SocketAddr) {
    for (path, method) in described.operations() {
        if Described::is_change(&method) {
            continue;
        }
        let value = described.check(admin, ask(&method, &path), 200);
        if path == "/api/openapi.json" {
            assert_eq!(value, described.document);
        }
        if path.ends_with("{service}") {
            described.check(admin, Ask { service: "nope", ..ask(&method, &path) }, 404);
        }
    }
}

fn changes(described: &mut Described, site: &Tenfold, [first, other]: [&str; 2]) {
    let admin = site.admin().unwrap();
    let added = dead_address().to_string();
    let body = json!({ "address": added, "weight": 3, "priority": 2, "zone": "eu-1a", "backup": false, "drain": true });
    let body = body.to_string();
    let add = Ask { body: &body, ..ask("post", ENDPOINTS) };
    described.body(&add).unwrap();
    let service = described.check(admin, add, 201);
    let endpoint = &service["endpoints"][2];
    assert_eq!(
        (&endpoint["origin"], &endpoint["priority"], &endpoint["zone"]),
        (&"override".into(), &2.into(), &"eu-1a".into())
    );
    assert_eq!(endpoint["overrides"][0]["value"]["zone"], "eu-1a");
    described.check(admin, add, 409);
    let edit = Ask { address: first, body: "{\"weight\": 7, \"drain\": false}", ..ask("patch", ENDPOINT) };
    described.body(&edit).unwrap();
    let service = described.check(admin, edit, 200);
    assert_eq!(service["endpoints"][0]["weight"], 7);
    let remove = Ask { address: other, ..ask("delete", ENDPOINT) };
    described.check(admin, remove, 200);
    described.check(admin, Ask { address: other, ..edit }, 409);
    described.check(admin, Ask { address: &added, ..ask("delete", ENDPOINT) }, 200);
    described.check(admin, Ask { address: first, ..remove }, 409);
    // With overrides of every kind the pages are still as described.
    described.check(admin, add, 201);
    let overrides = described.check(admin, ask("get", "/api/overrides"), 200);
    let settings: Vec<_> = overrides.as_array().unwrap().iter().map(|over| over["setting"].clone()).collect();
    assert_eq!(settings, ["weight", "remove", "add"]);
    for path in ["/api/services", "/api/config", "/api/status"] {
        described.check(admin, ask("get", path), 200);
    }
    described.check(admin, Ask { address: first, ..ask("delete", RESET) }, 200);
    described.check(admin, Ask { address: first, ..ask("delete", RESET) }, 409);
    let reset = described.check(admin, ask("delete", "/api/overrides"), 200);
    assert_eq!(reset["reset"], 2);
    for body in ["{\"tag\": \"a\", \"soft\": true}", "{\"url\": \"shop.example.com/a\"}", "{\"everything\": true}"] {
        let purge = Ask { body, ..ask("post", PURGE) };
        described.body(&purge).unwrap();
        described.check(admin, purge, 200);
    }
    described.check(admin, Ask { body: "{\"url\": \"ftp://a/\"}", ..ask("post", PURGE) }, 400);
    for body in ["{\"key\": \"greeting\"}", "{\"tag\": \"a\"}", "{\"everything\": true}"] {
        let purge = Ask { body, ..ask("post", NAMED_PURGE) };
        described.body(&purge).unwrap();
        described.check(admin, purge, 200);
    }
    named_caches(described, site);
    databases(described, admin);
    described.check(admin, ask("post", "/api/reload"), 200);
    let good = std::fs::read_to_string(site.config()).unwrap();
    site.rewrite("not toml").unwrap();
    described.check(admin, ask("post", "/api/reload"), 422);
    described.check(admin, ask("get", "/api/config"), 200);
    site.rewrite(&good).unwrap();
    described.check(admin, ask("post", "/api/reload"), 200);
}

/// A key that is not there any more, and a cache that is not there.
fn named_caches(described: &mut Described, site: &Tenfold) {
    let admin = site.admin().unwrap();
    let value = ask("get", "/api/caches/{cache}/keys/{key}");
    described.check(admin, value, 404);
    let mut conn = RawConn::connect(admin).unwrap();
    let purge = Ask { body: "{\"everything\": true}", ..ask("post", NAMED_PURGE) };
    conn.send(purge.to(admin).replace("/main/", "/nope/")).unwrap();
    let response = conn.read_response("POST").unwrap();
    described.judge(NAMED_PURGE, "post", &response, 404);
}

/// Pools of a database, and of one that is not there.
fn databases(described: &mut Described, admin: SocketAddr) {
    for (change, state) in [
        ("pause", "paused"),
        ("resume", "resumed"),
        ("reconnect", "reconnecting"),
        ("disable", "disabled"),
        ("enable", "enabled"),
        ("kill", "killed"),
    ] {
        let path = format!("/api/databases/{{database}}/{change}");
        let told = described.check(admin, ask("post", &path), 200);
        assert_eq!((&told["database"], &told["state"]), (&json!("shop"), &json!(state)));
        let mut conn = RawConn::connect(admin).unwrap();
        conn.send(ask("post", &path).to(admin).replace("/shop/", "/nope/")).unwrap();
        let response = conn.read_response("POST").unwrap();
        described.judge(&path, "post", &response, 404);
    }
    let kill = Ask { body: "{\"server\": \"nowhere:1\", \"refuse\": false}", ..ask("post", DATABASE_KILL) };
    described.body(&kill).unwrap();
    described.check(admin, kill, 404);
    let clients = "/api/databases/{database}/clients";
    let mut conn = RawConn::connect(admin).unwrap();
    conn.send(ask("get", clients).to(admin).replace("/shop/", "/nope/")).unwrap();
    let response = conn.read_response("GET").unwrap();
    described.judge(clients, "get", &response, 404);
}

/// A breaker that is held, and a service that has none.
fn breakers(described: &mut Described, endpoint: &str) {
    let hold = Ask { body: "{\"force\": \"open\"}", ..ask("put", BREAKER) };
    described.body(&hold).unwrap();
    let site = start(&format!("{}breaker = {{}}\n", config(&format!("\"{endpoint}\""), "")));
    let admin = site.admin().unwrap();
    let service = described.check(admin, hold, 200);
    assert_eq!((&service["breaker"]["state"], &service["breaker"]["forced"]), (&json!("forced_open"), &json!("open")));
    let overrides = described.check(admin, ask("get", "/api/overrides"), 200);
    assert_eq!((&overrides[0]["setting"], &overrides[0]["value"]), (&json!("breaker"), &json!("open")));
    described.check(admin, ask("get", "/api/config"), 200);
    let free = described.check(admin, Ask { body: "{\"force\": null}", ..hold }, 200);
    assert_eq!(free["breaker"]["state"], "closed");
    let site = start(&config(&format!("\"{endpoint}\""), ""));
    described.check(site.admin().unwrap(), hold, 409);
}

/// What every change refuses, and what those of an endpoint do.
fn refusals(described: &mut Described, admin: SocketAddr) {
    let long = " ".repeat(20_000);
    for (path, method) in described.operations() {
        if !Described::is_change(&method) {
            continue;
        }
        let plain = ask(&method, &path);
        described.check(admin, Ask { fields: "", ..plain }, 415);
        described.check(admin, Ask { body: &long, ..plain }, 413);
        let broken = Ask { body: "{\"x\": 1}", ..plain };
        described.check(admin, broken, 400);
        if described.document["paths"][&path][&method].get("requestBody").is_some() {
            assert!(described.body(&broken).is_err(), "{method} {path}: an unknown key is described as one");
        }
        let body = match method.as_str() {
            "post" if path == ENDPOINTS => "{\"address\": \"10.0.0.1:80\"}",
            "post" if path == PURGE || path == NAMED_PURGE => "{\"everything\": true}",
            "patch" => "{\"weight\": 1}",
            "put" => "{\"force\": \"open\"}",
            _ => "",
        };
        if path.contains("{address}") {
            described.check(admin, Ask { address: "10.0.0.1:80", body, ..plain }, 404);
            described.check(admin, Ask { address: "nonsense", body, ..plain }, 400);
        }
        if path.contains("{service}") {
            described.check(admin, Ask { service: "nope", address: "10.0.0.1:80", body, ..plain }, 404);
        }
        described.check(admin, Ask { fields: &format!("{JSON}Origin: http://{admin}\r\n"), ..plain }, 403);
    }
    for (path, method) in described.operations() {
        let statuses = &described.document["paths"][&path][&method]["responses"];
        if statuses.get("403").is_some() && !Described::is_change(&method) {
            described.check(admin, Ask { fields: "Origin: https://shop.example.com\r\n", ..ask(&method, &path) }, 403);
        }
    }
}

fn with_a_token(described: &mut Described, endpoint: &str) {
    let site = start(&config(&format!("\"{endpoint}\""), &format!("token = \"{TOKEN}\"\n")));
    let admin = site.admin().unwrap();
    for (path, method) in described.operations() {
        let operation = &described.document["paths"][&path][&method];
        if operation["security"] == json!([]) {
            described.check(admin, ask(&method, &path), 200);
            continue;
        }
        described.check(admin, ask(&method, &path), 401);
    }
    let bearing = format!("Authorization: Bearer {TOKEN}\r\n");
    let config = described.check(admin, Ask { fields: &bearing, ..ask("get", "/api/config") }, 200);
    assert_eq!(config["effective"]["admin"]["token"], "***");
    assert!(!config.to_string().contains(TOKEN) && !site.output().contains(TOKEN));
}

fn not_ready(described: &mut Described) {
    let endpoint = format!("{{ address = \"{}\", drain = true }}", dead_address());
    let site = start(&config(&endpoint, ""));
    described.check(site.admin().unwrap(), ask("get", "/readyz"), 503);
    described.check(site.admin().unwrap(), ask("get", "/api/status"), 200);
}

fn upgraded(described: &mut Described, endpoint: &str) {
    let mut site = start(&config(&format!("\"{endpoint}\""), ""));
    let (admin, upgrade) = (site.admin().unwrap(), ask("post", "/api/upgrade"));
    let with_binary = Ask { body: "{\"binary\": \"/bin/true\"}", ..upgrade };
    described.body(&with_binary).unwrap();
    described.check(admin, with_binary, 403);
    let good = std::fs::read_to_string(site.config()).unwrap();
    site.rewrite("not toml").unwrap();
    described.check(admin, upgrade, 500);
    site.rewrite(&good).unwrap();
    let status = described.check(admin, ask("get", "/api/status"), 200);
    assert_eq!(status["last_upgrade"]["result"], "failure");
    let mut kept = RawConn::connect(site.address()).unwrap();
    kept.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
    kept.read_response("GET").unwrap();
    let taken = described.check(admin, upgrade, 200);
    site.succeeded_by(u32::try_from(taken["pid"].as_u64().unwrap()).unwrap());
    let status = described.check(admin, ask("get", "/api/status"), 200);
    assert_eq!((&status["pid"], &status["last_upgrade"]), (&taken["pid"], &Value::Null));
}

fn stopping(described: &mut Described) {
    let silent = RawUpstream::start(Script::new([Step::AwaitHead, Step::Drain])).unwrap();
    let mut site = start(&config(&format!("\"{}\"", silent.address()), ""));
    let mut busy = RawConn::connect(site.address()).unwrap();
    busy.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
    let admin = site.admin().unwrap();
    site.wait_until("under way", |site| Ok(site.metric("upstream_in_flight", &[])? == 1.0)).unwrap();
    site.process().signal(Signal::TERM).unwrap();
    site.wait_until("stopping", |site| Ok(site.admin_get("/readyz")?.status == 503)).unwrap();
    for (path, method) in described.operations() {
        if Described::is_change(&method) {
            let body = match method.as_str() {
                "post" if path == ENDPOINTS => "{\"address\": \"10.0.0.1:80\"}",
                "post" if path == PURGE || path == NAMED_PURGE => "{\"everything\": true}",
                "patch" => "{\"weight\": 1}",
                "put" => "{\"force\": \"open\"}",
                _ => "",
            };
            described.check(admin, Ask { address: "10.0.0.1:80", body, ..ask(&method, &path) }, 503);
        }
    }
    described.check(admin, ask("get", "/api/status"), 200);
}
