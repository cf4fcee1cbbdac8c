//! What is allowed but probably not meant.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use acme::Challenge;
use gateway::params::{FallbackParams, GatewayParams, Host, ListenerKind, PathMatch, RouteParams};
use vocab::Name;

use crate::diagnostic::{Diagnostic, Sink};
use crate::entry::Endpoint;
use crate::grammar::Field;
use crate::raw::{KindWord, RawConfig, RawListener, RawService};
use crate::route;
use crate::source::Place;
use crate::trace;

/// Reports warnings about a configuration without errors.
pub(crate) fn report(raw: &RawConfig, gateway: &GatewayParams, sink: &mut Sink) {
    let of_databases = |listener: &RawListener| listener.kind.value == KindWord::Postgres;
    let serves_databases = raw.listener.value.tables.iter().any(|(_, listener)| of_databases(listener))
        || raw.database.value.tables.iter().any(|(_, database)| database.listen.is_some());
    if gateway.listeners().is_empty() && raw.cache.value.named.tables.is_empty() && !serves_databases {
        let diagnostic = Diagnostic::warning(None, "", "there is no listener, so nothing is served");
        sink.push(diagnostic.fix("add [listener.web] with listen = \"0.0.0.0:8080\"".to_owned()));
    }
    let passing = || gateway.listeners().iter().filter(|listener| listener.kind != ListenerKind::Http);
    let listeners = gateway.routes().iter().map(|route| &route.listener);
    let listeners: HashSet<_> = listeners.chain(passing().map(|listener| &listener.name)).collect();
    let fallbacks = gateway.services().iter().filter_map(|service| match &service.fallback {
        Some(FallbackParams::Service(name)) => Some(name),
        _ => None,
    });
    let passed = passing().flat_map(|listener| listener.kind.services()).chain(fallbacks);
    let services: HashSet<_> = gateway.routes().iter().flat_map(RouteParams::services).chain(passed).collect();
    let mut unused = |kind: &str, name: &Field<Name>, message: &str| {
        let diagnostic = Diagnostic::warning(name.place, format!("{kind}.{}", name.value), message);
        sink.push(diagnostic.fix(format!("add [[route]] with {kind} = \"{}\"", name.value)));
    };
    let without_route =
        |(name, table): &&(Field<Name>, RawListener)| !listeners.contains(&name.value) && !of_databases(table);
    for (name, _) in raw.listener.value.tables.iter().filter(without_route) {
        unused("listener", name, "no route uses the listener, so every request is answered 404");
    }
    for (name, _) in raw.service.value.tables.iter().filter(|(name, _)| !services.contains(&name.value)) {
        unused("service", name, "no route uses the service");
    }
    expressions(raw, gateway, sink);
    trust(raw, sink);
    zones(raw, sink);
    if let Some(field) = &raw.trace {
        trace::warnings(&field.value, sink);
    }
    unanswered(raw, gateway, sink);
    let listens = listens(raw);
    for (name, service) in &raw.service.value.tables {
        capacity(&format!("service.{}", name.value), service, sink);
        loops(&listens, &format!("service.{}", name.value), service, sink);
    }
}

/// Zones of endpoints mean nothing as long as the gateway does not know its own.
fn zones(raw: &RawConfig, sink: &mut Sink) {
    if raw.runtime.value.zone.is_some() {
        return;
    }
    for (name, service) in &raw.service.value.tables {
        let endpoints = service.endpoints.iter().flat_map(|field| &field.value.0).enumerate();
        let zone = |(index, endpoint): (usize, &Field<Endpoint>)| Some((index, endpoint.value.0.zone.as_ref()?.place));
        if let Some((index, place)) = endpoints.filter_map(zone).next() {
            let key = format!("service.{}.endpoints[{index}].zone", name.value);
            let diagnostic =
                Diagnostic::warning(place, key, "the gateway does not know its own zone, so this has no effect");
            sink.push(diagnostic.fix("add zone = \"${ZONE:-}\" to [runtime]".to_owned()));
            return;
        }
    }
}

/// An expression whose paths are all under a prefix is never looked at: prefixes come first.
fn expressions(raw: &RawConfig, gateway: &GatewayParams, sink: &mut Sink) {
    let key = |route: &RouteParams, prefix: &str| (route.listener.clone(), route.host.clone(), prefix.to_owned());
    let prefixes: HashMap<_, _> = gateway
        .routes()
        .iter()
        .filter(|route| route.conditions.count() == 0)
        .filter_map(|route| match &route.path {
            PathMatch::Prefix(prefix) if prefix != "/" => Some((key(route, prefix), route)),
            _ => None,
        })
        .collect();
    for route in gateway.routes() {
        let PathMatch::Regex(pattern) = &route.path else { continue };
        let literal = beginning(pattern.as_str());
        let mut within = literal.match_indices('/').map(|(at, _)| &literal[..=at]);
        let Some(first) = within.find_map(|prefix| prefixes.get(&key(route, prefix))) else { continue };
        let Some((index, raw)) = route::find(raw, &route.name) else { continue };
        let message = format!(
            "route {} is never used: the prefix {} of route {} comes before expressions",
            route.name,
            first.path.text(),
            first.name
        );
        let diagnostic = Diagnostic::warning(route::place(raw), format!("route[{index}].path_regex"), message);
        sink.push(diagnostic.fix("give it a path of its own, or the other one conditions".to_owned()));
    }
}

/// The characters that every match of an expression begins with, as far as that is plain to see.
fn beginning(expression: &str) -> &str {
    let text = expression.strip_prefix('^').unwrap_or(expression);
    if text.contains('|') {
        return "";
    }
    let plain = text.find(|c: char| !c.is_ascii_alphanumeric() && !"/-_~%".contains(c)).unwrap_or(text.len());
    // What follows may make the last character optional.
    let repeated = text[plain..].starts_with(['?', '*', '{']);
    &text[..plain - usize::from(repeated && plain > 0)]
}

/// The addresses of all listeners, by port.
fn listens(raw: &RawConfig) -> HashMap<u16, Vec<(IpAddr, Place)>> {
    let mut listens = HashMap::<_, Vec<_>>::new();
    let fields = raw.listener.value.tables.iter().filter_map(|(_, listener)| listener.listen.as_ref());
    for Field { value, place, .. } in fields.flat_map(|field| &field.value.0) {
        let Some(address) = value.tcp() else { continue };
        listens.entry(address.port()).or_default().push((address.ip(), *place));
    }
    listens
}

fn trust(raw: &RawConfig, sink: &mut Sink) {
    for (name, listener) in &raw.listener.value.tables {
        for network in listener.trusted_proxies.value.0.iter().filter(|network| network.value.0.prefix_len() == 0) {
            let key = format!("listener.{}.trusted_proxies", name.value);
            let message = "every client is trusted to say what its address is";
            let diagnostic = Diagnostic::warning(network.place, key, message);
            sink.push(diagnostic.fix("name the networks of your own proxies".to_owned()));
        }
        let proxies = listener.proxy_protocol.iter().filter_map(|table| table.value.accept_from.as_ref());
        let networks = proxies.flat_map(|field| &field.value.0);
        for network in networks.filter(|network| network.value.0.prefix_len() == 0) {
            let key = format!("listener.{}.proxy_protocol.accept_from", name.value);
            let diagnostic = Diagnostic::warning(network.place, key, "every client says what its address is");
            sink.push(diagnostic.fix("name the networks of your own proxies".to_owned()));
        }
    }
}

/// An authority asks for `http-01` without TLS, on port 80.
fn unanswered(raw: &RawConfig, gateway: &GatewayParams, sink: &mut Sink) {
    if gateway.listeners().iter().any(|listener| listener.tls.is_none() && listener.kind == ListenerKind::Http) {
        return;
    }
    for listener in gateway.listeners() {
        let by_http = listener.acme.as_ref().is_some_and(|acme| acme.issuer.challenge == Challenge::Http01);
        let found = raw.listener.value.tables.iter().find(|(name, _)| name.value == listener.name);
        if let (true, Some((name, table))) = (by_http, found) {
            let place = table.tls.as_ref().and_then(|tls| Some(tls.value.acme.as_ref()?.place)).unwrap_or(name.place);
            let key = format!("listener.{}.tls.acme", name.value);
            let message = "the authority asks on port 80, and there is no listener without TLS";
            let fix = "add [listener.plain] with listen = \":80\", or set challenge = \"tls-alpn-01\"";
            sink.push(Diagnostic::warning(place, key, message).fix(fix.to_owned()));
        }
    }
}

fn capacity(key: &str, service: &RawService, sink: &mut Sink) {
    let Some(field) = &service.endpoints else { return };
    let endpoints = || field.value.0.iter().map(|endpoint| &endpoint.value.0);
    let mut warn = |message: &str, fix: &str| {
        let diagnostic = Diagnostic::warning(field.place, format!("{key}.endpoints"), message);
        sink.push(diagnostic.fix(fix.to_owned()));
    };
    if endpoints().all(|endpoint| endpoint.backup.value.0) {
        warn("all endpoints are backups", "remove backup from those that serve ordinarily");
    }
    if endpoints().all(|endpoint| endpoint.drain.value.0 || endpoint.weight.value.0 == 0) {
        warn("no endpoint takes new requests", "give one a weight, and do not drain it");
    }
}

/// An endpoint that is a listener of this process sends requests round in circles.
fn loops(listens: &HashMap<u16, Vec<(IpAddr, Place)>>, key: &str, service: &RawService, sink: &mut Sink) {
    let Some(endpoints) = &service.endpoints else { return };
    for (index, Field { value, place, .. }) in endpoints.value.0.iter().enumerate() {
        let Some(address) = value.0.address.as_ref().map(|address| &address.value) else { continue };
        let same = |(listen, _): &&(IpAddr, Place)| match &address.host {
            Host::Address(host) => host == listen || listen.is_unspecified() && host.is_loopback(),
            Host::Name(name) => name == "localhost" && (listen.is_loopback() || listen.is_unspecified()),
            Host::Srv(_) => false,
        };
        if let Some((_, listen)) = listens.get(&address.port).into_iter().flatten().find(same) {
            let message = "the endpoint is a listener of this configuration, so requests go round in circles";
            let diagnostic = Diagnostic::warning(*place, format!("{key}.endpoints[{index}]"), message);
            sink.push(diagnostic.related(*listen, "the listener").fix("name the service's own port".to_owned()));
        }
    }
}
