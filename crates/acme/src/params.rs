//! What is to be kept, and by whom it is issued.

use std::path::PathBuf;

use breaker::BackoffParams;
use net::tls::ClientTls;

/// Hosts whose certificates are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct AcmeParams {
    /// The hosts, lower case; at least one.
    pub hosts: Vec<String>,
    /// Who issues their certificates.
    pub issuer: IssuerParams,
}

/// Who issues certificates, and how it is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct IssuerParams {
    /// URL of the authority's directory, `https://`.
    pub directory: String,
    /// Whom the authority may write to.
    pub email: Option<String>,
    /// Folder of accounts and certificates.
    pub storage: PathBuf,
    /// How it is proven that a host is held here.
    pub challenge: Challenge,
    /// TLS to the authority.
    pub tls: ClientTls,
    /// An account that the authority knows from elsewhere.
    pub binding: Option<BindingParams>,
    /// Pauses after failures. A pause is between half of its bound and all of it.
    pub backoff: BackoffParams,
}

/// How it is proven that a host is held here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Challenge {
    /// The authority asks for a path on port 80 (RFC 8555 section 8.3).
    #[default]
    Http01,
    /// The authority does a TLS handshake on port 443 (RFC 8737).
    TlsAlpn01,
}

/// External account binding: RFC 8555 section 7.3.4.
#[derive(Clone, PartialEq, Eq)]
pub struct BindingParams {
    /// Id of the key.
    pub key_id: String,
    /// The key.
    pub hmac_key: Vec<u8>,
}

impl std::fmt::Debug for BindingParams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BindingParams").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}
