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
    /// Boxed as they are handed out.
    #[allow(clippy::vec_box)]
    free: RefCell<Vec<Box<Body>>>,
}

/// A buffer: free room, and bytes that were read and are not yet consumed.
///
/// It is one pointer, and so is an `Option` of it: a connection has several, which are mostly none, and hands them on.
#[derive(Debug)]
pub struct Buffer {
    /// There until it is dropped.
    body: Option<Box<Body>>,
}

#[derive(Debug)]
struct Body {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    /// While somebody has it.
    home: Option<Rc<Inner>>,
}

impl Buffers {
    /// Buffers of `bytes` each.
    pub fn new(bytes: usize) -> Self {
        Self { inner: Rc::new(Inner { bytes, free: RefCell::default() }) }
    }

    /// An empty buffer.
    pub fn take(&self) -> Buffer {
        let kept = self.inner.free.borrow_mut().pop();
        let mut body = kept.unwrap_or_else(|| {
            let bytes = vec![0; self.inner.bytes].into_boxed_slice();
            Box::new(Body { bytes, start: 0, end: 0, home: None })
        });
        body.home = Some(Rc::clone(&self.inner));
        Buffer { body: Some(body) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take() else { return };
        let Some(home) = body.home.take() else { return };
        let mut free = home.free.borrow_mut();
        // A buffer that was grown for a large head is not worth keeping.
        if (free.len() + 1) * home.bytes <= KEPT_BYTES_MAX && body.bytes.len() == home.bytes {
            (body.start, body.end) = (0, 0);
            free.push(body);
        }
    }
}

impl Buffer {
    fn body(&self) -> &Body {
        self.body.as_ref().expect("it is there until it is dropped")
    }

    fn body_mut(&mut self) -> &mut Body {
        self.body.as_mut().expect("it is there until it is dropped")
    }

    /// The bytes not yet consumed.
    pub fn filled(&self) -> &[u8] {
        let body = self.body();
        &body.bytes[body.start..body.end]
    }

    /// Whether nothing is left to consume.
    pub fn is_empty(&self) -> bool {
        let body = self.body();
        body.start == body.end
    }

    /// Marks the first `count` bytes as consumed.
    pub fn consume(&mut self, count: usize) {
        let body = self.body_mut();
        debug_assert!(count <= body.end - body.start);
        body.start += count;
        if body.start == body.end {
            (body.start, body.end) = (0, 0);
        }
    }

    /// Forgets everything in it.
    pub fn clear(&mut self) {
        let body = self.body_mut();
        (body.start, body.end) = (0, 0);
    }

    /// Adds bytes that came from elsewhere, growing as needed.
    pub fn extend(&mut self, bytes: &[u8]) {
        let needed = self.filled().len() + bytes.len();
        self.make_room(needed);
        let body = self.body_mut();
        body.bytes[body.end..body.end + bytes.len()].copy_from_slice(bytes);
        body.end += bytes.len();
    }

    /// Sees to it that the buffer can hold `total` bytes beside each other, and has room to read into.
    pub fn make_room(&mut self, total: usize) {
        let body = self.body_mut();
        if body.start > 0 && (body.bytes.len() - body.start < total || body.end == body.bytes.len()) {
            body.bytes.copy_within(body.start..body.end, 0);
            body.end -= body.start;
            body.start = 0;
        }
        if body.bytes.len() < total {
            let mut larger = vec![0; total.next_power_of_two()].into_boxed_slice();
            larger[..body.end].copy_from_slice(&body.bytes[..body.end]);
            body.bytes = larger;
        }
    }

    /// Room left at the end.
    pub fn room(&self) -> usize {
        let body = self.body();
        body.bytes.len() - body.end
    }

    /// Has `read` fill at most `limit` bytes of the room at the end: how many it says it has.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn fill_with<E>(&mut self, limit: usize, read: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<usize, E> {
        let body = self.body_mut();
        let end = body.bytes.len().min(body.end.saturating_add(limit));
        let count = read(&mut body.bytes[body.end..end])?;
        body.end = end.min(body.end + count);
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
        let body = self.body_mut();
        let end = body.bytes.len().min(body.end.saturating_add(limit));
        debug_assert!(end > body.end, "a read without room looks like the end of the stream");
        let mut room = ReadBuf::new(&mut body.bytes[body.end..end]);
        ready!(stream.poll_read(cx, &mut room))?;
        let count = room.filled().len();
        body.end += count;
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
        let address = first.body().bytes.as_ptr();
        drop(first);
        assert_eq!(buffers.take().body().bytes.as_ptr(), address);
    }

    #[test]
    fn a_grown_buffer_is_not_kept() {
        let buffers = Buffers::new(16);
        let mut grown = buffers.take();
        grown.extend(&[1; 40]);
        assert_eq!(grown.filled(), &[1; 40]);
        drop(grown);
        assert_eq!(buffers.take().body().bytes.len(), 16);
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
