//! A whole scrape, and the page that documents its families.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use telemetry::encode::{self, CertificateLabels, EndpointLabels, LeaseRow, LimitRow, NameRow, SheddingRow};
use telemetry::{
    AccessLog, AccessLogParams, BreakerState, ConnectionType, EndpointMetrics, Exposition, FailureKind,
    FinishedRequest, HealthChange, LatencyBuckets, Limit, ListenerMetrics, Method, ProcessMetrics, RefusedReason,
    ReloadMetrics, RetryReason, RouteMetrics, ServiceMetrics, ShedClass, ShedResult, TripCause, family,
};
use vocab::ErrorCode;

/// What the gateway keeps, in small.
#[derive(Debug)]
struct Objects {
    route: RouteMetrics,
    listener: ListenerMetrics,
    endpoint: EndpointMetrics,
    service: ServiceMetrics,
}

impl Objects {
    fn new() -> Self {
        Self {
            route: RouteMetrics::new(2),
            listener: ListenerMetrics::new(2),
            endpoint: EndpointMetrics::new(2),
            service: ServiceMetrics::new(2),
        }
    }
}

impl Collector for Objects {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let labels = EndpointLabels { service: "backend", instance: "10.0.0.1:80" };
        let buckets = LatencyBuckets::default();
        encode::routes(&[("api", &self.route)], &buckets, &mut encoder)?;
        encode::routes_in_flight(&[("api", 2)], &mut encoder)?;
        encode::routes_mirrored(&[("api", [5, 1])], &mut encoder)?;
        encode::routes_asked(&[("api", [4, 2, 1])], &mut encoder)?;
        encode::routes_cached(&[("api", [("hit", [2, 20])])], &mut encoder)?;
        encode::cache(
            Some(&encode::CacheRow {
                entries: 1,
                stored: 1,
                evicted: 1,
                purges: 1,
                readers_cut: 1,
                disk: Some(encode::CacheDiskRow {
                    hits: 1,
                    writes: 1,
                    errors: 1,
                    corrupt: 1,
                    transferred: [2, 0],
                    dropped: [0, 1],
                    ..Default::default()
                }),
                ..Default::default()
            }),
            &mut encoder,
        )?;
        let named = encode::NamedCacheRow {
            cache: "sessions".to_owned(),
            commands: vec![("get", 3), ("set", 0)],
            lookups: [2, 1],
            entries: 4,
            connections: 1,
            ..Default::default()
        };
        encode::named_caches(&[named], &mut encoder)?;
        let shop = encode::DatabaseRow {
            database: "shop".to_owned(),
            clients: 2,
            backends: [0, 1, 3],
            pins: vec![("listen", 1)],
            servers: vec![encode::DatabaseServerRow {
                server: "db2.example.com:5432".to_owned(),
                state: "replica",
                takes_reads: true,
                has_lease: Some(false),
                lag_seconds: Some(0.25),
                lag_bytes: Some(4096),
            }],
            ..Default::default()
        };
        encode::databases(&[shop], &mut encoder)?;
        encode::routes_files(&[("api", [9, 8, 7, 6, 5])], &mut encoder)?;
        encode::routes_compressed(&[("api", [1, 2, 3, 90, 30])], ["zstd", "br", "gzip"], &mut encoder)?;
        let leases = LeaseRow { asks: &[("granted", 6), ("empty", 1)], leased: 40, without_store: 2 };
        let requests = &[("allowed", 3), ("refused", 0)];
        let row = LimitRow { limit: "ip", requests, keys: Some(2), displaced: 1, leases: Some(leases) };
        encode::limits(&[row], &mut encoder)?;
        encode::limit_stores(&[("redis://10.0.0.5:6379", true)], &mut encoder)?;
        encode::listeners(&[("web", &self.listener)], &LatencyBuckets::default(), &mut encoder)?;
        let shop = CertificateLabels { listener: "web", host: "shop.example.com" };
        let api = CertificateLabels { host: "api.example.com", ..shop };
        encode::certificates(&[(shop, 1_800_000_000), (api, 0)], &mut encoder)?;
        let orders = self.listener.accepted();
        encode::orders(&[(shop, orders, orders / 2), (api, 0, 0)], &mut encoder)?;
        encode::endpoints(&[(labels, &self.endpoint)], &buckets, &mut encoder)?;
        encode::services(&[("backend", &self.service)], &mut encoder)?;
        encode::breakers(&[("backend", "10.0.0.1:80", BreakerState::HalfOpen)], &mut encoder)?;
        let metrics = &self.service;
        let row = SheddingRow { service: "backend", metrics, limit: 24, in_flight: 20, waiting: 2 };
        encode::shedding(&[row], &mut encoder)?;
        encode::overrides(&[("backend", 1)], &mut encoder)?;
        let lookups = [("success", 4), ("timeout", 0)];
        let name = NameRow { name: "api.example.com", lookups: &lookups, endpoints: 2, resolved_at: 1_800_000_000 };
        encode::names(&[name], &mut encoder)?;
        let connections = [("web", ConnectionType::Client, self.listener.open())];
        encode::active_connections(&connections, &mut encoder)?;
        encode::endpoint_states(&[(labels, true, 3)], &mut encoder)
    }
}

fn page(collector: impl Collector, format: Exposition) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(collector));
    format.page(&registry).expect("a page")
}

/// The rows of a page, without heads.
fn rows(page: &str) -> Vec<&str> {
    page.lines().filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn what_was_counted_on_any_core_is_in_the_rows() {
    let objects = Objects::new();
    let request = |method, status, micros| FinishedRequest { method, status, micros, body_received: 7, body_sent: 50 };
    objects.route.record(0, &request(Method::Get, 200, 400));
    objects.route.record(1, &request(Method::Get, 200, 3_000));
    objects.route.record(1, &request(Method::Post, 599, 20_000_000));
    objects.listener.opened(0);
    objects.listener.opened(1);
    objects.listener.closed(0);
    objects.listener.refused(1, RefusedReason::ConnectionsMax);
    objects.listener.error(0, ErrorCode::NoRoute);
    objects.listener.received(0, 100);
    objects.listener.sent(1, 250);
    objects.endpoint.response(0, 503, 700);
    objects.endpoint.failure(1, FailureKind::ConnectTimeout);
    objects.endpoint.connected(0);
    objects.endpoint.reused(0);
    objects.endpoint.checked(true);
    objects.endpoint.health_changed(HealthChange::Ejected);
    objects.service.retried(0, RetryReason::Status);
    objects.service.retry_refused(1);
    objects.service.pick_failed(0);
    objects.service.breaker_tripped(0, TripCause::SlowRate);
    objects.service.breaker_refused(1);
    objects.service.limited(1, Limit::Retries);
    objects.service.fell_back(0);
    objects.service.shed(1, ShedClass::Low, ShedResult::Late);
    assert_eq!((objects.route.requests(), objects.endpoint.requests()), (3, 2));

    let page = page(objects, Exposition::OpenMetrics);
    let rows = rows(&page);
    let expected = [
        "http_requests_total{method=\"GET\",endpoint=\"api\",status=\"200\"} 2",
        "http_requests_total{method=\"POST\",endpoint=\"api\",status=\"other\"} 1",
        "http_request_duration_seconds_count{method=\"GET\",endpoint=\"api\"} 2",
        "http_request_duration_seconds_sum{method=\"GET\",endpoint=\"api\"} 0.0034",
        "http_request_duration_seconds_bucket{le=\"0.0005\",method=\"GET\",endpoint=\"api\"} 1",
        "http_request_duration_seconds_bucket{le=\"0.005\",method=\"GET\",endpoint=\"api\"} 2",
        "http_request_duration_seconds_bucket{le=\"10.0\",method=\"POST\",endpoint=\"api\"} 0",
        "http_request_duration_seconds_bucket{le=\"30.0\",method=\"POST\",endpoint=\"api\"} 1",
        "http_request_body_bytes_total{method=\"GET\",endpoint=\"api\"} 14",
        "http_request_body_bytes_total{method=\"POST\",endpoint=\"api\"} 7",
        "http_response_body_bytes_total{method=\"GET\",endpoint=\"api\"} 100",
        "http_response_body_bytes_total{method=\"POST\",endpoint=\"api\"} 50",
        "breaker_trips_total{service=\"backend\",cause=\"slow_rate\"} 1",
        "breaker_refusals_total{service=\"backend\"} 1",
        "breaker_state{service=\"backend\",instance=\"10.0.0.1:80\",state=\"half_open\"} 1",
        "breaker_state{service=\"backend\",instance=\"10.0.0.1:80\",state=\"open\"} 0",
        "breaker_state{service=\"backend\",instance=\"10.0.0.1:80\",state=\"closed\"} 0",
        "breaker_state{service=\"backend\",instance=\"10.0.0.1:80\",state=\"forced_open\"} 0",
        "breaker_state{service=\"backend\",instance=\"10.0.0.1:80\",state=\"forced_closed\"} 0",
        "service_limited_total{service=\"backend\",limit=\"retries_max\"} 1",
        "service_fallbacks_total{service=\"backend\"} 1",
        "shedding_requests_total{service=\"backend\",class=\"low\",result=\"late\"} 1",
        "shedding_limit{service=\"backend\"} 24",
        "shedding_in_flight{service=\"backend\"} 20",
        "shedding_waiting{service=\"backend\"} 2",
        "http_requests_in_flight{endpoint=\"api\"} 2",
        "http_requests_mirrored_total{endpoint=\"api\",result=\"sent\"} 5",
        "http_requests_mirrored_total{endpoint=\"api\",result=\"dropped\"} 1",
        "http_forward_auth_total{endpoint=\"api\",result=\"allowed\"} 4",
        "http_forward_auth_total{endpoint=\"api\",result=\"denied\"} 2",
        "http_forward_auth_total{endpoint=\"api\",result=\"failed\"} 1",
        "cache_requests_total{endpoint=\"api\",result=\"hit\"} 2",
        "cache_sent_bytes_total{endpoint=\"api\",result=\"hit\"} 20",
        "cache_entries 1",
        "cache_memory_bytes 0",
        "cache_memory_max_bytes 0",
        "cache_fetches 0",
        "cache_stored_total 1",
        "cache_evicted_total 1",
        "cache_purges_total 1",
        "cache_readers_cut_total 1",
        "cache_disk_up 0",
        "cache_disk_entries 0",
        "cache_disk_bytes 0",
        "cache_disk_max_bytes 0",
        "cache_disk_hits_total 1",
        "cache_disk_writes_total 1",
        "cache_disk_errors_total 1",
        "cache_disk_corrupt_total 1",
        "cache_disk_transferred_bytes_total{direction=\"read\"} 2",
        "cache_disk_dropped_total{direction=\"written\"} 1",
        "named_cache_commands_total{cache=\"sessions\",command=\"get\"} 3",
        "named_cache_lookups_total{cache=\"sessions\",result=\"hit\"} 2",
        "named_cache_lookups_total{cache=\"sessions\",result=\"miss\"} 1",
        "named_cache_entries{cache=\"sessions\"} 4",
        "named_cache_memory_bytes{cache=\"sessions\"} 0",
        "named_cache_memory_max_bytes{cache=\"sessions\"} 0",
        "named_cache_connections{cache=\"sessions\"} 1",
        "database_pins_total{database=\"shop\",reason=\"listen\"} 1",
        "database_backends{database=\"shop\",state=\"opening\"} 0",
        "database_backends{database=\"shop\",state=\"idle\"} 1",
        "database_backends{database=\"shop\",state=\"lent\"} 3",
        "database_clients{database=\"shop\"} 2",
        "database_waiting{database=\"shop\"} 0",
        "database_sessions_pinned{database=\"shop\"} 0",
        "database_subscribers{database=\"shop\"} 0",
        "database_prepared_entries{database=\"shop\"} 0",
        "database_sessions_pinned_ratio{database=\"shop\"} 0.0",
        "database_server_state{database=\"shop\",server=\"db2.example.com:5432\",state=\"primary\"} 0",
        "database_server_state{database=\"shop\",server=\"db2.example.com:5432\",state=\"replica\"} 1",
        "database_server_state{database=\"shop\",server=\"db2.example.com:5432\",state=\"unknown\"} 0",
        "database_server_state{database=\"shop\",server=\"db2.example.com:5432\",state=\"foreign\"} 0",
        "database_server_state{database=\"shop\",server=\"db2.example.com:5432\",state=\"old\"} 0",
        "database_server_takes_reads{database=\"shop\",server=\"db2.example.com:5432\"} 1",
        "database_server_has_lease{database=\"shop\",server=\"db2.example.com:5432\"} 0",
        "database_replica_lag_seconds{database=\"shop\",server=\"db2.example.com:5432\"} 0.25",
        "database_replica_lag_bytes{database=\"shop\",server=\"db2.example.com:5432\"} 4096",
        "http_files_total{endpoint=\"api\",result=\"memory\"} 9",
        "http_files_total{endpoint=\"api\",result=\"disk\"} 8",
        "http_files_total{endpoint=\"api\",result=\"missing\"} 7",
        "http_files_total{endpoint=\"api\",result=\"refused\"} 6",
        "http_files_total{endpoint=\"api\",result=\"failed\"} 5",
        "http_responses_compressed_total{endpoint=\"api\",coding=\"zstd\"} 1",
        "http_responses_compressed_total{endpoint=\"api\",coding=\"br\"} 2",
        "http_responses_compressed_total{endpoint=\"api\",coding=\"gzip\"} 3",
        "http_compression_bytes_total{endpoint=\"api\",side=\"before\"} 90",
        "http_compression_bytes_total{endpoint=\"api\",side=\"after\"} 30",
        "limit_requests_total{limit=\"ip\",result=\"allowed\"} 3",
        "limit_keys{limit=\"ip\"} 2",
        "limit_keys_displaced_total{limit=\"ip\"} 1",
        "limit_leases_total{limit=\"ip\",result=\"granted\"} 6",
        "limit_leases_total{limit=\"ip\",result=\"empty\"} 1",
        "limit_leased_total{limit=\"ip\"} 40",
        "limit_requests_without_store_total{limit=\"ip\"} 2",
        "limit_store_up{store=\"redis://10.0.0.5:6379\"} 1",
        "service_overrides{service=\"backend\"} 1",
        "resolver_lookups_total{name=\"api.example.com\",result=\"success\"} 4",
        "resolver_endpoints{name=\"api.example.com\"} 2",
        "resolver_last_success_timestamp_seconds{name=\"api.example.com\"} 1800000000",
        "listener_connections_accepted_total{listener=\"web\"} 2",
        "listener_connections_refused_total{listener=\"web\",reason=\"connections_max\"} 1",
        "listener_errors_total{listener=\"web\",code=\"no_route\"} 1",
        "listener_received_bytes_total{listener=\"web\"} 100",
        "listener_sent_bytes_total{listener=\"web\"} 250",
        "tls_certificate_not_after_timestamp_seconds{listener=\"web\",host=\"shop.example.com\"} 1800000000",
        "tls_certificate_not_after_timestamp_seconds{listener=\"web\",host=\"api.example.com\"} 0",
        "acme_orders_total{listener=\"web\",host=\"shop.example.com\",result=\"success\"} 2",
        "acme_orders_total{listener=\"web\",host=\"shop.example.com\",result=\"failure\"} 1",
        "upstream_responses_total{service=\"backend\",instance=\"10.0.0.1:80\",class=\"5xx\"} 1",
        "upstream_failures_total{service=\"backend\",instance=\"10.0.0.1:80\",kind=\"connect_timeout\"} 1",
        "upstream_response_duration_seconds_count{service=\"backend\",instance=\"10.0.0.1:80\"} 1",
        "upstream_connects_total{service=\"backend\",instance=\"10.0.0.1:80\"} 1",
        "upstream_connection_reuses_total{service=\"backend\",instance=\"10.0.0.1:80\"} 1",
        "upstream_health_checks_total{service=\"backend\",instance=\"10.0.0.1:80\",result=\"passed\"} 1",
        "upstream_health_changes_total{service=\"backend\",instance=\"10.0.0.1:80\",change=\"ejected\"} 1",
        "service_retries_total{service=\"backend\",reason=\"status\"} 1",
        "service_retries_refused_total{service=\"backend\"} 1",
        "service_pick_failures_total{service=\"backend\"} 1",
        "active_connections{service=\"web\",type=\"client\"} 1",
        "upstream_healthy{service=\"backend\",instance=\"10.0.0.1:80\"} 1",
        "upstream_in_flight{service=\"backend\",instance=\"10.0.0.1:80\"} 3",
    ];
    for row in expected {
        assert!(rows.contains(&row), "{row} is not in\n{page}");
    }
    // Beside these: three histograms with two plain rows and 17 buckets each, seven of whose rows are expected above.
    assert_eq!(rows.len(), expected.len() + 3 * (2 + 17) - 7, "{page}");
}

#[test]
fn what_never_happened_has_no_row() {
    let page = page(Objects::new(), Exposition::OpenMetrics);
    assert_eq!(
        rows(&page),
        [
            "http_requests_in_flight{endpoint=\"api\"} 2",
            "http_requests_mirrored_total{endpoint=\"api\",result=\"sent\"} 5",
            "http_requests_mirrored_total{endpoint=\"api\",result=\"dropped\"} 1",
            "http_forward_auth_total{endpoint=\"api\",result=\"allowed\"} 4",
            "http_forward_auth_total{endpoint=\"api\",result=\"denied\"} 2",
            "http_forward_auth_total{endpoint=\"api\",result=\"failed\"} 1",
            "cache_requests_total{endpoint=\"api\",result=\"hit\"} 2",
            "cache_sent_bytes_total{endpoint=\"api\",result=\"hit\"} 20",
            "cache_entries 1",
            "cache_memory_bytes 0",
            "cache_memory_max_bytes 0",
            "cache_fetches 0",
            "cache_stored_total 1",
            "cache_evicted_total 1",
            "cache_purges_total 1",
            "cache_readers_cut_total 1",
            "cache_disk_up 0",
            "cache_disk_entries 0",
            "cache_disk_bytes 0",
            "cache_disk_max_bytes 0",
            "cache_disk_hits_total 1",
            "cache_disk_writes_total 1",
            "cache_disk_errors_total 1",
            "cache_disk_corrupt_total 1",
            "cache_disk_transferred_bytes_total{direction=\"read\"} 2",
            "cache_disk_dropped_total{direction=\"written\"} 1",
            "named_cache_commands_total{cache=\"sessions\",command=\"get\"} 3",
            "named_cache_lookups_total{cache=\"sessions\",result=\"hit\"} 2",
            "named_cache_lookups_total{cache=\"sessions\",result=\"miss\"} 1",
            "named_cache_entries{cache=\"sessions\"} 4",
            "named_cache_memory_bytes{cache=\"sessions\"} 0",
            "named_cache_memory_max_bytes{cache=\"sessions\"} 0",
            "named_cache_connections{cache=\"sessions\"} 1",
            "database_pins_total{database=\"shop\",reason=\"listen\"} 1",
            "database_backends{database=\"shop\",state=\"opening\"} 0",
            "database_backends{database=\"shop\",state=\"idle\"} 1",
            "database_backends{database=\"shop\",state=\"lent\"} 3",
            "database_clients{database=\"shop\"} 2",
            "database_waiting{database=\"shop\"} 0",
            "database_sessions_pinned{database=\"shop\"} 0",
            "database_subscribers{database=\"shop\"} 0",
            "database_prepared_entries{database=\"shop\"} 0",
            "database_sessions_pinned_ratio{database=\"shop\"} 0.0",
            "database_server_state{database=\"shop\",server=\"db2.example.com:5432\",state=\"primary\"} 0",
            "database_server_state{database=\"shop\",server=\"db2.example.com:5432\",state=\"replica\"} 1",
            "database_server_state{database=\"shop\",server=\"db2.example.com:5432\",state=\"unknown\"} 0",
            "database_server_state{database=\"shop\",server=\"db2.example.com:5432\",state=\"foreign\"} 0",
            "database_server_state{database=\"shop\",server=\"db2.example.com:5432\",state=\"old\"} 0",
            "database_server_takes_reads{database=\"shop\",server=\"db2.example.com:5432\"} 1",
            "database_server_has_lease{database=\"shop\",server=\"db2.example.com:5432\"} 0",
            "database_replica_lag_seconds{database=\"shop\",server=\"db2.example.com:5432\"} 0.25",
            "database_replica_lag_bytes{database=\"shop\",server=\"db2.example.com:5432\"} 4096",
            "http_files_total{endpoint=\"api\",result=\"memory\"} 9",
            "http_files_total{endpoint=\"api\",result=\"disk\"} 8",
            "http_files_total{endpoint=\"api\",result=\"missing\"} 7",
            "http_files_total{endpoint=\"api\",result=\"refused\"} 6",
            "http_files_total{endpoint=\"api\",result=\"failed\"} 5",
            "http_responses_compressed_total{endpoint=\"api\",coding=\"zstd\"} 1",
            "http_responses_compressed_total{endpoint=\"api\",coding=\"br\"} 2",
            "http_responses_compressed_total{endpoint=\"api\",coding=\"gzip\"} 3",
            "http_compression_bytes_total{endpoint=\"api\",side=\"before\"} 90",
            "http_compression_bytes_total{endpoint=\"api\",side=\"after\"} 30",
            "limit_requests_total{limit=\"ip\",result=\"allowed\"} 3",
            "limit_keys{limit=\"ip\"} 2",
            "limit_keys_displaced_total{limit=\"ip\"} 1",
            "limit_leases_total{limit=\"ip\",result=\"granted\"} 6",
            "limit_leases_total{limit=\"ip\",result=\"empty\"} 1",
            "limit_leased_total{limit=\"ip\"} 40",
            "limit_requests_without_store_total{limit=\"ip\"} 2",
            "limit_store_up{store=\"redis://10.0.0.5:6379\"} 1",
            "tls_certificate_not_after_timestamp_seconds{listener=\"web\",host=\"shop.example.com\"} 1800000000",
            "tls_certificate_not_after_timestamp_seconds{listener=\"web\",host=\"api.example.com\"} 0",
            "breaker_state{service=\"backend\",instance=\"10.0.0.1:80\",state=\"closed\"} 0",
            "breaker_state{service=\"backend\",instance=\"10.0.0.1:80\",state=\"open\"} 0",
            "breaker_state{service=\"backend\",instance=\"10.0.0.1:80\",state=\"half_open\"} 1",
            "breaker_state{service=\"backend\",instance=\"10.0.0.1:80\",state=\"forced_open\"} 0",
            "breaker_state{service=\"backend\",instance=\"10.0.0.1:80\",state=\"forced_closed\"} 0",
            "shedding_limit{service=\"backend\"} 24",
            "shedding_in_flight{service=\"backend\"} 20",
            "shedding_waiting{service=\"backend\"} 2",
            "service_overrides{service=\"backend\"} 1",
            "resolver_lookups_total{name=\"api.example.com\",result=\"success\"} 4",
            "resolver_endpoints{name=\"api.example.com\"} 2",
            "resolver_last_success_timestamp_seconds{name=\"api.example.com\"} 1800000000",
            "active_connections{service=\"web\",type=\"client\"} 0",
            "upstream_healthy{service=\"backend\",instance=\"10.0.0.1:80\"} 1",
            "upstream_in_flight{service=\"backend\",instance=\"10.0.0.1:80\"} 3",
        ]
    );
}

#[test]
fn every_family_of_the_table_is_scraped_under_its_name() {
    let reloads = ReloadMetrics::default();
    reloads.started(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    reloads.failed();
    let log = AccessLog::start(&AccessLogParams::default(), 1).expect("the log starts");
    let program_log = telemetry::init_logs(&telemetry::LogParams::default()).expect("the only log of this process");
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Objects::new()));
    registry.register_collector(Box::new(reloads));
    registry.register_collector(Box::new(log));
    registry.register_collector(Box::new(program_log));
    let (tracer, _exporter) = telemetry::trace::Tracer::new(None, 1).expect("no traces");
    registry.register_collector(Box::new(tracer));
    registry.register_collector(Box::new(ProcessMetrics::new("1.2.3")));
    let page = Exposition::Classic.page(&registry).expect("a page");

    let kind = |family: &family::Family| match family.kind() {
        family::Kind::Info => "gauge",
        other => other.as_str(),
    };
    let mut expected: Vec<String> = family::ALL.iter().map(|f| format!("# TYPE {} {}", f.name(), kind(f))).collect();
    let mut found: Vec<&str> = page.lines().filter(|line| line.starts_with("# TYPE")).collect();
    expected.sort();
    found.sort_unstable();
    assert_eq!(found, expected);
    assert!(page.contains("\ntenfold_build_info{version=\"1.2.3\"} 1\n"), "{page}");
    assert!(page.contains("\nconfig_reloads_total{result=\"failure\"} 1\n"), "{page}");
    assert!(page.contains("\nconfig_last_reload_success_timestamp_seconds 1700000000.0\n"), "{page}");
}

#[test]
fn the_process_measures_itself() {
    let before = std::time::SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let page = page(ProcessMetrics::new("1"), Exposition::OpenMetrics);
    let value = |name: &str| -> f64 {
        let row = rows(&page).into_iter().find(|row| row.starts_with(&format!("{name} ")));
        row.unwrap_or_else(|| panic!("no {name} in\n{page}"))
            .split_once(' ')
            .expect("a value")
            .1
            .parse()
            .expect("a number")
    };
    assert!(value("process_resident_memory_bytes") > 500_000.0, "{page}");
    assert!(value("process_open_fds") >= 3.0, "{page}");
    assert!(value("process_max_fds") >= value("process_open_fds"), "{page}");
    assert!(value("process_cpu_seconds_total") >= 0.0, "{page}");
    let age = before - value("process_start_time_seconds");
    assert!((-2.0..3_600.0).contains(&age), "started {age} s ago");
}

#[test]
fn the_documentation_lists_every_family() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let text = std::fs::read_to_string(path).expect("docs/metrics.md");
    let table: String = text.lines().filter(|line| line.starts_with('|')).map(|line| format!("{line}\n")).collect();
    assert_eq!(table, family::markdown(), "make the table anew: cargo run -p telemetry --example families");
}
