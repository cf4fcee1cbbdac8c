//! Writes to several sockets by one system call: `io_submit`, which was made for disks. What it is given for a socket it does before it returns,
//! as `write` would. Containers that forbid `io_uring` mostly allow it.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::SendFlags;

/// Writes of one call at most.
pub(super) const WRITES_MAX: usize = 64;

/// What is written to whom.
type Write<'w> = (BorrowedFd<'w>, &'w [u8]);

/// What became of each write, in their order.
type Outcomes = [Result<usize, Errno>; WRITES_MAX];

/// `IOCB_CMD_PWRITE` of `linux/aio_abi.h`: of what has no positions, such as a socket, at 0.
const WRITE: u16 = 1;

/// `struct iocb` of `linux/aio_abi.h`, of a little-endian machine.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Request {
    data: u64,
    key: u32,
    write_flags: i32,
    operation: u16,
    priority: i16,
    fd: u32,
    bytes: u64,
    count: u64,
    position: i64,
    reserved: u64,
    flags: u32,
    event_fd: u32,
}

/// `struct io_event` of `linux/aio_abi.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Event {
    data: u64,
    request: u64,
    result: i64,
    more: i64,
}

/// What the system keeps of writes that it was given.
#[derive(Debug)]
pub(super) struct Queue {
    number: libc::c_ulong,
    requests: Box<[Request; WRITES_MAX]>,
    events: Box<[Event; WRITES_MAX]>,
}

impl Queue {
    /// # Errors
    /// When the system does not have it, forbids it, or has given too many.
    pub(super) fn new() -> Result<Self, Errno> {
        if cfg!(target_endian = "big") {
            return Err(Errno::NOSYS);
        }
        let mut number: libc::c_ulong = 0;
        // SAFETY: it writes one number, for which there is room.
        let failed = unsafe { libc::syscall(libc::SYS_io_setup, WRITES_MAX, &raw mut number) } != 0;
        if failed {
            return Err(last_error());
        }
        Ok(Self {
            number,
            requests: Box::new([Request::default(); WRITES_MAX]),
            events: Box::new([Event::default(); WRITES_MAX]),
        })
    }

    /// Writes as many as it takes, in order: how many, and what became of each.
    fn write<'w>(&mut self, writes: impl Iterator<Item = Write<'w>>, outcomes: &mut Outcomes) -> usize {
        let mut list = [std::ptr::null_mut::<Request>(); WRITES_MAX];
        let mut wanted = 0;
        for ((request, place), (fd, bytes)) in self.requests.iter_mut().zip(&mut list).zip(writes) {
            let (fd, count, data) = (fd.as_raw_fd() as u32, bytes.len() as u64, wanted as u64);
            let bytes = bytes.as_ptr().expose_provenance() as u64;
            *request = Request { data, operation: WRITE, fd, bytes, count, ..Request::default() };
            *place = request;
            wanted += 1;
        }
        // SAFETY: the list has so many places, each of which is that of a request, whose bytes and descriptor are borrowed until this returns, and
        // nothing of it is used after that: all that was begun is waited for below.
        let begun = unsafe { libc::syscall(libc::SYS_io_submit, self.number, wanted, list.as_mut_ptr()) };
        let begun = usize::try_from(begun).unwrap_or(0);
        self.wait(begun, outcomes);
        begun
    }

    /// What became of so many writes that were begun.
    fn wait(&mut self, begun: usize, outcomes: &mut Outcomes) {
        let mut ended = 0;
        while ended < begun {
            let (least, most, events) = (begun - ended, WRITES_MAX, self.events.as_mut_ptr());
            let forever = std::ptr::null_mut::<libc::timespec>();
            // SAFETY: there is room for so many events.
            let count = unsafe { libc::syscall(libc::SYS_io_getevents, self.number, least, most, events, forever) };
            let Ok(count) = usize::try_from(count) else {
                if last_error() == Errno::INTR {
                    continue;
                }
                // It knows the queue, and there is room: nothing else can be wrong.
                std::process::abort();
            };
            for event in &self.events[..count] {
                outcomes[event.data as usize] = match usize::try_from(event.result) {
                    Ok(count) => Ok(count),
                    Err(_) => Err(Errno::from_raw_os_error(-event.result as i32)),
                };
            }
            ended += count;
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: nothing that it was given is under way.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.number) };
    }
}

/// Writes to each socket once, and says what became of that, in their order. By one call as far as there is a queue for that, and it takes them.
pub(super) fn write_each<'w>(
    queue: Option<&mut Queue>,
    writes: impl ExactSizeIterator<Item = Write<'w>> + Clone,
) -> Outcomes {
    let mut outcomes = [Err(Errno::IO); WRITES_MAX];
    let together = match queue {
        Some(queue) if writes.len() > 1 => queue.write(writes.clone(), &mut outcomes),
        _ => 0,
    };
    if together == writes.len() {
        return outcomes;
    }
    for (outcome, (fd, bytes)) in outcomes.iter_mut().zip(writes).skip(together) {
        *outcome = rustix::net::send(fd, bytes, SendFlags::NOSIGNAL);
    }
    outcomes
}

fn last_error() -> Errno {
    std::io::Error::last_os_error().raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}
