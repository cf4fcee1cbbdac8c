//! Finding out who holds a host, by asking as an authority does.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::jws::sha256;
use crate::message;

/// Time for one exchange.
const TIMEOUT: Duration = Duration::from_secs(5);

fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).with_context(|| format!("connect to port {port}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// RFC 8555 section 8.3.
pub(super) fn by_http(port: u16, host: &str, token: &str, expected: &str) -> Result<()> {
    let mut stream = connect(port)?;
    write!(stream, "GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    match message::response(&bytes, "GET", true) {
        Ok(message::Read::Whole(response, _)) => {
            ensure!(response.status == 200, "the status is {}", response.status);
            ensure!(response.text() == expected, "the answer is {:?}", response.text());
            Ok(())
        }
        other => bail!("no response: {other:?}"),
    }
}

/// RFC 8737 section 3.
pub(super) fn by_tls(port: u16, host: &str, expected: &str) -> Result<()> {
    let presented = Arc::new(Presented::default());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&presented) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let mut session = ClientConnection::new(Arc::new(config), ServerName::try_from(host.to_owned())?)?;
    let mut stream = connect(port)?;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    ensure!(session.alpn_protocol() == Some(b"acme-tls/1"), "the protocol is not agreed on");
    let chain = presented.0.lock().expect("nobody panics with it").take().context("no certificate")?;
    check_certificate(&chain, host, expected)?;
    // Nothing may come but the connection's end.
    let mut rest = rustls::Stream::new(&mut session, &mut stream);
    let mut byte = [0];
    match rest.read(&mut byte) {
        Ok(0) => Ok(()),
        other => bail!("after the handshake came {other:?}"),
    }
}

fn check_certificate(der: &CertificateDer<'_>, host: &str, expected: &str) -> Result<()> {
    let (_, certificate) = X509Certificate::from_der(der)?;
    ensure!(certificate.validity().is_valid(), "it is not valid now");
    let names = certificate.subject_alternative_name()?.context("it has no names")?;
    ensure!(names.value.general_names == [GeneralName::DNSName(host)], "it is for {:?}", names.value.general_names);
    let is_answer = |oid: &str| oid == "1.3.6.1.5.5.7.1.31";
    let mut answers = certificate.extensions().iter().filter(|found| is_answer(&found.oid.to_id_string()));
    let (Some(answer), None) = (answers.next(), answers.next()) else { bail!("it does not have one answer") };
    ensure!(answer.critical, "the answer is not critical");
    // An octet string of 32 bytes in DER.
    let wanted = [&[0x04, 0x20], sha256(expected.as_bytes()).as_slice()].concat();
    ensure!(answer.value == wanted, "the answer is wrong");
    Ok(())
}

/// Keeps whatever certificate is presented.
#[derive(Debug, Default)]
struct Presented(Mutex<Option<CertificateDer<'static>>>);

impl ServerCertVerifier for Presented {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().expect("nobody panics with it") = Some(end_entity.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 alone is offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // By the bare key, because clients refuse the whole certificate for its critical extension.
        let (_, certificate) = X509Certificate::from_der(certificate)
            .map_err(|error| rustls::Error::General(format!("the certificate: {error}")))?;
        let key = SubjectPublicKeyInfoDer::from(certificate.tbs_certificate.subject_pki.raw);
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature_with_raw_key(message, &key, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
