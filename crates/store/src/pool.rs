//! Buffers of bodies, which are used again.
//!
//! Allocators keep a heap for each thread, and what one core takes and another gives back leaves a hole in the heap of the first: each
//! heap grows to what it ever held at once. With a cache of 32 MiB and four cores those holes were more than half of it, and grew. So
//! chunks, and last ones of some size, go around here, whoever used them last. What is too many is given back to the system itself, which
//! the heap of an allocator cannot do in its middle. They stand in a file in memory (`arena`), from which they can be sent without a
//! copy; where there is none, buffers of a small cache are mappings of their own.
//!
//! Chunks of a body whose length is known stand side by side there, up to four of them, so that they are sent by one call. Together they are
//! one lease: it comes back when the last of them goes. Memory is taken as they are filled.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw};

use crate::arena::{Arena, CLASSES, InFile, PAGE_BYTES, SLOT_BYTES_MAX, Slot, class_of};
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
/// Outside of the file, sizes are multiples of a page, and that of a chunk is the largest.
const SIZES: usize = CHUNK_BYTES.div_ceil(PAGE_BYTES);
/// The most that stands side by side: more in a call is worth nothing.
const LEASE_BYTES_MAX: usize = 4 * CHUNK_BYTES;
const _: () = assert!(LEASE_BYTES_MAX <= SLOT_BYTES_MAX, "a slot holds four chunks");
/// So many of the latest slots that came back are looked at for one whose pages are as many as are wanted.
const ALIKE_LOOKS: usize = 8;

#[derive(Debug)]
pub(crate) struct Pool {
    spare: Mutex<Spare>,
    spare_bytes_max: usize,
    arena: Option<Arc<Arena>>,
    /// Whether what is in no arena is a mapping of its own.
    maps: bool,
}

/// Room that nobody uses.
#[derive(Debug)]
struct Spare {
    slots: [Vec<Slot>; CLASSES],
    /// What is in no file: of a page, of two, and so on.
    others: [Vec<Room>; SIZES],
    bytes: usize,
}

enum Room {
    InFile(Slot),
    Mapped(MmapRaw),
    Allocated(Box<[AtomicU8]>),
}

impl Room {
    /// Its first byte. What is there of it may be read and written by whoever has it to itself, for as long as the room lives.
    fn start(&self) -> *mut u8 {
        match self {
            Self::InFile(slot) => slot.start(),
            Self::Mapped(map) => map.as_mut_ptr(),
            Self::Allocated(bytes) => bytes.as_ptr().cast_mut().cast(),
        }
    }

    /// Bytes that are there.
    fn there(&self) -> usize {
        match self {
            Self::InFile(slot) => slot.there(),
            Self::Mapped(map) => map.len(),
            Self::Allocated(bytes) => bytes.len(),
        }
    }

    /// Has so many bytes be there, if they can be.
    fn have(&self, bytes: usize) -> bool {
        match self {
            Self::InFile(slot) => slot.have(bytes),
            Self::Mapped(_) | Self::Allocated(_) => bytes <= self.there(),
        }
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("there", &self.there()).finish_non_exhaustive()
    }
}

impl Pool {
    /// For a store of so many bytes.
    pub(crate) fn new(memory_bytes: u64) -> Arc<Self> {
        let spare_bytes_max = (memory_bytes / SPARE_SHARE).min(SPARE_BYTES_MAX) as usize;
        Self::with(spare_bytes_max, Arena::new(memory_bytes), memory_bytes <= BYTES_MAX_TO_MAP)
    }

    fn with(spare_bytes_max: usize, arena: Option<Arc<Arena>>, maps: bool) -> Arc<Self> {
        let (slots, others) = (std::array::from_fn(|_| Vec::new()), std::array::from_fn(|_| Vec::new()));
        Arc::new(Self { spare: Mutex::new(Spare { slots, others, bytes: 0 }), spare_bytes_max, arena, maps })
    }

    /// Where a piece of a body stands that is about to be sent, if it is in a file.
    pub(crate) fn place<'p>(&'p self, piece: &'p [u8]) -> Option<InFile<'p>> {
        self.arena.as_ref()?.place(piece)
    }

    /// An empty buffer with room for the next chunk of a body, at `ahead` if there is room left; what follows it is `ahead` from then on.
    /// `expected` is how many bytes are still to come, and 0 where nobody knows or they are not to stand side by side.
    pub(crate) fn next(self: &Arc<Self>, ahead: &mut Option<Ahead>, expected: u64) -> Buffer {
        if expected == 0 {
            *ahead = None;
        }
        if let Some(buffer) = ahead.as_mut().and_then(Ahead::next) {
            ahead.take_if(|ahead| ahead.is_empty());
            return buffer;
        }
        // What is short is copied in the end.
        let bytes =
            if expected < BYTES_MIN as u64 { CHUNK_BYTES } else { expected.min(LEASE_BYTES_MAX as u64) as usize };
        if let Some(slot) = self.slot(bytes) {
            let mut begun = Ahead { lease: self.lease(Room::InFile(slot)), at: 0, end: bytes };
            if let Some(buffer) = begun.next() {
                *ahead = Some(begun).filter(|begun| !begun.is_empty());
                return buffer;
            }
        }
        *ahead = None;
        let bytes = bytes.min(CHUNK_BYTES);
        Buffer::at(self.lease(self.other_room(bytes)), 0, bytes)
    }

    fn lease(self: &Arc<Self>, room: Room) -> Arc<Lease> {
        Arc::new(Lease { room: Some(room), pool: Arc::clone(self) })
    }

    /// A slot in the file for so many bytes, of which some may be there.
    fn slot(&self, bytes: usize) -> Option<Slot> {
        let (arena, class) = (self.arena.as_ref()?, class_of(bytes));
        let spare = self.spare.lock().take_slot(class, bytes);
        spare.and_then(|mut slot| slot.trim(bytes).then_some(slot)).or_else(|| arena.take(class))
    }

    /// Room that is in no file.
    fn other_room(&self, bytes: usize) -> Room {
        let pages = bytes.div_ceil(PAGE_BYTES);
        let spare = self.spare.lock().take_other(pages);
        spare.unwrap_or_else(|| {
            let map = || MmapOptions::new().len(pages * PAGE_BYTES).map_anon().ok().map(MmapRaw::from);
            let mapped = if self.maps { map() } else { None };
            let allocated = || (0..pages * PAGE_BYTES).map(|_| AtomicU8::new(0)).collect();
            mapped.map_or_else(|| Room::Allocated(allocated()), Room::Mapped)
        })
    }

    fn give_back(&self, room: Room) {
        // Somebody may read it still, though nobody has it.
        if matches!(&room, Room::InFile(slot) if slot.was_sent()) {
            return drop(room);
        }
        let mut spare = self.spare.lock();
        if spare.bytes + room.there() <= self.spare_bytes_max {
            spare.put(room);
        } else {
            drop(spare);
            // Freed beside the lock.
            drop(room);
        }
    }

    /// Cuts a body into chunks.
    pub(crate) fn cut(self: &Arc<Self>, body: &[u8]) -> Box<[Bytes]> {
        let (mut ahead, mut left) = (None, body.len());
        let chunk = |data: &[u8]| {
            let chunk = self.copied(data, &mut ahead, left);
            left -= data.len();
            chunk
        };
        body.chunks(CHUNK_BYTES).map(chunk).collect()
    }

    /// A chunk of a body, of which so many bytes are left.
    fn copied(self: &Arc<Self>, data: &[u8], ahead: &mut Option<Ahead>, left: usize) -> Bytes {
        if left < BYTES_MIN && ahead.is_none() {
            return Bytes::copy_from_slice(data);
        }
        let mut buffer = self.next(ahead, left as u64);
        buffer.extend(data);
        Bytes::from_owner(buffer)
    }
}

impl Spare {
    fn take_slot(&mut self, class: usize, bytes: usize) -> Option<Slot> {
        let (slots, bytes) = (&mut self.slots[class], bytes.next_multiple_of(PAGE_BYTES));
        let alike = slots.iter().rev().take(ALIKE_LOOKS).position(|slot| slot.there() == bytes);
        let slot = slots.swap_remove(slots.len().checked_sub(1 + alike.unwrap_or(0))?);
        self.bytes -= slot.there();
        Some(slot)
    }

    fn take_other(&mut self, pages: usize) -> Option<Room> {
        let room = self.others[pages - 1].pop()?;
        self.bytes -= room.there();
        Some(room)
    }

    fn put(&mut self, room: Room) {
        self.bytes += room.there();
        match room {
            Room::InFile(slot) => self.slots[slot.class()].push(slot),
            room => self.others[room.there() / PAGE_BYTES - 1].push(room),
        }
    }
}

/// Room for chunks that stand side by side, which goes back when nobody needs any of it.
#[derive(Debug)]
struct Lease {
    /// There until it is dropped.
    room: Option<Room>,
    pool: Arc<Pool>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(room) = self.room.take() {
            self.pool.give_back(room);
        }
    }
}

/// What nobody uses yet of a lease whose beginning is in use.
#[derive(Debug)]
pub(crate) struct Ahead {
    lease: Arc<Lease>,
    at: usize,
    end: usize,
}

impl Ahead {
    fn is_empty(&self) -> bool {
        self.at == self.end
    }

    /// A buffer for the next chunk; `None` when there is no memory for it.
    fn next(&mut self) -> Option<Buffer> {
        let bytes = (self.end - self.at).min(CHUNK_BYTES);
        if !self.lease.room.as_ref()?.have(self.at + bytes) {
            return None;
        }
        self.at += bytes;
        Some(Buffer::at(Arc::clone(&self.lease), self.at - bytes, bytes))
    }
}

/// Room for a chunk.
pub(crate) struct Buffer {
    lease: Arc<Lease>,
    start: *mut u8,
    /// Bytes that it has room for. A chunk may turn out to be longer than its body was to be.
    room: usize,
    bytes: usize,
}

// SAFETY: the room is memory that belongs to no thread, and its part from `start` on is this buffer's alone.
unsafe impl Send for Buffer {}
// SAFETY: as above; who has it shared can only read it.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// What of a lease nobody else has, and is there.
    fn at(lease: Arc<Lease>, at: usize, room: usize) -> Self {
        let start = lease.room.as_ref().expect("it is there until the lease goes").start();
        // SAFETY: it is there.
        let start = unsafe { start.add(at) };
        Self { lease, start, room, bytes: 0 }
    }

    /// Bytes that it takes still, of a chunk.
    pub(crate) fn left(&self) -> usize {
        CHUNK_BYTES - self.bytes
    }

    /// What is in it, for good: as it is, or copied where it has pages that are not needed.
    pub(crate) fn into_bytes(self) -> Bytes {
        if self.room.div_ceil(PAGE_BYTES) == self.bytes.div_ceil(PAGE_BYTES) {
            Bytes::from_owner(self)
        } else {
            self.lease.pool.copied(self.as_ref(), &mut None, self.bytes)
        }
    }

    /// Adds what a chunk has place for.
    pub(crate) fn extend(&mut self, data: &[u8]) {
        assert!(data.len() <= self.left(), "nobody adds more than a chunk has place for");
        if self.bytes + data.len() > self.room {
            let mut whole = self.lease.pool.next(&mut None, 0);
            whole.extend(self.as_ref());
            *self = whole;
        }
        // SAFETY: there is room for it, which is this buffer's alone.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.start.add(self.bytes), data.len()) };
        self.bytes += data.len();
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: so much of it was written, and the lease keeps it there.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes) }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("room", &self.room).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK_IN_PAGES: usize = SIZES * PAGE_BYTES;

    /// A chunk by itself.
    fn chunk(pool: &Arc<Pool>, data: &[u8]) -> Bytes {
        pool.copied(data, &mut None, data.len())
    }

    #[test]
    fn buffers_are_used_again_and_few_are_kept() {
        let check = |arena: Option<Arc<Arena>>, maps: bool| {
            let pool = Pool::with(3 * CHUNK_IN_PAGES, arena, maps);
            let first = chunk(&pool, &[1; CHUNK_BYTES]);
            let (place, clone) = (first.as_ptr(), first.slice(5..));
            drop(first);
            assert_eq!(pool.spare.lock().bytes, 0, "it is in use still");
            drop(clone);
            let again = chunk(&pool, &[2; CHUNK_BYTES]);
            assert_eq!((again.as_ptr(), &again[..]), (place, &[2; CHUNK_BYTES][..]));
            drop((0..10).map(|_| pool.next(&mut None, 0)).collect::<Vec<_>>());
            assert_eq!(pool.spare.lock().bytes, 3 * CHUNK_IN_PAGES);
            let other = chunk(&pool, &[3; 20_000]);
            assert_eq!(&other[..], &[3; 20_000][..]);
            let mut buffer = pool.next(&mut None, 0);
            buffer.extend(b"ab");
            buffer.extend(b"c");
            assert_eq!((buffer.as_ref(), buffer.left()), (&b"abc"[..], CHUNK_BYTES - 3));
            assert_eq!(buffer.into_bytes(), &b"abc"[..]);
        };
        loom::model(move || {
            check(None, true);
            check(None, false);
            check(Arena::new(1 << 20), true);
        });
    }

    #[test]
    fn chunks_of_one_body_stand_side_by_side() {
        loom::model(|| {
            let pool = Pool::with(8 * CHUNK_IN_PAGES, Arena::new(1 << 20), true);
            let body: Vec<u8> = (0..6 * CHUNK_BYTES + 1_000).map(|at| (at % 251) as u8).collect();
            let chunks = pool.cut(&body);
            assert!(chunks.concat() == body && chunks.len() == 7);
            let follow: Vec<_> = chunks.windows(2).map(|two| two[0].as_ptr_range().end == two[1].as_ptr()).collect();
            assert_eq!(follow, [true, true, true, false, true, true]);
            let [first, second, ..] = &chunks[..] else { panic!("seven") };
            let mut place = pool.place(&first[100..]).expect("in the file");
            assert!(place.join(&pool.place(second).expect("in the file")));
            assert!(place.bytes() == &body[100..2 * CHUNK_BYTES]);
            // As long as one of them is in use all are there, and what was sent comes back to nobody.
            let third = chunks[2].clone();
            drop(chunks);
            assert_eq!(pool.spare.lock().bytes, (2 * CHUNK_BYTES + 1_000).next_multiple_of(PAGE_BYTES));
            assert!(third[..] == body[2 * CHUNK_BYTES..3 * CHUNK_BYTES]);
            let other = pool.cut(&vec![9; 4 * CHUNK_BYTES]);
            assert!(third[..] == body[2 * CHUNK_BYTES..3 * CHUNK_BYTES]);
            drop((third, other));
            assert_eq!(pool.spare.lock().slots[2].len(), 1, "the other was never sent");
        });
    }

    #[test]
    fn a_slot_that_came_back_serves_other_lengths() {
        loom::model(|| {
            let pool = Pool::with(1 << 20, Arena::new(1 << 20), true);
            let there = |pool: &Pool| {
                pool.spare.lock().slots.each_ref().map(|all| all.iter().map(Slot::there).collect::<Vec<_>>())
            };
            let pages = |pages: usize| pages * PAGE_BYTES;
            drop(pool.cut(&[1; 100_000]));
            assert_eq!(there(&pool), [vec![], vec![pages(25)], vec![]]);
            let shorter = pool.cut(&[2; 70_000]);
            assert_eq!((shorter.concat(), there(&pool)), (vec![2; 70_000], [vec![], vec![], vec![]]));
            drop(shorter);
            assert_eq!(there(&pool)[1], [pages(18)]);
            let longer = pool.cut(&[3; 120_000]);
            assert_eq!(longer.concat(), [3; 120_000]);
            drop((pool.cut(&[4; 80_000]), longer));
            assert_eq!(there(&pool)[1], [pages(20), pages(30)]);
            // Of those that are there, one that is as long.
            let alike = pool.cut(&[5; 80_000]);
            assert_eq!(there(&pool)[1], [pages(30)]);
            drop(alike);
        });
    }

    #[test]
    fn a_body_that_grows_takes_memory_as_it_comes() {
        loom::model(|| {
            let pool = Pool::with(1 << 20, Arena::new(1 << 20), true);
            let mut ahead = None;
            let first = pool.next(&mut ahead, 200_000);
            let there = |buffer: &Buffer| buffer.lease.room.as_ref().map_or(0, Room::there);
            assert_eq!(there(&first), CHUNK_IN_PAGES);
            let second = pool.next(&mut ahead, 200_000 - CHUNK_BYTES as u64);
            assert_eq!((there(&second), ahead.is_some()), (2 * CHUNK_IN_PAGES, true));
            // From here on it is not kept, and has no more room beside the beginning.
            let third = pool.next(&mut ahead, 0);
            assert!(ahead.is_none() && !Arc::ptr_eq(&third.lease, &second.lease));
            drop((first, second));
            assert_eq!(pool.spare.lock().bytes, 2 * CHUNK_IN_PAGES);
        });
    }

    #[test]
    fn a_body_may_be_longer_than_was_expected() {
        loom::model(|| {
            let pool = Pool::with(1 << 20, Arena::new(1 << 20), true);
            let (mut ahead, body) = (None, vec![7; CHUNK_BYTES]);
            let mut buffer = pool.next(&mut ahead, 20_000);
            buffer.extend(&body[..20_000]);
            assert_eq!((buffer.left(), ahead.is_none()), (CHUNK_BYTES - 20_000, true));
            buffer.extend(&body[20_000..]);
            assert_eq!((buffer.left(), buffer.as_ref()), (0, &body[..]));
        });
    }

    #[test]
    fn what_was_sent_is_not_written_to_again() {
        loom::model(|| {
            let pool = Pool::with(1 << 20, Arena::new(1 << 20), true);
            let first = chunk(&pool, &[1; CHUNK_BYTES]);
            assert!(pool.place(&first[100..]).is_some());
            drop(first);
            assert_eq!(pool.spare.lock().bytes, 0, "its pages may be on their way");
            drop(chunk(&pool, &[2; CHUNK_BYTES]));
            assert_eq!(pool.spare.lock().bytes, CHUNK_IN_PAGES);
            assert!(pool.place(b"elsewhere").is_none());
        });
    }
}
