//! Certificates that are replaced while they are served.
//!
//! A [`Slot`] holds the certificate of one host. Until one was issued it holds a placeholder, which nobody believes,
//! but with which a handshake can be done. Whoever renews the certificate puts it into the slot; handshakes that begin
//! afterwards present it. A slot may also answer an authority's challenge in the handshake (RFC 8737), beside the
//! ordinary ones.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::{ACME_TLS, Certificate};

/// The certificate of one host.
#[derive(Debug)]
pub struct Slot {
    current: ArcSwap<Current>,
    challenge: ArcSwapOption<ServerConfig>,
}

#[derive(Debug)]
struct Current {
    certificate: Certificate,
    issued: bool,
}

impl Slot {
    /// A slot that presents this certificate until one is issued.
    pub fn new(placeholder: Certificate) -> Self {
        let current = Current { certificate: placeholder, issued: false };
        Self { current: ArcSwap::from_pointee(current), challenge: ArcSwapOption::empty() }
    }

    /// Presents this certificate from now on.
    pub fn issue(&self, certificate: Certificate) {
        self.current.store(Arc::new(Current { certificate, issued: true }));
    }

    /// The certificate that was issued, if one was.
    pub fn issued(&self) -> Option<Certificate> {
        let current = self.current.load();
        current.issued.then(|| current.certificate.clone())
    }

    /// Answers an authority's handshake with this certificate from now on; `None` ends that.
    ///
    /// # Errors
    /// When the certificate cannot be presented, as text for people.
    pub fn set_challenge(&self, certificate: Option<&Certificate>) -> Result<(), String> {
        let config = match certificate {
            None => None,
            Some(certificate) => {
                let builder = ServerConfig::builder_with_provider(super::provider())
                    .with_safe_default_protocol_versions()
                    .map_err(|error| error.to_string())?;
                let key = SingleCertAndKey::from(Arc::clone(certificate.key()));
                let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(key));
                config.alpn_protocols = vec![ACME_TLS.to_vec()];
                Some(Arc::new(config))
            }
        };
        self.challenge.store(config);
        Ok(())
    }

    fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(self.current.load().certificate.key())
    }

    fn issued_key(&self) -> Option<Arc<CertifiedKey>> {
        let current = self.current.load();
        current.issued.then(|| Arc::clone(current.certificate.key()))
    }
}

/// The slots of a listener, by host. Whoever keeps the certificates sets them once, before the listener is served.
#[derive(Debug, Default)]
pub(super) struct Managed(OnceLock<Slots>);

#[derive(Debug)]
struct Slots {
    by_host: HashMap<String, Arc<Slot>>,
    first: Option<Arc<Slot>>,
}

impl Managed {
    /// Has these slots present the certificates. The first one is for clients that name no host, where nothing else is.
    /// Told a second time it changes nothing.
    pub(super) fn set(&self, slots: Vec<(String, Arc<Slot>)>) {
        let first = slots.first().map(|(_, slot)| Arc::clone(slot));
        let _were_set = self.0.set(Slots { by_host: slots.into_iter().collect(), first });
    }

    /// The certificate issued for a host.
    pub(super) fn issued(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        self.slot(host)?.issued_key()
    }

    /// What is presented for a host, a placeholder included.
    pub(super) fn presented(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        Some(self.slot(host)?.key())
    }

    /// What is presented to those who name no host, or one that nothing is for.
    pub(super) fn fallback(&self) -> Option<Arc<CertifiedKey>> {
        Some(self.0.get()?.first.as_ref()?.key())
    }

    /// Whether an authority may ask for one of the hosts now.
    pub(super) fn is_challenged(&self) -> bool {
        self.0.get().is_some_and(|slots| slots.by_host.values().any(|slot| slot.challenge.load().is_some()))
    }

    /// The answer to a handshake, if an authority asks by it.
    pub(super) fn challenge(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let mut protocols = hello.alpn()?;
        // RFC 8737 section 3: the authority offers this protocol and no other.
        if protocols.next() != Some(ACME_TLS) || protocols.next().is_some() {
            return None;
        }
        self.slot(&hello.server_name()?.to_ascii_lowercase())?.challenge.load_full()
    }

    fn slot(&self, host: &str) -> Option<&Slot> {
        self.0.get()?.by_host.get(host).map(Arc::as_ref)
    }
}

/// Presents what the slots hold where nothing else is for a host.
#[derive(Debug)]
pub(super) struct Beside<R> {
    pub(super) managed: Arc<Managed>,
    pub(super) files: R,
}

/// Certificates that do not change.
pub(super) trait Fixed {
    /// The one for a host, if there is one.
    fn for_host(&self, host: &str, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>>;
    /// The one for everybody else, if there is one.
    fn fallback(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>>;
}

impl<R: Fixed + std::fmt::Debug + Send + Sync> ResolvesServerCert for Beside<R> {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Host names in a handshake are lower case after rustls has read them.
        let for_host = hello.server_name().map(str::to_ascii_lowercase).and_then(|host| {
            // A certificate from a file is for as long as none was issued.
            let issued = self.managed.issued(&host);
            let fixed = || self.files.for_host(&host, &hello);
            issued.or_else(fixed).or_else(|| self.managed.presented(&host))
        });
        for_host.or_else(|| self.files.fallback(&hello)).or_else(|| self.managed.fallback())
    }
}
