//! Connections within the machine go without pacing.
//!
//! Where the system spreads the packets of a connection over time, as BBR does, a timer holds back the second segment of whatever is sent at once.
//! On a link that is shared this keeps queues short. Within the machine there is no such link, and the timer costs more than the
//! sending: a body of 100 KiB takes twice the time of the processor, spliced ones of a mebibyte a quarter more. So listeners at loopback
//! addresses, and connections to these, have the one way of control that every system has, and that sets no timers. It has to be asked for before there is a
//! connection; from then on nobody can take the timers away.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use tokio::net::{TcpSocket, TcpStream, ToSocketAddrs};

/// Has connections of a socket that listens on an address, or is to be connected to it, go without pacing if that is within the machine.
pub(crate) fn without(socket: impl AsFd, address: IpAddr) {
    if address.to_canonical().is_loopback() {
        // Who is refused that is slower.
        let _paced = rustix::net::sockopt::set_tcp_congestion(socket, "reno");
    }
}

/// Connects to the first of the addresses that accepts.
///
/// # Errors
/// What the system says of the last one: nobody listens there, it cannot be reached, or there are no descriptors left; or that a name has no
/// address.
pub async fn connect(to: impl ToSocketAddrs) -> io::Result<TcpStream> {
    let mut refused = None;
    for address in tokio::net::lookup_host(to).await? {
        match connect_one(address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
}

async fn connect_one(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    without(&socket, address.ip());
    socket.connect(address).await
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Protocol, Socket, Type};

    use super::*;

    fn how(socket: impl AsFd) -> String {
        rustix::net::sockopt::tcp_congestion(socket).unwrap()
    }

    #[tokio::test]
    async fn both_ends_within_the_machine_go_without() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = crate::listen::tcp(address.parse().unwrap()).unwrap();
            let client = connect(listener.local_addr().unwrap()).await.unwrap();
            let (accepted, _) = tokio::net::TcpListener::from_std(listener).unwrap().accept().await.unwrap();
            assert_eq!((how(client), how(accepted)), ("reno".to_owned(), "reno".to_owned()));
        }
    }

    #[tokio::test]
    async fn the_first_address_that_accepts_is_taken() {
        let (open, closed) =
            (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let [open_at, closed_at] = [&open, &closed].map(|listener| listener.local_addr().unwrap());
        drop(closed);
        let client = connect(&[closed_at, open_at][..]).await.unwrap();
        assert_eq!(client.peer_addr().unwrap(), open_at);
        assert_eq!(connect(closed_at).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(connect(("localhost", open_at.port())).await.unwrap().peer_addr().unwrap().port(), open_at.port());
    }

    #[test]
    fn others_are_as_the_system_has_them() {
        let usual = how(Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap());
        assert_eq!(how(crate::listen::tcp("0.0.0.0:0".parse().unwrap()).unwrap()), usual);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        without(&socket, "192.0.2.1".parse().unwrap());
        assert_eq!(how(socket), usual);
    }
}
