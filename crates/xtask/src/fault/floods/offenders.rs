//! Clients that mean harm. Their threads give way to all others, so that what they cost by themselves is not taken for
//! what they cost the gateway.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::thread::gettid;
use socket2::{Domain, Protocol, Socket, Type};

use super::site::{Entry, Site};
use crate::proof;

/// What a connection may send before it counts as one that nobody cuts: many times what any limit allows.
const UNCUT_BYTES: usize = 64 << 20;
/// Time for the gateway to take a piece, or to break the connection off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Between the end of one connection of an offender and its next.
const AGAIN: Duration = Duration::from_millis(100);
/// How often those that are held are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long beyond the gateway's patience they may live: deadlines are looked at now and then, and a connection of
/// HTTP/2 ends in steps.
const LATE: Duration = Duration::from_secs(20);

/// What a client does.
#[derive(Clone)]
pub(super) enum Deed {
    /// Sends the opening, then pieces without end, and does it again once it is cut.
    Send {
        /// Sent first.
        opening: Vec<u8>,
        /// Piece by number.
        piece: fn(u32) -> Vec<u8>,
    },
    /// Sends the opening, then a byte every now and then if told so, and reads nothing, until it is cut.
    Hold {
        /// Sent first.
        opening: Vec<u8>,
        /// Sent now and then.
        trickle: Option<u8>,
        /// Connections opened per second.
        per_sec: u32,
        /// How many requests the opening makes, each of which is counted when it is cut.
        requests: u64,
    },
}

/// How many do it, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// Connections at once.
    pub(super) clients: u32,
    /// Time in which those begin anew that send.
    pub(super) time: Duration,
    /// How long the gateway waits for those that hold.
    pub(super) patience: Duration,
}

/// What became of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offence {
    /// Connections, or requests of those that hold, each of which is to be counted.
    pub(super) offenders: u64,
    /// Those at one time, by the gateway's own count for connections that hold.
    pub(super) at_once: u64,
    /// Those that were not cut.
    pub(super) uncut: u64,
}

/// Does it.
pub(super) fn offend(site: &Site, entry: Entry, deed: &Deed, extent: Extent) -> Result<Offence> {
    let address = site.address(entry);
    match deed {
        Deed::Send { opening, piece } => {
            let until = Instant::now() + extent.time;
            let sums = std::thread::scope(|scope| {
                let threads: Vec<_> =
                    (0..extent.clients).map(|_| scope.spawn(|| send_over(address, opening, *piece, until))).collect();
                let joined = threads.into_iter().map(|thread| thread.join().expect("an offender panicked"));
                joined.collect::<Result<Vec<_>>>()
            })?;
            let (offenders, uncut) = sums.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            Ok(Offence { offenders, at_once: u64::from(extent.clients), uncut })
        }
        Deed::Hold { opening, trickle, per_sec, requests } => {
            proof::give_way(own_thread())?;
            let mut held = open(address, opening, extent.clients, *per_sec)?;
            let begun = Instant::now();
            let mut offence = Offence { offenders: u64::from(extent.clients) * requests, ..Offence::default() };
            loop {
                let clients = site.clients(entry)?.saturating_sub(entry.connections());
                offence.at_once = offence.at_once.max(clients * requests);
                // Of the load's own some may be between two connections, and both counted. At first, those who have
                // connected may not be accepted yet.
                if clients <= 2 && begun.elapsed() > extent.patience / 2 {
                    return Ok(offence);
                }
                if begun.elapsed() > extent.patience * 3 + LATE {
                    return Ok(Offence { uncut: clients * requests, ..offence });
                }
                if let Some(byte) = trickle {
                    // Those that were cut already cannot be written to.
                    held.iter_mut().for_each(|socket| drop(socket.write(&[*byte])));
                }
                std::thread::sleep(LOOK);
            }
        }
    }
}

/// Sends until cut, over and over: how often, and how often without being cut.
fn send_over(address: SocketAddr, opening: &[u8], piece: fn(u32) -> Vec<u8>, until: Instant) -> Result<(u64, u64)> {
    proof::give_way(own_thread())?;
    let (mut connections, mut uncut) = (0, 0);
    while Instant::now() < until {
        let mut stream = TcpStream::connect(address).context("an offender's connection")?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        connections += 1;
        let mut sent = 0;
        let mut ended = stream.write_all(opening).is_err();
        for number in 0.. {
            if ended || sent > UNCUT_BYTES {
                break;
            }
            let bytes = piece(number);
            ended = stream.write_all(&bytes).is_err();
            sent += bytes.len();
        }
        uncut += u64::from(!ended);
        std::thread::sleep(AGAIN);
    }
    Ok((connections, uncut))
}

/// Opens so many connections at an even pace. What they send later must not block, and their buffers are as small as the
/// kernel makes them, so that little of an answer goes into them.
fn open(address: SocketAddr, opening: &[u8], count: u32, per_sec: u32) -> Result<Vec<Socket>> {
    let begun = Instant::now();
    let mut held = Vec::new();
    for at in 0..count {
        std::thread::sleep((Duration::from_secs(1) * at / per_sec).saturating_sub(begun.elapsed()));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_recv_buffer_size(4096)?;
        // Each source address has ports of its own.
        let source = Ipv4Addr::new(127, 0, 0, 2 + (at % 8) as u8);
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect(&address.into()).with_context(|| format!("an offender's connection {at}"))?;
        let sent = (&socket).write(opening).with_context(|| format!("an offender's connection {at}"))?;
        ensure!(sent == opening.len(), "an offender's opening did not fit the socket");
        socket.set_nonblocking(true)?;
        held.push(socket);
    }
    Ok(held)
}

fn own_thread() -> u32 {
    gettid().as_raw_nonzero().get().unsigned_abs()
}
