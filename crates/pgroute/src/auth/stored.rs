//! What is known of a user's password.

use vocab::Secret;

use super::{md5, scram};

/// What is known of a user's password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The password. An empty one is none, and nobody proves it: so userlists say that somebody is not to log in by a password.
    Password(Secret),
    /// `md5` and a digest, in the form of `pg_authid`.
    Md5(Secret),
    /// Keys of SCRAM.
    Scram(scram::Secret),
}

/// How a client is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By SCRAM-SHA-256.
    Scram,
    /// By a digest.
    Md5,
    /// For the password in clear.
    Cleartext,
}

impl Stored {
    /// Takes what `pg_authid` or a userlist has: a text that has the form of one of PostgreSQL's secrets is that, and any
    /// other one is a password.
    pub fn parse(text: &str) -> Self {
        let is_digest =
            |hex: &str| hex.len() == 32 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if text.strip_prefix("md5").is_some_and(is_digest) {
            return Self::Md5(Secret::new(text));
        }
        match scram::Secret::parse(text) {
            Some(secret) => Self::Scram(secret),
            None => Self::Password(Secret::new(text)),
        }
    }

    /// How a client of this user is asked when `wanted` is configured: SCRAM where that is what is stored, as PostgreSQL does it.
    pub fn method(&self, wanted: Method) -> Method {
        match (self, wanted) {
            (Self::Scram(_), Method::Md5) => Method::Scram,
            _ => wanted,
        }
    }

    /// Whether a password in clear is this user's.
    pub fn is_password(&self, user: &str, given: &str) -> bool {
        match self {
            _ if given.is_empty() => false,
            Self::Password(password) => password.is(given.as_bytes()),
            Self::Md5(stored) => stored.is(md5::stored(given, user).expose().as_bytes()),
            Self::Scram(secret) => secret.is_password(given),
        }
    }

    /// What a proof by digest is compared with, if there can be one.
    pub fn md5(&self, user: &str) -> Option<Secret> {
        let stored = match self {
            Self::Password(password) => md5::stored(password.expose(), user),
            Self::Md5(stored) => stored.clone(),
            Self::Scram(_) => return None,
        };
        (!stored.is(md5::stored("", user).expose().as_bytes())).then_some(stored)
    }
}
