//! Who somebody is, on both sides of a proxy: clients prove it to Tenfold, and Tenfold proves it to servers.
//!
//! - [`scram`] is SCRAM-SHA-256, for both sides: one type per step, so that no step can be left out.
//! - [`md5`] is the older digest. Passwords in clear are compared by [`Stored::is_password`].
//! - [`Stored`] is what is known of a user's password: the password itself, or what PostgreSQL keeps instead of it.
//! - [`userlist`] reads the file in which PgBouncer has them.
//!
//! A proxy that has only what PostgreSQL keeps cannot log in with it, which is the point of SCRAM. But a client that proves its
//! password leaves the one key that was missing, and with that the proxy can be this client towards servers that keep the
//! very same secret, salt and count of iterations included: [`scram::Keys`].
//!
//! Whether a user exists must not show. Whoever is unknown is asked like everybody else, against a secret that is made from the
//! name and a key ([`scram::Secret::mock`]), and fails in the end with the same words.
//!
//! Deriving a key from a password takes thousands of hashes, about a millisecond: a shell does it beside its runtime.

mod lookup;
pub mod md5;
pub mod scram;
mod stored;
pub mod userlist;

use thiserror::Error;

use crate::SqlState;

pub use lookup::lookup;
pub use stored::{Method, Stored};

/// Why somebody is not who they say, or cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AuthError {
    /// The password, or the proof of it, is wrong.
    #[error("the password is wrong")]
    Wrong,
    /// The other side does not keep to the mechanism.
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    /// The binding to the TLS connection does not fit: somebody may be in between.
    #[error("SCRAM channel binding: {0}")]
    Binding(&'static str),
    /// The server gave an answer that only somebody without the secret would give.
    #[error("the server could not prove that it knows the password")]
    Impostor,
    /// The server asks for more work than a login may take.
    #[error("the server asks for {0} iterations")]
    Iterations(u32),
    /// The server asks for something that cannot be proved with what is stored.
    #[error("the server asks for {0}, and the stored secret does not serve for that")]
    Unfit(&'static str),
}

impl AuthError {
    /// The code that a client is told.
    pub fn sqlstate(&self) -> SqlState {
        match self {
            Self::Malformed(_) => SqlState::PROTOCOL_VIOLATION,
            Self::Wrong | Self::Binding(_) => SqlState::WRONG_PASSWORD,
            Self::Impostor | Self::Iterations(_) | Self::Unfit(_) => SqlState::CANNOT_CONNECT,
        }
    }
}
