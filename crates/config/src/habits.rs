//! What people write who come from other programs, and what stands for it here.

use std::sync::LazyLock;

/// Keys of other programs and what to write instead.
const FOREIGN: &[(&[&str], &str)] = &[
    (
        &["upstream", "upstreams", "backend", "backends", "cluster", "clusters", "services"],
        "write [service.NAME] with endpoints = [\"HOST:PORT\"]",
    ),
    (
        &["server", "servers", "frontend", "frontends", "entrypoints", "entryPoints", "listen", "port", "bind", "http"],
        "write [listener.NAME] with listen = \"0.0.0.0:8080\"",
    ),
    (
        &["location", "locations", "routes", "router", "routers", "rule", "rules"],
        "write [[route]] with path and service",
    ),
    (&["listeners"], "write [listener.NAME]"),
    (
        &["postgres", "postgresql", "pgbouncer", "pools", "db"],
        "write [database.NAME] with primary = \"postgres://HOST/DATABASE\"",
    ),
    (
        &["resolvers", "dns", "nameserver", "nameservers", "name_servers"],
        "write [resolver] with servers = [\"10.0.0.53\"]; by default those of /etc/resolv.conf are asked",
    ),
    (
        &["rate_limit", "rate_limits", "limits", "limit_req_zone", "ratelimit"],
        "write [limit.NAME] with rate = \"100/s\", and limit = \"NAME\" in a route",
    ),
    (&["worker_processes", "threads", "nbthread", "nbproc"], "write workers = 2 in [runtime]"),
    (&["access_log", "error_log", "logging", "accessLog"], "write [log] with access = \"stdout\""),
    (
        &["tracing", "traces", "otel", "otlp", "opentelemetry", "telemetry", "zipkin", "jaeger"],
        "write [trace] with endpoint = \"http://127.0.0.1:4318\"",
    ),
    (&["prometheus", "dashboard", "api", "stats"], "write [admin] with listen = \"127.0.0.1:9900\""),
];

/// The same within a table, by the beginning of the table's label.
const FOREIGN_WITHIN: &[(&str, &[&str], &str)] = &[
    (
        "`[service.NAME]`",
        &["resolve_interval", "resolve", "resolver", "resolvers", "dns", "dns_refresh_rate", "valid"],
        "remove it: names are resolved again when their answers say so, within ttl_min and ttl_max of [resolver]",
    ),
    (
        "`[service.NAME]`",
        &["srv", "endpoints_dns", "dns_srv", "server_template"],
        "write endpoints = [\"_http._tcp.api.internal\"]",
    ),
    (
        "`[resolver]`",
        &["nameserver", "nameservers", "server", "name_servers", "dns"],
        "write servers = [\"10.0.0.53\"]",
    ),
    ("`[resolver]`", &["valid", "hold", "hold_valid", "refresh", "interval"], "write ttl_max = \"10s\""),
    ("`[resolver]`", &["ipv6", "ipv4", "ip_version", "prefer_ipv4", "lookup_family"], "write family = \"ipv4\""),
    ("`[[route]]`", &["proxy_pass", "backend", "upstream", "use_backend", "to", "target"], "write service = \"NAME\""),
    ("`[[route]]`", &["regex", "regexp", "path_regexp", "expression"], "write path_regex = \"/users/[0-9]+\""),
    ("`[[route]]`", &["query_params", "queries", "params", "args"], "write query = { NAME = \"VALUE\" }"),
    (
        "`[[route]]`",
        &["location", "prefix", "uri", "url", "match", "rule", "path_prefix"],
        "write path = \"/prefix/*\"",
    ),
    ("`[[route]]`", &["server_name", "hosts", "domain", "hostname"], "write host = \"www.example.com\""),
    ("`[[route]]`", &["strip_prefix", "stripPrefix", "strip_path"], "write rewrite = { prefix = \"/\" }"),
    ("`[[route]]`", &["gzip", "brotli", "zstd", "compression", "encode", "gzip_types"], "write compress = {}"),
    (
        "`compress` of",
        &["min_size", "minimum_length", "gzip_min_length", "min_length", "minResponseBodyBytes"],
        "write body_bytes_min = \"1KiB\"",
    ),
    (
        "`[[route]]`",
        &["static", "static_files", "file_server", "root", "alias", "try_files", "document_root", "dir", "directory"],
        "write files = { root = \"/srv/www\" }",
    ),
    ("`[[route]]`", &["return", "direct_response", "response"], "write respond = { status = 404 }"),
    ("`[[route]]`", &["add_header", "more_set_headers"], "write response_headers = { set = { NAME = \"VALUE\" } }"),
    ("`[[route]]`", &["proxy_set_header"], "write request_headers = { set = { NAME = \"VALUE\" } }"),
    (
        "`[[route]]`",
        &["rate_limit", "ratelimit", "rateLimit", "limit_req", "limits", "throttle", "limit_conn"],
        "write limit = { rate = \"100/s\" }",
    ),
    (
        "`[[route]]`",
        &["proxy_cache", "caching", "edge_cache", "http_cache", "cdn", "cache_ttl"],
        "write cache = { default_ttl = \"5s\" }",
    ),
    ("`[cache.NAME]`", &["port", "bind", "address"], "write listen = \"127.0.0.1:6380\""),
    ("`[cache.NAME]`", &["maxmemory", "size", "max_memory", "capacity", "memory_bytes"], "write memory = \"64MiB\""),
    ("`[cache.NAME]`", &["requirepass", "token", "auth"], "write password = \"${TENFOLD_CACHE_PASSWORD}\""),
    ("`[cache.NAME]`", &["maxclients", "max_connections"], "write connections_max = 10000"),
    ("`[cache.NAME]`", &["default_ttl", "expire", "expires", "max_age"], "write ttl = \"5m\""),
    ("`[cache.NAME]`", &["protocol"], "write listen for Redis' protocol, and http for HTTP"),
    (
        "`[cache.NAME]`",
        &["maxmemory_policy", "maxmemory-policy", "eviction", "policy"],
        "remove it: what is used least makes room for what is used more",
    ),
    (
        "`[database.NAME]`",
        &["url", "host", "hosts", "dsn", "server", "servers", "connection", "dbname", "master", "writer"],
        "write primary = \"postgres://HOST/DATABASE\"",
    ),
    (
        "`[database.NAME]`",
        &["readers", "slaves", "standbys", "read_replicas", "secondaries", "shards"],
        "write replicas = [\"postgres://HOST\"]",
    ),
    (
        "`[database.NAME]`",
        &["pool_size", "default_pool_size", "max_connections", "max_db_connections", "connections_max"],
        "write pool = { size = 20 }",
    ),
    ("`[database.NAME]`", &["pool_mode"], "write mode = \"transaction\""),
    ("`[database.NAME]`", &["auth_type", "auth_query", "auth_user"], "write auth = { method = \"scram\" }"),
    ("`[database.NAME]`", &["users", "auth_file", "userlist"], "write auth = { file = \"userlist.txt\" }"),
    (
        "`[database.NAME]`",
        &["rules", "hba", "hba_file", "auth_hba_file"],
        "write rule = [{ client = [\"10.0.0.0/8\"] }]",
    ),
    ("`[database.NAME]`", &["max_client_conn", "max_clients", "clients_max"], "write limits = { clients_max = 5000 }"),
    (
        "`[database.NAME]`",
        &["query_timeout", "statement_timeout", "idle_transaction_timeout", "client_idle_timeout"],
        "write timeouts = { statement = \"30s\" }",
    ),
    ("`[database.NAME]`", &["ignore_startup_parameters"], "write ignored_settings = [\"extra_float_digits\"]"),
    ("`[database.NAME]`", &["ssl", "sslmode", "server_tls_sslmode"], "write tls = {}"),
    ("`pool` of `[database.NAME", &["max", "max_size", "pool_size", "default_pool_size"], "write size = 20"),
    ("`pool` of `[database.NAME", &["min_pool_size", "min_size", "minimum"], "write min = 2"),
    ("`pool` of `[database.NAME", &["reserve_pool", "reserve_pool_size"], "write reserve = 5"),
    ("`pool` of `[database.NAME", &["reserve_pool_timeout"], "write reserve_after = \"5s\""),
    (
        "`pool` of `[database.NAME",
        &["query_wait_timeout", "timeout", "checkout_timeout", "connection_timeout"],
        "write acquire_timeout = \"10s\"",
    ),
    ("`pool` of `[database.NAME", &["server_lifetime", "max_lifetime", "max_age"], "write lifetime = \"1h\""),
    ("`pool` of `[database.NAME", &["server_idle_timeout", "max_idle_time"], "write idle_timeout = \"10m\""),
    (
        "`rule` of `[database.NAME]`",
        &["address", "addresses", "cidr", "ip", "source"],
        "write client = [\"10.0.0.0/8\"]",
    ),
    ("`rule` of `[database.NAME]`", &["auth", "auth_type"], "write method = \"scram\""),
    ("`cache` of `[[route]]`", &["ttl", "max_age", "default_max_age", "expires"], "write default_ttl = \"5s\""),
    ("`cache` of `[[route]]`", &["max_ttl"], "write ttl_max = \"1h\""),
    (
        "`cache` of `[[route]]`",
        &["proxy_cache_valid", "valid", "negative_ttl"],
        "write status_ttl = { \"404\" = \"10s\" }",
    ),
    ("`cache` of `[[route]]`", &["use_stale", "grace", "keep"], "write stale_if_error = \"1h\""),
    ("`cache` of `[[route]]`", &["max_object_size", "max_size"], "write object_bytes_max = \"8MiB\""),
    ("`key` of `cache`", &["header", "vary"], "write headers = [\"NAME\"]"),
    ("`key` of `cache`", &["cookie"], "write cookies = [\"NAME\"]"),
    ("`key` of `cache`", &["ignore_query", "query_ignore"], "write query_except = [\"NAME\"]"),
    ("`[cache]`", &["size", "bytes", "memory_size", "max_size"], "write memory = \"64MiB\""),
    (
        "`[cache]`",
        &["path", "folder", "directory", "storage", "proxy_cache_path"],
        "write disk = { path = \"/var/cache/tenfold\", size = \"10GiB\" }",
    ),
    ("`disk` of `[cache]`", &["folder", "dir", "directory", "storage"], "write path = \"/var/cache/tenfold\""),
    ("`disk` of `[cache]`", &["bytes", "max_size", "size_max"], "write size = \"10GiB\""),
    ("`[[route]]`", &["auth_basic", "basicAuth"], "write basic_auth = { users = [\"NAME:HASH\"] }"),
    (
        "`[[route]]`",
        &["auth_request", "forwardAuth", "ext_authz", "authorization", "auth"],
        "write forward_auth = { service = \"NAME\", path = \"/verify\" }",
    ),
    (
        "`forward_auth`",
        &["address", "url", "uri", "endpoint", "to", "server"],
        "write service = \"NAME\" and path = \"/verify\"",
    ),
    (
        "`forward_auth`",
        &["authResponseHeaders", "auth_response_headers", "copy_headers"],
        "write response_headers = [\"X-User\"]",
    ),
    (
        "`forward_auth`",
        &["authRequestHeaders", "auth_request_headers"],
        "write request_headers = [\"Cookie\", \"Authorization\"]",
    ),
    ("`forward_auth`", &["addAuthCookiesToResponse"], "write client_headers = [\"Set-Cookie\"]"),
    ("`forward_auth`", &["trustForwardHeader"], "trusted_proxies belongs to the listener"),
    ("`forward_auth`", &["maxResponseBodySize"], "write body_bytes_max = \"64KiB\""),
    ("`[[route]]`", &["force_ssl", "ssl_redirect", "redirect_https", "redirect_to_https"], "write https_only = true"),
    ("`[listener.NAME]`", &["bind", "address", "addr", "port", "addresses"], "write listen = \"0.0.0.0:8080\""),
    ("`[listener.NAME]`", &["client_max_body_size", "max_body_size"], "write body_bytes_max = \"10MiB\""),
    ("`[listener.NAME]`", &["keepalive_timeout", "keep_alive_timeout"], "write idle_timeout = \"75s\""),
    ("`[listener.NAME]`", &["maxconn", "max_connections", "worker_connections"], "write connections_max = 20000"),
    (
        "`[service.NAME]`",
        &["server", "servers", "backends", "upstreams", "targets", "hosts", "nodes", "urls", "url"],
        "write endpoints = [\"HOST:PORT\"]",
    ),
    (
        "`[service.NAME]`",
        &[
            "algorithm",
            "lb",
            "lb_method",
            "strategy",
            "method",
            "policy",
            "load_balancing",
            "loadBalancer",
            "load_balancer",
        ],
        "write balance = \"least_connections\"",
    ),
    (
        "`[service.NAME]`",
        &["healthcheck", "health_check", "healthCheck", "check", "option"],
        "write health = { path = \"/health\" }",
    ),
    (
        "`[service.NAME]`",
        &["max_fails", "fail_timeout"],
        "write passive_health = { max_fails = 3, fail_timeout = \"10s\" }",
    ),
    ("`[service.NAME]`", &["proxy_connect_timeout", "connection_timeout"], "write connect_timeout = \"2s\""),
    ("`[service.NAME]`", &["proxy_read_timeout", "read_timeout", "timeout"], "write response_timeout = \"30s\""),
    ("`[service.NAME]`", &["proxy_send_timeout", "send_timeout"], "write write_timeout = \"30s\""),
    ("`[service.NAME]`", &["retries", "proxy_next_upstream"], "write retry = { max = 2 }"),
    ("`[service.NAME]`", &["keepalive"], "write pool = { idle_max = 32 }"),
    ("`[service.NAME]`", &["outlier_detection"], "write outlier = { consecutive = 5 }"),
    (
        "`[service.NAME]`",
        &["circuit_breaker", "circuitBreaker", "circuit_breakers", "circuitbreaker"],
        "write breaker = { failures = 5, open_for = \"30s\" }",
    ),
    ("`breaker`", &["timeout", "wait_duration", "sleep_window", "fallbackDuration"], "write open_for = \"30s\""),
    ("`breaker`", &["threshold", "failure_threshold", "error_threshold", "max_failures"], "write failures = 5"),
    ("`breaker`", &["minimum_calls", "volume", "min_calls"], "write calls_min = 20"),
    ("`breaker`", &["fallback"], "fallback belongs to the service, beside the breaker"),
    (
        "`limits` of `[service.NAME]`",
        &["connections_max", "max_connections"],
        "pool of the service has it, for each endpoint",
    ),
    (
        "`limits` of `[service.NAME]`",
        &["pending_max", "max_pending_requests", "queue", "pending"],
        "there is no queue: what is beyond requests_max is refused at once",
    ),
    ("`limits` of `[service.NAME]`", &["max_requests", "concurrency", "in_flight_max"], "write requests_max = 1000"),
    ("`limits` of `[service.NAME]`", &["max_retries"], "write retries_max = 10"),
    ("`[service.NAME]`", &["stickiness", "session", "cookie"], "write sticky = { cookie = \"NAME\" }"),
    ("`[trace]`", &["sampling", "ratio", "rate", "sampler", "probability", "sampling_rate"], "write sample = \"1%\""),
    ("`[trace]`", &["url", "collector", "exporter", "address", "otlp"], "write endpoint = \"http://127.0.0.1:4318\""),
    ("`endpoints`", &["url", "host", "ip", "addr", "server", "port", "name"], "write address = \"HOST:PORT\""),
    (
        "`endpoints`",
        &["max_fails", "fail_timeout", "maxfails"],
        "passive_health belongs to the service, for all endpoints",
    ),
    ("`endpoints`", &["down", "disabled"], "write drain = true"),
    ("`endpoints`", &["locality", "region", "az", "availability_zone"], "write zone = \"eu-1a\""),
    ("`[runtime]`", &["locality", "region", "az", "availability_zone"], "write zone = \"${ZONE:-}\""),
    (
        "`[service.NAME]`",
        &["locality", "topology", "traffic_distribution"],
        "zones belong to endpoints and to [runtime]",
    ),
    (
        "`[service.NAME]`",
        &["hash_balance_factor", "load_factor", "consistent_hashing_lb_config", "bounded_load"],
        "write hash_load_factor = 1.25",
    ),
    (
        "`[service.NAME]`",
        &["adaptive_concurrency", "load_shedding", "loadshedding", "concurrency_limit", "shed", "overload"],
        "write shedding = {}",
    ),
    ("`[[route]]`", &["importance", "criticality", "class", "shedding"], "write priority = \"low\""),
    ("`shedding`", &["max_limit", "max_concurrency", "limit", "requests_max"], "write limit_max = 1000"),
    ("`shedding`", &["min_limit", "min_concurrency"], "write limit_min = 8"),
    ("`shedding`", &["initial_limit", "start"], "write limit_start = 20"),
    ("`shedding`", &["queue", "queue_size", "queue_len", "max_queue"], "write queue_max = 100"),
    ("`shedding`", &["timeout", "wait", "queue_wait", "max_wait"], "write queue_timeout = \"100ms\""),
    ("`priority`", &["default", "value"], "write class = \"normal\""),
    ("`priority`", &["max", "at_most"], "write header_max = \"critical\""),
    ("`[service.NAME]`", &["slow_start_config", "slowstart"], "write slow_start = \"30s\""),
    ("`slow_start`", &["slow_start_window", "duration", "time", "ramp"], "write window = \"30s\""),
    ("`slow_start`", &["min_weight_percent", "weight_min"], "write share_min = \"10%\""),
    ("`success_rate`", &["stdev_factor", "success_rate_stdev_factor", "stdev"], "write deviations = 1.9"),
    ("`success_rate`", &["minimum_hosts", "success_rate_minimum_hosts", "endpoints_min"], "write hosts_min = 5"),
    ("`success_rate`", &["request_volume", "success_rate_request_volume"], "write requests_min = 100"),
    ("`health`", &["uri", "endpoint", "url"], "write path = \"/health\""),
    ("`health`", &["passes", "healthy_threshold", "success_threshold"], "write rise = 2"),
    ("`health`", &["fails", "unhealthy_threshold", "failure_threshold"], "write fall = 3"),
    ("`health`", &["codes", "expect", "expected_status", "code"], "write status = \"200-399\""),
];

/// Labels and keys of all tables, from the schema.
static TABLES: LazyLock<Vec<(String, Vec<String>)>> = LazyLock::new(|| {
    let schema = crate::schema();
    let keys = |table: &serde_json::Value| {
        let label = table["title"].as_str()?.to_owned();
        Some((label, table["properties"].as_object()?.keys().cloned().collect()))
    };
    let root = keys(&schema);
    let others = schema["$defs"].as_object().into_iter().flat_map(|defs| defs.values().filter_map(keys));
    root.into_iter().chain(others).collect()
});

/// What to write instead of an unknown key.
pub(crate) fn instead_of(key: &str, label: &str, allowed: &[&str]) -> Option<String> {
    let within = FOREIGN_WITHIN.iter().find(|(table, keys, _)| label.starts_with(table) && keys.contains(&key));
    if let Some((_, _, advice)) = within {
        return Some((*advice).to_owned());
    }
    if let Some(near) = nearest(key, allowed.iter().copied()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let elsewhere: Vec<_> =
        TABLES.iter().filter(|(_, keys)| keys.iter().any(|k| k == key)).map(|(label, _)| label.as_str()).collect();
    if !elsewhere.is_empty() {
        return Some(format!("`{key}` is a key of {}", elsewhere.join(", ")));
    }
    at_top_level(key).map(str::to_owned)
}

/// What to write instead of a section of another program.
pub(crate) fn at_top_level(section: &str) -> Option<&'static str> {
    FOREIGN.iter().find(|(keys, _)| keys.contains(&section)).map(|(_, advice)| *advice)
}

/// The most similar of some words, if it is similar enough to be meant.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Long texts are never typing errors of short ones, and comparing them costs their product.
    if word.len() > 64 {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let distance = |other: &str| strsim::damerau_levenshtein(&plain(word), &plain(other));
    let (best, distance) = known.map(|other| (other, distance(other))).min_by_key(|(_, distance)| *distance)?;
    // A third of the letters may be wrong: fewer are found by the eye, more are another word.
    (distance <= best.len().max(word.len()) / 3).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["endpoints", "balance", "keep_host", "on"];
        let check = |word: &str, expected: Option<&str>| {
            assert_eq!(nearest(word, known.into_iter()), expected, "{word}");
        };
        check("endpoint", Some("endpoints"));
        check("Endpoints", Some("endpoints"));
        check("keepHost", Some("keep_host"));
        check("blance", Some("balance"));
        check("off", None);
        check("zebra", None);
        check(&"endpoints".repeat(100), None);
    }

    #[test]
    fn advice_names_only_what_exists() {
        let all: Vec<&str> = TABLES.iter().flat_map(|(_, keys)| keys.iter().map(String::as_str)).collect();
        for (label, foreign, advice) in FOREIGN_WITHIN {
            let (_, keys) =
                TABLES.iter().find(|(table, _)| table.starts_with(label)).unwrap_or_else(|| panic!("{label}"));
            let foreign_is_foreign = foreign.iter().all(|key| !keys.iter().any(|k| k == key));
            assert!(foreign_is_foreign, "{label}: {foreign:?} holds a key of its own");
            if let Some(named) = advice.strip_prefix("write ") {
                let named = named.split([' ', '=']).next().unwrap();
                assert!(keys.iter().any(|key| key == named), "{label}: {advice}");
            }
        }
        assert!(all.contains(&"endpoints") && all.contains(&"rise"));
    }
}
