//! A gateway in front of services, and clients that ask it.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use testkit::message::{Request, Response};
use testkit::{RawConn, RawUpstream, Tenfold, free_port};

/// The program under test.
pub(crate) fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tenfold"))
}

/// The part of a configuration that every site has: an admin listener, and the listener `web` at `port`.
pub(crate) fn listeners(port: u16) -> String {
    format!("[admin]\nlisten = \"127.0.0.1:{}\"\n[listener.web]\nlisten = \"127.0.0.1:{port}\"\n", free_port())
}

/// A configuration with the one service `api`, whose table goes on with `service`.
pub(crate) fn config(endpoints: &[SocketAddr], service: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    let endpoints = endpoints.join(", ");
    let head = listeners(free_port());
    format!("{head}[[route]]\nservice = \"api\"\n[service.api]\nendpoints = [{endpoints}]\n{service}\n")
}

/// A site with the one service `api`.
pub(crate) fn site(endpoints: &[SocketAddr], service: &str) -> Tenfold {
    start(&config(endpoints, service))
}

/// A site of this configuration.
pub(crate) fn start(config: &str) -> Tenfold {
    Tenfold::start_with(command(), config).unwrap()
}

/// Asks on a connection of its own.
pub(crate) fn ask(address: SocketAddr, request: &str, method: &str) -> Response {
    let mut conn = RawConn::connect(address).unwrap();
    conn.send(request).unwrap();
    let response = conn.read_response(method).unwrap();
    // A client has its answer a moment before that is counted and the endpoint's connection kept. Both is done when the
    // gateway ends the connection in turn.
    let _gone_already = conn.finish();
    let _ended = conn.ends_within(Duration::from_secs(1)).unwrap();
    response
}

/// GETs a path, with further fields (each line with its end), on a connection of its own.
pub(crate) fn get(site: &Tenfold, path: &str, fields: &str) -> Response {
    let request = format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\n{fields}\r\n");
    ask(site.address(), &request, "GET")
}

/// Which instance answers `/`.
pub(crate) fn instance(site: &Tenfold, fields: &str) -> String {
    let response = get(site, "/", fields);
    assert_eq!(response.status, 200, "{}", response.text());
    response.fields.get("x-instance").unwrap().to_owned()
}

/// The one request that an upstream got.
pub(crate) fn only_request(upstream: &RawUpstream) -> Request {
    let mut requests = upstream.requests().unwrap();
    assert_eq!(requests.len(), 1, "{requests:?}");
    requests.remove(0)
}

/// A page of the admin listener, read as JSON.
pub(crate) fn page(site: &Tenfold, path: &str) -> Value {
    serde_json::from_slice(&site.admin_get(path).unwrap().body).unwrap()
}

/// Reloads so far with this result.
pub(crate) fn reloads(site: &Tenfold, result: &str) -> f64 {
    site.metric("config_reloads_total", &[&format!("result=\"{result}\"")]).unwrap()
}

/// Reloads, and waits until it has been done.
pub(crate) fn apply(site: &mut Tenfold, text: &str) {
    let before = reloads(site, "success");
    site.reload(text).unwrap();
    site.wait_until("reloaded", |site| Ok(reloads(site, "success") > before)).unwrap();
}

/// The health of the service's endpoints, in their order.
pub(crate) fn health(site: &Tenfold) -> Vec<String> {
    let service = page(site, "/services/api");
    let endpoints = service["endpoints"].as_array().unwrap();
    endpoints.iter().map(|endpoint| endpoint["health"].as_str().unwrap().to_owned()).collect()
}

/// An address that nobody listens on.
pub(crate) fn dead_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// Checks that an answer is the gateway's own, with this status and code, and tells nothing of what is behind it.
pub(crate) fn check_own(response: &Response, status: u16, code: &str) {
    assert_eq!(response.status, status, "{}", response.text());
    let body: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(body["error"], code);
    assert_eq!(body["route"], "api");
    let id = body["request_id"].as_str().unwrap();
    assert_eq!(response.fields.get("x-request-id"), Some(id));
    assert!(!response.text().contains("127.0.0.1"), "{}", response.text());
}
