//! Tenfold as the server: a client proves its password.

use base64::Engine as _;
use subtle::ConstantTimeEq;

use super::{AuthError, BASE64, END_POINT, Key, Keys, MECHANISM, MECHANISM_PLUS, NONCE_BYTES, Secret};
use super::{attribute, decode, hmac, nonce, sha256, text, xor};

/// The side that asks, before the client's first message.
#[derive(Clone, Debug)]
pub struct Server {
    secret: Secret,
    end_point: Option<Vec<u8>>,
}

impl Server {
    /// Asks for the password of `secret`. `end_point` is the digest of the certificate that the client has seen, over TLS.
    pub fn new(secret: Secret, end_point: Option<Vec<u8>>) -> Self {
        Self { secret, end_point }
    }

    /// The mechanisms that are offered, the better one first.
    pub fn mechanisms(&self) -> &'static [&'static str] {
        if self.end_point.is_some() { &[MECHANISM_PLUS, MECHANISM] } else { &[MECHANISM] }
    }

    /// Reads the client's first message, and gives the answer to it. `random` makes our half of the nonce.
    ///
    /// # Errors
    /// When the message is malformed, or the binding does not fit the mechanism and what was offered.
    pub fn first(
        self,
        mechanism: &[u8],
        message: &[u8],
        random: [u8; NONCE_BYTES],
    ) -> Result<(Vec<u8>, AwaitingProof), AuthError> {
        let message = text(message)?;
        let (header, bare) = gs2_header(message)?;
        let binding = self.binding(mechanism, header)?;
        if bare.starts_with("m=") {
            return Err(AuthError::Malformed("mandatory extensions are not supported"));
        }
        // The name is that of the startup message, whatever stands here.
        let (_, rest) = attribute(bare, 'n')?;
        let (theirs, _) = attribute(rest, 'r')?;
        if theirs.is_empty() || !theirs.bytes().all(|byte| (0x21..=0x7e).contains(&byte)) {
            return Err(AuthError::Malformed("invalid nonce"));
        }
        let nonce = format!("{theirs}{}", nonce(random));
        let salt = BASE64.encode(&self.secret.salt);
        let answer = format!("r={nonce},s={salt},i={}", self.secret.iterations);
        let exchange = format!("{bare},{answer},");
        Ok((answer.into_bytes(), AwaitingProof { secret: self.secret, binding, nonce, exchange }))
    }

    /// What the client has to repeat in its last message: its header, and the end point if it binds to it.
    fn binding(&self, mechanism: &[u8], header: &str) -> Result<Vec<u8>, AuthError> {
        let flag = header.split(',').next().unwrap_or_default();
        let is_plus = mechanism == MECHANISM_PLUS.as_bytes();
        if !is_plus && mechanism != MECHANISM.as_bytes() || is_plus && self.end_point.is_none() {
            return Err(AuthError::Malformed("the mechanism was not offered"));
        }
        match (flag, &self.end_point) {
            (END_POINT, Some(end_point)) if is_plus => Ok([header.as_bytes(), end_point].concat()),
            ("n", _) if !is_plus => Ok(header.as_bytes().to_vec()),
            ("y", None) => Ok(header.as_bytes().to_vec()),
            ("y", Some(_)) => Err(AuthError::Binding("the client did not see that it was offered")),
            _ => Err(AuthError::Binding("the client's choice does not fit the mechanism")),
        }
    }
}

/// The beginning of the first message up to its second comma, which says how the client binds, and the rest.
fn gs2_header(message: &str) -> Result<(&str, &str), AuthError> {
    let mut commas = message.match_indices(',').map(|(at, _)| at);
    let (Some(first), Some(second)) = (commas.next(), commas.next()) else {
        return Err(AuthError::Malformed("the header has no end"));
    };
    if second != first + 1 {
        return Err(AuthError::Malformed("authorization as somebody else is not supported"));
    }
    Ok(message.split_at(second + 1))
}

/// The side that asks, before the client's proof.
#[derive(Debug)]
pub struct AwaitingProof {
    secret: Secret,
    binding: Vec<u8>,
    nonce: String,
    /// What both have said so far, as the proof covers it.
    exchange: String,
}

/// A client that has proved its password.
#[derive(Debug)]
pub struct Verified {
    /// The last message, by which the client sees that we know the secret too.
    pub answer: Vec<u8>,
    /// What the client can prove its password with, and so can we from now on.
    pub keys: Keys,
}

impl AwaitingProof {
    /// Checks the proof.
    ///
    /// # Errors
    /// When the message is malformed or the proof is wrong.
    pub fn finish(self, message: &[u8]) -> Result<Verified, AuthError> {
        let message = text(message)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(AuthError::Malformed("there is no proof"))?;
        let (binding, rest) = attribute(without_proof, 'c')?;
        let (nonce, _) = attribute(rest, 'r')?;
        if decode(binding)? != self.binding {
            return Err(AuthError::Binding("the client is bound to something else"));
        }
        if nonce != self.nonce {
            return Err(AuthError::Malformed("the nonce is another one"));
        }
        let proof: Key =
            decode(proof)?.try_into().map_err(|_| AuthError::Malformed("the proof has an invalid length"))?;
        let exchange = [self.exchange.as_bytes(), without_proof.as_bytes()];
        let client_key = xor(proof, hmac(&self.secret.stored_key, &exchange));
        let is_right = bool::from(sha256(&client_key).ct_eq(&self.secret.stored_key));
        if !is_right || self.secret.is_mock {
            return Err(AuthError::Wrong);
        }
        let signature = hmac(&self.secret.server_key, &exchange);
        let Secret { iterations, salt, server_key, .. } = self.secret;
        let keys = Keys { client_key, server_key, salt, iterations };
        Ok(Verified { answer: format!("v={}", BASE64.encode(signature)).into_bytes(), keys })
    }
}
