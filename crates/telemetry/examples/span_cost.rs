//! Decides about requests and records their spans, for callgrind to count what that costs:
//! `span_cost REQUESTS SHARE`, the share in percent, or `off`. There is no exporter, so a buffer that is full is dropped.

use std::hint::black_box;
use std::time::{Duration, Instant};

use telemetry::trace::{Follow, RequestTrace, Sampling, ServerSpan, TraceEndpoint, TraceParams, Tracer, TrySpan};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let requests: u32 = arguments.next().and_then(|text| text.parse().ok()).expect("REQUESTS");
    let share = arguments.next().expect("SHARE");
    let params = share.parse::<f64>().ok().map(params);
    let (tracer, exporter) = Tracer::new(params.as_ref(), 1).expect("a build with the feature `otlp`");
    drop(exporter);
    let mut core = tracer.for_core();
    let now = Instant::now();
    // A walk through all numbers, whose lowest bits are as even as those of a random one and cost less to make.
    let mut random = 0_u128;
    for _ in 0..requests {
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let Some(sampling) = black_box(&core).sampling() else { continue };
        let trace = RequestTrace::begin(sampling, None, false, black_box(random), || random as u64, now);
        let Some(trace) = trace else { continue };
        core.record_try(&trace, &attempt(now));
        core.record_request(&trace, &request(now));
    }
    println!("{}", tracer.totals());
}

fn params(percent: f64) -> TraceParams {
    TraceParams {
        endpoint: TraceEndpoint { host: "127.0.0.1".to_owned(), port: 4318, path: "/v1/traces".to_owned() },
        sampling: Sampling { ratio: percent / 100.0, follow: Follow::Any, client_address: true },
        service_name: "tenfold".to_owned(),
        headers: Vec::new(),
        timeout: Duration::from_secs(10),
    }
}

fn request<'a>(ended: Instant) -> ServerSpan<'a> {
    ServerSpan {
        ended,
        method: b"GET",
        scheme: "http",
        host: b"shop.example.com",
        path: b"/api/cart/items?page=2",
        version: "1.1",
        client: std::net::IpAddr::from([192, 0, 2, 7]),
        user_agent: b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        tracestate: b"",
        status: Some(200),
        grpc_status: None,
        error: None,
        body_received: 0,
        body_sent: 1234,
        listener: "web",
        route: Some("api"),
        pattern: ("/api/", "*"),
        service: Some("backend"),
        request_id: b"0af7651916cd43dd8448eb211c80319c",
    }
}

fn attempt<'a>(now: Instant) -> TrySpan<'a> {
    TrySpan {
        span_id: 0xb7ad_6b71_6920_3331,
        begun: now,
        ended: now,
        method: b"GET",
        scheme: "http",
        version: "1.1",
        endpoint: std::net::SocketAddr::from(([10, 0, 0, 1], 8080)),
        path: b"/api/cart/items?page=2",
        resends: 0,
        status: Some(200),
        grpc_status: None,
        error: None,
        service: "backend",
    }
}
