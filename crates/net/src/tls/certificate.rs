//! A certificate with its chain and its private key, read from files and checked.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

/// Largest file that is read: a chain has some kilobytes, a bundle of authorities some hundred.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A certificate that can be presented. Whoever clones it shares it.
#[derive(Clone)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    names: Arc<[String]>,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct CertificateError {
    /// The file.
    pub file: PathBuf,
    /// The reason.
    pub problem: Problem,
}

/// Why a file does not serve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// It has more bytes than any such file needs.
    #[error("has more than {} MiB", FILE_BYTES_MAX >> 20)]
    TooLarge,
    /// It is PEM, but damaged.
    #[error("is damaged: {0}")]
    Damaged(String),
    /// It holds no certificate.
    #[error("holds no certificate (a block that begins with -----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// It holds no private key.
    #[error("holds no private key (a block that begins with -----BEGIN PRIVATE KEY-----)")]
    NoKey,
    /// Its private key is protected by a passphrase.
    #[error("holds a private key under a passphrase, which nobody is there to type")]
    EncryptedKey,
    /// What it holds cannot be used.
    #[error("cannot be used: {0}")]
    Unusable(String),
    /// The private key belongs to another certificate.
    #[error("is not the private key of the certificate in {}", .0.display())]
    KeyMismatch(PathBuf),
    /// A certificate of the chain was not issued by the next one.
    #[error("certificate {0} of the chain was not issued by the one after it; the order is leaf, intermediates")]
    BrokenChain(usize),
    /// A certificate has expired.
    #[error("certificate {0} expired on {1}")]
    Expired(usize, String),
    /// A certificate is not valid yet.
    #[error("certificate {0} is not valid before {1}")]
    NotYetValid(usize, String),
}

impl Certificate {
    /// Reads a chain (the certificate first, then its intermediates) and its private key, both in PEM. Both may stand
    /// in one file. `now` is what the certificates' times are held against.
    ///
    /// # Errors
    /// Whatever would fail at a handshake, with the file to blame.
    pub fn load(chain_file: &Path, key_file: &Path, now: SystemTime) -> Result<Self, CertificateError> {
        let in_chain = |problem| CertificateError { file: chain_file.to_owned(), problem };
        let in_key = |problem| CertificateError { file: key_file.to_owned(), problem };
        let chain = read_chain(chain_file)?;
        let found = check_chain(&chain, now).map_err(in_chain)?;
        let key = read_key(key_file)?;
        let mismatch = || Problem::KeyMismatch(chain_file.to_owned());
        Ok(Self::with_key(found, join(chain, key, mismatch).map_err(in_key)?))
    }

    /// Takes a chain and its private key that are in memory, both in DER.
    ///
    /// # Errors
    /// Whatever would fail at a handshake.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        now: SystemTime,
    ) -> Result<Self, Problem> {
        let found = check_chain(&chain, now)?;
        let mismatch = || Problem::Unusable("the private key belongs to another certificate".to_owned());
        Ok(Self::with_key(found, join(chain, key, mismatch)?))
    }

    /// Takes a certificate that was made here together with its key, both in DER. Whether they belong together is not
    /// looked at: that reads the certificate as a client would, and the answer to a challenge has what clients refuse.
    ///
    /// # Errors
    /// When it cannot be presented.
    pub fn made_here(
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
        now: SystemTime,
    ) -> Result<Self, Problem> {
        let chain = vec![certificate];
        let found = check_chain(&chain, now)?;
        Ok(Self::with_key(found, CertifiedKey::new(chain, signing_key(key)?)))
    }

    fn with_key(found: Found, key: CertifiedKey) -> Self {
        let Found { names, not_before, not_after } = found;
        Self { key: Arc::new(key), names: names.into(), not_before, not_after }
    }

    /// The host names that it is for, lower case; those that begin with `*.` stand for one label.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The certificate itself, without its chain, in DER.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        // A chain is never empty: the checks that make a certificate begin with its first.
        &self.key.cert[0]
    }

    /// When its validity began.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// When the first certificate of its chain expires.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    pub(super) fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        // A key belongs to one certificate, so equal certificates have equal keys.
        self.key.cert == other.key.cert
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("names", &self.names).field("not_after", &self.not_after).finish()
    }
}

fn read(file: &Path) -> Result<Vec<u8>, CertificateError> {
    let failed = |problem| CertificateError { file: file.to_owned(), problem };
    let unreadable = |error: std::io::Error| failed(Problem::Unreadable(error.to_string()));
    let found = std::fs::metadata(file).map_err(unreadable)?;
    // Reading a pipe or a device could wait for ever.
    if !found.is_file() {
        return Err(failed(Problem::Unreadable("it is not a file".to_owned())));
    }
    if found.len() > FILE_BYTES_MAX {
        return Err(failed(Problem::TooLarge));
    }
    std::fs::read(file).map_err(unreadable)
}

/// The certificates of a PEM file; at least one.
pub(super) fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let failed = |problem| CertificateError { file: file.to_owned(), problem };
    let chain = CertificateDer::pem_slice_iter(&read(file)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| failed(Problem::Damaged(error.to_string())))?;
    if chain.is_empty() { Err(failed(Problem::NoCertificate)) } else { Ok(chain) }
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let bytes = read(file)?;
    let problem = match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => return Ok(key),
        Err(PemError::NoItemsFound) => {
            let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
            let encrypted = holds(b"BEGIN ENCRYPTED PRIVATE KEY") || holds(b"Proc-Type: 4,ENCRYPTED");
            if encrypted { Problem::EncryptedKey } else { Problem::NoKey }
        }
        Err(error) => Problem::Damaged(error.to_string()),
    };
    Err(CertificateError { file: file.to_owned(), problem })
}

/// Joins a chain and its key. `mismatch` is the error when they do not belong together.
fn join(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    mismatch: impl FnOnce() -> Problem,
) -> Result<CertifiedKey, Problem> {
    let key = CertifiedKey::new(chain, signing_key(key)?);
    match key.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(key),
        Err(rustls::Error::InconsistentKeys(_)) => Err(mismatch()),
        Err(error) => Err(Problem::Unusable(error.to_string())),
    }
}

fn signing_key(key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Problem> {
    let loaded = super::provider().key_provider.load_private_key(key);
    loaded.map_err(|error| Problem::Unusable(error.to_string()))
}

/// What a chain says.
struct Found {
    /// The leaf's.
    names: Vec<String>,
    /// The leaf's.
    not_before: SystemTime,
    /// When the first of them expires.
    not_after: SystemTime,
}

/// Checks each certificate's times and the chain's order.
fn check_chain(chain: &[CertificateDer<'_>], now: SystemTime) -> Result<Found, Problem> {
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(since_epoch.as_secs()).ok().and_then(|secs| ASN1Time::from_timestamp(secs).ok());
    let now = now.ok_or_else(|| Problem::Unusable("the machine's clock is out of bounds".to_owned()))?;
    let mut parsed = Vec::with_capacity(chain.len());
    for (index, der) in chain.iter().enumerate() {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|error| Problem::Unusable(format!("certificate {}: {error}", index + 1)))?;
        parsed.push(certificate);
    }
    let Some(leaf) = parsed.first() else { return Err(Problem::NoCertificate) };
    let mut not_after = i64::MAX;
    for (index, certificate) in parsed.iter().enumerate() {
        let validity = certificate.validity();
        if now > validity.not_after {
            return Err(Problem::Expired(index + 1, validity.not_after.to_string()));
        }
        if now < validity.not_before {
            return Err(Problem::NotYetValid(index + 1, validity.not_before.to_string()));
        }
        not_after = not_after.min(validity.not_after.timestamp());
        if let Some(next) = parsed.get(index + 1)
            && certificate.issuer().as_raw() != next.subject().as_raw()
        {
            return Err(Problem::BrokenChain(index + 1));
        }
    }
    let since_1970 = |secs: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(secs).unwrap_or(0));
    let not_before = since_1970(leaf.validity().not_before.timestamp());
    Ok(Found { names: names(leaf), not_before, not_after: since_1970(not_after) })
}

/// Host names, of the extension for alternative names alone: the common name has not counted for years.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension.map_or(&[][..], |extension| &extension.value.general_names);
    let hosts = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(host) => Some(host.to_ascii_lowercase()),
        _ => None,
    });
    hosts.collect()
}
