//! Traces against a collector that reads them by the types that OpenTelemetry publishes.

use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use telemetry::trace::{
    CoreTracer, ExportHeader, Follow, RequestTrace, Sampling, ServerSpan, TraceEndpoint, TraceParams, TraceTotals,
    Tracer, TrySpan,
};
use testkit::{Collector, RawUpstream, Script, Step};
use vocab::ErrorCode;

const SOON: Duration = Duration::from_secs(10);
const ALL: Sampling = Sampling { ratio: 1.0, follow: Follow::Any, client_address: true };

fn params(address: SocketAddr) -> TraceParams {
    TraceParams {
        endpoint: TraceEndpoint { host: address.ip().to_string(), port: address.port(), path: "/v1/traces".to_owned() },
        sampling: ALL,
        service_name: "edge".to_owned(),
        headers: vec![ExportHeader { name: "X-Tenant".to_owned(), value: "seven".to_owned() }],
        timeout: Duration::from_secs(1),
    }
}

/// An exporter under way, beside the thread that records.
struct Running {
    tracer: Tracer,
    core: CoreTracer,
    runtime: tokio::runtime::Runtime,
    exporter: tokio::task::JoinHandle<()>,
}

fn start(params: &TraceParams) -> Running {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (tracer, exporter) = Tracer::new(Some(params), 1).unwrap();
    let exporter = runtime.spawn(exporter.run());
    let core = tracer.for_core();
    Running { tracer, core, runtime, exporter }
}

impl Running {
    /// Records a request with one try.
    fn record(&mut self, random: u128) {
        let trace = begin(random);
        self.core.record_try(&trace, &attempt());
        self.core.record_request(&trace, &request());
    }

    fn wait(&self, done: impl Fn(TraceTotals) -> bool) -> TraceTotals {
        let deadline = Instant::now() + SOON;
        loop {
            let totals = self.tracer.totals();
            if done(totals) {
                return totals;
            }
            assert!(Instant::now() < deadline, "still {totals:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Stops: the totals, and how long it took.
    fn stop(self) -> (TraceTotals, Duration) {
        let Self { tracer, core, runtime, exporter } = self;
        drop(core);
        tracer.stop();
        let begun = Instant::now();
        runtime.block_on(within(SOON, exporter)).unwrap();
        (tracer.totals(), begun.elapsed())
    }
}

async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, future).await.expect("in time")
}

fn begin(random: u128) -> RequestTrace {
    RequestTrace::begin(ALL, None, false, random, || 0xab, Instant::now()).expect("it is sampled")
}

fn request<'a>() -> ServerSpan<'a> {
    ServerSpan {
        ended: Instant::now(),
        method: b"GET",
        scheme: "http",
        host: b"shop.example:8080",
        path: b"/api/cart?token=secret",
        version: "1.1",
        client: "192.0.2.7".parse().unwrap(),
        user_agent: b"probe/1",
        tracestate: b"vendor=1",
        status: Some(200),
        grpc_status: None,
        error: None,
        body_received: 3,
        body_sent: 300,
        listener: "web",
        route: Some("api"),
        pattern: ("/api/", "*"),
        service: Some("backend"),
        request_id: b"order-17",
    }
}

fn attempt<'a>() -> TrySpan<'a> {
    TrySpan {
        span_id: 0xcd,
        begun: Instant::now(),
        ended: Instant::now(),
        method: b"GET",
        scheme: "http",
        version: "1.1",
        endpoint: "10.0.0.1:8080".parse().unwrap(),
        path: b"/api/cart?token=secret",
        resends: 0,
        status: Some(200),
        grpc_status: None,
        error: None,
        service: "backend",
    }
}

#[test]
fn a_request_and_its_try_arrive_as_the_conventions_name_them() {
    let collector = Collector::start().unwrap();
    let mut running = start(&params(collector.address()));
    running.record(0xfeed);
    running.core.flush();
    let spans = collector.wait_for(2).unwrap();
    let (client, server) = (&spans[0], &spans[1]);
    assert_eq!((client.is_server, server.is_server), (false, true));
    assert_eq!((server.name.as_str(), client.name.as_str()), ("GET /api/*", "GET"));
    assert_eq!(server.trace_id, format!("{:032x}", 0xfeed));
    assert_eq!((server.trace_id.clone(), &server.span_id), (client.trace_id.clone(), &client.parent_id));
    assert_eq!((server.span_id.as_str(), server.parent_id.as_str()), ("00000000000000ab", ""));
    assert_eq!((server.service.as_str(), server.trace_state.as_str()), ("edge", "vendor=1"));
    assert!(server.start <= client.start && client.start <= client.end && client.end <= server.end);
    let pairs = |list: &[(&str, &str)]| list.iter().map(|&(key, value)| (key.into(), value.into())).collect();
    let expected = pairs(&[
        ("client.address", "192.0.2.7"),
        ("http.request.body.size", "3"),
        ("http.request.method", "GET"),
        ("http.response.body.size", "300"),
        ("http.response.status_code", "200"),
        ("http.route", "/api/*"),
        ("network.protocol.version", "1.1"),
        ("server.address", "shop.example"),
        ("server.port", "8080"),
        ("tenfold.listener", "web"),
        ("tenfold.request_id", "order-17"),
        ("tenfold.route", "api"),
        ("tenfold.service", "backend"),
        ("url.path", "/api/cart"),
        ("url.scheme", "http"),
        ("user_agent.original", "probe/1"),
    ]);
    assert_eq!((&server.attributes, server.is_error), (&expected, false));
    let expected = pairs(&[
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("network.protocol.version", "1.1"),
        ("server.address", "10.0.0.1"),
        ("server.port", "8080"),
        ("tenfold.service", "backend"),
        ("url.full", "http://10.0.0.1:8080/api/cart"),
    ]);
    assert_eq!((&client.attributes, client.is_error), (&expected, false));
    let sent = collector.requests().unwrap().remove(0);
    assert_eq!((sent.method.as_str(), sent.target.as_str()), ("POST", "/v1/traces"));
    assert_eq!(sent.fields.get("content-type"), Some("application/x-protobuf"));
    assert_eq!(sent.fields.get("x-tenant"), Some("seven"));
    let totals = running.wait(|totals| totals.exported == 2);
    assert_eq!(totals, TraceTotals { recorded: 2, exported: 2, ..TraceTotals::default() });
}

#[test]
fn outcomes_become_error_types_and_statuses() {
    let collector = Collector::start().unwrap();
    let mut running = start(&params(collector.address()));
    let trace = begin(1);
    // What a server is told, and what a client; the error's type, and whether the span's status is an error.
    let rows = [
        (Some(404), Some(ErrorCode::NoRoute), ("", false), ("no_route", true)),
        (Some(404), None, ("", false), ("404", true)),
        (Some(503), None, ("503", true), ("503", true)),
        (Some(504), Some(ErrorCode::UpstreamTimeout), ("upstream_timeout", true), ("upstream_timeout", true)),
        (Some(200), Some(ErrorCode::UpstreamClosed), ("upstream_closed", true), ("upstream_closed", true)),
        (None, None, ("client_gone", false), ("client_gone", false)),
        (None, Some(ErrorCode::UpstreamClosed), ("upstream_closed", true), ("upstream_closed", true)),
    ];
    for (status, error, ..) in rows {
        running.core.record_request(&trace, &ServerSpan { status, error, ..request() });
        running.core.record_try(&trace, &TrySpan { status, error, resends: 2, ..attempt() });
    }
    running.core.flush();
    let spans = collector.wait_for(2 * rows.len()).unwrap();
    for (pair, (status, error, server, client)) in spans.chunks(2).zip(rows) {
        let found = |span: &testkit::Span| (span.attribute("error.type").to_owned(), span.is_error);
        let expected = |(kind, is_error): (&str, bool)| (kind.to_owned(), is_error);
        assert_eq!(found(&pair[0]), expected(server), "{status:?} {error:?}");
        assert_eq!(found(&pair[1]), expected(client), "{status:?} {error:?}");
        assert_eq!(pair[1].attribute("http.request.resend_count"), "2");
    }
}

#[test]
fn calls_of_grpc_fail_by_their_own_status() {
    let collector = Collector::start().unwrap();
    let mut running = start(&params(collector.address()));
    let trace = begin(1);
    // `OK`, `NOT_FOUND` and `UNAVAILABLE`: whether it is an error of the server, and of the client.
    let rows = [(0, ("", false), ("", false)), (5, ("", false), ("5", true)), (14, ("14", true), ("14", true))];
    for (status, ..) in rows {
        let grpc_status = Some(status);
        running.core.record_request(&trace, &ServerSpan { grpc_status, ..request() });
        running.core.record_try(&trace, &TrySpan { grpc_status, ..attempt() });
    }
    running.core.flush();
    let spans = collector.wait_for(2 * rows.len()).unwrap();
    for (pair, (status, server, client)) in spans.chunks(2).zip(rows) {
        for (span, expected) in pair.iter().zip([server, client]) {
            assert_eq!((span.attribute("error.type"), span.is_error), expected, "{status}");
            assert_eq!(span.attribute("rpc.grpc.status_code"), status.to_string());
        }
    }
}

#[test]
fn whatever_a_client_sends_is_bounded_and_breaks_no_export() {
    let collector = Collector::start().unwrap();
    let mut running = start(&params(collector.address()));
    let trace = begin(1);
    let evil = [0xff; 8192];
    let span = ServerSpan {
        method: &evil,
        host: &evil,
        path: &evil,
        user_agent: &evil,
        tracestate: &evil,
        request_id: &evil,
        ..request()
    };
    for _ in 0..100 {
        running.core.record_request(&trace, &span);
        running.core.record_try(&trace, &TrySpan { method: &evil, path: &evil, ..attempt() });
    }
    running.core.flush();
    let spans = collector.wait_for(200).unwrap();
    let server = &spans[0];
    assert_eq!((server.name.as_str(), server.attribute("http.request.method")), ("HTTP /api/*", "_OTHER"));
    assert_eq!(server.attribute("url.path").chars().count(), 1024);
    assert_eq!(server.attribute("http.request.method_original"), "\u{fffd}".repeat(256));
}

#[test]
fn addresses_are_left_out_on_request_and_hosts_are_read() {
    let collector = Collector::start().unwrap();
    let mut params = params(collector.address());
    params.sampling.client_address = false;
    let mut running = start(&params);
    let sampling = running.core.sampling().unwrap();
    let trace = RequestTrace::begin(sampling, None, false, 1, || 2, Instant::now()).unwrap();
    let hosts: [(&[u8], &str, &str); 5] = [
        (b"example.com", "example.com", ""),
        (b"[::1]:80", "::1", "80"),
        (b"[::1]", "::1", ""),
        (b"example.com:", "example.com", ""),
        (b"", "", ""),
    ];
    for (host, ..) in hosts {
        running.core.record_request(&trace, &ServerSpan { host, ..request() });
    }
    running.core.flush();
    for (span, (_, address, port)) in collector.wait_for(hosts.len()).unwrap().iter().zip(hosts) {
        assert_eq!((span.attribute("server.address"), span.attribute("server.port")), (address, port));
        assert_eq!(span.attribute("client.address"), "");
    }
    running.core.record_try(&trace, &TrySpan { endpoint: "[::1]:80".parse().unwrap(), ..attempt() });
    running.core.flush();
    let span = collector.wait_for(hosts.len() + 1).unwrap().remove(hosts.len());
    assert_eq!((span.attribute("url.full"), span.attribute("server.address")), ("http://[::1]:80/api/cart", "::1"));
}

/// Records until spans are dropped, and checks that nobody was made to wait.
fn overflow(running: &mut Running) -> u64 {
    let mut slowest = Duration::ZERO;
    let mut random = 0;
    while running.tracer.totals().queue_full == 0 {
        random += 1;
        let before = Instant::now();
        running.record(random);
        slowest = slowest.max(before.elapsed());
        assert!(random < 1_000_000, "nothing is dropped");
    }
    // A blocked record would wait for ever; the limit leaves room for a scheduler's pause on a busy machine.
    assert!(slowest < Duration::from_secs(1), "a record took {slowest:?}");
    2 * u64::try_from(random).unwrap()
}

fn check_sum(totals: TraceTotals) {
    let known = totals.exported + totals.queue_full + totals.export_failed + totals.rejected;
    assert_eq!(known, totals.recorded, "{totals:?}");
}

#[test]
fn a_collector_that_never_answers_stops_nobody_and_the_end_comes_in_time() {
    // It takes the connection and reads, and that is all.
    let silent = RawUpstream::start(Script::new([Step::Drain])).unwrap();
    let mut running = start(&params(silent.address()));
    let recorded = overflow(&mut running);
    assert_eq!(running.tracer.totals().recorded, recorded);
    let (totals, took) = running.stop();
    // Two batches at most: the one under way, and what was left.
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(totals.export_failed > 0 && totals.exported == 0, "{totals:?}");
    check_sum(totals);
}

#[test]
fn without_a_collector_spans_are_dropped_and_counted_until_it_is_there() {
    let address = SocketAddr::from(([127, 0, 0, 1], testkit::free_port()));
    let mut running = start(&params(address));
    running.record(1);
    running.core.flush();
    running.wait(|totals| totals.export_errors >= 2);
    // It comes within the tries of the first batch, so nothing is lost.
    let collector = Collector::start_at(address).unwrap();
    running.record(2);
    running.core.flush();
    collector.wait_for(4).unwrap();
    let (totals, _) = running.stop();
    assert_eq!((totals.exported, totals.export_failed), (4, 0), "{totals:?}");
}

#[test]
fn a_busy_collector_is_tried_again_and_one_that_refuses_is_not() {
    let answer = |head: &str| Script::answer_once(format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n"));
    let collector = Collector::start_with(answer("503 Service Unavailable\r\nRetry-After: 1")).unwrap();
    let mut running = start(&params(collector.address()));
    running.record(1);
    running.core.flush();
    let begun = Instant::now();
    running.wait(|totals| totals.export_errors == 1);
    collector.set_script(Collector::takes_all());
    running.wait(|totals| totals.exported == 2);
    assert!(begun.elapsed() >= Duration::from_millis(900), "it asked for a second: {:?}", begun.elapsed());
    collector.set_script(answer("400 Bad Request"));
    running.record(2);
    running.core.flush();
    // The kept connection still answers by its own script, so a further one may be needed.
    running.wait(|totals| totals.recorded == totals.exported + totals.rejected);
    running.record(3);
    running.core.flush();
    let totals = running.wait(|totals| totals.rejected >= 2);
    assert_eq!((totals.export_errors, totals.export_failed), (2, 0), "{totals:?}");
}

#[test]
fn spans_that_a_collector_takes_only_in_part_are_counted() {
    // `partial_success { rejected_spans: 1 }`
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\x0a\x02\x08\x01".to_vec();
    let collector = Collector::start_with(Script::answer(answer)).unwrap();
    let mut running = start(&params(collector.address()));
    running.record(1);
    running.core.flush();
    let totals = running.wait(|totals| totals.exported + totals.rejected == 2);
    assert_eq!((totals.exported, totals.rejected), (1, 1));
}

#[test]
fn what_is_left_at_the_end_is_exported() {
    let collector = Collector::start().unwrap();
    let mut running = start(&params(collector.address()));
    for random in 1..=500 {
        running.record(random);
    }
    let (totals, _) = running.stop();
    check_sum(totals);
    assert_eq!(totals.exported, 1000, "{totals:?}");
    assert_eq!(collector.spans().unwrap().len(), 1000);
}

#[test]
fn traces_can_be_switched_off_and_moved_while_they_run() {
    let (first, second) = (Collector::start().unwrap(), Collector::start().unwrap());
    let mut running = start(&params(first.address()));
    running.record(1);
    running.core.flush();
    first.wait_for(2).unwrap();
    running.tracer.change(Some(&params(second.address()))).unwrap();
    running.record(2);
    running.core.flush();
    second.wait_for(2).unwrap();
    running.tracer.change(None).unwrap();
    assert_eq!(running.core.sampling(), None);
    running.record(3);
    running.core.flush();
    let totals = running.wait(|totals| totals.export_failed == 2);
    check_sum(totals);
}
