//! What a client says first. It has no byte for its kind: a length, a number, and what belongs to that.
//!
//! The number is a version of the protocol, or one of three that cannot be: a question for TLS or GSSAPI, which is answered by
//! one byte and followed by another first message, or a request to cancel, which is answered by nothing at all. A client may
//! also begin with TLS at once (`sslnegotiation=direct`), which no length can look like.

use super::backend::KEY_BYTES_MAX;
use super::body::Body;
use super::{HEAD_BYTES, WireError};

/// Longest first message; PostgreSQL's own bound.
pub const STARTUP_BYTES_MAX: usize = 10_000;

/// Newest minor version of protocol 3 that Tenfold speaks.
pub const MINOR_MAX: u16 = 2;

/// The version that Tenfold asks servers for: what 3.2 adds is longer keys, and older servers would have to negotiate.
pub const VERSION: i32 = 3 << 16;

pub(super) const CANCEL: i32 = 1234 << 16 | 5678;
pub(super) const SSL: i32 = 1234 << 16 | 5679;
pub(super) const GSS: i32 = 1234 << 16 | 5680;

/// First byte of a handshake of TLS.
const TLS_HANDSHAKE: u8 = 22;

/// What a client begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A handshake of TLS. Nothing of it is consumed.
    Tls,
    /// The question whether TLS is spoken.
    SslRequest,
    /// The question whether GSSAPI enciphers.
    GssRequest,
    /// Cancels the statement of another connection.
    Cancel {
        /// The process of that one.
        pid: i32,
        /// Its secret.
        secret: Vec<u8>,
    },
    /// A session.
    Startup(Startup),
}

/// Who wants a session of which database, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Startup {
    /// The minor version that was asked for.
    pub minor: u16,
    /// The user, who is always named.
    pub user: String,
    /// The database; that of the user's name if none is named.
    pub database: String,
    /// Whether it is for replication, and how.
    pub replication: Replication,
    /// Settings of the session: those that were named and then those within `options`, as they came.
    pub settings: Vec<(String, String)>,
    /// Options of the protocol that Tenfold does not know; all begin with `_pq_.`.
    pub unknown: Vec<String>,
}

/// Whether a session is for replication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replication {
    /// It is for queries.
    #[default]
    No,
    /// Of the whole server, byte by byte.
    Physical,
    /// Of one database, by what changes in it.
    Logical,
}

impl Startup {
    /// Whether the server has to say that it speaks less than was asked for.
    pub fn must_negotiate(&self) -> bool {
        self.minor > MINOR_MAX || !self.unknown.is_empty()
    }
}

/// Reads the first message from the beginning of `bytes`, and says how many of them it was. `None` as long as it is not there.
///
/// # Errors
/// When it is malformed, too long, or of a version that is not spoken.
pub fn read(bytes: &[u8]) -> Result<Option<(Opening, usize)>, WireError> {
    if bytes.first() == Some(&TLS_HANDSHAKE) {
        return Ok(Some((Opening::Tls, 0)));
    }
    let Some(length) = bytes.first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_be_bytes(*length) as usize;
    if !(8..=STARTUP_BYTES_MAX).contains(&len) {
        return Err(WireError::Startup { reason: "its length is invalid" });
    }
    let Some(message) = bytes.get(..len) else { return Ok(None) };
    let code = i32::from_be_bytes([message[4], message[5], message[6], message[7]]);
    let opening = match code {
        SSL | GSS if len != 8 => return Err(WireError::Startup { reason: "its length is invalid" }),
        SSL => Opening::SslRequest,
        GSS => Opening::GssRequest,
        CANCEL => cancel(&message[8..])?,
        _ => session(code, &message[8..])?,
    };
    Ok(Some((opening, len)))
}

fn cancel(rest: &[u8]) -> Result<Opening, WireError> {
    let Some((pid, secret)) = rest.split_first_chunk::<4>().filter(|(_, key)| (4..=KEY_BYTES_MAX).contains(&key.len()))
    else {
        return Err(WireError::Startup { reason: "the key of what is to be cancelled has an invalid length" });
    };
    Ok(Opening::Cancel { pid: i32::from_be_bytes(*pid), secret: secret.to_vec() })
}

fn session(version: i32, rest: &[u8]) -> Result<Opening, WireError> {
    let (major, minor) = ((version >> 16) as u16, version as u16);
    if major != 3 {
        return Err(WireError::Version { major, minor });
    }
    let mut startup = Startup { minor, ..Startup::default() };
    let (mut user, mut database, mut options) = (None, None, None);
    for (name, value) in pairs(rest)? {
        let before = match name.as_str() {
            "user" => user.replace(value),
            "database" => database.replace(value),
            "options" => options.replace(value),
            "replication" => {
                startup.replication = replication(&value)?;
                None
            }
            _ if name.starts_with("_pq_.") => {
                startup.unknown.push(name);
                None
            }
            _ => {
                startup.settings.push((name, value));
                None
            }
        };
        if before.is_some() {
            return Err(WireError::Startup { reason: "a parameter is there twice" });
        }
    }
    startup.user = user.filter(|user| !user.is_empty()).ok_or(WireError::Startup { reason: "no user is named" })?;
    startup.database = database.filter(|name| !name.is_empty()).unwrap_or_else(|| startup.user.clone());
    if let Some(options) = options {
        startup.settings.extend(settings_in(&options)?);
    }
    Ok(Opening::Startup(startup))
}

/// Names and values, up to an empty name.
fn pairs(rest: &[u8]) -> Result<Vec<(String, String)>, WireError> {
    // The reader of bodies expects a head before them.
    let message = [&[0; HEAD_BYTES][..], rest].concat();
    let mut body = Body::of(&message);
    let malformed = |_| WireError::Startup { reason: "its parameters are malformed" };
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec()).map_err(|_| WireError::Startup { reason: "a parameter is not UTF-8" })
    };
    let mut pairs = Vec::new();
    loop {
        let name = text(body.string().map_err(malformed)?)?;
        if name.is_empty() {
            body.end().map_err(malformed)?;
            return Ok(pairs);
        }
        pairs.push((name, text(body.string().map_err(malformed)?)?));
    }
}

/// `database` or a boolean, as PostgreSQL reads it: any beginning of a word that leaves no doubt.
fn replication(value: &str) -> Result<Replication, WireError> {
    let value = value.to_ascii_lowercase();
    let begins = |word: &str, least: usize| value.len() >= least && word.starts_with(&value);
    match value.as_str() {
        "database" => Ok(Replication::Logical),
        "1" => Ok(Replication::Physical),
        "0" => Ok(Replication::No),
        _ if begins("true", 1) || begins("yes", 1) || begins("on", 2) => Ok(Replication::Physical),
        _ if begins("false", 1) || begins("no", 1) || begins("off", 2) => Ok(Replication::No),
        _ => Err(WireError::Startup { reason: "the value of replication is invalid" }),
    }
}

/// The settings within `options`, which has the form of a command line: `-c name=value` and `--name=value`, separated by
/// spaces, with a backslash before what is to be taken as it is. Dashes in a name stand for underscores.
///
/// # Errors
/// When there is anything else in it: other switches are the server's own, and cannot be set on a shared connection.
pub fn settings_in(options: &str) -> Result<Vec<(String, String)>, WireError> {
    const FAULT: WireError = WireError::Startup { reason: "options may only hold settings, as -c name=value" };
    let mut settings = Vec::new();
    let mut words = words(options).into_iter();
    while let Some(word) = words.next() {
        let setting = if let Some(rest) = word.strip_prefix("--") {
            rest.to_owned()
        } else if word == "-c" {
            words.next().ok_or(FAULT)?
        } else {
            word.strip_prefix("-c").ok_or(FAULT)?.to_owned()
        };
        let (name, value) = setting.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or(FAULT)?;
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

fn words(options: &str) -> Vec<String> {
    let (mut words, mut word, mut is_word) = (Vec::new(), String::new(), false);
    let mut chars = options.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => {
                word.extend(chars.next());
                is_word = true;
            }
            _ if char.is_ascii_whitespace() => {
                if std::mem::take(&mut is_word) {
                    words.push(std::mem::take(&mut word));
                }
            }
            _ => {
                word.push(char);
                is_word = true;
            }
        }
    }
    if is_word {
        words.push(word);
    }
    words
}
