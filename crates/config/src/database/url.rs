//! URLs of servers, as libpq takes them. They may hold a password and are therefore never quoted.

use std::path::{Path, PathBuf};

use gateway::params::Host;
use pgproxy::ServerAddress;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;
use vocab::Secret;

use crate::address::{self, HostPort};
use crate::diagnostic::{Diagnostic, Sink};
use crate::grammar::{Key, Value, wrong_kind};
use crate::node::{Node, Value as NodeValue};
use crate::store::decoded;

/// The port of PostgreSQL.
const PORT: u16 = 5432;

/// Where a server is, and who logs in to which database on it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServerUrl {
    pub(crate) address: ServerAddress,
    pub(crate) dbname: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) sslmode: Option<SslMode>,
    /// Settings that connections begin with.
    pub(crate) settings: Vec<(String, String)>,
    /// Whether a password stands in the file as it is.
    pub(crate) in_clear: bool,
}

/// Whether TLS is spoken, in libpq's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyFull,
}

impl SslMode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// What is wrong with a URL, and what to do, neither of which may repeat what stands in it.
type Wrong = (&'static str, Option<&'static str>);

const ENCODE: &str = "write characters of a password that are no letters or digits as in %23 for #";

fn parse(text: &str) -> Result<ServerUrl, Wrong> {
    let no_scheme = ("the URL has no scheme", Some("begin it with postgres://"));
    let (scheme, rest) = text.split_once("://").ok_or(no_scheme)?;
    match scheme {
        "postgres" | "postgresql" => {}
        "mysql" | "mariadb" => return Err(("the URL is of MySQL, and only PostgreSQL is spoken here", None)),
        _ if scheme.starts_with("postgres") || scheme.starts_with("jdbc:") => {
            return Err(("the URL is that of a driver", Some("begin it with postgres://")));
        }
        _ => return Err(("the URL has an unknown scheme", Some("begin it with postgres://"))),
    }
    if rest.contains('#') || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(("the URL has a character that belongs escaped", Some(ENCODE)));
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (user, place) = match place.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, place),
    };
    if user.is_some_and(|user| user.contains('/')) {
        return Err(("the URL has a '/' before its host", Some(ENCODE)));
    }
    let (authority, dbname) = place.split_once('/').unwrap_or((place, ""));
    if dbname.contains('/') {
        return Err(("the URL has more than a database after its host", None));
    }
    let (user, password) = match user.map(|user| user.split_once(':').map_or((user, None), |(a, b)| (a, Some(b)))) {
        None => (None, None),
        Some((user, password)) => (Some(decoded(user)?), password.map(decoded).transpose()?),
    };
    let filled = |text: String| (!text.is_empty()).then_some(text);
    let (user, password) = (user.and_then(filled), password.and_then(filled));
    if user.is_none() && password.is_some() {
        return Err(("the URL has a password without a user", Some("write USER:PASSWORD@")));
    }
    let asked = parameters(query)?;
    let address = match (authority, &asked.host) {
        ("", Some(folder)) => ServerAddress::Unix(socket(folder, asked.port.unwrap_or(PORT))?),
        ("", None) => return Err(("the URL has no host", Some("write postgres://HOST/DATABASE"))),
        (_, Some(_)) => return Err(("the URL has two hosts", Some("remove host= from its end"))),
        (authority, None) => server(authority)?,
    };
    let dbname = filled(decoded(dbname)?);
    let Parameters { sslmode, settings, .. } = asked;
    Ok(ServerUrl { address, dbname, user, password: password.map(Secret::new), sslmode, settings, in_clear: false })
}

/// What stands behind the question mark.
#[derive(Default)]
struct Parameters {
    host: Option<String>,
    port: Option<u16>,
    sslmode: Option<SslMode>,
    settings: Vec<(String, String)>,
}

fn parameters(query: &str) -> Result<Parameters, Wrong> {
    let mut found = Parameters::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or(("the URL has a parameter without a value", None))?;
        let value = decoded(value)?;
        match name {
            "host" => found.host = Some(value),
            "port" => found.port = Some(value.parse().map_err(|_| ("the URL's port is no number", None))?),
            "sslmode" => found.sslmode = Some(sslmode(&value)?),
            "application_name" => found.settings.push((name.to_owned(), value)),
            "options" => found.settings.extend(options(&value)?),
            "connect_timeout" => {
                return Err(("the URL has a time for connections", Some("write timeouts = { connect = \"5s\" }")));
            }
            "target_session_attrs" | "load_balance_hosts" => {
                return Err(("the URL says which of several servers is meant, and names one", Some("remove it")));
            }
            "sslrootcert" | "sslcert" | "sslkey" | "sslcrl" => {
                return Err(("the URL names files of certificates", Some("write tls = { ca = \"FILE\" }")));
            }
            _ => {
                let known = "it may have sslmode, application_name, options, and for a Unix socket host and port";
                return Err(("the URL has a parameter that is not known here", Some(known)));
            }
        }
    }
    Ok(found)
}

fn sslmode(text: &str) -> Result<SslMode, Wrong> {
    match text {
        "disable" => Ok(SslMode::Disable),
        "prefer" => Ok(SslMode::Prefer),
        "require" => Ok(SslMode::Require),
        "verify-full" => Ok(SslMode::VerifyFull),
        "allow" => Err(("the URL asks for TLS only when it has failed without", Some("write sslmode=prefer"))),
        "verify-ca" => Err(("the URL's sslmode believes any host of an authority", Some("write sslmode=verify-full"))),
        _ => Err(("the URL has an unknown sslmode", Some("write disable, prefer, require or verify-full"))),
    }
}

/// The settings of `-c NAME=VALUE`.
fn options(text: &str) -> Result<Vec<(String, String)>, Wrong> {
    let wrong = ("the URL's options are more than settings", Some("write options=-c%20NAME%3DVALUE"));
    let mut words = text.split_ascii_whitespace();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("-c").or_else(|| word.strip_prefix("--")).ok_or(wrong)? {
            "" => words.next().ok_or(wrong)?,
            setting => setting,
        };
        let (name, value) = setting.split_once('=').ok_or(wrong)?;
        settings.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    Ok(settings)
}

/// A host and port, or an escaped folder of sockets as libpq has it.
fn server(authority: &str) -> Result<ServerAddress, Wrong> {
    if authority.contains(',') {
        let fix = "name the primary alone, and the others in replicas";
        return Err(("the URL has several hosts", Some(fix)));
    }
    if authority.starts_with("%2F") || authority.starts_with("%2f") {
        let (folder, port) = authority.split_once(':').map_or((authority, None), |(folder, port)| (folder, Some(port)));
        let port = port.map_or(Ok(PORT), |port| port.parse().map_err(|_| ("the URL's port is no number", None)))?;
        return Ok(ServerAddress::Unix(socket(&decoded(folder)?, port)?));
    }
    let found = match address::host_port_with(authority, PORT) {
        // Nobody writes the port where it is the usual one.
        Err(address::Wrong { problem: "has no port", fix: Some(whole) }) => address::host_port_with(&whole, PORT),
        other => other,
    };
    match found {
        Ok(HostPort { port: 0, .. }) => Err(("the URL has port 0, where nothing can listen", None)),
        Ok(HostPort { host: Host::Address(host), port }) => Ok(ServerAddress::Tcp { host: host.to_string(), port }),
        Ok(HostPort { host: Host::Name(host) | Host::Srv(host), port }) => Ok(ServerAddress::Tcp { host, port }),
        Err(_) => Err(("the URL has no valid host and port", None)),
    }
}

/// The file of a socket in a folder, by PostgreSQL's rule.
fn socket(folder: &str, port: u16) -> Result<PathBuf, Wrong> {
    if !folder.starts_with('/') {
        return Err(("the URL's host is no folder of sockets", Some("write it before the database: //HOST:PORT/")));
    }
    Ok(Path::new(folder).join(format!(".s.PGSQL.{port}")))
}

/// A text with escapes for all that could mean something in a URL.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => {
                encoded.push('%');
                encoded.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])));
            }
        }
    }
    encoded
}

impl ServerUrl {
    /// The URL as it may be shown.
    fn shown(&self) -> String {
        let user = match (self.user.as_deref().map(encoded), &self.password) {
            (Some(user), Some(_)) => format!("{user}:***@"),
            (Some(user), None) => format!("{user}@"),
            (None, _) => String::new(),
        };
        let dbname = self.dbname.as_deref().map_or_else(String::new, encoded);
        let mut parameters = Vec::new();
        let place = match &self.address {
            ServerAddress::Tcp { .. } => self.address.to_string(),
            ServerAddress::Unix(path) => {
                let folder = path.parent().unwrap_or(path).display();
                let port = path.extension().and_then(|port| port.to_str()).unwrap_or_default();
                parameters.push(format!("host={folder}&port={port}"));
                String::new()
            }
        };
        parameters.extend(self.sslmode.map(|mode| format!("sslmode={}", mode.as_str())));
        for (name, value) in &self.settings {
            parameters.push(match name.as_str() {
                "application_name" => format!("{name}={}", encoded(value)),
                _ => format!("options={}", encoded(&format!("-c {name}={value}"))),
            });
        }
        let mark = if parameters.is_empty() { "" } else { "?" };
        format!("postgres://{user}{place}/{dbname}{mark}{}", parameters.join("&"))
    }
}

impl Value for ServerUrl {
    fn expected() -> String {
        "a URL such as \"postgres://10.0.0.5/shop\" or \"postgres://USER:PASSWORD@db.internal:5433/shop?sslmode=require\""
            .to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        // What has neither a user nor parameters has no password.
        if node.text().is_none_or(|text| text.contains(['@', '?'])) {
            sink.hide(node.place);
        }
        let NodeValue::Text { text, expanded } = &node.value else {
            wrong_kind(node, key, &Self::expected(), None, sink);
            return None;
        };
        match parse(text) {
            Ok(mut found) => {
                found.in_clear = found.password.is_some() && !expanded;
                Some(found)
            }
            Err((problem, fix)) => {
                let diagnostic = Diagnostic::error(node.place, key, problem).allowed(Self::expected());
                sink.push(diagnostic.fix(fix.map(str::to_owned)));
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-value": Self::expected() })
    }

    fn effective(&self) -> Json {
        self.shown().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_libpq_does() {
        let check = |text: &str, expected: &str| match parse(text) {
            Ok(url) => assert_eq!(url.shown(), expected, "{text}"),
            Err(wrong) => panic!("{text}: {wrong:?}"),
        };
        check("postgres://db1/shop", "postgres://db1:5432/shop");
        check("postgresql://web@DB1:5433", "postgres://web@db1:5433/");
        check("postgres://web:a%40b@[::1]/shop?sslmode=require", "postgres://web:***@[::1]:5432/shop?sslmode=require");
        check("postgres:///shop?host=/run/postgresql", "postgres:///shop?host=/run/postgresql&port=5432");
        check("postgres://u@%2Frun%2Fpg:6000/shop", "postgres://u@/shop?host=/run/pg&port=6000");
        let url = parse("postgres://web:a%40b@db1/my%20shop?application_name=x&options=-c%20Work_Mem%3D1MB").unwrap();
        assert_eq!((url.dbname.as_deref(), url.user.as_deref()), (Some("my shop"), Some("web")));
        assert_eq!(url.password, Some(Secret::new("a@b")));
        let shown = "postgres://web:***@db1:5432/my%20shop?application_name=x&options=-c%20work_mem%3D1MB";
        assert_eq!(url.shown(), shown);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(url.settings, [pair("application_name", "x"), pair("work_mem", "1MB")]);
    }

    #[test]
    fn what_is_no_url_is_told_without_quoting_it() {
        let check = |text: &str, problem: &str| {
            assert_eq!(parse(text).map_err(|(problem, _)| problem).unwrap_err(), problem, "{text}");
        };
        check("db1/shop", "the URL has no scheme");
        check("mysql://db1/shop", "the URL is of MySQL, and only PostgreSQL is spoken here");
        check("postgresql+asyncpg://db1/shop", "the URL is that of a driver");
        check("http://db1/shop", "the URL has an unknown scheme");
        check("postgres://db1,db2/shop", "the URL has several hosts");
        check("postgres:///shop", "the URL has no host");
        check("postgres://:secret@db1/shop", "the URL has a password without a user");
        check("postgres://web:se#cret@db1/shop", "the URL has a character that belongs escaped");
        check("postgres://web:se/cret@db1/shop", "the URL has a '/' before its host");
        check("postgres://web:%zz@db1/shop", "the URL has a broken escape before its host");
        check("postgres://db1:0/shop", "the URL has port 0, where nothing can listen");
        check("postgres://db1:x/shop", "the URL has no valid host and port");
        check("postgres://db1/shop/more", "the URL has more than a database after its host");
        check("postgres://db1/shop?sslmode=maybe", "the URL has an unknown sslmode");
        check("postgres://db1/shop?keepalives=1", "the URL has a parameter that is not known here");
        check("postgres:///shop?host=db1", "the URL's host is no folder of sockets");
        check("postgres://db1/shop?options=-d", "the URL's options are more than settings");
    }
}
