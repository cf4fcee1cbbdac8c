//! The metric families that Tenfold exposes: names, labels and meaning, in one place.
//!
//! Names follow Prometheus' conventions: base units, the unit as a suffix, `_total` for counters. `docs/metrics.md` is
//! made from this table and a test holds it to that.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// What kind of family it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Durations in buckets.
    Histogram,
    /// A constant 1 whose labels are the message; its name ends in `_info`.
    Info,
}

/// One metric family.
#[derive(Debug)]
pub struct Family {
    /// Name without unit and without `_total` or `_info`, as the encoder wants it.
    stem: &'static str,
    unit: Option<Unit>,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
}

impl Family {
    /// The full name, as it is scraped.
    pub fn name(&self) -> String {
        let unit = self.unit.as_ref().map_or(String::new(), |unit| format!("_{}", unit.as_str()));
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("{}{unit}{suffix}", self.stem)
    }

    /// What kind of family it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its labels' names.
    pub fn labels(&self) -> &'static [&'static str] {
        self.labels
    }

    /// What it means, in a sentence.
    pub fn help(&self) -> &'static str {
        self.help
    }

    /// Writes the family's head and returns the encoder of its rows.
    pub(crate) fn start<'s>(&'s self, encoder: &'s mut DescriptorEncoder<'_>) -> Result<MetricEncoder<'s>, fmt::Error> {
        let kind = match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
            Kind::Info => MetricType::Info,
        };
        encoder.encode_descriptor(self.stem, self.help, self.unit.as_ref(), kind)
    }
}

impl Kind {
    /// The kind as documentation calls it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

macro_rules! families {
    ($($id:ident = $kind:ident $stem:literal $unit:expr, [$($label:literal),*], $help:literal;)+) => {
        $(pub(crate) static $id: Family =
            Family { stem: $stem, unit: $unit, kind: Kind::$kind, labels: &[$($label),*], help: $help };)+

        /// Every family, in the order of the documentation.
        pub static ALL: &[&Family] = &[$(&$id),+];
    };
}

const NONE: Option<Unit> = None;
const SECONDS: Option<Unit> = Some(Unit::Seconds);
const BYTES: Option<Unit> = Some(Unit::Bytes);

families! {
    HTTP_REQUESTS = Counter "http_requests" NONE, ["method", "endpoint", "status"],
        "Finished requests. The endpoint is the route's name, the status what the client got.";
    HTTP_REQUEST_DURATION = Histogram "http_request_duration" SECONDS, ["method", "endpoint"],
        "Time from the end of a request's head to the end of the exchange.";
    HTTP_IN_FLIGHT = Gauge "http_requests_in_flight" NONE, ["endpoint"],
        "Requests under way. The endpoint is the route's name.";
    HTTP_MIRRORED = Counter "http_requests_mirrored" NONE, ["endpoint", "result"],
        "Requests of routes with a mirror that were copied to it (`sent`), or should have been (`dropped`).";
    HTTP_FORWARD_AUTH = Counter "http_forward_auth" NONE, ["endpoint", "result"],
        "Requests of routes with `forward_auth`: `allowed` and `denied` by the service that was asked, or `failed`, because \
         there was no answer to go by.";
    HTTP_FILES = Counter "http_files" NONE, ["endpoint", "result"],
        "Requests of routes with `files`: answered from the kernel's `memory`, or after a wait for a `disk`; `missing`; \
         `refused`, because the path is hidden or leads out of the root; or `failed`, because the file could not be read.";
    HTTP_COMPRESSED = Counter "http_responses_compressed" NONE, ["endpoint", "coding"],
        "Responses of routes with `compress` that were compressed.";
    HTTP_COMPRESSION_BYTES = Counter "http_compression" BYTES, ["endpoint", "side"],
        "Bytes of their bodies, `before` and `after`.";
    CACHE_REQUESTS = Counter "cache_requests" NONE, ["endpoint", "result"],
        "Requests of routes with a cache: `hit`, `stale`, `revalidated`, `collapsed` (answered by what another request \
         fetched), `miss` (fetched and stored), `unstored` (fetched, and not to be stored) or `bypass`.";
    CACHE_SENT = Counter "cache_sent" BYTES, ["endpoint", "result"],
        "Bytes of response bodies that went to clients, by what the cache made of their requests.";
    CACHE_ENTRIES = Gauge "cache_entries" NONE, [],
        "Responses, and notes about keys, that the cache holds in memory.";
    CACHE_MEMORY = Gauge "cache_memory" BYTES, [],
        "Memory that they take.";
    CACHE_MEMORY_MAX = Gauge "cache_memory_max" BYTES, [],
        "Memory that they may take.";
    CACHE_STORED = Counter "cache_stored" NONE, [],
        "Responses that were stored.";
    CACHE_EVICTED = Counter "cache_evicted" NONE, [],
        "Responses that made room for others.";
    CACHE_FETCHES = Gauge "cache_fetches" NONE, [],
        "Fetches under way.";
    CACHE_PURGES = Counter "cache_purges" NONE, [],
        "Purges, those included that unsafe requests caused.";
    CACHE_READERS_CUT = Counter "cache_readers_cut" NONE, [],
        "Clients that were cut since they took nothing for too long of what is neither in memory nor on disk.";
    CACHE_DISK_UP = Gauge "cache_disk_up" NONE, [],
        "Whether the cache's disk takes what is written: 1 if it does.";
    CACHE_DISK_ENTRIES = Gauge "cache_disk_entries" NONE, [],
        "Responses, and notes about keys, on disk.";
    CACHE_DISK = Gauge "cache_disk" BYTES, [],
        "Bytes of its files.";
    CACHE_DISK_MAX = Gauge "cache_disk_max" BYTES, [],
        "Bytes that they may have.";
    CACHE_DISK_HITS = Counter "cache_disk_hits" NONE, [],
        "Entries that were read from disk.";
    CACHE_DISK_TRANSFERRED = Counter "cache_disk_transferred" BYTES, ["direction"],
        "Bytes that were `read` from disk and `written` to it.";
    CACHE_DISK_WRITES = Counter "cache_disk_writes" NONE, [],
        "Entries that were written.";
    CACHE_DISK_DROPPED = Counter "cache_disk_dropped" NONE, ["direction"],
        "Reads and writes that were not made, since too many waited or the disk was down.";
    CACHE_DISK_ERRORS = Counter "cache_disk_errors" NONE, [],
        "Reads and writes that the disk refused.";
    CACHE_DISK_CORRUPT = Counter "cache_disk_corrupt" NONE, [],
        "Records on disk whose checksums were wrong. They are not served.";
    NAMED_COMMANDS = Counter "named_cache_commands" NONE, ["cache", "command"],
        "Commands to a cache of `[cache.NAME]`, those by HTTP included, by their names; `other` is what it does not know.";
    NAMED_ERRORS = Counter "named_cache_errors" NONE, ["cache"],
        "Commands that were answered by an error.";
    NAMED_LOOKUPS = Counter "named_cache_lookups" NONE, ["cache", "result"],
        "Keys that were read: `hit` or `miss`.";
    NAMED_STORED = Counter "named_cache_stored" NONE, ["cache"],
        "Values that were stored.";
    NAMED_EVICTED = Counter "named_cache_evicted" NONE, ["cache"],
        "Entries that made room for others.";
    NAMED_INVALIDATIONS = Counter "named_cache_invalidations" NONE, ["cache"],
        "Tags that were invalidated.";
    NAMED_ENTRIES = Gauge "named_cache_entries" NONE, ["cache"],
        "Entries, those included that have expired and were not asked for since.";
    NAMED_MEMORY = Gauge "named_cache_memory" BYTES, ["cache"],
        "Memory that they take.";
    NAMED_MEMORY_MAX = Gauge "named_cache_memory_max" BYTES, ["cache"],
        "Memory that they may take.";
    NAMED_CONNECTIONS = Gauge "named_cache_connections" NONE, ["cache"],
        "Connections that are open.";
    NAMED_ACCEPTED = Counter "named_cache_connections_accepted" NONE, ["cache"],
        "Connections accepted.";
    NAMED_REFUSED = Counter "named_cache_connections_refused" NONE, ["cache"],
        "Connections closed without being served.";
    NAMED_CUT = Counter "named_cache_connections_cut" NONE, ["cache"],
        "Connections cut since their clients read or sent nothing for too long, or did not speak the protocol.";
    NAMED_TRANSFERRED = Counter "named_cache_transferred" BYTES, ["cache", "direction"],
        "Bytes `received` from clients and `sent` to them, over Redis' protocol.";
    DATABASE_CLIENTS = Gauge "database_clients" NONE, ["database"],
        "Clients of a database of `[database.NAME]` that are logged in. Names that a wildcard serves count together as `*`.";
    DATABASE_LOGINS = Counter "database_logins" NONE, ["database", "result"],
        "Logins of clients: `success` or `failure`.";
    DATABASE_BACKENDS = Gauge "database_backends" NONE, ["database", "state"],
        "Connections to servers: those that are being made (`opening`), that nobody has (`idle`), and that clients have (`lent`).";
    DATABASE_WAITING = Gauge "database_waiting" NONE, ["database"],
        "Clients that wait for a connection.";
    DATABASE_WAITS = Counter "database_waits" NONE, ["database"],
        "Times that a client had to wait for a connection.";
    DATABASE_ACQUIRE_TIMEOUTS = Counter "database_acquire_timeouts" NONE, ["database"],
        "Waits that were longer than `acquire_timeout`.";
    DATABASE_STATEMENTS = Counter "database_statements" NONE, ["database"],
        "Statements that clients sent.";
    DATABASE_TRANSACTIONS = Counter "database_transactions" NONE, ["database"],
        "Times that a connection was ready outside of a transaction.";
    DATABASE_ERRORS = Counter "database_errors" NONE, ["database"],
        "Errors that clients were told, by servers or by Tenfold.";
    DATABASE_PINS = Counter "database_pins" NONE, ["database", "reason"],
        "Sessions that had to keep their connections, by the first reason of each.";
    DATABASE_PINNED = Gauge "database_sessions_pinned" NONE, ["database"],
        "Sessions that keep their connections now.";
    DATABASE_RESETS = Counter "database_resets" NONE, ["database"],
        "Connections that were made as they began, since what a session had done to them could not be seen.";
    DATABASE_REPLAYS = Counter "database_settings_replayed" NONE, ["database"],
        "Times that settings of a session were set on the connection that it got.";
    DATABASE_PARSES = Counter "database_prepared_parses" NONE, ["database"],
        "Statements that were prepared again, because a connection had not the client's.";
    DATABASE_STATEMENTS_SHARED = Gauge "database_prepared_entries" NONE, ["database"],
        "Prepared statements that clients share.";
    DATABASE_CANCELS = Counter "database_cancels" NONE, ["database"],
        "Requests to cancel that were sent on to a server.";
    DATABASE_UNCLEAN = Counter "database_backends_unclean" NONE, ["database"],
        "Connections that were closed because they were not clean.";
    DATABASE_MOVES = Counter "database_backends_moved" NONE, ["database"],
        "Connections to servers that went to another core, for a client there.";
    DATABASE_PINNED_RATIO = Gauge "database_sessions_pinned_ratio" NONE, ["database"],
        "Share of the clients that keep their connections now, from 0 to 1.";
    DATABASE_SUBSCRIBERS = Gauge "database_subscribers" NONE, ["database"],
        "Clients that listen to channels by the connection that they share.";
    DATABASE_NOTIFICATIONS = Counter "database_notifications" NONE, ["database"],
        "Notifications that were heard for clients, once for each of them.";
    DATABASE_HEALED = Counter "database_prepared_healed" NONE, ["database"],
        "Groups of messages that were run again, because a plan was older than the schema.";
    DATABASE_REPLICA_READS = Counter "database_replica_reads" NONE, ["database"],
        "Groups of messages that went to a replica.";
    DATABASE_REPLICA_REFUSALS = Counter "database_replica_refusals" NONE, ["database"],
        "Reads that a replica refused, and that were run on the primary.";
    DATABASE_PROBES = Counter "database_probes" NONE, ["database"],
        "Questions for the primary's position.";
    DATABASE_CAUSAL_WAITS = Counter "database_causal_waits" NONE, ["database"],
        "Reads that waited for a replica to come far enough.";
    DATABASE_CAUSAL_MISSES = Counter "database_causal_misses" NONE, ["database"],
        "Those of them that went to the primary in the end.";
    DATABASE_RERUNS = Counter "database_reruns" NONE, ["database"],
        "Reads that were run again because their connection broke.";
    DATABASE_CUT_TRANSACTIONS = Counter "database_transactions_cut" NONE, ["database"],
        "Transactions that were cut because their connection broke.";
    DATABASE_SERVER_STATE = Gauge "database_server_state" NONE, ["database", "server", "state"],
        "1 for what a server is: `primary`, `replica`, `unknown` (also a primary without the lease, where there is one), `foreign` (of another system) or `old` (a primary no more, or one of two); 0 for the rest.";
    DATABASE_SERVER_READS = Gauge "database_server_takes_reads" NONE, ["database", "server"],
        "1 while reads go to a server because it is a replica.";
    DATABASE_SERVER_LEASE = Gauge "database_server_has_lease" NONE, ["database", "server"],
        "1 while a server holds the lease of `failover.lease`, and may be written to; there only with such a lease.";
    DATABASE_REPLICA_LAG = Gauge "database_replica_lag" SECONDS, ["database", "server"],
        "How far a replica is behind the primary, at most; not there while that is not known.";
    DATABASE_REPLICA_LAG_BYTES = Gauge "database_replica_lag" BYTES, ["database", "server"],
        "Bytes of the primary's log that a replica has not replayed; not there while that is not known.";
    LIMIT_REQUESTS = Counter "limit_requests" NONE, ["limit", "result"],
        "Requests at a limit: allowed, refused, or let pass by a limit in shadow mode that would have refused them.";
    LIMIT_KEYS = Gauge "limit_keys" NONE, ["limit"],
        "Keys of a limit that have spent something which has not come back yet.";
    LIMIT_DISPLACED = Counter "limit_keys_displaced" NONE, ["limit"],
        "Keys that took the place, and the debt, of another one, because the limit's table is too small for what comes.";
    LIMIT_LEASES = Counter "limit_leases" NONE, ["limit", "result"],
        "Leases that a limit's store was asked for: `granted`, `empty`, because nothing was left, `busy`, because too many were asked for at once, or `failed`.";
    LIMIT_LEASED = Counter "limit_leased" NONE, ["limit"],
        "What leases of a limit held, in the unit of costs.";
    LIMIT_WITHOUT_STORE = Counter "limit_requests_without_store" NONE, ["limit"],
        "Requests at a limit that were decided without its store, because that was lost.";
    LIMIT_STORE_UP = Gauge "limit_store_up" NONE, ["store"],
        "Whether a store of limits answers, all who use it if they do so with different settings.";
    HTTP_REQUEST_BODY = Counter "http_request_body" BYTES, ["method", "endpoint"],
        "Bytes of request bodies, by route, as they came.";
    HTTP_RESPONSE_BODY = Counter "http_response_body" BYTES, ["method", "endpoint"],
        "Bytes of response bodies that went to clients, by route.";
    ACTIVE_CONNECTIONS = Gauge "active_connections" NONE, ["service", "type"],
        "Open connections: of clients (the service is then the listener's name), and to upstreams, active or idle.";
    LISTENER_ACCEPTED = Counter "listener_connections_accepted" NONE, ["listener"],
        "Client connections accepted.";
    LISTENER_REFUSED = Counter "listener_connections_refused" NONE, ["listener", "reason"],
        "Client connections closed without being served.";
    LISTENER_ERRORS = Counter "listener_errors" NONE, ["listener", "code"],
        "Requests that the gateway answered by itself or broke off, by error code.";
    LISTENER_RECEIVED = Counter "listener_received" BYTES, ["listener"],
        "Bytes read from clients, heads included.";
    LISTENER_SENT = Counter "listener_sent" BYTES, ["listener"],
        "Bytes written to clients, heads included.";
    LISTENER_STREAMS = Histogram "listener_stream_duration" SECONDS, ["listener"],
        "Time from beginning to end of a TCP connection or a session of UDP that was passed through.";
    TLS_NOT_AFTER = Gauge "tls_certificate_not_after_timestamp" SECONDS, ["listener", "host"],
        "When the certificate for a host expires, in seconds since 1970; 0 while there is none yet.";
    ACME_ORDERS = Counter "acme_orders" NONE, ["listener", "host", "result"],
        "Orders of certificates by their result: success or failure.";
    UPSTREAM_RESPONSES = Counter "upstream_responses" NONE, ["service", "instance", "class"],
        "Responses of an endpoint, by class of status.";
    UPSTREAM_FAILURES = Counter "upstream_failures" NONE, ["service", "instance", "kind"],
        "Tries at an endpoint that failed before its response head was complete.";
    UPSTREAM_LATENCY = Histogram "upstream_response_duration" SECONDS, ["service", "instance"],
        "Time from sending a request to an endpoint to the end of its response head.";
    UPSTREAM_CONNECTS = Counter "upstream_connects" NONE, ["service", "instance"],
        "Connections made to an endpoint.";
    UPSTREAM_REUSES = Counter "upstream_connection_reuses" NONE, ["service", "instance"],
        "Requests sent to an endpoint on a connection that was open already.";
    UPSTREAM_STREAMS = Counter "upstream_streams" NONE, ["service", "instance"],
        "TCP connections and sessions of UDP that were passed to an endpoint.";
    UPSTREAM_HEALTHY = Gauge "upstream_healthy" NONE, ["service", "instance"],
        "1 while an endpoint may be picked as far as its health goes, otherwise 0.";
    UPSTREAM_IN_FLIGHT = Gauge "upstream_in_flight" NONE, ["service", "instance"],
        "Requests at an endpoint now.";
    UPSTREAM_CHECKS = Counter "upstream_health_checks" NONE, ["service", "instance", "result"],
        "Active health checks of an endpoint.";
    UPSTREAM_CHANGES = Counter "upstream_health_changes" NONE, ["service", "instance", "change"],
        "Changes of an endpoint's health.";
    SERVICE_RETRIES = Counter "service_retries" NONE, ["service", "reason"],
        "Requests that were sent again.";
    SERVICE_RETRIES_REFUSED = Counter "service_retries_refused" NONE, ["service"],
        "Retries that were wanted and safe, but that the retry budget refused.";
    SERVICE_PICK_FAILURES = Counter "service_pick_failures" NONE, ["service"],
        "Requests for which no endpoint could be picked.";
    SERVICE_LIMITED = Counter "service_limited" NONE, ["service", "limit"],
        "Requests, or retries, that a bound of the service kept back.";
    SERVICE_FALLBACKS = Counter "service_fallbacks" NONE, ["service"],
        "Requests that the service's fallback served.";
    SHEDDING_REQUESTS = Counter "shedding_requests" NONE, ["service", "class", "result"],
        "Requests to a service that sheds load: admitted at once, after a wait (`waited`), refused, refused after a wait \
         (`late`), or given up by their clients while they waited (`gone`).";
    SHEDDING_LIMIT = Gauge "shedding_limit" NONE, ["service"],
        "Requests that a service that sheds load may have under way now.";
    SHEDDING_IN_FLIGHT = Gauge "shedding_in_flight" NONE, ["service"],
        "Requests that count against the limit: from when they are admitted to the head of their response.";
    SHEDDING_WAITING = Gauge "shedding_waiting" NONE, ["service"],
        "Requests that wait for a place under the limit.";
    BREAKER_TRIPS = Counter "breaker_trips" NONE, ["service", "cause"],
        "Openings of a service's breaker, or of its endpoints' breakers.";
    BREAKER_REFUSALS = Counter "breaker_refusals" NONE, ["service"],
        "Tries that breakers kept back.";
    BREAKER_STATE = Gauge "breaker_state" NONE, ["service", "instance", "state"],
        "1 for the state that a breaker is in, otherwise 0. The instance is empty for a breaker of a whole service.";
    SERVICE_OVERRIDES = Gauge "service_overrides" NONE, ["service"],
        "Settings of a service's endpoints that were changed at run time and lie over the file.";
    RESOLVER_LOOKUPS = Counter "resolver_lookups" NONE, ["name", "result"],
        "Lookups of a name that endpoints are behind: `success`, `partial` where a part of it failed, `no_name` and \
         `no_records` where the answer was that there is nothing, `timeout`, `failure`.";
    RESOLVER_ENDPOINTS = Gauge "resolver_endpoints" NONE, ["name"],
        "Endpoints that a name stands for.";
    RESOLVER_SUCCESS = Gauge "resolver_last_success_timestamp" SECONDS, ["name"],
        "When the last good answer for a name came, in seconds since 1970; 0 before the first.";
    RELOADS = Counter "config_reloads" NONE, ["result"],
        "Configurations applied while running, and those refused.";
    RELOAD_TIMESTAMP = Gauge "config_last_reload_success_timestamp" SECONDS, [],
        "When the running configuration was applied, in seconds since 1970.";
    ACCESS_LINES = Counter "access_log_lines" NONE, [],
        "Lines of the access log that were written.";
    ACCESS_DROPPED = Counter "access_log_dropped" NONE, [],
        "Lines of the access log that were not written, because the log was behind or failed.";
    ACCESS_WRITE_ERRORS = Counter "access_log_write_errors" NONE, [],
        "Writes to the access log that failed.";
    TRACE_SPANS = Counter "trace_spans" NONE, [],
        "Spans that the collector took.";
    TRACE_DROPPED = Counter "trace_spans_dropped" NONE, ["reason"],
        "Spans that no collector has: the queue was full, the export failed, or the collector rejected them.";
    TRACE_EXPORT_ERRORS = Counter "trace_export_errors" NONE, [],
        "Tries of an export that failed.";
    LOG_DROPPED = Counter "log_dropped" NONE, [],
        "Lines of the program's own log that were not written, because standard error was behind.";
    PROCESS_CPU = Counter "process_cpu" SECONDS, [],
        "CPU time of this process, user and system.";
    PROCESS_RESIDENT = Gauge "process_resident_memory" BYTES, [],
        "Resident memory of this process.";
    PROCESS_OPEN_FDS = Gauge "process_open_fds" NONE, [],
        "Open file descriptors of this process.";
    PROCESS_MAX_FDS = Gauge "process_max_fds" NONE, [],
        "Most file descriptors that this process may open.";
    PROCESS_START = Gauge "process_start_time" SECONDS, [],
        "When this process started, in seconds since 1970.";
    BUILD = Info "tenfold_build" NONE, ["version"],
        "The version that runs.";
}

/// The table of `docs/metrics.md`.
pub fn markdown() -> String {
    let mut table = String::from("| family | type | labels | meaning |\n|---|---|---|---|\n");
    for family in ALL {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        table +=
            &format!("| `{}` | {} | {} | {} |\n", family.name(), family.kind.as_str(), labels.join(", "), family.help);
    }
    table
}
