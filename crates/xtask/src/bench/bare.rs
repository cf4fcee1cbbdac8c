//! A proxy for TCP that does nothing but splice: what passing bytes through costs before anything is made of it.
//!
//! One thread, edge-triggered, a pipe for each direction. It has no timeouts, counts nothing, balances nothing and
//! ignores most errors, so it is of no use but as a measure.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use anyhow::Result;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::net::Shutdown;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

/// Most bytes of one call.
const CALL_BYTES_MAX: usize = 1 << 20;
/// Events taken at once.
const EVENTS: usize = 128;

/// One direction of a connection.
struct Direction {
    from: Rc<TcpStream>,
    to: Rc<TcpStream>,
    pipe: (OwnedFd, OwnedFd),
    filled: usize,
    ended: bool,
}

/// Passes connections on, for ever.
///
/// # Errors
/// When it cannot listen, or out of descriptors.
pub fn splice_connections(listen: SocketAddr, upstream: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen)?;
    let events = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&events, &listener, EventData::new_u64(u64::MAX), EventFlags::IN)?;
    let mut open: HashMap<RawFd, Rc<RefCell<[Direction; 2]>>> = HashMap::new();
    let mut came = [const { Event { flags: EventFlags::empty(), data: EventData::new_u64(0) } }; EVENTS];
    loop {
        let count = epoll::wait(&events, &mut came, None)?;
        for event in &came[..count] {
            if event.data.u64() == u64::MAX {
                let (client, endpoint) = (Rc::new(listener.accept()?.0), Rc::new(TcpStream::connect(upstream)?));
                let both =
                    Rc::new(RefCell::new([Direction::new(&client, &endpoint)?, Direction::new(&endpoint, &client)?]));
                for socket in [&client, &endpoint] {
                    socket.set_nodelay(true)?;
                    socket.set_nonblocking(true)?;
                    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
                    epoll::add(&events, socket.as_fd(), EventData::new_u64(socket.as_raw_fd() as u64), flags)?;
                    open.insert(socket.as_raw_fd(), Rc::clone(&both));
                }
                continue;
            }
            let Some(both) = open.get(&(event.data.u64() as RawFd)).cloned() else { continue };
            let mut directions = both.borrow_mut();
            let broke = directions.iter_mut().any(|direction| direction.advance().is_err());
            if broke || directions.iter().all(|direction| direction.ended) {
                open.remove(&directions[0].from.as_raw_fd());
                open.remove(&directions[1].from.as_raw_fd());
            }
        }
    }
}

impl Direction {
    fn new(from: &Rc<TcpStream>, to: &Rc<TcpStream>) -> Result<Self> {
        let pipe = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        Ok(Self { from: Rc::clone(from), to: Rc::clone(to), pipe, filled: 0, ended: false })
    }

    /// Moves all that there is.
    fn advance(&mut self) -> io::Result<()> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let now = |result: rustix::io::Result<usize>| match result {
            Ok(count) => Ok(Some(count)),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(io::Error::from(error)),
        };
        while !self.ended {
            if self.filled == 0 {
                let Some(count) = now(splice(&*self.from, None, &self.pipe.1, None, CALL_BYTES_MAX, flags))? else {
                    return Ok(());
                };
                if count == 0 {
                    self.ended = true;
                    rustix::net::shutdown(&*self.to, Shutdown::Write)?;
                }
                self.filled = count;
            }
            while self.filled > 0 {
                let Some(count) = now(splice(&self.pipe.0, None, &*self.to, None, self.filled, flags))? else {
                    return Ok(());
                };
                self.filled -= count;
            }
        }
        Ok(())
    }
}
