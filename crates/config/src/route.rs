//! `[[route]]` to the parameters of a route.

use gateway::params::{
    Conditions, PathMatch, RouteParams, RouteTarget, ShareParams, SplitParams, ValueMatch, ValueSource,
};
use vocab::Name;

use crate::diagnostic::{Diagnostic, Sink};
use crate::entry::NameValue;
use crate::grammar::Field;
use crate::http::RoutePath;
use crate::map::Map;
use crate::matching::ValueTest;
use crate::raw::{RawConfig, RawRoute, RawShare};
use crate::service;
use crate::source::Place;
use crate::value::List;

/// Fills in what a route has by default, so that the effective configuration shows it.
pub(crate) fn resolve(raw: &mut RawRoute) {
    if raw.path_regex.is_none() && !raw.failed.iter().any(|key| matches!(*key, "path" | "path_regex")) {
        let every = RoutePath(PathMatch::Prefix("/".to_owned()));
        raw.path.get_or_insert(Field { value: every, place: raw.place, set: false });
    }
}

/// Converts a route; `None` when something it cannot do without is missing, which has been reported.
pub(crate) fn params(index: usize, raw: &RawRoute, sink: &mut Sink) -> Option<RouteParams> {
    let key = format!("route[{index}]");
    // Both first, so that one mistake does not hide the other.
    let (path, target) = (path(&key, raw, sink), target(&key, raw, sink));
    Some(RouteParams {
        path: path?,
        name: raw.name.as_ref()?.value.0.clone(),
        listener: raw.listener.as_ref()?.value.0.clone(),
        host: raw.host.as_ref().map_or(gateway::params::HostMatch::Any, |host| host.value.0.clone()),
        conditions: conditions(raw),
        target: target?,
        timeout: raw.timeout.as_ref().map(|timeout| timeout.value.0),
    })
}

fn path(key: &str, raw: &RawRoute, sink: &mut Sink) -> Option<PathMatch> {
    let Some(regex) = &raw.path_regex else { return raw.path.as_ref().map(|path| path.value.0.clone()) };
    if let Some(path) = &raw.path {
        let message = "a route has a path or an expression for it, not both";
        let diagnostic = Diagnostic::error(regex.place, format!("{key}.path_regex"), message)
            .related(path.place, "the path")
            .fix("remove one of them".to_owned());
        sink.push(diagnostic);
        return None;
    }
    Some(PathMatch::Regex(regex.value.0.clone()))
}

/// Where requests go. The place of each service is in [`services`].
fn target(key: &str, raw: &RawRoute, sink: &mut Sink) -> Option<RouteTarget> {
    if let (Some(by), None) = (&raw.split_by, &raw.split)
        && !raw.failed.contains(&"split")
    {
        let diagnostic = Diagnostic::error(by.place, format!("{key}.split_by"), "there is no split to decide about");
        sink.push(diagnostic.fix("add split = [{ service = \"NAME\", weight = 95 }, ...], or remove it".to_owned()));
    }
    match (&raw.service, &raw.split) {
        (Some(service), None) => Some(RouteTarget::Service(service.value.0.clone())),
        (None, Some(split)) => splitting(key, raw, split, sink),
        (Some(service), Some(split)) => {
            let message = "a route has a service or a split among several, not both";
            let diagnostic = Diagnostic::error(split.place, format!("{key}.split"), message)
                .related(service.place, "the service")
                .fix("remove one of them".to_owned());
            sink.push(diagnostic);
            None
        }
        (None, None) => {
            if !raw.failed.iter().any(|key| matches!(*key, "service" | "split")) {
                let diagnostic = Diagnostic::error(raw.place, key, "the key `service` is missing");
                let diagnostic = diagnostic.allowed("a service's name, or `split` among several");
                sink.push(diagnostic.fix("add service = \"NAME\"".to_owned()));
            }
            None
        }
    }
}

fn splitting(key: &str, raw: &RawRoute, split: &Field<List<RawShare>>, sink: &mut Sink) -> Option<RouteTarget> {
    let mut shares: Vec<(ShareParams, Place)> = Vec::new();
    for (index, Field { value, .. }) in split.value.0.iter().enumerate() {
        let (Some(service), Some(weight)) = (&value.service, &value.weight) else { continue };
        if let Some((_, first)) = shares.iter().find(|(share, _)| share.service == service.value.0) {
            let message = format!("service {} has a share already", service.value.0);
            let diagnostic = Diagnostic::error(service.place, format!("{key}.split[{index}]"), message)
                .label("again here")
                .related(*first, "first here")
                .fix("give it one share".to_owned());
            sink.push(diagnostic);
            continue;
        }
        shares.push((ShareParams { service: service.value.0.clone(), weight: weight.value.0 }, service.place));
    }
    let complete = shares.len() == split.value.1;
    if complete && shares.iter().all(|(share, _)| share.weight == 0) {
        let diagnostic = Diagnostic::error(split.place, format!("{key}.split"), "no service gets any request");
        sink.push(diagnostic.fix("give one of them a weight above 0".to_owned()));
        return None;
    }
    let by = raw.split_by.as_ref().map(|by| service::hash_key(&by.value));
    let shares = shares.into_iter().map(|(share, _)| share).collect();
    complete.then_some(RouteTarget::Split(SplitParams { shares, by }))
}

/// The services that a route names, with their keys and places.
pub(crate) fn services(raw: &RawRoute) -> impl Iterator<Item = (String, &Field<NameValue>)> {
    let one = raw.service.iter().map(|field| ("service".to_owned(), field));
    let shares = raw.split.iter().flat_map(|split| &split.value.0).enumerate();
    one.chain(shares.filter_map(|(at, share)| Some((format!("split[{at}].service"), share.value.service.as_ref()?))))
}

fn conditions(raw: &RawRoute) -> Conditions {
    fn add<K>(values: &mut Vec<(ValueSource, ValueMatch)>, source: fn(String) -> ValueSource, map: &Map<K, ValueTest>) {
        values.extend(map.0.iter().map(|(name, test)| (source(name.clone()), test.value.0.clone())));
    }
    let methods = raw.method.iter().flat_map(|methods| &methods.value.0).map(|method| method.value.0.clone());
    let mut values = Vec::new();
    add(&mut values, ValueSource::Header, &raw.headers.value);
    add(&mut values, ValueSource::Cookie, &raw.cookies.value);
    add(&mut values, ValueSource::Query, &raw.query.value);
    Conditions::new(methods.collect(), values)
}

/// Where a route says what it matches.
pub(crate) fn place(route: &RawRoute) -> Place {
    let path = || route.path.as_ref().map(|path| path.place);
    route.path_regex.as_ref().map(|regex| regex.place).or_else(path).unwrap_or(route.place)
}

/// Two routes that match the same requests. `None` when that only follows from an error that was reported before.
pub(crate) fn shadowed(raw: &RawConfig, first: &Name, second: &Name) -> Option<Diagnostic> {
    let ((_, first_route), (index, route)) = (find(raw, first)?, find(raw, second)?);
    // What could not be read has the default in both.
    const MATCHING: &[&str] = &["path", "path_regex", "host", "method", "headers", "cookies", "query"];
    if route.failed.iter().chain(&first_route.failed).any(|key| MATCHING.contains(key)) {
        return None;
    }
    let message = format!("route {second} matches the same requests as route {first}");
    let diagnostic = Diagnostic::error(place(route), format!("route[{index}]"), message)
        .label("never used")
        .related(place(first_route), "this one wins")
        .fix("give it another path, host, listener or condition, or remove it".to_owned());
    Some(diagnostic)
}

/// The route of this name, and its position.
pub(crate) fn find<'a>(raw: &'a RawConfig, name: &Name) -> Option<(usize, &'a RawRoute)> {
    let named = |route: &RawRoute| route.name.as_ref().is_some_and(|field| field.value.0 == *name);
    raw.route.value.0.iter().map(|field| &field.value).enumerate().find(|(_, route)| named(route))
}
