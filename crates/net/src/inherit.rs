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

use rustix::io::FdFlags;
use socket2::{SockRef, Type};

/// The first descriptor that a service manager passes; those before it are the standard streams.
const FIRST: RawFd = 3;

/// Most sockets that a service manager may pass. A configuration listens on 1000 addresses at most.
const COUNT_MAX: u16 = 1024;

/// The sockets that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inherited {
    tcp: HashMap<SocketAddr, TcpListener>,
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

    /// Adds a socket for the address that it was opened for; by default that which it is bound to.
    ///
    /// # Errors
    /// When it is no listening TCP socket.
    pub fn add(&mut self, name: &str, opened_for: Option<SocketAddr>, socket: OwnedFd) -> Result<(), Unusable> {
        let add = || -> io::Result<()> {
            let kind = SockRef::from(&socket);
            if kind.r#type()? != Type::STREAM || !kind.is_listener()? {
                return Err(io::Error::other("it is no TCP socket that listens"));
            }
            rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
            let socket = TcpListener::from(socket);
            socket.set_nonblocking(true)?;
            let bound = socket.local_addr()?;
            self.tcp.insert(opened_for.unwrap_or(bound), socket);
            Ok(())
        };
        add().map_err(|cause| Unusable { name: name.to_owned(), cause })
    }

    /// The TCP socket of an address, if it was given and nobody has taken it.
    pub fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        self.tcp.remove(&address)
    }

    /// Whether all have been taken.
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty()
    }

    /// The addresses of sockets that nobody has taken.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<SocketAddr> = self.tcp.keys().copied().collect();
        addresses.sort_unstable();
        addresses
    }
}

impl fmt::Display for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<String> = self.addresses().iter().map(SocketAddr::to_string).collect();
        f.write_str(&addresses.join(", "))
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
    fn a_socket_is_taken_once_by_its_address() {
        let socket = crate::listen::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let (bound, asked) = (socket.local_addr().unwrap(), SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut inherited = Inherited::default();
        inherited.add("one", None, socket.try_clone().unwrap().into()).unwrap();
        inherited.add("two", Some(asked), socket.into()).unwrap();
        assert_eq!(inherited.to_string(), format!("{asked}, {bound}"));
        for address in [bound, asked] {
            assert_eq!(inherited.take(address).unwrap().local_addr().unwrap(), bound);
            assert!(inherited.take(address).is_none());
        }
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
