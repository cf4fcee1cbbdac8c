//! Messages that Tenfold itself sends, appended to a buffer: as a server to clients, and as a client to servers.
//!
//! A text of ours never holds a zero byte, but one of somebody else's might; it is cut there, as C would cut it.

use std::fmt::Display;
use std::io::Write as _;

use super::startup::{CANCEL, Replication, Startup, VERSION};
use super::{backend, frontend};
use crate::SqlState;

/// Appends a message: its head, and the body that `body` writes.
pub fn message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    headless(out, body);
}

fn headless(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend([0; 4]);
    body(out);
    let len = u32::try_from(out.len() - at).expect("our own messages are short");
    out[at..at + 4].copy_from_slice(&len.to_be_bytes());
}

fn string(out: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    let text = text.as_ref();
    out.extend(text.split(|&byte| byte == 0).next().unwrap_or_default());
    out.push(0);
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement fails.
    Error,
    /// The connection ends.
    Fatal,
    /// The client had better know.
    Warning,
    /// The client may like to know.
    Notice,
}

/// What Tenfold has to say.
#[derive(Clone, Debug)]
pub struct Report<'r> {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of thing it is.
    pub code: SqlState,
    /// What went wrong, with its subject.
    pub message: &'r str,
    /// More about it, or nothing.
    pub detail: &'r str,
    /// What to do about it, or nothing.
    pub hint: &'r str,
    /// The routine of a server that would have said it, by which drivers tell some errors from others, or nothing.
    pub routine: &'r str,
}

impl<'r> Report<'r> {
    /// With a message alone.
    pub fn new(severity: Severity, code: SqlState, message: &'r str) -> Self {
        Self { severity, code, message, detail: "", hint: "", routine: "" }
    }
}

/// An error, or a notice if it is none.
pub fn report(out: &mut Vec<u8>, report: &Report<'_>) {
    let (tag, severity) = match report.severity {
        Severity::Error => (backend::tag::ERROR, "ERROR"),
        Severity::Fatal => (backend::tag::ERROR, "FATAL"),
        Severity::Warning => (backend::tag::NOTICE, "WARNING"),
        Severity::Notice => (backend::tag::NOTICE, "NOTICE"),
    };
    message(out, tag, |out| {
        let code = report.code.to_string();
        let fields = [
            (b'S', severity),
            (b'V', severity),
            (b'C', &code),
            (b'M', report.message),
            (b'D', report.detail),
            (b'H', report.hint),
            (b'R', report.routine),
        ];
        for (kind, text) in fields.into_iter().filter(|(_, text)| !text.is_empty()) {
            out.push(kind);
            string(out, text);
        }
        out.push(0);
    });
}

fn authentication(out: &mut Vec<u8>, kind: i32, data: impl FnOnce(&mut Vec<u8>)) {
    message(out, backend::tag::AUTHENTICATION, |out| {
        out.extend(kind.to_be_bytes());
        data(out);
    });
}

/// The client is who it says.
pub fn authentication_ok(out: &mut Vec<u8>) {
    authentication(out, 0, |_| ());
}

/// Asks for the password in clear.
pub fn authentication_cleartext(out: &mut Vec<u8>) {
    authentication(out, 3, |_| ());
}

/// Asks for the password's digest.
pub fn authentication_md5(out: &mut Vec<u8>, salt: [u8; 4]) {
    authentication(out, 5, |out| out.extend(salt));
}

/// Offers mechanisms of SASL.
pub fn authentication_sasl(out: &mut Vec<u8>, mechanisms: &[&str]) {
    authentication(out, 10, |out| {
        mechanisms.iter().for_each(|name| string(out, name));
        out.push(0);
    });
}

/// The next step of SASL.
pub fn authentication_sasl_continue(out: &mut Vec<u8>, data: &[u8]) {
    authentication(out, 11, |out| out.extend(data));
}

/// The last step of SASL.
pub fn authentication_sasl_final(out: &mut Vec<u8>, data: &[u8]) {
    authentication(out, 12, |out| out.extend(data));
}

/// The version that is spoken instead, and the options that are unknown.
pub fn negotiate_version(out: &mut Vec<u8>, minor: u16, unknown: &[String]) {
    message(out, backend::tag::NEGOTIATE_VERSION, |out| {
        out.extend((VERSION | i32::from(minor)).to_be_bytes());
        out.extend((unknown.len() as u32).to_be_bytes());
        unknown.iter().for_each(|name| string(out, name));
    });
}

/// What cancels the client's statements.
pub fn backend_key(out: &mut Vec<u8>, pid: i32, secret: &[u8]) {
    message(out, backend::tag::BACKEND_KEY, |out| {
        out.extend(pid.to_be_bytes());
        out.extend(secret);
    });
}

/// A setting and its value.
pub fn parameter_status(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    message(out, backend::tag::PARAMETER_STATUS, |out| {
        string(out, name);
        string(out, value);
    });
}

/// The next query may come.
pub fn ready(out: &mut Vec<u8>, status: backend::TransactionStatus) {
    use backend::TransactionStatus as Status;
    let status = match status {
        Status::Idle => b'I',
        Status::Open => b'T',
        Status::Failed => b'E',
    };
    message(out, backend::tag::READY, |out| out.push(status));
}

/// A statement is done, such as `SHOW`.
pub fn command_complete(out: &mut Vec<u8>, text: &str) {
    message(out, backend::tag::COMMAND_COMPLETE, |out| string(out, text));
}

/// A message of a server that is its head alone, such as [`backend::tag::PARSE_COMPLETE`].
pub fn bare(out: &mut Vec<u8>, tag: u8) {
    message(out, tag, |_| ());
}

/// Columns of text.
pub fn row_description(out: &mut Vec<u8>, columns: &[&str]) {
    /// The type `text`; its size, which is not fixed.
    const TEXT: (u32, i16) = (25, -1);
    typed_row_description(out, columns.iter().map(|name| (*name, TEXT)));
}

/// Columns of types, by number and size in bytes, whose values are texts.
pub fn typed_row_description<'c>(out: &mut Vec<u8>, columns: impl ExactSizeIterator<Item = (&'c str, (u32, i16))>) {
    message(out, backend::tag::ROW_DESCRIPTION, |out| {
        out.extend((columns.len() as u16).to_be_bytes());
        for (name, (kind, size)) in columns {
            string(out, name);
            // Of no table.
            out.extend([0; 6]);
            out.extend(kind.to_be_bytes());
            out.extend(size.to_be_bytes());
            // No modifier; as text.
            out.extend((-1_i32).to_be_bytes());
            out.extend([0; 2]);
        }
    });
}

/// A row of texts, or of nothing where there is `None`.
pub fn data_row<T: Display>(out: &mut Vec<u8>, values: &[Option<T>]) {
    message(out, backend::tag::DATA_ROW, |out| {
        out.extend((values.len() as u16).to_be_bytes());
        for value in values {
            let at = out.len();
            out.extend((-1_i32).to_be_bytes());
            if let Some(value) = value {
                write!(out, "{value}").expect("a vector takes everything");
                let len = (out.len() - at - 4) as i32;
                out[at..at + 4].copy_from_slice(&len.to_be_bytes());
            }
        }
    });
}

/// A notification of a channel.
pub fn notification(out: &mut Vec<u8>, pid: i32, channel: &[u8], payload: &[u8]) {
    message(out, backend::tag::NOTIFICATION, |out| {
        out.extend(pid.to_be_bytes());
        string(out, channel);
        string(out, payload);
    });
}

/// The first message of a session with a server.
pub fn startup(out: &mut Vec<u8>, startup: &Startup) {
    headless(out, |out| {
        out.extend(VERSION.to_be_bytes());
        let names = [("user", startup.user.as_str()), ("database", startup.database.as_str())];
        let replication = match startup.replication {
            Replication::No => None,
            Replication::Physical => Some(("replication", "true")),
            Replication::Logical => Some(("replication", "database")),
        };
        let settings = startup.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in names.into_iter().chain(replication).chain(settings) {
            string(out, name);
            string(out, value);
        }
        out.push(0);
    });
}

/// The question whether TLS is spoken.
pub fn ssl_request(out: &mut Vec<u8>) {
    headless(out, |out| out.extend(super::startup::SSL.to_be_bytes()));
}

/// Cancels the statement of another connection.
pub fn cancel(out: &mut Vec<u8>, pid: i32, secret: &[u8]) {
    headless(out, |out| {
        out.extend(CANCEL.to_be_bytes());
        out.extend(pid.to_be_bytes());
        out.extend(secret);
    });
}

/// A password in clear, or its digest.
pub fn password(out: &mut Vec<u8>, text: &[u8]) {
    message(out, frontend::tag::PASSWORD, |out| string(out, text));
}

/// The first step of SASL.
pub fn sasl_initial(out: &mut Vec<u8>, mechanism: &str, data: &[u8]) {
    message(out, frontend::tag::PASSWORD, |out| {
        string(out, mechanism);
        out.extend((data.len() as u32).to_be_bytes());
        out.extend(data);
    });
}

/// A further step of SASL.
pub fn sasl_response(out: &mut Vec<u8>, data: &[u8]) {
    message(out, frontend::tag::PASSWORD, |out| out.extend(data));
}

/// Statements as a text.
pub fn query(out: &mut Vec<u8>, text: &str) {
    message(out, frontend::tag::QUERY, |out| string(out, text));
}

/// Prepares a statement under a name of ours, with the text and the types that a client gave.
pub fn parse(out: &mut Vec<u8>, name: &[u8], parse: &frontend::Parse<'_>) {
    message(out, frontend::tag::PARSE, |out| {
        string(out, name);
        string(out, parse.text);
        out.extend(((parse.types.len() / 4) as u16).to_be_bytes());
        out.extend(parse.types);
    });
}

/// The beginning of a client's `Bind` with another name for the statement: what comes before the values. `total` is the
/// length that the client's message has with its head, of which the values may still be on their way.
pub fn bind_names(out: &mut Vec<u8>, bind: &frontend::Bind<'_>, name: &[u8], total: usize) {
    let values = total - bind.values_at;
    let len = 4 + bind.portal.len() + 1 + name.len() + 1 + values;
    out.push(frontend::tag::BIND);
    out.extend((len as u32).to_be_bytes());
    string(out, bind.portal);
    string(out, name);
}

/// Describes or closes (`tag`) a statement or portal.
pub fn target(out: &mut Vec<u8>, tag: u8, target: frontend::Target<'_>) {
    let (kind, name) = match target {
        frontend::Target::Statement(name) => (b'S', name),
        frontend::Target::Portal(name) => (b'P', name),
    };
    message(out, tag, |out| {
        out.push(kind);
        string(out, name);
    });
}

/// Makes a portal of a statement that takes no values.
pub fn bind(out: &mut Vec<u8>, portal: &[u8], statement: &[u8]) {
    message(out, frontend::tag::BIND, |out| {
        string(out, portal);
        string(out, statement);
        // Formats of values, values, formats of columns: none of each.
        out.extend([0; 6]);
    });
}

/// Runs a portal to its end.
pub fn execute(out: &mut Vec<u8>, portal: &[u8]) {
    message(out, frontend::tag::EXECUTE, |out| {
        string(out, portal);
        out.extend([0; 4]);
    });
}

/// The end of a group of messages.
pub fn sync(out: &mut Vec<u8>) {
    message(out, frontend::tag::SYNC, |_| ());
}

/// Good-bye.
pub fn terminate(out: &mut Vec<u8>) {
    message(out, frontend::tag::TERMINATE, |_| ());
}
