//! The older way to prove a password: a digest of its digest, with a salt of four bytes.
//!
//! What is stored serves as the password here, and the salt is short. It is spoken because old clients and servers do, and
//! never preferred.

use std::fmt::Write as _;

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use vocab::Secret;

/// What is stored for a user: `md5`, and a digest of the password and the name.
pub fn stored(password: &str, user: &str) -> Secret {
    Secret::new(prefixed(&[password.as_bytes(), user.as_bytes()]))
}

/// The proof that is sent, from what is stored.
pub fn proof(stored: &Secret, salt: [u8; 4]) -> Secret {
    let digest = stored.expose().strip_prefix("md5").unwrap_or_default();
    Secret::new(prefixed(&[digest.as_bytes(), &salt]))
}

/// Whether a proof is right. None is, where what is stored is no digest.
pub fn is_proof(stored: &Secret, salt: [u8; 4], given: &[u8]) -> bool {
    stored.expose().starts_with("md5") && bool::from(proof(stored, salt).expose().as_bytes().ct_eq(given))
}

fn prefixed(parts: &[&[u8]]) -> String {
    let digest = parts.iter().fold(Md5::new(), |digest, part| digest.chain_update(part)).finalize();
    let mut text = "md5".to_owned();
    for byte in digest {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}
