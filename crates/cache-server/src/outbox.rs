//! Answers that have not been written yet.
//!
//! Short values are copied between the answers, so that a pipeline goes out in one piece. Long ones are lent by the cache and written
//! from where they are: a client that reads slowly holds a reference, and no copy.

use std::io::IoSlice;
use std::sync::Arc;

use resp::{Answers, Version};

/// Values up to this are copied: that costs less than a piece of its own.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// Answers that are not written yet, beyond which nothing further is answered.
pub(crate) const UNSENT_BYTES_MAX: usize = 256 * 1024;

/// Pieces of one write at most. The system takes 1024; more than a few values of this size fill any socket's buffer.
const PIECES_MAX: usize = 16;

/// Memory that is kept for the next answers at most.
const KEPT_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) answers: Answers,
    lent: Vec<Lent>,
    lent_bytes: usize,
    sent: usize,
}

/// A value, and where among the answers it stands.
#[derive(Debug)]
struct Lent {
    at: usize,
    value: Arc<[u8]>,
}

impl Outbox {
    /// Writes in memory that was used before.
    pub(crate) fn reuse(memory: Vec<u8>, version: Version) -> Self {
        Self { answers: Answers::reuse(memory, version), ..Self::default() }
    }

    /// Bytes that are not written yet.
    pub(crate) fn len(&self) -> usize {
        self.answers.bytes().len() + self.lent_bytes - self.sent
    }

    /// Whether more has to wait until something is written.
    pub(crate) fn is_full(&self) -> bool {
        self.len() > UNSENT_BYTES_MAX
    }

    /// A value, or none.
    pub(crate) fn value(&mut self, value: Option<Arc<[u8]>>) {
        match value {
            None => self.answers.null(),
            Some(value) if value.len() <= COPIED_BYTES_MAX => self.answers.bulk(&value),
            Some(value) => {
                self.answers.bulk_head(value.len());
                self.lent_bytes += value.len();
                self.lent.push(Lent { at: self.answers.bytes().len(), value });
                self.answers.bulk_end();
            }
        }
    }

    /// Has the next pieces written.
    pub(crate) fn write<R>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
        let (mut count, mut skip) = (0, self.sent);
        for piece in self.pieces() {
            let rest = piece.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(piece.len());
            if count == PIECES_MAX {
                break;
            }
            if !rest.is_empty() {
                pieces[count] = IoSlice::new(rest);
                count += 1;
            }
        }
        write(&pieces[..count])
    }

    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let bytes = self.answers.bytes();
        let starts = std::iter::once(0).chain(self.lent.iter().map(|lent| lent.at));
        let last = self.lent.last().map_or(0, |lent| lent.at);
        let before = self.lent.iter().zip(starts);
        before.flat_map(|(lent, from)| [&bytes[from..lent.at], &*lent.value]).chain([&bytes[last..]])
    }

    /// So many bytes have been written.
    pub(crate) fn advance(&mut self, count: usize) {
        self.sent += count;
        if self.len() == 0 {
            let version = self.answers.version();
            let memory = std::mem::take(&mut self.answers).into_bytes();
            *self = Self::reuse(if memory.capacity() > KEPT_BYTES_MAX { Vec::new() } else { memory }, version);
        }
    }

    /// Gives its memory away while there is nothing to write.
    pub(crate) fn take_memory(&mut self) -> Vec<u8> {
        debug_assert_eq!(self.len(), 0);
        let version = self.answers.version();
        let memory = std::mem::replace(&mut self.answers, Answers::reuse(Vec::new(), version)).into_bytes();
        self.lent = Vec::new();
        memory
    }

    /// Takes memory to write in.
    pub(crate) fn give_memory(&mut self, memory: Vec<u8>) {
        debug_assert_eq!(self.len(), 0);
        self.answers = Answers::reuse(memory, self.answers.version());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_taken_at_once_the_whole_comes_out() {
        let long: Arc<[u8]> = (0..COPIED_BYTES_MAX + 1).map(|at| at as u8).collect();
        for step in [1, 7, 4096, 1 << 20] {
            let (mut outbox, mut expected) = (Outbox::default(), Vec::new());
            let head = format!("${}\r\n", long.len()).into_bytes();
            for _ in 0..20 {
                outbox.value(Some(Arc::clone(&long)));
                outbox.value(None);
                outbox.value(Some(Arc::from(&b"short"[..])));
                expected.extend([&head, &*long, b"\r\n$-1\r\n$5\r\nshort\r\n"].concat());
            }
            assert_eq!(outbox.len(), expected.len());
            let mut seen = Vec::new();
            while outbox.len() > 0 {
                let taken = outbox.write(|pieces| {
                    let all = pieces.iter().flat_map(|piece| piece.iter().copied());
                    let before = seen.len();
                    seen.extend(all.take(step));
                    seen.len() - before
                });
                assert!(taken > 0);
                outbox.advance(taken);
            }
            assert!(seen == expected, "in steps of {step}");
            assert!(outbox.take_memory().capacity() <= KEPT_BYTES_MAX);
        }
    }
}
