//! Room for buffers in a file that is in memory alone, so that what they hold can be sent without a copy.
//!
//! Copying a body of 100 KiB into a socket costs more than all else that a hit does; `vmsplice` and `sendfile` give the socket the pages
//! themselves. They are in flight until the other end has taken them, and nobody says when that is. So what was sent is never
//! written to again: such a buffer gives its pages back, by a hole in the file, and the system frees each when nobody uses it any
//! more. A buffer that was never sent is used again as it is.
//!
//! The file is sparse. It has slots of a few sizes, each size in a part of the file that alone would do for all that the store holds,
//! and a slot has only as many pages as are needed: nothing is fragmented, and one mapping does for all. Chunks that follow each other in a
//! body stand in one slot, so that one call sends them. Huge pages are kept away, for a hole in the midst of one would be made of
//! zeros, also where it is in flight. Where any of this cannot be had there is no arena, and buffers are memory like any other.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, MemfdFlags};
use rustix::process::Resource;

use crate::sync::{AtomicU64, Mutex, Ordering};

/// How many sizes of slots there are.
pub(crate) const CLASSES: usize = 3;
/// What slots have room for: a chunk, two and four, in whole pages.
const SLOT_BYTES: [usize; CLASSES] = [64 * 1024, 128 * 1024, 256 * 1024];
/// The most that one slot has room for.
pub(crate) const SLOT_BYTES_MAX: usize = SLOT_BYTES[CLASSES - 1];
/// The least that is in a slot of each size. A slot is found for all of the memory in buffers of that size; fewer are only in bodies
/// that are not worth it.
const BUFFER_BYTES_MIN: [usize; CLASSES] = [16 * 1024, SLOT_BYTES[0], SLOT_BYTES[1]];
/// What the sizes of buffers are multiples of.
pub(crate) const PAGE_BYTES: usize = 4096;
/// A smaller store has too little of it.
const MEMORY_BYTES_MIN: u64 = 1024 * 1024;

pub(crate) struct Arena {
    file: File,
    map: MmapRaw,
    classes: [Class; CLASSES],
    /// A bit for each slot whose pages may be in flight.
    sent: Box<[AtomicU64]>,
}

/// The slots of one size.
#[derive(Debug)]
struct Class {
    slot_bytes: usize,
    count: u32,
    /// Where the first one begins in the file, and the number of its bit.
    at: usize,
    first_bit: usize,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    free: Vec<u32>,
    /// Those from here on were never used.
    next: u32,
}

/// A slot, of which as many bytes are there as somebody needed.
pub(crate) struct Slot {
    arena: Arc<Arena>,
    class: usize,
    number: u32,
    /// Whole pages from its beginning on that are there.
    there: AtomicU64,
}

/// Which size of slots so many bytes go to.
pub(crate) fn class_of(bytes: usize) -> usize {
    SLOT_BYTES.iter().position(|slot| bytes <= *slot).expect("nobody asks for more than the largest has")
}

/// Where a piece of a body stands in a file, from which it can be sent. It must not be written to. The piece is borrowed: once
/// nobody has it, something else may stand there.
pub struct InFile<'p> {
    arena: &'p Arena,
    offset: usize,
    bytes: usize,
}

impl<'p> InFile<'p> {
    /// The file.
    pub fn file(&self) -> &'p File {
        &self.arena.file
    }

    /// The place of the piece's first byte.
    pub fn offset(&self) -> u64 {
        self.offset as u64
    }

    /// The piece.
    pub fn bytes(&self) -> &'p [u8] {
        // SAFETY: the pieces that this was made of lie there side by side, and are borrowed for as long.
        unsafe { std::slice::from_raw_parts(self.arena.map.as_ptr().add(self.offset), self.bytes) }
    }

    /// Takes in another piece, if that follows this one in the same file: then one call sends both.
    pub fn join(&mut self, next: &Self) -> bool {
        let follows = std::ptr::eq(self.arena, next.arena) && self.offset + self.bytes == next.offset;
        if follows {
            self.bytes += next.bytes;
        }
        follows
    }
}

impl Arena {
    /// For a store of so many bytes, if the system has what it takes.
    pub(crate) fn new(memory_bytes: u64) -> Option<Arc<Self>> {
        if memory_bytes < MEMORY_BYTES_MIN || rustix::param::page_size() != PAGE_BYTES {
            return None;
        }
        let (mut at, mut first_bit) = (0_usize, 0_usize);
        let mut classes = Vec::with_capacity(CLASSES);
        for (slot_bytes, least) in SLOT_BYTES.into_iter().zip(BUFFER_BYTES_MIN) {
            let count = u32::try_from(memory_bytes / least as u64).ok()?;
            classes.push(Class { slot_bytes, count, at, first_bit, slots: Mutex::new(Slots::default()) });
            at = at.checked_add(slot_bytes.checked_mul(count as usize)?)?;
            first_bit += count as usize;
        }
        // A longer file would end the process by a signal.
        if rustix::process::getrlimit(Resource::Fsize).current.is_some_and(|most| most < at as u64) {
            return None;
        }
        match Self::open(classes.try_into().ok()?, at, first_bit) {
            Ok(arena) => Some(Arc::new(arena)),
            Err(error) => {
                tracing::debug!(%error, "store: there is no file in memory");
                None
            }
        }
    }

    fn open(classes: [Class; CLASSES], bytes: usize, bits: usize) -> io::Result<Self> {
        let file = File::from(rustix::fs::memfd_create("tenfold-store", MemfdFlags::CLOEXEC)?);
        file.set_len(bytes as u64)?;
        let map = MmapOptions::new().len(bytes).map_raw(&file)?;
        match map.advise(Advice::NoHugePage) {
            // A kernel that has none does not know the word.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => return Err(error),
            _ => {}
        }
        let sent = (0..bits.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let arena = Self { file, map, classes, sent };
        // Where no hole can be made, whatever goes would keep its memory.
        arena.populate(0, PAGE_BYTES)?;
        arena.punch(0, PAGE_BYTES)?;
        Ok(arena)
    }

    /// Has pages be there, all at once for less than one by one. Where there is no memory this says so, as the first write to a page
    /// cannot.
    fn populate(&self, at: usize, bytes: usize) -> io::Result<()> {
        self.map.advise_range(Advice::PopulateWrite, at, bytes)
    }

    /// Gives pages back: what reads them still has them as they are.
    fn punch(&self, at: usize, bytes: usize) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.file, flags, at as u64, bytes as u64)?)
    }

    /// A slot of a size, with nothing in it; `None` when there is none.
    pub(crate) fn take(self: &Arc<Self>, class: usize) -> Option<Slot> {
        let Class { count, slots, .. } = &self.classes[class];
        let mut slots = slots.lock();
        let number = match slots.free.pop() {
            Some(number) => number,
            None if slots.next < *count => {
                slots.next += 1;
                slots.next - 1
            }
            None => return None,
        };
        drop(slots);
        Some(Slot { arena: Arc::clone(self), class, number, there: AtomicU64::new(0) })
    }

    /// Where something stands that is about to be sent, if it is in a slot. Its pages are not written to any more.
    pub(crate) fn place<'p>(&'p self, piece: &'p [u8]) -> Option<InFile<'p>> {
        let bytes = piece.len();
        if bytes == 0 {
            return None;
        }
        let offset = (piece.as_ptr() as usize).checked_sub(self.map.as_ptr() as usize)?;
        if offset + bytes > self.map.len() {
            return None;
        }
        let class = self.classes.iter().rev().find(|class| class.at <= offset)?;
        let (word, bit) = self.bit(class, (offset - class.at) / class.slot_bytes);
        // What is sent again and again is only read here.
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Some(InFile { arena: self, offset, bytes })
    }

    fn bit(&self, class: &Class, number: usize) -> (&AtomicU64, u64) {
        let bit = class.first_bit + number;
        (&self.sent[bit / 64], 1 << (bit % 64))
    }
}

impl Slot {
    fn at(&self) -> usize {
        let class = &self.arena.classes[self.class];
        class.at + self.number as usize * class.slot_bytes
    }

    /// Which size it has.
    pub(crate) fn class(&self) -> usize {
        self.class
    }

    /// Its first byte. The pages that are there may be read and written by whoever has them to itself, for as long as the slot lives.
    pub(crate) fn start(&self) -> *mut u8 {
        // SAFETY: the slot lies in the mapping.
        unsafe { self.arena.map.as_mut_ptr().add(self.at()) }
    }

    /// Bytes that are there: whole pages.
    pub(crate) fn there(&self) -> usize {
        self.there.load(Ordering::Relaxed) as usize
    }

    /// Has so many bytes be there; `false` when there is no memory. One at a time asks for more.
    pub(crate) fn have(&self, bytes: usize) -> bool {
        let (there, bytes) = (self.there(), bytes.next_multiple_of(PAGE_BYTES));
        if bytes <= there {
            return true;
        }
        let has_come = self.arena.populate(self.at() + there, bytes - there).is_ok();
        if has_come {
            self.there.store(bytes as u64, Ordering::Relaxed);
        }
        has_come
    }

    /// Keeps no more pages than so many bytes need, of one that was never sent; `false` when they cannot be given back.
    pub(crate) fn trim(&mut self, bytes: usize) -> bool {
        let (there, bytes) = (self.there(), bytes.next_multiple_of(PAGE_BYTES));
        if there <= bytes {
            return true;
        }
        let has_gone = self.arena.punch(self.at() + bytes, there - bytes).is_ok();
        if has_gone {
            self.there.store(bytes as u64, Ordering::Relaxed);
        }
        has_gone
    }

    fn bit(&self) -> (&AtomicU64, u64) {
        self.arena.bit(&self.arena.classes[self.class], self.number as usize)
    }

    /// Whether its pages may be in flight.
    pub(crate) fn was_sent(&self) -> bool {
        let (word, bit) = self.bit();
        // Whoever has sent it has let go of it since, which is what orders the two.
        word.load(Ordering::Relaxed) & bit != 0
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let there = self.there();
        if there > 0 && self.arena.punch(self.at(), there).is_err() {
            // Its pages may be in flight still, so that nobody can have it.
            return;
        }
        let (word, bit) = self.bit();
        word.fetch_and(!bit, Ordering::Relaxed);
        self.arena.classes[self.class].slots.lock().free.push(self.number);
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena").field("bytes", &self.map.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Slot");
        shown.field("class", &self.class).field("number", &self.number).field("there", &self.there());
        shown.finish_non_exhaustive()
    }
}

impl fmt::Debug for InFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFile").field("offset", &self.offset).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn written(slot: &Slot, bytes: usize, byte: u8) -> &[u8] {
        assert!(slot.have(bytes));
        // SAFETY: it is there, and the test's alone.
        unsafe {
            slot.start().write_bytes(byte, bytes);
            std::slice::from_raw_parts(slot.start(), bytes)
        }
    }

    #[test]
    fn what_was_sent_has_other_pages_when_its_slot_is_used_again() {
        loom::model(|| {
            let arena = Arena::new(MEMORY_BYTES_MIN).expect("Linux has it");
            for (class, bytes) in SLOT_BYTES.into_iter().enumerate() {
                let (slot, other) = (arena.take(class).expect("room"), arena.take(class).expect("room"));
                let piece = written(&slot, bytes, 7);
                assert!(!slot.was_sent());
                let place = arena.place(&piece[bytes - 95..]).expect("it is in the file");
                assert!(slot.was_sent() && !other.was_sent());
                let mut read = [0; 95];
                place.file().read_exact_at(&mut read, place.offset()).expect("it reads");
                assert_eq!(read, [7; 95]);
                drop(slot);
                let again = arena.take(class).expect("there is room");
                assert_eq!((again.number, again.was_sent(), again.there()), (0, false, 0));
                assert!(again.have(bytes));
                let mut read = [1; 4096];
                arena.file.read_exact_at(&mut read, again.at() as u64).expect("it reads");
                assert_eq!(read, [0; 4096], "its pages went");
            }
            assert!(arena.place(&[1, 2, 3]).is_none(), "that is elsewhere");
        });
    }

    #[test]
    fn slots_end_and_do_not_meet() {
        loom::model(|| {
            let arena = Arena::new(MEMORY_BYTES_MIN).expect("Linux has it");
            let mut all = Vec::new();
            for class in 0..CLASSES {
                all.extend(std::iter::from_fn(|| arena.take(class)));
            }
            assert_eq!(all.len(), 64 + 16 + 8);
            let mut ends: Vec<_> = all.iter().map(|slot| (slot.at(), slot.at() + SLOT_BYTES[slot.class])).collect();
            ends.sort_unstable();
            assert!(ends.windows(2).all(|pair| pair[0].1 == pair[1].0));
            assert_eq!(ends.last().map(|last| last.1), Some(arena.map.len()));
            // Each has a bit of its own, also the last one of a size and the first one of the next.
            let all_of = |class: usize| all.iter().filter(move |slot| slot.class == class);
            let ends = (0..CLASSES).flat_map(|class| [all_of(class).next(), all_of(class).next_back()]).flatten();
            let ends: Vec<_> = ends.collect();
            for (at, slot) in ends.iter().enumerate() {
                arena.place(written(slot, 1, 1)).expect("in the file");
                assert!(ends.iter().enumerate().all(|(other, slot)| slot.was_sent() == (other <= at)));
            }
            drop(all);
            assert!((0..CLASSES).all(|class| arena.take(class).is_some_and(|slot| !slot.was_sent())));
        });
    }

    #[test]
    fn pages_come_when_they_are_needed_and_those_beyond_are_given_back() {
        loom::model(|| {
            let arena = Arena::new(MEMORY_BYTES_MIN).expect("Linux has it");
            let mut slot = arena.take(class_of(100_000)).expect("there is room");
            assert_eq!((slot.class, slot.there()), (1, 0));
            assert!(slot.have(1) && slot.there() == PAGE_BYTES);
            written(&slot, 100_000, 3);
            assert_eq!(slot.there(), 25 * PAGE_BYTES);
            assert!(slot.trim(70_000) && slot.there() == 18 * PAGE_BYTES);
            assert!(slot.trim(80_000) && slot.there() == 18 * PAGE_BYTES);
            let mut read = [0; 2];
            arena.file.read_exact_at(&mut read, (slot.at() + 18 * PAGE_BYTES - 1) as u64).expect("it reads");
            assert_eq!(read, [3, 0]);
        });
    }

    #[test]
    fn what_follows_in_the_file_is_joined() {
        loom::model(|| {
            let arena = Arena::new(MEMORY_BYTES_MIN).expect("Linux has it");
            let slot = arena.take(1).expect("there is room");
            let piece = written(&slot, 100_000, 5);
            let place = |from: usize, to: usize| arena.place(&piece[from..to]).expect("in the file");
            let mut first = place(10, 65_000);
            assert!(!first.join(&place(65_001, 70_000)) && !first.join(&place(10, 65_000)));
            assert!(first.join(&place(65_000, 100_000)));
            assert_eq!((first.offset(), first.bytes()), (slot.at() as u64 + 10, &piece[10..]));
            let other = Arena::new(MEMORY_BYTES_MIN).expect("Linux has it");
            let elsewhere = other.take(1).expect("there is room");
            let alike = other.place(written(&elsewhere, 200, 5)).expect("in the file");
            let mut begins = arena.place(&piece[..100]).expect("in the file");
            assert_eq!(begins.offset(), alike.offset());
            assert!(!begins.join(&other.place(&alike.bytes()[100..]).expect("in the file")));
        });
    }
}
