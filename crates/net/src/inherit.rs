//! Listening sockets that this process was given by whoever started it.
//!
//! Two give them: a service manager that listens on behalf of what it starts (systemd's socket activation,
//! `sd_listen_fds(3)`), and the process before this one at an upgrade ([`crate::handover`]). Either way a listener takes
//! the socket of its address, with all that waits in its queue, and opens one of its own only when none was given.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::io::FdFlags;
use socket2::{Domain, SockRef, Type};

/// The first descriptor that a service manager passes; those before it are the standard streams.
const FIRST: RawFd = 3;

/// Most sockets that a service manager may pass. A configuration listens on 1000 addresses at most.
const COUNT_MAX: u16 = 1024;

/// The sockets that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inherited {
    tcp: HashMap<SocketAddr, TcpListener>,
    unix: HashMap<PathBuf, UnixListener>,
}

/// What a socket was opened for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenedFor {
    /// An address and port.
    Tcp(SocketAddr),
    /// The file of a Unix socket.
    Unix(PathBuf),
}

/// A socket that was given and cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("socket {name} cannot be used: {cause}")]
pub struct Unusable {
    /// How whoever gave it calls it.
    pub name: String,
    /// What is wrong with it.
    #[source]
    pub cause: io::Error,
}

impl Inherited {
    /// The sockets that a service manager has passed, which `env` tells of, and those that cannot be used. `pid` is this
    /// process's id: variables that are meant for another one are passed over.
    ///
    /// # Safety
    /// The variables must be those that this process was started with, and this the first thing that it does about
    /// descriptors: those from 3 on are taken for its own, so nothing else may have opened or taken one.
    pub unsafe fn from_manager(env: &dyn Fn(&str) -> Option<String>, pid: u32) -> (Self, Vec<Unusable>) {
        let count = passed(env, pid);
        let names = env("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').filter(|name| !name.is_empty());
        let (mut inherited, mut unusable) = (Self::default(), Vec::new());
        for number in (FIRST..).take(usize::from(count)) {
            // SAFETY: the variables say that the descriptor is open and this process's, and the caller that nobody else
            // holds it. A number that is not open would be answered by errors below, and closing it does no harm then.
            let socket = unsafe { OwnedFd::from_raw_fd(number) };
            let name = names.next().map_or_else(|| format!("number {number}"), str::to_owned);
            unusable.extend(inherited.add(&name, None, socket).err());
        }
        (inherited, unusable)
    }

    /// Adds a socket for what it was opened for; by default that which it is bound to.
    ///
    /// # Errors
    /// When it is no listening socket of TCP, or a Unix socket with a file.
    pub fn add(&mut self, name: &str, opened_for: Option<OpenedFor>, socket: OwnedFd) -> Result<(), Unusable> {
        self.try_add(opened_for, socket).map_err(|cause| Unusable { name: name.to_owned(), cause })
    }

    fn try_add(&mut self, opened_for: Option<OpenedFor>, socket: OwnedFd) -> io::Result<()> {
        let kind = SockRef::from(&socket);
        if kind.r#type()? != Type::STREAM || !kind.is_listener()? {
            return Err(io::Error::other("it is no TCP or Unix socket that listens"));
        }
        let is_unix = kind.domain()? == Domain::UNIX;
        rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
        match (is_unix, opened_for) {
            (true, Some(OpenedFor::Tcp(_))) | (false, Some(OpenedFor::Unix(_))) => {
                return Err(io::Error::other("it is of another kind than it is said to be"));
            }
            (true, opened_for) => {
                let socket = UnixListener::from(socket);
                socket.set_nonblocking(true)?;
                let bound = socket.local_addr()?.as_pathname().map(Path::to_owned);
                let path = match opened_for {
                    Some(OpenedFor::Unix(path)) => Some(path),
                    _ => bound,
                };
                let path = path.ok_or_else(|| io::Error::other("it is a Unix socket without a file"))?;
                self.unix.insert(path, socket);
            }
            (false, opened_for) => {
                let socket = TcpListener::from(socket);
                socket.set_nonblocking(true)?;
                let bound = socket.local_addr()?;
                crate::pace::without(&socket, bound.ip());
                let address = match opened_for {
                    Some(OpenedFor::Tcp(address)) => address,
                    _ => bound,
                };
                self.tcp.insert(address, socket);
            }
        }
        Ok(())
    }

    /// The TCP socket of an address, if it was given and nobody has taken it.
    pub fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        self.tcp.remove(&address)
    }

    /// The Unix socket at a file, if it was given and nobody has taken it.
    pub fn take_unix(&mut self, path: &Path) -> Option<UnixListener> {
        self.unix.remove(path)
    }

    /// Whether all have been taken.
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.unix.is_empty()
    }

    /// The addresses of TCP sockets that nobody has taken.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<SocketAddr> = self.tcp.keys().copied().collect();
        addresses.sort_unstable();
        addresses
    }
}

impl fmt::Display for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all: Vec<String> = self.addresses().iter().map(SocketAddr::to_string).collect();
        let mut files: Vec<String> = self.unix.keys().map(|path| path.display().to_string()).collect();
        files.sort_unstable();
        all.append(&mut files);
        f.write_str(&all.join(", "))
    }
}

/// How many sockets were passed to the process with this id.
fn passed(env: &dyn Fn(&str) -> Option<String>, pid: u32) -> u16 {
    let number = |name: &str| env(name)?.trim().parse::<u32>().ok();
    if number("LISTEN_PID") != Some(pid) {
        return 0;
    }
    number("LISTEN_FDS").map_or(0, |count| u16::try_from(count).unwrap_or(COUNT_MAX).min(COUNT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_this_process_is_taken() {
        let check = |pid: &str, count: &str, expected: u16| {
            let env = |name: &str| match name {
                "LISTEN_PID" => Some(pid.to_owned()),
                "LISTEN_FDS" => Some(count.to_owned()),
                _ => None,
            };
            assert_eq!(passed(&env, 7), expected, "{pid} {count}");
        };
        check("7", "2", 2);
        check("8", "2", 0);
        check("", "2", 0);
        check("7", "", 0);
        check("7", "-1", 0);
        check("7", "4000000000", COUNT_MAX);
        assert_eq!(passed(&|_| None, 7), 0);
    }

    #[test]
    fn one_within_the_machine_goes_without_pacing() {
        let how = |socket: &TcpListener| rustix::net::sockopt::tcp_congestion(socket).unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        // Whatever the system's own is, that of a manager may be another one.
        if rustix::net::sockopt::set_tcp_congestion(&socket, "cubic").is_ok() {
            assert_eq!(how(&socket), "cubic");
        }
        let mut inherited = Inherited::default();
        inherited.add("one", None, socket.into()).unwrap();
        assert_eq!(how(&inherited.take(address).unwrap()), "reno");
    }

    #[test]
    fn a_socket_is_taken_once_by_its_address() {
        let socket = crate::listen::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let (bound, asked) = (socket.local_addr().unwrap(), SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut inherited = Inherited::default();
        inherited.add("one", None, socket.try_clone().unwrap().into()).unwrap();
        inherited.add("two", Some(OpenedFor::Tcp(asked)), socket.into()).unwrap();
        assert_eq!(inherited.to_string(), format!("{asked}, {bound}"));
        for address in [bound, asked] {
            assert_eq!(inherited.take(address).unwrap().local_addr().unwrap(), bound);
            assert!(inherited.take(address).is_none());
        }
    }

    #[test]
    fn a_unix_socket_is_taken_once_by_its_file() {
        let path = std::env::temp_dir().join(format!("tenfold-inherit-{}", std::process::id()));
        let socket = UnixListener::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut inherited = Inherited::default();
        inherited.add("one", None, socket.try_clone().unwrap().into()).unwrap();
        assert_eq!((inherited.to_string(), inherited.is_empty()), (path.display().to_string(), false));
        let taken = inherited.take_unix(&path).unwrap();
        assert!(inherited.take_unix(&path).is_none() && inherited.is_empty());
        // As it is told, where it goes by another way to the same file.
        let other = path.join("other");
        inherited.add("two", Some(OpenedFor::Unix(other.clone())), taken.into()).unwrap();
        assert!(inherited.take_unix(&other).is_some());
        let wrong = Some(OpenedFor::Tcp("127.0.0.1:1".parse().unwrap()));
        inherited.add("three", wrong, socket.into()).unwrap_err();
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let mut inherited = Inherited::default();
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = inherited.add("log", None, datagrams.into()).unwrap_err().to_string();
        assert!(error.starts_with("socket log cannot be used"), "{error}");
        let (a_pipe, _) = std::io::pipe().unwrap();
        inherited.add("pipe", None, a_pipe.into()).unwrap_err();
        assert_eq!(inherited.addresses(), []);
    }
}
