//! Connections for replication: a client that streams the log, or copies the server, has a connection of its own for as long as it is there.
//!
//! Nothing of what passes is looked into. Tenfold has asked for the client's password and proved its own to the server; the client counts among
//! those of the database and of its user, and the connection belongs to no pool. It ends with the server's part as the primary: what streams
//! would follow a log that is nobody's any more, and what writes would write where nobody reads it.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use pgroute::SqlState;
use pgroute::wire::backend::TransactionStatus;
use pgroute::wire::startup::{Replication, Startup};
use pgroute::wire::write;

use crate::backend::CancelKey;
use crate::client::{Refused, Talk};
use crate::connect::{self, Proof};
use crate::core::{Held, Tether};
use crate::database::{Database, Seat};
use crate::failure::Failure;
use crate::listener::Listener;
use crate::params::ServerAddress;
use crate::process::Process;
use crate::random;
use crate::socket::Socket;

/// What is read at once: the log comes in bulk.
const READ_BYTES: usize = 64 * 1024;

/// A client's connection and its server's.
pub(crate) struct Link {
    server: Socket,
    /// Which one it is.
    address: ServerAddress,
    key: CancelKey,
    /// Its place among the database's clients.
    seat: Seat,
}

/// The database that a connection for the whole server is meant for. Such clients mostly name none: `pg_basebackup` says `replication`. If the
/// listener serves one database alone that lets such connections through, it is that one.
pub(crate) fn meant(process: &Process, listener: &Listener, startup: &Startup) -> Option<Arc<Database>> {
    let served = &listener.params().databases;
    let is_served = |database: &Arc<Database>| {
        let name = database.settings().name.to_string();
        database.settings().replication && (served.is_empty() || served.contains(&name))
    };
    let databases = process.databases();
    let mut found = databases.into_iter().filter(is_served);
    match (startup.replication, found.next(), found.next()) {
        (Replication::Physical, Some(only), None) => Some(only),
        _ => None,
    }
}

/// Connects to the primary for a client that has proved who it is, and tells it what it has to know.
///
/// # Errors
/// When the server refuses, or there is none.
pub(crate) async fn enter(
    held: &Held,
    tether: &Tether,
    startup: &Startup,
    talk: &mut Talk,
    seat: Seat,
    proof: Proof,
) -> Result<Link, Refused> {
    let database = &seat.database;
    let (params, cluster) = (Arc::clone(&database.settings()), database.cluster());
    let none = || Failure::new(SqlState::CANNOT_CONNECT_NOW, "no primary is known now");
    let primary = cluster.view().primary.ok_or_else(none)?;
    let mut server = cluster.members[primary].params.clone();
    let mut login = database.login_of(&startup.user, proof, &server);
    login.replication = startup.replication;
    let is_ignored = |name: &str| params.ignored_settings.iter().any(|ignored| ignored.eq_ignore_ascii_case(name));
    server.settings.extend(startup.settings.iter().filter(|(name, _)| !is_ignored(name)).cloned());
    let connected = connect::connect(&server, &login, params.timeouts.connect).await?;
    let secret = if startup.minor >= 2 { random::bytes::<32>().to_vec() } else { random::bytes::<4>().to_vec() };
    tether.set_secret(secret.clone());
    let pid = held.tell(Some(connected.key.pid));
    talk.say(|out| {
        write::authentication_ok(out);
        for (name, value) in &connected.reports {
            write::parameter_status(out, name, value);
        }
        write::backend_key(out, pid, &secret);
        write::ready(out, TransactionStatus::Idle);
    })
    .await?;
    Ok(Link { server: connected.socket, address: server.address, key: connected.key, seat })
}

impl Link {
    /// Passes everything both ways, until one of them ends, or nobody is served here any more.
    pub(crate) async fn run(mut self, held: Held, tether: Rc<Tether>, talk: Talk) {
        let Talk { mut socket, input, .. } = talk;
        let timeout = self.seat.database.settings().timeouts.connect;
        let (database, user) = (&self.seat.database.name, self.seat.user());
        tracing::info!(%database, %user, "a connection for replication begins");
        tether.deadline.clear();
        let metrics = self.seat.database.metrics.core(held.core.id);
        metrics.clients.add(1);
        let (mut up, mut down) = (Pipe::new(input), Pipe::new(Vec::new()));
        let why = poll_fn(|cx| {
            tether.register(cx);
            let heard = tether.take_cancels();
            if !heard.is_empty() {
                let key = self.key.clone();
                tokio::task::spawn_local(async move {
                    // The connection is this client's alone: one that comes late is its own business.
                    let _is_over = connect::cancel(&key, timeout).await;
                    drop(heard);
                });
            }
            if tether.is_killed(Some(&self.key.address)) {
                return Poll::Ready(Ok(()));
            }
            if tether.is_ending.get() || self.seat.database.is_retired() {
                return Poll::Ready(Ok(()));
            }
            let (seat, address) = (&self.seat, &self.address);
            let may_send = || match seat.database.cluster().is_out(address) {
                true => Err(io::Error::other("the server is the primary no more, or was never the one")),
                false => Ok(()),
            };
            may_send()?;
            if let Poll::Ready(ended) = down.poll(cx, &mut self.server, &mut socket, || Ok(())) {
                return Poll::Ready(ended);
            }
            up.poll(cx, &mut socket, &mut self.server, may_send)
        })
        .await;
        metrics.clients.add(-1);
        tracing::info!(%database, %user, error = why.err().map(tracing::field::display), "a connection for replication has ended");
    }
}

/// Bytes on their way from one socket to another.
struct Pipe {
    bytes: Vec<u8>,
    sent: usize,
}

impl Pipe {
    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, sent: 0 }
    }

    /// Passes on what can be; ready when nothing comes any more. `may_send` is asked before anything is sent.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Socket,
        to: &mut Socket,
        may_send: impl Fn() -> io::Result<()>,
    ) -> Poll<io::Result<()>> {
        loop {
            while self.sent < self.bytes.len() {
                may_send()?;
                match to.poll_write(cx, [&self.bytes[self.sent..], &[]]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(count)) => self.sent += count,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if let Poll::Ready(Err(error)) = to.poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
            self.bytes.resize(READ_BYTES, 0);
            let read = from.poll_read(cx, &mut self.bytes);
            self.sent = 0;
            match read {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(count)) => self.bytes.truncate(count),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.bytes.clear();
                    return Poll::Pending;
                }
            }
        }
    }
}
