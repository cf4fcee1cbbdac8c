//! How evenly do connections spread over cores: by `SO_REUSEPORT`, or each to the core that has the fewest?
//!
//! With `SO_REUSEPORT` every core listens on a socket of its own and the kernel chooses one by a hash of the connection's
//! addresses and ports. The other way has one socket, and whoever accepts looks where the fewest connections are. The
//! example makes connections over loopback, counts what each core would have to serve, and prints the busiest core's
//! share as a multiple of an even one: 1.00 is even, and with two cores 2.00 is everything on one of them.
//! `docs/architecture/accepting.md` says what follows from it.
//!
//! ```sh
//! cargo run --package net --example accept_skew
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use net::workers;
use socket2::{Domain, Socket, Type};

const CORES: [usize; 2] = [2, 4];
const CONNECTIONS: [usize; 3] = [8, 64, 1000];
const ROUNDS: usize = 20;

/// Connections that are made before they are accepted. Loopback completes them in the kernel, and a round of a thousand
/// would need two thousand descriptors, where 1024 is a usual limit.
const BATCH: usize = 64;

fn main() -> io::Result<()> {
    println!("busiest core's share of the connections, as a multiple of an even share, in {ROUNDS} rounds\n");
    println!("| cores | connections | SO_REUSEPORT: median | worst | rounds with an idle core | least loaded: worst |");
    println!("|---|---|---|---|---|---|");
    for cores in CORES {
        for connections in CONNECTIONS {
            let mut hashed = Vec::with_capacity(ROUNDS);
            let mut placed = Vec::with_capacity(ROUNDS);
            for _ in 0..ROUNDS {
                hashed.push(by_reuseport(cores, connections)?);
                placed.push(by_load(cores, connections)?);
            }
            let mut skews: Vec<f64> = hashed.iter().map(|counts| skew(counts)).collect();
            skews.sort_unstable_by(f64::total_cmp);
            let median = f64::midpoint(skews[(ROUNDS - 1) / 2], skews[ROUNDS / 2]);
            let idle = hashed.iter().filter(|counts| counts.contains(&0)).count();
            let even = placed.iter().map(|counts| skew(counts)).fold(0.0, f64::max);
            println!(
                "| {cores} | {connections} | {median:.2} | {:.2} | {idle} of {ROUNDS} | {even:.2} |",
                skews[ROUNDS - 1]
            );
        }
    }
    Ok(())
}

/// The busiest core's count over the mean of all.
fn skew(counts: &[usize]) -> f64 {
    let most = counts.iter().copied().max().unwrap_or(0);
    most as f64 * counts.len() as f64 / counts.iter().sum::<usize>() as f64
}

/// Connections per core when each core has a socket and the kernel chooses. New sockets each time, so that no round
/// repeats the hash of another.
fn by_reuseport(cores: usize, connections: usize) -> io::Result<Vec<usize>> {
    let first = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..cores {
        sockets.push(listen(address)?);
    }
    let mut counts = vec![0; cores];
    connect(address, connections, || {
        for (socket, count) in sockets.iter().zip(&mut counts) {
            while accept(socket)?.is_some() {
                *count += 1;
            }
        }
        Ok(())
    })?;
    Ok(counts)
}

/// Connections per core when one socket accepts all and each goes to the core with the fewest, as the gateway does it.
fn by_load(cores: usize, connections: usize) -> io::Result<Vec<usize>> {
    let socket = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let (placement, _inboxes) = workers::inboxes::<()>(cores);
    let mut held = Vec::with_capacity(connections);
    connect(socket.local_addr()?, connections, || {
        while accept(&socket)?.is_some() {
            // The gateway gives the unit of load back when the connection ends; here all of them stay.
            held.push(placement.add_load(placement.least_loaded(0)));
        }
        Ok(())
    })?;
    Ok((0..cores).map(|core| placement.load(core)).collect())
}

/// Makes connections in batches and has each batch accepted.
fn connect(address: SocketAddr, connections: usize, mut accept_all: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let mut left = connections;
    while left > 0 {
        let batch = left.min(BATCH);
        let clients: Vec<TcpStream> = (0..batch).map(|_| TcpStream::connect(address)).collect::<io::Result<_>>()?;
        accept_all()?;
        drop(clients);
        left -= batch;
    }
    Ok(())
}

/// A socket that shares its address with others like it.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BATCH as i32 * 2)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A connection, if one waits.
fn accept(socket: &TcpListener) -> io::Result<Option<TcpStream>> {
    match socket.accept() {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
