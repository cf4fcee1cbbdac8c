//! Tenfold as the client: it proves a password to a server, and sees that the server knows it too.

use base64::Engine as _;
use subtle::ConstantTimeEq;

use super::{AuthError, BASE64, Key, Keys, MECHANISM, MECHANISM_PLUS, NONCE_BYTES};
use super::{ITERATIONS_MAX, attribute, decode, hmac, nonce, sha256, text, xor};

/// What a password is proved with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The password.
    Password(vocab::Secret),
    /// What a client left that proved it.
    Keys(Keys),
}

/// How the exchange is bound to the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// There is no TLS, or the certificate has no digest of the kind.
    Impossible,
    /// It could be, but the server does not offer it.
    NotOffered,
    /// To this digest of the server's certificate.
    EndPoint(Vec<u8>),
}

impl Binding {
    /// The binding to choose, from what a server offers and the digest of its certificate.
    ///
    /// # Errors
    /// When the server offers no mechanism that is known.
    pub fn choose<'o>(offered: impl Iterator<Item = &'o [u8]>, end_point: Option<Vec<u8>>) -> Result<Self, AuthError> {
        let (mut is_plus, mut is_plain) = (false, false);
        for name in offered {
            is_plus |= name == MECHANISM_PLUS.as_bytes();
            is_plain |= name == MECHANISM.as_bytes();
        }
        match end_point {
            Some(end_point) if is_plus => Ok(Self::EndPoint(end_point)),
            _ if !is_plain => Err(AuthError::Unfit("a mechanism of SASL that is not known")),
            Some(_) => Ok(Self::NotOffered),
            None => Ok(Self::Impossible),
        }
    }

    fn header(&self) -> &'static str {
        match self {
            Self::Impossible => "n,,",
            Self::NotOffered => "y,,",
            // A test holds it to what servers compare with.
            Self::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }
}

/// The side that proves, before anything was said.
#[derive(Clone, Debug)]
pub struct Client {
    credential: Credential,
    binding: Binding,
}

impl Client {
    /// Proves with this credential, bound in this way.
    pub fn new(credential: Credential, binding: Binding) -> Self {
        Self { credential, binding }
    }

    /// The mechanism that this is.
    pub fn mechanism(&self) -> &'static str {
        if matches!(self.binding, Binding::EndPoint(_)) { MECHANISM_PLUS } else { MECHANISM }
    }

    /// The first message. `name` is ignored by PostgreSQL, and empty there; `random` makes our half of the nonce.
    pub fn first(self, name: &str, random: [u8; NONCE_BYTES]) -> (Vec<u8>, AwaitingFirst) {
        self.first_with(name, nonce(random))
    }

    fn first_with(self, name: &str, nonce: String) -> (Vec<u8>, AwaitingFirst) {
        // Commas and equals signs have meanings in the message.
        let name = name.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={name},r={nonce}");
        let message = format!("{}{bare}", self.binding.header()).into_bytes();
        (message, AwaitingFirst { client: self, nonce, bare })
    }
}

/// The side that proves, before the server's first message.
#[derive(Debug)]
pub struct AwaitingFirst {
    client: Client,
    nonce: String,
    bare: String,
}

impl AwaitingFirst {
    /// Reads the server's first message, and gives the proof.
    ///
    /// # Errors
    /// When the message is malformed, asks for too much work, or means another secret than the keys are of.
    pub fn proof(self, message: &[u8]) -> Result<(Vec<u8>, AwaitingFinal), AuthError> {
        let message = text(message)?;
        if message.starts_with("m=") {
            return Err(AuthError::Malformed("mandatory extensions are not supported"));
        }
        let (nonce, rest) = attribute(message, 'r')?;
        let (salt, rest) = attribute(rest, 's')?;
        let (iterations, _) = attribute(rest, 'i')?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(AuthError::Malformed("the nonce is not made of ours"));
        }
        let salt = decode(salt)?;
        let iterations: u32 = iterations.parse().map_err(|_| AuthError::Malformed("invalid iterations"))?;
        if iterations == 0 || iterations > ITERATIONS_MAX {
            return Err(AuthError::Iterations(iterations));
        }
        let keys = match self.client.credential {
            Credential::Password(password) => Keys::from_password(password.expose(), &salt, iterations),
            Credential::Keys(keys) if keys.fits(&salt, iterations) => keys,
            Credential::Keys(_) => return Err(AuthError::Unfit("another salt than the stored secret has")),
        };
        let mut binding = self.client.binding.header().as_bytes().to_vec();
        if let Binding::EndPoint(end_point) = &self.client.binding {
            binding.extend(end_point);
        }
        let without_proof = format!("c={},r={nonce}", BASE64.encode(binding));
        let exchange = format!("{},{message},{without_proof}", self.bare);
        let proof = xor(keys.client_key, hmac(&sha256(&keys.client_key), &[exchange.as_bytes()]));
        let answer = format!("{without_proof},p={}", BASE64.encode(proof));
        let signature = hmac(&keys.server_key, &[exchange.as_bytes()]);
        Ok((answer.into_bytes(), AwaitingFinal { signature }))
    }
}

/// The side that proves, before the server's last message.
#[derive(Debug)]
pub struct AwaitingFinal {
    signature: Key,
}

impl AwaitingFinal {
    /// Checks that the server knows the secret.
    ///
    /// # Errors
    /// When it does not, or says that the proof is wrong.
    pub fn finish(self, message: &[u8]) -> Result<(), AuthError> {
        let message = text(message)?;
        if message.starts_with("e=") {
            return Err(AuthError::Wrong);
        }
        let (signature, _) = attribute(message, 'v')?;
        let signature = decode(signature)?;
        if bool::from(signature.ct_eq(&self.signature)) { Ok(()) } else { Err(AuthError::Impostor) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::scram::{END_POINT, Secret};

    #[test]
    fn both_sides_name_the_binding_alike() {
        assert_eq!(Binding::EndPoint(Vec::new()).header(), format!("{END_POINT},,"));
    }

    /// The exchange of RFC 7677, section 3.
    #[test]
    fn the_example_of_the_standard_comes_out() {
        let credential = Credential::Password(vocab::Secret::new("pencil"));
        let client = Client::new(credential, Binding::Impossible);
        let (first, client) = client.first_with("user", "rOprNGfwEbeRWgbNEkqO".to_owned());
        assert_eq!(first, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let answer = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (proof, client) = client.proof(answer).unwrap();
        let expected = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(String::from_utf8(proof).unwrap(), expected);
        client.finish(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
    }

    #[test]
    fn the_secret_has_the_form_that_postgresql_stores() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let text = Secret::from_password("pencil", &salt, 4096).to_text();
        let expected = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        assert_eq!(text, expected);
    }
}
