//! A socket that clients connect to.

use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use net::inherit::Inherited;
use net::listen;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::PrepareError;
use crate::folder::Alone;
use crate::params::{Listen, PgListenerParams};

/// How long a process waits for another one that replaces a socket: many times as long as that takes, and little for a reload.
const OTHER_AT_MOST: Duration = Duration::from_secs(1);

/// A listener, which outlives configurations as long as it listens at the same place.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) listen: Listen,
    params: ArcSwap<PgListenerParams>,
    /// Clients that are connected, logged in or not.
    open: AtomicU32,
}

/// A place under a listener's `clients_max`, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) listener: Arc<Listener>,
}

impl Listener {
    pub(crate) fn new(params: PgListenerParams) -> Self {
        Self { listen: params.listen.clone(), params: ArcSwap::from_pointee(params), open: AtomicU32::new(0) }
    }

    /// Goes by another configuration.
    pub(crate) fn configure(&self, params: PgListenerParams) {
        self.params.store(Arc::new(params));
    }

    /// What it goes by now.
    pub(crate) fn params(&self) -> arc_swap::Guard<Arc<PgListenerParams>> {
        self.params.load()
    }

    /// A place for a client, if there is one.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Place> {
        let max = self.params().clients_max;
        let free = |open: u32| (open < max).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        Some(Place { listener: Arc::clone(self) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.listener.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A listening socket that no core has yet.
#[derive(Debug)]
pub(crate) enum ListenSocket {
    Tcp(StdTcpListener),
    Unix(StdUnixListener),
}

impl ListenSocket {
    /// Has it, from what was inherited if it is there.
    ///
    /// # Errors
    /// When it cannot be had.
    pub(crate) fn open(listen: &Listen, inherited: &mut Inherited) -> Result<Self, PrepareError> {
        match listen {
            Listen::Tcp(address) => {
                let socket = inherited.take(*address).map_or_else(|| listen::tcp(*address), Ok)?;
                Ok(Self::Tcp(socket))
            }
            Listen::Unix(path) => {
                // One whose file has gone meanwhile, or is another's that was left, would be found by nobody: who connects would get to it, as it
                // listens all the time.
                let given =
                    inherited.take_unix(path).filter(|_| look(path).is_ok_and(|found| found == Found::Listening));
                let socket = given
                    .map_or_else(|| unix(path), Ok)
                    .map_err(|cause| PrepareError::Unix { path: path.clone(), cause })?;
                Ok(Self::Unix(socket))
            }
        }
    }

    /// Another handle of it.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub(crate) fn handle(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(socket) => socket.try_clone().map(OwnedFd::from),
            Self::Unix(socket) => socket.try_clone().map(OwnedFd::from),
        }
    }
}

/// What connecting to a file comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// There is no socket.
    Nothing,
    /// It is left from a process that ended.
    Left,
    /// Somebody listens.
    Listening,
}

/// What there is at a file. Nobody is waited for: a queue may be full.
fn look(path: &Path) -> io::Result<Found> {
    if !std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        return Ok(Found::Nothing);
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Found::Left),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        _ => Ok(Found::Listening),
    }
}

/// Listens at a file. One that nobody listens at is replaced.
fn unix(path: &Path) -> io::Result<StdUnixListener> {
    // Two who find it left would both replace it, and clients find one of them. Who keeps the lock for longer than that takes is no reason not to
    // serve: of two who bind, one is refused.
    let _alone = Alone::at(path, OTHER_AT_MOST).ok();
    if look(path)? == Found::Left {
        std::fs::remove_file(path)?;
    }
    let socket = StdUnixListener::bind(path)?;
    // As PostgreSQL's own: who may log in is said by rules and passwords.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::TempDir;

    fn open(path: &Path, inherited: Option<&StdUnixListener>) -> Result<ListenSocket, PrepareError> {
        let mut given = Inherited::default();
        if let Some(socket) = inherited {
            given.add("db", None, socket.try_clone().unwrap().into()).unwrap();
        }
        ListenSocket::open(&Listen::Unix(path.to_owned()), &mut given)
    }

    /// Whether who connects to the file gets to this socket.
    fn leads_to(path: &Path, socket: &ListenSocket) -> bool {
        let ListenSocket::Unix(socket) = socket else { return false };
        socket.set_nonblocking(true).unwrap();
        let _client = std::os::unix::net::UnixStream::connect(path).unwrap();
        // What it was probed with may be in the queue as well.
        std::iter::from_fn(|| socket.accept().ok()).count() > 0
    }

    #[test]
    fn what_was_inherited_is_used_where_clients_find_it() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join(".s.PGSQL.6432");
        let socket = StdUnixListener::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        assert!(leads_to(&path, &open(&path, Some(&socket)).unwrap()));
        // Its file has gone.
        std::fs::remove_file(&path).unwrap();
        assert!(leads_to(&path, &open(&path, Some(&socket)).unwrap()));
        // Another one has taken its place, whose process has ended.
        std::fs::remove_file(&path).unwrap();
        drop(StdUnixListener::bind(&path).unwrap());
        assert!(leads_to(&path, &open(&path, Some(&socket)).unwrap()));
    }

    #[test]
    fn one_of_those_who_find_a_socket_that_was_left_replaces_it() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join(".s.PGSQL.6432");
        drop(StdUnixListener::bind(&path).unwrap());
        // The other one has looked already.
        let alone = Alone::at(&path, Duration::ZERO).unwrap();
        std::thread::scope(|scope| {
            let opened = scope.spawn(|| open(&path, None));
            std::thread::sleep(Duration::from_millis(100));
            assert!(!opened.is_finished());
            std::fs::remove_file(&path).unwrap();
            let first = ListenSocket::Unix(StdUnixListener::bind(&path).unwrap());
            drop(alone);
            let error = opened.join().unwrap().unwrap_err();
            assert!(error.to_string().contains("in use"), "{error}");
            assert!(leads_to(&path, &first));
        });
    }

    #[test]
    fn who_keeps_the_lock_keeps_nobody_from_listening() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join(".s.PGSQL.6432");
        drop(StdUnixListener::bind(&path).unwrap());
        let _alone = Alone::at(&path, Duration::ZERO).unwrap();
        assert!(leads_to(&path, &open(&path, None).unwrap()));
    }

    #[test]
    fn a_queue_that_is_full_is_somebody_who_listens() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join(".s.PGSQL.6432");
        let other = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        other.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        other.listen(0).unwrap();
        let _first = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let error = open(&path, None).unwrap_err();
        assert!(error.to_string().contains("in use"), "{error}");
    }
}
