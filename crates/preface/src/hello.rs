//! The hello of a TLS client, as far as a connection can be routed by it: the host that it names, and the protocols that
//! it offers.
//!
//! The hello is a handshake message in one or more records, and may come byte by byte: RFC 8446, sections 4.1.2 and 5.1,
//! and RFC 5246 for what is older. The host is the extension of RFC 6066, the protocols that of RFC 7301. Every length
//! must fit exactly, and an extension that counts here may stand in it once, or two readers could see two hosts.
//!
//! A client may hide the host that it means (ECH); what is read then is the one that it names outside.

use std::fmt;

/// Longest hello that is read. Hellos have some hundred bytes, with keys against quantum computers about two thousand.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Most bytes that a hello may come in. Records add five bytes each, and could be of one byte each.
pub const BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;

/// Longest name of a host: RFC 1035.
const HOST_BYTES_MAX: usize = 253;

const RECORD_HEAD: usize = 5;
const RECORD_OF_HANDSHAKE: u8 = 22;
/// Longest content of a record that is not enciphered.
const RECORD_BYTES_MAX: usize = 1 << 14;
const MESSAGE_HEAD: usize = 4;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// What a client says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The host that it names, in lower case.
    pub host: Option<String>,
    /// The protocols that it offers, in its order.
    pub alpn: Vec<Vec<u8>>,
}

/// Why bytes are no hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloError(&'static str);

impl fmt::Display for HelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for HelloError {}

/// The search for a hello in a growing buffer. Every byte is looked at once, however slowly they come.
#[derive(Clone, Debug, Default)]
pub struct HelloReader {
    /// Where the next record begins, or what is left of the one under way.
    at: usize,
    /// Bytes of the record under way that have not come.
    left: usize,
    /// The message as far as it has come, its head included.
    message: Vec<u8>,
}

impl HelloReader {
    /// Looks at the bytes that came since the last call. `bytes` hold everything from the connection's beginning.
    ///
    /// # Errors
    /// When it is no hello, or one that is malformed or longer than [`MESSAGE_BYTES_MAX`].
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Option<Hello>, HelloError> {
        loop {
            if self.left == 0 {
                if bytes.get(self.at).is_some_and(|kind| *kind != RECORD_OF_HANDSHAKE) {
                    return Err(HelloError("there is no TLS handshake"));
                }
                let Some(head) = bytes.get(self.at..self.at + RECORD_HEAD) else { return Ok(None) };
                self.left = usize::from(u16::from_be_bytes([head[3], head[4]]));
                if head[1] != 3 || self.left == 0 || self.left > RECORD_BYTES_MAX {
                    return Err(HelloError("there is no TLS handshake"));
                }
                self.at += RECORD_HEAD;
            }
            let come = bytes.len().saturating_sub(self.at).min(self.left);
            self.message.extend_from_slice(&bytes[self.at..self.at + come]);
            self.at += come;
            self.left -= come;
            if let Some(len) = self.message_len()?
                && self.message.len() >= len
            {
                if self.message.len() > len || self.left > 0 {
                    return Err(HelloError("something follows the hello in its record"));
                }
                return read(&self.message[MESSAGE_HEAD..]).map(Some);
            }
            if self.left > 0 {
                return Ok(None);
            }
            if self.at >= BYTES_MAX {
                return Err(HelloError("the hello comes in too many records"));
            }
        }
    }

    /// The message's length with its head, once that is known.
    fn message_len(&self) -> Result<Option<usize>, HelloError> {
        if self.message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(HelloError("the handshake does not begin with a client's hello"));
        }
        let Some(head) = self.message.get(..MESSAGE_HEAD) else { return Ok(None) };
        let len = usize::from(head[1]) << 16 | usize::from(head[2]) << 8 | usize::from(head[3]);
        if len > MESSAGE_BYTES_MAX {
            return Err(HelloError("the hello is too long"));
        }
        Ok(Some(MESSAGE_HEAD + len))
    }
}

/// Reads a hello without its message's head.
fn read(message: &[u8]) -> Result<Hello, HelloError> {
    let mut rest = Bytes(message);
    // Version and random number.
    rest.take(2 + 32)?;
    if rest.vector::<1>()?.0.len() > 32 {
        return Err(MALFORMED);
    }
    let suites = rest.vector::<2>()?.0.len();
    let compressions = rest.vector::<1>()?.0.len();
    if suites < 2 || suites % 2 != 0 || compressions == 0 {
        return Err(MALFORMED);
    }
    let mut hello = Hello::default();
    // Clients from before TLS 1.2 may have no extensions at all.
    if rest.0.is_empty() {
        return Ok(hello);
    }
    let mut extensions = rest.vector::<2>()?;
    rest.end()?;
    let (mut named, mut offered) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.number::<2>()? as u16;
        let body = extensions.vector::<2>()?;
        let again = match kind {
            SERVER_NAME => {
                hello.host = Some(host(body)?);
                std::mem::replace(&mut named, true)
            }
            ALPN => {
                hello.alpn = protocols(body)?;
                std::mem::replace(&mut offered, true)
            }
            _ => false,
        };
        if again {
            return Err(HelloError("an extension is there twice"));
        }
    }
    Ok(hello)
}

/// The one host of the extension.
fn host(mut body: Bytes<'_>) -> Result<String, HelloError> {
    let mut list = body.vector::<2>()?;
    body.end()?;
    // The one kind of name that was ever defined.
    if list.number::<1>()? != 0 {
        return Err(HelloError("the host is of an unknown kind"));
    }
    let name = list.vector::<2>()?.0;
    list.end()?;
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let labelled = !name.is_empty() && name[0] != b'.' && !name.ends_with(b".") && !name.windows(2).any(|w| w == b"..");
    if name.len() > HOST_BYTES_MAX || !labelled || !name.iter().all(good) {
        return Err(HelloError("the host is not a name"));
    }
    Ok(name.iter().map(|&byte| char::from(byte.to_ascii_lowercase())).collect())
}

fn protocols(mut body: Bytes<'_>) -> Result<Vec<Vec<u8>>, HelloError> {
    let mut list = body.vector::<2>()?;
    body.end()?;
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let name = list.vector::<1>()?.0;
        if name.is_empty() {
            return Err(MALFORMED);
        }
        protocols.push(name.to_vec());
    }
    if protocols.is_empty() { Err(MALFORMED) } else { Ok(protocols) }
}

const MALFORMED: HelloError = HelloError("the hello is malformed");

/// What is still to be read.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], HelloError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(MALFORMED)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of this many bytes.
    fn number<const BYTES: usize>(&mut self) -> Result<usize, HelloError> {
        Ok(self.take(BYTES)?.iter().fold(0, |number, &byte| number << 8 | usize::from(byte)))
    }

    /// What follows a length of this many bytes.
    fn vector<const BYTES: usize>(&mut self) -> Result<Self, HelloError> {
        let len = self.number::<BYTES>()?;
        self.take(len).map(Bytes)
    }

    fn end(&self) -> Result<(), HelloError> {
        if self.0.is_empty() { Ok(()) } else { Err(MALFORMED) }
    }
}
