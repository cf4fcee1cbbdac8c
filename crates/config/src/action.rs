//! What a route does besides sending requests on, from its tables to its parameters.

use std::path::Path;

use gateway::Pattern;
use gateway::params::{
    ActionParams, BasicAuthParams, CorsOrigins, CorsParams, Credential, FieldEdits, FieldLine, FieldName, FixedParams,
    Message, OriginMatch, PathChange, PathMatch, PathTemplate, RedirectParams, Scheme,
};

use crate::diagnostic::{Diagnostic, Sink};
use crate::field::{self, FieldText, ResponseField};
use crate::grammar::Field;
use crate::http::NewPrefix;
use crate::map::Map;
use crate::matching::PathExpression;
use crate::raw::{RawBasicAuth, RawCors, RawRedirect, RawRespond, RawRoute, SchemeWord};
use crate::source::Place;
use crate::tls::Files;
use crate::value::{AnyText, OneOrMany, Or, Text};

/// Largest file of users.
const USERS_BYTES_MAX: u64 = 1 << 20;

/// The actions of a route for these paths.
pub(crate) fn params(
    key: &str,
    raw: &RawRoute,
    path: Option<&PathMatch>,
    files: &mut Files<'_>,
    sink: &mut Sink,
) -> Option<ActionParams> {
    let change = raw.rewrite.as_ref().and_then(|Field { value, place, .. }| {
        let key = format!("{key}.rewrite");
        let table = (&value.prefix, &value.path, &value.regex, &value.failed);
        if !says_path(table) && value.host.is_none() && value.failed.is_empty() {
            let message = "one of `prefix`, `path` and `host` is needed";
            sink.push(Diagnostic::error(*place, &key, message).fix("add prefix = \"/\"".to_owned()));
        }
        change(&key, table, path, sink)
    });
    let request = raw.request_headers.as_ref().map(|field| &field.value);
    let response = raw.response_headers.as_ref().map(|field| &field.value);
    Some(ActionParams {
        https_only: raw.https_only.value.0,
        cors: match &raw.cors {
            Some(field) => Some(cors(&format!("{key}.cors"), &field.value, sink)?),
            None => None,
        },
        basic_auth: match &raw.basic_auth {
            Some(field) => Some(basic_auth(&format!("{key}.basic_auth"), field, files, sink)?),
            None => None,
        },
        path: change,
        host: raw.rewrite.as_ref().and_then(|field| Some(field.value.host.as_ref()?.value.0.clone())),
        request_fields: request.map_or_else(FieldEdits::default, |table| {
            let remove = table.remove.value.0.iter().map(|name| name.value.0.clone()).collect();
            edits(Message::Request, remove, &table.set.value, &table.add.value)
        }),
        response_fields: response.map_or_else(FieldEdits::default, |table| {
            let remove = table.remove.value.0.iter().map(|name| name.value.0.clone()).collect();
            edits(Message::Response, remove, &table.set.value, &table.add.value)
        }),
    })
}

type ChangeTable<'a> =
    (&'a Option<Field<NewPrefix>>, &'a Option<Field<Text>>, &'a Option<Field<PathExpression>>, &'a Vec<&'static str>);

/// Whether a table says anything about the path.
fn says_path((prefix, template, regex, _): ChangeTable<'_>) -> bool {
    prefix.is_some() || template.is_some() || regex.is_some()
}

/// The change of paths that a table says; `None` without one, and when something is wrong, which is reported.
fn change(
    key: &str,
    (prefix, template, regex, failed): ChangeTable<'_>,
    route: Option<&PathMatch>,
    sink: &mut Sink,
) -> Option<PathChange> {
    let mut wrong = |place: Place, name: &str, message: &str, fix: &str| {
        sink.push(Diagnostic::error(place, format!("{key}.{name}"), message).fix(fix.to_owned()));
    };
    match (prefix, template, regex) {
        (Some(prefix), None, None) => match route {
            Some(PathMatch::Prefix(_)) => Some(PathChange::Prefix(prefix.value.0.clone())),
            Some(_) => {
                let message = "the route has no prefix that another could take the place of";
                wrong(prefix.place, "prefix", message, "give the route a path such as \"/api/*\", or write path = ...");
                None
            }
            None => None,
        },
        (Some(prefix), _, _) => {
            wrong(prefix.place, "prefix", "a prefix is replaced, or the whole path, not both", "remove one of them");
            None
        }
        (None, None, Some(regex)) => {
            if !failed.contains(&"path") {
                wrong(regex.place, "regex", "there is no path to take its place", "add path = \"/$1\"");
            }
            None
        }
        (None, Some(text), regex) => {
            let own = match route {
                Some(PathMatch::Regex(pattern)) => Some(pattern),
                _ => None,
            };
            if failed.contains(&"regex") || route.is_none() {
                return None;
            }
            let pattern: Option<&Pattern> = regex.as_ref().map(|regex| &regex.value.0).or(own);
            match PathTemplate::new(&text.value.0, pattern) {
                Ok(template) => Some(PathChange::Template {
                    // The route's own expression has matched; it is looked at again only for its groups.
                    pattern: pattern.filter(|_| regex.is_some() || template.has_groups()).cloned(),
                    template,
                }),
                Err(error) => {
                    let message = format!("{:?} {error}", text.value.0);
                    let allowed = "a path, with $1 or $name for groups of `regex` or `path_regex`";
                    sink.push(Diagnostic::error(text.place, format!("{key}.path"), message).allowed(allowed));
                    None
                }
            }
        }
        (None, None, None) => None,
    }
}

fn edits<K>(
    message: Message,
    remove: Vec<FieldName>,
    set: &Map<K, FieldText>,
    add: &Map<K, OneOrMany<FieldText>>,
) -> FieldEdits {
    let line = |name: &str, value: &Field<FieldText>| FieldLine::new(message, name, &value.value.0).ok();
    let set = set.0.iter().filter_map(|(name, value)| line(name, value)).collect();
    let add = add.0.iter().flat_map(|(name, values)| values.value.0.iter().filter_map(move |value| line(name, value)));
    FieldEdits { remove, set, add: add.collect() }
}

/// A redirection; `None` when something is wrong, which is reported.
pub(crate) fn redirect(
    key: &str,
    field: &Field<RawRedirect>,
    route: Option<&PathMatch>,
    sink: &mut Sink,
) -> Option<RedirectParams> {
    let Field { value, place, .. } = field;
    let key = format!("{key}.redirect");
    let table = (&value.prefix, &value.path, &value.regex, &value.failed);
    let path = change(&key, table, route, sink);
    let wants_path = says_path(table);
    if wants_path && path.is_none() {
        return None;
    }
    if !wants_path && value.scheme.is_none() && value.host.is_none() {
        if value.failed.is_empty() {
            let message = "it leads back to where it comes from";
            let diagnostic = Diagnostic::error(*place, key, message).allowed("scheme, host, path or prefix");
            sink.push(diagnostic.fix("add scheme = \"https\"".to_owned()));
        }
        return None;
    }
    Some(RedirectParams {
        status: value.status.value.0,
        scheme: value.scheme.as_ref().map(|scheme| match scheme.value {
            SchemeWord::Http => Scheme::Http,
            SchemeWord::Https => Scheme::Https,
        }),
        host: value.host.as_ref().map(|host| host.value.0.clone()),
        path,
        keep_query: value.keep_query.value.0,
    })
}

/// What a fixed answer is made of.
pub(crate) struct Answer<'r> {
    /// The status, and where it is said.
    pub(crate) status: (u32, Place),
    pub(crate) body: &'r Field<AnyText>,
    pub(crate) content_type: &'r Field<FieldText>,
    pub(crate) headers: &'r Field<Map<ResponseField, FieldText>>,
}

/// A route's fixed answer; `None` when something is wrong, which is reported.
pub(crate) fn respond(key: &str, raw: &RawRespond, sink: &mut Sink) -> Option<FixedParams> {
    let RawRespond { status, body, content_type, headers, .. } = raw;
    let status = (status.value.0, status.place);
    fixed(&format!("{key}.respond"), &Answer { status, body, content_type, headers }, sink)
}

/// A fixed answer; `None` when something is wrong, which is reported.
pub(crate) fn fixed(key: &str, raw: &Answer<'_>, sink: &mut Sink) -> Option<FixedParams> {
    let (status, body) = (raw.status.0 as u16, &raw.body.value.0);
    if matches!(status, 204 | 205 | 304) && !body.is_empty() {
        let message = format!("a response of status {status} has no body");
        let diagnostic = Diagnostic::error(raw.body.place, format!("{key}.body"), message);
        sink.push(diagnostic.related(raw.status.1, "the status").fix("remove body".to_owned()));
        return None;
    }
    let mut fields = Vec::new();
    let typed = raw.headers.value.0.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    if let Some((_, field)) = typed {
        let message = "the type of the body has a key of its own";
        let diagnostic = Diagnostic::error(field.place, format!("{key}.headers"), message);
        sink.push(diagnostic.fix(format!("write content_type = \"{}\" beside the body", field.value.0)));
        return None;
    }
    if !body.is_empty() {
        fields.extend(FieldLine::new(Message::Response, "Content-Type", &raw.content_type.value.0).ok());
    }
    let lines = raw.headers.value.0.iter();
    fields.extend(lines.filter_map(|(name, value)| FieldLine::new(Message::Response, name, &value.value.0).ok()));
    Some(FixedParams { status, fields, body: body.clone() })
}

fn cors(key: &str, raw: &RawCors, sink: &mut Sink) -> Option<CorsParams> {
    let origins = raw.origins.as_ref()?;
    let all = origins.value.0.iter().find(|origin| origin.value.0.is_none());
    if let Some(all) = all.filter(|_| origins.value.0.len() > 1) {
        let diagnostic = Diagnostic::error(all.place, format!("{key}.origins"), "\"*\" stands for all origins");
        sink.push(diagnostic.fix("remove it, or all others".to_owned()));
        return None;
    }
    if all.is_some() && raw.credentials.value.0 {
        let message = "any page could act with the cookies of whoever opens it";
        let diagnostic = Diagnostic::error(raw.credentials.place, format!("{key}.credentials"), message)
            .related(origins.place, "all origins")
            .fix("name the origins, or remove credentials".to_owned());
        sink.push(diagnostic);
        return None;
    }
    if let Some(star) = raw.methods.value.0.iter().find(|method| method.value.0 == "*") {
        let diagnostic = Diagnostic::error(star.place, format!("{key}.methods"), "methods are named one by one");
        sink.push(diagnostic.fix("write [\"GET\", \"HEAD\", \"POST\", \"PUT\", \"PATCH\", \"DELETE\"]".to_owned()));
        return None;
    }
    let names = |list: &crate::value::List<field::ResponseName>| {
        list.0.iter().map(|name| name.value.0.clone()).collect::<Vec<FieldName>>()
    };
    let some: Option<Vec<OriginMatch>> = origins.value.0.iter().map(|origin| origin.value.0.clone()).collect();
    Some(CorsParams {
        origins: some.map_or(CorsOrigins::Any, CorsOrigins::Some),
        methods: raw.methods.value.0.iter().map(|method| method.value.0.clone()).collect(),
        headers: match &raw.headers.value {
            Or::Word(_) => None,
            Or::Value(list) => Some(names(list)),
        },
        expose: names(&raw.expose.value),
        credentials: raw.credentials.value.0,
        max_age: raw.max_age.value.0,
    })
}

fn basic_auth(
    key: &str,
    field: &Field<RawBasicAuth>,
    files: &mut Files<'_>,
    sink: &mut Sink,
) -> Option<BasicAuthParams> {
    let raw = &field.value;
    let inline = raw.users.value.0.0.iter().map(|user| (user.value.0.clone(), user.place));
    let mut users: Vec<(Credential, Place)> = inline.collect();
    if let Some(file) = &raw.users_file {
        users.extend(users_file(&format!("{key}.users_file"), file, files, sink)?);
    }
    let mut seen = std::collections::HashMap::new();
    for (user, place) in &users {
        if let Some(first) = seen.insert(user.name().to_owned(), *place) {
            let message = format!("{:?} has two passwords", user.name());
            let diagnostic = Diagnostic::error(*place, key, message).related(first, "the first");
            sink.push(diagnostic.fix("remove one of them".to_owned()));
            return None;
        }
    }
    let all_read = raw.users.value.0.0.len() == raw.users.value.0.1;
    if users.is_empty() && all_read && !raw.failed.iter().any(|name| name.starts_with("users")) {
        let diagnostic = Diagnostic::error(field.place, key, "nobody may ask: there are no users");
        sink.push(diagnostic.fix("add users = [\"NAME:HASH\"], or users_file".to_owned()));
    }
    let users: Vec<Credential> = users.into_iter().map(|(user, _)| user).collect();
    (!users.is_empty() && all_read).then(|| BasicAuthParams { realm: raw.realm.value.0.clone(), users })
}

/// The users of a file: a line for each, `#` before remarks.
fn users_file(
    key: &str,
    field: &Field<Text>,
    files: &mut Files<'_>,
    sink: &mut Sink,
) -> Option<Vec<(Credential, Place)>> {
    let path = files.path(field);
    let text = match read(&path) {
        Ok(text) => text,
        Err(problem) => {
            let diagnostic = Diagnostic::error(field.place, key, format!("cannot read {}: {problem}", path.display()));
            sink.push(diagnostic.fix("name a file of lines NAME:HASH, relative to this one".to_owned()));
            return None;
        }
    };
    let lines = text.lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let mut user = |(index, line): (usize, &str)| {
        let credential = Credential::new(line);
        if let Err(error) = credential {
            // The line itself is not shown: it may hold a password.
            let message = format!("line {} of {} {error}", index + 1, path.display());
            sink.push(Diagnostic::error(field.place, key, message).fix(field::mended(error).map(str::to_owned)));
        }
        Some((credential.ok()?, field.place))
    };
    let users: Vec<_> = lines.map(&mut user).collect();
    users.into_iter().collect()
}

fn read(path: &Path) -> Result<String, String> {
    let found = std::fs::metadata(path).map_err(|error| error.to_string())?;
    // A pipe would keep whoever reads it waiting.
    if !found.is_file() {
        return Err("it is not a file".to_owned());
    }
    if found.len() > USERS_BYTES_MAX {
        return Err("it is larger than 1 MiB".to_owned());
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}
