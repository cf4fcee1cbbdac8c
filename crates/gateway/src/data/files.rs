//! Files: found, and sent.
//!
//! A core looks for a file and reads it as far as the kernel can do that from memory; where it cannot, a thread does it
//! ([`super::disk`]). On a connection without TLS all but the beginning of a large file goes from the kernel's memory to the
//! socket by `sendfile`, after each window was seen to be in memory or has been read by a thread. Otherwise it is copied
//! through one buffer. So nothing holds more of a file than a buffer, however large it is and however slow its client.
//!
//! The length is that of the moment when the file was opened. If it turns out shorter, the connection is cut: what was
//! promised cannot be sent, and anything else would be taken for it.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http1::{Method, Version, write};
use net::{Buffer, Deadline, Writer};
use rustix::io::Errno;
use tokio::net::TcpStream;
use vocab::ErrorCode;

use super::account::Account;
use super::act::Act;
use super::connection::{LINGER_TIME, Link};
use super::core::Core;
use super::ends::ClientSink;
use super::io::{self, Wait};
use super::relay::{Broken, SPLICE_BYTES_MIN, client};
use super::reply;
use super::scratch::Scratch;
use crate::action::Prepared;
use crate::files::{self, Files, Found, Missed, Serving};
use crate::router::{self, Route};
use crate::state::Served;

/// Time for a disk to answer.
const DISK_TIME: Duration = Duration::from_secs(30);

/// Bytes that are seen to be in memory, and then sent by the kernel. A system call's cost is lost in as many; and a thread
/// that has to read them first is done soon.
const WINDOW_BYTES: u64 = 256 * 1024;

/// Where a window is looked at: the kernel reads ahead, and forgets, by stretches of this order.
const LOOK_BYTES: u64 = 64 * 1024;

/// Finds what a request asks for. `target` is what it asks for instead of its own, if that was rewritten.
///
/// # Errors
/// The answer, where nothing of a file is sent.
pub(crate) async fn find(
    with: &Act<'_, '_>,
    files: &Arc<Files>,
    target: Option<&[u8]>,
) -> Result<Box<Serving>, Box<Prepared>> {
    let &Act { link, route, asked, .. } = with;
    let (core, method) = (link.core, &asked.request.method);
    if !matches!(method, Method::Get | Method::Head) {
        return Err(files::wrong_method());
    }
    let normal = target.map(router::normal_path);
    let path = match &normal {
        None => asked.path,
        Some(Some(path)) => path,
        Some(None) => return Err(Box::new(Prepared::bad_request("the path leads to no file"))),
    };
    let Ok(below) = files::below(path, files.hidden) else {
        route.state.served(core.id, Served::Refused);
        return Err(files::missing());
    };
    let sought = files.sought(below, asked);
    let (found, from_disk) = match files.look_up(&sought, true) {
        Err(Missed::Later) => {
            let due = with.started + route.timeout.map_or(DISK_TIME, |timeout| timeout.min(DISK_TIME));
            let files = Arc::clone(files);
            let looked = core.disk.run((link.deadline, due), move || files.look_up(&sought, false)).await;
            (looked.unwrap_or(Err(Missed::Failed(Errno::TIMEDOUT))), true)
        }
        found => (found, false),
    };
    let edits = route.actions.as_deref().map(|actions| &actions.response);
    let served = if from_disk { Served::Disk } else { Served::Memory };
    let (served, answer) = match found {
        Ok(Found::File(file)) => {
            let random = core.random.borrow_mut().u128(..);
            match files::answer(file, asked, (edits, files.varies()), SystemTime::now(), random) {
                Ok(serving) => return Ok(Box::new(Serving { from_disk, ..*serving })),
                Err(prepared) => (served, prepared),
            }
        }
        Ok(Found::Directory) => (served, with_slash(asked.path, asked.query())),
        Err(Missed::Outside) => (Served::Refused, files::missing()),
        Err(Missed::Missing | Missed::Directory) => (Served::Missing, files::missing()),
        Err(Missed::Later | Missed::Failed(_)) => (Served::Failed, unavailable()),
    };
    route.state.served(core.id, served);
    Err(answer)
}

/// Sends a client to its path with a slash behind it. It stays on this host: no second slash may stand at the beginning, nor
/// a backslash, which browsers read as one.
fn with_slash(path: &[u8], query: &[u8]) -> Box<Prepared> {
    let mut location = vec![b'/'];
    let slashes = path.iter().take_while(|&&b| b == b'/').count();
    for &byte in &path[slashes..] {
        match byte {
            b'\\' => location.extend_from_slice(b"%5C"),
            byte => location.push(byte),
        }
    }
    location.push(b'/');
    if !query.is_empty() {
        location.push(b'?');
        location.extend_from_slice(query);
    }
    let mut fields = Vec::new();
    write::field(&mut fields, b"Location", &location);
    Box::new(Prepared::new(301, fields))
}

fn unavailable() -> Box<Prepared> {
    let code = ErrorCode::FileUnavailable;
    Box::new(Prepared::error(code, reply::message(code)))
}

/// Sends a file, head and body. False when it broke off.
pub(crate) async fn send(
    link: &mut Link<'_>,
    scratch: &mut Scratch,
    account: &mut Account,
    (serving, route): (&Serving, Option<&Route>),
    keep_alive: bool,
) -> bool {
    let core = link.core;
    let out = &mut scratch.to_client;
    write_head(out, serving, (scratch.request.version, keep_alive), &scratch.added);
    account.status = Some(serving.status);
    account.head_sent += out.len() as u64;
    let local = core.local();
    let pause = local.listener(&link.state.listener).map_or(LINGER_TIME, |view| view.params.write_timeout);
    let mut sending = Sending {
        core,
        file: &serving.file,
        buffer: core.bodies.take(),
        deadline: link.deadline,
        pause,
        by_kernel: true,
        from_disk: serving.from_disk,
        sent: 0,
    };
    let sent = if scratch.request.method == Method::Head {
        link.sink.whole(out, Wait::after(link.deadline, pause)).await.map_err(client)
    } else {
        sending.run(&mut link.sink, out, serving).await
    };
    account.body_sent += sending.sent;
    let served = match &sent {
        Err(Broken::Upstream(_)) => Served::Failed,
        _ if sending.from_disk => Served::Disk,
        _ => Served::Memory,
    };
    if let Some(route) = route {
        route.state.served(core.id, served);
    }
    match sent {
        Ok(()) => return true,
        Err(Broken::Unread) => account.error = Some(ErrorCode::WriteTimeout),
        Err(Broken::Upstream(code)) => {
            account.error = Some(code);
            link.sink.cut(false);
        }
        Err(Broken::Client | Broken::OutOfTime) => {}
    }
    false
}

fn write_head(out: &mut Vec<u8>, serving: &Serving, (version, keep_alive): (Version, bool), added: &[u8]) {
    out.clear();
    write::status_line(out, serving.status, reply::reason(serving.status).as_bytes());
    write::content_length(out, serving.length);
    out.extend_from_slice(&serving.fields);
    out.extend_from_slice(added);
    if !keep_alive {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if version == Version::Http10 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// A file on its way.
struct Sending<'s> {
    core: &'s Core,
    file: &'s Arc<File>,
    buffer: Buffer,
    deadline: &'s Deadline,
    /// Longest pause of the client.
    pause: Duration,
    /// Whether the kernel may send it by itself, as far as is known.
    by_kernel: bool,
    /// Whether the disk had to be read.
    from_disk: bool,
    /// Bytes of the body that went out.
    sent: u64,
}

/// The file is not what it was, or cannot be read.
const UNREADABLE: Broken = Broken::Upstream(ErrorCode::FileUnavailable);

impl Sending<'_> {
    /// Sends the head, which is in `out`, and the body.
    async fn run(&mut self, sink: &mut ClientSink<'_>, out: &mut Vec<u8>, serving: &Serving) -> Result<(), Broken> {
        if let ClientSink::Stream(responder) = sink {
            responder.begin(out, serving.length == 0).map_err(client)?;
            out.clear();
        }
        for (index, piece) in serving.pieces.iter().enumerate() {
            out.extend_from_slice(&piece.before);
            self.sent += piece.before.len() as u64;
            let is_last = index + 1 == serving.pieces.len() && serving.after.is_empty();
            self.range(sink, out, &piece.range, is_last).await?;
        }
        out.extend_from_slice(&serving.after);
        self.sent += serving.after.len() as u64;
        if out.is_empty() {
            return Ok(());
        }
        self.buffer.clear();
        self.put(sink, out, true).await
    }

    /// Sends what is in `out`, and then a range of the file. `is_last` tells that the body ends with it.
    async fn range(
        &mut self,
        sink: &mut ClientSink<'_>,
        out: &mut Vec<u8>,
        range: &Range<u64>,
        is_last: bool,
    ) -> Result<(), Broken> {
        let mut at = range.start;
        while at < range.end {
            let rest = range.end - at;
            // Behind the first copy, which takes the head along.
            let socket = match sink {
                ClientSink::Wire(Writer::Bare(half)) if self.by_kernel && out.is_empty() => Some((*half).as_ref()),
                _ => None,
            };
            if let Some(socket) = socket.filter(|_| rest >= SPLICE_BYTES_MIN) {
                let moved = self.by_kernel(socket, at, rest.min(WINDOW_BYTES)).await?;
                at += moved;
                self.sent += moved;
                if moved > 0 {
                    continue;
                }
            }
            let count = self.fill(at, rest).await?;
            at += count;
            self.sent += count;
            self.put(sink, out, is_last && at == range.end).await?;
        }
        Ok(())
    }

    /// Sends what is in `out` and in the buffer.
    async fn put(&mut self, sink: &mut ClientSink<'_>, out: &mut Vec<u8>, ends: bool) -> Result<(), Broken> {
        let wait = Wait::after(self.deadline, self.pause);
        let data = self.buffer.filled();
        match sink {
            ClientSink::Wire(writer) => io::write_all(writer, out, data, wait).await.map_err(client)?,
            ClientSink::Stream(responder) => {
                let body = responder.body().map_err(client)?;
                if !out.is_empty() {
                    body.send(out, ends && data.is_empty(), Some(wait)).await.map_err(client)?;
                }
                if !data.is_empty() {
                    body.send(data, ends, Some(wait)).await.map_err(client)?;
                }
            }
            ClientSink::Nobody | ClientSink::Kept(_) | ClientSink::Fill(_) => return Err(Broken::Client),
        }
        out.clear();
        Ok(())
    }

    /// Fills the buffer from a place on, where the file has at least so many bytes left: how many, at least one.
    async fn fill(&mut self, at: u64, rest: u64) -> Result<u64, Broken> {
        self.buffer.clear();
        let limit = usize::try_from(rest).map_or(self.buffer.room(), |rest| rest.min(self.buffer.room()));
        let filled = self.buffer.fill_with(limit, |room| files::read_now(self.file, room, at));
        let count = match filled {
            Ok(count) => count,
            Err(error) if must_wait(error) => {
                self.from_disk = true;
                let file = Arc::clone(self.file);
                let bytes = self.on_thread(move || files::read(&file, at, limit)).await?;
                self.buffer.extend(&bytes);
                bytes.len()
            }
            Err(_) => return Err(UNREADABLE),
        };
        if count == 0 { Err(UNREADABLE) } else { Ok(count as u64) }
    }

    /// Has the kernel send a window: how many bytes it has sent, 0 if it cannot.
    async fn by_kernel(&mut self, socket: &TcpStream, at: u64, bytes: u64) -> Result<u64, Broken> {
        if !self.warm(at, bytes).await? {
            self.by_kernel = false;
            return Ok(0);
        }
        let mut moved = 0;
        while moved < bytes {
            let wait = Wait::after(self.deadline, self.pause);
            let (offset, limit) = (at + moved, (bytes - moved) as usize);
            let sent = wait.until_ready(|cx| net::poll_send_file(socket, self.file, offset, limit, cx)).await;
            match sent {
                Ok(0) => return Err(UNREADABLE),
                Ok(count) => moved += count as u64,
                // Of a file system that has no such thing.
                Err(io::Stalled::Broken(error)) if moved == 0 && error.kind() == std::io::ErrorKind::InvalidInput => {
                    self.by_kernel = false;
                    return Ok(0);
                }
                Err(stalled) => return Err(client(stalled)),
            }
        }
        Ok(moved)
    }

    /// Sees to it that a window is in memory. False when the file system does not tell, so that the kernel might wait.
    async fn warm(&mut self, at: u64, bytes: u64) -> Result<bool, Broken> {
        let looks = (at..at + bytes).step_by(LOOK_BYTES as usize).chain([at + bytes - 1]);
        for look in looks {
            match files::read_now(self.file, &mut [0], look) {
                Ok(_) => {}
                Err(Errno::AGAIN) => {
                    self.from_disk = true;
                    let file = Arc::clone(self.file);
                    // What was read is dropped: it is in the kernel's memory now.
                    self.on_thread(move || files::read(&file, at, bytes as usize)).await?;
                    return Ok(true);
                }
                Err(error) if must_wait(error) => return Ok(false),
                Err(_) => return Err(UNREADABLE),
            }
        }
        Ok(true)
    }

    /// Reads on a thread.
    async fn on_thread(
        &self,
        read: impl FnOnce() -> std::io::Result<Vec<u8>> + Send + 'static,
    ) -> Result<Vec<u8>, Broken> {
        let due = Instant::now() + DISK_TIME;
        let read = self.core.disk.run((self.deadline, due), read).await;
        read.map_err(|_| UNREADABLE)?.map_err(|_| UNREADABLE)
    }
}

/// Whether an error says that only a thread can read this.
fn must_wait(error: Errno) -> bool {
    matches!(error, Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)
}
