//! An authority that issues certificates by ACME (RFC 8555), and verifies all that it is sent.
//!
//! What a client gets wrong is refused, and remembered: a guard that is dropped with anything remembered panics, so
//! that a test fails even if the client got what it wanted in the end.

mod authority;
mod jws;
mod validate;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::{Authority, message};
use authority::{Answer, State};

/// How an authority behaves.
#[derive(Clone, Debug)]
pub struct AcmeOptions {
    /// Where it asks for challenges by HTTP, in place of port 80.
    pub http_port: u16,
    /// Where it asks for challenges by TLS, in place of port 443.
    pub tls_port: u16,
    /// How long certificates are valid.
    pub lifetime: Duration,
    /// The key that accounts must be bound by: its id, and its bytes.
    pub binding: Option<(String, Vec<u8>)>,
    /// Whether it says when to renew (RFC 9773).
    pub advises: bool,
}

/// What an authority does with requests at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcmeMood {
    /// It serves them.
    Well,
    /// It answers 503 to everything.
    Down,
    /// It answers nothing.
    Silent,
    /// It refuses orders for so many seconds.
    Limiting(u32),
    /// It finds no challenge to be met.
    Doubting,
}

/// A running authority; see the module.
pub struct AcmeServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    /// Where its own certificate is from.
    own: Authority,
}

struct Shared {
    stopping: AtomicBool,
    options: AcmeOptions,
    /// Who signs what is ordered.
    issuer: Authority,
    state: Mutex<State>,
    /// Its URL, without a slash at the end.
    base: String,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a connection's thread panicked")
    }
}

impl Default for AcmeOptions {
    fn default() -> Self {
        let lifetime = Duration::from_secs(90 * 24 * 3600);
        Self { http_port: 0, tls_port: 0, lifetime, binding: None, advises: false }
    }
}

impl AcmeServer {
    /// Starts an authority on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no socket can be bound.
    pub fn start(options: AcmeOptions) -> Result<Self> {
        let own = Authority::new("directory")?;
        let issued = own.issue("directory", &["127.0.0.1"])?;
        let chain = CertificateDer::pem_file_iter(&issued.certificate)?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(&issued.key)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let tls = Arc::new(tls.with_no_client_auth().with_single_cert(chain, key)?);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("acme: bind")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            stopping: AtomicBool::new(false),
            options,
            issuer: Authority::new("issuer")?,
            state: Mutex::default(),
            base: format!("https://{address}"),
        });
        let accepting = Arc::clone(&shared);
        let acceptor = Some(std::thread::spawn(move || accept(&listener, &tls, &accepting)));
        Ok(Self { address, shared, acceptor, own })
    }

    /// URL of its directory.
    pub fn directory(&self) -> String {
        format!("{}/dir", self.shared.base)
    }

    /// The authority of its own TLS, in PEM.
    pub fn ca(&self) -> PathBuf {
        self.own.file()
    }

    /// Who signs what is ordered.
    pub fn issuer(&self) -> &Authority {
        &self.shared.issuer
    }

    /// Changes what it does with requests.
    pub fn set_mood(&self, mood: AcmeMood) {
        self.shared.state().mood = mood;
    }

    /// Has it say that certificates are to be renewed within this window, times in RFC 3339.
    pub fn advise(&self, start: &str, end: &str) {
        self.shared.state().advice = Some((start.to_owned(), end.to_owned()));
    }

    /// Forgets all accounts, as an authority for tests does that is set up anew.
    pub fn forget_accounts(&self) {
        self.shared.state().forget_accounts();
    }

    /// Requests for orders so far, refused ones included.
    pub fn orders(&self) -> usize {
        self.shared.state().orders_asked
    }

    /// Certificates issued so far, by host.
    pub fn issued(&self) -> Vec<String> {
        self.shared.state().issued.clone()
    }

    /// Orders that named a certificate that they replace.
    pub fn replacements(&self) -> usize {
        self.shared.state().replacements
    }

    /// Accounts opened so far, with whom to write to.
    pub fn accounts(&self) -> Vec<Vec<String>> {
        self.shared.state().contacts.clone()
    }

    /// What clients got wrong so far.
    pub fn violations(&self) -> Vec<String> {
        self.shared.state().violations.clone()
    }
}

impl Drop for AcmeServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        let violations = self.shared.state.lock().map(|state| state.violations.clone()).unwrap_or_default();
        assert!(violations.is_empty() || std::thread::panicking(), "acme: {violations:#?}");
    }
}

fn accept(listener: &TcpListener, tls: &Arc<ServerConfig>, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let (tls, shared) = (Arc::clone(tls), Arc::clone(shared));
        std::thread::spawn(move || {
            // A client that goes away is nobody's mistake.
            let _ = converse(stream, tls, &shared);
        });
    }
}

fn converse(stream: TcpStream, tls: Arc<ServerConfig>, shared: &Arc<Shared>) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_nodelay(true)?;
    let mut stream = StreamOwned::new(ServerConnection::new(tls)?, stream);
    let mut pending = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let (request, len) = match message::request(&pending) {
            Ok(message::Read::Whole(request, len)) => (request, len),
            Ok(message::Read::Partial) => match stream.read(&mut buffer)? {
                0 => return Ok(()),
                count => {
                    pending.extend_from_slice(&buffer[..count]);
                    continue;
                }
            },
            Err(error) => {
                shared.state().violations.push(format!("malformed HTTP: {error:?}"));
                return Ok(());
            }
        };
        pending.drain(..len);
        while shared.state().mood == AcmeMood::Silent {
            if shared.stopping.load(Ordering::Relaxed) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let answer = authority::answer(shared, &request);
        stream.write_all(&written(&answer, &request.method))?;
        stream.flush()?;
    }
}

fn written(answer: &Answer, method: &str) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} Status\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.fields {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    let mut bytes = head.into_bytes();
    if method != "HEAD" {
        bytes.extend_from_slice(answer.body.as_bytes());
    }
    bytes
}
