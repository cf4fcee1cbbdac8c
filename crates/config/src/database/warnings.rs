//! What is allowed of databases but probably not meant.

use std::net::{IpAddr, SocketAddr};

use pgproxy::{AuthMethod, DatabaseParams, Listen, PgListenerParams, ServerAddress, UserParams};
use pgroute::auth::{Method, Stored};
use pgroute::pool::PoolParams;

use crate::address::ListenAt;
use crate::diagnostic::{Diagnostic, Sink};
use crate::grammar::Field;
use crate::raw::{ConsoleAuthWord, KindWord, RawConfig, RawDatabase, StatementRouteWord};
use crate::source::Place;

use super::auth::{is_open, serving};
use super::url::SslMode;
use super::{ANY, Databases, Password, PgName, key_of};

/// Reports warnings about databases without errors.
pub(crate) fn report(raw: &RawConfig, found: &Databases, sink: &mut Sink) {
    unserved(raw, found, sink);
    for ((name, table), params) in raw.database.value.tables.iter().zip(&found.databases) {
        let key = key_of(&name.value);
        passwords(&key, table, sink);
        unverified(&key, table, sink);
        without_effect(&key, table, sink);
        in_clear_over_the_network(&key, (name, table), (params, &found.listeners), sink);
        circles(&key, table, &found.listeners, sink);
        expected(&key, (name, table), found, sink);
    }
    consoles(raw, sink);
    capacity(raw, &found.databases, sink);
}

fn unserved(raw: &RawConfig, found: &Databases, sink: &mut Sink) {
    for (name, _) in &raw.database.value.tables {
        if serving(&found.listeners, &name.value.0).next().is_none() {
            let message = "no listener serves the database";
            let diagnostic = Diagnostic::warning(name.place, key_of(&name.value), message);
            sink.push(diagnostic.fix("add listen = \"127.0.0.1:6432\"".to_owned()));
        }
    }
    let listeners = raw.listener.value.tables.iter();
    for (name, _) in listeners.filter(|(_, listener)| listener.kind.value == KindWord::Postgres) {
        if raw.database.value.tables.is_empty() {
            let message = "there is no database, so every client is refused";
            let diagnostic = Diagnostic::warning(name.place, format!("listener.{}", name.value), message);
            sink.push(diagnostic.fix("add [database.NAME] with primary = \"postgres://...\"".to_owned()));
        }
    }
}

/// Passwords that everybody reads who may read the file.
fn passwords(key: &str, raw: &RawDatabase, sink: &mut Sink) {
    let mut told = |key: String, place: Place, fix: &str| {
        let diagnostic = Diagnostic::warning(place, key, "a password stands in the file as it is");
        sink.push(diagnostic.fix(fix.to_owned()));
    };
    let in_url = "write postgres://USER:${NAME}@HOST/DATABASE, and set the variable NAME";
    let in_value = "write \"${NAME}\", and set the variable NAME";
    let urls = raw.replicas.value.0.iter().enumerate();
    let urls =
        urls.filter_map(|(index, field)| Some((format!("{key}.replicas[{index}]"), field.value.0.url.as_ref()?)));
    let primary = raw.primary.iter().map(|field| (format!("{key}.primary"), field));
    for (key, field) in primary.chain(urls).filter(|(_, field)| field.value.in_clear) {
        told(key, field.place, in_url);
    }
    // What SCRAM keeps is no password: nobody can log in with it.
    let is_open = |field: &&Field<Password>| field.value.in_clear && !matches!(field.value.stored(), Stored::Scram(_));
    for (name, user) in &raw.user.value.tables {
        let key = format!("{key}.user.{}", name.value);
        for (name, field) in [("password", &user.password), ("server_password", &user.server_password)] {
            if let Some(field) = field.as_ref().filter(is_open) {
                told(format!("{key}.{name}"), field.place, in_value);
            }
        }
    }
    let query = raw.auth.value.query.as_ref().and_then(|field| field.value.0.password.as_ref());
    if let Some(field) = query.filter(is_open) {
        told(format!("{key}.auth.query.password"), field.place, in_value);
    }
}

/// Passwords of consoles that everybody reads who may read the file, or who listens on the way.
fn consoles(raw: &RawConfig, sink: &mut Sink) {
    for (name, listener) in &raw.listener.value.tables {
        let Some(console) = &listener.console else { continue };
        let key = format!("listener.{}.console", name.value);
        for (user, table) in &console.value.user.value.tables {
            let Some(field) = &table.password else { continue };
            if field.value.in_clear && !matches!(field.value.stored(), Stored::Scram(_)) {
                let key = format!("{key}.user.{}.password", user.value);
                let diagnostic = Diagnostic::warning(field.place, key, "a password stands in the file as it is");
                sink.push(diagnostic.fix("write \"${NAME}\", and set the variable NAME".to_owned()));
            }
        }
        let method = &console.value.method;
        let has_tls =
            listener.tls.as_ref().is_some_and(|tls| tls.value.required.as_ref().is_none_or(|field| field.value.0));
        let is_open = |at: &ListenAt| matches!(at, ListenAt::Tcp(address) if !address.ip().is_loopback());
        let is_reached = listener.listen.iter().flat_map(|field| &field.value.0).any(|field| is_open(&field.value));
        if method.value == ConsoleAuthWord::Password && !has_tls && is_reached {
            let message = "users of the console send their passwords as they are, without TLS";
            let diagnostic = Diagnostic::warning(method.place, format!("{key}.method"), message);
            sink.push(diagnostic.fix("write method = \"scram\", or add tls to the listener".to_owned()));
        }
    }
}

/// `sslmode=require` believes anybody, as with libpq.
fn unverified(key: &str, raw: &RawDatabase, sink: &mut Sink) {
    let Some(field) = raw.primary.as_ref().filter(|_| raw.tls.is_none()) else { return };
    if field.value.sslmode == Some(SslMode::Require) {
        let message = "sslmode=require believes any certificate: whoever stands between can read and change everything";
        let diagnostic = Diagnostic::warning(field.place, format!("{key}.primary"), message);
        sink.push(diagnostic.fix("write sslmode=verify-full, or tls = { ca = \"FILE\" }".to_owned()));
    }
}

/// What is read and checked, and not acted on yet.
fn without_effect(key: &str, raw: &RawDatabase, sink: &mut Sink) {
    let mut told = |name: &str, place: Place, message: &str| {
        sink.push(Diagnostic::warning(place, format!("{key}.{name}"), message));
    };
    let failover = &raw.failover.value;
    let is_alone = raw.replicas.value.0.is_empty() && failover.lease.is_none();
    if let Some(state) = failover.state.as_ref().filter(|_| is_alone) {
        told(
            "failover.state",
            state.place,
            "there are no replicas: a server that is alone is written to, whatever it is",
        );
    }
    let rules = raw.rule.value.0.iter().filter_map(|rule| rule.value.route.as_ref());
    let routes = std::iter::once(&raw.route).chain(rules);
    for field in routes.filter(|field| field.value == StatementRouteWord::Replica && raw.replicas.value.0.is_empty()) {
        told("route", field.place, "there are no replicas: every statement goes to the primary");
    }
}

/// Passwords that cross the network as they are.
fn in_clear_over_the_network(
    key: &str,
    (name, raw): (&Field<PgName>, &RawDatabase),
    (params, listeners): (&DatabaseParams, &[PgListenerParams]),
    sink: &mut Sink,
) {
    if params.auth.method != AuthMethod::Password(Method::Cleartext) {
        return;
    }
    let without_tls = |listener: &&PgListenerParams| listener.tls.as_ref().is_none_or(|tls| !tls.required);
    let open = serving(listeners, &name.value.0).find(|listener| is_open(listener) && without_tls(listener));
    if let Some(listener) = open {
        let message = format!("clients of listener {} send their passwords as they are, without TLS", listener.name);
        let diagnostic = Diagnostic::warning(raw.auth.value.method.place, format!("{key}.auth.method"), message);
        sink.push(diagnostic.fix("write method = \"scram\", or add tls to the listener".to_owned()));
    }
}

/// A server that is a listener of this process sends clients round in circles.
fn circles(key: &str, raw: &RawDatabase, listeners: &[PgListenerParams], sink: &mut Sink) {
    let urls = raw.replicas.value.0.iter().filter_map(|field| field.value.0.url.as_ref());
    for field in raw.primary.iter().chain(urls) {
        let is_this = |listener: &&PgListenerParams| match (&listener.listen, &field.value.address) {
            (Listen::Tcp(listen), ServerAddress::Tcp { host, port }) => is_same(*listen, host, *port),
            (Listen::Unix(listen), ServerAddress::Unix(path)) => listen == path,
            _ => false,
        };
        if let Some(listener) = listeners.iter().find(is_this) {
            let message = format!(
                "the server is listener {} of this configuration, so clients go round in circles",
                listener.name
            );
            sink.push(Diagnostic::warning(field.place, key, message).fix("name the server's own port".to_owned()));
        }
    }
}

fn is_same(listen: SocketAddr, host: &str, port: u16) -> bool {
    let is_local = match host.parse::<IpAddr>() {
        Ok(host) => host == listen.ip() || listen.ip().is_unspecified() && host.is_loopback(),
        Err(_) => host == "localhost" && (listen.ip().is_loopback() || listen.ip().is_unspecified()),
    };
    is_local && listen.port() == port
}

/// A pool that cannot bear what is expected.
fn expected(key: &str, (name, raw): (&Field<PgName>, &RawDatabase), found: &Databases, sink: &mut Sink) {
    let Some(estimate) = found.estimates.iter().find(|estimate| estimate.database == name.value.0) else { return };
    let Some(size) = raw.pool.value.size.as_ref().filter(|size| size.set) else { return };
    if estimate.busy >= estimate.size as f64 {
        let busy = estimate.busy;
        let message = format!(
            "the expected work keeps {busy:.1} connections busy on average, and the pool has {}",
            estimate.size
        );
        let diagnostic = Diagnostic::warning(size.place, format!("{key}.pool.size"), message)
            .related(raw.expect.as_ref().map(|field| field.place), "what is expected");
        sink.push(diagnostic.fix(format!("write size = {}, or remove it", estimate.suggested)));
    }
}

/// What all pools of a database may take of its primary.
fn demand(params: &DatabaseParams) -> usize {
    let most = |pool: &PoolParams| pool.size + pool.overflow + pool.reserve;
    let of_user = |user: &UserParams| most(user.pool.as_ref().unwrap_or(&params.pool));
    // Users whom the server is asked about, or who are trusted, have pools as well: one at least.
    let unknown = params.auth.query.is_some() || params.users.is_empty();
    params.users.iter().map(of_user).sum::<usize>() + if unknown { most(&params.pool) } else { 0 }
}

/// Pools that may take more than a server has.
fn capacity(raw: &RawConfig, databases: &[DatabaseParams], sink: &mut Sink) {
    let tables = || raw.database.value.tables.iter().zip(databases);
    for (at, ((name, table), params)) in tables().enumerate() {
        let Some(most) = &table.server_connections_max else { continue };
        let same = |other: &&DatabaseParams| other.primary.address == params.primary.address;
        // Said by several, it is told once.
        let is_first = !tables().take(at).any(|((_, other), params)| {
            same(&params) && other.server_connections_max.as_ref().is_some_and(|field| field.value.0 == most.value.0)
        });
        let sharers: Vec<_> = databases.iter().filter(same).collect();
        let sum: usize = sharers.iter().map(|params| demand(params)).sum();
        if is_first && sum > most.value.0 as usize {
            let whose = if sharers.len() == 1 {
                "its pools".to_owned()
            } else {
                format!("the pools of {} databases", sharers.len())
            };
            let more = if sharers.iter().any(|params| params.auth.query.is_some() || params.name.to_string() == ANY) {
                ", those of further users or names not counted"
            } else {
                ""
            };
            let message =
                format!("{whose} may take {sum} connections of the server{more}, and it has {}", most.value.0);
            let key = format!("{}.server_connections_max", key_of(&name.value));
            let diagnostic = Diagnostic::warning(most.place, key, message);
            sink.push(diagnostic.fix("lower size of the pools, or raise max_connections of the server".to_owned()));
        }
    }
}
