//! The tables of the file: every key, its type, its default, and what it is for.

use crate::address::{Listen, ListenAt, Network};
use crate::database::PgName;
use crate::entry::{AccessTarget, HashBy, Named, Zone};
use crate::grammar::{choice, table};
use crate::http::{RouteHost, RoutePath};
use crate::map::{AskedCookie, AskedField, AskedParameter, Map};
use crate::matching::{Expression, MethodName, PathExpression, ValueTest};
use crate::quantity::{Bound, Int, Share, Size, Time};
use crate::tls::RawListenerTls;
use crate::trace::{CollectorUrl, SecretFields};
use crate::value::{List, Off, OneOrMany, Or, Secret, Switch, Text, Unlimited};

mod action;
mod breaker;
mod cache;
mod database;
mod limit;
mod named_cache;
mod resolver;
mod service;
mod shedding;

pub(crate) use action::{
    CodingWord, LevelWord, RawBasicAuth, RawCompress, RawCors, RawFiles, RawForwardAuth, RawMirror, RawOrigin,
    RawRedirect, RawRequestFields, RawRespond, RawResponseFields, RawRewrite, SchemeWord,
};

pub(crate) use limit::{AlgorithmWord, RawKey, RawLimit, RawRefusal, TellWord, WithoutStoreWord};

pub(crate) use breaker::{RawBreaker, RawFallback, RawLimits, ScopeWord};
pub(crate) use cache::{
    CacheStatusWord, ObeyWord, QueryWord, RawCache, RawCacheBypass, RawCacheDisk, RawCacheKey, RawCacheStore,
    SetCookieWord,
};
pub(crate) use database::{
    AuthWord, CausalityWord, ConsoleAuthWord, NoReplicaWord, PidWord, PinWord, PoolModeWord, RawAuthQuery,
    RawCausality, RawConsole, RawConsoleUser, RawDatabase, RawDatabasePool, RawDatabaseRule, RawDatabaseUser,
    RawExpect, RawFailover, RawReplica, RawUserPool, ReplicaBalanceWord, StatementRouteWord,
};
pub(crate) use named_cache::RawNamedCache;
pub(crate) use resolver::{FamilyWord, RawResolver, WhenEmptyWord};
pub(crate) use shedding::{ClassWord, RawPriority, RawShedding, SaidWord};

pub(crate) use service::{
    BalanceWord, ProtocolWord, RawEndpoint, RawHashKey, RawHealth, RawOutlier, RawPool, RawRetry, RawService,
    RawSlowStart, RawSuccessRate, SendProxyWord,
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
        /// Replacing the process by a new one, by `tenfold upgrade`.
        upgrade: RawUpgrade = {};
        /// How names of endpoints are resolved.
        resolver: RawResolver = {};
        /// What routes with a `cache` store responses in; and, by name, caches for programs in other languages.
        cache: crate::named_cache::CacheTable = {};
        /// Where clients connect, by name.
        listener: Named<RawListener> = {};
        /// Which requests go to which service. The file's order does not matter: the most specific route wins.
        route: List<RawRoute> = [];
        /// How fast requests may come, by name. Routes name those that hold for them.
        limit: Named<RawLimit> = {};
        /// What stands behind the gateway, by name.
        service: Named<RawService> = {};
        /// PostgreSQL databases, by the names that clients ask for.
        database: Named<RawDatabase, PgName> = {};
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
    /// Replacing the process by a new one without losing a connection.
    "`[upgrade]`"
    struct RawUpgrade {
        /// Time for the new process to be ready. Otherwise it is killed, and the old one goes on.
        ready_timeout: Time<1_000, 600_000> = "20s";
        /// Longest time that the old process lives on for connections that do not end, such as WebSockets.
        drain_timeout: Time<0, 86_400_000> = "1h";
    }
}

table! {
    /// Where clients connect.
    "`[listener.NAME]`"
    struct RawListener {
        /// What it serves: requests of HTTP, or connections of TCP or datagrams of UDP, which are passed through, or clients of
        /// databases.
        kind: KindWord = "http";
        /// An address with a port, or several. `:8080` is port 8080 of every IPv4 address; add `[::]:8080` for IPv6. With
        /// `kind = "postgres"` also the file of a Unix socket, such as `/run/tenfold/.s.PGSQL.6432`.
        listen: OneOrMany<ListenAt> = required;
        /// The service that connections go to unless a more specific `[[route]]` is for them. With `kind = "http"` there are
        /// only routes.
        service: crate::entry::NameValue = optional;
        /// Most client connections at once, or sessions of UDP. Further ones are closed and counted.
        connections_max: Int<1, 10_000_000> = 20000;
        /// Most of them from one client, which is an IPv4 address or a /64 of IPv6. By default only `connections_max` holds.
        connections_per_client_max: Int<1, 10_000_000> = optional;
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
        /// Longest time that a connection waits for its next request; with `kind = "tcp"`, that no byte comes in either
        /// direction, and then the default is 10 minutes. With `kind = "udp"` it ends a client's session, after a minute by default.
        idle_timeout: Limit = "75s";
        /// TLS. By default none.
        tls: RawListenerTls = optional;
        /// HTTP/2: by agreement under TLS, and else with clients that begin with it.
        http2: Or<Off, RawHttp2> = {};
        /// Time for a TLS handshake, from the connection on; and for a header of the PROXY protocol before it.
        handshake_timeout: Limit = "10s";
        /// Who says by the PROXY protocol whose connections they are. By default nobody.
        proxy_protocol: RawProxyProtocol = optional;
        /// Peers whose `X-Forwarded-*` and `Forwarded` fields are believed.
        trusted_proxies: List<Network> = [];
        /// With `kind = "postgres"`: the databases that it serves, by the names of their tables. By default all.
        databases: OneOrMany<Text> = optional;
        /// With `kind = "postgres"`: who may ask the proxy itself about its pools and clients, in SQL, in a database named
        /// `pgbouncer` or `tenfold`. By default nobody.
        console: RawConsole = optional;
        /// With `kind = "postgres"`: time for a login, from the connection on, a TLS handshake included.
        login_timeout: Limit = "1m";
        /// With `kind = "postgres"`: longest time that a client takes nothing of its answers, or sends nothing of a message that
        /// it has begun.
        stall_timeout: Limit = "5m";
    }
}

table! {
    /// Connections that begin with a header of the PROXY protocol, version 1 or 2.
    "`proxy_protocol` of `[listener.NAME]`"
    struct RawProxyProtocol {
        /// Peers that begin every connection with it, and are believed. Others have none, and speak for themselves.
        accept_from: List<Network> = required;
    }
}

choice! {
    /// What listeners serve.
    enum KindWord {
        Http = "http" also "https", "http1", "http2", "h2", "l7", "web";
        Udp = "udp" also "datagram", "dns", "quic", "dtls";
        Tcp = "tcp" also "stream", "l4", "raw", "tls", "passthrough", "ssl";
        Postgres = "postgres" also "postgresql", "pgsql", "pg", "database", "db", "pgbouncer";
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
        /// With a listener of `kind = "tcp"`: the host that clients name in their TLS handshake, which is passed through
        /// and not ended here; `*.example.com` is every host under `example.com`. By default any, or none.
        sni: RouteHost = optional;
        /// With a listener of `kind = "tcp"`: protocols of which clients must offer one in their TLS handshake, such as
        /// `h2`. By default any.
        alpn: OneOrMany<Text> = optional;
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
        /// The service that requests go to, by name. This, `split`, `redirect`, `respond` or `files` is
        /// needed.
        service: crate::entry::NameValue = optional;
        /// Services that share the requests by their weights.
        split: List<RawShare> = optional;
        /// What of a request decides which of them it goes to: `client_ip`, `path`, `{ header = "NAME" }` or
        /// `{ cookie = "NAME" }`, so that a client stays with a service. By default each request is drawn at random.
        split_by: HashBy = optional;
        /// A service that a share of the requests is copied to. Nobody waits for what it answers.
        mirror: RawMirror = optional;
        /// Answers requests with responses that were stored before.
        cache: RawCache = optional;
        /// Sends clients elsewhere, instead of requests to a service.
        redirect: RawRedirect = optional;
        /// Answers always the same, instead of sending requests to a service.
        respond: RawRespond = optional;
        /// Serves files, instead of sending requests to a service.
        files: RawFiles = optional;
        /// Which responses of the service are compressed. By default none.
        compress: RawCompress = optional;
        /// Sends requests that came by plain HTTP to the same place by HTTPS, with 308. Requests that a trusted proxy says
        /// came by HTTPS pass.
        https_only: Switch = false;
        /// Limits that requests must pass, in this order: names of `[limit.NAME]`, or tables with the same keys.
        limit: OneOrMany<crate::limit::Use> = optional;
        /// What a request costs its limits of rates.
        limit_cost: Int<0, 1_000_000> = 1;
        /// How important its requests are to a service that sheds load: `low` is refused first, `critical` last, `exempt`
        /// neither counted nor refused. As a table, requests may say it. By default `normal`.
        priority: crate::shedding::Priority = optional;
        /// Who may ask, by name and password.
        basic_auth: RawBasicAuth = optional;
        /// A service that is asked before a request passes.
        forward_auth: RawForwardAuth = optional;
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
        /// Longest pause within the body of a request, and of a response: for streams that are silent for long, as of gRPC or of
        /// events. By default the listener's and the service's own.
        body_timeout: Limit = optional;
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
