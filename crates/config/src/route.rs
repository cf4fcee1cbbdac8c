//! `[[route]]` to the parameters of a route.

use gateway::params::{
    Conditions, ForwardAuthParams, LimitParams, MirrorParams, PathMatch, RouteParams, RouteTarget, ShareParams,
    SplitParams, ValueMatch, ValueSource,
};
use vocab::Name;

use crate::action;
use crate::cache;
use crate::diagnostic::{Diagnostic, Sink};
use crate::entry::NameValue;
use crate::grammar::Field;
use crate::http::RoutePath;
use crate::limit;
use crate::map::Map;
use crate::matching::ValueTest;
use crate::raw::{RawConfig, RawForwardAuth, RawRoute, RawShare};
use crate::served;
use crate::service;
use crate::shedding;
use crate::source::Place;
use crate::tls::Files;
use crate::value::List;

/// Fills in what a route has by default, so that the effective configuration shows it.
pub(crate) fn resolve(raw: &mut RawRoute) {
    if raw.path_regex.is_none() && !raw.failed.iter().any(|key| matches!(*key, "path" | "path_regex")) {
        let every = RoutePath(PathMatch::Prefix("/".to_owned()));
        raw.path.get_or_insert(Field { value: every, place: raw.place, set: false });
    }
}

/// Converts a route; `None` when something it cannot do without is missing, which has been reported.
pub(crate) fn params(
    index: usize,
    raw: &RawRoute,
    limits: (&[LimitParams], &RawConfig),
    files: &mut Files<'_>,
    sink: &mut Sink,
) -> Option<RouteParams> {
    let key = format!("route[{index}]");
    // All of it first, so that one mistake does not hide another.
    let path = path(&key, raw, sink);
    let target = target(&key, raw, path.as_ref(), files, sink);
    let actions = action::params(&key, raw, path.as_ref(), files, sink);
    let limits = limit::of_route(&key, raw, limits, sink);
    let priority = raw.priority.as_ref().map(|field| shedding::priority(&key, &field.value, sink));
    let cache = raw.cache.as_ref().map(|field| cache::params(&key, &field.value, sink));
    Some(RouteParams {
        path: path?,
        name: raw.name.as_ref()?.value.0.clone(),
        listener: raw.listener.as_ref()?.value.0.clone(),
        host: raw.host.as_ref().map_or(gateway::params::HostMatch::Any, |host| host.value.0.clone()),
        conditions: conditions(raw),
        target: target?,
        actions: actions?,
        compress: match &raw.compress {
            Some(field) => Some(served::compress(&key, &field.value, sink)?),
            None => None,
        },
        forward_auth: match &raw.forward_auth {
            // Without a service nobody would be asked, which has been reported.
            Some(field) => Some(forward_auth(&field.value)?),
            None => None,
        },
        limits,
        cost: raw.limit_cost.value.0,
        priority: priority.unwrap_or_default(),
        cache,
        mirror: raw.mirror.as_ref().and_then(|field| {
            let mirror = &field.value;
            Some(MirrorParams {
                service: mirror.service.as_ref()?.value.0.clone(),
                share: mirror.share.value.0,
                body_bytes_max: mirror.body_bytes_max.value.0 as u32,
            })
        }),
        timeout: raw.timeout.as_ref().map(|timeout| timeout.value.0),
        body_timeout: raw.body_timeout.as_ref().map(|timeout| timeout.value.0),
    })
}

fn forward_auth(raw: &RawForwardAuth) -> Option<ForwardAuthParams> {
    let asked = raw.request_headers.as_ref();
    Some(ForwardAuthParams {
        service: raw.service.as_ref()?.value.0.clone(),
        target: raw.path.value.0.clone(),
        asked: asked.map(|names| names.value.0.iter().map(|name| name.value.0.clone()).collect()),
        granted: raw.response_headers.value.0.iter().map(|name| name.value.0.clone()).collect(),
        shown: raw.client_headers.value.0.iter().map(|name| name.value.0.clone()).collect(),
        timeout: raw.timeout.value.0,
        body_bytes_max: raw.body_bytes_max.value.0 as u32,
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
fn target(
    key: &str,
    raw: &RawRoute,
    path: Option<&PathMatch>,
    files: &Files<'_>,
    sink: &mut Sink,
) -> Option<RouteTarget> {
    const GOALS: [&str; 5] = ["service", "split", "redirect", "respond", "files"];
    if let (Some(by), None) = (&raw.split_by, &raw.split)
        && !raw.failed.contains(&"split")
    {
        let diagnostic = Diagnostic::error(by.place, format!("{key}.split_by"), "there is no split to decide about");
        sink.push(diagnostic.fix("add split = [{ service = \"NAME\", weight = 95 }, ...], or remove it".to_owned()));
    }
    let mut goals = goals(raw);
    let Some((_, first)) = goals.next() else {
        if !raw.failed.iter().any(|key| GOALS.contains(key)) {
            let diagnostic = Diagnostic::error(raw.place, key, "the key `service` is missing");
            let diagnostic = diagnostic.allowed("one of `service`, `split`, `redirect`, `respond` and `files`");
            sink.push(diagnostic.fix("add service = \"NAME\"".to_owned()));
        }
        return None;
    };
    if let Some((name, second)) = goals.next() {
        let message = "a route has one of `service`, `split`, `redirect`, `respond` and `files`";
        let diagnostic = Diagnostic::error(second, format!("{key}.{name}"), message)
            .related(first, "this is one")
            .fix("remove one of them".to_owned());
        sink.push(diagnostic);
        return None;
    }
    let answers = raw.redirect.is_some() || raw.respond.is_some() || raw.files.is_some();
    // Files are found by what a rewrite makes of the path; there is no host to tell.
    let rewrite = raw.rewrite.as_ref();
    let rewrite = match &raw.files {
        None => ("rewrite", rewrite.map(|field| field.place)),
        Some(_) => ("rewrite.host", rewrite.and_then(|field| Some(field.value.host.as_ref()?.place))),
    };
    let to_service = [
        rewrite,
        ("request_headers", raw.request_headers.as_ref().map(|field| field.place)),
        ("mirror", raw.mirror.as_ref().map(|field| field.place)),
        ("compress", raw.compress.as_ref().map(|field| field.place)),
        ("cache", raw.cache.as_ref().map(|field| field.place)),
        ("priority", raw.priority.as_ref().map(|field| field.place)),
    ];
    for (name, place) in to_service.into_iter().filter(|_| answers) {
        let Some(place) = place else { continue };
        let diagnostic = Diagnostic::error(place, format!("{key}.{name}"), "the route sends nothing to a service");
        sink.push(diagnostic.related(first, "it answers by itself").fix(format!("remove {name}")));
    }
    if let Some(split) = &raw.split {
        return splitting(key, raw, split, sink);
    }
    if let Some(field) = &raw.redirect {
        return action::redirect(key, field, path, sink).map(RouteTarget::Redirect);
    }
    if let Some(field) = &raw.respond {
        return action::respond(key, &field.value, sink).map(RouteTarget::Fixed);
    }
    if let Some(field) = &raw.files {
        return served::params(key, &field.value, files, sink).map(RouteTarget::Files);
    }
    raw.service.as_ref().map(|service| RouteTarget::Service(service.value.0.clone()))
}

/// What a route says of where requests go, with places.
fn goals(raw: &RawRoute) -> impl Iterator<Item = (&'static str, Place)> {
    let all = [
        ("service", raw.service.as_ref().map(|field| field.place)),
        ("split", raw.split.as_ref().map(|field| field.place)),
        ("redirect", raw.redirect.as_ref().map(|field| field.place)),
        ("respond", raw.respond.as_ref().map(|field| field.place)),
        ("files", raw.files.as_ref().map(|field| field.place)),
    ];
    all.into_iter().filter_map(|(name, place)| Some((name, place?)))
}

/// What a route without a name is called after: its service, or what it does instead.
pub(crate) fn base_name(raw: &RawRoute) -> Option<Name> {
    if let Some((_, service)) = targets(raw).next() {
        return Some(service.value.0.clone());
    }
    let (goal, _) = goals(raw).find(|(goal, _)| matches!(*goal, "redirect" | "respond" | "files"))?;
    goal.parse().ok()
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

/// The services that a route's requests go to, with their keys and places.
fn targets(raw: &RawRoute) -> impl Iterator<Item = (String, &Field<NameValue>)> {
    let one = raw.service.iter().map(|field| ("service".to_owned(), field));
    let shares = raw.split.iter().flat_map(|split| &split.value.0).enumerate();
    one.chain(shares.filter_map(|(at, share)| Some((format!("split[{at}].service"), share.value.service.as_ref()?))))
}

/// The services that a route names, with their keys and places.
pub(crate) fn services(raw: &RawRoute) -> impl Iterator<Item = (String, &Field<NameValue>)> {
    let auth = raw.forward_auth.iter().filter_map(|auth| auth.value.service.as_ref());
    let mirror = raw.mirror.iter().filter_map(|mirror| mirror.value.service.as_ref());
    targets(raw)
        .chain(auth.map(|field| ("forward_auth.service".to_owned(), field)))
        .chain(mirror.map(|field| ("mirror.service".to_owned(), field)))
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
