//! From the tables of the file to the parameters of the parts that run.

use std::num::NonZeroUsize;

use gateway::params::{GatewayParams, Http2Params, ListenerParams, ParamsError};
use net::handover::UpgradeParams;
use net::tls::{HTTP2, HTTP11};
use telemetry::trace::TraceParams;
use telemetry::{AccessLogFormat, AccessLogParams, LatencyBuckets, LogFormat, LogLevel, LogParams};
use vocab::Name;

use crate::admin_table;
use crate::breaker;
use crate::cache;
use crate::database::{self, Databases};
use crate::diagnostic::{Diagnostic, Sink};
use crate::entry::{NameValue, Named};
use crate::grammar::{Field, Value as _};
use crate::habits::nearest;
use crate::limit;
use crate::named_cache;
use crate::quantity::Int;
use crate::raw::{
    AccessFormatWord, KindWord, LogFormatWord, LogLevelWord, RawConfig, RawListener, RawLog, RawRoute, RawUpgrade,
};
use crate::resolver;
use crate::route;
use crate::service::{self, positive};
use crate::source::Place;
use crate::stream;
use crate::taken::Taken;
use crate::tls::{self, Files};
use crate::trace;
use crate::value::Or;
use crate::warnings;

/// Most addresses of all listeners together: each is a socket.
const ADDRESSES_MAX: usize = 1_000;

/// What a configuration comes to.
pub(crate) struct Converted {
    pub(crate) gateway: GatewayParams,
    pub(crate) caches: Vec<cache_server::CacheParams>,
    pub(crate) databases: Databases,
    pub(crate) log: LogParams,
    pub(crate) trace: Option<TraceParams>,
    pub(crate) buckets: LatencyBuckets,
    pub(crate) admin: Option<admin::AdminParams>,
    pub(crate) upgrade: UpgradeParams,
    pub(crate) effective: serde_json::Value,
}

/// Converts the file; `None` when parts contradict each other, which has been reported.
pub(crate) fn config(mut raw: RawConfig, files: &mut Files<'_>, sink: &mut Sink) -> Option<Converted> {
    resolve(&mut raw, sink);
    if !few_addresses(&raw.listener.value, sink) {
        return None;
    }
    let admin = admin_table::params(&raw.admin.value, &raw.listener.value, files, sink);
    let all_routes = &raw.route.value.0;
    let tables = raw.listener.value.tables.iter();
    let tables = tables.filter(|(_, raw)| raw.kind.value != KindWord::Postgres);
    let listeners: Vec<_> =
        tables.filter_map(|(name, raw)| listener(&name.value, (raw, all_routes), files, sink)).collect();
    let mut services: Vec<_> = raw
        .service
        .value
        .tables
        .iter()
        .filter_map(|(name, raw)| service::params(&name.value, raw, files, sink))
        .collect();
    let zone = raw.runtime.value.zone.as_ref().and_then(|zone| zone.value.0.clone());
    services.iter_mut().for_each(|service| service.zone.clone_from(&zone));
    let limits = limit::named(&raw, sink);
    let routes: Vec<_> = raw
        .route
        .value
        .0
        .iter()
        .enumerate()
        .filter(|(_, field)| matches!(stream::kind_of(&raw, &field.value), None | Some(KindWord::Http)))
        .filter_map(|(at, field)| {
            if stream::kind_of(&raw, &field.value).is_some() {
                stream::check_route_of_http(at, &field.value, sink);
            }
            route::params(at, &field.value, (&limits, &raw), files, sink)
        })
        .collect();
    let workers = raw.runtime.value.workers.as_ref().map_or(1, |workers| workers.value.0 as usize);
    let workers = NonZeroUsize::new(workers).unwrap_or(NonZeroUsize::MIN);
    let drain_timeout = raw.runtime.value.drain_timeout.value.0;
    let resolver = resolver::params(&raw.resolver.value, sink);
    let cache = cache::store(&raw.cache.value.store, files, sink);
    let mut taken = Taken::by_listeners(&raw, sink);
    let caches = named_cache::params(&raw, &mut taken, sink);
    let databases = database::params(&raw, files, &mut taken, sink);
    let gateway = match GatewayParams::new(workers, drain_timeout, listeners, routes, services) {
        Ok(gateway) => gateway.with_resolver(resolver).with_cache(cache),
        Err(errors) => {
            contradictions(&raw, &errors, sink);
            return None;
        }
    };
    if !sink.has_errors() {
        warnings::report(&raw, &gateway, sink);
        database::warn(&raw, &databases, sink);
    }
    let mut effective = raw.effective();
    // What was included is part of what is shown.
    effective.as_object_mut().map(|map| map.shift_remove("include"));
    stream::trim(&raw, &mut effective);
    // Each bound was checked when it was read; one that was wrong is reported already.
    let bounds = raw.metrics.value.buckets.value.0.iter().map(|field| field.value.0);
    let buckets = LatencyBuckets::new(bounds).unwrap_or_default();
    let trace = raw.trace.as_ref().and_then(|field| trace::params(&field.value));
    let RawUpgrade { ready_timeout, drain_timeout, .. } = &raw.upgrade.value;
    let upgrade = UpgradeParams { ready_timeout: ready_timeout.value.0, drain_timeout: drain_timeout.value.0 };
    Some(Converted { gateway, caches, databases, log: log(&raw.log.value), trace, buckets, admin, upgrade, effective })
}

/// Reports what contradicts itself, as far as it is not reported yet.
fn contradictions(raw: &RawConfig, errors: &[ParamsError], sink: &mut Sink) {
    for error in errors {
        if sink.is_full() {
            sink.leave_out(1);
        } else if let Some(found) = contradiction(raw, error) {
            sink.push(found);
        }
    }
}

/// Checks that the addresses can be compared with each other in no time.
fn few_addresses(listeners: &Named<RawListener>, sink: &mut Sink) -> bool {
    let mut fields =
        listeners.tables.iter().filter_map(|(_, raw)| raw.listen.as_ref()).flat_map(|field| &field.value.0);
    let Some(beyond) = fields.nth(ADDRESSES_MAX) else { return true };
    let diagnostic = Diagnostic::error(beyond.place, "listener", "there are too many addresses to listen on");
    sink.push(diagnostic.allowed(format!("at most {ADDRESSES_MAX}")));
    false
}

/// Fills in what can be derived: workers, the listeners and names of routes, and what services derive.
fn resolve(raw: &mut RawConfig, sink: &mut Sink) {
    let runtime = &mut raw.runtime.value;
    runtime.workers.get_or_insert_with(|| {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Field { value: Int(cores.min(1024) as u32), place: runtime.place, set: false }
    });
    raw.service.value.tables.iter_mut().for_each(|(_, service)| service::resolve(service));
    raw.listener.value.tables.iter_mut().for_each(|(_, listener)| stream::resolve(listener));
    database::resolve(raw);
    // Listeners of databases have no routes.
    let of_databases = |name: &str| {
        let table = raw.listener.value.tables.iter().find(|(field, _)| field.value.as_str() == name);
        table.is_some_and(|(_, listener)| listener.kind.value == KindWord::Postgres)
    };
    let with_routes: Vec<_> = raw.listener.value.written.iter().filter(|name| !of_databases(name)).collect();
    let only_listener = match with_routes.as_slice() {
        [only] => only.parse::<Name>().ok(),
        _ => None,
    };
    let listeners = &raw.listener.value;
    let mut taken: Vec<(Name, Place)> = Vec::new();
    for (index, route) in raw.route.value.0.iter_mut().enumerate() {
        let route = &mut route.value;
        if route.listener.is_none() && !route.failed.contains(&"listener") {
            match &only_listener {
                Some(name) => route.listener = Some(derived(name.clone(), route.place)),
                // The only listener's own error is reported already.
                None if listeners.written.len() == 1 || listeners.nameless => {}
                None => sink.push(listener_needed(listeners, index, route.place)),
            }
        }
        // Two routes of one name are told apart here, where both places are at hand.
        let Some(name) = &route.name else { continue };
        match taken.iter().find(|(other, _)| *other == name.value.0) {
            None => taken.push((name.value.0.clone(), name.place)),
            Some((_, first)) => {
                let message = format!("two routes are named {:?}", name.value.0);
                let diagnostic = Diagnostic::error(name.place, format!("route[{index}].name"), message)
                    .label("again here")
                    .related(*first, "first here")
                    .fix("give one of them another name".to_owned());
                sink.push(diagnostic);
                route.name = None;
            }
        }
    }
    let of_http = |route: &RawRoute| matches!(stream::kind_of(raw, route), None | Some(KindWord::Http));
    let of_http: Vec<bool> = raw.route.value.0.iter().map(|route| of_http(&route.value)).collect();
    let routes = raw.route.value.0.iter_mut().zip(of_http);
    routes.filter(|(_, of_http)| *of_http).for_each(|(route, _)| route::resolve(&mut route.value));
    name_routes(raw, taken, sink);
    limit::resolve_all(raw);
}

/// Gives the routes without a name that of their service, and the further ones -2, -3 and so on.
fn name_routes(raw: &mut RawConfig, taken: Vec<(Name, Place)>, sink: &mut Sink) {
    let mut taken: std::collections::HashSet<Name> = taken.into_iter().map(|(name, _)| name).collect();
    // Where to go on counting, so that a thousand routes of one service take a thousand steps.
    let mut counts = std::collections::HashMap::<Name, u32>::new();
    for (index, route) in raw.route.value.0.iter_mut().enumerate() {
        let route = &mut route.value;
        let (None, Some(base)) = (&route.name, route::base_name(route)) else { continue };
        let count = counts.entry(base.clone()).or_default();
        let free = loop {
            *count += 1;
            let text = if *count == 1 { base.to_string() } else { format!("{base}-{count}") };
            match text.parse::<Name>() {
                Ok(name) if taken.contains(&name) => {}
                other => break other,
            }
        };
        match free {
            Ok(name) => {
                taken.insert(name.clone());
                route.name = Some(derived(name, route.place));
            }
            Err(error) => {
                let message = format!("no name can be derived from the service's: {error}");
                let diagnostic = Diagnostic::error(route.place, format!("route[{index}]"), message);
                sink.push(diagnostic.fix("add name = \"NAME\"".to_owned()));
            }
        }
    }
}

fn derived(name: Name, place: Place) -> Field<NameValue> {
    Field { value: NameValue(name), place, set: false }
}

fn listener_needed(listeners: &Named<RawListener>, index: usize, place: Place) -> Diagnostic {
    let key = format!("route[{index}]");
    if listeners.written.is_empty() {
        return Diagnostic::error(place, key, "there is no listener for this route")
            .fix("add [listener.web] with listen = \"0.0.0.0:8080\"".to_owned());
    }
    Diagnostic::error(place, key, "the key `listener` is missing, and there are several")
        .allowed(listeners.written.join(", "))
        .fix(format!("add listener = \"{}\"", listeners.written[0]))
}

fn log(raw: &RawLog) -> LogParams {
    LogParams {
        format: match raw.format.value {
            LogFormatWord::Text => LogFormat::Text,
            LogFormatWord::Json => LogFormat::Json,
        },
        level: match raw.level.value {
            LogLevelWord::Error => LogLevel::Error,
            LogLevelWord::Warn => LogLevel::Warn,
            LogLevelWord::Info => LogLevel::Info,
            LogLevelWord::Debug => LogLevel::Debug,
            LogLevelWord::Trace => LogLevel::Trace,
        },
        access: AccessLogParams {
            target: raw.access.value.0.clone(),
            format: match raw.access_format.value {
                AccessFormatWord::Json => AccessLogFormat::Json,
                AccessFormatWord::Combined => AccessLogFormat::Combined,
                AccessFormatWord::Logfmt => AccessLogFormat::Logfmt,
            },
        },
    }
}

fn listener(
    name: &Name,
    (raw, routes): (&RawListener, &[Field<RawRoute>]),
    files: &mut Files<'_>,
    sink: &mut Sink,
) -> Option<ListenerParams> {
    let kind = stream::kind(name, raw, routes, sink);
    let http2 = raw.http2.value.value().filter(|_| raw.kind.value == KindWord::Http);
    let http2 = http2.map(|http2| Http2Params { streams_max: positive(http2.streams_max.value.0) });
    let (tls, acme) = match &raw.tls {
        None => (None, None),
        Some(field) => {
            let protocols: &[&[u8]] = match (raw.kind.value, &http2) {
                (KindWord::Http, Some(_)) => &[HTTP2, HTTP11],
                (KindWord::Http, None) => &[HTTP11],
                (KindWord::Tcp | KindWord::Udp | KindWord::Postgres, _) => &[],
            };
            if let Some(required) = &field.value.required {
                let message = "only with kind postgres do clients ask for TLS";
                let diagnostic = Diagnostic::error(required.place, format!("listener.{name}.tls.required"), message);
                sink.push(diagnostic.fix("remove required".to_owned()));
            }
            let (tls, acme) = tls::server(name.as_str(), (&field.value, protocols), files, sink)?;
            (Some(tls), acme)
        }
    };
    let fields = &raw.listen.as_ref()?.value.0;
    for field in fields.iter().filter(|field| field.value.tcp().is_none()) {
        let message = "only listeners of kind postgres have Unix sockets";
        let diagnostic = Diagnostic::error(field.place, format!("listener.{name}.listen"), message);
        sink.push(diagnostic.fix("write an address with a port".to_owned()));
    }
    let addresses: Vec<_> = fields.iter().filter_map(|field| field.value.tcp()).collect();
    if addresses.is_empty() {
        return None;
    }
    Some(ListenerParams {
        name: name.clone(),
        kind: kind?,
        addresses,
        connections_max: positive(raw.connections_max.value.0),
        connections_per_client_max: raw.connections_per_client_max.as_ref().map(|field| positive(field.value.0)),
        head_bytes_max: positive(raw.head_bytes_max.value.0 as u32),
        head_fields_max: positive(raw.head_fields_max.value.0),
        body_bytes_max: match &raw.body_bytes_max.value {
            Or::Word(_) => None,
            Or::Value(size) => Some(size.0),
        },
        head_timeout: raw.head_timeout.value.0,
        body_timeout: raw.body_timeout.value.0,
        write_timeout: raw.write_timeout.value.0,
        idle_timeout: raw.idle_timeout.value.0,
        tls,
        acme,
        http2,
        handshake_timeout: raw.handshake_timeout.value.0,
        proxy_protocol: raw.proxy_protocol.as_ref().map_or_else(Vec::new, |table| {
            let networks = table.value.accept_from.iter().flat_map(|field| &field.value.0);
            networks.map(|field| field.value.0).collect()
        }),
        trusted_proxies: raw.trusted_proxies.value.0.iter().map(|field| field.value.0).collect(),
    })
}

/// A contradiction at its place in the file. `None` when it only follows from an error that was reported before.
fn contradiction(raw: &RawConfig, error: &ParamsError) -> Option<Diagnostic> {
    match error {
        ParamsError::Unknown { route, kind, name } => unknown(raw, route, kind, name),
        ParamsError::Fallback { service, name } => breaker::no_fallback(raw, service, name),
        ParamsError::UnknownOfListener { listener, name } => {
            let (key, field) = stream::service_of(raw, listener, name)?;
            missing(raw, "service", (key, field), name)
        }
        ParamsError::Shadowed { first, second } => route::shadowed(raw, first, second),
        ParamsError::AddressTaken { address, first, second } => {
            let places = |name: &Name| {
                let (_, listener) = raw.listener.value.tables.iter().find(|(field, _)| field.value == *name)?;
                let listen = &listener.listen.as_ref()?.value.0;
                Some(
                    listen
                        .iter()
                        .filter(|field| field.value.tcp() == Some(*address))
                        .map(|field| field.place)
                        .collect(),
                )
            };
            let (firsts, seconds): (Vec<Place>, Vec<Place>) = (places(first)?, places(second)?);
            let message = format!("{address} is taken by listener {first}");
            let diagnostic = Diagnostic::error(*seconds.last()?, format!("listener.{second}.listen"), message)
                .label("again here")
                .related(firsts.first().copied(), "first here")
                .fix("give one of them another port, or remove it".to_owned());
            Some(diagnostic)
        }
        // Names are the keys of tables, and those of routes were checked with their places.
        ParamsError::Duplicate { kind, name } => {
            Some(Diagnostic::error(Place::start_of(0), "", format!("{kind} {name}: the name is used twice")))
        }
    }
}

fn unknown(raw: &RawConfig, route: &Name, kind: &str, name: &Name) -> Option<Diagnostic> {
    let (index, raw_route) = route::find(raw, route)?;
    let (field_key, field) = if kind == "listener" {
        (kind.to_owned(), raw_route.listener.as_ref()?)
    } else {
        route::services(raw_route).find(|(_, field)| field.value.0 == *name)?
    };
    missing(raw, kind, (format!("route[{index}].{field_key}"), field), name)
}

/// A name that nothing has; `None` when that only follows from an error that was reported before.
fn missing(raw: &RawConfig, kind: &str, (key, field): (String, &Field<NameValue>), name: &Name) -> Option<Diagnostic> {
    let (written, nameless) = if kind == "listener" {
        (&raw.listener.value.written, raw.listener.value.nameless)
    } else {
        (&raw.service.value.written, raw.service.value.nameless)
    };
    if nameless || raw.failed.contains(&kind) || written.iter().any(|written| written == name.as_str()) {
        return None;
    }
    let near = nearest(name.as_str(), written.iter().map(String::as_str));
    let fix = near.map_or_else(|| format!("add [{kind}.{name}]"), |near| format!("did you mean \"{near}\"?"));
    let diagnostic = Diagnostic::error(field.place, key, format!("no {kind} is named {name:?}"))
        .allowed(if written.is_empty() { format!("there is no {kind} yet") } else { written.join(", ") })
        .fix(fix);
    Some(diagnostic)
}
