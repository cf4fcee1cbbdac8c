//! A body that grows while others read it.
//!
//! One writer appends; any number of readers follow, each at a place of its own, and are woken when there is more. What was
//! appended is there to be read as it comes. It gathers in the buffer of a chunk, so that a body that came in many small pieces takes
//! no more memory than one that came at once. Who reads from a chunk that is not full has a copy.
//!
//! A body that is too large for memory keeps its latest chunks only, and those that are on their way to disk. A reader behind
//! them reads from disk. Where there is no disk, a writer that can wait does so until the slowest reader has passed what it gives
//! up next; for others, and for those who do not move, it is gone. Nobody begins to read a body whose beginning is gone.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::disk::Chunk;
use crate::object::CHUNK_BYTES;
use crate::pool::{Ahead, Buffer, Pool};
use crate::seats::{Seats, Wait};
use crate::sync::Mutex;

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Growing,
    Whole,
    Broken,
}

/// What a reader finds at its place.
#[derive(Debug)]
pub(crate) enum Step {
    /// So many bytes from its place on.
    Bytes(Bytes),
    /// They are on disk.
    OnDisk(Chunk),
    /// There will be more.
    Later,
    /// The body ends here.
    End,
    /// The body broke off.
    Broken,
    /// What comes here is gone, since the reader was too slow.
    Lagged,
}

#[derive(Debug)]
struct State {
    /// So many chunks from the beginning on are in memory no more.
    left: usize,
    chunks: VecDeque<Bytes>,
    /// Where chunks are on disk, from the first on, and whether there will be more.
    places: Vec<Chunk>,
    on_disk: bool,
    /// What follows the last chunk, and room for what comes then.
    tail: Option<Buffer>,
    ahead: Option<Ahead>,
    body_bytes: u64,
    end: End,
    seats: Seats,
}

#[derive(Debug)]
pub(crate) struct Growing {
    state: Mutex<State>,
    /// There is more, or the end.
    changed: Notify,
    /// Nobody sits any more before what the writer is to give up next.
    passed: Notify,
}

/// A reader's place in a body, or that of one who waits for its beginning.
#[derive(Debug)]
pub(crate) struct Seat {
    growing: Arc<Growing>,
    number: usize,
}

impl Seat {
    /// What comes before this place is not needed any more.
    pub(crate) fn move_to(&self, at: u64) {
        if self.growing.state.lock().seats.move_to(self.number, at) {
            self.growing.passed.notify_waiters();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.growing.state.lock().seats.leave(self.number) {
            self.growing.passed.notify_waiters();
        }
    }
}

impl State {
    /// Whether the first chunk in memory may be given up, with a window of so many.
    fn next_goes(&mut self, window: usize) -> Goes {
        let is_placed = self.left < self.places.len();
        if self.chunks.len() <= window || self.on_disk && !is_placed {
            return Goes::No;
        }
        let end = (self.left as u64 + 1) * CHUNK_BYTES as u64;
        // What is on disk is read from there.
        if !is_placed && self.seats.wait_for(end) > 0 { Goes::IsNeeded } else { Goes::Yes }
    }
}

/// Whether a chunk may be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goes {
    Yes,
    /// It is to stay.
    No,
    /// It would be time, and readers still need it.
    IsNeeded,
}

impl Growing {
    pub(crate) fn new() -> Self {
        let state = State {
            left: 0,
            chunks: VecDeque::new(),
            places: Vec::new(),
            on_disk: false,
            tail: None,
            ahead: None,
            body_bytes: 0,
            end: End::Growing,
            seats: Seats::default(),
        };
        Self { state: Mutex::new(state), changed: Notify::new(), passed: Notify::new() }
    }

    /// A seat for one who will read; `None` when the beginning of the body is gone already.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Seat> {
        let mut state = self.state.lock();
        (state.left <= state.places.len()).then(|| Seat { growing: Arc::clone(self), number: state.seats.take() })
    }

    /// Adds to the body. Gives the chunk that became full, if one did; there is none otherwise. `data` must not go beyond the end of
    /// a chunk. With it, so many bytes are expected that are to stand side by side; 0 where nobody knows.
    pub(crate) fn append(&self, data: &[u8], expected: u64, pool: &Arc<Pool>) -> Option<Bytes> {
        let chunk = {
            let mut state = self.state.lock();
            let State { body_bytes, tail, ahead, .. } = &mut *state;
            *body_bytes += data.len() as u64;
            let tail = tail.get_or_insert_with(|| pool.next(ahead, expected));
            tail.extend(data);
            let is_full = tail.left() == 0;
            let chunk = state.tail.take_if(|_| is_full).map(Bytes::from_owner);
            state.chunks.extend(chunk.clone());
            chunk
        };
        self.changed.notify_waiters();
        chunk
    }

    /// Room in the chunk that is being filled.
    pub(crate) fn room(&self) -> usize {
        self.state.lock().tail.as_ref().map_or(CHUNK_BYTES, Buffer::left)
    }

    /// Bytes so far.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.state.lock().body_bytes
    }

    /// Keeps so many of the latest full chunks, those that are not on disk yet but will be, and those that readers still need, unless
    /// they are to be cut. Says how many bytes it gave up, and how many readers it cut.
    pub(crate) fn keep_latest(&self, window: usize, cuts: bool) -> (u64, usize) {
        let (mut given_up, mut cut) = (Vec::new(), 0);
        let mut state = self.state.lock();
        loop {
            match state.next_goes(window) {
                Goes::Yes => {}
                Goes::IsNeeded if cuts => cut += state.seats.cut(),
                Goes::No | Goes::IsNeeded => break,
            }
            given_up.extend(state.chunks.pop_front());
            state.left += 1;
        }
        drop(state);
        ((given_up.len() * CHUNK_BYTES) as u64, cut)
    }

    /// Whether anybody reads, or waits to.
    pub(crate) fn has_readers(&self) -> bool {
        !self.state.lock().seats.is_empty()
    }

    /// Whether readers still need what should be given up.
    pub(crate) fn is_needed(&self, window: usize) -> bool {
        self.state.lock().next_goes(window) == Goes::IsNeeded
    }

    /// Says when the writer begins to wait for readers, and when it waits no more: then how many were given up meanwhile.
    pub(crate) fn set_wait(&self, wait: Option<Wait>) -> usize {
        self.state.lock().seats.set_wait(wait)
    }

    /// Waits until nobody needs any more what should be given up next.
    pub(crate) async fn passed(&self, window: usize) {
        loop {
            let passed = self.passed.notified();
            tokio::pin!(passed);
            // Whoever moves between the look and the wait must be heard.
            passed.as_mut().enable();
            if !self.is_needed(window) {
                return;
            }
            passed.await;
        }
    }

    /// Waits no more for those who need what should be given up next. Says how many they are.
    pub(crate) fn cut(&self, window: usize) -> usize {
        let mut state = self.state.lock();
        if state.next_goes(window) == Goes::IsNeeded { state.seats.cut() } else { 0 }
    }

    /// Says whether chunks are being written to disk, one after the other. Those that were stay there.
    pub(crate) fn set_on_disk(&self, on_disk: bool) {
        self.state.lock().on_disk = on_disk;
    }

    pub(crate) fn is_on_disk(&self) -> bool {
        self.state.lock().on_disk
    }

    /// Where chunks are on disk, from the first on.
    pub(crate) fn places(&self) -> Vec<Chunk> {
        self.state.lock().places.clone()
    }

    /// Says where on disk the next chunk is. Behind one that is missing there are none: places are found by counting.
    pub(crate) fn placed(&self, chunk: Chunk) {
        let mut state = self.state.lock();
        if chunk.index as usize == state.places.len() {
            state.places.push(chunk);
        } else {
            state.on_disk = false;
        }
    }

    /// Full chunks so far that are in memory, from the first on; `None` when the first ones are not.
    pub(crate) fn full_chunks(&self) -> Option<Vec<Bytes>> {
        let state = self.state.lock();
        (state.left == 0).then(|| state.chunks.iter().cloned().collect())
    }

    /// Ends the body. Gives its chunks if all of them are in memory, and what follows the last full one.
    pub(crate) fn finish(&self) -> (Option<Box<[Bytes]>>, Option<Bytes>) {
        let ended = {
            let mut state = self.state.lock();
            let rest = state.tail.take().map(Buffer::into_bytes);
            state.chunks.extend(rest.clone());
            ((state.left == 0).then(|| state.chunks.iter().cloned().collect()), rest)
        };
        self.end(End::Whole);
        ended
    }

    /// Ends the body where it is, as broken off.
    pub(crate) fn abort(&self) {
        self.end(End::Broken);
    }

    fn end(&self, end: End) {
        let mut state = self.state.lock();
        if state.end == End::Growing {
            state.end = end;
        }
        state.ahead = None;
        drop(state);
        self.changed.notify_waiters();
    }

    /// What is at a place.
    pub(crate) fn step(&self, at: u64) -> Step {
        let state = self.state.lock();
        let index = (at / CHUNK_BYTES as u64) as usize;
        let within = (at % CHUNK_BYTES as u64) as usize;
        if index < state.left {
            return state.places.get(index).cloned().map_or(Step::Lagged, Step::OnDisk);
        }
        if at >= state.body_bytes {
            return match state.end {
                End::Growing => Step::Later,
                End::Whole => Step::End,
                End::Broken => Step::Broken,
            };
        }
        match state.chunks.get(index - state.left) {
            Some(chunk) => Step::Bytes(chunk.slice(within..)),
            None => {
                let tail = state.tail.as_ref().map_or(&[][..], Buffer::as_ref);
                Step::Bytes(Bytes::copy_from_slice(&tail[within..]))
            }
        }
    }

    /// What is at a place, once there is something.
    pub(crate) async fn next(&self, at: u64) -> Step {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Whoever appends between the look and the wait must be heard.
            changed.as_mut().enable();
            match self.step(at) {
                Step::Later => changed.await,
                step => return step,
            }
        }
    }
}
