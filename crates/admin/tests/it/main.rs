//! The admin listener over real sockets.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use admin::{Admin, AdminParams, AdminState, Command, OPENAPI, Outcome, Reason, Refused, Unready};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use vocab::Secret;

const SOON: Duration = Duration::from_secs(10);

/// A state with one service, that is ready when told so.
struct Fixture {
    registry: Registry,
    ready: AtomicBool,
    /// What was asked for.
    commands: Mutex<Vec<Command>>,
}

impl AdminState for Fixture {
    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn unready(&self) -> Vec<Unready> {
        if self.ready.load(Relaxed) {
            return Vec::new();
        }
        vec![Unready { component: "service api".to_owned(), reason: "no endpoint is healthy".to_owned() }]
    }

    fn status(&self) -> Value {
        json!({"version": "1.2.3"})
    }

    fn overrides(&self) -> Value {
        json!([])
    }

    fn command(&self, command: Command) -> Outcome<'_> {
        let service = match &command {
            Command::Add { service, .. } | Command::Edit { service, .. } => service.clone(),
            Command::Breaker { service, .. } => service.clone(),
            Command::Remove { service, .. } | Command::Reset { service, .. } => service.clone(),
            Command::ResetAll | Command::Reload | Command::Upgrade(_) | Command::Purge(_) => "api".to_owned(),
            Command::PurgeNamed { cache, .. } => cache.clone(),
            Command::Database { database, .. } => database.clone(),
        };
        Box::pin(async move {
            let refused = |reason| Err(Refused::new(reason, "because"));
            match service.as_str() {
                "api" => {
                    self.commands.lock().expect("no panic").push(command);
                    Ok(json!({"done": true}))
                }
                "invalid" => refused(Reason::Invalid),
                "conflict" => refused(Reason::Conflict),
                "configuration" => refused(Reason::Configuration),
                "stopping" => refused(Reason::Stopping),
                _ => refused(Reason::NotFound),
            }
        })
    }

    fn services(&self) -> Value {
        json!([{"name": "api"}])
    }

    fn service(&self, name: &str) -> Option<Value> {
        (name == "api").then(|| json!({"name": "api", "endpoints": [{"address": "10.0.0.1:80", "weight": 3}]}))
    }

    fn listeners(&self) -> Value {
        json!([{"name": "web"}])
    }

    fn routes(&self) -> Value {
        json!([{"name": "all", "path": "/*"}])
    }

    fn cache(&self) -> Value {
        json!({"entries": 0})
    }

    fn caches(&self) -> Value {
        json!([{"name": "sessions"}])
    }

    fn database_clients(&self, database: &str) -> Option<Value> {
        (database == "shop").then(|| json!([]))
    }

    fn databases(&self) -> Value {
        json!([])
    }

    fn cached_value(&self, cache: &str, key: &str) -> Option<Value> {
        (cache == "sessions" && key == "a/b").then(|| json!({"key": "a/b", "value": "v"}))
    }

    fn config(&self) -> Value {
        json!({"last_reload": {"result": "failure", "error": "tenfold.toml:3:1: unknown key"}})
    }
}

struct Served {
    address: std::net::SocketAddr,
    state: Arc<Fixture>,
    token: admin::TokenControl,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

async fn serve(token: Option<&str>) -> Served {
    let params = AdminParams::new("127.0.0.1:0".parse().expect("an address"), token.map(Secret::new)).expect("params");
    let admin = Admin::bind(&params).await.expect("a port");
    let (address, token) = (admin.local_addr().expect("an address"), admin.token_control());
    let mut registry = Registry::default();
    registry.register_collector(Box::new(telemetry::ProcessMetrics::new("1.2.3")));
    let state = Arc::new(Fixture { registry, ready: AtomicBool::new(true), commands: Mutex::default() });
    let (stop, stopped) = oneshot::channel::<()>();
    let shown: Arc<dyn AdminState> = Arc::clone(&state) as _;
    let task = tokio::spawn(admin.serve(shown, async { drop(stopped.await) }));
    Served { address, state, token, stop: Some(stop), task }
}

/// Sends raw bytes and returns everything until the other side closes.
async fn exchange(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("a request");
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer)).await.expect("an answer in time").expect("an answer");
    String::from_utf8(answer).expect("UTF-8")
}

/// Gets a path; returns the status, the head in lower case and the body.
async fn get(served: &Served, path: &str, fields: &str) -> (u16, String, String) {
    send(served, "GET", path, fields, "").await
}

/// Sends a request with a body, as [`get`] does one without.
async fn send(served: &Served, method: &str, path: &str, fields: &str, body: &str) -> (u16, String, String) {
    let (host, length) = (served.address, body.len());
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
    );
    let answer = exchange(served.address, &request).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test]
async fn every_path_of_the_index_answers() {
    let served = serve(None).await;
    let (status, _, index) = get(&served, "/", "").await;
    assert_eq!(status, 200);
    let paths: Vec<&str> =
        index.lines().filter_map(|line| line.split(' ').next()).filter(|p| p.starts_with('/')).collect();
    assert_eq!(paths.len(), 14, "{index}");
    for path in paths {
        let (status, head, body) = get(&served, &path.replace("NAME", "api"), "").await;
        assert_eq!(status, 200, "{path}: {body}");
        assert!(head.contains("cache-control: no-store"), "{path}: {head}");
        if path != "/metrics" {
            serde_json::from_str::<Value>(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"));
        }
    }
}

#[tokio::test]
async fn the_json_is_what_the_state_says() {
    let served = serve(None).await;
    let check = async |path: &str, expected: Value| {
        let (_, _, body) = get(&served, path, "").await;
        assert_eq!(serde_json::from_str::<Value>(&body).expect("JSON"), expected, "{path}");
    };
    check("/services", served.state.services()).await;
    check("/services/api", served.state.service("api").expect("it is there")).await;
    check("/listeners", served.state.listeners()).await;
    check("/routes", served.state.routes()).await;
    check("/config", served.state.config()).await;
    assert_eq!(get(&served, "/services/nope", "").await.0, 404);
    let (status, _, body) = get(&served, "/api/services/%FF", "").await;
    assert!(status == 404 && serde_json::from_str::<Value>(&body).is_ok(), "{status} {body}");
    assert_eq!(get(&served, "/nope", "").await.0, 404);
}

#[tokio::test]
async fn readiness_names_what_fails_and_liveness_does_not_care() {
    let served = serve(None).await;
    assert_eq!(get(&served, "/readyz", "").await.0, 200);
    served.state.ready.store(false, Relaxed);
    let (status, _, body) = get(&served, "/readyz", "").await;
    assert_eq!(status, 503);
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body["failing"], json!([{"component": "service api", "reason": "no endpoint is healthy"}]));
    assert_eq!(get(&served, "/healthz", "").await.0, 200);
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let served = serve(None).await;
    let (_, head, page) = get(&served, "/metrics", "").await;
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(page.contains("\n# TYPE process_cpu_seconds_total counter\n") && !page.contains("# EOF"), "{page}");
    let (_, head, page) = get(&served, "/metrics", "Accept: application/openmetrics-text\r\n").await;
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(page.contains("\n# TYPE process_cpu_seconds counter\n") && page.ends_with("# EOF\n"), "{page}");
}

#[tokio::test]
async fn with_a_token_only_who_supervises_goes_without() {
    let served = serve(Some("s3cret")).await;
    for path in ["/", "/metrics", "/api/services", "/api/openapi.json", "/services/api", "/config", "/nope"] {
        let (status, head, _) = get(&served, path, "").await;
        assert_eq!(status, 401, "{path}");
        assert!(head.contains("www-authenticate: bearer"), "{path}: {head}");
        let (status, _, _) = get(&served, path, "Authorization: Bearer wrong\r\n").await;
        assert_eq!(status, 401, "{path}");
    }
    assert_eq!(get(&served, "/metrics", "Authorization: Bearer s3cret\r\n").await.0, 200);
    assert_eq!(get(&served, "/healthz", "").await.0, 200);
    // Why it is not ready is not for everyone.
    served.state.ready.store(false, Relaxed);
    let (status, _, body) = get(&served, "/readyz", "").await;
    assert!(status == 503 && !body.contains("api"), "{status} {body}");
    let (status, _, body) = get(&served, "/readyz", "Authorization: Bearer s3cret\r\n").await;
    assert!(status == 503 && body.contains("service api"), "{status} {body}");
}

#[tokio::test]
async fn the_token_changes_while_it_serves() {
    let mut served = serve(Some("s3cret")).await;
    let params = |token| AdminParams::new(served.address, Some(Secret::new(token))).expect("params");
    served.token.set(&params("another"));
    assert_eq!(get(&served, "/config", "Authorization: Bearer s3cret\r\n").await.0, 401);
    assert_eq!(get(&served, "/config", "Authorization: Bearer another\r\n").await.0, 200);
    served.stop.take().expect("not stopped yet").send(()).expect("it runs");
}

#[tokio::test]
async fn other_names_and_other_sites_are_refused() {
    let served = serve(None).await;
    let rebound = "GET /config HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert!(exchange(served.address, rebound).await.starts_with("HTTP/1.1 403 "));
    assert_eq!(get(&served, "/config", "Origin: https://evil.example\r\n").await.0, 403);
    assert_eq!(get(&served, "/config", &format!("Origin: http://{}\r\n", served.address)).await.0, 200);
}

const JSON: &str = "Content-Type: application/json\r\n";

#[tokio::test]
async fn each_path_answers_the_methods_of_its_description_and_no_other() {
    let served = serve(None).await;
    let document: Value = serde_json::from_str(OPENAPI).expect("JSON");
    for (path, item) in document["paths"].as_object().expect("paths") {
        let path = path.replace("{service}", "api").replace("{address}", "10.0.0.1:80");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let described = item.get(method.to_ascii_lowercase()).is_some();
            let (status, _, body) = send(&served, method, &path, JSON, "").await;
            assert_eq!(status != 405, described, "{method} {path}: {status} {body}");
        }
    }
    assert_eq!(send(&served, "POST", "/config", "", "{}").await.0, 405);
}

#[tokio::test]
async fn changes_arrive_as_they_were_asked_for() {
    let served = serve(None).await;
    let check = async |method: &str, path: &str, body: &str, status: u16, expected: &str| {
        let answer = send(&served, method, path, JSON, body).await;
        assert_eq!(answer.0, status, "{method} {path}: {}", answer.2);
        let command = served.state.commands.lock().expect("no panic").pop().expect("a command");
        assert_eq!(format!("{command:?}"), expected);
    };
    let endpoint = "/api/services/api/endpoints/10.0.0.1:80";
    check(
        "POST",
        "/api/services/api/endpoints",
        "{\"address\":\"[::1]:80\",\"weight\":3}",
        201,
        "Add { service: \"api\", endpoint: \
         NewEndpoint { address: \"[::1]:80\", weight: Weight(3), priority: Priority(0), zone: None, backup: false, drain: false } }",
    )
    .await;
    check(
        "PATCH",
        endpoint,
        "{\"drain\":true,\"weight\":null}",
        200,
        "Edit { service: \"api\", address: \"10.0.0.1:80\", \
         edit: EndpointEdit { weight: Some(None), drain: Some(Some(true)) } }",
    )
    .await;
    let removed = "Remove { service: \"api\", address: \"[::1]:80\" }";
    check("DELETE", "/api/services/api/endpoints/%5B::1%5D:80", "", 200, removed).await;
    let reset = "Reset { service: \"api\", address: \"10.0.0.1:80\" }";
    check("DELETE", &format!("{endpoint}/overrides"), "{}", 200, reset).await;
    check("DELETE", "/api/overrides", "", 200, "ResetAll").await;
    check("POST", "/api/reload", "", 200, "Reload").await;
}

#[tokio::test]
async fn changes_from_pages_and_of_other_types_are_refused() {
    let served = serve(None).await;
    let own = format!("{JSON}Origin: http://{}\r\n", served.address);
    for (method, path) in [
        ("POST", "/api/services/api/endpoints"),
        ("PATCH", "/api/services/api/endpoints/10.0.0.1:80"),
        ("DELETE", "/api/services/api/endpoints/10.0.0.1:80"),
        ("DELETE", "/api/services/api/endpoints/10.0.0.1:80/overrides"),
        ("DELETE", "/api/overrides"),
        ("POST", "/api/reload"),
    ] {
        let check = async |fields: &str, body: &str, expected: u16| {
            let (status, _, text) = send(&served, method, path, fields, body).await;
            assert_eq!(status, expected, "{method} {path} {fields:?}: {text}");
            assert!(served.state.commands.lock().expect("no panic").is_empty(), "{method} {path}");
        };
        check(&own, "", 403).await;
        check("", "", 415).await;
        check("Content-Type: text/plain\r\n", "{}", 415).await;
        check("Content-Type: application/x-www-form-urlencoded\r\n", "a=b", 415).await;
        check(JSON, &" ".repeat(20_000), 413).await;
        check(JSON, "{\"x\":1}", 400).await;
    }
    let (status, _, text) =
        send(&served, "DELETE", "/api/overrides", "Content-Type: Application/JSON; charset=utf-8\r\n", "").await;
    assert_eq!(status, 200, "{text}");
}

#[tokio::test]
async fn refusals_have_the_status_of_their_reason() {
    let served = serve(None).await;
    for (service, expected) in
        [("nope", 404), ("invalid", 400), ("conflict", 409), ("configuration", 422), ("stopping", 503)]
    {
        let path = format!("/api/services/{service}/endpoints/10.0.0.1:80");
        let (status, _, body) = send(&served, "DELETE", &path, JSON, "").await;
        assert_eq!(status, expected);
        assert_eq!(serde_json::from_str::<Value>(&body).expect("JSON"), json!({"error": "because"}));
    }
    let (status, _, body) = send(&served, "PATCH", "/api/services/api/endpoints/%FF", JSON, "{}").await;
    assert!(status == 400 && body.contains("error"), "{status} {body}");
}

#[tokio::test]
async fn heads_are_bounded() {
    let served = serve(None).await;
    let long = format!("X-Long: {}\r\n", "x".repeat(20_000));
    assert_eq!(get(&served, "/healthz", &long).await.0, 431);
    let many = "X-Many: 1\r\n".repeat(100);
    assert_eq!(get(&served, "/healthz", &many).await.0, 431);
}

#[tokio::test]
async fn a_stop_ends_idle_connections_at_once() {
    let mut served = serve(None).await;
    let mut idle = TcpStream::connect(served.address).await.expect("a connection");
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("a request");
    let mut first = [0; 1024];
    assert!(idle.read(&mut first).await.expect("an answer") > 0);
    served.stop.take().expect("not stopped yet").send(()).expect("it runs");
    timeout(Duration::from_secs(2), &mut served.task).await.expect("it ends in time").expect("no panic");
    assert_eq!(timeout(SOON, idle.read(&mut first)).await.expect("in time").expect("a clean end"), 0);
    TcpStream::connect(served.address).await.expect_err("nobody listens any more");
}

#[tokio::test]
async fn a_taken_address_is_an_error_that_names_it() {
    let served = serve(None).await;
    let params = AdminParams::new(served.address, None).expect("params");
    let error = Admin::bind(&params).await.expect_err("it is taken");
    assert!(error.to_string().starts_with(&format!("admin: cannot listen on {}: ", served.address)), "{error}");
}

#[test]
fn beyond_loopback_a_token_is_needed_and_never_shown() {
    let outside = "0.0.0.0:9900".parse().expect("an address");
    assert!(AdminParams::new(outside, None).is_err());
    let params = AdminParams::new(outside, Some(Secret::new("s3cret"))).expect("params");
    assert!(!format!("{params:?}").contains("s3cret"));
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_a_place() {
    let served = serve(None).await;
    let ask = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(served.address).await.expect("a connection");
        stream.write_all(ask).await.expect("a request");
        assert!(stream.read(&mut [0; 1024]).await.expect("an answer") > 0);
        held.push(stream);
    }
    let mut waiting = TcpStream::connect(served.address).await.expect("the system accepts it");
    waiting.write_all(ask).await.expect("a request");
    let early = timeout(Duration::from_millis(200), waiting.read(&mut [0; 1024])).await;
    assert!(early.is_err(), "the 65th connection was served beside 64 others");
    held.pop();
    let answer = timeout(SOON, waiting.read(&mut [0; 1024])).await.expect("a place is free").expect("an answer");
    assert!(answer > 0);
}
