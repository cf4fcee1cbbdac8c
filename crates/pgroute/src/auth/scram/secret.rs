//! What is stored instead of a password, and how it comes from one.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use subtle::ConstantTimeEq;

use super::{BASE64, ITERATIONS_MAX, Key, MECHANISM, hmac, sha256};

/// Iterations of secrets that are made here: PostgreSQL's default.
pub const ITERATIONS: u32 = 4096;

/// What PostgreSQL keeps in `pg_authid` instead of a password: enough to check a proof, not enough to make one.
///
/// ```
/// use pgroute::auth::scram::Secret;
///
/// let secret = Secret::from_password("pencil", b"salt", 4096);
/// let text = secret.to_text();
/// assert!(text.starts_with("SCRAM-SHA-256$4096:c2FsdA==$"));
/// assert!(Secret::parse(&text).unwrap().is_password("pencil"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: Key,
    pub(super) server_key: Key,
    /// Whether it was made up for a user that does not exist, and fits no password.
    pub(super) is_mock: bool,
}

/// The two keys by which a client proves that it knows a password, without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    pub(super) client_key: Key,
    pub(super) server_key: Key,
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
}

impl Secret {
    /// Reads `SCRAM-SHA-256$ITERATIONS:SALT$STORED:SERVER`.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(MECHANISM)?.strip_prefix('$')?;
        let (parameters, keys) = rest.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let key = |text: &str| BASE64.decode(text).ok()?.try_into().ok();
        let iterations: u32 = iterations.parse().ok().filter(|&count| count > 0)?;
        let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty())?;
        // Users may store secrets of their own, and each proof of one takes that many rounds. Beyond the bound it fits no password.
        let is_mock = iterations > ITERATIONS_MAX;
        let iterations = iterations.min(ITERATIONS_MAX);
        Some(Self { iterations, salt, stored_key: key(stored)?, server_key: key(server)?, is_mock })
    }

    /// Makes it from a password. An empty one is none, and nobody can prove it.
    pub fn from_password(password: &str, salt: &[u8], iterations: u32) -> Self {
        let keys = Keys::from_password(password, salt, iterations);
        let stored_key = sha256(&keys.client_key);
        let is_mock = password.is_empty();
        Self { iterations, salt: salt.to_vec(), stored_key, server_key: keys.server_key, is_mock }
    }

    /// Makes one up for a user who does not exist, always the same for the same name. It asks for what a real one asks for,
    /// and no proof is right.
    pub fn mock(user: &str, key: &[u8]) -> Self {
        let salt = hmac(key, &[user.as_bytes()])[..16].to_vec();
        let (stored_key, server_key) = (hmac(key, &[b"stored", &salt]), hmac(key, &[b"server", &salt]));
        Self { iterations: ITERATIONS, salt, stored_key, server_key, is_mock: true }
    }

    /// Whether it was made from this password.
    pub fn is_password(&self, password: &str) -> bool {
        // What it takes to say no is what it takes to say yes.
        let other = Self::from_password(password, &self.salt, self.iterations);
        bool::from(other.stored_key.ct_eq(&self.stored_key)) && !self.is_mock
    }

    /// The form that it is stored in.
    pub fn to_text(&self) -> String {
        let [salt, stored, server] = [&self.salt[..], &self.stored_key, &self.server_key].map(|b| BASE64.encode(b));
        format!("{MECHANISM}${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl Keys {
    /// Derives them from a password. This is what takes time.
    pub fn from_password(password: &str, salt: &[u8], iterations: u32) -> Self {
        let mut salted = Key::default();
        pbkdf2::pbkdf2_hmac::<sha2::Sha256>(prepared(password).as_bytes(), salt, iterations, &mut salted);
        Self {
            client_key: hmac(&salted, &[b"Client Key"]),
            server_key: hmac(&salted, &[b"Server Key"]),
            salt: salt.to_vec(),
            iterations,
        }
    }

    /// Whether a server that asks with this salt and this many iterations means the secret that these keys belong to.
    pub fn fits(&self, salt: &[u8], iterations: u32) -> bool {
        self.salt == salt && self.iterations == iterations
    }
}

/// A password as SASLprep (RFC 4013) has it, or as it came if that is not possible: PostgreSQL's rule.
pub fn prepared(password: &str) -> Cow<'_, str> {
    match stringprep::saslprep(password) {
        Ok(prepared) if !prepared.is_empty() => prepared,
        _ => Cow::Borrowed(password),
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MECHANISM}${}:***", self.iterations)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(***)")
    }
}
