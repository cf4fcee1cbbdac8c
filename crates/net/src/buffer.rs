//! Buffers that belong to a core and go back to it.
//!
//! An idle connection holds no buffer. One that reads takes one, and returns it when it has nothing left to read, so
//! the memory that a core needs follows the requests under way and not the connections open.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of buffers kept for reuse at most; more are freed. Every request under way holds a buffer or two, so this is
/// for some hundred requests at once; below that, each would zero a new one.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// A core's buffers of one size.
#[derive(Clone, Debug)]
pub struct Buffers {
    inner: Rc<Inner>,
}

#[derive(Debug)]
struct Inner {
    bytes: usize,
    free: RefCell<Vec<Box<[u8]>>>,
}

/// A buffer: free room, and bytes that were read and are not yet consumed.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    home: Rc<Inner>,
}

impl Buffers {
    /// Buffers of `bytes` each.
    pub fn new(bytes: usize) -> Self {
        Self { inner: Rc::new(Inner { bytes, free: RefCell::default() }) }
    }

    /// An empty buffer.
    pub fn take(&self) -> Buffer {
        let kept = self.inner.free.borrow_mut().pop();
        let bytes = kept.unwrap_or_else(|| vec![0; self.inner.bytes].into_boxed_slice());
        Buffer { bytes, start: 0, end: 0, home: Rc::clone(&self.inner) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.home.free.borrow_mut();
        // A buffer that was grown for a large head is not worth keeping.
        if (free.len() + 1) * self.home.bytes <= KEPT_BYTES_MAX && self.bytes.len() == self.home.bytes {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl Buffer {
    /// The bytes not yet consumed.
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Whether nothing is left to consume.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Marks the first `count` bytes as consumed.
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.end - self.start);
        self.start += count;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Forgets everything in it.
    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Adds bytes that came from elsewhere, growing as needed.
    pub fn extend(&mut self, bytes: &[u8]) {
        let needed = self.filled().len() + bytes.len();
        self.make_room(needed);
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Sees to it that the buffer can hold `total` bytes beside each other, and has room to read into.
    pub fn make_room(&mut self, total: usize) {
        if self.start > 0 && (self.bytes.len() - self.start < total || self.end == self.bytes.len()) {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.bytes.len() < total {
            let mut larger = vec![0; total.next_power_of_two()].into_boxed_slice();
            larger[..self.end].copy_from_slice(&self.bytes[..self.end]);
            self.bytes = larger;
        }
    }

    /// Room left at the end.
    pub fn room(&self) -> usize {
        self.bytes.len() - self.end
    }

    /// Has `read` fill at most `limit` bytes of the room at the end: how many it says it has.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn fill_with<E>(&mut self, limit: usize, read: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<usize, E> {
        let end = self.bytes.len().min(self.end.saturating_add(limit));
        let count = read(&mut self.bytes[self.end..end])?;
        self.end = end.min(self.end + count);
        Ok(count)
    }

    /// Reads what has come, at most `limit` bytes and at most the room at the end: how many, 0 at the end of the
    /// stream. The caller makes room before.
    pub fn poll_fill(
        &mut self,
        stream: Pin<&mut (impl AsyncRead + ?Sized)>,
        limit: usize,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<usize>> {
        let end = self.bytes.len().min(self.end.saturating_add(limit));
        debug_assert!(end > self.end, "a read without room looks like the end of the stream");
        let mut room = ReadBuf::new(&mut self.bytes[self.end..end]);
        ready!(stream.poll_read(cx, &mut room))?;
        let count = room.filled().len();
        self.end += count;
        Poll::Ready(Ok(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_return_to_their_core() {
        let buffers = Buffers::new(16);
        let first = buffers.take();
        let address = first.bytes.as_ptr();
        drop(first);
        assert_eq!(buffers.take().bytes.as_ptr(), address);
    }

    #[test]
    fn a_grown_buffer_is_not_kept() {
        let buffers = Buffers::new(16);
        let mut grown = buffers.take();
        grown.extend(&[1; 40]);
        assert_eq!(grown.filled(), &[1; 40]);
        drop(grown);
        assert_eq!(buffers.take().bytes.len(), 16);
    }

    #[test]
    fn a_buffer_is_filled_up_to_a_limit() {
        let mut buffer = Buffers::new(8).take();
        buffer.extend(b"ab");
        let fill = |room: &mut [u8]| {
            room.fill(b'x');
            Ok::<_, ()>(room.len())
        };
        assert_eq!(buffer.fill_with(3, fill), Ok(3));
        assert_eq!(buffer.fill_with(9, fill), Ok(3));
        assert_eq!(buffer.fill_with(9, fill), Ok(0));
        assert_eq!(buffer.filled(), b"abxxxxxx");
        assert_eq!(buffer.fill_with(1, |_| Err(7)), Err(7));
    }

    #[test]
    fn room_is_made_without_losing_bytes() {
        let mut buffer = Buffers::new(8).take();
        buffer.extend(b"abcdefgh");
        buffer.consume(6);
        buffer.make_room(6);
        assert_eq!((buffer.filled(), buffer.room()), (b"gh".as_slice(), 6));
        buffer.extend(b"ijkl");
        assert_eq!(buffer.filled(), b"ghijkl");
    }
}
