//! Users of a database, and how they prove who they are.

use std::io::Read as _;
use std::path::Path;

use pgproxy::{AuthMethod, AuthParams, AuthQuery, Listen, PgListenerParams, UserParams};
use pgroute::auth::{Method, Stored, userlist};
use pgroute::pool::PoolParams;

use crate::diagnostic::{Diagnostic, Sink};
use crate::grammar::Field;
use crate::raw::{AuthWord, RawAuthQuery, RawConfig, RawDatabase, RawDatabaseUser};
use crate::tls::Files;
use crate::value::Text;

use super::{ANY, Databases, PgName, key_of, mode, pool};

/// Largest file of users: a hundred thousand of them.
const FILE_BYTES_MAX: u64 = 32 << 20;

pub(super) fn method(word: AuthWord) -> AuthMethod {
    match word {
        AuthWord::Scram => AuthMethod::Password(Method::Scram),
        AuthWord::Md5 => AuthMethod::Password(Method::Md5),
        AuthWord::Password => AuthMethod::Password(Method::Cleartext),
        AuthWord::Trust => AuthMethod::Trust,
    }
}

/// How clients prove who they are, and the users that are known.
pub(super) fn params(
    key: &str,
    raw: &RawDatabase,
    pool: &PoolParams,
    files: &mut Files<'_>,
    sink: &mut Sink,
) -> (AuthParams, Vec<UserParams>) {
    let auth = &raw.auth.value;
    let listed = match &auth.file {
        None => Some(Vec::new()),
        Some(field) => of_file(&format!("{key}.auth.file"), field, files, sink),
    };
    let file_failed = listed.is_none() || auth.failed.contains(&"file");
    let listed = listed.unwrap_or_default();
    let method = method(auth.method.value);
    let asks = auth.query.is_some() || auth.failed.contains(&"query");
    let is_trusted = method == AuthMethod::Trust || auth.failed.contains(&"method");
    let mut users: Vec<UserParams> =
        listed.into_iter().map(|(name, stored)| UserParams::new(name, Some(stored))).collect();
    for (name, table) in &raw.user.value.tables {
        let key = format!("{key}.user.{}", name.value);
        let mut user = user(&key, (name, table), pool, sink);
        let known = users.iter().position(|known| known.name == user.name);
        user.stored = user.stored.or_else(|| known.and_then(|at| users[at].stored.clone()));
        if user.stored.is_none() && !asks && !is_trusted && !file_failed && !table.failed.contains(&"password") {
            let diagnostic = Diagnostic::error(name.place, key, "nothing is known of the user's password");
            sink.push(diagnostic.fix(format!("add password = \"${{{}_PASSWORD}}\"", variable(&name.value.0))));
        }
        match known {
            Some(at) => users[at] = user,
            None => users.push(user),
        }
    }
    let nothing_said = raw.user.value.written.is_empty() && !raw.user.value.nameless && auth.file.is_none() && !asks;
    if nothing_said && !file_failed && !raw.failed.contains(&"user") {
        users.extend(of_url(raw));
    }
    let is_somebody = !users.is_empty() || asks || is_trusted || file_failed || !raw.failed.is_empty();
    let rules_trust = raw.rule.value.0.iter().any(|rule| {
        rule.value.method.as_ref().is_some_and(|method| method.value == AuthWord::Trust)
            || rule.value.failed.contains(&"method")
    });
    if !is_somebody && !rules_trust && raw.user.value.written.is_empty() && !raw.user.value.nameless {
        let place =
            auth.file.as_ref().map_or(raw.primary.as_ref().map_or(raw.place, |field| field.place), |file| file.place);
        let diagnostic = Diagnostic::error(place, key, "nobody can log in: no user is known");
        let fix =
            format!("add [{key}.user.web] with password = \"${{WEB_PASSWORD}}\", or user and password to the URL");
        sink.push(diagnostic.fix(fix));
    }
    digests(key, raw, &users, sink);
    let query = auth.query.as_ref().and_then(|field| query(key, (raw, &field.value.0), sink));
    (AuthParams { method, query }, users)
}

/// The name of an environment variable for somebody's password.
fn variable(name: &str) -> String {
    let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let text: String = name.chars().map(upper).collect();
    if text.starts_with(|c: char| c.is_ascii_digit()) { format!("_{text}") } else { text }
}

fn user(key: &str, (name, raw): (&Field<PgName>, &RawDatabaseUser), pool: &PoolParams, sink: &mut Sink) -> UserParams {
    if name.value.0 == ANY {
        let diagnostic = Diagnostic::error(name.place, key, "a user has a name of its own");
        sink.push(diagnostic.fix("write what holds for all users into the database itself".to_owned()));
    }
    let server_login = match (&raw.server_user, &raw.server_password) {
        (None, None) => None,
        (Some(user), password) => {
            Some((user.value.0.clone(), password.as_ref().map(|field| field.value.secret.clone())))
        }
        (None, Some(password)) => {
            if !raw.failed.contains(&"server_user") {
                let message = "there is a password without the user that it is of";
                let diagnostic = Diagnostic::error(password.place, format!("{key}.server_password"), message);
                sink.push(diagnostic.fix(format!("add server_user = \"{}\"", name.value)));
            }
            None
        }
    };
    UserParams {
        server_login,
        pool: raw.pool.as_ref().map(|field| pool::of_user(key, &field.value, pool, sink)),
        mode: raw.mode.as_ref().map(|field| mode(field.value)),
        clients_max: raw.clients_max.as_ref().map(|field| field.value.0),
        ..UserParams::new(name.value.0.as_str(), raw.password.as_ref().map(|field| field.value.stored()))
    }
}

/// The user of the primary's URL, whose password is that of the URL.
fn of_url(raw: &RawDatabase) -> Option<UserParams> {
    let url = &raw.primary.as_ref()?.value;
    let stored = Stored::Password(url.password.clone()?);
    Some(UserParams::new(url.user.as_deref()?, Some(stored)))
}

/// The users of a file; `None` when it cannot be used, which has been reported.
fn of_file(key: &str, field: &Field<Text>, files: &mut Files<'_>, sink: &mut Sink) -> Option<Vec<(String, Stored)>> {
    let path = files.path(field);
    let problem = match read(&path).map(|text| userlist::read(&text)) {
        Ok(Ok(users)) => return Some(users),
        // What stands in the line is not said: it holds a password.
        Ok(Err(error)) => format!("{}: {error}", path.display()),
        Err(error) => format!("{} cannot be read: {error}", path.display()),
    };
    let diagnostic = Diagnostic::error(field.place, key, problem);
    sink.push(
        diagnostic.fix("write lines of \"name\" \"secret\"; paths are relative to the file that names them".to_owned()),
    );
    None
}

fn read(path: &Path) -> std::io::Result<String> {
    // To open a pipe would wait for whoever writes to it.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("it is larger than {} MiB", FILE_BYTES_MAX >> 20)));
    }
    Ok(text)
}

/// Who is known by a digest alone cannot be asked by SCRAM.
fn digests(key: &str, raw: &RawDatabase, users: &[UserParams], sink: &mut Sink) {
    let auth = &raw.auth.value;
    if auth.method.value != AuthWord::Scram || auth.failed.contains(&"method") {
        return;
    }
    let Some(user) = users.iter().find(|user| matches!(user.stored, Some(Stored::Md5(_)))) else { return };
    let table = raw.user.value.tables.iter().find(|(name, _)| name.value.0 == user.name);
    let place = table.and_then(|(_, table)| table.password.as_ref()).map(|field| field.place);
    let place = place.or(auth.file.as_ref().map(|field| field.place)).unwrap_or(raw.place);
    let message = format!("of user {} only an md5 digest is known, by which nobody is asked by SCRAM", user.name);
    let diagnostic = Diagnostic::error(place, format!("{key}.auth.method"), message);
    sink.push(diagnostic.fix(format!("write auth = {{ method = \"md5\" }} in [{key}], or give the password itself")));
}

fn query(key: &str, (database, raw): (&RawDatabase, &RawAuthQuery), sink: &mut Sink) -> Option<AuthQuery> {
    let key = format!("{key}.auth.query");
    let url = database.primary.as_ref().map(|field| &field.value);
    let (user, password) = match (&raw.user, &raw.password) {
        (Some(user), password) => (user.value.0.clone(), password.as_ref().map(|field| field.value.secret.clone())),
        (None, None) => match url.and_then(|url| Some((url.user.clone()?, url.password.clone()))) {
            Some(login) => login,
            None => {
                if url.is_some() && !raw.failed.contains(&"user") {
                    let diagnostic = Diagnostic::error(raw.place, key, "nothing says who asks the server");
                    let fix = "write query = { text = \"...\", user = \"NAME\", password = \"${NAME_PASSWORD}\" }";
                    sink.push(diagnostic.fix(fix.to_owned()));
                }
                return None;
            }
        },
        (None, Some(password)) => {
            let message = "there is a password without the user that it is of";
            let diagnostic = Diagnostic::error(password.place, format!("{key}.password"), message);
            sink.push(diagnostic.fix("add user = \"NAME\"".to_owned()));
            return None;
        }
    };
    let is_any = key == format!("{}.auth.query", key_of(&PgName(ANY.to_owned())));
    let dbname = raw.database.as_ref().map(|field| field.value.0.clone());
    if is_any && dbname.is_none() && url.is_some_and(|url| url.dbname.is_none()) && !raw.failed.contains(&"database") {
        // Otherwise whoever comes would have the server connected to, whatever name it says.
        let message = "nothing says in which database it is asked: the names that clients say are anybody's";
        sink.push(Diagnostic::error(raw.place, key, message).fix("add database = \"postgres\"".to_owned()));
        return None;
    }
    Some(AuthQuery { text: raw.text.as_ref()?.value.0.clone(), user, password, dbname, ttl: raw.ttl.value.0 })
}

/// Whether a listener can be reached from other machines.
pub(super) fn is_open(listener: &PgListenerParams) -> bool {
    matches!(&listener.listen, Listen::Tcp(address) if !address.ip().is_loopback())
}

/// Listeners that serve a database, by its name in the file.
pub(super) fn serving<'l>(
    listeners: &'l [PgListenerParams],
    name: &'l str,
) -> impl Iterator<Item = &'l PgListenerParams> {
    let serves = move |listener: &&PgListenerParams| {
        listener.databases.is_empty() || listener.databases.iter().any(|known| known == name)
    };
    listeners.iter().filter(serves)
}

/// Who need not prove anything must be on this machine, or in a network that a rule names.
pub(super) fn exposed(raw: &RawConfig, found: &Databases, sink: &mut Sink) {
    for (name, table) in &raw.database.value.tables {
        let Some(listener) = serving(&found.listeners, &name.value.0).find(|listener| is_open(listener)) else {
            continue;
        };
        let key = key_of(&name.value);
        let mut open = |place, key: String| {
            let message = format!(
                "listener {} is reachable from outside this machine, and whoever comes may be anybody",
                listener.name
            );
            let diagnostic = Diagnostic::error(place, key, message);
            let fix = "add [[database.NAME.rule]] with client = [\"10.0.0.0/8\"] and method = \"trust\" for those who may, \
                       and method = \"scram\" for all others";
            sink.push(diagnostic.fix(fix.to_owned()));
        };
        let method = &table.auth.value.method;
        if method.value == AuthWord::Trust {
            open(method.place, format!("{key}.auth.method"));
        }
        for (index, rule) in table.rule.value.0.iter().enumerate() {
            let rule = &rule.value;
            let trusted = rule.method.as_ref().filter(|method| method.value == AuthWord::Trust && !rule.deny.value.0);
            let is_bound = rule.client.is_some() || rule.failed.contains(&"client");
            if let Some(method) = trusted.filter(|_| !is_bound) {
                open(method.place, format!("{key}.rule[{index}].method"));
            }
        }
    }
}
