//! A client's connection, read from its beginning and with an eye on what is sent over it.
//!
//! HTTP/2 has many frames that ask for work and carry nothing: settings, pings, priorities, windows. No client needs
//! many of them beside its requests. So what comes is held against what it brings: a client may send a mebibyte or two
//! that is neither a head nor a body, and then so much each second. One that sends more is cut. Settings count for more than
//! their octets, as each of them is applied and acknowledged, and nobody has reason to change them often.
//!
//! What comes fast is read in portions, with the core's other tasks in between.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use net::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that may come without bringing anything: all that a client may send of bodies before they are taken, and as
/// much again.
const LEVEL_MAX: i64 = 2 << 20;

/// Bytes that are forgiven each second. Some thousand pings; a client sends one in many seconds.
const FORGIVEN_PER_SEC: i64 = 64 << 10;

/// Bytes sent for which a byte more may come: windows are opened again as bodies are read, and pings are answered.
const SENT_PER_BYTE: i64 = 32;

/// Bytes that a frame of SETTINGS counts for beside its own: some hundred of them are too many.
const SETTINGS_BYTES: usize = 4 << 10;

/// Bytes after which others have their turn. As frames of a few octets they are half a millisecond's work.
const PORTION_BYTES: usize = 32 << 10;

/// How much a client may still send that brings nothing.
#[derive(Debug)]
pub(crate) struct Meter {
    level: Cell<i64>,
    at: Cell<Instant>,
}

impl Default for Meter {
    fn default() -> Self {
        Self { level: Cell::new(LEVEL_MAX), at: Cell::new(Instant::now()) }
    }
}

impl Meter {
    /// So many bytes of what came were a head or a body.
    pub(crate) fn credit(&self, bytes: usize) {
        self.level.set((self.level.get() + bytes as i64).min(LEVEL_MAX));
    }

    /// Whether too much has come.
    pub(crate) fn is_spent(&self) -> bool {
        self.level.get() < 0
    }

    fn charge(&self, bytes: usize) {
        self.level.set(self.level.get() - bytes as i64);
        if self.is_spent() {
            // Only a client that is about to be cut has the clock looked at.
            let now = Instant::now();
            let millis = now.saturating_duration_since(self.at.get()).as_millis() as i64;
            self.at.set(now);
            self.level.set((self.level.get() + millis * FORGIVEN_PER_SEC / 1000).min(LEVEL_MAX));
        }
    }

    fn sent(&self, bytes: usize) {
        self.credit((bytes as i64 / SENT_PER_BYTE) as usize);
    }
}

/// Octets of the preface, and where the first frame's type and flags are behind it.
const PREFACE_LEN: usize = 24;
const FIRST_TYPE: usize = PREFACE_LEN + 3;
const FIRST_FLAGS: usize = PREFACE_LEN + 4;
/// A frame's type.
const SETTINGS: u8 = 4;

/// A connection that is read from its beginning, and metered.
#[derive(Debug)]
pub(crate) struct Metered {
    early: Vec<u8>,
    stream: Stream,
    meter: Rc<Meter>,
    /// How many octets were read, until the first frame is known to be what it has to be.
    begun: usize,
    frames: Frames,
    /// Bytes read since others had their turn.
    portion: usize,
}

/// Where frames begin in what is read.
#[derive(Debug)]
struct Frames {
    /// Octets before the next frame.
    before: usize,
    /// What has come of its length and type.
    head: [u8; 4],
    come: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self { before: PREFACE_LEN, head: [0; 4], come: 0 }
    }
}

impl Frames {
    /// How many frames of SETTINGS have begun in what was read last.
    fn settings_in(&mut self, mut read: &[u8]) -> usize {
        let mut found = 0;
        loop {
            let skipped = self.before.min(read.len());
            self.before -= skipped;
            let Some((&octet, rest)) = read[skipped..].split_first() else { return found };
            read = rest;
            self.head[self.come] = octet;
            self.come += 1;
            if self.come == self.head.len() {
                let [a, b, c, kind] = self.head;
                found += usize::from(kind == SETTINGS);
                // Flags and the stream's number are between the type and the payload.
                self.before = 5 + u32::from_be_bytes([0, a, b, c]) as usize;
                self.come = 0;
            }
        }
    }
}

impl Metered {
    /// A connection whose first bytes are `early`.
    pub(crate) fn new(early: Vec<u8>, stream: Stream, meter: Rc<Meter>) -> Self {
        Self { early, stream, meter, begun: 0, frames: Frames::default(), portion: 0 }
    }

    fn checked(&mut self, read: &[u8]) -> io::Result<()> {
        let settings = self.frames.settings_in(read);
        if settings > 0 {
            self.meter.charge(settings * SETTINGS_BYTES);
        }
        let is_known = self.begun > FIRST_FLAGS;
        if is_known || self.begins_well(read) {
            Ok(())
        } else {
            Err(io::Error::other("the first frame is no SETTINGS"))
        }
    }

    /// Whether the first frame is SETTINGS and no acknowledgement, as far as `read` says. The codec takes any frame for
    /// the first, but a client that begins otherwise speaks something else (RFC 9113 section 3.4).
    fn begins_well(&mut self, read: &[u8]) -> bool {
        let octet = |at: usize| at.checked_sub(self.begun).and_then(|at| read.get(at)).copied();
        let fits = octet(FIRST_TYPE).is_none_or(|kind| kind == SETTINGS)
            && octet(FIRST_FLAGS).is_none_or(|flags| flags & 1 == 0);
        self.begun += read.len();
        fits
    }
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = room.filled().len();
        if !self.early.is_empty() {
            let count = self.early.len().min(room.remaining());
            room.put_slice(&self.early[..count]);
            self.early.drain(..count);
            return Poll::Ready(self.checked(&room.filled()[before..]));
        }
        if self.meter.is_spent() {
            return Poll::Ready(Err(io::Error::other("too many frames that bring nothing")));
        }
        if self.portion >= PORTION_BYTES {
            self.portion = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(Pin::new(&mut self.stream).poll_read(cx, room))?;
        let count = room.filled().len() - before;
        self.portion += count;
        self.meter.charge(count);
        Poll::Ready(self.checked(&room.filled()[before..]))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = written {
            self.meter.sent(count);
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        if let Poll::Ready(Ok(count)) = written {
            self.meter.sent(count);
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_found_however_they_are_cut() {
        let frame = |kind: u8, len: u8| [&[0, 0, len, kind, 0, 0, 0, 0, 0][..], &vec![SETTINGS; len.into()]].concat();
        let frames =
            [frame(SETTINGS, 0), frame(1, 200), frame(SETTINGS, 12), frame(0, 0), frame(6, 8), frame(SETTINGS, 0)];
        let bytes = [vec![SETTINGS; PREFACE_LEN], frames.concat()].concat();
        for size in 1..=bytes.len() {
            let mut read = Frames::default();
            let found: usize = bytes.chunks(size).map(|chunk| read.settings_in(chunk)).sum();
            assert_eq!(found, 3, "in pieces of {size}");
        }
    }

    #[test]
    fn few_settings_are_borne_and_many_are_not() {
        let meter = Meter::default();
        (0..100).for_each(|_| meter.charge(9 + SETTINGS_BYTES));
        assert!(!meter.is_spent());
        (0..1000).for_each(|_| meter.charge(9 + SETTINGS_BYTES));
        assert!(meter.is_spent());
    }
}
