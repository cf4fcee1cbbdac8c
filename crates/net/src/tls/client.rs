//! TLS as a client of an endpoint asks for it.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::stream::Stream;

use super::{Authorities, Certificate, MinVersion};

/// Sessions remembered for resumption, per service: its endpoints are few.
const SESSIONS_MAX: usize = 1024;

/// How a client asks.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientTlsParams {
    /// Whose certificates are believed.
    pub trust: Trust,
    /// Name to ask for and to verify, in place of the endpoint's host.
    pub server_name: Option<ServerName<'static>>,
    /// Certificate to present when the endpoint asks for one.
    pub certificate: Option<Certificate>,
    /// Oldest version spoken.
    pub min_version: MinVersion,
    /// The protocol to speak, by ALPN.
    pub protocol: &'static [u8],
}

/// Whose certificates are believed.
#[derive(Clone, Debug, PartialEq)]
pub enum Trust {
    /// Those of the machine's authorities.
    System,
    /// Those of these authorities.
    Authorities(Authorities),
    /// Anybody's. Whoever stands between can read and change everything.
    Anyone,
}

/// A client's TLS, ready to be used. Whoever clones it shares it.
#[derive(Clone, Debug)]
pub struct ClientTls {
    params: Arc<ClientTlsParams>,
    config: Arc<ClientConfig>,
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        self.params == other.params
    }
}

impl ClientTls {
    /// Makes it ready.
    ///
    /// # Errors
    /// When there are no authorities to trust, or they cannot be used; as text for people.
    pub fn new(params: ClientTlsParams) -> Result<Self, String> {
        let provider = super::provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(params.min_version.versions())
            .map_err(|error| error.to_string())?
            .dangerous();
        let verifier: Arc<dyn ServerCertVerifier> = match &params.trust {
            Trust::Anyone => Arc::new(AcceptAnyone(provider)),
            Trust::Authorities(authorities) => verifier(Arc::clone(&authorities.store), provider)?,
            Trust::System => verifier(system()?, provider)?,
        };
        let builder = builder.with_custom_certificate_verifier(verifier);
        let mut config = match &params.certificate {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let key = Arc::clone(certificate.key());
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
            }
        };
        config.alpn_protocols = vec![params.protocol.to_vec()];
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        Ok(Self { params: Arc::new(params), config: Arc::new(config) })
    }

    /// What it was made from.
    pub fn params(&self) -> &ClientTlsParams {
        &self.params
    }

    /// Does the handshake with an endpoint whose certificate must be for `name`. How long it may take is for the caller
    /// to say.
    ///
    /// # Errors
    /// When the two do not agree, the certificate is not believed, or the connection broke.
    pub async fn connect(&self, name: ServerName<'static>, socket: TcpStream) -> io::Result<Stream> {
        let stream = TlsConnector::from(Arc::clone(&self.config)).connect(name, socket).await?;
        let chosen = stream.get_ref().1.alpn_protocol();
        // An endpoint without ALPN may still speak HTTP/1.1, but never HTTP/2.
        if chosen.unwrap_or(super::HTTP11) != self.params.protocol {
            return Err(io::Error::other("the endpoint does not offer the protocol that the service is to speak"));
        }
        Ok(Stream::tls(stream.into()))
    }
}

impl ClientTls {
    /// Does the handshake with an endpoint without asking for a protocol: what is spoken is between it and its client.
    ///
    /// # Errors
    /// As [`ClientTls::connect`].
    pub async fn connect_through(&self, name: ServerName<'static>, socket: TcpStream) -> io::Result<Stream> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.with_alpn(Vec::new()).connect(name, socket).await?;
        Ok(Stream::tls(stream.into()))
    }

    /// As [`ClientTls::connect_through`], with the connection in one piece, for those who bring their own protocol.
    ///
    /// # Errors
    /// As [`ClientTls::connect`].
    pub async fn connect_whole(
        &self,
        name: ServerName<'static>,
        socket: TcpStream,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        TlsConnector::from(Arc::clone(&self.config)).with_alpn(Vec::new()).connect(name, socket).await
    }
}

fn verifier(store: Arc<RootCertStore>, provider: Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, String> {
    WebPkiServerVerifier::builder_with_provider(store, provider).build().map_err(|error| error.to_string())
}

/// The machine's authorities.
fn system() -> Result<Arc<RootCertStore>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    let (usable, _unusable) = store.add_parsable_certificates(found.certs);
    if usable == 0 {
        let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        return Err(format!("this machine has no certificates of authorities{why}; install them, or name your own"));
    }
    Ok(Arc::new(store))
}

/// Believes whatever certificate is presented, but not that somebody has its key who does not.
#[derive(Debug)]
struct AcceptAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
