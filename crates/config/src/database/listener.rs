//! Where clients of databases connect.

use pgproxy::{Listen, PgListenerParams, PgTls};
use vocab::Name;

use crate::address::ListenAt;
use crate::diagnostic::{Diagnostic, Sink};
use crate::grammar::Field;
use crate::habits::nearest;
use crate::raw::{KindWord, RawConfig, RawDatabase, RawListener};
use crate::stream;
use crate::taken::Taken;
use crate::tls::{self, Files};

use super::server::ALPN;
use super::{PgName, console, key_of};

/// Listeners of kind `postgres`, one for each address.
pub(super) fn params(raw: &RawConfig, files: &mut Files<'_>, sink: &mut Sink) -> Vec<PgListenerParams> {
    let tables = raw.listener.value.tables.iter();
    let tables = tables.filter(|(_, listener)| listener.kind.value == KindWord::Postgres);
    tables.flat_map(|(name, listener)| of_table(raw, (&name.value, listener), files, sink)).collect()
}

fn of_table(
    config: &RawConfig,
    (name, raw): (&Name, &RawListener),
    files: &mut Files<'_>,
    sink: &mut Sink,
) -> Vec<PgListenerParams> {
    let key = format!("listener.{name}");
    stream::check_keys(name, raw, sink);
    routes(config, name, sink);
    let databases = databases(&key, config, raw, sink);
    let console = console::params(&key, raw, sink);
    let tls = tls(name, raw, files, sink);
    let Some(listen) = &raw.listen else { return Vec::new() };
    let of_address = |field: &Field<ListenAt>| PgListenerParams {
        tls: tls.clone(),
        databases: databases.clone(),
        console: console.clone(),
        clients_max: raw.connections_max.value.0,
        login_timeout: raw.login_timeout.value.0,
        stall_timeout: raw.stall_timeout.value.0,
        ..PgListenerParams::new(name.clone(), listen_of(&field.value))
    };
    listen.value.0.iter().map(of_address).collect()
}

fn listen_of(at: &ListenAt) -> Listen {
    match at {
        ListenAt::Tcp(address) => Listen::Tcp(*address),
        ListenAt::Unix(path) => Listen::Unix(path.clone()),
    }
}

/// Routes are for requests and connections of other kinds.
fn routes(config: &RawConfig, name: &Name, sink: &mut Sink) {
    for (index, field) in config.route.value.0.iter().enumerate() {
        let Some(listener) = field.value.listener.as_ref().filter(|listener| listener.value.0 == *name) else {
            continue;
        };
        let message = "a listener of kind postgres has no routes";
        let diagnostic = Diagnostic::error(listener.place, format!("route[{index}].listener"), message);
        sink.push(diagnostic.fix("write [database.NAME] with primary = \"postgres://...\"".to_owned()));
    }
}

/// The databases that a listener serves; none for all.
fn databases(key: &str, config: &RawConfig, raw: &RawListener, sink: &mut Sink) -> Vec<String> {
    let tables = &config.database.value;
    let mut names: Vec<String> = Vec::new();
    for field in raw.databases.iter().flat_map(|field| &field.value.0) {
        let name = field.value.0.as_str();
        if !tables.written.iter().any(|written| written == name) && !tables.nameless {
            let near = nearest(name, tables.written.iter().map(String::as_str));
            let fix = near.map_or_else(|| format!("add [database.{name}]"), |near| format!("did you mean \"{near}\"?"));
            let diagnostic =
                Diagnostic::error(field.place, format!("{key}.databases"), format!("no database is named {name:?}"));
            let allowed = if tables.written.is_empty() {
                "there is no database yet".to_owned()
            } else {
                tables.written.join(", ")
            };
            sink.push(diagnostic.allowed(allowed).fix(fix));
        }
        names.push(name.to_owned());
    }
    names
}

fn tls(name: &Name, raw: &RawListener, files: &mut Files<'_>, sink: &mut Sink) -> Option<PgTls> {
    let table = &raw.tls.as_ref()?.value;
    if let Some(acme) = &table.acme {
        let message = "certificates of an authority are not kept for clients of databases";
        let diagnostic = Diagnostic::error(acme.place, format!("listener.{name}.tls.acme"), message);
        sink.push(diagnostic.fix("name certificate and key, such as those that another tool renews".to_owned()));
        return None;
    }
    let (server, _) = tls::server(name.as_str(), (table, &[ALPN]), files, sink)?;
    Some(PgTls { server, required: table.required.as_ref().is_none_or(|field| field.value.0) })
}

/// Listeners that a database has for itself.
pub(super) fn of_database(
    config: &RawConfig,
    (name, raw): (&Field<PgName>, &RawDatabase),
    taken: &mut Taken,
    sink: &mut Sink,
) -> Vec<PgListenerParams> {
    let key = key_of(&name.value);
    let Some(listen) = &raw.listen else { return Vec::new() };
    let label = label(&name.value.0);
    if config.listener.value.written.iter().any(|written| *written == label.as_str()) {
        let message = format!("there is a listener named {label} already");
        let diagnostic = Diagnostic::error(listen.place, format!("{key}.listen"), message);
        sink.push(diagnostic.fix(format!("add kind = \"postgres\" to [listener.{label}], or give it another name")));
    }
    for field in &listen.value.0 {
        taken.claim(field, (&format!("{key}.listen"), key.replacen('.', " ", 1)), sink);
    }
    let of_address = |field: &Field<ListenAt>| PgListenerParams {
        databases: vec![name.value.0.clone()],
        ..PgListenerParams::new(label.clone(), listen_of(&field.value))
    };
    listen.value.0.iter().map(of_address).collect()
}

/// A listener's name after that of its database, which may have characters that the other must not.
fn label(name: &str) -> Name {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' };
    let text: String = name.chars().map(plain).collect();
    text.parse().expect("a name of at most 63 such characters is one")
}
