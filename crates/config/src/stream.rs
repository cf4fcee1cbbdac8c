//! Listeners that serve no HTTP, and the routes of those.

use std::time::Duration;

use gateway::params::{HostMatch, ListenerKind, StreamRouteParams};
use vocab::Name;

use crate::diagnostic::{Diagnostic, Sink};
use crate::grammar::{Field, Value as _};
use crate::quantity::Time;
use crate::raw::{KindWord, RawConfig, RawListener, RawRoute};
use crate::source::Place;

/// Time without a byte in either direction after which a TCP connection is cut: that of nginx.
const TCP_IDLE: Duration = Duration::from_mins(10);

/// The same for a session of UDP: most protocols ask again within seconds.
const UDP_IDLE: Duration = Duration::from_mins(1);

/// Keys of a listener that speak of HTTP.
const OF_HTTP: &[&str] = &[
    "head_bytes_max",
    "head_fields_max",
    "body_bytes_max",
    "head_timeout",
    "body_timeout",
    "write_timeout",
    "http2",
    "trusted_proxies",
];

/// Keys of a listener that only others have.
const OF_STREAMS: &[&str] = &["service"];

/// Keys of a listener that speak of databases.
const OF_DATABASES: &[&str] = &["databases", "console", "login_timeout", "stall_timeout"];

/// Keys of a listener that are about clients which it passes on, whatever they speak.
const OF_PASSAGES: &[&str] = &["connections_per_client_max", "idle_timeout", "handshake_timeout", "proxy_protocol"];

/// Keys of a listener that speak of connections.
const OF_CONNECTIONS: &[&str] = &["tls", "proxy_protocol", "handshake_timeout"];

/// Keys of a route for connections.
const OF_ROUTES: &[&str] = &["name", "listener", "sni", "alpn", "service"];

/// Fills in what depends on a listener's kind.
pub(crate) fn resolve(raw: &mut RawListener) {
    if !raw.idle_timeout.set {
        match raw.kind.value {
            KindWord::Http | KindWord::Postgres => {}
            KindWord::Tcp => raw.idle_timeout.value = Time(TCP_IDLE),
            KindWord::Udp => raw.idle_timeout.value = Time(UDP_IDLE),
        }
    }
}

/// What the listener of a route serves; `None` if that is not known.
pub(crate) fn kind_of(raw: &RawConfig, route: &RawRoute) -> Option<KindWord> {
    let name = &route.listener.as_ref()?.value.0;
    let (_, listener) = raw.listener.value.tables.iter().find(|(field, _)| field.value == *name)?;
    (!listener.failed.contains(&"kind")).then_some(listener.kind.value)
}

/// Converts what a listener serves; `None` when something about it is wrong, which has been reported.
pub(crate) fn kind(
    name: &Name,
    raw: &RawListener,
    routes: &[Field<RawRoute>],
    sink: &mut Sink,
) -> Option<ListenerKind> {
    if raw.failed.contains(&"kind") {
        return None;
    }
    check_keys(name, raw, sink);
    let key = format!("listener.{name}");
    accepted(&key, raw, sink);
    match raw.kind.value {
        KindWord::Http => Some(ListenerKind::Http),
        KindWord::Tcp => tcp(name, raw, routes, sink).map(ListenerKind::Tcp),
        KindWord::Udp => udp(name, raw, routes, sink).map(ListenerKind::Udp),
        // It is no listener of the gateway's.
        KindWord::Postgres => None,
    }
}

/// Keys that a listener of a kind does not have.
fn aliens(kind: KindWord) -> Vec<&'static str> {
    match kind {
        KindWord::Http => [OF_STREAMS, OF_DATABASES].concat(),
        KindWord::Tcp => [OF_HTTP, OF_DATABASES].concat(),
        KindWord::Udp => [OF_HTTP, OF_CONNECTIONS, OF_DATABASES].concat(),
        KindWord::Postgres => [OF_HTTP, OF_STREAMS, OF_PASSAGES].concat(),
    }
}

/// Reports keys that a listener of its kind does not have.
pub(crate) fn check_keys(name: &Name, raw: &RawListener, sink: &mut Sink) {
    let (kind, aliens) = (raw.kind.value, aliens(raw.kind.value));
    let word = kind.effective();
    let word = word.as_str().unwrap_or_default();
    for (alien, place) in raw.written().into_iter().filter(|(written, _)| aliens.contains(written)) {
        let message = format!("a listener of kind {word} has no {alien}");
        let fix = match (kind, alien) {
            (KindWord::Http, "service") => "add [[route]] with service, or kind = \"tcp\" here".to_owned(),
            (KindWord::Http, "databases" | "console") => "add kind = \"postgres\"".to_owned(),
            (KindWord::Postgres, "handshake_timeout") => "write login_timeout".to_owned(),
            (KindWord::Postgres, "service") => "write databases = [\"NAME\"]".to_owned(),
            (KindWord::Postgres, "idle_timeout") => {
                "write timeouts = { client_idle = \"1h\" } in [database.NAME]".to_owned()
            }
            _ => format!("remove {alien}"),
        };
        let diagnostic = Diagnostic::error(place, format!("listener.{name}.{alien}"), message);
        sink.push(diagnostic.related(raw.kind.set.then_some(raw.kind.place), "its kind").fix(fix));
    }
}

/// Somebody must be named whose PROXY headers are believed.
fn accepted(key: &str, raw: &RawListener, sink: &mut Sink) {
    let accept_from = raw.proxy_protocol.as_ref().and_then(|table| table.value.accept_from.as_ref());
    if let Some(field) = accept_from.filter(|field| field.value.1 == 0) {
        let diagnostic = Diagnostic::error(field.place, format!("{key}.proxy_protocol.accept_from"), "nobody is named");
        sink.push(diagnostic.fix("name the networks of your proxies, or remove proxy_protocol".to_owned()));
    }
}

fn udp(name: &Name, raw: &RawListener, routes: &[Field<RawRoute>], sink: &mut Sink) -> Option<Name> {
    let of_listener = |route: &RawRoute| route.listener.as_ref().is_some_and(|field| field.value.0 == *name);
    for (index, field) in routes.iter().enumerate().filter(|(_, field)| of_listener(&field.value)) {
        let message = "a listener of kind udp has no routes";
        let diagnostic = Diagnostic::error(field.place, format!("route[{index}]"), message);
        sink.push(diagnostic.fix(format!("write service = \"NAME\" in [listener.{name}]")));
    }
    if raw.service.is_none() && !raw.failed.contains(&"service") {
        let diagnostic = Diagnostic::error(raw.place, format!("listener.{name}"), "nothing says where datagrams go");
        sink.push(diagnostic.fix("add service = \"NAME\"".to_owned()));
    }
    raw.service.as_ref().map(|field| field.value.0.clone())
}

fn tcp(name: &Name, raw: &RawListener, routes: &[Field<RawRoute>], sink: &mut Sink) -> Option<Vec<StreamRouteParams>> {
    let key = format!("listener.{name}");
    let own = raw.service.as_ref().map(|field| (StreamRouteParams::every(field.value.0.clone()), field.place));
    let mut found: Vec<(StreamRouteParams, Place)> = own.into_iter().collect();
    let of_listener = |route: &RawRoute| route.listener.as_ref().is_some_and(|field| field.value.0 == *name);
    let mut sound = !raw.failed.contains(&"service");
    let ends_tls = raw.tls.is_some();
    for (index, field) in routes.iter().enumerate().filter(|(_, field)| of_listener(&field.value)) {
        let Some(route) = route(index, &field.value, ends_tls, sink) else {
            sound = false;
            continue;
        };
        let served = |one: &StreamRouteParams| (one.host.clone(), one.alpn.clone());
        if let Some((_, first)) = found.iter().find(|(other, _)| served(other) == served(&route)) {
            let message = "the connections of this route have another one already";
            let diagnostic = Diagnostic::error(field.place, format!("route[{index}]"), message)
                .label("never used")
                .related(*first, "this one wins")
                .fix("give it another sni or alpn, or remove it".to_owned());
            sink.push(diagnostic);
            sound = false;
            continue;
        }
        found.push((route, field.place));
    }
    if found.is_empty() && sound {
        let diagnostic = Diagnostic::error(raw.place, &key, "nothing says where connections go");
        sink.push(diagnostic.fix("add service = \"NAME\"".to_owned()));
    }
    (sound && !found.is_empty()).then(|| found.into_iter().map(|(route, _)| route).collect())
}

/// Converts a route for connections.
fn route(index: usize, raw: &RawRoute, ends_tls: bool, sink: &mut Sink) -> Option<StreamRouteParams> {
    let key = format!("route[{index}]");
    for (alien, place) in raw.written().into_iter().filter(|(written, _)| !OF_ROUTES.contains(written)) {
        let message = format!("a route of a listener of kind tcp has no {alien}");
        let fix = match alien {
            "host" => "write sni for the host that a client names in its TLS handshake".to_owned(),
            _ => format!("remove {alien}"),
        };
        sink.push(Diagnostic::error(place, format!("{key}.{alien}"), message).fix(fix));
    }
    if let Some(alpn) = raw.alpn.as_ref().filter(|_| ends_tls) {
        let diagnostic = Diagnostic::error(alpn.place, format!("{key}.alpn"), "the listener agrees on no protocol");
        sink.push(diagnostic.fix("remove alpn, or tls of the listener to pass TLS through".to_owned()));
    }
    let Some(service) = &raw.service else {
        if !raw.failed.contains(&"service") {
            let diagnostic = Diagnostic::error(raw.place, key, "the key `service` is missing");
            sink.push(diagnostic.fix("add service = \"NAME\"".to_owned()));
        }
        return None;
    };
    if raw.failed.iter().any(|failed| matches!(*failed, "sni" | "alpn")) {
        return None;
    }
    let mut alpn: Vec<String> =
        raw.alpn.iter().flat_map(|field| &field.value.0).map(|field| field.value.0.clone()).collect();
    alpn.sort_unstable();
    alpn.dedup();
    Some(StreamRouteParams {
        name: raw.name.as_ref().map(|name| name.value.0.clone()),
        host: raw.sni.as_ref().map_or(HostMatch::Any, |sni| sni.value.0.clone()),
        alpn,
        service: service.value.0.clone(),
    })
}

/// Reports keys of a route for requests that only connections have.
pub(crate) fn check_route_of_http(index: usize, raw: &RawRoute, sink: &mut Sink) {
    for (alien, place) in raw.written().into_iter().filter(|(written, _)| matches!(*written, "sni" | "alpn")) {
        let message = format!("a route of a listener of kind http has no {alien}");
        let fix = match alien {
            "sni" => "write host instead",
            _ => "remove alpn; every version of HTTP takes the same routes",
        };
        sink.push(Diagnostic::error(place, format!("route[{index}].{alien}"), message).fix(fix.to_owned()));
    }
}

/// Takes out of the effective configuration what tables that are not about HTTP cannot have.
pub(crate) fn trim(raw: &RawConfig, effective: &mut serde_json::Value) {
    for (name, table) in &raw.listener.value.tables {
        let map = effective["listener"][name.value.as_str()].as_object_mut();
        let aliens = aliens(table.kind.value);
        if let Some(map) = map {
            map.retain(|key, _| !aliens.contains(&key.as_str()));
        }
    }
    for (at, field) in raw.route.value.0.iter().enumerate() {
        let map = effective["route"][at].as_object_mut();
        if let (Some(KindWord::Tcp), Some(map)) = (kind_of(raw, &field.value), map) {
            map.retain(|key, _| OF_ROUTES.contains(&key.as_str()));
        }
    }
}

/// Where a listener names a service, with its key: in its own table, or in a route.
pub(crate) fn service_of<'r>(
    raw: &'r RawConfig,
    listener: &Name,
    service: &Name,
) -> Option<(String, &'r Field<crate::entry::NameValue>)> {
    let (_, table) = raw.listener.value.tables.iter().find(|(field, _)| field.value == *listener)?;
    let own = table.service.iter().map(|field| (format!("listener.{listener}.service"), field));
    let routes = raw.route.value.0.iter().enumerate();
    let of_listener =
        routes.filter(|(_, route)| route.value.listener.as_ref().is_some_and(|field| field.value.0 == *listener));
    let in_routes =
        of_listener.filter_map(|(at, route)| Some((format!("route[{at}].service"), route.value.service.as_ref()?)));
    own.chain(in_routes).find(|(_, field)| field.value.0 == *service)
}
