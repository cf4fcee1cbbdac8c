//! The admin listener over real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use admin::{Admin, AdminParams, AdminState, Unready};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

/// A state with one service, that is ready when told so.
struct Fixture {
    registry: Registry,
    ready: AtomicBool,
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

    fn config(&self) -> Value {
        json!({"last_reload": {"result": "failure", "error": "tenfold.toml:3:1: unknown key"}})
    }
}

struct Served {
    address: std::net::SocketAddr,
    state: Arc<Fixture>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

async fn serve(token: Option<&str>) -> Served {
    let params =
        AdminParams::new("127.0.0.1:0".parse().expect("an address"), token.map(str::to_owned)).expect("params");
    let admin = Admin::bind(&params).await.expect("a port");
    let address = admin.local_addr().expect("an address");
    let mut registry = Registry::default();
    registry.register_collector(Box::new(telemetry::ProcessMetrics::new("1.2.3")));
    let state = Arc::new(Fixture { registry, ready: AtomicBool::new(true) });
    let (stop, stopped) = oneshot::channel::<()>();
    let shown: Arc<dyn AdminState> = Arc::clone(&state) as _;
    let task = tokio::spawn(admin.serve(shown, async { drop(stopped.await) }));
    Served { address, state, stop: Some(stop), task }
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
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{fields}\r\n", served.address);
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
    assert_eq!(paths.len(), 8, "{index}");
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
async fn with_a_token_only_liveness_goes_without() {
    let served = serve(Some("s3cret")).await;
    for path in ["/", "/metrics", "/readyz", "/services", "/services/api", "/config", "/nope"] {
        let (status, head, _) = get(&served, path, "").await;
        assert_eq!(status, 401, "{path}");
        assert!(head.contains("www-authenticate: bearer"), "{path}: {head}");
        let (status, _, _) = get(&served, path, "Authorization: Bearer wrong\r\n").await;
        assert_eq!(status, 401, "{path}");
    }
    assert_eq!(get(&served, "/metrics", "Authorization: Bearer s3cret\r\n").await.0, 200);
    assert_eq!(get(&served, "/healthz", "").await.0, 200);
}

#[tokio::test]
async fn other_names_and_other_sites_are_refused() {
    let served = serve(None).await;
    let rebound = "GET /config HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert!(exchange(served.address, rebound).await.starts_with("HTTP/1.1 403 "));
    assert_eq!(get(&served, "/config", "Origin: https://evil.example\r\n").await.0, 403);
    assert_eq!(get(&served, "/config", &format!("Origin: http://{}\r\n", served.address)).await.0, 200);
}

#[tokio::test]
async fn only_reading_is_possible() {
    let served = serve(None).await;
    let request = "POST /config HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    let answer = exchange(served.address, request).await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
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
    let params = AdminParams::new(outside, Some("s3cret".to_owned())).expect("params");
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
