//! The codes by which clients tell errors apart.
//!
//! Drivers decide by them: whether to try again, whether the connection is still good, whether the password was wrong. So
//! Tenfold's own errors take the code that PostgreSQL gives for the same thing, wherever there is one.

use std::fmt;

/// Five characters: digits and capital letters (appendix A of PostgreSQL's manual).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// Success. Notices without a code of their own have it.
    pub const SUCCESSFUL: Self = Self(*b"00000");
    /// No backend could be reached in time. Drivers take class 08 for a connection that is lost, and connect again.
    pub const CANNOT_CONNECT: Self = Self(*b"08001");
    /// The backend went away; what it was doing had not taken effect.
    pub const CONNECTION_FAILURE: Self = Self(*b"08006");
    /// The backend went away while it committed: nobody knows whether it has. Never tried again by Tenfold.
    pub const RESOLUTION_UNKNOWN: Self = Self(*b"08007");
    /// Bytes that are not of the protocol.
    pub const PROTOCOL_VIOLATION: Self = Self(*b"08P01");
    /// What the proxy or the server does not do.
    pub const NOT_SUPPORTED: Self = Self(*b"0A000");
    /// A value that a setting does not take.
    pub const INVALID_VALUE: Self = Self(*b"22023");
    /// The transaction has failed, and only its end is listened to.
    pub const IN_FAILED_TRANSACTION: Self = Self(*b"25P02");
    /// A write where only reads are allowed, which is what a replica answers.
    pub const READ_ONLY: Self = Self(*b"25006");
    /// The transaction was idle for too long.
    pub const IDLE_IN_TRANSACTION: Self = Self(*b"25P03");
    /// A name that stands for no prepared statement.
    pub const UNKNOWN_STATEMENT: Self = Self(*b"26000");
    /// Who may not connect, whatever the password.
    pub const NOT_AUTHORIZED: Self = Self(*b"28000");
    /// The password, or the proof of it, is wrong.
    pub const WRONG_PASSWORD: Self = Self(*b"28P01");
    /// No database of this name.
    pub const UNKNOWN_DATABASE: Self = Self(*b"3D000");
    /// The transaction was cut and may be tried again as a whole; drivers and frameworks do that by themselves.
    pub const SERIALIZATION_FAILURE: Self = Self(*b"40001");
    /// A text that is no statement.
    pub const SYNTAX_ERROR: Self = Self(*b"42601");
    /// A name that stands for a prepared statement already.
    pub const DUPLICATE_STATEMENT: Self = Self(*b"42P05");
    /// A name that only Tenfold gives.
    pub const RESERVED_NAME: Self = Self(*b"42939");
    /// Memory or a bound of the proxy's.
    pub const LIMIT_EXCEEDED: Self = Self(*b"54000");
    /// No connection was free in time.
    pub const TOO_MANY_CONNECTIONS: Self = Self(*b"53300");
    /// The statement took longer than it may, or was cancelled.
    pub const QUERY_CANCELED: Self = Self(*b"57014");
    /// The server or the proxy stops.
    pub const ADMIN_SHUTDOWN: Self = Self(*b"57P01");
    /// The server or the proxy does not take connections now: a switch of the primary, or a pause.
    pub const CANNOT_CONNECT_NOW: Self = Self(*b"57P03");
    /// A fault of our own.
    pub const INTERNAL: Self = Self(*b"XX000");

    /// Reads a code: five digits and capital letters.
    pub fn parse(code: &[u8]) -> Option<Self> {
        let code: [u8; 5] = code.try_into().ok()?;
        code.iter().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase()).then_some(Self(code))
    }

    /// The five characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked where it was made")
    }

    /// The first two characters, which say what kind of thing went wrong.
    pub fn class(&self) -> &str {
        &self.as_str()[..2]
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
