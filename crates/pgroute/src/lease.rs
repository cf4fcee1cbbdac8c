//! Whether a server may be written to, where somebody outside says so: a *lease*, which only one server has at any time.
//!
//! Each server's holder is asked over and over, by HTTP, and says yes (200) or no (anything else). A yes is good for a while, reckoned from
//! when the question was **sent**: the answer may have been under way for any time, and was true when it was given, at the earliest right after
//! the question. Nothing that is heard later makes it last longer, and a no ends it at once. Silence changes nothing: the lease runs out.
//!
//! Times are those of a clock that counts suspended time, since the time of others goes on while a machine sleeps.

use std::time::Duration;

/// Longest first line of an answer, in bytes.
pub const LINE_BYTES_MAX: usize = 256;

/// What somebody was told who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The server has the lease.
    Holds,
    /// It has not.
    HoldsNot,
    /// Nothing, or nothing that could be understood.
    Silence,
}

/// The lease of one server.
#[derive(Clone, Debug)]
pub struct Lease {
    ttl: Duration,
    /// When the question was sent whose answer counts.
    asked_at: Option<Duration>,
    until: Option<Duration>,
}

/// Where it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    authority: String,
    path: String,
}

impl Lease {
    /// One that nobody is known to have. A yes is good for `ttl`.
    pub fn new(ttl: Duration) -> Self {
        Self { ttl, asked_at: None, until: None }
    }

    /// An answer has come, or has not come, to a question that was sent then.
    pub fn answered(&mut self, asked_at: Duration, answer: Answer) {
        if answer == Answer::Silence || self.asked_at.is_some_and(|before| before > asked_at) {
            return;
        }
        self.asked_at = Some(asked_at);
        self.until = (answer == Answer::Holds).then(|| asked_at + self.ttl);
    }

    /// When it ends, if it was held at all and nobody has said no since. It is over at that time, not after it.
    pub fn until(&self) -> Option<Duration> {
        self.until
    }

    /// Whether the server has it at this time.
    pub fn holds(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

impl Target {
    /// Where a URL leads to, in which `{host}` and `{port}` stand for a server's. `None` where that is no `http` URL with a host.
    pub fn new(url: &str, host: &str, port: u16) -> Option<Self> {
        let shown = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let url = url.replace("{host}", &shown).replace("{port}", &port.to_string());
        let rest = url.strip_prefix("http://")?;
        // What is not one of these could end the request's line.
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains(['@', '#', '{', '}']) {
            return None;
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)?),
            None => (authority, 80),
        };
        let bare = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']')?,
            None if host.contains(':') => return None,
            None => host,
        };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        (!bare.is_empty()).then(|| Self { host: bare.to_owned(), port, authority: authority.to_owned(), path })
    }

    /// The question.
    pub fn request(&self) -> Vec<u8> {
        let Self { authority, path, .. } = self;
        format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: tenfold\r\nConnection: close\r\n\r\n")
            .into_bytes()
    }
}

/// What the beginning of an answer by HTTP/1 says. `None` while its first line has not come to an end.
pub fn read(bytes: &[u8]) -> Option<Answer> {
    let Some(end) = bytes.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
        return (bytes.len() >= LINE_BYTES_MAX).then_some(Answer::Silence);
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    let status = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "));
    Some(match status {
        Some(b"200" | [b'2', b'0', b'0', b' ', ..]) => Answer::Holds,
        Some([b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] | [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9', b' ', ..]) => {
            Answer::HoldsNot
        }
        _ => Answer::Silence,
    })
}
