use std::io::{ErrorKind, Read, Result, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A client's connection, bare or under TLS.
#[derive(Debug)]
pub(crate) enum Wire {
    /// Bare.
    Tcp(TcpStream),
    /// Under TLS.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    /// Speaks TLS over a connection: the server has to be `name`, as `authority` vouches, and agree on one of the
    /// protocols if there are any.
    pub(crate) fn tls(tcp: TcpStream, authority: &Path, name: &str, alpn: &[&str]) -> anyhow::Result<Self> {
        let mut stream = StreamOwned::new(session(authority, name, alpn)?, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).context("handshake")?;
        }
        Ok(Self::Tls(Box::new(stream)))
    }

    /// The socket.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tcp(tcp) => tcp,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// What was agreed on in the handshake.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Tcp(_) => None,
            Self::Tls(stream) => stream.conn.alpn_protocol(),
        }
    }

    /// Says that nothing more comes.
    pub(crate) fn finish(&mut self) -> Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.shutdown(Shutdown::Write),
            Self::Tls(stream) => {
                stream.conn.send_close_notify();
                stream.flush()
            }
        }
    }

    /// The client's own address.
    pub(crate) fn local_address(&self) -> Result<SocketAddr> {
        self.tcp().local_addr()
    }
}

/// What a client begins a handshake with: a whole `ClientHello` for the server `name`, as a record.
///
/// # Errors
/// When the file holds no authority, or the name cannot be one.
pub fn client_hello(authority: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    let mut hello = Vec::new();
    session(authority, name, &["h2", "http/1.1"])?.write_tls(&mut hello)?;
    Ok(hello)
}

fn session(authority: &Path, name: &str, alpn: &[&str]) -> anyhow::Result<ClientConnection> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority).context("authority")? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned())?)?)
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.write(bytes),
            // What is in the session's own buffer goes out before more is taken, or a slow peer would let it grow.
            Self::Tls(stream) => match stream.flush() {
                Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
                _ => stream.write(bytes),
            },
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
