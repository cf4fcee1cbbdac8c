//! TLS by rustls: certificates from files, what a listener offers, and what a client of an endpoint asks for.
//!
//! Everything is checked when it is made, with the file and the reason in the error, so that what runs cannot fail for
//! a wrong file any more. Parameters compare by what they were made from: a listener whose certificates did not change
//! keeps its session tickets across configurations.

mod certificate;
mod client;
mod managed;
mod server;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::{RootCertStore, SupportedProtocolVersion};

pub use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem};

pub use certificate::{Certificate, CertificateError, Problem};
pub use client::{ClientTls, ClientTlsParams, Trust};
pub use managed::Slot;
pub use server::{ClientAuth, ServerTls, ServerTlsParams};

/// ALPN's name of HTTP/2.
pub const HTTP2: &[u8] = b"h2";

/// ALPN's name of HTTP/1.1.
pub const HTTP11: &[u8] = b"http/1.1";

/// ALPN's name of the challenge by which an authority asks who holds a host: RFC 8737.
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// Oldest version of TLS that is spoken. Versions before 1.2 are broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl MinVersion {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static FROM_12: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
        match self {
            Self::Tls12 => &FROM_12,
            Self::Tls13 => &FROM_12[..1],
        }
    }
}

/// Certificates of authorities, read from a file.
#[derive(Clone, Debug)]
pub struct Authorities {
    certificates: Vec<rustls::pki_types::CertificateDer<'static>>,
    store: Arc<RootCertStore>,
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.certificates == other.certificates
    }
}

impl Authorities {
    /// Reads certificates in PEM.
    ///
    /// # Errors
    /// When the file cannot be read or holds none that can serve as an authority.
    pub fn load(file: &std::path::Path) -> Result<Self, CertificateError> {
        let certificates = certificate::read_chain(file)?;
        let mut store = RootCertStore::empty();
        for certificate in &certificates {
            store.add(certificate.clone()).map_err(|error| CertificateError {
                file: PathBuf::from(file),
                problem: Problem::Unusable(error.to_string()),
            })?;
        }
        Ok(Self { certificates, store: Arc::new(store) })
    }
}

/// The cryptography behind it all.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}
