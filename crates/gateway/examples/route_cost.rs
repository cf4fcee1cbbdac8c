//! What it costs to find a request's route: nanoseconds by a loop, or instructions under callgrind.
//!
//! `cargo run --release --package gateway --example route_cost [ROUNDS]`

use std::hint::black_box;
use std::time::Instant;

use gateway::bench::RouterBench;
use gateway::params::{ActionParams, Conditions, HostMatch, PathMatch, PriorityParams, RouteParams, RouteTarget};
use http1::{Limits, Request};

/// A name, the routes (a host or any, and a path), and the path that is asked for.
type Case = (&'static str, Vec<(Option<&'static str>, &'static str)>, &'static str);

fn params(index: usize, (host, path): (Option<&str>, &str)) -> RouteParams {
    RouteParams {
        name: format!("route-{index}").parse().expect("a name"),
        listener: "web".parse().expect("a name"),
        host: host.map_or(HostMatch::Any, |host| HostMatch::Exact(host.to_owned())),
        path: match path.strip_suffix('*') {
            Some(prefix) => PathMatch::Prefix(prefix.to_owned()),
            None => PathMatch::Exact(path.to_owned()),
        },
        conditions: Conditions::default(),
        target: RouteTarget::Service("api".parse().expect("a name")),
        actions: ActionParams::default(),
        forward_auth: None,
        compress: None,
        limits: Vec::new(),
        cost: 1,
        priority: PriorityParams::default(),
        mirror: None,
        cache: None,
        timeout: None,
        body_timeout: None,
    }
}

fn cases() -> Vec<Case> {
    let paths = vec![(None, "/*"), (None, "/api/*"), (None, "/api/v2/*"), (None, "/health"), (None, "/static/*")];
    let hosts = ["a.example.com", "b.example.com", "c.example.com", "shop.example.com"];
    let mut several: Vec<_> = hosts.iter().map(|host| (Some(*host), "/*")).collect();
    several.extend([(Some("shop.example.com"), "/api/*"), (None, "/*")]);
    vec![
        ("one route for everything", vec![(None, "/*")], "/api/v2/orders/17?full=1"),
        ("an exact path of five", paths.clone(), "/health"),
        ("a prefix of five", paths.clone(), "/api/v2/orders/17?full=1"),
        ("the catch-all of five", paths, "/index.html"),
        ("a prefix of a host", several.clone(), "/api/orders"),
        ("the catch-all of a host", several, "/index.html"),
    ]
}

fn main() {
    let rounds: u32 = std::env::args().nth(1).map_or(2_000_000, |text| text.parse().expect("a number of rounds"));
    for (name, routes, path) in cases() {
        let routes: Vec<_> = routes.into_iter().enumerate().map(|(index, route)| params(index, route)).collect();
        let router = RouterBench::new(&routes);
        let head = format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n");
        let mut request = Request::default();
        request.parse(head.as_bytes(), &Limits { bytes_max: 8192, fields_max: 100 }).expect("a request");
        let begun = Instant::now();
        for _ in 0..rounds {
            black_box(router.find(black_box(&request), black_box(head.as_bytes())));
        }
        let nanos = begun.elapsed().as_secs_f64() * 1e9 / f64::from(rounds);
        println!("{name:28} {nanos:6.1} ns");
    }
}
