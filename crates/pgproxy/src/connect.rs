//! Connections to servers: made, enciphered, logged in.

use std::io;
use std::time::Duration;

use net::tls::{ClientTls, ServerName};
use pgroute::SqlState;
use pgroute::auth::scram::{Binding, Client, Credential, Keys};
use pgroute::auth::{AuthError, md5};
use pgroute::wire::backend::{self, Authentication, BackendKey, Fields, tag};
use pgroute::wire::startup::{Replication, Startup};
use pgroute::wire::{Piece, Splitter, WireError, write};
use socket2::TcpKeepalive;
use tokio::net::UnixStream;
use vocab::Secret;

use crate::backend::{CancelKey, ended, receive, send};
use crate::failure::Failure;
use crate::params::{BackendTls, ServerAddress, ServerParams};
use crate::random;
use crate::socket::Socket;

/// How long a connection is silent before the kernel asks whether the other side is there.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);

/// How long after that it asks again.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How often it asks before it gives the connection up.
const KEEPALIVE_RETRIES: u32 = 6;

/// How a server is logged in to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) proof: Proof,
    /// Whether it is for replication, and how.
    pub(crate) replication: Replication,
}

/// By what.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Proof {
    /// Nothing is known: the server has to trust.
    None,
    Password(Secret),
    /// What a client left when it proved its password.
    Keys(Keys),
    /// A digest, as stored.
    Md5(Secret),
}

/// A connection that the server has accepted.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) socket: Socket,
    pub(crate) key: CancelKey,
    /// Settings that the server reported.
    pub(crate) reports: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it does not speak TLS")]
    NoTls,
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("{0}")]
    Auth(#[from] AuthError),
    #[error("it asks for a password, and none is known")]
    NoPassword,
    #[error("it asks for a way to log in that is not supported (number {0})")]
    Method(i32),
    #[error("{}", .0.message)]
    Server(Failure),
}

/// Connects and logs in.
///
/// # Errors
/// What the server said, as it said it, or why it could not be reached (`08001`).
pub(crate) async fn connect(server: &ServerParams, login: &Login, timeout: Duration) -> Result<Connected, Failure> {
    let address = &server.address;
    let failure = |cause: &dyn std::fmt::Display| {
        Failure::new(SqlState::CANNOT_CONNECT, format!("cannot connect to the server {address}: {cause}"))
    };
    match tokio::time::timeout(timeout, begin(server, login)).await {
        Ok(Ok(connected)) => Ok(connected),
        Ok(Err(ConnectError::Server(failure))) => Err(failure),
        Ok(Err(error)) => Err(failure(&error)),
        Err(_) => Err(failure(&format_args!("no answer within {timeout:?}"))),
    }
}

async fn begin(server: &ServerParams, login: &Login) -> Result<Connected, ConnectError> {
    let mut socket = open(&server.address).await?;
    let peer = socket.peer();
    socket = match (&server.tls, &server.address) {
        (BackendTls::Off, _) | (BackendTls::Prefer(_), ServerAddress::Unix(_)) => socket,
        (BackendTls::Prefer(tls), _) => encipher(socket, tls, server, false).await?,
        (BackendTls::Require(tls), _) => encipher(socket, tls, server, true).await?,
    };
    let mut out = Vec::new();
    let startup = Startup {
        minor: 0,
        user: login.user.clone(),
        database: login.database.clone(),
        replication: login.replication,
        settings: server.settings.clone(),
        unknown: Vec::new(),
    };
    write::startup(&mut out, &startup);
    send(&mut socket, &out).await?;
    let mut talk = Talk { socket, splitter: Splitter::default(), input: Vec::new() };
    authenticate(&mut talk, login).await?;
    let (mut reports, mut key) = (Vec::new(), None);
    loop {
        let (kind, message) = talk.next().await?;
        match kind {
            tag::PARAMETER_STATUS => {
                let (name, value) = backend::parameter_status(&message)?;
                reports.push((name.to_vec(), value.to_vec()));
            }
            tag::BACKEND_KEY => {
                let BackendKey { pid, secret } = BackendKey::read(&message)?;
                key = Some(CancelKey { pid, secret: secret.to_vec(), address: server.address.clone(), peer });
            }
            tag::NOTICE | tag::NEGOTIATE_VERSION => {}
            tag::READY => break,
            other => return Err(WireError::Unexpected { tag: other }.into()),
        }
    }
    if !talk.input.is_empty() {
        return Err(WireError::Unexpected { tag: talk.input[0] }.into());
    }
    // A server without keys, such as another proxy, cannot be asked to cancel anything.
    let no_key = || CancelKey { pid: 0, secret: Vec::new(), address: server.address.clone(), peer };
    Ok(Connected { socket: talk.socket, key: key.unwrap_or_else(no_key), reports })
}

/// How the kernel finds out that a server has gone without a word while nothing is said. Until then whoever waits for it waits; a firewall that
/// forgets connections which are silent mostly does so after some minutes.
fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_RETRIES)
}

/// Opens a socket, without a word.
async fn open(address: &ServerAddress) -> io::Result<Socket> {
    match address {
        ServerAddress::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path).await?)),
        ServerAddress::Tcp { host, port } => {
            let socket = net::connect((host.as_str(), *port)).await?;
            socket.set_nodelay(true)?;
            socket2::SockRef::from(&socket).set_tcp_keepalive(&keepalive())?;
            Ok(Socket::tcp(socket))
        }
    }
}

async fn encipher(
    mut socket: Socket,
    tls: &ClientTls,
    server: &ServerParams,
    is_required: bool,
) -> Result<Socket, ConnectError> {
    let mut out = Vec::new();
    write::ssl_request(&mut out);
    send(&mut socket, &out).await?;
    let mut answer = [0];
    // One byte and no more: whatever follows belongs to the handshake.
    if std::future::poll_fn(|cx| socket.poll_read(cx, &mut answer)).await? == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    match (answer, socket) {
        ([b'S'], Socket::Tcp(socket, _)) => {
            let host = match &server.address {
                ServerAddress::Tcp { host, .. } => host.clone(),
                ServerAddress::Unix(_) => String::new(),
            };
            let name = match &tls.params().server_name {
                Some(name) => name.clone(),
                None => ServerName::try_from(host)
                    .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "its name cannot be verified"))?,
            };
            Ok(Socket::of_server(tls.connect_whole(name, socket.into_inner()?).await?))
        }
        ([b'N'], socket) if !is_required => Ok(socket),
        _ => Err(ConnectError::NoTls),
    }
}

/// Messages of a server that is being logged in to.
struct Talk {
    socket: Socket,
    splitter: Splitter,
    input: Vec<u8>,
}

impl Talk {
    /// The next message; an error of the server's is one here.
    async fn next(&mut self) -> Result<(u8, Vec<u8>), ConnectError> {
        loop {
            if let Piece::Message { tag: kind, len } = self.splitter.next(&self.input, backend::look_at_beginning)? {
                let message: Vec<u8> = self.input.drain(..len).collect();
                if kind == tag::ERROR {
                    let failure = Failure::of_server(&Fields::of(&message));
                    return Err(ConnectError::Server(failure));
                }
                return Ok((kind, message));
            }
            if receive(&mut self.socket, &mut self.input).await? == 0 {
                return Err(ConnectError::Server(ended()));
            }
        }
    }

    async fn authentication(&mut self) -> Result<Vec<u8>, ConnectError> {
        loop {
            match self.next().await? {
                (tag::AUTHENTICATION, message) => return Ok(message),
                (tag::NOTICE | tag::NEGOTIATE_VERSION, _) => {}
                (other, _) => return Err(WireError::Unexpected { tag: other }.into()),
            }
        }
    }

    async fn say(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut out = Vec::new();
        write(&mut out);
        send(&mut self.socket, &out).await
    }
}

async fn authenticate(talk: &mut Talk, login: &Login) -> Result<(), ConnectError> {
    loop {
        let message = talk.authentication().await?;
        match (Authentication::read(&message)?, &login.proof) {
            (Authentication::Ok, _) => return Ok(()),
            (Authentication::Cleartext, Proof::Password(password)) => {
                talk.say(|out| write::password(out, password.expose().as_bytes())).await?;
            }
            (Authentication::Md5 { salt }, Proof::Password(password)) => {
                let stored = md5::stored(password.expose(), &login.user);
                talk.say(|out| write::password(out, md5::proof(&stored, salt).expose().as_bytes())).await?;
            }
            (Authentication::Md5 { salt }, Proof::Md5(stored)) => {
                talk.say(|out| write::password(out, md5::proof(stored, salt).expose().as_bytes())).await?;
            }
            (Authentication::Sasl(offered), proof) => {
                let credential = match proof {
                    Proof::Password(password) => Credential::Password(password.clone()),
                    Proof::Keys(keys) => Credential::Keys(keys.clone()),
                    Proof::Md5(_) => return Err(AuthError::Unfit("a proof by SCRAM").into()),
                    Proof::None => return Err(ConnectError::NoPassword),
                };
                let binding = Binding::choose(offered.iter(), None)?;
                scram(talk, Client::new(credential, binding)).await?;
            }
            (Authentication::Other(number), _) => return Err(ConnectError::Method(number)),
            (Authentication::Cleartext | Authentication::Md5 { .. }, Proof::Keys(_) | Proof::Md5(_)) => {
                return Err(AuthError::Unfit("a password").into());
            }
            (Authentication::Cleartext | Authentication::Md5 { .. }, Proof::None) => {
                return Err(ConnectError::NoPassword);
            }
            (Authentication::SaslContinue(_) | Authentication::SaslFinal(_), _) => {
                return Err(AuthError::Malformed("it comes before it was asked for").into());
            }
        }
    }
}

async fn scram(talk: &mut Talk, client: Client) -> Result<(), ConnectError> {
    let mechanism = client.mechanism();
    let (first, client) = client.first("", random::bytes());
    talk.say(|out| write::sasl_initial(out, mechanism, &first)).await?;
    let message = talk.authentication().await?;
    let Authentication::SaslContinue(data) = Authentication::read(&message)? else {
        return Err(AuthError::Malformed("the server's first message is missing").into());
    };
    // It takes thousands of hashes: not on the core.
    let data = data.to_vec();
    let proved = tokio::task::spawn_blocking(move || client.proof(&data)).await;
    let (proof, client) = proved.map_err(io::Error::other)??;
    talk.say(|out| write::sasl_response(out, &proof)).await?;
    let message = talk.authentication().await?;
    let Authentication::SaslFinal(data) = Authentication::read(&message)? else {
        return Err(AuthError::Malformed("the server's last message is missing").into());
    };
    Ok(client.finish(data)?)
}

/// Asks a server to cancel what a backend does. It is done when the server has closed the connection: the backend has the signal then. Whether
/// the cancel is over by then, done or never sent; if not, it may still come, at any time.
pub(crate) async fn cancel(key: &CancelKey, timeout: Duration) -> bool {
    let mut is_sent = false;
    let attempt = async {
        let mut socket = match (&key.address, key.peer) {
            (ServerAddress::Tcp { .. }, Some(peer)) => Socket::tcp(net::connect(peer).await?),
            (address, _) => open(address).await?,
        };
        let mut out = Vec::new();
        write::cancel(&mut out, key.pid, &key.secret);
        is_sent = true;
        send(&mut socket, &out).await?;
        let mut input = Vec::new();
        while receive(&mut socket, &mut input).await? > 0 {
            input.clear();
        }
        io::Result::Ok(())
    };
    match tokio::time::timeout(timeout, attempt).await {
        Ok(Ok(())) => return true,
        // Some systems reset the connection where the server closes it.
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => return true,
        Ok(Err(error)) => tracing::warn!(server = %key.address, %error, "a cancel was not delivered"),
        Err(_) => tracing::warn!(server = %key.address, "a cancel was not delivered in time"),
    }
    !is_sent
}
