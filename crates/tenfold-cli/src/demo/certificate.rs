//! A certificate that nobody but the demo believes, made anew each time.

use anyhow::Context;
use rcgen::{CertificateParams, KeyPair};

/// The host that it is for.
pub(super) const HOST: &str = "localhost";

/// A certificate and its key, in PEM.
#[derive(Debug)]
pub(super) struct ThrowAway {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl ThrowAway {
    pub(super) fn new() -> anyhow::Result<Self> {
        let made = || {
            let key = KeyPair::generate()?;
            let certificate = CertificateParams::new(vec![HOST.to_owned()])?.self_signed(&key)?;
            Ok::<_, rcgen::Error>(Self { certificate: certificate.pem(), key: key.serialize_pem() })
        };
        made().context("demo: a certificate cannot be made")
    }
}
