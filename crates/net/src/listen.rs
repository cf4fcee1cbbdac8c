//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel holds until they are accepted; it lowers the number to its own limit.
const BACKLOG: i32 = 4096;

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{address}: cannot listen: {cause}")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub cause: io::Error,
}

/// Opens a listening TCP socket, not blocking. An IPv6 address serves IPv6 alone, so that `0.0.0.0` and `[::]` can
/// stand beside each other.
///
/// # Errors
/// [`ListenError`] when the address is taken, not this machine's, or not permitted.
pub fn tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    open(address).map_err(|cause| ListenError { address, cause })
}

/// Opens a UDP socket, not blocking. One user may open several for an address: what a client sends goes to the same one of
/// them, as long as none is opened or closed.
///
/// # Errors
/// [`ListenError`] when the address is another user's, not this machine's, or not permitted.
pub fn udp(address: SocketAddr) -> Result<UdpSocket, ListenError> {
    open_udp(address).map_err(|cause| ListenError { address, cause })
}

fn open_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Without it a restart would wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    crate::pace::without(&socket, address.ip());
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_address_is_named() {
        let first = tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = tcp(address).unwrap_err();
        assert_eq!(error.cause.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with(&format!("{address}: cannot listen:")));
    }

    #[test]
    fn both_families_share_a_port() {
        let v6 = tcp("[::]:0".parse().unwrap()).unwrap();
        let port = v6.local_addr().unwrap().port();
        tcp(SocketAddr::from(([0, 0, 0, 0], port))).unwrap();
    }
}
