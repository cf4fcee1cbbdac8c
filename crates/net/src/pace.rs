//! Connections within the machine go without pacing.
//!
//! Where the system spreads the packets of a connection over time, as BBR does, a timer holds back the second segment of whatever is sent at once.
//! On a link that is shared this keeps queues short. Within the machine there is no such link, and the timer costs more than the
//! sending: a body of 100 KiB takes twice the time of the processor, spliced ones of a mebibyte a quarter more. So connections to and from
//! loopback addresses have the one way of control that every system has, and that sets no timers. It has to be asked for before there is a
//! connection; from then on nobody can take the timers away.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use tokio::net::{TcpSocket, TcpStream};

/// Has connections of a socket that listens on an address, or is to be connected to it, go without pacing if that is within the machine.
pub(crate) fn without(socket: impl AsFd, address: IpAddr) {
    if address.is_loopback() {
        // Who is refused that is slower.
        let _paced = rustix::net::sockopt::set_tcp_congestion(socket, "reno");
    }
}

/// Connects to an address.
///
/// # Errors
/// What the system says: nobody listens there, it cannot be reached, or there are no descriptors left.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
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

    #[test]
    fn others_are_as_the_system_has_them() {
        let usual = how(Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap());
        assert_eq!(how(crate::listen::tcp("0.0.0.0:0".parse().unwrap()).unwrap()), usual);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        without(&socket, "192.0.2.1".parse().unwrap());
        assert_eq!(how(socket), usual);
    }
}
