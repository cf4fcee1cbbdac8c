//! A socket that clients connect to.

use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwap;
use net::inherit::Inherited;
use net::listen;

use crate::PrepareError;
use crate::params::{Listen, PgListenerParams};

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
                // One whose file has gone meanwhile would be found by nobody.
                let given = inherited.take_unix(path).filter(|_| is_socket(path));
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

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// Listens at a file. One that nobody listens at is left from a process that ended, and is replaced.
fn unix(path: &Path) -> io::Result<StdUnixListener> {
    if is_socket(path)
        && StdUnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        std::fs::remove_file(path)?;
    }
    let socket = StdUnixListener::bind(path)?;
    // As PostgreSQL's own: who may log in is said by rules and passwords.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
