//! Traces as endpoints and collectors see them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use testkit::{
    Authority, Collector, Curl, Load, LoadParams, Origin, RawUpstream, Script, Span, Step, TempDir, Tenfold,
};

use crate::site::{config, dead_address, get, only_request, site, start};

const SOON: Duration = Duration::from_secs(10);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// A site with traces, whose table `[trace]` goes on with `keys`.
fn traced(collector: SocketAddr, keys: &str, endpoints: &[SocketAddr], service: &str) -> Tenfold {
    start(&format!("[trace]\nendpoint = \"http://{collector}\"\n{keys}\n{}", config(endpoints, service)))
}

/// The fields of a request that belongs to a trace.
fn parent(flags: &str) -> String {
    format!("traceparent: 00-{TRACE}-{SPAN}-{flags}\r\ntracestate: vendor=1,other=2\r\n")
}

/// The parts of the `traceparent` that the only request to an upstream bore: trace, span, flags.
fn sent_parts(upstream: &RawUpstream) -> (String, String, String) {
    let request = only_request(upstream);
    let value = request.fields.get("traceparent").unwrap().to_owned();
    let parts: Vec<&str> = value.split('-').collect();
    assert_eq!((parts.len(), parts[0]), (4, "00"), "{value}");
    (parts[1].to_owned(), parts[2].to_owned(), parts[3].to_owned())
}

/// The server's span and those of the tries, in the order of their beginnings.
fn family(spans: &[Span]) -> (&Span, Vec<&Span>) {
    let (servers, mut clients): (Vec<_>, Vec<_>) = spans.iter().partition(|span| span.is_server);
    let [server] = servers[..] else { panic!("{spans:#?}") };
    for client in &clients {
        assert_eq!((&client.trace_id, &client.parent_id), (&server.trace_id, &server.span_id));
        assert!(server.start <= client.start && client.start <= client.end && client.end <= server.end, "{spans:#?}");
    }
    clients.sort_by_key(|span| span.start);
    (server, clients)
}

#[test]
fn a_trace_goes_through_the_gateway_span_by_span() {
    let (collector, upstream) = (Collector::start().unwrap(), RawUpstream::start(Script::ok("hello")).unwrap());
    let site = traced(collector.address(), "service_name = \"edge\"", &[upstream.address()], "");
    get(&site, "/cart?token=secret", &parent("01"));
    let spans = collector.wait_for(2).unwrap();
    let (server, tries) = family(&spans);
    assert_eq!((server.trace_id.as_str(), server.parent_id.as_str()), (TRACE, SPAN));
    assert_eq!((server.name.as_str(), server.service.as_str()), ("GET /*", "edge"));
    assert_eq!((server.attribute("url.path"), server.attribute("http.route")), ("/cart", "/*"));
    assert_eq!(server.attribute("http.response.status_code"), "200");
    assert_eq!(server.attribute("client.address"), "127.0.0.1");
    assert_eq!(server.attribute("server.address"), "shop.example.com");
    assert_eq!(server.trace_state, "vendor=1,other=2");
    assert_eq!(tries.len(), 1);
    assert_eq!(tries[0].attribute("server.port"), upstream.address().port().to_string());
    // The endpoint's parent is the try, and what other systems said goes on.
    let (trace, span, flags) = sent_parts(&upstream);
    assert_eq!((trace.as_str(), &span, flags.as_str()), (TRACE, &tries[0].span_id, "01"));
    assert_eq!(only_request(&upstream).fields.get("tracestate"), Some("vendor=1,other=2"));
    site.wait_until("counted", |site| Ok(site.metric("trace_spans_total", &[])? == 2.0)).unwrap();
}

#[test]
fn a_trace_that_begins_here_has_the_request_s_id() {
    let (collector, upstream) = (Collector::start().unwrap(), RawUpstream::start(Script::ok("")).unwrap());
    let site = traced(collector.address(), "sample = \"100%\"\nclient_address = false", &[upstream.address()], "");
    // What is not well-formed is no trace, and its state goes with it.
    get(&site, "/", &parent("zz"));
    let spans = collector.wait_for(2).unwrap();
    let (server, tries) = family(&spans);
    let request = only_request(&upstream);
    assert_eq!(request.fields.get("x-request-id"), Some(server.trace_id.as_str()));
    assert_eq!(request.fields.get("tracestate"), None);
    assert_eq!((server.parent_id.as_str(), server.attribute("client.address")), ("", ""));
    assert_eq!(sent_parts(&upstream), (server.trace_id.clone(), tries[0].span_id.clone(), "01".to_owned()));
}

#[test]
fn each_try_is_a_span_of_its_own() {
    let collector = Collector::start().unwrap();
    let busy = RawUpstream::start(Script::answer("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")).unwrap();
    let good = RawUpstream::start(Script::ok("")).unwrap();
    let endpoints = [dead_address(), busy.address(), good.address()];
    let service = "balance = \"round_robin\"\npassive_health = \"off\"\n\
                   retry = { on = [\"error\", \"http_503\"], backoff = { base = \"0s\" } }";
    let site = traced(collector.address(), "sample = \"100%\"", &endpoints, service);
    let mut total = 0;
    for _ in 0..3 {
        assert_eq!(get(&site, "/", "").status, 200);
    }
    // Whatever the first endpoint was, each request's tries end with the one that answers.
    site.wait_until("exported", |site| {
        total = site.metric("trace_spans_total", &[])? as usize;
        Ok(collector.spans()?.iter().filter(|span| span.is_server).count() == 3)
    })
    .unwrap();
    let spans = collector.spans().unwrap();
    let mut traces: Vec<&str> = spans.iter().map(|span| span.trace_id.as_str()).collect();
    traces.sort_unstable();
    traces.dedup();
    assert_eq!(traces.len(), 3);
    let mut longest = 0;
    for trace in traces {
        let of_trace: Vec<Span> = spans.iter().filter(|span| span.trace_id == trace).cloned().collect();
        let (server, tries) = family(&of_trace);
        assert!(!server.is_error, "{server:#?}");
        longest = longest.max(tries.len());
        for (number, span) in tries.iter().enumerate() {
            let resends = if number == 0 { String::new() } else { number.to_string() };
            assert_eq!(span.attribute("http.request.resend_count"), resends);
            let expected = match span.attribute("server.port").parse::<u16>().unwrap() {
                port if port == busy.address().port() => ("503", "503", true),
                port if port == good.address().port() => ("200", "", false),
                _ => ("", "upstream_connect", true),
            };
            let found = (span.attribute("http.response.status_code"), span.attribute("error.type"), span.is_error);
            assert_eq!(found, expected);
        }
        let last = tries.last().unwrap();
        assert!(good.requests().unwrap().iter().any(|request| {
            let value = request.fields.get("traceparent").unwrap();
            value == format!("00-{trace}-{}-01", last.span_id)
        }));
    }
    assert_eq!(longest, 3, "some request tried all of them: {spans:#?}");
}

#[test]
fn what_is_not_sampled_leaves_no_span_and_says_so() {
    let check = |keys: &str, fields: &str, expected: &dyn Fn(&str, &str, &str) -> bool| {
        let (collector, upstream) = (Collector::start().unwrap(), RawUpstream::start(Script::ok("")).unwrap());
        let mut site = traced(collector.address(), keys, &[upstream.address()], "");
        get(&site, "/", fields);
        site.process().stop(SOON).unwrap();
        assert_eq!(collector.spans().unwrap(), [], "{keys} {fields}");
        let (trace, span, flags) = sent_parts(&upstream);
        assert!(expected(&trace, &span, &flags), "{keys} {fields}: {trace} {span} {flags}");
    };
    check("sample = \"0%\"", "", &|trace, _, flags| trace != TRACE && flags == "00");
    check("sample = \"100%\"", &parent("00"), &|trace, span, flags| (trace, span, flags) == (TRACE, SPAN, "00"));
    // A flag that nobody follows is not passed on.
    let ignored = |trace: &str, span: &str, flags: &str| (trace, flags) == (TRACE, "00") && span != SPAN;
    check("sample = \"0%\"\nfollow = \"none\"", &parent("01"), &ignored);
    check("sample = \"0%\"\nfollow = \"trusted\"", &parent("01"), &ignored);
}

#[test]
fn a_trusted_proxy_s_decision_is_followed() {
    let (collector, origin) = (Collector::start().unwrap(), Origin::start("a").unwrap());
    let text = config(&[origin.address()], "").replace("[[route]]", "trusted_proxies = [\"127.0.0.0/8\"]\n[[route]]");
    let trace =
        format!("[trace]\nendpoint = \"http://{}\"\nsample = \"0%\"\nfollow = \"trusted\"\n", collector.address());
    let site = start(&format!("{trace}{text}"));
    get(&site, "/", &format!("{}X-Forwarded-For: 192.0.2.7\r\n", parent("01")));
    let spans = collector.wait_for(2).unwrap();
    assert_eq!(family(&spans).0.attribute("client.address"), "192.0.2.7");
}

#[test]
fn chance_samples_about_the_share_that_was_asked_for() {
    let (collector, origin) = (Collector::start().unwrap(), Origin::start("a").unwrap());
    let mut site = traced(collector.address(), "sample = \"25%\"", &[origin.address()], "");
    let load = Load::start(&LoadParams { connections: 8, ..LoadParams::new(site.address()) });
    site.wait_until("enough", |_| Ok(load.counts().ok >= 4_000)).unwrap();
    let requests = load.stop().counts.ok;
    site.process().stop(SOON).unwrap();
    let spans = collector.spans().unwrap();
    let sampled = spans.iter().filter(|span| span.is_server).count();
    assert_eq!(spans.len(), 2 * sampled, "each has one try");
    // Six standard deviations of a binomial distribution: one run in 500 million fails by chance.
    let (expected, deviation) = (requests as f64 * 0.25, (requests as f64 * 0.25 * 0.75).sqrt());
    assert!((sampled as f64 - expected).abs() < 6.0 * deviation, "{sampled} of {requests}");
}

/// Loads a site that traces everything to a collector of this kind; nothing of it may reach a client.
fn harmless(collector: SocketAddr) {
    let origin = Origin::start("a").unwrap();
    let mut site = traced(collector, "sample = \"100%\"\ntimeout = \"500ms\"", &[origin.address()], "");
    let load = Load::start(&LoadParams { connections: 16, ..LoadParams::new(site.address()) });
    let dropped = |site: &Tenfold| site.metric("trace_spans_dropped_total", &["reason=\"queue_full\""]);
    site.wait_until("dropped", |site| Ok(dropped(site)? > 0.0)).unwrap();
    let report = load.stop();
    assert_eq!(report.failures, Vec::<String>::new());
    assert!(report.latency.percentile(0.99) < 500_000, "{} us", report.latency.percentile(0.99));
    assert_eq!(site.metric("trace_spans_total", &[]).unwrap(), 0.0);
    site.wait_until("an error", |site| Ok(site.metric("trace_export_errors_total", &[])? > 0.0)).unwrap();
    let begun = Instant::now();
    assert!(site.process().stop(SOON).unwrap().success());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_collector_that_is_not_there_harms_nobody() {
    harmless(dead_address());
}

#[test]
fn a_collector_that_never_answers_harms_nobody() {
    let silent = RawUpstream::start(Script::new([Step::Drain])).unwrap();
    harmless(silent.address());
}

#[test]
fn a_request_over_http_2_under_tls_is_told_as_such() {
    let (collector, origin) = (Collector::start().unwrap(), Origin::start("a").unwrap());
    let authority = Authority::new("test").unwrap();
    let issued = authority.issue("shop", &["shop.example.com"]).unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("access.log");
    let text = config(&[origin.address()], "").replace(
        "[[route]]",
        &format!("tls = {{ certificate = {:?}, key = {:?} }}\n[[route]]", issued.certificate, issued.key),
    );
    let head = format!(
        "[log]\naccess = \"{}\"\naccess_format = \"combined\"\n[trace]\nendpoint = \"http://{}\"\n",
        file.display(),
        collector.address()
    );
    let mut site = start(&format!("{head}{text}"));
    let port = site.address().port();
    let curl = Curl::default().resolve("shop.example.com", port).with("--cacert", authority.file());
    let answer = curl
        .flag("--http2")
        .with("--header", format!("traceparent: 00-{TRACE}-{SPAN}-01"))
        .with("--user-agent", "probe/2")
        .get(&format!("https://shop.example.com:{port}/"))
        .unwrap();
    assert_eq!((answer.status, answer.version.as_str()), (200, "2"), "{answer:?}");
    let spans = collector.wait_for(2).unwrap();
    let (server, tries) = family(&spans);
    assert_eq!((server.trace_id.as_str(), server.parent_id.as_str()), (TRACE, SPAN));
    let told = |span: &Span, key: &str| span.attribute(key).to_owned();
    let of_server = ["url.scheme", "network.protocol.version", "server.address", "user_agent.original"];
    assert_eq!(of_server.map(|key| told(server, key)), ["https", "2", "shop.example.com", "probe/2"]);
    assert_eq!(told(tries[0], "network.protocol.version"), "1.1");
    assert_eq!(told(tries[0], "url.full"), format!("http://{}/", origin.address()));
    site.process().stop(SOON).unwrap();
    let line = std::fs::read_to_string(&file).unwrap();
    assert!(line.contains("\"GET / HTTP/2.0\" 200 ") && line.ends_with(" \"-\" \"probe/2\"\n"), "{line}");
}

#[test]
fn a_reload_begins_and_ends_traces() {
    let (collector, origin) = (Collector::start().unwrap(), Origin::start("a").unwrap());
    let text = config(&[origin.address()], "");
    let mut site = start(&text);
    let reloads = |site: &Tenfold| site.metric("config_reloads_total", &["result=\"success\""]);
    get(&site, "/", &parent("01"));
    site.reload(&format!("[trace]\nendpoint = \"http://{}\"\n{text}", collector.address())).unwrap();
    site.wait_until("reloaded", |site| Ok(reloads(site)? == 1.0)).unwrap();
    get(&site, "/", &parent("01"));
    collector.wait_for(2).unwrap();
    site.reload(&text).unwrap();
    site.wait_until("reloaded", |site| Ok(reloads(site)? == 2.0)).unwrap();
    get(&site, "/", &parent("01"));
    site.process().stop(SOON).unwrap();
    assert_eq!(collector.spans().unwrap().len(), 2);
}

#[test]
fn without_traces_a_trace_goes_through_untouched() {
    let upstream = RawUpstream::start(Script::ok("")).unwrap();
    let site = site(&[upstream.address()], "");
    get(&site, "/", &parent("01"));
    assert_eq!(sent_parts(&upstream), (TRACE.to_owned(), SPAN.to_owned(), "01".to_owned()));
}
