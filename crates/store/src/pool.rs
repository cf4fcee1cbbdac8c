//! Buffers of bodies, which are used again.
//!
//! Allocators keep a heap for each thread, and what one core takes and another gives back leaves a hole in the heap of the first: each
//! heap grows to what it ever held at once. With a cache of 32 MiB and four cores those holes were more than half of it, and grew. So
//! chunks, and last ones of some size, go around here, whoever used them last. What is too many is given back to the system itself, which
//! the heap of an allocator cannot do in its middle. They stand in a file in memory (`arena`), from which they can be sent without a
//! copy; where there is none, buffers of a small cache are mappings of their own.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;
use memmap2::MmapMut;

use crate::arena::{Arena, InFile, PAGE_BYTES, SLOT_BYTES, Slot};
use crate::object::CHUNK_BYTES;
use crate::sync::Mutex;

/// Of the memory, so much may lie here unused.
const SPARE_SHARE: u64 = 16;
/// More than that does not make the work less.
const SPARE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// In larger caches holes even out, and a process has no more than some 65,000 mappings on most systems.
const BYTES_MAX_TO_MAP: u64 = 512 * 1024 * 1024;
/// What is smaller is the allocator's alone.
const BYTES_MIN: usize = 16 * 1024;
/// Sizes are multiples of a page, and that of a chunk is the largest.
const SIZES: usize = CHUNK_BYTES.div_ceil(PAGE_BYTES);
const _: () = assert!(SIZES * PAGE_BYTES <= SLOT_BYTES, "a slot holds a chunk");

#[derive(Debug)]
pub(crate) struct Pool {
    spare: Mutex<Spare>,
    spare_bytes_max: usize,
    arena: Option<Arc<Arena>>,
    /// Whether what is in no arena is a mapping of its own.
    maps: bool,
}

/// Buffers that nobody uses.
#[derive(Debug)]
struct Spare {
    /// Those of a page, of two, and so on.
    by_size: [Vec<Room>; SIZES],
    bytes: usize,
}

#[derive(Debug)]
enum Room {
    InFile(Slot),
    Mapped(MmapMut),
    Allocated(Box<[u8]>),
}

impl Deref for Room {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::InFile(bytes) => bytes,
            Self::Mapped(bytes) => bytes,
            Self::Allocated(bytes) => bytes,
        }
    }
}

impl DerefMut for Room {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::InFile(bytes) => bytes,
            Self::Mapped(bytes) => bytes,
            Self::Allocated(bytes) => bytes,
        }
    }
}

impl Room {
    /// Whether somebody may read it still, though nobody has it.
    fn may_be_in_flight(&self) -> bool {
        matches!(self, Self::InFile(slot) if slot.was_sent())
    }
}

impl Pool {
    /// For a store of so many bytes.
    pub(crate) fn new(memory_bytes: u64) -> Arc<Self> {
        let spare_bytes_max = (memory_bytes / SPARE_SHARE).min(SPARE_BYTES_MAX) as usize;
        Self::with(spare_bytes_max, Arena::new(memory_bytes), memory_bytes <= BYTES_MAX_TO_MAP)
    }

    fn with(spare_bytes_max: usize, arena: Option<Arc<Arena>>, maps: bool) -> Arc<Self> {
        let spare = Spare { by_size: std::array::from_fn(|_| Vec::new()), bytes: 0 };
        Arc::new(Self { spare: Mutex::new(spare), spare_bytes_max, arena, maps })
    }

    /// Where a piece of a body stands that is about to be sent, if it is in a file.
    pub(crate) fn place<'p>(&self, piece: &'p [u8]) -> Option<InFile<'p>> {
        self.arena.as_ref()?.place(piece)
    }

    /// An empty buffer with room for a chunk.
    pub(crate) fn take(self: &Arc<Self>) -> Buffer {
        self.take_for(CHUNK_BYTES)
    }

    fn take_for(self: &Arc<Self>, bytes: usize) -> Buffer {
        let pages = bytes.div_ceil(PAGE_BYTES);
        let spare = self.spare.lock().take(pages);
        let room = spare.unwrap_or_else(|| self.new_room(pages * PAGE_BYTES));
        Buffer { room: Some(room), bytes: 0, pool: Arc::clone(self) }
    }

    fn new_room(&self, bytes: usize) -> Room {
        if let Some(slot) = self.arena.as_ref().and_then(|arena| arena.take(bytes / PAGE_BYTES)) {
            return Room::InFile(slot);
        }
        let mapped = if self.maps { MmapMut::map_anon(bytes).ok() } else { None };
        mapped.map_or_else(|| Room::Allocated(vec![0; bytes].into_boxed_slice()), Room::Mapped)
    }

    fn give_back(&self, room: Room) {
        if room.may_be_in_flight() {
            return drop(room);
        }
        let mut spare = self.spare.lock();
        if spare.bytes + room.len() <= self.spare_bytes_max {
            spare.bytes += room.len();
            spare.by_size[room.len() / PAGE_BYTES - 1].push(room);
        } else {
            drop(spare);
            // Freed beside the lock.
            drop(room);
        }
    }

    /// Cuts a body into chunks, each in an allocation of its own.
    pub(crate) fn cut(self: &Arc<Self>, body: &[u8]) -> Box<[Bytes]> {
        body.chunks(CHUNK_BYTES).map(|data| self.chunk(data)).collect()
    }

    /// A chunk of a body, which may be its last.
    fn chunk(self: &Arc<Self>, data: &[u8]) -> Bytes {
        if data.len() < BYTES_MIN {
            return Bytes::copy_from_slice(data);
        }
        let mut buffer = self.take_for(data.len());
        buffer.extend(data);
        Bytes::from_owner(buffer)
    }
}

impl Spare {
    fn take(&mut self, pages: usize) -> Option<Room> {
        let room = self.by_size[pages - 1].pop()?;
        self.bytes -= room.len();
        Some(room)
    }
}

/// Room for a chunk, which goes back when nobody needs it.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// There until it is dropped.
    room: Option<Room>,
    bytes: usize,
    pool: Arc<Pool>,
}

impl Buffer {
    /// Bytes that it takes still, of a chunk.
    pub(crate) fn room(&self) -> usize {
        CHUNK_BYTES - self.bytes
    }

    /// What is in it, in a buffer of its size.
    pub(crate) fn copied(&self) -> Bytes {
        self.pool.chunk(self.as_ref())
    }

    /// Adds no more than there is room for.
    pub(crate) fn extend(&mut self, data: &[u8]) {
        if let Some(room) = &mut self.room {
            room[self.bytes..][..data.len()].copy_from_slice(data);
            self.bytes += data.len();
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.room.as_ref().map_or(&[], |room| &room[..self.bytes])
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(room) = self.room.take() {
            self.pool.give_back(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_and_few_are_kept() {
        let check = |arena: Option<Arc<Arena>>, maps: bool| {
            let pool = Pool::with(3 * SIZES * PAGE_BYTES, arena, maps);
            let chunk = pool.chunk(&[1; CHUNK_BYTES]);
            let (place, clone) = (chunk.as_ptr(), chunk.slice(5..));
            drop(chunk);
            assert_eq!(pool.spare.lock().bytes, 0, "it is in use still");
            drop(clone);
            let again = pool.chunk(&[2; CHUNK_BYTES]);
            assert_eq!((again.as_ptr(), &again[..]), (place, &[2; CHUNK_BYTES][..]));
            drop((0..10).map(|_| pool.take()).collect::<Vec<_>>());
            assert_eq!(pool.spare.lock().bytes, 3 * SIZES * PAGE_BYTES);
            let cut = pool.cut(&[3; CHUNK_BYTES + 20_000]);
            assert_eq!((cut[0].as_ptr() == place, &cut[1][..]), (false, &[3; 20_000][..]), "that one is in use");
            drop(cut);
            assert_eq!(pool.spare.lock().bytes, 3 * SIZES * PAGE_BYTES, "there is no place for the second");
            let mut buffer = pool.take();
            drop(pool.chunk(&[4; 20_000]));
            assert_eq!(pool.spare.lock().by_size[4].len(), 1);
            buffer.extend(b"ab");
            buffer.extend(b"c");
            assert_eq!((buffer.as_ref(), buffer.room()), (&b"abc"[..], CHUNK_BYTES - 3));
            assert_eq!(buffer.copied(), &b"abc"[..]);
        };
        loom::model(move || {
            check(None, true);
            check(None, false);
            check(Arena::new(1 << 20), true);
        });
    }

    #[test]
    fn what_was_sent_is_not_written_to_again() {
        loom::model(|| {
            let pool = Pool::with(1 << 20, Arena::new(1 << 20), true);
            let chunk = pool.chunk(&[1; CHUNK_BYTES]);
            assert!(pool.place(&chunk[100..]).is_some());
            drop(chunk);
            assert_eq!(pool.spare.lock().bytes, 0, "its pages may be on their way");
            let other = pool.chunk(&[2; CHUNK_BYTES]);
            drop(other);
            assert_eq!(pool.spare.lock().bytes, SIZES * PAGE_BYTES);
            assert!(pool.place(b"elsewhere").is_none());
        });
    }
}
