//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS: RFC 5802, RFC 7677, and what PostgreSQL makes of them.
//!
//! Both sides prove to each other that they know a secret, and neither shows it. PostgreSQL's ways: the name within the messages is
//! ignored, since the startup message has named the user; a password that is not UTF-8, or that SASLprep forbids, is taken byte
//! by byte; the binding to TLS is `tls-server-end-point`, the digest of the server's certificate.
//!
//! The binding shows somebody in between who can present another certificate that the client trusts. Tenfold is somebody in between
//! by profession, so both halves are bound on their own: clients to Tenfold's certificate, Tenfold to the server's. A client that
//! says it would have bound, had it been offered, where it was offered, is refused: somebody took the offer away.

mod client;
mod secret;
mod server;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::AuthError;

pub use client::{AwaitingFinal, AwaitingFirst, Binding, Client, Credential};
pub use secret::{ITERATIONS, Keys, Secret, prepared};
pub use server::{AwaitingProof, Server, Verified};

/// The mechanism without a binding.
pub const MECHANISM: &str = "SCRAM-SHA-256";
/// The mechanism with one.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// The one kind of binding there is.
const END_POINT: &str = "p=tls-server-end-point";
/// Random bytes that make a nonce; PostgreSQL takes as many.
pub const NONCE_BYTES: usize = 18;
/// Longest message of SCRAM that is read. Real ones have some two hundred bytes.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Most iterations that a server may ask for. PostgreSQL's default is 4,096; this many take some seconds, and a server that
/// asks for more wants to keep us busy.
const ITERATIONS_MAX: u32 = 10_000_000;

type Key = [u8; 32];

fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn sha256(bytes: &[u8]) -> Key {
    Sha256::digest(bytes).into()
}

fn xor(a: Key, b: Key) -> Key {
    std::array::from_fn(|at| a[at] ^ b[at])
}

/// A nonce of ours: printable, and without a comma.
fn nonce(random: [u8; NONCE_BYTES]) -> String {
    BASE64.encode(random)
}

fn decode(text: &str) -> Result<Vec<u8>, AuthError> {
    BASE64.decode(text).map_err(|_| AuthError::Malformed("invalid base64"))
}

/// A message as text, whose attributes are then taken one after the other.
fn text(message: &[u8]) -> Result<&str, AuthError> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(AuthError::Malformed("it is too long"));
    }
    std::str::from_utf8(message).map_err(|_| AuthError::Malformed("it is not UTF-8"))
}

/// The value of the attribute `name` at the beginning, and what follows its comma.
fn attribute(text: &str, name: char) -> Result<(&str, &str), AuthError> {
    let rest = text.strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
    let rest = rest.ok_or(AuthError::Malformed("an attribute is missing or out of order"))?;
    Ok(rest.split_once(',').unwrap_or((rest, "")))
}
