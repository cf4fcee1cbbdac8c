//! The tables of a service.

use crate::address::HostPort;
use crate::entry::{Endpoint, HashBy, SlowStart, Zone};
use crate::grammar::{choice, table};
use crate::http::{CookieName, FieldName, HostField, RetryCause, Statuses, Target};
use crate::quantity::{Decimal, Int, Share, Size, Time};
use crate::tls::RawServiceTls;
use crate::value::{List, Off, OneOrMany, Or, Switch, Text};

use super::{HeadBytes, Limit, RawBreaker, RawFallback, RawLimits, RawShedding};

table! {
    /// What stands behind the gateway: one or more endpoints that serve alike.
    "`[service.NAME]`"
    struct RawService {
        /// How an endpoint is picked. `ip_hash` is `maglev` on the client's address.
        balance: BalanceWord = "least_connections";
        /// What of a request is hashed by `ring_hash` and `maglev`: `client_ip`, `path`, `{ header = "NAME" }` or
        /// `{ cookie = "NAME" }`. By default `client_ip`.
        hash_key: HashBy = optional;
        /// An endpoint is passed over for a key while it has more than this many times its share of the requests in flight.
        /// For `ring_hash`, `maglev` and `ip_hash`. By default a key always goes to its own endpoint.
        hash_load_factor: Decimal<105, 1_000> = optional;
        /// Sticky sessions: a cookie keeps a client at its endpoint.
        sticky: RawSticky = optional;
        /// Addresses, as `"HOST:PORT"` or as tables. A host name stands for each of its addresses; a name of `SRV` records, such
        /// as `"_http._tcp.api.internal"`, for each of their targets.
        endpoints: List<Endpoint> = required;
        /// A file that lists further endpoints, or all of them: TOML with the key `endpoints`, or JSON with an array, relative to
        /// the file that names it. A change is noticed; while it is wrong, the last list stays.
        endpoints_file: Text = optional;
        /// Active checks. By default none.
        health: RawHealth = optional;
        /// Takes endpoints out by failures of real requests, after nginx.
        passive_health: Or<Off, RawPassive> = {};
        /// Takes endpoints out by failures in a row, after Envoy. Off unless the table is there.
        outlier: RawOutlier = optional;
        /// When the share of available endpoints falls below this, health is ignored and all are used.
        panic_threshold: Share = "0%";
        /// A new endpoint gets its share little by little: over this time, or as a table says.
        slow_start: SlowStart = "0s";
        /// When a failed request is sent again. It never is where that could do something twice.
        retry: Or<Off, RawRetry> = {};
        /// Keeps requests from the service, or from an endpoint, that has failed too often. Off unless the table is there.
        breaker: RawBreaker = optional;
        /// Refuses requests that the service cannot take, the least important first. Off unless the table is there.
        shedding: RawShedding = optional;
        /// Bounds on what is under way.
        limits: RawLimits = {};
        /// What is served instead when the service is not asked. By default status 503.
        fallback: RawFallback = optional;
        /// Time to connect to an endpoint.
        connect_timeout: Limit = "2s";
        /// Time for one try, from sending the request to the end of the response's head.
        response_timeout: Limit = "30s";
        /// Longest pause within a response body.
        body_timeout: Limit = "30s";
        /// Longest time without progress while the endpoint does not read the request.
        write_timeout: Limit = "30s";
        /// What the endpoints speak: `http1`, or `http2` as gRPC needs it. With TLS it is agreed on by ALPN.
        protocol: ProtocolWord = "http1";
        /// TLS to the endpoints; `{}` is enough where the machine's authorities know their certificates. By default none.
        tls: RawServiceTls = optional;
        /// Tells endpoints by the PROXY protocol, version `v1` or `v2`, whose each connection is. Connections for HTTP then
        /// carry one request each. By default nothing is said.
        send_proxy: SendProxyWord = optional;
        /// Connections to endpoints.
        pool: RawPool = {};
        /// Largest response head.
        head_bytes_max: HeadBytes = "32KiB";
        /// Whether the request's `Host` is passed on; otherwise it is the endpoint's address as written.
        keep_host: Switch = true;
    }
}

choice! {
    /// Protocols of endpoints.
    enum ProtocolWord {
        Http1 = "http1" also "http", "http/1.1", "http1.1", "http_1_1";
        Http2 = "http2" also "h2", "h2c", "http/2", "grpc", "http_2";
    }
}

choice! {
    /// Versions of the PROXY protocol.
    enum SendProxyWord {
        V1 = "v1" also "1", "send_proxy", "text";
        V2 = "v2" also "2", "send_proxy_v2", "binary", "on", "true";
    }
}

choice! {
    /// Ways to pick an endpoint.
    enum BalanceWord {
        RoundRobin = "round_robin" also "roundrobin", "rr", "wrr", "weighted_round_robin", "static_rr";
        LeastConnections = "least_connections" also "least_conn", "leastconn", "least_request", "leastconnections";
        Random = "random" also "rand";
        PowerOfTwo = "power_of_two" also "p2c", "random_two", "power_of_two_choices", "random(2)";
        PeakEwma = "peak_ewma" also "ewma", "least_time", "fastest";
        IpHash = "ip_hash" also "source", "iphash", "sourceip", "source_ip";
        RingHash = "ring_hash" also "ketama", "hash", "consistent_hash", "ring", "uri";
        Maglev = "maglev";
    }
}

table! {
    /// Sticky sessions by cookie.
    "`sticky` of `[service.NAME]`"
    struct RawSticky {
        /// The cookie's name.
        cookie: CookieName = required;
        /// The cookie's lifetime. By default it ends with the browser's session.
        ttl: Time<1_000, 31_536_000_000> = optional;
    }
}

table! {
    /// An endpoint.
    "`endpoints` of `[service.NAME]`"
    struct RawEndpoint {
        /// Address or host name, with the port; or a name of `SRV` records.
        address: HostPort = required;
        /// Share of the traffic relative to the other endpoints. 0 gets none but keeps sticky sessions. `SRV` records have
        /// weights of their own.
        weight: Int<0, 1000> = 1;
        /// Lower ones come first. Others get what those before them cannot bear: a priority bears its healthy share
        /// times 1.4. The first of `SRV` records have this one, and those behind them the next ones.
        priority: Int<0, 15> = 0;
        /// The zone that it is in. Endpoints in the zone of `[runtime]` come before others of their priority.
        zone: Zone = optional;
        /// Used only while no other endpoint is available, of any priority and zone.
        backup: Switch = false;
        /// Gets no new requests; those under way finish.
        drain: Switch = false;
    }
}

table! {
    /// How a new endpoint gets its share: its weight is multiplied by (time / window)^(1 / aggression).
    "`slow_start` of `[service.NAME]`"
    struct RawSlowStart {
        /// Time until it has its whole share. Zero turns slow start off.
        window: Time<0, 3_600_000> = required;
        /// With 1 the share grows evenly, above 1 fast at first, below 1 slowly at first.
        aggression: Decimal<1, 10_000> = 1.0;
        /// The share that it begins with.
        share_min: Share = "10%";
    }
}

table! {
    /// Active checks: a GET of a path, a call of gRPC's health protocol, or a TCP connection alone.
    "`health` of `[service.NAME]`"
    struct RawHealth {
        /// The path to ask for.
        path: Target = optional;
        /// `true` checks only that a connection can be made.
        tcp: Switch = false;
        /// `true` asks by gRPC's health protocol, for services with `protocol = "http2"`.
        grpc: Switch = false;
        /// The gRPC service to ask about. By default the server as a whole.
        grpc_service: Text = optional;
        /// Time between the starts of two checks of an endpoint.
        interval: Time<100, 86_400_000> = "2s";
        /// Time for a check to finish, at most the interval. By default a second, or the interval if that is shorter.
        timeout: Time<1, 86_400_000> = optional;
        /// Successes in a row that bring an endpoint back.
        rise: Int<1, 100> = 2;
        /// Failures in a row that take it out.
        fall: Int<1, 100> = 3;
        /// Statuses that count as healthy. By default 200-399.
        status: OneOrMany<Statuses> = optional;
        /// Text that the first 64 KiB of the body must contain.
        body: Text = optional;
        /// `Host` to send. By default the endpoint's address.
        host: HostField = optional;
        /// Port to ask instead of the endpoint's own.
        port: Int<1, 65535> = optional;
    }
}

table! {
    /// Takes an endpoint out after failures of real requests, and lets one request through afterwards.
    "`passive_health` of `[service.NAME]`"
    struct RawPassive {
        /// Failures within `fail_timeout` that take an endpoint out.
        max_fails: Int<1, 1000> = 1;
        /// The window, and the time that the endpoint stays out.
        fail_timeout: Time<100, 86_400_000> = "10s";
        /// Takes out endpoints that fail more often than the others, after Envoy. Off unless the table is there: it
        /// takes much traffic, and endpoints that are asked alike.
        success_rate: RawSuccessRate = optional;
    }
}

table! {
    /// Takes an endpoint out when its success rate is far below that of the others, each time for longer.
    "`success_rate` of `passive_health`"
    struct RawSuccessRate {
        /// Time over which requests are counted.
        interval: Time<1_000, 3_600_000> = "10s";
        /// Requests within the interval without which an endpoint is not judged.
        requests_min: Int<1, 1_000_000> = 100;
        /// Endpoints with that many requests without which none is judged.
        hosts_min: Int<2, 65535> = 5;
        /// Standard deviations below the mean success rate that take an endpoint out.
        deviations: Decimal<0, 1_000> = 1.9;
        /// Distance below the mean that takes none out, however alike the others are.
        margin: Share = "5%";
        /// Time of the first ejection.
        base_ejection: Time<100, 86_400_000> = "30s";
        /// Longest ejection.
        ejection_max: Time<100, 86_400_000> = "300s";
        /// Largest share of the endpoints out at once by this rule, but always at least one endpoint.
        ejected_max: Share = "10%";
    }
}

table! {
    /// Takes an endpoint out after failures in a row, each time for longer.
    "`outlier` of `[service.NAME]`"
    struct RawOutlier {
        /// Failures in a row that take an endpoint out.
        consecutive: Int<1, 1000> = 5;
        /// Time of the first ejection.
        base_ejection: Time<100, 86_400_000> = "30s";
        /// Longest ejection.
        ejection_max: Time<100, 86_400_000> = "300s";
        /// Largest share of the endpoints out at once by this rule, but always at least one endpoint.
        ejected_max: Share = "10%";
    }
}

table! {
    /// When and how often a request is sent again.
    "`retry` of `[service.NAME]`"
    struct RawRetry {
        /// Failures that are retried: `error` (no connection, or broken before the response), `timeout`,
        /// `invalid_header`, or a status such as `http_503`.
        on: List<RetryCause> = ["error", "timeout"];
        /// Most tries after the first.
        max: Int<1, 10> = 2;
        /// Retries that are allowed per request of the budget's window.
        budget: Share = "20%";
        /// The budget's window.
        budget_window: Time<1_000, 3_600_000> = "10s";
        /// Retries per second that are allowed however few requests there are.
        budget_floor: Int<0, 1_000_000> = 10;
        /// The pause before a retry, drawn at random up to a bound that doubles.
        backoff: RawBackoff = {};
        /// Request bodies up to this size are kept so that they can be sent again.
        body_bytes_max: Size<0, 16_777_216> = "64KiB";
    }
}

table! {
    /// Pauses between tries.
    "`backoff` of `retry`"
    struct RawBackoff {
        /// Upper bound of the first pause.
        base: Time<0, 60_000> = "25ms";
        /// Upper bound of any pause.
        max: Time<0, 60_000> = "250ms";
    }
}

table! {
    /// Connections to endpoints. Every worker keeps its own.
    "`pool` of `[service.NAME]`"
    struct RawPool {
        /// Most idle connections per endpoint and worker.
        idle_max: Int<0, 100_000> = 32;
        /// An idle connection is closed after this time.
        idle_timeout: Limit = "60s";
        /// Most connections per endpoint, all workers together.
        connections_max: Int<1, 1_000_000> = 1024;
    }
}

table! {
    /// Hashes a header field's value; requests without it are hashed by client address.
    "`hash_key` of `[service.NAME]`"
    struct RawHashKey {
        /// The field's name.
        header: FieldName = optional;
        /// The cookie's name.
        cookie: CookieName = optional;
    }
}
