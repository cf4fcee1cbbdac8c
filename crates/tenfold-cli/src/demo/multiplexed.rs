//! Requests of HTTP/2 under TLS, many at once on one connection.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::certificate::HOST;

/// Requests at once: fewer than any server allows.
pub(super) const AT_ONCE: usize = 50;

/// Asks so often for a path, over one connection that believes this certificate alone, and says how many were answered
/// with 200.
pub(super) async fn ask(secure: SocketAddr, certificate: &Path, path: &str, times: usize) -> anyhow::Result<usize> {
    let stream = connect(secure, certificate).await?;
    let agreed = stream.get_ref().1.alpn_protocol();
    ensure!(agreed == Some(b"h2"), "HTTP/2 was not agreed on");
    let (mut sender, connection) = h2::client::handshake(stream).await?;
    let driver = tokio::task::spawn_local(connection);
    let mut answered = 0;
    let mut left = times;
    while left > 0 {
        let count = left.min(AT_ONCE);
        let mut answers = Vec::new();
        for _ in 0..count {
            let (ready, answer) = begin(sender, path).await?;
            sender = ready;
            answers.push(answer);
        }
        for answer in answers {
            answered += usize::from(is_well(answer).await?);
        }
        left -= count;
    }
    drop(sender);
    driver.await.expect("a connection's task does not panic")?;
    Ok(answered)
}

async fn connect(secure: SocketAddr, certificate: &Path) -> anyhow::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(certificate).context("the certificate")? {
        roots.add(certificate?)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let socket = TcpStream::connect(secure).await.context("no connection")?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from(HOST)?;
    TlsConnector::from(Arc::new(config)).connect(name, socket).await.context("no handshake")
}

async fn begin(sender: SendRequest<Bytes>, path: &str) -> anyhow::Result<(SendRequest<Bytes>, ResponseFuture)> {
    let mut sender = sender.ready().await?;
    let request = Request::get(format!("https://{HOST}{path}")).body(())?;
    let (answer, _) = sender.send_request(request, true)?;
    Ok((sender, answer))
}

async fn is_well(answer: ResponseFuture) -> anyhow::Result<bool> {
    let answer = answer.await?;
    let is_well = answer.status() == 200;
    let mut body = answer.into_body();
    while let Some(piece) = body.data().await {
        let len = piece?.len();
        body.flow_control().release_capacity(len)?;
    }
    Ok(is_well)
}
