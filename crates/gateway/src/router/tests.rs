use std::cmp::Reverse;
use std::sync::Arc;

use http1::Limits;
use proptest::prelude::*;

use super::*;
use crate::params::{Conditions as Asks, PriorityParams, RouteTarget, ValueMatch, ValueSource};
use crate::pattern::Pattern;

/// A route as tests write it: host and path as in the file, an expression after `~`.
fn params(name: &str, host: &str, path: &str, conditions: Asks) -> RouteParams {
    RouteParams {
        name: name.parse().unwrap(),
        listener: "web".parse().unwrap(),
        host: match (host, host.strip_prefix("*.")) {
            ("*", _) => HostMatch::Any,
            (_, Some(domain)) => HostMatch::Under(domain.to_owned()),
            _ => HostMatch::Exact(host.to_owned()),
        },
        path: match (path.strip_prefix('~'), path.strip_suffix('*')) {
            (Some(pattern), _) => PathMatch::Regex(Pattern::new(pattern).unwrap()),
            (_, Some(prefix)) => PathMatch::Prefix(prefix.to_owned()),
            _ => PathMatch::Exact(path.to_owned()),
        },
        conditions,
        target: RouteTarget::Service("api".parse().unwrap()),
        actions: crate::params::ActionParams::default(),
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

fn router(routes: &[RouteParams]) -> Router {
    let route = |params: &RouteParams| {
        let state = RouteState::new(params.name.clone(), 1);
        Route::new(params, Arc::new(state), Services::only(0), Vec::new(), 1)
    };
    Router::new(routes.iter().map(route).collect(), 1)
}

fn found(router: &Router, head: &str) -> Option<String> {
    let mut request = Request::default();
    request.parse(head.as_bytes(), &Limits { bytes_max: 65_536, fields_max: 100 }).unwrap();
    let path = normal_path(request.target.as_origin_form(head.as_bytes(), &request.method)).unwrap();
    let asked = Asked { core: 0, request: &request, head: head.as_bytes(), path: &path };
    router.find(&asked).map(|at| router.routes()[at].state.name.to_string())
}

fn get(router: &Router, host: &str, target: &str) -> Option<String> {
    found(router, &format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
}

fn plain(name: &str, host: &str, path: &str) -> RouteParams {
    params(name, host, path, Asks::default())
}

#[test]
fn the_most_specific_route_wins() {
    let router = router(&[
        plain("all", "*", "/*"),
        plain("api", "*", "/api/*"),
        plain("api-v2", "*", "/api/v2/*"),
        plain("health", "*", "/api/health"),
        plain("shop", "shop.example.com", "/cart/*"),
        plain("wild", "*.example.com", "/wild/*"),
        plain("wilder", "*.eu.example.com", "/wild/*"),
        plain("photo", "*", "~/photos/[0-9]+"),
        plain("photos", "*", "~/photos/.*"),
        plain("hidden", "*", "~/api/v[0-9]"),
    ]);
    let check = |host: &str, path: &str, expected: &str| {
        assert_eq!(get(&router, host, path).as_deref(), Some(expected), "{host} {path}");
    };
    check("example.com", "/", "all");
    check("example.com", "/api", "api");
    check("example.com", "/api/", "api");
    check("example.com", "/apis", "all");
    check("example.com", "/api/v2", "api-v2");
    check("example.com", "/api/v2/x", "api-v2");
    check("example.com", "/api/health", "health");
    check("example.com", "/api/health/x", "api");
    check("Shop.Example.com:8080", "/cart/1", "shop");
    check("shop.example.com.", "/cart", "shop");
    check("shop.example.com", "/api/v2/x", "api-v2");
    check("shop.example.com", "/wild/1", "wild");
    check("a.b.example.com", "/wild/1", "wild");
    check("a.EU.example.com.:80", "/wild/1", "wilder");
    check("eu.example.com", "/wild/1", "wild");
    check("example.com", "/wild/1", "all");
    check("notexample.com", "/wild/1", "all");
    check(".example.com", "/wild/1", "all");
    check("example.com.example.org", "/wild/1", "all");
    check("example.com", "/photos/12", "photo");
    check("example.com", "/photos/12/x", "photos");
    check("example.com", "/photos", "all");
    // A prefix comes before expressions.
    check("example.com", "/api/v3", "api");
    check(&format!("{}.example.com", "a.".repeat(5000)), "/wild/1", "all");
}

#[test]
fn without_a_match_there_is_no_route() {
    let router = router(&[plain("api", "example.com", "/api/*"), plain("wild", "*.example.com", "/api/*")]);
    assert_eq!(get(&router, "example.com", "/"), None);
    assert_eq!(get(&router, "example.org", "/api/"), None);
    assert_eq!(found(&router, "GET /api/ HTTP/1.0\r\n\r\n"), None);
}

fn on(source: ValueSource, value: ValueMatch) -> (ValueSource, ValueMatch) {
    (source, value)
}

fn header(name: &str) -> ValueSource {
    ValueSource::Header(name.to_owned())
}

fn one_of(texts: &[&str]) -> ValueMatch {
    ValueMatch::OneOf(texts.iter().map(|&text| text.to_owned()).collect())
}

#[test]
fn conditions_choose_among_routes_of_one_path() {
    let asks = |methods: &[&str], values: &[(ValueSource, ValueMatch)]| {
        Asks::new(methods.iter().map(|&method| method.to_owned()).collect(), values.to_vec())
    };
    let cookie = |name: &str| ValueSource::Cookie(name.to_owned());
    let query = |name: &str| ValueSource::Query(name.to_owned());
    let regex = |text: &str| ValueMatch::Regex(Pattern::new(text).unwrap());
    let router = router(&[
        plain("plain", "*", "/x"),
        params("post", "*", "/x", asks(&["POST", "PUT"], &[])),
        params("beta", "*", "/x", asks(&[], &[on(header("x-beta"), one_of(&["1", "yes"]))])),
        params("beta-post", "*", "/x", asks(&["POST"], &[on(header("x-beta"), ValueMatch::Present)])),
        params("session", "*", "/x", asks(&[], &[on(cookie("s"), ValueMatch::Prefix("eu-".to_owned()))])),
        params("query", "*", "/x", asks(&[], &[on(query("page size"), regex("[0-9]+"))])),
        params("flag", "*", "/x", asks(&[], &[on(query("flag"), ValueMatch::Present)])),
        params("anonymous", "*", "/y", asks(&[], &[on(cookie("s"), ValueMatch::Absent)])),
        plain("known", "*", "/*"),
    ]);
    let check = |line: &str, fields: &str, expected: &str| {
        let head = format!("{line} HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n");
        assert_eq!(found(&router, &head).as_deref(), Some(expected), "{head}");
    };
    check("GET /x", "", "plain");
    check("HEAD /x", "", "plain");
    check("PUT /x", "", "post");
    check("GET /x", "X-BETA: yes\r\n", "beta");
    check("GET /x", "X-Beta: no\r\n", "plain");
    check("GET /x", "X-Beta: no\r\nx-beta: 1\r\n", "beta");
    check("POST /x", "X-Beta: no\r\n", "beta-post");
    check("POST /x", "X-Beta: 1\r\n", "beta-post");
    check("PUT /x", "X-Beta: 1\r\n", "post");
    check("GET /x", "Cookie: a=1; s=eu-7\r\n", "session");
    check("GET /x", "Cookie: ss=eu-7; s=us-7\r\n", "plain");
    check("GET /x?page+size=10", "", "query");
    check("GET /x?a&p%61ge%20size=1%30", "", "query");
    check("GET /x?page+size=10x", "", "plain");
    check("GET /x?flag", "", "flag");
    check("GET /x?flag=", "", "flag");
    check("GET /x?flags", "", "plain");
    check("GET /x?&&=", "", "plain");
    check("GET /x?a%", "", "plain");
    check("GET /y", "Cookie: t=1\r\n", "anonymous");
    check("GET /y", "Cookie: s=\r\n", "known");
}

const HOSTS: &[&str] = &["*", "a.example", "b.a.example", "*.a.example", "*.b.a.example", "*.example"];
const PATHS: &[&str] = &["/*", "/x", "/x/*", "/x/y/*", "/x/y", "~/x/.*", "~/(x|y)/[a-z]+", "~.*", "/y"];

fn a_route() -> impl Strategy<Value = (&'static str, &'static str, Asks)> {
    let methods = prop_oneof![Just(vec![]), Just(vec!["POST".to_owned()])];
    let value = prop_oneof![Just(ValueMatch::Present), Just(ValueMatch::Absent), Just(one_of(&["1"]))];
    let values = proptest::collection::vec((prop_oneof![Just(header("x-a")), Just(header("x-b"))], value), 0..3);
    let asks = (methods, values).prop_map(|(methods, values)| Asks::new(methods, values));
    (proptest::sample::select(HOSTS), proptest::sample::select(PATHS), asks)
}

/// What a request of the property is made of.
#[derive(Clone, Debug)]
struct Made {
    host: &'static str,
    path: &'static str,
    method: &'static str,
    a: Option<&'static str>,
    b: Option<&'static str>,
}

fn a_request() -> impl Strategy<Value = Made> {
    let hosts = &["a.example", "b.a.example", "c.b.a.example", "example", "other.example", "d.a.example"][..];
    let paths = &["/", "/x", "/x/", "/x/y", "/x/y/z", "/y", "/y/k", "/xx"][..];
    let field = || proptest::option::of(proptest::sample::select(&["1", "2"][..]));
    let method = proptest::sample::select(&["GET", "POST"][..]);
    (proptest::sample::select(hosts), proptest::sample::select(paths), method, field(), field())
        .prop_map(|(host, path, method, a, b)| Made { host, path, method, a, b })
}

impl Made {
    fn head(&self) -> String {
        let field =
            |name: &str, value: Option<&str>| value.map_or(String::new(), |value| format!("{name}: {value}\r\n"));
        let fields = field("X-A", self.a) + &field("X-B", self.b);
        format!("{} {} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", self.method, self.path, self.host)
    }

    /// Whether a route matches, read off its parameters.
    fn fits(&self, route: &RouteParams) -> bool {
        let host = match &route.host {
            HostMatch::Any => true,
            HostMatch::Exact(host) => host == self.host,
            HostMatch::Under(domain) => self.host.ends_with(&format!(".{domain}")),
        };
        let path = match &route.path {
            PathMatch::Exact(path) => path == self.path,
            PathMatch::Prefix(prefix) => format!("{}/", self.path).starts_with(prefix.as_str()),
            PathMatch::Regex(pattern) => {
                let whole = regex::Regex::new(&format!("^(?:{})$", pattern.as_str())).unwrap();
                whole.is_match(self.path)
            }
        };
        let methods = route.conditions.methods();
        let value = |source: &ValueSource| if *source == header("x-a") { self.a } else { self.b };
        let holds = |(source, test): &(ValueSource, ValueMatch)| match (test, value(source)) {
            (ValueMatch::Absent, value) => value.is_none(),
            (_, None) => false,
            (ValueMatch::OneOf(texts), Some(value)) => texts.iter().any(|text| text == value),
            _ => true,
        };
        host && path
            && (methods.is_empty() || methods.iter().any(|method| method == self.method))
            && route.conditions.values().iter().all(holds)
    }
}

/// The place of a route in the total order, as the documentation has it.
fn place(routes: &[RouteParams], at: usize) -> impl Ord + use<> {
    let route = &routes[at];
    let host = match &route.host {
        HostMatch::Exact(_) => (0, Reverse(0)),
        HostMatch::Under(domain) => (1, Reverse(domain.len())),
        HostMatch::Any => (2, Reverse(0)),
    };
    let first = || routes.iter().position(|other| other.path == route.path && other.host == route.host).unwrap();
    let path = match &route.path {
        PathMatch::Exact(_) => (0, Reverse(0), 0),
        PathMatch::Prefix(prefix) if prefix == "/" => (3, Reverse(0), 0),
        PathMatch::Prefix(prefix) => (1, Reverse(prefix.len()), 0),
        PathMatch::Regex(_) => (2, Reverse(0), first()),
    };
    (host, path, Reverse(route.conditions.count()), at)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_order_is_the_documented_one(
        routes in proptest::collection::vec(a_route(), 0..12),
        requests in proptest::collection::vec(a_request(), 8),
    ) {
        let name = |at: usize| format!("r{at}");
        let routes: Vec<_> = routes
            .into_iter()
            .enumerate()
            .map(|(at, (host, path, asks))| params(&name(at), host, path, asks))
            .collect();
        let router = router(&routes);
        for request in requests {
            let fitting = (0..routes.len()).filter(|&at| request.fits(&routes[at]));
            let expected = fitting.min_by_key(|&at| place(&routes, at)).map(name);
            prop_assert_eq!(found(&router, &request.head()), expected, "{:?}", request);
        }
    }
}
