//! `[admin]` to the parameters of the admin listener.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;

use admin::AdminParams;
use vocab::{Name, Secret};

use crate::diagnostic::{Diagnostic, Sink};
use crate::entry::Named;
use crate::grammar::{Field, Key, Value as _};
use crate::node::{Entry, Node, Value};
use crate::raw::{RawAdmin, RawListener};
use crate::source::Place;
use crate::tls::Files;
use crate::value::Text;

/// Largest file of a token, with what stands around it. What is larger is another file.
const TOKEN_FILE_BYTES_MAX: u64 = 4096;

/// Most that is read of what somebody names on a command line: what a pipe of Linux holds at once.
const TOKEN_GIVEN_BYTES_MAX: u64 = 64 * 1024;

/// Where the admin listener is, for whoever asks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminAccess {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What requests must bear; `None` also when it could not be read because a variable is not set.
    pub token: Option<Secret>,
}

/// Reads the table alone, out of the entries of the whole file.
pub(crate) fn access(root: &[Entry], files: &mut Files<'_>, sink: &mut Sink) -> Option<AdminAccess> {
    let empty = Node { value: Value::Table(Vec::new()), place: Place::start_of(0) };
    let node = root.iter().find(|entry| entry.key == "admin").map_or(&empty, |entry| &entry.node);
    let raw = RawAdmin::read(node, &Key::Name(&Key::Root, "admin"), sink)?;
    raw.enabled.value.0.then(|| AdminAccess { listen: raw.listen.value.0, token: token(&raw, files, sink).0 })
}

/// The token, and whether it is wrong, which has been reported.
fn token(raw: &RawAdmin, files: &mut Files<'_>, sink: &mut Sink) -> (Option<Secret>, bool) {
    let failed = ["token", "token_file"].iter().any(|key| raw.failed.contains(key));
    let token = raw.token.as_ref().map(|token| Secret::new(token.value.0.as_str()));
    match (&raw.token_file, &raw.token) {
        (None, _) => (token, failed),
        (Some(field), Some(other)) => {
            let diagnostic = Diagnostic::error(field.place, "admin.token_file", "there is a token beside it")
                .related(other.place, "the token")
                .fix("remove one of the two".to_owned());
            sink.push(diagnostic);
            (token, failed)
        }
        (Some(field), None) => {
            let token = reported(&files.path(field), field, sink);
            let is_missing = token.is_none();
            (token, failed || is_missing)
        }
    }
}

/// Converts the table; `None` when it is turned off, or wrong, which has been reported.
pub(crate) fn params(
    raw: &RawAdmin,
    listeners: &Named<RawListener>,
    files: &mut Files<'_>,
    sink: &mut Sink,
) -> Option<AdminParams> {
    if !raw.enabled.value.0 {
        return None;
    }
    address_is_free(raw, listeners, sink);
    let (token, failed) = token(raw, files, sink);
    let listen = raw.listen.value.0;
    match AdminParams::new(listen, token) {
        Ok(params) => Some(params),
        Err(_) if failed => None,
        Err(open) => {
            let message = format!("{} is reachable from outside this machine, so a token is needed", open.listen);
            let diagnostic = Diagnostic::error(raw.listen.place, "admin.listen", message)
                .allowed("a loopback address, or any address with a token")
                .fix("add token = \"${TENFOLD_ADMIN_TOKEN}\", or listen on 127.0.0.1".to_owned());
            sink.push(diagnostic);
            None
        }
    }
}

fn address_is_free(raw: &RawAdmin, listeners: &Named<RawListener>, sink: &mut Sink) {
    let listen = raw.listen.value.0;
    let addresses = |(name, raw): &(Field<Name>, RawListener)| {
        let field = raw
            .listen
            .as_ref()?
            .value
            .0
            .iter()
            .find(|field| field.value.tcp() == Some(listen) && listen.port() != 0)?;
        Some((name.value.clone(), field.place))
    };
    if let Some((name, place)) = listeners.tables.iter().find_map(addresses) {
        let (at, other) = if raw.listen.set { (raw.listen.place, Some(place)) } else { (place, None) };
        let diagnostic = Diagnostic::error(at, "admin.listen", format!("{listen} is taken by listener {name}"))
            .related(other, "the listener")
            .fix("give one of them another port".to_owned());
        sink.push(diagnostic);
    }
}

fn reported(path: &Path, field: &Field<Text>, sink: &mut Sink) -> Option<Secret> {
    let report = |problem: String| {
        let diagnostic = Diagnostic::error(field.place, "admin.token_file", problem);
        sink.push(diagnostic.fix(format!("make it with: openssl rand -hex 32 > {}", path.display())));
    };
    // To open a pipe would wait for whoever writes to it, and so would every reload.
    let text = std::fs::metadata(path).and_then(|found| match found.is_file() {
        true => read(path, TOKEN_FILE_BYTES_MAX),
        false => Err(std::io::Error::other("it is no file")),
    });
    token_in(path, text, TOKEN_FILE_BYTES_MAX).map_err(report).ok()
}

/// Reads the token that somebody names on a command line: out of a file, or of a pipe, for whose other end it waits.
///
/// # Errors
/// What is wrong with it, in words that begin with its path, and what to do. What it holds is not said: it may be the token after all.
pub fn token_of(path: &Path) -> Result<Secret, String> {
    let found = token_in(path, read(path, TOKEN_GIVEN_BYTES_MAX), TOKEN_GIVEN_BYTES_MAX);
    found.map_err(|problem| format!("{problem}; name a file or a pipe that can be read and holds the token alone"))
}

fn token_in(path: &Path, text: std::io::Result<String>, bytes_max: u64) -> Result<Secret, String> {
    let problem = match text {
        Ok(text) if text.len() as u64 > bytes_max => format!("has more than {bytes_max} bytes, and a token fewer"),
        Ok(text) if Secret::may_be(text.trim_ascii()) => return Ok(Secret::new(text.trim_ascii())),
        Ok(_) => "holds no token of at least 16 visible ASCII characters".to_owned(),
        Err(error) => format!("cannot be read: {error}"),
    };
    Err(format!("{} {problem}", path.display()))
}

/// The text of a file up to one byte more than it may have.
fn read(path: &Path, bytes_max: u64) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(bytes_max + 1).read_to_string(&mut text)?;
    Ok(text)
}
