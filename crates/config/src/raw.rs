//! The tables of the file: every key, its type, its default, and what it is for.

use crate::address::{HostPort, Listen, Network};
use crate::entry::{AccessTarget, Endpoint, HashBy, Named, SlowStart, Zone};
use crate::grammar::{choice, table};
use crate::http::{CookieName, FieldName, HostField, RetryCause, RouteHost, RoutePath, Statuses, Target};
use crate::map::{AskedCookie, AskedField, AskedParameter, Map};
use crate::matching::{Expression, MethodName, PathExpression, ValueTest};
use crate::quantity::{Bound, Decimal, Int, Share, Size, Time};
use crate::tls::{RawListenerTls, RawServiceTls};
use crate::trace::{CollectorUrl, SecretFields};
use crate::value::{List, Off, OneOrMany, Or, Secret, Switch, Text, Unlimited};

mod action;

pub(crate) use action::{
    RawBasicAuth, RawCors, RawOrigin, RawRedirect, RawRequestFields, RawRespond, RawResponseFields, RawRewrite,
    SchemeWord,
};

/// A time limit: from a millisecond to an hour.
type Limit = Time<1, 3_600_000>;

/// The buffer of a head: less than 1 KiB refuses ordinary requests, more than 256 KiB invites abuse.
type HeadBytes = Size<1_024, 262_144>;

table! {
    /// The configuration of Tenfold.
    "the file's top level"
    struct RawConfig {
        /// More files, relative to this one; `*` may stand in the last part of a path. A name is defined in one file
        /// only.
        include: List<Text> = [];
        /// The admin listener: metrics, health, a JSON view of what runs, and changes of it.
        admin: RawAdmin = {};
        /// The program's own log, and the access log.
        log: RawLog = {};
        /// Metrics.
        metrics: RawMetrics = {};
        /// Traces. By default none.
        trace: RawTrace = optional;
        /// The process.
        runtime: RawRuntime = {};
        /// Where clients connect, by name.
        listener: Named<RawListener> = {};
        /// Which requests go to which service. The file's order does not matter: the most specific route wins.
        route: List<RawRoute> = [];
        /// What stands behind the gateway, by name.
        service: Named<RawService> = {};
    }
}

table! {
    /// The admin listener. It is on by default, and reachable from this machine only.
    "`[admin]`"
    struct RawAdmin {
        /// `false` turns it off.
        enabled: Switch = true;
        /// Where it listens. An address beyond loopback needs a token.
        listen: Listen = "127.0.0.1:9900";
        /// Requests must bear it: `Authorization: Bearer TOKEN`. Best taken from a variable.
        token: Secret = optional;
        /// A file that holds the token instead, relative to the file that names it. A change of it is noticed.
        token_file: Text = optional;
    }
}

table! {
    /// Logs. The program's own log goes to standard error.
    "`[log]`"
    struct RawLog {
        /// For people (`text`) or for programs (`json`).
        format: LogFormatWord = "text";
        /// Least severe level that is written.
        level: LogLevelWord = "info";
        /// One line per request: `off`, `stdout`, or a file's path with at least one `/`, relative to the working
        /// directory.
        access: AccessTarget = "off";
        /// Format of the access log: JSON objects, the combined format of Apache and nginx, or `key=value` pairs.
        access_format: AccessFormatWord = "json";
    }
}

choice! {
    /// Formats of the access log.
    enum AccessFormatWord {
        Json = "json";
        Combined = "combined" also "nginx", "apache", "ncsa", "clf", "common", "text";
        Logfmt = "logfmt" also "key_value", "kv";
    }
}

choice! {
    /// Formats of the log.
    enum LogFormatWord {
        Text = "text" also "plain", "pretty", "logfmt";
        Json = "json";
    }
}

choice! {
    /// Levels of the log.
    enum LogLevelWord {
        Error = "error" also "err", "crit", "fatal";
        Warn = "warn" also "warning";
        Info = "info" also "notice";
        Debug = "debug";
        Trace = "trace" also "all";
    }
}

table! {
    /// Metrics, which the admin listener shows.
    "`[metrics]`"
    struct RawMetrics {
        /// Upper bounds of the buckets of durations.
        buckets: List<Bound> = [
            "0.5ms", "1ms", "2.5ms", "5ms", "10ms", "25ms", "50ms", "100ms", "250ms", "500ms", "1s", "2.5s", "5s",
            "10s", "30s", "60s",
        ];
    }
}

table! {
    /// Traces of requests, exported by OTLP over HTTP.
    "`[trace]`"
    struct RawTrace {
        /// The collector's URL; traces go to `/v1/traces` below it.
        endpoint: CollectorUrl = required;
        /// Share of the requests that are traced where no caller has decided.
        sample: Share = "1%";
        /// Whose decision in `traceparent` is followed: everyone's, that of `trusted_proxies`, or nobody's.
        follow: FollowWord = "any";
        /// The name under which spans appear.
        service_name: Text = "tenfold";
        /// Header fields that go with each export. Their values are best taken from variables.
        headers: SecretFields = {};
        /// Time for one export.
        timeout: Time<100, 60_000> = "10s";
        /// Whether spans tell the client's address.
        client_address: Switch = true;
    }
}

choice! {
    /// Whose decision is followed.
    enum FollowWord {
        Any = "any" also "all", "always", "parent", "everyone";
        Trusted = "trusted" also "proxies", "trusted_proxies";
        None = "none" also "never", "off", "nobody", "ratio";
    }
}

table! {
    /// The process.
    "`[runtime]`"
    struct RawRuntime {
        /// Worker threads. By default one for each core that the process may use.
        workers: Int<1, 1024> = optional;
        /// Longest time that a stop waits for requests under way.
        drain_timeout: Time<0, 3_600_000> = "30s";
        /// The zone that the process runs in, best taken from a variable: `"${ZONE:-}"`. Endpoints of this zone are
        /// preferred. By default, or when empty, zones do not matter.
        zone: Zone = optional;
    }
}

table! {
    /// Where clients connect by HTTP.
    "`[listener.NAME]`"
    struct RawListener {
        /// An address with a port, or several. `:8080` is port 8080 of every IPv4 address; add `[::]:8080` for IPv6.
        listen: OneOrMany<Listen> = required;
        /// Most client connections at once. Further ones are closed and counted.
        connections_max: Int<1, 10_000_000> = 20000;
        /// Largest request head, request line included.
        head_bytes_max: HeadBytes = "32KiB";
        /// Most header fields in a request.
        head_fields_max: Int<1, 1000> = 100;
        /// Largest request body. Bodies are streamed, so a large limit costs no memory.
        body_bytes_max: Or<Unlimited, Size<0, 1_125_899_906_842_624>> = "1GiB";
        /// Time for a whole request head, from its first byte.
        head_timeout: Limit = "10s";
        /// Longest pause within a request body.
        body_timeout: Limit = "30s";
        /// Longest time without progress while the client does not read its response.
        write_timeout: Limit = "30s";
        /// Longest time that a connection waits for its next request.
        idle_timeout: Limit = "75s";
        /// TLS. By default none.
        tls: RawListenerTls = optional;
        /// HTTP/2: by agreement under TLS, and else with clients that begin with it.
        http2: Or<Off, RawHttp2> = {};
        /// Time for a TLS handshake, from the connection on.
        handshake_timeout: Limit = "10s";
        /// Peers whose `X-Forwarded-*` and `Forwarded` fields are believed.
        trusted_proxies: List<Network> = [];
    }
}

table! {
    /// HTTP/2 with clients.
    "`http2` of `[listener.NAME]`"
    struct RawHttp2 {
        /// Most requests at once on a connection.
        streams_max: Int<1, 1000> = 128;
    }
}

table! {
    /// Which requests go to which service.
    "`[[route]]`"
    struct RawRoute {
        /// Metric label, log field, and identity across reloads. By default the service's name, with -2, -3 and so on
        /// for its further routes.
        name: crate::entry::NameValue = optional;
        /// The listener's name. By default the only listener.
        listener: crate::entry::NameValue = optional;
        /// The host that it serves, without port; `*.example.com` is every host under `example.com`. By default any.
        host: RouteHost = optional;
        /// The path that it serves: `/x` is that path alone, `/x/*` is `/x` and everything under it. By
        /// default `/*`, every path.
        path: RoutePath = optional;
        /// Instead of `path`: an expression that the whole path must match.
        path_regex: PathExpression = optional;
        /// Methods that it serves. By default all. `GET` is not `HEAD`.
        method: OneOrMany<MethodName> = optional;
        /// Header fields that requests must have, by name. Of several fields of one name, one has to fit.
        headers: Map<AskedField, ValueTest> = {};
        /// Cookies that requests must have, by name.
        cookies: Map<AskedCookie, ValueTest> = {};
        /// Parameters that the request's query must have, by name, compared after reading escapes.
        query: Map<AskedParameter, ValueTest> = {};
        /// The service that requests go to, by name. This, `split`, `redirect` or `respond` is
        /// needed.
        service: crate::entry::NameValue = optional;
        /// Services that share the requests by their weights.
        split: List<RawShare> = optional;
        /// What of a request decides which of them it goes to: `client_ip`, `path`, `{ header = "NAME" }` or
        /// `{ cookie = "NAME" }`, so that a client stays with a service. By default each request is drawn at random.
        split_by: HashBy = optional;
        /// Sends clients elsewhere, instead of requests to a service.
        redirect: RawRedirect = optional;
        /// Answers always the same, instead of sending requests to a service.
        respond: RawRespond = optional;
        /// Sends requests that came by plain HTTP to the same place by HTTPS, with 308. Requests that a trusted proxy says
        /// came by HTTPS pass.
        https_only: Switch = false;
        /// Who may ask, by name and password.
        basic_auth: RawBasicAuth = optional;
        /// Which pages of other origins may read the responses.
        cors: RawCors = optional;
        /// What the service is asked for instead of what the client asked for.
        rewrite: RawRewrite = optional;
        /// Changes of requests' fields.
        request_headers: RawRequestFields = optional;
        /// Changes of responses' fields.
        response_headers: RawResponseFields = optional;
        /// Overall time from the end of the request's head to the end of the response's head, all tries included. By
        /// default only the service's own limits hold.
        timeout: Limit = optional;
    }
}

table! {
    /// What the value of a field, cookie or parameter must be: one of the two.
    "`headers`, `cookies` and `query` of `[[route]]`"
    struct RawValueTest {
        /// How it begins.
        prefix: Text = optional;
        /// An expression that the whole value must match.
        regex: Expression = optional;
    }
}

table! {
    /// A service's share of a route's requests.
    "`split` of `[[route]]`"
    struct RawShare {
        /// The service's name.
        service: crate::entry::NameValue = required;
        /// Its share relative to the others. 0 gets nothing.
        weight: Int<0, 1_000_000> = required;
    }
}

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
        /// Addresses, as `"HOST:PORT"` or as tables. A host name stands for each of its addresses.
        endpoints: List<Endpoint> = required;
        /// How often host names are resolved again.
        resolve_interval: Time<1_000, 86_400_000> = "30s";
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
        /// Address or host name, with the port.
        address: HostPort = required;
        /// Share of the traffic relative to the other endpoints. 0 gets none but keeps sticky sessions.
        weight: Int<0, 1000> = 1;
        /// Lower ones come first. Others get what those before them cannot bear: a priority bears its healthy share
        /// times 1.4.
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
