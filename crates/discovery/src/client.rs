//! Asks name servers, over UDP, and over TCP what does not fit.
//!
//! A server that is silent, fails or refuses is passed over for the next, and all are asked in turns `attempts` times: one
//! of several that is broken must not decide. Each question goes out from a port of its own and under a random id, and
//! answers that fit neither are passed over, up to a bound. The server that answered last is asked first.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::params::ResolverParams;
use crate::wire::{self, Answer, Question, Unfit};

/// Questions under way at once.
const UNDER_WAY_MAX: usize = 64;

/// Strangers' messages that are passed over while an answer is awaited.
const STRANGERS_MAX: usize = 100;

/// More than any server may send over UDP here.
const UDP_BUFFER: usize = 4096;

/// Asks servers.
#[derive(Debug)]
pub(crate) struct Client {
    timeout: Duration,
    attempts: u32,
    /// Position of the server that answered last.
    first: AtomicUsize,
    under_way: Semaphore,
    /// What ids are drawn from.
    seed: RandomState,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unanswered {
    /// Whether nobody said anything.
    pub(crate) is_timeout: bool,
    pub(crate) text: String,
}

/// What was wrong with one try.
enum Problem {
    Silent(Duration),
    System(io::Error),
    Malformed,
    Strangers,
    Refused(String),
}

impl Client {
    pub(crate) fn new(params: &ResolverParams) -> Self {
        Self {
            timeout: params.timeout,
            attempts: params.attempts.get(),
            first: AtomicUsize::new(0),
            under_way: Semaphore::new(UNDER_WAY_MAX),
            seed: RandomState::new(),
        }
    }

    /// Asks until a server answers: there is something, or there is nothing.
    pub(crate) async fn ask(&self, servers: &[SocketAddr], question: &Question) -> Result<Answer, Unanswered> {
        let _place = self.under_way.acquire().await;
        let (mut worst, mut is_timeout) = (None, true);
        let first = self.first.load(Ordering::Relaxed);
        for _ in 0..self.attempts {
            for at in 0..servers.len() {
                let at = first.wrapping_add(at) % servers.len();
                let problem = match self.ask_one(servers[at], question).await {
                    Ok(answer) => {
                        self.first.store(at, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Err(problem) => problem,
                };
                let is_silent = matches!(problem, Problem::Silent(_));
                // What somebody said tells more than that somebody was silent.
                if worst.is_none() || !is_silent {
                    worst = Some(format!("server {}: {problem}", servers[at]));
                }
                is_timeout &= is_silent;
            }
        }
        let text = worst.unwrap_or_else(|| "there is no name server".to_owned());
        Err(Unanswered { is_timeout: is_timeout && !servers.is_empty(), text })
    }

    async fn ask_one(&self, server: SocketAddr, question: &Question) -> Result<Answer, Problem> {
        match self.exchange(server, question, true).await {
            // Servers of before 1999 do not know how to say that they take more than 512 bytes.
            Err(Problem::Refused(code)) if code == "FORMERR" || code == "NOTIMP" => {
                self.exchange(server, question, false).await
            }
            other => other,
        }
    }

    async fn exchange(&self, server: SocketAddr, question: &Question, is_extended: bool) -> Result<Answer, Problem> {
        let id = self.id();
        let Some(message) = wire::write(id, question, is_extended) else {
            return Err(Problem::Refused("no name can be asked for like this".to_owned()));
        };
        let limited =
            |found: Result<_, tokio::time::error::Elapsed>| found.unwrap_or(Err(Problem::Silent(self.timeout)));
        let mut reply = limited(timeout(self.timeout, over_udp(server, &message, id, question)).await);
        let is_cut = match &reply {
            Ok(reply) => reply.is_truncated,
            // Longer than anything that was asked for, or spoilt on the way.
            Err(Problem::Malformed) => true,
            Err(_) => false,
        };
        if is_cut {
            reply = limited(timeout(self.timeout, over_tcp(server, &message, id, question)).await);
        }
        match reply?.answer {
            Answer::Refused(reason) => Err(Problem::Refused(reason)),
            answer => Ok(answer),
        }
    }

    /// A number that nobody outside can guess: keyed by what the system drew.
    fn id(&self) -> u16 {
        self.seed.hash_one(fastrand::u64(..)) as u16
    }
}

async fn over_udp(server: SocketAddr, message: &[u8], id: u16, question: &Question) -> Result<wire::Reply, Problem> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // From now on the system passes over what comes from elsewhere.
    socket.connect(server).await?;
    socket.send(message).await?;
    let mut buffer = vec![0; UDP_BUFFER];
    for _ in 0..STRANGERS_MAX {
        let length = socket.recv(&mut buffer).await?;
        match wire::read(&buffer[..length], id, question) {
            Ok(reply) => return Ok(reply),
            Err(Unfit::Stranger) => {}
            Err(Unfit::Malformed) => return Err(Problem::Malformed),
        }
    }
    Err(Problem::Strangers)
}

async fn over_tcp(server: SocketAddr, message: &[u8], id: u16, question: &Question) -> Result<wire::Reply, Problem> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    match wire::read(&buffer, id, question) {
        Ok(reply) if reply.is_truncated => Err(Problem::Malformed),
        Ok(reply) => Ok(reply),
        Err(Unfit::Stranger) => Err(Problem::Strangers),
        Err(Unfit::Malformed) => Err(Problem::Malformed),
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(time) => write!(f, "no answer within {time:?}"),
            Self::System(error) => error.fmt(f),
            Self::Malformed => f.write_str("an answer that cannot be read"),
            Self::Strangers => f.write_str("answers to other questions only"),
            Self::Refused(reason) => f.write_str(reason),
        }
    }
}
