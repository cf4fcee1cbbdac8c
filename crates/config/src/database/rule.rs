//! Rules about who may connect.

use ipnet::IpNet;
use pgproxy::{RuleParams, UserParams};

use crate::diagnostic::{Diagnostic, Sink};
use crate::grammar::Field;
use crate::habits::nearest;
use crate::raw::{AuthWord, RawDatabase, RawDatabaseRule};
use crate::value::OneOrMany;

use super::{ANY, PgName, auth, mode, route};

/// The rules, of which every one can fit somebody.
pub(super) fn params(
    key: &str,
    (name, raw): (&PgName, &RawDatabase),
    users: &[UserParams],
    sink: &mut Sink,
) -> Vec<RuleParams> {
    let mut rules: Vec<(RuleParams, &Field<RawDatabaseRule>)> = Vec::new();
    for (index, field) in raw.rule.value.0.iter().enumerate() {
        let key = format!("{key}.rule[{index}]");
        let rule = rule(&field.value);
        let is_whole = field.value.failed.is_empty();
        if let Some((_, first)) = rules.iter().find(|(first, _)| is_whole && covers(first, &rule)) {
            let diagnostic =
                Diagnostic::error(field.place, key, "the rule never fits: an earlier one fits all of its clients")
                    .label("never used")
                    .related(first.place, "this one comes first")
                    .fix("put it before the other, or remove it".to_owned());
            sink.push(diagnostic);
            continue;
        }
        other_databases(&key, name, &field.value, sink);
        unknown_users(&key, raw, &field.value, users, sink);
        if is_whole {
            rules.push((rule, field));
        }
    }
    rules.into_iter().map(|(rule, _)| rule).collect()
}

fn rule(raw: &RawDatabaseRule) -> RuleParams {
    let names = |list: &Option<Field<OneOrMany<PgName>>>| {
        list.iter().flat_map(|field| &field.value.0).map(|field| field.value.0.clone()).collect()
    };
    RuleParams {
        users: names(&raw.user),
        databases: names(&raw.database),
        clients: raw.client.iter().flat_map(|field| &field.value.0).map(|field| field.value.0).collect(),
        tls: raw.tls.as_ref().map(|field| field.value.0),
        deny: raw.deny.value.0,
        method: raw.method.as_ref().map(|field| auth::method(field.value)),
        route: raw.route.as_ref().map(|field| route(field.value)),
        mode: raw.mode.as_ref().map(|field| mode(field.value)),
    }
}

/// Whether whoever fits `later` fits `first` as well.
fn covers(first: &RuleParams, later: &RuleParams) -> bool {
    fn all(first: &[String], later: &[String]) -> bool {
        first.is_empty() || !later.is_empty() && later.iter().all(|name| first.contains(name))
    }
    let within = |net: &IpNet| first.clients.iter().any(|wide| wide.contains(net));
    let clients = first.clients.is_empty() || !later.clients.is_empty() && later.clients.iter().all(within);
    let tls = first.tls.is_none() || first.tls == later.tls;
    all(&first.users, &later.users) && all(&first.databases, &later.databases) && clients && tls
}

/// Clients of a database with a name ask for this name.
fn other_databases(key: &str, name: &PgName, raw: &RawDatabaseRule, sink: &mut Sink) {
    let Some(field) = raw.database.as_ref().filter(|_| name.0 != ANY) else { return };
    if field.value.0.iter().any(|field| field.value == *name) {
        return;
    }
    let message = format!("the rule never fits: clients of this table ask for {name:?}", name = name.0);
    let diagnostic = Diagnostic::error(field.place, format!("{key}.database"), message);
    sink.push(diagnostic.fix("remove it, or move the rule to the table of that database".to_owned()));
}

/// Where all users are known, a rule about others is a mistake.
fn unknown_users(key: &str, raw: &RawDatabase, rule: &RawDatabaseRule, users: &[UserParams], sink: &mut Sink) {
    let auth = &raw.auth.value;
    let trusts = |word: AuthWord| word == AuthWord::Trust;
    let some_unknown = auth.query.is_some()
        || trusts(auth.method.value)
        || rule.method.as_ref().is_some_and(|method| trusts(method.value))
        || users.is_empty();
    if some_unknown || rule.deny.value.0 {
        return;
    }
    for field in rule.user.iter().flat_map(|field| &field.value.0) {
        let name = field.value.0.as_str();
        if users.iter().any(|user| user.name == name) || raw.user.value.written.iter().any(|written| written == name) {
            continue;
        }
        let known = || users.iter().map(|user| user.name.as_str());
        let fix = nearest(name, known()).map(|near| format!("did you mean \"{near}\"?"));
        let fix = fix.unwrap_or_else(|| "add the user to the database, or remove it here".to_owned());
        let diagnostic = Diagnostic::error(field.place, format!("{key}.user"), format!("no user is named {name:?}"));
        let few: Vec<_> = known().take(10).collect();
        sink.push(diagnostic.allowed(few.join(", ")).fix(fix));
    }
}
