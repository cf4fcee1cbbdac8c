//! Messages of servers, as far as they are looked into. Each view borrows from the message, which is whole with its head.

use super::body::Body;
use super::{HEAD_BYTES, Look, WireError};
use crate::SqlState;

/// What a server's message is.
pub mod tag {
    /// Asks for a password or a step of SASL, or says that there is nothing left to prove.
    pub const AUTHENTICATION: u8 = b'R';
    /// What cancels this connection's statements.
    pub const BACKEND_KEY: u8 = b'K';
    /// A portal was made.
    pub const BIND_COMPLETE: u8 = b'2';
    /// A statement or portal was forgotten.
    pub const CLOSE_COMPLETE: u8 = b'3';
    /// A statement is done.
    pub const COMMAND_COMPLETE: u8 = b'C';
    /// The server copies both ways, which is replication.
    pub const COPY_BOTH: u8 = b'W';
    /// A piece of what is copied out.
    pub const COPY_DATA: u8 = b'd';
    /// The end of what is copied out.
    pub const COPY_DONE: u8 = b'c';
    /// The server waits for what is copied in.
    pub const COPY_IN: u8 = b'G';
    /// The server begins to copy out.
    pub const COPY_OUT: u8 = b'H';
    /// A row.
    pub const DATA_ROW: u8 = b'D';
    /// There was no statement in the text.
    pub const EMPTY_QUERY: u8 = b'I';
    /// Something failed.
    pub const ERROR: u8 = b'E';
    /// What a function that was called by its number gave.
    pub const FUNCTION_RESULT: u8 = b'V';
    /// The version that is spoken instead of the one asked for.
    pub const NEGOTIATE_VERSION: u8 = b'v';
    /// The statement or portal gives no rows.
    pub const NO_DATA: u8 = b'n';
    /// Something to know.
    pub const NOTICE: u8 = b'N';
    /// Somebody notified a channel that is listened to.
    pub const NOTIFICATION: u8 = b'A';
    /// Types of a statement's parameters.
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    /// The value of a setting that clients should know.
    pub const PARAMETER_STATUS: u8 = b'S';
    /// A statement was prepared.
    pub const PARSE_COMPLETE: u8 = b'1';
    /// A portal has more rows than were asked for.
    pub const PORTAL_SUSPENDED: u8 = b's';
    /// The server waits for the next query.
    pub const READY: u8 = b'Z';
    /// What the columns of the rows are.
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// Longest error, notice, setting or notification of a server that is kept. What is longer passes only where nobody has to
/// look into it.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// Bytes of an error that are looked into. Its code stands among the first fields; texts may be as long as they like.
pub const ERROR_PREFIX_BYTES: usize = 4096;

/// How much of each message of a server that serves queries has to be there. Rows pass through.
pub fn look(tag: u8) -> Look {
    match tag {
        tag::DATA_ROW | tag::COPY_DATA | tag::FUNCTION_RESULT => Look::Pass,
        // Of as many parameters and columns as there can be.
        tag::ROW_DESCRIPTION | tag::PARAMETER_DESCRIPTION => Look::Whole(TEXT_BYTES_MAX),
        tag::ERROR | tag::NOTICE => Look::Prefix(ERROR_PREFIX_BYTES),
        tag::COMMAND_COMPLETE | tag::PARAMETER_STATUS | tag::NOTIFICATION => Look::Whole(TEXT_BYTES_MAX),
        tag::READY => Look::Whole(HEAD_BYTES + 1),
        tag::COPY_IN | tag::COPY_OUT | tag::COPY_BOTH => Look::Pass,
        tag::PARSE_COMPLETE
        | tag::BIND_COMPLETE
        | tag::CLOSE_COMPLETE
        | tag::NO_DATA
        | tag::EMPTY_QUERY
        | tag::PORTAL_SUSPENDED
        | tag::COPY_DONE => Look::Whole(HEAD_BYTES),
        _ => Look::Refuse,
    }
}

/// How much of each message of a server that has not said yet that it is ready. All of them are short.
pub fn look_at_beginning(tag: u8) -> Look {
    match tag {
        tag::AUTHENTICATION
        | tag::BACKEND_KEY
        | tag::PARAMETER_STATUS
        | tag::ERROR
        | tag::NOTICE
        | tag::NEGOTIATE_VERSION
        | tag::READY => Look::Whole(TEXT_BYTES_MAX),
        _ => Look::Refuse,
    }
}

/// What a server asks of whoever connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication<'m> {
    /// Nothing more.
    Ok,
    /// The password in clear.
    Cleartext,
    /// The password's digest with this salt.
    Md5 {
        /// Random bytes.
        salt: [u8; 4],
    },
    /// A mechanism out of these.
    Sasl(Mechanisms<'m>),
    /// The next step of SASL.
    SaslContinue(&'m [u8]),
    /// The last step of SASL.
    SaslFinal(&'m [u8]),
    /// Something that Tenfold does not do, such as Kerberos.
    Other(i32),
}

/// Names of mechanisms, each with a zero byte at its end, and one more at the end of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mechanisms<'m>(&'m [u8]);

impl<'m> Mechanisms<'m> {
    /// The names.
    pub fn iter(&self) -> impl Iterator<Item = &'m [u8]> {
        self.0.split(|&byte| byte == 0).filter(|name| !name.is_empty())
    }
}

impl<'m> Authentication<'m> {
    /// Reads it.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn read(message: &'m [u8]) -> Result<Self, WireError> {
        let mut body = Body::of(message);
        let found = match body.i32()? {
            0 => Self::Ok,
            3 => Self::Cleartext,
            5 => {
                let salt = body.bytes(4)?;
                Self::Md5 { salt: [salt[0], salt[1], salt[2], salt[3]] }
            }
            10 => {
                let names = body.rest();
                if !names.ends_with(&[0, 0]) {
                    return Err(body.fault("the mechanisms have no end"));
                }
                Self::Sasl(Mechanisms(names))
            }
            11 => Self::SaslContinue(body.rest()),
            12 => Self::SaslFinal(body.rest()),
            other => {
                body.rest();
                Self::Other(other)
            }
        };
        body.end()?;
        Ok(found)
    }
}

/// What cancels statements of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendKey<'m> {
    /// The number of the server's process.
    pub pid: i32,
    /// The secret: four bytes in version 3.0, up to 256 in 3.2.
    pub secret: &'m [u8],
}

/// Longest secret of a [`BackendKey`].
pub const KEY_BYTES_MAX: usize = 256;

impl<'m> BackendKey<'m> {
    /// Reads it.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn read(message: &'m [u8]) -> Result<Self, WireError> {
        let mut body = Body::of(message);
        let (pid, secret) = (body.i32()?, body.rest());
        if !(4..=KEY_BYTES_MAX).contains(&secret.len()) {
            return Err(body.fault("the secret has an invalid length"));
        }
        Ok(Self { pid, secret })
    }
}

/// Where the connection's transaction stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransactionStatus {
    /// There is none.
    #[default]
    Idle,
    /// It is open.
    Open,
    /// It has failed, and only its end is listened to.
    Failed,
}

/// Where the transaction stands when the server waits for the next query.
///
/// # Errors
/// When the message is malformed.
pub fn ready(message: &[u8]) -> Result<TransactionStatus, WireError> {
    let mut body = Body::of(message);
    let status = match body.byte()? {
        b'I' => TransactionStatus::Idle,
        b'T' => TransactionStatus::Open,
        b'E' => TransactionStatus::Failed,
        _ => return Err(body.fault("the status is unknown")),
    };
    body.end()?;
    Ok(status)
}

/// A setting and its value.
///
/// # Errors
/// When the message is malformed.
pub fn parameter_status(message: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let mut body = Body::of(message);
    let found = (body.string()?, body.string()?);
    body.end()?;
    Ok(found)
}

/// What a statement says when it is done, such as `INSERT 0 1`.
///
/// # Errors
/// When the message is malformed.
pub fn command_complete(message: &[u8]) -> Result<&[u8], WireError> {
    let mut body = Body::of(message);
    let text = body.string()?;
    body.end()?;
    Ok(text)
}

/// A notification of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification<'m> {
    /// The process of whoever notified.
    pub pid: i32,
    /// The channel.
    pub channel: &'m [u8],
    /// What was said.
    pub payload: &'m [u8],
}

impl<'m> Notification<'m> {
    /// Reads it.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn read(message: &'m [u8]) -> Result<Self, WireError> {
        let mut body = Body::of(message);
        let found = Self { pid: body.i32()?, channel: body.string()?, payload: body.string()? };
        body.end()?;
        Ok(found)
    }
}

/// What an error or a notice says, as far as it is there.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'m>(&'m [u8]);

impl<'m> Fields<'m> {
    /// The fields of an error or a notice, of which the beginning may be enough.
    pub fn of(message: &'m [u8]) -> Self {
        Self(Body::of(message).rest())
    }

    /// Each field with the byte that says what it is.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &'m [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (&kind, after) = rest.split_first()?;
            let end = memchr::memchr(0, after)?;
            if kind == 0 {
                return None;
            }
            rest = &after[end + 1..];
            Some((kind, &after[..end]))
        })
    }

    /// A field.
    pub fn find(&self, kind: u8) -> Option<&'m [u8]> {
        self.iter().find(|&(found, _)| found == kind).map(|(_, value)| value)
    }

    /// The code.
    pub fn sqlstate(&self) -> Option<SqlState> {
        self.find(b'C').and_then(SqlState::parse)
    }

    /// The text for people.
    pub fn message(&self) -> Option<&'m [u8]> {
        self.find(b'M')
    }

    /// Whether the connection ends with this error. The severity's form that is never translated decides, where it is there.
    pub fn is_fatal(&self) -> bool {
        let severity = self.find(b'V').or_else(|| self.find(b'S'));
        matches!(severity, Some(b"FATAL" | b"PANIC"))
    }
}

/// The version and the options that a server does not speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Newest minor version of 3 that it speaks.
    pub minor: u16,
    /// Options of the protocol that it does not know.
    pub unknown: Vec<Vec<u8>>,
}

impl Negotiated {
    /// Reads it.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn read(message: &[u8]) -> Result<Self, WireError> {
        let mut body = Body::of(message);
        let version = body.i32()?;
        // Some servers write the whole version, as the manual says, others the minor one alone.
        if !matches!(version >> 16, 0 | 3) {
            return Err(body.fault("the version is unknown"));
        }
        let count = body.i32()?;
        let mut unknown = Vec::new();
        for _ in 0..count {
            unknown.push(body.string()?.to_vec());
        }
        body.end()?;
        Ok(Self { minor: version as u16, unknown })
    }
}

/// The numbers of the types that a statement takes, as they came: four bytes each.
///
/// # Errors
/// When the message is malformed.
pub fn parameter_types(message: &[u8]) -> Result<&[u8], WireError> {
    let mut body = Body::of(message);
    // The count may go up to 65,535, and came as a signed number.
    let count = body.i16()? as u16;
    let types = body.bytes(usize::from(count) * 4)?;
    body.end()?;
    Ok(types)
}

/// The columns of what a statement gives: the name of each, and the number, length and modifier of its type, as they came.
///
/// # Errors
/// When the message is malformed.
pub fn columns<'m>(message: &'m [u8], mut each: impl FnMut(&'m [u8], &'m [u8])) -> Result<(), WireError> {
    let mut body = Body::of(message);
    for _ in 0..body.i16()? {
        let name = body.string()?;
        // Where it comes from does not matter, nor in which format it is sent.
        body.bytes(6)?;
        each(name, body.bytes(10)?);
        body.bytes(2)?;
    }
    body.end()
}
