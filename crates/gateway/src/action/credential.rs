//! Names and hashed passwords, as `htpasswd` files have them.
//!
//! Hashes that take long on purpose are taken: bcrypt (`htpasswd -B`, `$2y$`) and SHA-crypt (`openssl passwd -6`, `$6$`
//! and `$5$`). Those that a graphics card reads off in minutes (`$apr1$`, `{SHA}`, DES) and plain texts are refused. So
//! are costs beyond a second or so, which anyone without a password could make the gateway pay.

use std::fmt;
use std::sync::Arc;

use sha_crypt::{PasswordHashRef, PasswordVerifier, ShaCrypt};

/// Highest cost of bcrypt: 2^14 rounds take about a second.
const BCRYPT_COST_MAX: u32 = 14;

/// Most rounds of SHA-crypt, for the same reason.
const SHA_ROUNDS_MAX: u32 = 1_000_000;

/// A name and the hash of its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    name: String,
    hash: Hash,
}

/// A hash of a password, checked.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Hash {
    Bcrypt(Arc<str>),
    Sha(Arc<str>),
}

/// Why a text is not a usable name and hash. Says nothing of what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// There is no colon, or nothing before it.
    #[error("is not of the form NAME:HASH")]
    Form,
    /// The name has a control character.
    #[error("has a name with a control character")]
    Name,
    /// The hash is quick to guess passwords by, or is none at all.
    #[error("has no bcrypt or SHA-crypt hash")]
    Scheme,
    /// The hash is broken.
    #[error("has a broken hash")]
    Broken,
    /// The hash takes too long to check.
    #[error("has a hash that costs too much: at most 14 for bcrypt, 1000000 rounds for SHA-crypt")]
    Cost,
}

impl Credential {
    /// Reads `NAME:HASH`.
    ///
    /// # Errors
    /// When it is not of that form, or the hash is not one that is taken.
    pub fn new(text: &str) -> Result<Self, CredentialError> {
        let (name, hash) = text.split_once(':').ok_or(CredentialError::Form)?;
        if name.is_empty() {
            return Err(CredentialError::Form);
        }
        if name.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(CredentialError::Name);
        }
        Ok(Self { name: name.to_owned(), hash: Hash::new(hash)? })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn hash(&self) -> &Hash {
        &self.hash
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({}:***)", self.name)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Hash {
    fn new(text: &str) -> Result<Self, CredentialError> {
        if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            let parts: bcrypt::HashParts = text.parse().map_err(|_| CredentialError::Broken)?;
            return match parts.get_cost() {
                4..=BCRYPT_COST_MAX => Ok(Self::Bcrypt(text.into())),
                _ => Err(CredentialError::Cost),
            };
        }
        let Some(rest) = text.strip_prefix("$6$").or_else(|| text.strip_prefix("$5$")) else {
            return Err(CredentialError::Scheme);
        };
        if let Some(rounds) = rest.strip_prefix("rounds=") {
            let rounds = rounds.split('$').next().and_then(|digits| digits.parse::<u32>().ok());
            if rounds.ok_or(CredentialError::Broken)? > SHA_ROUNDS_MAX {
                return Err(CredentialError::Cost);
            }
        }
        // Whether it can be compared at all shows in a comparison, but only in its error.
        let digest = rest.rsplit('$').next().unwrap_or_default();
        let digest_len = if text.starts_with("$6$") { 86 } else { 43 };
        if PasswordHashRef::new(text).is_err() || digest.len() != digest_len {
            return Err(CredentialError::Broken);
        }
        Ok(Self::Sha(text.into()))
    }

    /// The hash as written, which tells it from all others.
    pub(crate) fn as_str(&self) -> &str {
        let (Self::Bcrypt(text) | Self::Sha(text)) = self;
        text
    }

    /// Whether it is that of a password. Takes long on purpose.
    pub(crate) fn verifies(&self, password: &[u8]) -> bool {
        match self {
            Self::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
            Self::Sha(text) => {
                PasswordHashRef::new(text).is_ok_and(|hash| ShaCrypt::default().verify_password(password, hash).is_ok())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_known_tools_are_verified() {
        let check = |hash: &str| {
            let credential = Credential::new(&format!("ann:{hash}")).unwrap();
            assert_eq!(credential.name(), "ann");
            assert!(credential.hash().verifies(b"correct horse"), "{hash}");
            assert!(!credential.hash().verifies(b"correct hors"), "{hash}");
            assert!(!credential.hash().verifies(b""), "{hash}");
            assert!(!format!("{credential:?}").contains('$'));
        };
        // By crypt(3) and `openssl passwd`.
        check("$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2");
        check("$5$saltsalt$myjXcpMpE2Ofk7fj9hqyNYSn6lmWG4Mqnjx.KIRRr4/");
        check("$6$saltsalt$hRM5XZ86KXEw9UOmjigeVqFgULtFB2sgpC9lXQDfMib3Zgw7mEiUvBJI2EplzfAqxL5Vvwp2scFtv/uamSo5z0");
        check(concat!(
            "$6$rounds=1000$saltsalt$",
            "4GMtaIz3E1AdDi2SmCokEW0ehi.HdxNDcL3fGE1XXuzvo6kbx7UOloZKONqEk5H3JrQA4NOfU8BmqFPrpGqwA1"
        ));
    }

    #[test]
    fn what_is_weak_or_broken_is_refused() {
        let check = |text: &str, expected: CredentialError| assert_eq!(Credential::new(text), Err(expected), "{text}");
        check("ann", CredentialError::Form);
        check(":$2y$05$", CredentialError::Form);
        check("a\nb:x", CredentialError::Name);
        check("ann:secret", CredentialError::Scheme);
        check("ann:$apr1$abc$def", CredentialError::Scheme);
        check("ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", CredentialError::Scheme);
        check("ann:", CredentialError::Scheme);
        check("ann:$2y$05$short", CredentialError::Broken);
        check("ann:$6$salt$short", CredentialError::Broken);
        check("ann:$6$rounds=x$salt$short", CredentialError::Broken);
        check("ann:$6$rounds=2000000$salt$short", CredentialError::Cost);
        check("ann:$2y$31$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2", CredentialError::Cost);
    }
}
