//! Messages of clients, as far as they are looked into. Each view borrows from the message, which is whole with its head
//! unless it says otherwise.

use super::body::Body;
use super::{HEAD_BYTES, Look, WireError};

/// What a client's message is.
pub mod tag {
    /// Values for the parameters of a statement, which make a portal.
    pub const BIND: u8 = b'B';
    /// Forgets a statement or portal.
    pub const CLOSE: u8 = b'C';
    /// A piece of what is copied in.
    pub const COPY_DATA: u8 = b'd';
    /// The end of what is copied in.
    pub const COPY_DONE: u8 = b'c';
    /// What is copied in ends with a failure.
    pub const COPY_FAIL: u8 = b'f';
    /// Asks what a statement or portal takes and gives.
    pub const DESCRIBE: u8 = b'D';
    /// Runs a portal.
    pub const EXECUTE: u8 = b'E';
    /// Asks for what is buffered.
    pub const FLUSH: u8 = b'H';
    /// Calls a function by its number, which is obsolete.
    pub const FUNCTION_CALL: u8 = b'F';
    /// Prepares a statement.
    pub const PARSE: u8 = b'P';
    /// A password, or a step of SASL: which one depends on what was asked.
    pub const PASSWORD: u8 = b'p';
    /// Statements as a text.
    pub const QUERY: u8 = b'Q';
    /// The end of a group of messages.
    pub const SYNC: u8 = b'S';
    /// Good-bye.
    pub const TERMINATE: u8 = b'X';
}

/// Longest name of a statement or portal that is looked for. PostgreSQL sets no bound; drivers use some dozen bytes.
pub const NAME_BYTES_MAX: usize = 4096;

/// Longest answer to a question for a password. PostgreSQL takes at most this much before a client is known.
pub const PASSWORD_BYTES_MAX: usize = 65_535;

/// How much of each message of a client that is ready has to be there. Texts of statements are kept, up to
/// `statement_bytes_max`; values for parameters and what is copied in pass through.
pub fn look(tag: u8, statement_bytes_max: usize) -> Look {
    match tag {
        tag::QUERY | tag::PARSE => Look::Whole(statement_bytes_max),
        tag::BIND => Look::Prefix(HEAD_BYTES + 2 * (NAME_BYTES_MAX + 1)),
        tag::DESCRIBE | tag::CLOSE | tag::EXECUTE => Look::Whole(HEAD_BYTES + 1 + NAME_BYTES_MAX + 5),
        tag::SYNC | tag::FLUSH | tag::COPY_DONE | tag::TERMINATE => Look::Whole(HEAD_BYTES),
        tag::COPY_DATA | tag::COPY_FAIL | tag::FUNCTION_CALL => Look::Pass,
        _ => Look::Refuse,
    }
}

/// How much of the messages of a client that is to prove who it is.
pub fn look_at_password(tag: u8) -> Look {
    if tag == tag::PASSWORD { Look::Whole(PASSWORD_BYTES_MAX) } else { Look::Refuse }
}

/// The text of a simple query: any number of statements.
///
/// # Errors
/// When the body is not one string.
pub fn query(message: &[u8]) -> Result<&[u8], WireError> {
    let mut body = Body::of(message);
    let text = body.string()?;
    body.end()?;
    Ok(text)
}

/// A statement to be prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'m> {
    /// Its name; empty for the one that has none.
    pub name: &'m [u8],
    /// One statement, or none.
    pub text: &'m [u8],
    /// Numbers of parameters' types as they came, four bytes each; 0 leaves a type to the server.
    pub types: &'m [u8],
}

impl<'m> Parse<'m> {
    /// Reads it.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn read(message: &'m [u8]) -> Result<Self, WireError> {
        let mut body = Body::of(message);
        let (name, text) = (body.string()?, body.string()?);
        let count = body.i16()?;
        // The count may go up to 65,535, and came as a signed number.
        let types = body.bytes(usize::from(count as u16) * 4)?;
        body.end()?;
        Ok(Self { name, text, types })
    }
}

/// Values for a statement. The message may be there in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<'m> {
    /// The portal that is made; empty for the one that has no name.
    pub portal: &'m [u8],
    /// The statement.
    pub statement: &'m [u8],
    /// Where in the message its values begin. They pass as they are.
    pub values_at: usize,
}

impl<'m> Bind<'m> {
    /// Reads the names from the beginning of the message.
    ///
    /// # Errors
    /// When they have no end, within [`NAME_BYTES_MAX`] if the message is not there whole.
    pub fn read(message: &'m [u8]) -> Result<Self, WireError> {
        let mut body = Body::of(message);
        let (portal, statement) = (body.string()?, body.string()?);
        let longest = portal.len().max(statement.len());
        if longest > NAME_BYTES_MAX {
            return Err(body.fault("a name is too long"));
        }
        Ok(Self { portal, statement, values_at: message.len() - body.len() })
    }
}

/// A statement or a portal, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'m> {
    /// A prepared statement.
    Statement(&'m [u8]),
    /// A portal.
    Portal(&'m [u8]),
}

/// What is to be described or closed: both messages have one form.
///
/// # Errors
/// When the message is malformed.
pub fn target(message: &[u8]) -> Result<Target<'_>, WireError> {
    let mut body = Body::of(message);
    let (kind, name) = (body.byte()?, body.string()?);
    body.end()?;
    match kind {
        b'S' => Ok(Target::Statement(name)),
        b'P' => Ok(Target::Portal(name)),
        _ => Err(body.fault("it is about neither a statement nor a portal")),
    }
}

/// A portal to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute<'m> {
    /// Its name.
    pub portal: &'m [u8],
    /// Most rows to be sent before it is suspended; 0 or less for all.
    pub rows_max: i32,
}

impl<'m> Execute<'m> {
    /// Reads it.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn read(message: &'m [u8]) -> Result<Self, WireError> {
        let mut body = Body::of(message);
        let (portal, rows_max) = (body.string()?, body.i32()?);
        body.end()?;
        Ok(Self { portal, rows_max })
    }
}

/// A password in clear or its MD5 digest.
///
/// # Errors
/// When the body is not one string.
pub fn password(message: &[u8]) -> Result<&[u8], WireError> {
    query(message)
}

/// The first step of SASL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaslInitial<'m> {
    /// The mechanism that the client has chosen.
    pub mechanism: &'m [u8],
    /// What it begins with, if anything.
    pub data: Option<&'m [u8]>,
}

impl<'m> SaslInitial<'m> {
    /// Reads it.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn read(message: &'m [u8]) -> Result<Self, WireError> {
        let mut body = Body::of(message);
        let mechanism = body.string()?;
        let data = match body.i32()? {
            -1 => None,
            len => {
                let len = usize::try_from(len).map_err(|_| body.fault("a length is negative"))?;
                Some(body.bytes(len)?)
            }
        };
        body.end()?;
        Ok(Self { mechanism, data })
    }
}

/// A further step of SASL.
pub fn sasl_response(message: &[u8]) -> &[u8] {
    Body::of(message).rest()
}
