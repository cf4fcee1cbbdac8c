//! TLS as a listener offers it.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{Acceptor, ClientHello, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use crate::stream::Stream;

use super::managed::{Beside, Fixed, Managed, Slot};
use super::{Authorities, Certificate, MinVersion};

/// What a listener offers.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerTlsParams {
    /// Certificates; the first is for clients that name no host, or one that no certificate is for.
    pub certificates: Vec<Certificate>,
    /// Hosts, lower case, whose certificates are replaced while they are served. Without any, there must be a
    /// certificate above. See [`ServerTls::manage`].
    pub managed: Vec<String>,
    /// Oldest version spoken.
    pub min_version: MinVersion,
    /// Whether clients are asked for a certificate.
    pub client_auth: Option<ClientAuth>,
    /// Protocols to agree on one of by ALPN, the preferred one first; none when that is not asked for.
    pub protocols: Vec<&'static [u8]>,
}

/// Certificates of clients.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientAuth {
    /// Who may have issued them.
    pub authorities: Authorities,
    /// Whether a client without one is refused.
    pub required: bool,
}

/// A listener's TLS, ready to be used. Whoever clones it shares it.
#[derive(Clone, Debug)]
pub struct ServerTls {
    params: Arc<ServerTlsParams>,
    config: Arc<ServerConfig>,
    managed: Arc<Managed>,
}

impl PartialEq for ServerTls {
    fn eq(&self, other: &Self) -> bool {
        self.params == other.params
    }
}

impl ServerTls {
    /// Makes it ready.
    ///
    /// # Errors
    /// When the authorities for clients cannot be used; as text for people.
    pub fn new(params: ServerTlsParams) -> Result<Self, String> {
        let provider = super::provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(params.min_version.versions())
            .map_err(|error| error.to_string())?;
        let builder = match &params.client_auth {
            None => builder.with_no_client_auth(),
            Some(auth) => {
                let store = Arc::clone(&auth.authorities.store);
                let verifier = WebPkiClientVerifier::builder_with_provider(store, provider);
                let verifier = if auth.required { verifier } else { verifier.allow_unauthenticated() };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
            }
        };
        let managed = Arc::new(Managed::default());
        let files = ByName::new(&params.certificates);
        let mut config = builder.with_cert_resolver(Arc::new(Beside { managed: Arc::clone(&managed), files }));
        // Tickets let any core resume a session, and cost no memory here.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
        config.alpn_protocols = params.protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Self { params: Arc::new(params), config: Arc::new(config), managed })
    }

    /// What it was made from.
    pub fn params(&self) -> &ServerTlsParams {
        &self.params
    }

    /// Has these slots present the certificates of the hosts that are managed. To be told once, before the first
    /// handshake.
    pub fn manage(&self, slots: Vec<(String, Arc<Slot>)>) {
        self.managed.set(slots);
    }

    /// Does the handshake with a client. How long it may take is for the caller to say. `None` when it was an
    /// authority's, which asked who holds a host, and has its answer.
    ///
    /// # Errors
    /// When the two do not agree, or the connection broke.
    pub async fn accept(&self, socket: TcpStream) -> std::io::Result<Option<Stream>> {
        if self.managed.is_challenged() {
            return Box::pin(self.accept_or_answer(socket)).await;
        }
        let stream = TlsAcceptor::from(Arc::clone(&self.config)).accept(socket).await?;
        Ok(Some(Stream::tls(stream.into())))
    }

    async fn accept_or_answer(&self, socket: TcpStream) -> std::io::Result<Option<Stream>> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
        let Some(answer) = self.managed.challenge(&start.client_hello()) else {
            let stream = start.into_stream(Arc::clone(&self.config)).await?;
            return Ok(Some(Stream::tls(tokio_rustls::TlsStream::Server(stream))));
        };
        let mut stream = start.into_stream(answer).await?;
        stream.shutdown().await?;
        Ok(None)
    }
}

/// Certificates by the host that a client names.
#[derive(Debug)]
struct ByName {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
    default: Vec<Arc<CertifiedKey>>,
}

impl ByName {
    fn new(certificates: &[Certificate]) -> Self {
        let mut by_name = Self { exact: HashMap::new(), wildcard: HashMap::new(), default: Vec::new() };
        for certificate in certificates {
            for name in certificate.names() {
                let (table, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut by_name.wildcard, parent),
                    None => (&mut by_name.exact, name.as_str()),
                };
                table.entry(name.to_owned()).or_default().push(Arc::clone(certificate.key()));
            }
        }
        // Beside the first, certificates for the same names with another kind of key serve clients that need it.
        let first = certificates.first();
        let like_first = certificates.iter().filter(|other| first.is_some_and(|first| other.names() == first.names()));
        by_name.default.extend(like_first.map(|certificate| Arc::clone(certificate.key())));
        by_name
    }

    fn of_host(&self, host: &str) -> Option<&[Arc<CertifiedKey>]> {
        let parent = || host.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
        self.exact.get(host).or_else(parent).map(Vec::as_slice)
    }
}

/// The first of some certificates that a client can verify.
fn fitting(keys: &[Arc<CertifiedKey>], hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
    let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
    keys.iter().find(fits).or_else(|| keys.first()).cloned()
}

impl Fixed for ByName {
    fn for_host(&self, host: &str, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        fitting(self.of_host(host)?, hello)
    }

    fn fallback(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        fitting(&self.default, hello)
    }
}
