//! `[service.NAME]` to the parameters of a service.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::num::NonZeroU32;
use std::time::Duration;

use ::breaker::{BackoffParams, BudgetParams};
use balance::Algorithm;
use balance::health::{ActiveParams, HealthParams, OutlierParams, PassiveParams, SuccessRateParams};
use balance::slow_start::SlowStartParams;
use gateway::params::{
    CheckKind, CheckParams, EndpointParams, HashKey, Host, PoolParams, Protocol, RetryParams, ServiceParams,
    StickyParams,
};
use net::tls::{HTTP2, HTTP11};
use vocab::{Name, units};

use crate::breaker;
use crate::diagnostic::{Diagnostic, Sink};
use crate::entry::{Endpoint, HashBy};
use crate::grammar::Field;
use crate::http::Statuses;
use crate::quantity::Time;
use crate::raw::{
    BalanceWord, ProtocolWord, RawHealth, RawOutlier, RawPool, RawRetry, RawService, RawSlowStart, RawSuccessRate,
    SendProxyWord,
};
use crate::shedding;
use crate::tls::{self, Files};
use crate::value::{List, OneOrMany};

/// Statuses that count as healthy unless the file says otherwise: what a load balancer's check usually takes.
const HEALTHY: Statuses = Statuses(200, 399);

/// Time for a check to finish unless the file says otherwise.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Fills in the defaults that depend on other keys, so that the effective configuration shows them.
pub(crate) fn resolve(raw: &mut RawService) {
    breaker::resolve(raw);
    shedding::resolve(raw);
    let place = raw.place;
    let hashes = matches!(raw.balance.value, BalanceWord::RingHash | BalanceWord::Maglev);
    if raw.hash_key.is_none() && hashes {
        raw.hash_key = Some(Field { value: HashBy::ClientIp, place, set: false });
    }
    if let Some(health) = raw.health.as_mut().map(|field| &mut field.value) {
        let timeout = CHECK_TIMEOUT.min(health.interval.value.0);
        health.timeout.get_or_insert(Field { value: Time(timeout), place, set: false });
        if health.status.is_none() && !health.tcp.value.0 && !health.grpc.value.0 {
            let status = Field { value: HEALTHY, place, set: false };
            health.status = Some(Field { value: OneOrMany(vec![status]), place, set: false });
        }
    }
}

/// Converts a service, but for its zone, which is the process's; `None` when it has no usable endpoint, which has been
/// reported.
pub(crate) fn params(name: &Name, raw: &RawService, files: &mut Files<'_>, sink: &mut Sink) -> Option<ServiceParams> {
    let key = format!("service.{name}");
    let (balance, hash_key) = balancing(&key, raw, sink);
    let hash_load_factor = hash_load_factor(&key, raw, sink);
    let health = raw.health.as_ref().map(|field| &field.value);
    let check = health.and_then(|health| check(&key, health, sink));
    if let Some(field) = health.map(|health| &health.grpc)
        && field.value.0
        && raw.protocol.value != ProtocolWord::Http2
    {
        let diagnostic =
            Diagnostic::error(field.place, format!("{key}.health.grpc"), "the endpoints do not speak HTTP/2");
        sink.push(diagnostic.fix(format!("add protocol = \"http2\" to [{key}]")));
    }
    if let Some(outlier) = &raw.outlier {
        check_outlier(&key, &outlier.value, sink);
    }
    let passive = raw.passive_health.value.value();
    let success_rate = passive.and_then(|passive| passive.success_rate.as_ref());
    let success_rate = success_rate.map(|field| self::success_rate(&key, &field.value, sink));
    let retry = raw.retry.value.value().map(|retry| retrying(&key, retry, sink));
    let breaker = breaker::params(&key, raw, sink);
    let shedding = shedding::params(&key, raw, sink);
    let fallback = raw.fallback.as_ref().and_then(|field| breaker::fallback(&key, &field.value, sink));
    let endpoints = endpoints(&key, raw.endpoints.as_ref()?, sink);
    let sticky = raw.sticky.as_ref().and_then(|sticky| {
        let ttl = sticky.value.ttl.as_ref().map(|ttl| ttl.value.0);
        Some(StickyParams { cookie: sticky.value.cookie.as_ref()?.value.0.clone(), ttl })
    });
    let protocol = protocol(raw.protocol.value);
    let tls = match &raw.tls {
        None => None,
        Some(field) => {
            let alpn = if protocol == Protocol::Http2 { HTTP2 } else { HTTP11 };
            Some(tls::client(&key, (&field.value, alpn), files, sink)?)
        }
    };
    if endpoints.is_empty() {
        return None;
    }
    Some(ServiceParams {
        name: name.clone(),
        balance,
        hash_key,
        hash_load_factor,
        sticky,
        endpoints,
        zone: None,
        health: judging(raw, success_rate),
        check,
        slow_start: slow_start(&raw.slow_start.value.0),
        retry,
        breaker,
        limits: breaker::limits(&raw.limits.value),
        shedding,
        fallback,
        connect_timeout: raw.connect_timeout.value.0,
        response_timeout: raw.response_timeout.value.0,
        body_timeout: raw.body_timeout.value.0,
        write_timeout: raw.write_timeout.value.0,
        protocol,
        tls,
        pool: pool(&raw.pool.value),
        head_bytes_max: positive(raw.head_bytes_max.value.0 as u32),
        keep_host: raw.keep_host.value.0,
        send_proxy: send_proxy(&key, raw, sink),
    })
}

fn protocol(word: ProtocolWord) -> Protocol {
    match word {
        ProtocolWord::Http1 => Protocol::Http1,
        ProtocolWord::Http2 => Protocol::Http2,
    }
}

/// How endpoints are told whose a connection is.
fn send_proxy(key: &str, raw: &RawService, sink: &mut Sink) -> Option<preface::proxy::Version> {
    let field = raw.send_proxy.as_ref()?;
    if raw.protocol.value == ProtocolWord::Http2 {
        let message = "a connection of HTTP/2 carries requests of several clients";
        let diagnostic = Diagnostic::error(field.place, format!("{key}.send_proxy"), message)
            .related(raw.protocol.set.then_some(raw.protocol.place), "the protocol");
        sink.push(diagnostic.fix("remove send_proxy; requests tell of their clients by X-Forwarded-For".to_owned()));
    }
    Some(match field.value {
        SendProxyWord::V1 => preface::proxy::Version::V1,
        SendProxyWord::V2 => preface::proxy::Version::V2,
    })
}

/// The rules that judge endpoints.
fn judging(raw: &RawService, success_rate: Option<SuccessRateParams>) -> HealthParams {
    let active = raw.health.as_ref().map(|field| &field.value);
    HealthParams {
        active: active.map(|health| ActiveParams { rise: health.rise.value.0, fall: health.fall.value.0 }),
        passive: raw.passive_health.value.value().map(|passive| PassiveParams {
            max_fails: passive.max_fails.value.0,
            fail_timeout: passive.fail_timeout.value.0,
        }),
        outlier: raw.outlier.as_ref().map(|field| outlier(&field.value)),
        success_rate,
        panic_threshold: raw.panic_threshold.value.0,
    }
}

/// A number whose type's range begins at one or above.
pub(crate) fn positive(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("the range of the value excludes zero")
}

fn balancing(key: &str, raw: &RawService, sink: &mut Sink) -> (Algorithm, HashKey) {
    let balance = match raw.balance.value {
        BalanceWord::RoundRobin => Algorithm::RoundRobin,
        BalanceWord::LeastConnections => Algorithm::LeastConnections,
        BalanceWord::Random => Algorithm::Random,
        BalanceWord::PowerOfTwo => Algorithm::PowerOfTwo,
        BalanceWord::PeakEwma => Algorithm::PeakEwma,
        BalanceWord::RingHash => Algorithm::Ring,
        BalanceWord::IpHash | BalanceWord::Maglev => Algorithm::Maglev,
    };
    let hashes = matches!(raw.balance.value, BalanceWord::RingHash | BalanceWord::Maglev);
    let balance_is_known = !raw.failed.contains(&"balance");
    if let Some(field) = raw.hash_key.as_ref().filter(|field| field.set && !hashes && balance_is_known) {
        let diagnostic = Diagnostic::error(field.place, format!("{key}.hash_key"), "nothing is hashed by this balance")
            .related(raw.balance.set.then_some(raw.balance.place), "the balance")
            .allowed("with balance = \"ring_hash\" or \"maglev\"")
            .fix("write balance = \"maglev\", or remove hash_key".to_owned());
        sink.push(diagnostic);
    }
    (balance, raw.hash_key.as_ref().map_or(HashKey::ClientIp, |field| hash_key(&field.value)))
}

/// What of a request is hashed.
pub(crate) fn hash_key(by: &HashBy) -> HashKey {
    match by {
        HashBy::ClientIp => HashKey::ClientIp,
        HashBy::Path => HashKey::Path,
        HashBy::Header(name) => HashKey::Header(name.clone()),
        HashBy::Cookie(name) => HashKey::Cookie(name.clone()),
    }
}

fn hash_load_factor(key: &str, raw: &RawService, sink: &mut Sink) -> Option<f64> {
    let field = raw.hash_load_factor.as_ref()?;
    let hashes = matches!(raw.balance.value, BalanceWord::RingHash | BalanceWord::Maglev | BalanceWord::IpHash);
    if !hashes && !raw.failed.contains(&"balance") {
        let message = "nothing is hashed by this balance";
        let diagnostic = Diagnostic::error(field.place, format!("{key}.hash_load_factor"), message)
            .related(raw.balance.set.then_some(raw.balance.place), "the balance")
            .allowed("with balance = \"ring_hash\", \"maglev\" or \"ip_hash\"")
            .fix("write balance = \"maglev\", or remove hash_load_factor".to_owned());
        sink.push(diagnostic);
    }
    Some(field.value.0)
}

fn endpoints(key: &str, raw: &Field<List<Endpoint>>, sink: &mut Sink) -> Vec<EndpointParams> {
    if raw.value.1 == 0 {
        let diagnostic = Diagnostic::error(raw.place, format!("{key}.endpoints"), "the list is empty");
        sink.push(diagnostic.fix("name at least one endpoint: [\"HOST:PORT\"]".to_owned()));
    }
    let mut endpoints: Vec<EndpointParams> = Vec::new();
    let mut places = HashMap::new();
    for (index, field) in raw.value.0.iter().enumerate() {
        let raw = &field.value.0;
        let Some(address) = raw.address.as_ref().map(|address| &address.value) else { continue };
        let endpoint = EndpointParams {
            host: address.host.clone(),
            port: address.port,
            weight: raw.weight.value.0 as u16,
            priority: raw.priority.value.0 as u8,
            zone: raw.zone.as_ref().and_then(|zone| zone.value.0.clone()),
            backup: raw.backup.value.0,
            drain: raw.drain.value.0,
        };
        if matches!(endpoint.host, Host::Srv(_)) && raw.weight.value.0 != 1 {
            let message = "SRV records have weights of their own";
            let diagnostic = Diagnostic::error(raw.weight.place, format!("{key}.endpoints[{index}].weight"), message);
            sink.push(diagnostic.fix("remove weight, or write a host name with its port".to_owned()));
        }
        match places.entry((endpoint.host.clone(), endpoint.port)) {
            Entry::Vacant(free) => {
                free.insert(field.place);
                endpoints.push(endpoint);
            }
            Entry::Occupied(first) => {
                let diagnostic = Diagnostic::error(field.place, format!("{key}.endpoints[{index}]"), "listed twice")
                    .label("again here")
                    .related(*first.get(), "first here")
                    .fix("remove it; for more traffic write weight = 2".to_owned());
                sink.push(diagnostic);
            }
        }
    }
    endpoints
}

fn check(key: &str, raw: &RawHealth, sink: &mut Sink) -> Option<CheckParams> {
    let key = format!("{key}.health");
    let timeout = raw.timeout.as_ref()?;
    let interval = raw.interval.value.0;
    if timeout.value.0 > interval {
        let message = format!("the timeout is longer than the interval, {}", units::format_duration(interval));
        let diagnostic = Diagnostic::error(timeout.place, format!("{key}.timeout"), message)
            .allowed(format!("at most the interval: \"{}\"", units::format_duration(interval)))
            .fix("shorten the timeout or lengthen the interval".to_owned());
        sink.push(diagnostic);
    }
    let kind = check_kind(&key, raw, sink)?;
    let port = raw.port.as_ref().map(|port| port.value.0 as u16);
    Some(CheckParams { kind, interval, timeout: timeout.value.0, port })
}

/// What is asked: of the three ways, the one that is named.
fn check_kind(key: &str, raw: &RawHealth, sink: &mut Sink) -> Option<CheckKind> {
    let (tcp, grpc) = (raw.tcp.value.0, raw.grpc.value.0);
    let of_http = [
        ("path", raw.path.as_ref().map(|field| field.place)),
        ("status", raw.status.as_ref().filter(|field| field.set).map(|field| field.place)),
        ("body", raw.body.as_ref().map(|field| field.place)),
        ("host", raw.host.as_ref().map(|field| field.place)),
    ];
    let of_grpc = [("grpc_service", raw.grpc_service.as_ref().map(|field| field.place))];
    let (way, name, alien) = match (tcp, grpc) {
        (true, _) => ("tcp", "TCP", [&of_http[..], &of_grpc[..]].concat()),
        (false, true) => ("grpc", "gRPC", of_http.to_vec()),
        (false, false) => ("path", "HTTP", of_grpc.to_vec()),
    };
    for (key_of_other, place) in alien.into_iter().filter_map(|(name, place)| Some((name, place?))) {
        let message = format!("a check by {name} has no {key_of_other}");
        let diagnostic = Diagnostic::error(place, format!("{key}.{key_of_other}"), message);
        sink.push(diagnostic.fix(match (tcp, grpc) {
            (true, _) => format!("remove tcp for a GET, or {key_of_other} for a TCP check"),
            (false, true) => format!("remove {key_of_other}; the answer says how the service is"),
            (false, false) => "add grpc = true, or remove grpc_service".to_owned(),
        }));
    }
    if tcp && grpc {
        let diagnostic = Diagnostic::error(raw.grpc.place, format!("{key}.grpc"), "a check is by TCP or by gRPC");
        sink.push(diagnostic.related(raw.tcp.place, "by TCP").fix("remove one of the two".to_owned()));
    }
    let unread = |key| raw.failed.contains(&key);
    if way == "path" && raw.path.is_none() && !unread("path") && !unread("tcp") && !unread("grpc") {
        let diagnostic = Diagnostic::error(raw.place, key, "nothing is said to check");
        sink.push(diagnostic.fix("add path = \"/health\", grpc = true or tcp = true".to_owned()));
    }
    Some(match way {
        "tcp" => CheckKind::Tcp,
        "grpc" => {
            let service = raw.grpc_service.as_ref().map_or_else(String::new, |service| service.value.0.clone());
            CheckKind::Grpc { service }
        }
        _ => CheckKind::Http {
            path: raw.path.as_ref()?.value.0.clone(),
            host: raw.host.as_ref().map(|host| host.value.0.clone()),
            statuses: raw
                .status
                .as_ref()
                .map_or(&[][..], |status| &status.value.0)
                .iter()
                .map(|field| (field.value.0, field.value.1))
                .collect(),
            body_contains: raw.body.as_ref().map(|body| body.value.0.clone()),
        },
    })
}

/// The lower of two bounds must not exceed the upper one.
pub(crate) fn check_order<const A: u64, const B: u64, const C: u64, const D: u64>(
    key: &str,
    (low_name, low): (&str, &Field<Time<A, B>>),
    (high_name, high): (&str, &Field<Time<C, D>>),
    sink: &mut Sink,
) {
    if low.value.0 > high.value.0 {
        // The one that the file sets is to blame; the other may be a default.
        let (name, place) = if low.set { (low_name, low.place) } else { (high_name, high.place) };
        let show = |duration| units::format_duration(duration);
        let (low, high) = (show(low.value.0), show(high.value.0));
        let message = format!("{low_name} ({low}) is longer than {high_name} ({high})");
        sink.push(Diagnostic::error(place, format!("{key}.{name}"), message).fix(format!("raise {high_name}")));
    }
}

fn check_outlier(key: &str, raw: &RawOutlier, sink: &mut Sink) {
    let (low, high) = (("base_ejection", &raw.base_ejection), ("ejection_max", &raw.ejection_max));
    check_order(&format!("{key}.outlier"), low, high, sink);
}

fn outlier(raw: &RawOutlier) -> OutlierParams {
    OutlierParams {
        consecutive: raw.consecutive.value.0,
        base_ejection: raw.base_ejection.value.0,
        ejection_max: raw.ejection_max.value.0,
        ejected_share_max: raw.ejected_max.value.0,
    }
}

fn slow_start(raw: &RawSlowStart) -> SlowStartParams {
    SlowStartParams {
        window: raw.window.as_ref().map_or(Duration::ZERO, |window| window.value.0),
        aggression: raw.aggression.value.0,
        share_min: raw.share_min.value.0,
    }
}

fn success_rate(key: &str, raw: &RawSuccessRate, sink: &mut Sink) -> SuccessRateParams {
    let (low, high) = (("base_ejection", &raw.base_ejection), ("ejection_max", &raw.ejection_max));
    check_order(&format!("{key}.passive_health.success_rate"), low, high, sink);
    SuccessRateParams {
        interval: raw.interval.value.0,
        requests_min: raw.requests_min.value.0,
        hosts_min: raw.hosts_min.value.0,
        deviations: raw.deviations.value.0,
        margin: raw.margin.value.0,
        base_ejection: raw.base_ejection.value.0,
        ejection_max: raw.ejection_max.value.0,
        ejected_share_max: raw.ejected_max.value.0,
    }
}

fn retrying(key: &str, raw: &RawRetry, sink: &mut Sink) -> RetryParams {
    let backoff = &raw.backoff.value;
    check_order(&format!("{key}.retry.backoff"), ("base", &backoff.base), ("max", &backoff.max), sink);
    let on = breaker::failures_of(&raw.on.value);
    if raw.on.value.1 == 0 {
        let diagnostic = Diagnostic::error(raw.on.place, format!("{key}.retry.on"), "no failure is retried");
        sink.push(diagnostic.fix("write retry = \"off\", or name what is retried".to_owned()));
    }
    RetryParams {
        on,
        retries_max: raw.max.value.0,
        backoff: BackoffParams { base: backoff.base.value.0, max: backoff.max.value.0 },
        budget: BudgetParams {
            share: raw.budget.value.0,
            window: raw.budget_window.value.0,
            floor_per_sec: raw.budget_floor.value.0,
        },
        body_bytes_max: raw.body_bytes_max.value.0 as u32,
    }
}

fn pool(raw: &RawPool) -> PoolParams {
    PoolParams {
        idle_max: raw.idle_max.value.0,
        idle_timeout: raw.idle_timeout.value.0,
        connections_max: positive(raw.connections_max.value.0),
    }
}
