//! Room for buffers in a file that is in memory alone, so that what they hold can be sent by `sendfile`, without a copy.
//!
//! Copying a body of 100 KiB into a socket costs more than all else that a hit does; `sendfile` gives the socket the pages
//! themselves. They are in flight until the other end has taken them, and nobody says when that is. So what was sent is never
//! written to again: such a buffer gives its pages back, by a hole in the file, and the system frees each when nobody uses it any
//! more. A buffer that was never sent is used again as it is.
//!
//! The file is sparse. Each buffer has a slot of one size in it, of which only as many pages are there as it needs: nothing is
//! fragmented, and one mapping does for all. Huge pages are kept away, for a hole in the midst of one would be made of zeros,
//! also where it is in flight. Where any of this cannot be had there is no arena, and buffers are memory like any other.

use std::fmt;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, MemfdFlags};
use rustix::process::Resource;

use crate::sync::{AtomicU64, Mutex, Ordering};

/// A slot, which holds any buffer: a chunk in whole pages.
pub(crate) const SLOT_BYTES: usize = 64 * 1024;
/// What the sizes of buffers are multiples of.
pub(crate) const PAGE_BYTES: usize = 4096;
/// A smaller store has too little of it.
const MEMORY_BYTES_MIN: u64 = 1024 * 1024;
/// With more, there are slots for so many bytes each: fewer are only in bodies that are not worth it.
const BUFFER_BYTES_MIN: u64 = 16 * 1024;

pub(crate) struct Arena {
    file: File,
    map: MmapRaw,
    slots: Mutex<Slots>,
    count: u32,
    /// A bit for each slot whose pages may be in flight.
    sent: Box<[AtomicU64]>,
}

#[derive(Debug, Default)]
struct Slots {
    free: Vec<u32>,
    /// Those from here on were never used.
    next: u32,
}

/// A slot, with so many bytes of it: whole pages, which are there.
pub(crate) struct Slot {
    arena: Arc<Arena>,
    number: u32,
    bytes: usize,
}

/// Where a piece of a body stands in a file, from which it can be sent. It must not be written to. The piece is borrowed: once
/// nobody has it, something else may stand there.
pub struct InFile<'p> {
    arena: Arc<Arena>,
    offset: u64,
    piece: PhantomData<&'p [u8]>,
}

impl InFile<'_> {
    /// The file.
    pub fn file(&self) -> &File {
        &self.arena.file
    }

    /// The place of the piece's first byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl Arena {
    /// For a store of so many bytes, if the system has what it takes.
    pub(crate) fn new(memory_bytes: u64) -> Option<Arc<Self>> {
        if memory_bytes < MEMORY_BYTES_MIN || rustix::param::page_size() != PAGE_BYTES {
            return None;
        }
        let count = u32::try_from(memory_bytes / BUFFER_BYTES_MIN).ok()?;
        let bytes = u64::from(count) * SLOT_BYTES as u64;
        // A longer file would end the process by a signal.
        if rustix::process::getrlimit(Resource::Fsize).current.is_some_and(|most| most < bytes) {
            return None;
        }
        match Self::open(count, bytes) {
            Ok(arena) => Some(Arc::new(arena)),
            Err(error) => {
                tracing::debug!(%error, "store: there is no file in memory");
                None
            }
        }
    }

    fn open(count: u32, bytes: u64) -> io::Result<Self> {
        let file = File::from(rustix::fs::memfd_create("tenfold-store", MemfdFlags::CLOEXEC)?);
        file.set_len(bytes)?;
        let len = usize::try_from(bytes).map_err(io::Error::other)?;
        let map = MmapOptions::new().len(len).map_raw(&file)?;
        match map.advise(Advice::NoHugePage) {
            // A kernel that has none does not know the word.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => return Err(error),
            _ => {}
        }
        let sent = (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let arena = Self { file, map, slots: Mutex::new(Slots::default()), count, sent };
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

    /// A slot with so many pages; `None` when there is none, or no memory.
    pub(crate) fn take(self: &Arc<Self>, pages: usize) -> Option<Slot> {
        let number = {
            let mut slots = self.slots.lock();
            match slots.free.pop() {
                Some(number) => number,
                None if slots.next < self.count => {
                    slots.next += 1;
                    slots.next - 1
                }
                None => return None,
            }
        };
        let slot = Slot { arena: Arc::clone(self), number, bytes: pages * PAGE_BYTES };
        self.populate(slot.at(), slot.bytes).is_ok().then_some(slot)
    }

    /// Where something stands that is about to be sent, if it is in a slot. Its pages are not written to any more.
    pub(crate) fn place<'p>(self: &Arc<Self>, bytes: &'p [u8]) -> Option<InFile<'p>> {
        if bytes.is_empty() {
            return None;
        }
        let at = (bytes.as_ptr() as usize).checked_sub(self.map.as_ptr() as usize)?;
        if at + bytes.len() > self.map.len() {
            return None;
        }
        let (word, bit) = self.bit((at / SLOT_BYTES) as u32);
        // What is sent again and again is only read here.
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Some(InFile { arena: Arc::clone(self), offset: at as u64, piece: PhantomData })
    }

    fn bit(&self, number: u32) -> (&AtomicU64, u64) {
        (&self.sent[number as usize / 64], 1 << (number % 64))
    }
}

impl Slot {
    fn at(&self) -> usize {
        self.number as usize * SLOT_BYTES
    }

    /// Whether its pages may be in flight.
    pub(crate) fn was_sent(&self) -> bool {
        let (word, bit) = self.arena.bit(self.number);
        // Whoever has sent it has let go of it since, which is what orders the two.
        word.load(Ordering::Relaxed) & bit != 0
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.arena.punch(self.at(), self.bytes).is_err() {
            // Its pages may be in flight still, so that nobody can have it.
            return;
        }
        let (word, bit) = self.arena.bit(self.number);
        word.fetch_and(!bit, Ordering::Relaxed);
        self.arena.slots.lock().free.push(self.number);
    }
}

impl Deref for Slot {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes lie in a slot of the mapping, which lives as long as the arena. The slot is this one's alone, all of a
        // file is initialised, and nobody but a kernel that sends it has the file.
        unsafe { std::slice::from_raw_parts(self.arena.map.as_ptr().add(self.at()), self.bytes) }
    }
}

impl DerefMut for Slot {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; and what is being sent is not written to, since whoever sends holds it shared.
        unsafe { std::slice::from_raw_parts_mut(self.arena.map.as_mut_ptr().add(self.at()), self.bytes) }
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena").field("slots", &self.count).finish_non_exhaustive()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("number", &self.number).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl fmt::Debug for InFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFile").field("offset", &self.offset).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn what_was_sent_has_other_pages_when_its_slot_is_used_again() {
        loom::model(|| {
            let arena = Arena::new(MEMORY_BYTES_MIN).expect("Linux has it");
            let mut slot = arena.take(2).expect("there is room");
            slot.fill(7);
            assert!(!slot.was_sent());
            let place = arena.place(&slot[5..100]).expect("it is in the file");
            assert!(slot.was_sent());
            let mut read = [0; 95];
            place.file().read_exact_at(&mut read, place.offset()).expect("it reads");
            assert_eq!(read, [7; 95]);
            drop(slot);
            let again = arena.take(2).expect("there is room");
            assert_eq!((again.number, again.was_sent()), (0, false));
            assert!(again.iter().all(|byte| *byte == 0), "its pages went");
            assert!(arena.place(&[1, 2, 3]).is_none(), "that is elsewhere");
            let all: Vec<_> = std::iter::from_fn(|| arena.take(16)).collect();
            let last = all.iter().max_by_key(|slot| slot.number).expect("some");
            assert!(arena.place(&last[SLOT_BYTES..]).is_none(), "it ends where the file does");
        });
    }

    #[test]
    fn slots_end() {
        loom::model(|| {
            let arena = Arena::new(MEMORY_BYTES_MIN).expect("Linux has it");
            let all: Vec<_> = std::iter::from_fn(|| arena.take(1)).collect();
            assert_eq!(all.len() as u64, MEMORY_BYTES_MIN / BUFFER_BYTES_MIN);
            drop(all);
            assert!(arena.take(16).is_some());
        });
    }
}
