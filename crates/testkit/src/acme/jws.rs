//! Signed requests: RFC 7515, as far as RFC 8555 section 6.2 wants it.

use anyhow::{Context, Result, ensure};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use aws_lc_rs::{digest, hmac};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde_json::{Value, json};

/// A request's parts. Its signature is not verified yet.
pub(super) struct Signed {
    pub(super) header: Value,
    /// `None` for a POST that only asks.
    pub(super) payload: Option<Value>,
    message: String,
    signature: Vec<u8>,
}

/// A public key: a point of the curve, and its thumbprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    point: Vec<u8>,
    pub(super) thumbprint: String,
}

pub(super) fn decode(text: &Value) -> Result<Vec<u8>> {
    Ok(BASE64_URL_SAFE_NO_PAD.decode(text.as_str().context("not a text")?)?)
}

pub(super) fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

impl Signed {
    /// Takes a body apart.
    pub(super) fn read(body: &Value) -> Result<Self> {
        let members = body.as_object().context("not an object")?;
        let mut names: Vec<&str> = members.keys().map(String::as_str).collect();
        names.sort_unstable();
        ensure!(names == ["payload", "protected", "signature"], "its members are {names:?}");
        let header = serde_json::from_slice(&decode(&body["protected"])?)?;
        let payload = decode(&body["payload"])?;
        let payload = if payload.is_empty() { None } else { Some(serde_json::from_slice(&payload)?) };
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let message = format!("{}.{}", text("protected"), text("payload"));
        Ok(Self { header, payload, message, signature: decode(&body["signature"])? })
    }

    /// Verifies the signature by an account's key.
    pub(super) fn verify(&self, key: &PublicKey) -> Result<()> {
        ensure!(self.header["alg"] == "ES256", "alg is {}", self.header["alg"]);
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.point);
        key.verify(self.message.as_bytes(), &self.signature).ok().context("the signature is wrong")
    }

    /// Verifies a binding: the account's key, signed by a key that both know.
    pub(super) fn verify_binding(&self, url: &str, jwk: &Value, (id, key): &(String, Vec<u8>)) -> Result<()> {
        ensure!(self.header == json!({ "alg": "HS256", "kid": id, "url": url }), "its header is {}", self.header);
        ensure!(self.payload.as_ref() == Some(jwk), "it binds another key");
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::verify(&key, self.message.as_bytes(), &self.signature).ok().context("its signature is wrong")
    }
}

impl PublicKey {
    /// Reads a key on the curve P-256.
    pub(super) fn read(jwk: &Value) -> Result<Self> {
        ensure!(jwk["kty"] == "EC" && jwk["crv"] == "P-256", "the key is {jwk}");
        ensure!(jwk.get("d").is_none(), "the key is private");
        let (x, y) = (decode(&jwk["x"])?, decode(&jwk["y"])?);
        ensure!(x.len() == 32 && y.len() == 32, "the key is not 64 bytes long");
        // RFC 7638: the required members alone, in the order of their names.
        let plain = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, jwk["x"], jwk["y"]);
        let thumbprint = BASE64_URL_SAFE_NO_PAD.encode(sha256(plain.as_bytes()));
        Ok(Self { point: [&[4], x.as_slice(), &y].concat(), thumbprint })
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

    use super::*;

    fn signed(key: &EcdsaKeyPair, alg: &str) -> Value {
        let encode = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let (protected, payload) = (encode(json!({ "alg": alg, "nonce": "1" })), encode(json!({ "a": 1 })));
        let signature = key.sign(&SystemRandom::new(), format!("{protected}.{payload}").as_bytes()).unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature);
        json!({ "protected": protected, "payload": payload, "signature": signature })
    }

    fn pair() -> (EcdsaKeyPair, PublicKey) {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let public = PublicKey::read(&json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) })).unwrap();
        (pair, public)
    }

    #[test]
    fn what_was_changed_or_signed_by_another_is_noticed() {
        let ((pair, public), (_, other)) = (pair(), pair());
        let body = signed(&pair, "ES256");
        let read = |body: &Value| Signed::read(body).unwrap();
        read(&body).verify(&public).unwrap();
        assert!(read(&body).verify(&other).is_err());
        assert!(read(&signed(&pair, "none")).verify(&public).is_err());
        let mut changed = body.clone();
        changed["payload"] = BASE64_URL_SAFE_NO_PAD.encode("{\"a\":2}").into();
        assert!(read(&changed).verify(&public).is_err());
        changed["extra"] = 1.into();
        assert!(Signed::read(&changed).is_err());
    }
}
