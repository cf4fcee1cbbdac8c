//! Certificates made here: placeholders, and the answers to challenges in a handshake.

use std::time::{Duration, SystemTime};

use net::tls::{Certificate, PrivateKeyDer, PrivatePkcs8KeyDer};
use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair};

/// A certificate for a host that nobody believes.
pub(crate) fn placeholder(host: &str) -> Result<Certificate, String> {
    make(host, "placeholder, a certificate is being ordered", None)
}

/// The certificate that answers an authority's handshake: RFC 8737 section 3. `digest` is that of the key authorisation.
pub(crate) fn answer(host: &str, digest: &[u8; 32]) -> Result<Certificate, String> {
    make(host, "ACME challenge", Some(CustomExtension::new_acme_identifier(digest)))
}

fn make(host: &str, name: &str, extension: Option<CustomExtension>) -> Result<Certificate, String> {
    let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(|error| error.to_string())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.custom_extensions.extend(extension);
    let now = SystemTime::now();
    // As long as it lives, a process may need no other.
    params.not_before = (now - Duration::from_secs(24 * 3600)).into();
    params.not_after = (now + Duration::from_secs(10 * 365 * 24 * 3600)).into();
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Certificate::made_here(certificate.der().clone(), key, now).map_err(|problem| problem.to_string())
}
